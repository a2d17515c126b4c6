"""Checkpoints: bit-equal round trips, every kind of damage, links, retention."""

import json
import os
import pickletools
import random
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.tiny import step_names, tiny_model, tiny_tokenizer
from tinylm import checkpoint
from tinylm.checkpoint import (
    TrainingState,
    clear_unfinished,
    damage,
    find_checkpoint,
    load_checkpoint,
    load_training_state,
    newest,
    newest_undamaged,
    point,
    prune,
    set_aside_after,
    tokenizer_kind,
    writing,
)
from tinylm.checkpoint.writing import save_checkpoint
from tinylm.compression.quantizing import quantize
from tinylm.compression.rounding import Rounding
from tinylm.config.quantization import RoundingConfig
from tinylm.errors import CheckpointError
from tinylm.locks import LostFolderError, locked
from tinylm.model.decoder import DecoderLM
from tinylm.model.weights import load_weights, model_weights

FILES = (
    "config.json",
    "manifest.json",
    "model.safetensors",
    "tokenizer.json",
    "training.json",
    "training.safetensors",
)


def state(step: int) -> TrainingState:
    generator = torch.Generator().manual_seed(step)
    tensors = {
        "optimizer/embedding.weight/exp_avg": torch.randn(5, 3, generator=generator),
        "optimizer/embedding.weight/step": torch.tensor(float(step)),
        "double": torch.randn(4, generator=generator, dtype=torch.float64),
        "rng/cpu": torch.get_rng_state(),
    }
    numbers = {"tokens": 12, "order": {"epoch": 1}, "best_loss": 0.1 + 0.2, "nothing": None}
    return TrainingState(step, numbers, tensors)


def save(folder: Path, step: int, model: DecoderLM | None = None) -> Path:
    return save_checkpoint(folder, model or tiny_model(step), tiny_tokenizer(), state(step))


def bits(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"tie_embeddings": True},
        {"norm_placement": "pre", "positions": "learned", "bias": False},
        {"positions": "rotary", "activation": "gelu", "head_dim": 6},
    ],
)
def test_round_trip_bit_for_bit(tmp_path: Path, settings: dict[str, Any]) -> None:
    model = tiny_model(3, **settings).eval()
    with torch.no_grad():  # values that a lossy format would change
        model.embedding.weight[0, :4] = torch.tensor([1e-42, -0.0, 1e-38, 1 + 2**-23])
    path = save(tmp_path, 7, model)
    assert path == tmp_path / "step-7"
    assert tuple(sorted(file.name for file in path.iterdir())) == FILES
    assert damage(path) is None

    kept = load_checkpoint(path)
    assert kept.config == model.config
    assert kept.tokenizer.fingerprint() == tiny_tokenizer().fingerprint()
    assert kept.weights.keys() == model_weights(model).keys()
    assert all(bits(kept.weights[n]) == bits(w) for n, w in model_weights(model).items())
    built = kept.build_model()
    assert not built.training
    for name, weight in model.state_dict().items():
        assert bits(built.state_dict()[name]) == bits(weight), name
    ids = torch.arange(4, 12)[None]
    assert torch.equal(built(ids), model(ids))

    expected, loaded = state(7), load_training_state(path)
    assert (loaded.step, loaded.numbers) == (7, expected.numbers)
    for name, tensor in expected.tensors.items():
        assert loaded.tensors[name].dtype == tensor.dtype
        assert loaded.tensors[name].shape == tensor.shape
        if not name.startswith("rng"):
            assert bits(loaded.tensors[name]) == bits(tensor)


def test_tied_weights_are_kept_once_and_stay_tied(tmp_path: Path) -> None:
    model = tiny_model(tie_embeddings=True)
    kept = load_checkpoint(save(tmp_path, 1, model))
    assert "unembedding.weight" not in kept.weights
    built = kept.build_model()
    assert built.unembedding.weight is built.embedding.weight
    untied = tiny_model(tie_embeddings=False)
    assert "unembedding.weight" in load_checkpoint(save(tmp_path, 2, untied)).weights


