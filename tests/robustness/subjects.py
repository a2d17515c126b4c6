"""Every kind of file that the program reads: how one is made, damaged, signed again and used."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors
import safetensors.numpy
import safetensors.torch
import torch

from tests.alignment.self_instruct.writers import Scripted
from tests.conftest import tiny_settings
from tests.report import fixtures
from tests.robustness import mutations
from tests.robustness.mutations import BYTES, Mutation
from tinylm import locks
from tinylm.alignment.reward_model import RewardModel, rewards_of
from tinylm.alignment.self_instruct.records import Instance, as_lines, read_tasks
from tinylm.config import DataConfig, RunConfig, load_config, to_dict
from tinylm.config.finetuning import ClassificationConfig
from tinylm.config.self_instruct import SelfInstructConfig
from tinylm.data import vectors
from tinylm.data.corpora.files import FilesCorpus
from tinylm.data.images import read_digits
from tinylm.data.labelled import read_labelled
from tinylm.data.pairs import read_pairs
from tinylm.data.preferences import read_preferences
from tinylm.data.token_files import TokenFile, write_token_file
from tinylm.data.token_headers import index_bytes
from tinylm.data.vectors import load_table, read_vectors
from tinylm.data.windows import TokenWindows
from tinylm.experiments.adapting import Recipe, adapt, adapted
from tinylm.experiments.classifying import ClassifierRecipe, TextClassifier, classify
from tinylm.experiments.context import (
    SilentConsole,
    create_run,
    open_run,
    run_experiment,
)
from tinylm.experiments.document.build import assemble
from tinylm.experiments.document.inputs import load_inputs
from tinylm.experiments.document.record import changed_since, read_record, write_record
from tinylm.experiments.preparation import encoded_split, prepare_data, resolve, vectors_of
from tinylm.experiments.records import read_compression, read_distillation
from tinylm.experiments.reward_models import load_reward_model, read_about, save_reward_model
from tinylm.experiments.self_instructing import Asked, make_set
from tinylm.finetuning.adapters import activate, attach
from tinylm.finetuning.longlora import extended
from tinylm.interpretability import tuned_lens
from tinylm.interpretability.lens import lens
from tinylm.language_model import LanguageModel
from tinylm.reading import signed
from tinylm.registry import METHODS, TOKENIZERS
from tinylm.report import typst
from tinylm.tokenizers import hugging_face
from tinylm.tokenizers.base import SOS_ID
from tinylm.tokenizers.metaspace import Metaspace
from tinylm.tokenizers.unigram_file import METASPACE
from tinylm.training.commands import Commands
from tinylm.training.tracking import Tracker, read_metrics

SETTINGS = [
    *("data.train_stories=30", "data.validation_stories=8", "vectors.source=train"),
    *("vectors.epochs=1", "model.hidden_size=8", "training.max_steps=4"),
    *("training.validation_interval=2", "training.validation_windows=4", "training.log_interval=1"),
    *("training.checkpoint_interval=0", "training.speed=plain", "training.snapshots=2"),
]
METHOD_SETTINGS: dict[str, dict[str, Any]] = {
    "lora": {"rank": 2},
    "qlora": {"rank": 2},
    "prefix": {"length": 2, "inner_size": 0},
    "bottleneck": {"size": 2},
    "ia3": {},
}
COMMANDS = Commands("tinylm finetune", "tinylm finetune --learning-rate 1e-4")
TEXT = "Once upon a time there was a little dog."
STORIES = [f'Story {i}: the dog saw {i} cats. They said: "Hi!"\nThe end.' for i in range(12)]


def digest(*values: Any) -> str:
    """Return a digest of what came of using a file."""
    total = hashlib.sha256()
    for value in values:
        if isinstance(value, torch.Tensor):
            value = value.detach().numpy()
        total.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    return total.hexdigest()


# --- what is made once ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Base:
    """A tiny run with all that the others need; tests must not change it."""

    folder: Path
    config: RunConfig

    @property
    def cache(self) -> Path:
        """The folder of what is kept of the run's corpus."""
        return prepare_data(self.config, SilentConsole()).folder

    @property
    def run(self) -> Path:
        """The run's folder."""
        return self.folder / "run"

    def lm(self) -> LanguageModel:
        """Return its model."""
        return LanguageModel.load(self.run)


