"""From a corpus to a model: what is cached, what is refused, and what training must not see."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tinylm.config import RunConfig, load_config
from tinylm.data.token_files import TokenFile
from tinylm.data.vectors import VectorTable
from tinylm.errors import ConfigError, DataError
from tinylm.experiments import preparation
from tinylm.experiments.context import SilentConsole, create_run, run_experiment
from tinylm.experiments.preparation import (
    PreparedData,
    check_same_tokenizer,
    encoded_split,
    prepare_data,
    resolve,
    start_model,
    vectors_of,
)
from tinylm.tokenizers.base import UNK_ID

TRAIN = [
    "Once there was a cat. The cat saw Lily and ran.",
    "A dog sat on the mat. Lily was happy with the dog.",
    "The cat and the dog ran to Lily. It was a red mat.",
] * 12
VALIDATION = ["The cat sat. Then the dog saw Lily."] * 4
# Words, a name and a spelling that only validation has, often enough to enter any vocabulary.
SIGNAL = ["Zog met the wug. Zog and the wug ran to Mat and Cat. A zyx! A zyx! Zog!"] * 50


class CountingConsole(SilentConsole):
    """Remembers what was worked on."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks: list[str] = []

    def task(self, description: str, total: float | None = None) -> Any:
        self.tasks.append(description)
        return super().task(description, total)


def corpus(folder: Path, validation: list[str]) -> Path:
    folder.mkdir(parents=True)
    for name, texts in (("train.txt", TRAIN), ("valid.txt", validation)):
        (folder / name).write_text("".join(f"{t}\n<|endoftext|>\n" for t in texts), "utf-8")
    return folder


def configuration(tmp_path: Path, data: Path, *overrides: str) -> RunConfig:
    return load_config(
        overrides=[
            "data.corpus=files",
            f"data.path={data}",
            f"data.cache_folder={tmp_path / 'cache'}",
            "model.hidden_size=12",
            "model.num_heads=2",
            "model.num_layers=1",
            "model.context_length=16",
            "training.threads=1",
            "training.tensorboard=false",
            "training.batch_size=4",
            "training.max_steps=6",
            "training.validation_interval=3",
            "vectors.epochs=1",
            *overrides,
        ]
    )


# --- the train split alone trains anything ---


def test_nothing_is_learned_from_validation(tmp_path: Path) -> None:
    """Vocabulary, capitals, vectors, start and trained weights are the same bits whatever the
    validation text is, though the two are corpora of different fingerprints."""
    ends = []
    for name, validation in (("plain", VALIDATION), ("signal", VALIDATION + SIGNAL)):
        data_folder = corpus(tmp_path / name, validation)
        config = configuration(tmp_path, data_folder, "vectors.source=train")
        console = SilentConsole()
        data = prepare_data(config, console)
        resolved = resolve(config, data)
        table = vectors_of(resolved, data, console)
        assert table is not None
        start = start_model(resolved, data, console).state_dict()
        context = create_run(tmp_path / "runs" / name, resolved, console)
        result = run_experiment("training", context)
        weights = (context.folder / "checkpoints/last/model.safetensors").read_bytes()
        ends.append((data, table, start, weights, result))
    (data, table, start, weights, result), (other, other_table, other_start, *rest) = ends
    assert data.corpus.fingerprint() != other.corpus.fingerprint()
    assert data.folder != other.folder
    assert data.tokenizer.fingerprint() == other.tokenizer.fingerprint()
    assert data.tokenizer.decode(data.tokenizer.encode("lily saw a cat on the mat")) == (
        other.tokenizer.decode(other.tokenizer.encode("lily saw a cat on the mat"))
    )
    assert data.train.ids.tolist() == other.train.ids.tolist()
    assert table.matrix.tobytes() == other_table.matrix.tobytes()
    assert all(torch.equal(weight, other_start[name]) for name, weight in start.items())
    assert weights == rest[0]
    # The measuring did change, and what only validation says is unknown.
    assert result["best"]["loss"] != rest[1]["best"]["loss"]
    assert other.validation.header.unknown_rate > 0.2
    for word in ("zog", "wug", "zyx"):
        assert data.tokenizer.encode(word) == other.tokenizer.encode(word) == [UNK_ID]