def test_weights_that_lie_scattered_in_memory(tmp_path: Path) -> None:
    model = tiny_model()
    weight = model.unembedding.weight
    weight.data = weight.data.t().contiguous().t()
    assert not weight.is_contiguous()
    assert torch.equal(
        load_checkpoint(save(tmp_path, 1, model)).weights["unembedding.weight"], weight
    )


def test_nothing_is_a_pickle(tmp_path: Path) -> None:
    for file in save(tmp_path, 1).iterdir():
        assert not zipfile.is_zipfile(file)
        content = file.read_bytes()
        if file.suffix == ".json":
            json.loads(content)
        else:
            header = int.from_bytes(content[:8], "little")
            json.loads(content[8 : 8 + header])
        with pytest.raises(Exception):  # noqa: B017
            list(pickletools.genops(content))


# --- damage ---


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_in_any_file_is_seen(tmp_path: Path, name: str) -> None:
    path = save(tmp_path, 1)
    file = path / name
    content = file.read_bytes()
    chance = random.Random(name)
    positions = {0, len(content) // 2, len(content) - 1}
    positions |= {chance.randrange(len(content)) for _ in range(40)}
    for place in positions:
        changed = bytearray(content)
        changed[place] ^= 1 << chance.randrange(8)
        file.write_bytes(changed)
        problem = damage(path)
        assert problem is not None, (place, bytes(changed[place - 20 : place + 20]))
        assert "\n" not in problem
        with pytest.raises(CheckpointError, match="is damaged"):
            load_checkpoint(path)
    file.write_bytes(content)
    assert damage(path) is None


@pytest.mark.parametrize("name", FILES)
def test_a_missing_cut_or_longer_file_is_named(tmp_path: Path, name: str) -> None:
    path = save(tmp_path, 1)
    file = path / name
    content = file.read_bytes()
    for wrong in (content[:-1], content[: len(content) // 2], b""):
        file.write_bytes(wrong)
        assert name in str(damage(path))
    if name != "manifest.json":
        file.write_bytes(content + b"\n")
        assert damage(path) == f"{name} has changed since it was written"
    file.unlink()
    assert damage(path) == f"{name} is missing"
    with pytest.raises(CheckpointError, match=rf"is damaged: {name} is missing; train it again"):
        load_checkpoint(path / "")


@pytest.mark.parametrize(
    "manifest",
    ["{}", "[]", "null", '{"format": "tinylm checkpoint 1", "sha256": {}}', '{"sha256": []}', "x"],
)
def test_a_manifest_that_vouches_for_nothing(tmp_path: Path, manifest: str) -> None:
    path = save(tmp_path, 1)
    (path / "manifest.json").write_text(manifest)
    assert "manifest.json" in str(damage(path))


def test_a_long_format_is_told_in_short(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    (path / "manifest.json").write_text(json.dumps({"format": "x" * 10_000, "sha256": {}}))
    problem = str(damage(path))
    assert problem.startswith("manifest.json has format 'xxx")
    assert len(problem) < 200


def test_the_newest_whole_one_is_found_and_the_others_are_told(tmp_path: Path) -> None:
    for step in (8, 9, 10):
        save(tmp_path, step)
    assert newest(tmp_path) == tmp_path / "step-10"  # by number, not by name
    (tmp_path / "step-10/config.json").unlink()
    content = (tmp_path / "step-9/model.safetensors").read_bytes()
    (tmp_path / "step-9/model.safetensors").write_bytes(content[:-4])
    checkpoint, warnings = newest_undamaged(tmp_path)
    assert checkpoint == tmp_path / "step-8"
    assert warnings == [
        f"checkpoint {tmp_path / 'step-10'} is damaged (config.json is missing) and is not used",
        f"checkpoint {tmp_path / 'step-9'} is damaged "
        "(model.safetensors has changed since it was written) and is not used",
    ]
    set_aside_after(tmp_path, 8)
    assert step_names(tmp_path) == ["step-8", "step-9.damaged", "step-10.damaged"]
    assert newest_undamaged(tmp_path) == (tmp_path / "step-8", [])
    for step in (9, 10):  # and again, where one of that name lies already
        save(tmp_path, step)
    set_aside_after(tmp_path, 8)
    assert step_names(tmp_path) == ["step-8", "step-9.damaged", "step-10.damaged"]


def test_half_written_folders_are_ignored_and_cleaned(tmp_path: Path) -> None:
    save(tmp_path, 3)
    for name in (".step-4.tmp", ".step-99.tmp"):
        shutil.copytree(tmp_path / "step-3", tmp_path / name)
        (tmp_path / name / "manifest.json").unlink()
    (tmp_path / ".last.tmp").symlink_to("nowhere")
    (tmp_path / "step-x").mkdir()
    assert newest_undamaged(tmp_path) == (tmp_path / "step-3", [])
    save(tmp_path, 4)
    shutil.rmtree(tmp_path / "step-x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last", "step-3", "step-4"]


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    assert newest_undamaged(tmp_path / "nowhere") == (None, [])
    set_aside_after(tmp_path / "nowhere", 0)
    with pytest.raises(CheckpointError, match=r"nowhere does not exist: give a run folder or a"):
        load_checkpoint(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"holds no checkpoint; `tinylm train` makes a run"):
        load_checkpoint(tmp_path)


# --- saving, links, retention ---


def test_saving_the_same_step_again_replaces_it(tmp_path: Path) -> None:
    save(tmp_path, 5, tiny_model(1))
    save(tmp_path, 5, tiny_model(2))
    weight = load_checkpoint(tmp_path / "step-5").weights["embedding.weight"]
    assert torch.equal(weight, tiny_model(2).embedding.weight)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last", "step-5"]


def test_a_checkpoint_that_was_about_to_be_replaced_is_put_back(tmp_path: Path) -> None:
    save(tmp_path, 5, tiny_model(1))
    (tmp_path / "step-5").rename(tmp_path / ".before-step-5.tmp")  # and killed before the next name
    clear_unfinished(tmp_path)
    weight = load_checkpoint(tmp_path / "last").weights["embedding.weight"]
    assert torch.equal(weight, tiny_model(1).embedding.weight)
    shutil.copytree(tmp_path / "step-5", tmp_path / ".before-step-5.tmp")  # killed after it
    clear_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last", "step-5"]


def test_what_is_deleted_is_never_half_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2):
        save(tmp_path, step)
    seen = []
    plain = os.unlink

    def unlink(*args: Any, **kwargs: Any) -> None:
        seen.append(sorted(path.name for path in tmp_path.glob("step-*")))
        plain(*args, **kwargs)

    monkeypatch.setattr(os, "unlink", unlink)
    prune(tmp_path, 1)
    assert seen == [["step-2"]] * len(FILES)


def test_nothing_is_saved_into_a_folder_that_was_exchanged(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(LostFolderError, match="stopped before step-2"), locked(run, print):
        save(run / "checkpoints", 1)
        run.rename(tmp_path / "elsewhere")
        run.mkdir()
        save(run / "checkpoints", 2)
    assert list(run.iterdir()) == []


def test_a_step_appears_only_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    plain = writing._write

    def write(path: Path, content: bytes) -> None:
        plain(path, content)
        seen.append(sorted(p.name for p in tmp_path.iterdir()))

    monkeypatch.setattr(writing, "_write", write)
    save(tmp_path, 1)
    assert seen == [[f".step-1.{os.getpid()}.tmp"]] * 5


def test_last_follows_and_links_are_relative(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for step in (1, 2):
        save(run / "checkpoints", step)
        assert (run / "checkpoints/last").readlink() == Path(f"step-{step}")
    run.rename(tmp_path / "moved")
    moved = tmp_path / "moved"
    assert find_checkpoint(moved) == moved / "checkpoints/last"
    point(moved / "checkpoints", "best", moved / "checkpoints/step-1")
    assert find_checkpoint(moved) == moved / "checkpoints/best"
    assert load_training_state(load_checkpoint(moved).path).step == 1
    assert find_checkpoint(moved / "checkpoints/step-2") == moved / "checkpoints/step-2"
    shutil.copytree(moved / "checkpoints/step-2", tmp_path / "alone")
    assert load_checkpoint(tmp_path / "alone").build_model()(torch.tensor([[1]])).isfinite().all()


@pytest.mark.parametrize(
    ("keep", "best", "expected"),
    [
        (1, None, ["step-12"]),
        (2, "step-3", ["step-3", "step-11", "step-12"]),
        (2, "step-12", ["step-11", "step-12"]),
        (9, None, ["step-3", "step-9", "step-11", "step-12"]),
    ],
)
def test_prune(tmp_path: Path, keep: int, best: str | None, expected: list[str]) -> None:
    for step in (3, 9, 11, 12):
        (tmp_path / f"step-{step}").mkdir()
    if best:
        point(tmp_path, "best", tmp_path / best)
    prune(tmp_path, keep)
    assert step_names(tmp_path) == expected


# --- what does not belong together ---


def test_weights_of_another_model_are_named(tmp_path: Path) -> None:
    model = tiny_model()
    weights = model_weights(model)
    source = Path("somewhere")
    short = {name: weight for name, weight in weights.items() if name != "embedding.weight"}
    with pytest.raises(CheckpointError, match=r"^somewhere: weight embedding\.weight is missing$"):
        load_weights(model, short, source)
    with pytest.raises(CheckpointError, match=r"weight aaa is not of this model"):
        load_weights(model, {**weights, "aaa": torch.zeros(1)}, source)
    wrong = {**weights, "unembedding.bias": torch.zeros(3)}
    size = model.config.resolved_vocab_size
    message = rf"unembedding\.bias has shape \(3,\), its configuration asks for \({size},\)"
    with pytest.raises(CheckpointError, match=message):
        load_weights(model, wrong, source)


@pytest.mark.parametrize("kind", [torch.float32, torch.int32, torch.int8])
def test_codes_in_another_number_format_are_refused(kind: torch.dtype) -> None:
    """What does not fit into a byte would come in as another code."""
    model = tiny_model()
    quantize(model, Rounding, RoundingConfig(bits=8), None)
    weights = model_weights(model)
    name = "unembedding.quantized.codes"
    wrong = {**weights, name: weights[name].to(kind)}
    shown = str(kind).removeprefix("torch.")
    message = rf"weight {name} is in {shown}, its configuration asks for uint8$"
    with pytest.raises(CheckpointError, match=message):
        load_weights(model, wrong, Path("somewhere"))
    load_weights(model, weights, Path("somewhere"))


def rewritten(path: Path, **changes: Any) -> None:
    """Change a checkpoint's config.json and its manifest with it."""
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, **changes}))
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["sha256"]["config.json"] = checkpoint.sha256(path / "config.json")
    (path / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "tinylm checkpoint 9"}, "has format 'tinylm checkpoint 9', not"),
        ({"tokenizer": "wrd"}, "unknown tokenizer 'wrd'; did you mean word"),
        ({"model": {"num_layer": 1}}, "unknown key num_layer; did you mean num_layers"),
    ],
)
def test_a_configuration_that_cannot_be_used(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = save(tmp_path, 1)
    rewritten(path, **changes)
    assert damage(path) is None
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


def test_only_registered_tokenizers_are_saved() -> None:
    assert tokenizer_kind(tiny_tokenizer()) == "word"
    with pytest.raises(CheckpointError, match="object is not in the tokenizer registry"):
        tokenizer_kind(object())  # type: ignore[arg-type]