def make_base(folder: Path) -> Base:
    """Train the tiny run, its adapters and its classifier."""
    vectors.BUCKETS = 100  # 100,000 rows for n-grams are made for every training
    config = load_config(overrides=[*tiny_settings(folder / "cache"), *SETTINGS])
    data = prepare_data(config, SilentConsole())
    vectors_of(config, data, SilentConsole())
    resolved = resolve(config, data)
    run_experiment("training", create_run(folder / "run", resolved, SilentConsole()))
    base = Base(folder, resolved)
    for method in METHOD_SETTINGS:
        _make_adapter(base, method)
    labelled = folder / "labelled.jsonl"
    labelled.write_text("".join(json.dumps({"text": s, "label": i % 3}) + "\n"
                                for i, s in enumerate(STORIES)))  # fmt: skip
    rows = read_labelled(labelled, held_out=0.3)
    settings = ClassificationConfig(body="lora", rank=2)
    training = replace(resolved.training, max_steps=2, validation_interval=1)
    recipe = ClassifierRecipe(settings, training, str(labelled), rows.fingerprint(), 16)
    classify(base.lm(), rows, recipe, folder / "classifier", SilentConsole(), COMMANDS)
    return base


def _make_adapter(base: Base, method: str) -> None:
    training = replace(base.config.training, max_steps=2, validation_interval=1)
    data = replace(base.config.data, seed=5)
    settings = METHODS.load(method).Settings(**METHOD_SETTINGS[method])
    lm = base.lm()
    train, validation = (
        encoded_split(data, lm.tokenizer, name, SilentConsole()) for name in ("train", "validation")
    )
    recipe = Recipe(method, settings, training, data, 24)
    adapt(lm, train, validation, recipe, base.folder / method, SilentConsole(), COMMANDS)


# --- signing again -------------------------------------------------------------------------------


def sign_nothing(path: Path) -> None:
    """There is no checksum."""


def sign_json(path: Path) -> None:
    """Give a JSON object the checksum of what it holds now."""
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return
    if isinstance(value, dict):
        value.pop("checksum", None)
        path.write_text(json.dumps(signed(value)))


def sign_lines(path: Path) -> None:
    """Give every line of JSON lines the checksum of what it holds now."""
    lines = []
    for line in path.read_bytes().splitlines():
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            value.pop("checksum", None)
            line = json.dumps(signed(value)).encode()
        lines.append(line)
    path.write_bytes(b"\n".join(lines) + b"\n")


def sign_checkpoint(path: Path) -> None:
    """Let a checkpoint's manifest vouch for a file as it is now."""
    manifest = path.with_name("manifest.json")
    if path == manifest:
        return
    if path.name == "tokenizer.json":
        sign_json(path)
    values = json.loads(manifest.read_text())
    values["sha256"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(values))


def sign_adapter(path: Path) -> None:
    """Let an adapter's or a classifier's description vouch for its tensors and itself."""
    for name in ("tinylm.json", "classifier.json"):
        about = path.with_name(name)
        if about.exists():
            if path.suffix == ".safetensors":
                values = json.loads(about.read_text())
                values["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
                about.write_text(json.dumps(values))
            sign_json(about)
    if path.suffix == ".json":
        sign_json(path)


def sign_tokens(path: Path) -> None:
    """Let a token file's header vouch for its content and itself."""
    content = path.read_bytes()
    magic, header, rest = content[:16], content[16:4096], content[4096:]
    try:
        values = json.loads(header)
    except (ValueError, RecursionError):
        return
    if isinstance(values, dict):
        values.pop("checksum", None)
        if "sha256" in values:
            values["sha256"] = hashlib.sha256(rest).hexdigest()
        text = magic + json.dumps(signed(values)).encode()
        path.write_bytes(text.ljust(4096) + rest)


def sign_vectors(path: Path) -> None:
    """Let kept vectors' metadata vouch for what they hold now."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
        tensors = safetensors.numpy.load(path.read_bytes())
        content = vectors._metadata(tensors, [], "")["content"]
        path.write_bytes(safetensors.numpy.save(tensors, {**metadata, "content": content}))
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError):
        return


def sign_tuned_lens(path: Path) -> None:
    """Let a tuned lens's metadata vouch for what it holds now."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            said = str((file.metadata() or {}).get("tinylm"))
        tensors = safetensors.torch.load(path.read_bytes())
        about = f"{said.rpartition(' ')[0]} {tuned_lens._digest(tensors)}"
        path.write_bytes(safetensors.torch.save(tensors, {"tinylm": about}))
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError):
        return


def sign_cache(path: Path) -> None:
    """Sign whichever file of the cache it is."""
    {".json": sign_json, ".tokens": sign_tokens, ".safetensors": sign_vectors}[path.suffix](path)


# --- uses ----------------------------------------------------------------------------------------


def use_config(base: Base, folder: Path) -> str:
    config = load_config(folder / "config.yaml")
    open_run(folder, SilentConsole(), ["evaluation.num_stories=2"])
    return digest(to_dict(config))


def use_metrics(base: Base, folder: Path) -> str:
    records = read_metrics(folder)
    Tracker(folder, base.config.training, 3).close()
    kept = read_metrics(folder)
    assert kept == [record for record in records if record["step"] <= 3]
    whole = read_metrics(base.run)
    # A file that was cut is as one whose last lines were not written yet.
    return digest(whole if records == whole[: len(records)] else records)