def test_training_text_does_change_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: the same words in the train split change the vocabulary."""
    plain = prepare_data(
        configuration(tmp_path, corpus(tmp_path / "a", VALIDATION)), SilentConsole()
    )
    monkeypatch.setattr("tests.experiments.test_preparation.TRAIN", TRAIN + SIGNAL)
    other = prepare_data(
        configuration(tmp_path, corpus(tmp_path / "b", VALIDATION)), SilentConsole()
    )
    assert plain.tokenizer.fingerprint() != other.tokenizer.fingerprint()
    assert other.tokenizer.encode("zog") != [UNK_ID]


# --- the cache ---


def test_prepared_data_is_used_again(tmp_path: Path) -> None:
    config = configuration(tmp_path, corpus(tmp_path / "text", VALIDATION))
    first, again = CountingConsole(), CountingConsole()
    data = prepare_data(config, first)
    table = vectors_of(config, data, first)
    assert first.tasks == [
        "Building the vocabulary",
        "Encoding the train split",
        "Encoding the validation split",
        "Training fastText vectors",
    ]
    stamps = {path: path.stat().st_mtime_ns for path in data.folder.iterdir()}
    assert len(stamps) == 4
    kept = prepare_data(config, again)
    kept_table = vectors_of(config, kept, again)
    assert again.tasks == []
    assert {path: path.stat().st_mtime_ns for path in data.folder.iterdir()} == stamps
    assert kept.tokenizer.fingerprint() == data.tokenizer.fingerprint()
    assert table is not None
    assert kept_table is not None
    assert table.matrix.tobytes() == kept_table.matrix.tobytes()


def test_vectors_follow_the_seed_of_training_unless_they_have_one(tmp_path: Path) -> None:
    text = corpus(tmp_path / "text", VALIDATION)

    def vectors(*overrides: str) -> bytes:
        config = configuration(tmp_path, text, *overrides)
        table = vectors_of(config, prepare_data(config, SilentConsole()), SilentConsole())
        assert table is not None
        return table.matrix.tobytes()

    own = vectors("training.seed=3")
    assert vectors("training.seed=4") != own
    assert vectors("training.seed=4", "vectors.seed=3") == own


@pytest.mark.parametrize(
    ("override", "made"),
    [
        ("tokenizer.min_frequency=20", ["Building the vocabulary", "Encoding the", "Encoding the"]),
        ("data.train_stories=9", ["Building the vocabulary", "Encoding the", "Encoding the"]),
        ("model.context_length=8", []),
        ("training.batch_size=3", []),
        ("generation.top_k=3", []),
    ],
)
def test_only_what_depends_on_a_setting_is_made_again(
    tmp_path: Path, override: str, made: list[str]
) -> None:
    text = corpus(tmp_path / "text", VALIDATION)
    prepare_data(configuration(tmp_path, text), SilentConsole())
    console = CountingConsole()
    prepare_data(configuration(tmp_path, text, override), console)
    assert len(console.tasks) == len(made)
    assert all(task.startswith(start) for task, start in zip(console.tasks, made, strict=True))


def test_changed_text_is_prepared_anew(tmp_path: Path) -> None:
    text = corpus(tmp_path / "text", VALIDATION)
    first = prepare_data(configuration(tmp_path, text), SilentConsole())
    with (text / "train.txt").open("a", encoding="utf-8") as file:
        file.write("A fresh cow came. The fresh cow ran.\n<|endoftext|>\n")
    second = prepare_data(configuration(tmp_path, text), SilentConsole())
    assert second.train.header.num_stories == first.train.header.num_stories + 1
    assert second.folder != first.folder


def test_another_split_in_the_ids_of_a_given_tokenizer(tmp_path: Path) -> None:
    config = configuration(tmp_path, corpus(tmp_path / "text", VALIDATION))
    data = prepare_data(config, SilentConsole())
    file = encoded_split(config.data, data.tokenizer, "validation", SilentConsole())
    assert file.path == data.validation.path
    assert file.header.split == "validation"


@pytest.mark.parametrize(
    "kind", ["tokenizer-*.json", "train-*.tokens", "validation-*.tokens", "vectors-*.safetensors"]
)
def test_a_damaged_file_of_the_cache_is_told_and_made_again(tmp_path: Path, kind: str) -> None:
    config = configuration(tmp_path, corpus(tmp_path / "text", VALIDATION))
    data = prepare_data(config, SilentConsole())
    table = vectors_of(config, data, SilentConsole())
    (path,) = data.folder.glob(kind)
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[-20] ^= 1
    for wrong in (b"", content[:-7], content[: len(content) // 3], bytes(flipped)):
        path.write_bytes(wrong)
        console = CountingConsole()
        again = prepare_data(config, console)
        table_again = vectors_of(config, again, console)
        if path.suffix == ".safetensors":  # whose writer leaves the order of metadata to chance
            assert table is not None
            assert table_again is not None
            assert table_again.matrix.tobytes() == table.matrix.tobytes()
        else:
            assert path.read_bytes() == content
        assert len(console.tasks) == len(console.warnings) == 1
        assert console.warnings[0].startswith(str(path))
        assert console.warnings[0].endswith("; it is made again now")
        assert "\n" not in console.warnings[0]


def test_a_stale_token_file_in_the_place_of_the_right_one_is_made_again(tmp_path: Path) -> None:
    config = configuration(tmp_path, corpus(tmp_path / "text", VALIDATION))
    data = prepare_data(config, SilentConsole())
    other = configuration(tmp_path, data_path(config), "tokenizer.min_frequency=20")
    stale = prepare_data(other, SilentConsole())
    assert stale.tokenizer.fingerprint() != data.tokenizer.fingerprint()
    right = data.train.path.read_bytes()
    data.train.path.write_bytes(stale.train.path.read_bytes())
    console = SilentConsole()
    prepare_data(config, console)
    assert "is stale: it was made with tokenizer" in console.warnings[0]
    assert data.train.path.read_bytes() == right


def data_path(config: RunConfig) -> Path:
    assert config.data.path is not None
    return Path(config.data.path)


# --- resolving and starting ---


def prepared(tmp_path: Path, *overrides: str) -> tuple[RunConfig, PreparedData]:
    config = configuration(tmp_path, corpus(tmp_path / "text", VALIDATION), *overrides)
    data = prepare_data(config, SilentConsole())
    return config, data


def test_resolving_fills_in_what_was_left_empty(tmp_path: Path) -> None:
    config, data = prepared(tmp_path, "model.num_heads=5")
    resolved = resolve(config, data)
    assert resolved.model.vocab_size == data.tokenizer.vocab_size
    assert resolved.model.head_dim == math.ceil(12 / 5)
    assert resolved.model.ffn_size == 48
    assert resolve(resolved, data) == resolved
    wrong = configuration(tmp_path, data_path(config), "model.vocab_size=7")
    with pytest.raises(
        ConfigError, match=r"model\.vocab_size = 7, but the tokenizer has \d+ types"
    ):
        resolve(wrong, data)


def table_for(data: PreparedData, size: int) -> VectorTable:
    count = data.tokenizer.vocab_size - 4
    matrix = np.random.default_rng(0).normal(size=(count, size)).astype(np.float32)
    has_vector = np.ones(count, dtype=bool)
    has_vector[1] = False
    matrix[1] = 0
    return VectorTable(matrix, has_vector, np.zeros(count, dtype=bool))


@pytest.mark.parametrize("scaled", [True, False])
def test_the_embedding_starts_from_the_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scaled: bool
) -> None:
    settings = ("model.hidden_size=64", f"model.scale_embeddings={str(scaled).lower()}")
    config, data = prepared(tmp_path, *settings)
    table = table_for(data, 64)
    monkeypatch.setattr(preparation, "vectors_of", lambda *_: table)
    weight = start_model(resolve(config, data), data, SilentConsole()).embedding.weight.detach()
    for row in (0, 2, 5):
        cosine = torch.nn.functional.cosine_similarity(
            weight[4 + row], torch.from_numpy(table.matrix[row]), dim=0
        )
        assert cosine > 0.9, row
    # As large as positions want them: unit variance once scaled, or GPT-2's 0.02 without scaling.
    expected = 64**-0.5 if scaled else 0.02
    assert weight.std().item() == pytest.approx(expected, rel=0.25)


def test_a_start_depends_on_the_seed_alone(tmp_path: Path) -> None:
    config, data = prepared(tmp_path, "vectors.source=none")
    starts = []
    for seed, noise in ((1, 5), (1, 6), (2, 5)):
        torch.manual_seed(noise)
        chosen = configuration(
            tmp_path, data_path(config), "vectors.source=none", f"training.seed={seed}"
        )
        starts.append(start_model(resolve(chosen, data), data, SilentConsole()).embedding.weight)
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


def test_contradicting_or_missing_vector_settings(tmp_path: Path) -> None:
    config, data = prepared(tmp_path)
    text = data_path(config)
    both = ("vectors.trainable=false", "model.tie_embeddings=true", "vectors.source=none")
    with pytest.raises(ConfigError, match=r"vectors\.trainable = false and model\.tie_embeddings"):
        start_model(resolve(configuration(tmp_path, text, *both), data), data, SilentConsole())
    with pytest.raises(ConfigError, match=r"vectors\.source = file needs vectors\.path"):
        vectors_of(configuration(tmp_path, text, "vectors.source=file"), data, SilentConsole())
    config = configuration(tmp_path, text, "vectors.source=none")
    assert vectors_of(config, data, SilentConsole()) is None


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    config, data = prepared(tmp_path)
    other = prepare_data(
        configuration(tmp_path, data_path(config), "tokenizer.min_frequency=20"), SilentConsole()
    )
    check_same_tokenizer(data.tokenizer, data, Path("step-1"))
    with pytest.raises(DataError, match=r"^step-1 was trained with tokenizer \w+, the data now"):
        check_same_tokenizer(other.tokenizer, data, Path("step-1"))
    with pytest.raises(DataError, match="is stale"):
        TokenFile(data.train.path, other.tokenizer)
