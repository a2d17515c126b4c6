"""A kept result is used again as long as all that it came from is the same, and no longer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.training.tiny import tiny_run as small_run
from tinylm.config import ReportConfig, RunConfig, load_config
from tinylm.errors import CheckpointError, ConfigError, DataError
from tinylm.experiments import context as module
from tinylm.experiments import data
from tinylm.experiments.context import (
    Context,
    SilentConsole,
    kept_result,
    open_run,
    run_experiment,
)
from tinylm.experiments.origins import depends_on, origin, refuse_without_effect, unlike
from tinylm.experiments.results import read_result, write_result
from tinylm.fingerprints import file_sha256
from tinylm.registry import EXPERIMENTS, Registry

STORY = "the dog saw the cat and the ball .\n<|endoftext|>\n"
VECTORS = "2 16\n" + "".join(f"{word} {' '.join(['0.5'] * 16)}\n" for word in ("dog", "cat"))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Context]:
    """Experiments that only remember that they were run."""
    runs: list[Context] = []

    def run(context: Context) -> dict[str, Any]:
        runs.append(context)
        return {"value": len(runs)}

    class Fake(Registry):
        def load(self, name: str) -> Any:
            self.check(name)
            return SimpleNamespace(run=run, suits=lambda config: True)

    monkeypatch.setattr(module, "EXPERIMENTS", Fake("experiment", dict(EXPERIMENTS)))
    return runs


def write_text(folder: Path, story: str = STORY) -> Path:
    folder.mkdir(exist_ok=True)
    for split, number in (("train", 60), ("valid", 4)):
        (folder / f"{split}.txt").write_text(story * number)
    return folder


def on_files(folder: Path, *overrides: str) -> RunConfig:
    return load_config(overrides=["data.corpus=files", f"data.path={folder}", *overrides])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_it_hangs_on_its_settings_alone(name: str, tmp_path: Path) -> None:
    config = RunConfig()
    first = origin(name, config, tmp_path)
    assert json.loads(json.dumps(first)) == first
    assert unlike(first, origin(name, RunConfig(), tmp_path)) is None
    same = replace(config, report=ReportConfig(title="x", author="y"))
    assert unlike(first, origin(name, same, tmp_path)) is None
    for override, part in (
        ("training.seed=1", "training"),
        ("generation.seed=1", "generation"),
        ("evaluation.seed=1", "evaluation"),
        ("model.num_layers=2", "model"),
        ("data.seed=1", "data"),
        ("vectors.epochs=2", "vectors"),
        ("report.prompts=[a]", "report.prompts"),
        ("experiments.kv_cache.samples=3", "experiments.kv_cache"),
        ("experiments.lab_mnist.seed=3", "experiments.lab_mnist"),
    ):
        different = unlike(first, origin(name, load_config(overrides=[override]), tmp_path))
        assert (different is not None) == (part in depends_on(name)), (override, different)
        if different is not None:
            assert different.startswith(part)


def test_the_text_counts_and_not_where_it_lies(counted: list[Context], tmp_path: Path) -> None:
    here = write_text(tmp_path / "here")
    context = Context(tmp_path / "run", on_files(here))
    run_experiment("data", context)
    shutil.copytree(here, tmp_path / "there")
    moved = replace(context, config=on_files(tmp_path / "there", "data.cache_folder=/elsewhere"))
    assert run_experiment("data", moved)["value"] == 1
    write_text(here, STORY.replace("ball", "doll"))
    assert run_experiment("data", context)["value"] == 2
    assert isinstance(context.console, SilentConsole)
    assert context.console.notes[-1].startswith("data is done again: data.fingerprint (")
    assert run_experiment("data", context)["value"] == 2


def test_text_that_is_gone_is_told_and_counts_as_it_was(
    counted: list[Context], tmp_path: Path
) -> None:
    here = write_text(tmp_path / "here")
    context = Context(tmp_path / "run", on_files(here))
    run_experiment("data", context)
    shutil.rmtree(here)
    assert run_experiment("data", context)["value"] == 1
    assert run_experiment("data", context)["value"] == 1
    assert isinstance(context.console, SilentConsole)
    (warning,) = context.console.warnings
    assert warning.startswith(f"data.path {here} does not exist")
    assert warning.endswith("; results count as made from the data that was there")
    other = replace(context, config=on_files(here, "tokenizer.max_size=50"))
    with pytest.raises(DataError, match="does not exist"):
        run_experiment("data", other)
    here.mkdir()  # there, but not text
    with pytest.raises(DataError, match="files in this folder"):
        run_experiment("data", context)


def test_a_file_of_vectors_counts(counted: list[Context], tmp_path: Path) -> None:
    path = tmp_path / "a.vec"
    path.write_text(VECTORS)
    wanted = ["vectors.source=file", f"vectors.path={path}"]
    context = Context(tmp_path / "run", load_config(overrides=wanted))
    run_experiment("data", context)
    assert run_experiment("data", context)["value"] == 1
    path.write_text(VECTORS.replace("0.5", "0.7"))
    assert run_experiment("data", context)["value"] == 2


def test_a_setting_that_is_new_counts_as_its_default(
    counted: list[Context], tmp_path: Path
) -> None:
    context = Context(tmp_path / "run", RunConfig())
    run_experiment("data", context)
    path = tmp_path / "run/results/data.json"
    kept = read_result(path)
    assert kept is not None
    del kept["from"]["vectors"]["window"]
    write_result(path, kept)
    assert run_experiment("data", context)["value"] == 1
    other = replace(context, config=load_config(overrides=["vectors.window=2"]))
    assert run_experiment("data", other)["value"] == 2


def test_a_result_of_another_form_or_version_is_made_again(
    counted: list[Context], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = Context(tmp_path / "run", RunConfig())
    run_experiment("data", context)
    monkeypatch.setattr(data, "EXPERIMENT", replace(data.EXPERIMENT, form=99))
    assert run_experiment("data", context)["value"] == 2
    path = tmp_path / "run/results/data.json"
    kept = read_result(path)
    assert kept is not None
    write_result(path, {"key": "0123456789abcdef", "value": 7})  # as results were before
    assert run_experiment("data", context)["value"] == 3


def test_what_a_trained_model_is_measured_on_is_looked_at(
    tmp_path: Path, counted: list[Context]
) -> None:
    """The text was replaced: what was measured on the old one is not shown for the new one."""
    here = write_text(tmp_path / "here")
    options = ("data.corpus=files", f"data.path={here}", "data.train_stories=null")
    context = small_run(
        tmp_path / "run", tmp_path / "cache", *options, "data.validation_stories=null"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "EXPERIMENTS", EXPERIMENTS)
        run_experiment("training", context)
    context = open_run(tmp_path / "run", SilentConsole())
    assert run_experiment("evaluation", context)["value"] == 1
    assert run_experiment("evaluation", context)["value"] == 1
    write_text(here, STORY.replace("ball", "doll"))
    console = SilentConsole()
    context = open_run(tmp_path / "run", console)
    assert run_experiment("evaluation", context)["value"] == 2
    (warning,) = console.warnings
    assert warning.startswith(f"{tmp_path / 'run'} was trained on other text (")
    with pytest.raises(ConfigError, match="was trained on text"):
        open_run(tmp_path / "run", console, [f"data.path={here}"])
    write_text(tmp_path / "there")
    moved = open_run(tmp_path / "run", console, [f"data.path={tmp_path / 'there'}"])
    assert run_experiment("evaluation", moved)["value"] == 3
    assert len(console.warnings) == 1


def test_a_damaged_checkpoint_is_not_vouched_for(
    counted: list[Context], tiny_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run, symlinks=True)
    context = open_run(run, SilentConsole())
    run_experiment("evaluation", context)
    weights = run / "checkpoints/best/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(
        CheckpointError, match=r"is damaged: model\.safetensors has changed"
    ) as told:
        run_experiment("evaluation", context)
    assert f"tinylm train --resume {run}" in str(told.value)


def test_a_finished_training_is_believed_only_with_its_checkpoints(tmp_path: Path) -> None:
    context = small_run(tmp_path / "run", tmp_path / "cache", "training.checkpoint_interval=4")
    first = run_experiment("training", context)
    assert kept_result("training", context) == first
    weights = tmp_path / "run/checkpoints/last/model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    assert kept_result("training", context) is None
    again = run_experiment("training", context)
    assert weights.read_bytes() == whole
    measured = ("seconds", "seconds_training", "tokens_per_second", "peak_resident_bytes")
    for key in first.keys() - {*measured, "from", "curve", "validations"}:
        assert again[key] == first[key], key
    assert [record["loss"] for record in again["curve"]] == [r["loss"] for r in first["curve"]]


@pytest.mark.parametrize(
    ("names", "override", "is_refused"),
    [
        (["kv-cache"], "experiments.kv_cache.samples=2", False),
        (["kv-cache"], "generation.seed=2", False),
        (["kv-cache"], "evaluation.num_stories=2", True),
        (["kv-cache"], "experiments.beam_search.prompts=2", True),
        (["kv-cache", "evaluation"], "evaluation.num_stories=2", False),
        (["evaluation"], "report.author=x", True),
        (["evaluation"], "report.prompts=[x]", True),
        (["evaluation"], "generation.temperature=3", True),
        (["evaluation"], "training.batch_size=3", True),
        (["samples"], "report.prompts=[x]", False),
    ],
)
def test_settings_without_effect_are_refused(
    names: list[str], override: str, is_refused: bool
) -> None:
    if not is_refused:
        refuse_without_effect(names, [override], "it")
        return
    with pytest.raises(ConfigError) as error:
        refuse_without_effect(names, [override], "it")
    assert str(error.value) == f"-o {override}: it does not depend on it: leave it out"


# --- fingerprints of files ---


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"other"),
        lambda path: path.write_bytes(b"longer than before"),
        lambda path: (path.unlink(), path.write_bytes(b"other")),
    ],
)
def test_a_changed_file_has_another_fingerprint(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"first")
    before = file_sha256(path)
    assert file_sha256(path) == before
    change(path)  # at once: the clock of the file system may not have moved
    assert file_sha256(path) != before