def use_model(base: Base, folder: Path) -> str:
    lm = LanguageModel.load(folder)
    text = lm.generate(TEXT, seed=1, max_new_tokens=5)
    beams = lm.generate(TEXT, strategy="beam", max_new_tokens=3, num_beams=2)
    return digest(text.ids, beams.ids, lm.score(TEXT).log_probability)


def use_snapshot(base: Base, folder: Path) -> str:
    return use_model(base, folder / "snapshots/step-0")


def use_training(base: Base, folder: Path) -> str:
    """Go on training, or find it finished; what is damaged is set aside and trained again."""
    context = open_run(folder, SilentConsole())
    result = run_experiment("training", context, again=True)
    weights = LanguageModel.load(folder).model.state_dict()
    return digest(
        result["best"], result["steps"], [(n, w.sum().item()) for n, w in weights.items()]
    )


def use_results(base: Base, folder: Path) -> str:
    inputs = replace(load_inputs(folder), date=datetime(2025, 1, 1, tzinfo=UTC))  # not the file's
    return digest(typst.source(assemble(inputs), inputs.date))


def use_record(base: Base, folder: Path) -> str:
    record = read_record(folder, "write the report again")
    return digest(record) if record is None else digest(record, changed_since(folder, record))


def use_adapter(base: Base, folder: Path) -> str:
    lm = adapted(base.lm(), folder)
    ids = torch.tensor([lm.tokenizer.encode(TEXT)])
    return digest(lm.model(ids), lm.generate(TEXT, seed=1, max_new_tokens=3).ids)


def make_tuned_lens(base: Base, folder: Path) -> None:
    """Save the maps of a tuned lens for the run's model."""
    lm = base.lm()
    texts = [lm.tokenizer.encode(TEXT)]
    tuned_lens.train_tuned_lens(lm.model, texts, 1).save(folder / "tuned-lens.safetensors")


def use_tuned_lens(base: Base, folder: Path) -> str:
    lm = base.lm()
    tuned = tuned_lens.load_tuned_lens(folder / "tuned-lens.safetensors", lm.model)
    return digest(lens(lm.trace(TEXT), 1, tuned).divergences)


def make_compression(base: Base, folder: Path) -> None:
    """Write what a compressed run says of itself."""
    size = {"weights": 9, "nonzero": 5, "bytes": 40}
    written = {
        "command": "prune",
        "method": "heads",
        "settings": {"windows": 4, "importance": "loss"},
        "calibration": {"windows": 4, "seed": 0},
        "details": {"removed": [[1], [0]]},
        "source": {"run": "/runs/quick", "checkpoint": "step-4", "sha256": "0" * 64},
        "before": size,
        "after": size,
        "earlier": [],
    }
    (folder / "compression.json").write_text(json.dumps(signed(written)))


def use_compression(base: Base, folder: Path) -> str:
    return digest(read_compression(folder))


def make_distillation(base: Base, folder: Path) -> None:
    """Write what a student's run says of its teacher."""
    written = {
        "method": "both",
        "settings": {"alpha": 0.5, "texts": 30},
        "teacher": {"run": "/runs/quick", "checkpoint": "step-4", "sha256": "0" * 64},
        "teacher_loss": 1.25,
        "teacher_weights": 900,
        "student_weights": 90,
        "texts": {"fingerprint": "0" * 16, "beginnings": 30, "left_out": 2, "tokens": 999},
    }
    (folder / "distillation.json").write_text(json.dumps(signed(written)))


def use_distillation(base: Base, folder: Path) -> str:
    return digest(read_distillation(folder))


def use_classifier(base: Base, folder: Path) -> str:
    classifier = TextClassifier.load(base.lm(), folder)
    return digest(classifier.labels, classifier.probabilities([TEXT, "A cat."]))


def use_cache(base: Base, folder: Path) -> str:
    """Prepare data from the cache; what is damaged is made again."""
    config = replace(base.config, data=replace(base.config.data, cache_folder=str(folder)))
    data = prepare_data(config, SilentConsole())
    table = vectors_of(config, data, SilentConsole())
    assert table is not None
    batches = [
        (batch.ids, batch.labels)
        for tokens in (data.train, data.validation)
        for batch in TokenWindows(tokens, 8).in_order(64)
    ]
    return digest(table.matrix, *(part for batch in batches for part in batch))


def use_tokens(base: Base, folder: Path) -> str:
    path = folder / base_file(base, "validation-*.tokens").name
    tokenizer = TOKENIZERS.load("word").load(base_file(base, "tokenizer-*.json"))
    tokens = TokenFile(path, tokenizer)
    stories = [tokenizer.decode(story.tolist()) for story in tokens.stories()]
    embedding = torch.nn.Embedding(tokenizer.vocab_size, 2)
    with torch.no_grad():
        for batch in TokenWindows(tokens, 8).in_order(64):
            embedding(batch.ids)
    return digest(stories, tokens.header.unknown_rate)


def make_shards(base: Base, folder: Path) -> None:
    """Write the texts of a cache's validation split as an index and the files that it names."""
    tokenizer = TOKENIZERS.load("word").load(base_file(base, "tokenizer-*.json"))
    tokens = TokenFile(base_file(base, "validation-*.tokens"))
    texts = [tokenizer.decode(story.tolist()) for story in tokens.stories()]
    names, headers = [], []
    for number, part in enumerate((texts[:2], texts[2:])):
        names.append(f"validation.{number:05}.tokens")
        path = folder / names[-1]
        headers.append(write_token_file(path, part, tokenizer, "texts", "validation"))
    (folder / "validation.tokens").write_bytes(index_bytes(names, headers))


def use_shards(base: Base, folder: Path) -> str:
    tokenizer = TOKENIZERS.load("word").load(base_file(base, "tokenizer-*.json"))
    tokens = TokenFile(folder / "validation.tokens", tokenizer)
    stories = [tokenizer.decode(story.tolist()) for story in tokens.stories()]
    return digest(stories, tokens.header.num_text_bytes)


def use_tokenizer(base: Base, folder: Path) -> str:
    path = folder / base_file(base, "tokenizer-*.json").name
    tokenizer = TOKENIZERS.load("word").load(path)
    ids = tokenizer.encode(TEXT)
    return digest(ids, tokenizer.decode(ids), tokenizer.types_seen)


def make_bytes(base: Base, folder: Path) -> None:
    """Save a tokenizer of bytes with special tokens of its own."""
    kind = TOKENIZERS.load("bytes")
    kind.train([], kind.Settings(special_tokens=("<user>", "<b>"))).save(folder / "bytes.json")


def use_bytes(base: Base, folder: Path) -> str:
    tokenizer = TOKENIZERS.load("bytes").load(folder / "bytes.json")
    ids = tokenizer.encode(TEXT)
    return digest(ids, tokenizer.decode(ids), tokenizer.special_tokens)


def make_bpe(base: Base, folder: Path) -> None:
    """Save a tokenizer of a few merges, and the same as a file of Hugging Face tokenizers."""
    kind = TOKENIZERS.load("bpe")
    made = kind.train([TEXT, TEXT], kind.Settings(vocab_size=290, special_tokens=("<user>",)))
    made.save(folder / "bpe.json")


def use_bpe(base: Base, folder: Path) -> str:
    tokenizer = TOKENIZERS.load("bpe").load(folder / "bpe.json")
    ids = tokenizer.encode(TEXT)
    return digest(ids, tokenizer.decode(ids), tokenizer.special_tokens)


def make_hugging_face(base: Base, folder: Path) -> None:
    """Write what make_bpe saves as a file of Hugging Face tokenizers."""
    make_bpe(base, folder)
    content = TOKENIZERS.load("bpe").load(folder / "bpe.json").to_hugging_face()
    (folder / "bpe.json").write_text(json.dumps(content), "utf-8")


def use_hugging_face(base: Base, folder: Path) -> str:
    tokenizer = hugging_face.read(folder / "bpe.json")
    ids = tokenizer.encode(TEXT)
    return digest(tokenizer.decode(ids), tokenizer.vocab_size)


def make_pieces(
    name: str, *, foreign: bool = False, marked: bool = False
) -> Callable[[Base, Path], None]:
    """Return what saves a tokenizer of pieces, or its file of Hugging Face tokenizers.

    Args:
        name: of the kind.
        foreign: whether it is a file of that library.
        marked: whether it writes spaces as ▁.
    """

    def make(base: Base, folder: Path) -> None:
        kind = TOKENIZERS.load(name)
        tokenizer = kind.train([TEXT, TEXT], kind.Settings(special_tokens=("<user>",)))
        if marked:
            spaces = Metaspace(at_white_space=True)
            tokenizer = kind(replace(tokenizer._content, split=METASPACE, spaces=spaces))
        if foreign:
            content = json.dumps(tokenizer.to_hugging_face())
            (folder / "pieces.json").write_text(content, "utf-8")
        else:
            tokenizer.save(folder / "pieces.json")

    return make


def use_pieces(name: str) -> Callable[[Base, Path], str]:
    def use(base: Base, folder: Path) -> str:
        tokenizer = TOKENIZERS.load(name).load(folder / "pieces.json")
        ids = tokenizer.encode(TEXT)
        return digest(ids, tokenizer.decode(ids), tokenizer.special_tokens)

    return use


def use_foreign_pieces(base: Base, folder: Path) -> str:
    tokenizer = hugging_face.read(folder / "pieces.json")
    ids = tokenizer.encode(TEXT)
    return digest(tokenizer.decode(ids), tokenizer.vocab_size)


def use_kept_vectors(base: Base, folder: Path) -> str:
    own = base_file(base, "vectors-*.safetensors")
    with safetensors.safe_open(own, framework="numpy") as file:
        key = file.metadata()["key"]
    words = json.loads(base_file(base, "tokenizer-*.json").read_text())["vocabulary"][4:]
    table = load_table(folder / own.name, words, key)
    return digest(table.matrix, table.has_vector, table.subword, table.describe())


def base_file(base: Base, pattern: str) -> Path:
    """Return a file of the cache as it was; of two corpora, the run's own."""
    return base.cache / next(base.cache.glob(pattern)).name


def use_corpus(**settings: Any) -> Callable[[Base, Path], str]:
    def use(base: Base, folder: Path) -> str:
        corpus = FilesCorpus(DataConfig(corpus="files", path=str(folder), **settings))
        return digest(list(corpus.train()), list(corpus.validation()), corpus.describe())

    return use


def use_labelled(base: Base, folder: Path) -> str:
    data = read_labelled(folder)
    return digest(data.train, data.validation, data.labels, data.fingerprint())


def use_pairs(base: Base, folder: Path) -> str:
    pairs = read_pairs(folder / "pairs.jsonl", base.lm().tokenizer)
    return digest([pair for pair, _ in pairs], [encoded for _, encoded in pairs])


def use_tasks(base: Base, folder: Path) -> str:
    return digest([each.as_dict() for each in read_tasks(folder / "seeds.jsonl")])


def use_steps(base: Base, folder: Path) -> str:
    made = make_set(folder, Scripted(), ASKED, SilentConsole())
    return digest([each.as_dict() for each in made.tasks], dict(made.counts))


def make_rankings(base: Base, folder: Path) -> None:
    rows = [
        {"prompt": f"Story {i}", "responses": ["The dog.", "A cat ran.", "The end."],
         "ranking": [1, [0, 2]]} if i % 2 else
        {"prompt": f"Story {i}", "chosen": "The dog saw", "rejected": "cats.", "score": 2}
        for i in range(6)
    ]  # fmt: skip
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "train.jsonl").write_text(text, "utf-8")


def use_rankings(base: Base, folder: Path) -> str:
    data = read_preferences(folder, base.lm().tokenizer, 20, held_out=0.4)
    return digest(data.train, data.validation, data.source)


def make_reward_model(base: Base, folder: Path) -> None:
    model = RewardModel(base.lm().model)
    measured = {"pairs": 1, "accuracy": [1.0, None, None]}
    save_reward_model(model, base.lm().tokenizer, folder, 2, {}, {"steps": 2}, measured)


def use_reward_model(base: Base, folder: Path) -> str:
    lm = base.lm()
    model = load_reward_model(folder, lm.tokenizer)
    text = [SOS_ID, *lm.tokenizer.encode(TEXT)]
    return digest(read_about(folder), rewards_of(model, [text, text[:4]]))


def use_images(base: Base, folder: Path) -> str:
    data = read_digits(folder / "images", folder / "labels")
    return digest(data.images, data.labels)


def use_vectors(name: str) -> Callable[[Base, Path], str]:
    def use(base: Base, folder: Path) -> str:
        table = read_vectors(folder / name, ["the", "dog", "cat", "dogs"], 4)
        return digest(table.matrix, table.has_vector, table.subword)

    return use


def use_lock(base: Base, folder: Path) -> str:
    with locks.locked(folder, lambda line: None):
        pass
    return digest(locks._read_holder(folder / "holder"))


def use_overrides(base: Base, folder: Path) -> str:
    path = folder / "overrides"
    text = path.read_bytes().decode("utf-8", "replace") if path.exists() else ""
    return digest(to_dict(load_config(overrides=text.splitlines())))


# --- making them ---------------------------------------------------------------------------------


def copy_of(*names: str) -> Callable[[Base, Path], None]:
    """Return what copies folders of the base into one."""

    def make(base: Base, folder: Path) -> None:
        for name in names:
            for source in base.folder.glob(name):
                target = folder if len(names) == 1 else folder / source.name
                if source.is_dir():
                    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
                else:
                    shutil.copy(source, target)

    return make


def make_changed(base: Base, folder: Path) -> None:
    """Save a model that reads a longer context and has two adapters, which act together."""
    model = extended(base.lm().model, 32)
    for name, method in (("first", "longlora"), ("second", "prefix")):
        torch.manual_seed(0)
        settings = METHODS.load(method).Settings(**METHOD_SETTINGS.get(method, {"rank": 2}))
        model = attach(model, method, settings, name)
    activate(model, ["first", "second"])
    LanguageModel(model, base.lm().tokenizer).save(folder)


def copy_cache(base: Base, folder: Path) -> None:
    shutil.copytree(base.cache, folder, dirs_exist_ok=True)


def make_results(base: Base, folder: Path) -> None:
    fixtures.write_run(folder, fixtures.results())


def make_record(base: Base, folder: Path) -> None:
    (folder / "report.pdf").write_bytes(b"%PDF")
    (folder / "results").mkdir()
    for name in ("data", "training"):
        (folder / f"results/{name}.json").write_text("{}")
    write_record(folder, ["data", "training"], ["report.author=A"])


def make_texts(end: str) -> Callable[[Base, Path], None]:
    def make(base: Base, folder: Path) -> None:
        for name, stories in (("train.txt", STORIES[:9]), ("valid.txt", STORIES[9:])):
            (folder / name).write_text("".join(story + end for story in stories), "utf-8")

    return make


def make_jsonl(base: Base, folder: Path) -> None:
    rows = [json.dumps({"text": story, "id": i}) for i, story in enumerate(STORIES)]
    (folder / "train.jsonl").write_text("\n".join(rows) + "\n")


def make_parquet(base: Base, folder: Path) -> None:
    table = pa.table({"text": STORIES, "id": range(len(STORIES))})
    pq.write_table(table, folder / "train.parquet", row_group_size=5)


def make_labelled(suffix: str) -> Callable[[Base, Path], None]:
    def make(base: Base, folder: Path) -> None:
        if suffix == ".csv":
            rows = [f'"{story.replace(chr(34), chr(34) * 2)}",{i % 3}'
                    for i, story in enumerate(STORIES)]  # fmt: skip
            text = "\n".join(["text,label", *rows]) + "\n"
        else:
            text = "".join(
                json.dumps({"text": story, "label": i % 3}) + "\n"
                for i, story in enumerate(STORIES)
            )
        (folder / f"train{suffix}").write_text(text, "utf-8")

    return make


def make_pairs(base: Base, folder: Path) -> None:
    tokenizer = base.lm().tokenizer
    tokens = (tokenizer.token(i) for i in range(4, tokenizer.vocab_size))
    first, second, *_ = (word for word in tokens if word.isalpha() and word.isascii())
    row = {"clean": f"{first} {second}", "corrupted": f"{second} {second}", "answer": first,
           "wrong": second}  # fmt: skip
    rows = [row, {**row, "clean": f"{first} {first}"}]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


ASKED = Asked(
    (Instance("Tell me a story of the sea.", "", "A sea."), Instance("So?", "It is.", "yes", True)),
    *(3, SelfInstructConfig(written_at_once=3), 0),
)


def make_tasks(base: Base, folder: Path) -> None:
    (folder / "seeds.jsonl").write_text(as_lines(each.as_dict() for each in ASKED.seeds), "utf-8")


def make_steps(base: Base, folder: Path) -> None:
    make_set(folder, Scripted(), ASKED, SilentConsole())


def idx(values: np.ndarray[Any, Any]) -> bytes:
    sizes = struct.pack(f">{values.ndim}I", *values.shape)
    return b"\0\0\x08" + bytes([values.ndim]) + sizes + values.astype(np.uint8).tobytes()


def make_images(pack: bool) -> Callable[[Base, Path], None]:
    def make(base: Base, folder: Path) -> None:
        values = np.arange(6 * 4 * 4).reshape(6, 4, 4) % 251
        for name, content in (("images", idx(values)), ("labels", idx(np.arange(6)))):
            (folder / name).write_bytes(gzip.compress(content) if pack else content)

    return make


def make_vectors(kind: str, form: str = "") -> Callable[[Base, Path], None]:
    def make(base: Base, folder: Path) -> None:
        content = _bin() if kind == ".bin" else _vec()
        path = folder / f"small{kind}{form}"
        if form == ".gz":
            path.write_bytes(gzip.compress(content))
        elif form == ".zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(f"small{kind}", content)
        else:
            path.write_bytes(content)

    return make


def _vec() -> bytes:
    rows = ["the 1 2 3 4", "Dog 0.5 -0.25 1e-3 7", "cat -1 -2 -3 -4", "house 1 1 1 1"]
    return ("4 4\n" + "\n".join(rows) + "\n").encode()


def _bin() -> bytes:
    """A fastText model of three words and five buckets, by the format's description."""
    words, buckets, dimension = [b"the", b"dog", b"cat"], 5, 4
    arguments = struct.pack("<12id", dimension, 5, 5, 1, 5, 1, 2, 1, buckets, 3, 4, 100, 1e-4)
    content = struct.pack("<2i", 793712314, 12) + arguments
    content += struct.pack("<3i2q", len(words), len(words), 0, 30, -1)
    content += b"".join(word + b"\0" + struct.pack("<qb", 10, 0) for word in words)
    for rows in (len(words) + buckets, len(words)):
        numbers = np.arange(rows * dimension, dtype="<f4") / 7
        content += struct.pack("<?2q", False, rows, dimension) + numbers.tobytes()
    return content


def make_lock(base: Base, folder: Path) -> None:
    holder = {"pid": 7, "host": "here", "command": "tinylm train", "since": "2025-01-01T00:00:00"}
    for name in (".lock", "holder"):
        (folder / name).write_text(json.dumps(holder) + "\n")


def make_overrides(base: Base, folder: Path) -> None:
    lines = [
        "training.seed=3",
        "report.prompts=[one, two]",
        "model.dropout=0.1",
        "report.title=x: y",
    ]
    (folder / "overrides").write_text("\n".join(lines))


# --- all of them ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subject:
    """One kind of file."""

    name: str
    make: Callable[[Base, Path], None]
    files: str
    """Pattern of the files that are damaged."""
    mutations: Sequence[Mutation] | Mapping[str, Sequence[Mutation]]
    """Those of the files, or of files with a suffix."""
    use: Callable[[Base, Path], str]
    sign: Callable[[Path], None] = sign_nothing
    """Makes checksums right again."""
    guarded: bool = True
    """Whether a change that is not signed must never lead to another result."""
    weight: int = 1
    """How many of the mutations it gets, beside the others."""

    def damage(self, folder: Path, random: Random) -> tuple[str, bool]:
        """Damage one file; return what was done and whether it was signed again."""
        path = random.choice(sorted(folder.glob(self.files)))
        of_suffix = self.mutations
        if isinstance(of_suffix, Mapping):
            of_suffix = of_suffix[path.suffix]
        mutation = random.choice(list(of_suffix))
        content = path.read_bytes()
        if random.random() < 0.02:
            path.unlink()
            return f"{path.name} deleted", False
        path.write_bytes(mutation(content, random))
        again = self.sign is not sign_nothing and random.random() < 0.6
        if again:
            self.sign(path)
        return f"{path.name} by {mutation.__name__}", again


JSON = [*BYTES, *[mutations.of_json] * 12]
JSON_LINES = [*BYTES, *[mutations.of_json_line] * 8]
TENSORS = [*BYTES, *[mutations.of_safetensors] * 8]
NUMBERS = [*BYTES, *[mutations.of_numbers] * 6]
FOLDER = {".json": JSON, ".jsonl": JSON_LINES, ".safetensors": TENSORS}
RUN = copy_of("run")


def _tokens(content: bytes, random: Random) -> bytes:
    """Damage the header or the content of a token file."""
    header, rest = content[16:4096], content[4096:]
    what = random.random()
    if what < 0.4:
        header = mutations.of_json(header, random).ljust(4080)[:4080]
    elif what < 0.9:
        rest = random.choice(NUMBERS)(rest, random)
    return content[:16] + header + rest


SUBJECTS = [
    Subject("config.yaml", RUN, "config.yaml", [*BYTES, *[mutations.of_yaml] * 10], use_config,
            guarded=False, weight=2),
    Subject("overrides", make_overrides, "overrides", BYTES, use_overrides, guarded=False),
    Subject("metrics.jsonl", RUN, "metrics.jsonl", JSON_LINES, use_metrics, sign_lines),
    Subject("snapshot", RUN, "snapshots/step-0/*", BYTES, use_snapshot),
    Subject("manifest.json", RUN, "checkpoints/best/manifest.json", JSON, use_model),
    Subject("config.json", RUN, "checkpoints/best/config.json", JSON, use_model,
            sign_checkpoint, weight=2),
    Subject("config.json with changes", make_changed, "step-0/config.json", JSON, use_model,
            sign_checkpoint, weight=2),
    Subject("model.safetensors", RUN, "checkpoints/best/model.safetensors", TENSORS, use_model,
            sign_checkpoint, weight=2),
    Subject("tokenizer.json of a checkpoint", RUN, "checkpoints/best/tokenizer.json", JSON,
            use_model, sign_checkpoint),
    Subject("training.json", RUN, "checkpoints/last/training.json", JSON, use_training,
            sign_checkpoint),
    Subject("training.safetensors", RUN, "checkpoints/last/training.safetensors", TENSORS,
            use_training, sign_checkpoint),
    Subject("a run that goes on", RUN, "checkpoints/step-*/*", BYTES, use_training),
    Subject("report.json", make_record, "report.json", JSON, use_record, sign_json),
    Subject("results", make_results, "results/*.json", JSON, use_results, sign_json, weight=2),
    *(
        Subject(f"adapter, {method}", copy_of(method), "*.*", FOLDER, use_adapter,
                sign_adapter)
        for method in METHOD_SETTINGS
    ),
    Subject("compression.json", make_compression, "*", JSON, use_compression, sign_json),
    Subject("distillation.json", make_distillation, "*", JSON, use_distillation, sign_json),
    Subject("tuned lens", make_tuned_lens, "*.safetensors", TENSORS, use_tuned_lens,
            sign_tuned_lens),
    Subject("classifier", copy_of("classifier"), "*.*", FOLDER, use_classifier,
            sign_adapter),
    Subject("cache", copy_of("cache"), "*/*.*", [*BYTES, mutations.of_numbers], use_cache),
    Subject("token file", copy_cache, "validation-*.tokens", [*BYTES, *[_tokens] * 12],
            use_tokens, sign_tokens, weight=2),
    Subject("index of token files", make_shards, "*.tokens", BYTES, use_shards, weight=2),
    Subject("tokenizer.json", copy_cache, "tokenizer-*.json", JSON, use_tokenizer,
            sign_json),
    Subject("tokenizer.json of bytes", make_bytes, "*", JSON, use_bytes, sign_json),
    Subject("tokenizer.json of bpe", make_bpe, "*", JSON, use_bpe, sign_json),
    Subject(
        "a file of Hugging Face tokenizers",
        *(make_hugging_face, "*", JSON, use_hugging_face),
        guarded=False,
    ),
    *(
        Subject(
            f"tokenizer.json of {name}",
            *(make_pieces(name), "*", JSON, use_pieces(name), sign_json),
        )
        for name in ("unigram", "wordpiece")
    ),
    *(
        Subject(
            f"a file of Hugging Face tokenizers, {name}",
            *(make_pieces(name, foreign=True), "*", JSON, use_foreign_pieces),
            guarded=False,
        )
        for name in ("unigram", "wordpiece")
    ),
    Subject(
        "tokenizer.json of unigram with ▁",
        *(make_pieces("unigram", marked=True), "*", JSON, use_pieces("unigram"), sign_json),
    ),
    Subject(
        "a file of Hugging Face tokenizers, unigram with ▁",
        *(make_pieces("unigram", foreign=True, marked=True), "*", JSON, use_foreign_pieces),
        guarded=False,
    ),
    Subject("kept vectors", copy_cache, "vectors-*.safetensors", TENSORS, use_kept_vectors,
            sign_vectors),
    Subject("corpus .txt, marked", make_texts("\n<|endoftext|>\n"), "*", BYTES, use_corpus(),
            guarded=False),
    Subject("corpus .txt, whole", make_texts("\n"), "*", BYTES, use_corpus(text_format="file"),
            guarded=False),
    Subject("corpus .txt, blank lines", make_texts("\n\n"), "*", BYTES,
            use_corpus(text_format="blank-line"), guarded=False),
    Subject("corpus .jsonl", make_jsonl, "*", JSON_LINES, use_corpus(), guarded=False),
    Subject("corpus .parquet", make_parquet, "*", NUMBERS, use_corpus(),
            guarded=False, weight=2),
    Subject("labelled .jsonl", make_labelled(".jsonl"), "*", JSON_LINES, use_labelled,
            guarded=False),
    Subject("labelled .csv", make_labelled(".csv"), "*", BYTES, use_labelled, guarded=False),
    Subject("rankings .jsonl", make_rankings, "*", JSON_LINES, use_rankings, guarded=False),
    Subject("reward model", make_reward_model, "reward.json", JSON, use_reward_model, sign_json),
    Subject("pairs .jsonl", make_pairs, "*", JSON_LINES, use_pairs, guarded=False),
    Subject("seed tasks", make_tasks, "*", JSON_LINES, use_tasks, guarded=False),
    Subject("steps of Self-Instruct", make_steps, "[idc]*s.jsonl", JSON_LINES, use_steps,
            guarded=False),
    Subject("self-instruct.json", make_steps, "self-instruct.json", JSON, use_steps, sign_json),
    Subject("IDX", make_images(False), "*", NUMBERS, use_images, guarded=False),
    Subject("IDX .gz", make_images(True), "*",
            [mutations.packed(m, ".gz") for m in NUMBERS], use_images, guarded=False),
    *(
        Subject(f"{kind}{form}", make_vectors(kind, form), "*",
                [mutations.packed(m, form) for m in damage] if form else damage,
                use_vectors(f"small{kind}{form}"), guarded=False)
        for kind, damage in ((".vec", BYTES), (".bin", NUMBERS))
        for form in ("", ".gz", ".zip")
    ),
    Subject("lock", make_lock, "*", JSON, use_lock, guarded=False),
]  # fmt: skip
