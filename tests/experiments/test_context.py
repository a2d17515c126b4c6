"""Runs, and results that are kept as long as what they depend on stays."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.training.tiny import tiny_model, tiny_tokenizer
from tinylm.checkpoint import TrainingState, point
from tinylm.checkpoint.writing import save_checkpoint
from tinylm.config import ModelConfig, ReportConfig, RunConfig, load_config
from tinylm.errors import ConfigError, DataError
from tinylm.experiments import context as module
from tinylm.experiments.context import (
    Context,
    SilentConsole,
    create_run,
    environment,
    open_run,
    run_experiment,
    run_of,
    threads,
)
from tinylm.experiments.results import read_result
from tinylm.language_model import LanguageModel
from tinylm.model.decoder import DecoderLM
from tinylm.registry import EXPERIMENTS, Registry
from tinylm.tokenizers.base import Tokenizer


def untrained() -> tuple[DecoderLM, Tokenizer]:
    return tiny_model(), tiny_tokenizer()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Context]:
    """An experiment ``evaluation`` that only remembers that it was run."""
    runs: list[Context] = []

    def run(context: Context) -> dict[str, Any]:
        runs.append(context)
        return {"value": len(runs), "text": "é"}

    class Fake(Registry):
        def load(self, name: str) -> Any:
            self.check(name)
            return SimpleNamespace(run=run, suits=lambda config: True)

    monkeypatch.setattr(module, "EXPERIMENTS", Fake("experiment", dict(EXPERIMENTS)))
    return runs


def test_a_result_is_kept_and_not_made_again(counted: list[Context], tmp_path: Path) -> None:
    context = Context(tmp_path, RunConfig())
    first = run_experiment("evaluation", context)
    assert first["value"] == 1
    assert first["experiment"] == "evaluation"
    assert first["seconds"] >= 0
    assert read_result(tmp_path / "results/evaluation.json") == first
    assert run_experiment("evaluation", context) == first
    assert len(counted) == 1
    assert run_experiment("evaluation", context, again=True)["value"] == 2


def test_a_result_is_made_again_when_its_settings_change(
    counted: list[Context], tmp_path: Path
) -> None:
    run_experiment("evaluation", Context(tmp_path, RunConfig()))
    for overrides, runs in (
        (["report.title=other"], 1),
        (["evaluation.num_stories=3"], 2),
        (["evaluation.num_stories=3", "report.author=me"], 2),
        (["generation.seed=2"], 3),
    ):
        run_experiment("evaluation", Context(tmp_path, load_config(overrides=overrides)))
        assert len(counted) == runs


def test_a_result_is_made_again_when_the_model_was_trained_on(
    counted: list[Context], tiny_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_run, tmp_path / "run", symlinks=True)
    context = open_run(tmp_path / "run", SilentConsole())
    run_experiment("evaluation", context)
    run_experiment("evaluation", context)
    assert len(counted) == 1
    lm = LanguageModel.load(tmp_path / "run")
    with torch.no_grad():
        lm.model.unembedding.bias.add_(1)
    checkpoints = tmp_path / "run/checkpoints"
    point(checkpoints, "best", lm.save(checkpoints))
    run_experiment("evaluation", context)
    assert len(counted) == 2


def test_an_unknown_experiment_answers_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'evalution'; did you mean evaluation"):
        run_experiment("evalution", Context(tmp_path, RunConfig()))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda text: text[:-9], "not JSON"),
        (lambda text: text.replace('"value": 1', '"value": 3'), "has changed since it was written"),
        (lambda text: '{"key": 1}', "carries no checksum"),
        (lambda text: "[" * 200_000, "is nested more than 32 deep"),
        (lambda text: "[]", "holds []: expected keys with values"),
    ],
)
def test_a_damaged_result_is_told_and_made_again(
    counted: list[Context], tmp_path: Path, change: Callable[[str], str], problem: str
) -> None:
    path = tmp_path / "results/evaluation.json"
    assert read_result(path) is None
    console = SilentConsole()
    context = Context(tmp_path, RunConfig(), console)
    run_experiment("evaluation", context)
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError) as error:
        read_result(path)
    assert str(error.value).startswith(f"{path}: {problem}")
    again = run_experiment("evaluation", context)
    assert again["value"] == len(counted) == 2
    assert console.warnings == [f"{error.value}: this is done now"]
    assert run_experiment("evaluation", context) == again == read_result(path)


def test_a_result_that_fails_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(Exception, match=r"does not exist|no checkpoint"):
        run_experiment("samples", Context(tmp_path / "no", RunConfig()))
    assert not (tmp_path / "no").exists()


def test_create_run_goes_on_with_the_same_settings_only(
    tmp_path: Path, counted: list[Context]
) -> None:
    folder, console = tmp_path / "run", SilentConsole()
    config = load_config(overrides=["model.num_heads=4"])
    context = create_run(folder, config, console)
    assert context.config == config
    assert not folder.exists()
    run_experiment("data", context)
    assert load_config(folder / "config.yaml") == config
    # Nothing is trained yet.
    create_run(folder, replace(config, model=ModelConfig(num_heads=2)), console)
    save_checkpoint(folder / "checkpoints", *untrained(), TrainingState(1, {"corpus": "stories"}))
    create_run(folder, config, console)
    titled = create_run(folder, replace(config, report=ReportConfig(title="x")), console)
    assert load_config(folder / "config.yaml").report.title != "x"
    run_experiment("data", titled)
    assert len(counted) == 1
    assert load_config(folder / "config.yaml").report.title == "x"
    with pytest.raises(ConfigError) as error:
        create_run(folder, replace(config, model=ModelConfig(num_heads=2)), console)
    assert str(error.value) == (
        f"{folder} holds a run with model.num_heads = 4, not 2: "
        "choose another --name, or delete that folder"
    )
    assert load_config(folder / "config.yaml").model.num_heads == 4


def test_paths_are_kept_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    typed = ["data.path=text", "vectors.path=~/v.vec", "experiments.lab_mnist.data=../mnist"]
    config = create_run(tmp_path / "run", load_config(overrides=typed), SilentConsole()).config
    assert config.data.path == str(tmp_path / "text")
    assert config.vectors.path == str(Path("~/v.vec").expanduser())
    assert config.experiments.lab_mnist.data == str(tmp_path / "../mnist")
    assert config.data.cache_folder == "runs/.cache"


def test_open_run_takes_overrides_of_what_is_not_fixed(tiny_run: Path) -> None:
    console = SilentConsole()
    context = open_run(tiny_run, console, ["evaluation.num_stories=2"])
    assert context.config.evaluation.num_stories == 2
    assert (context.results, context.figures) == (tiny_run / "results", tiny_run / "figures")
    for section in ("data.seed=1", "tokenizer.max_size=9", "vectors.epochs=1", "model.dropout=0"):
        with pytest.raises(ConfigError, match="is fixed once a run exists; train a new one"):
            open_run(tiny_run, console, [section])
    with pytest.raises(ConfigError, match=r"is no run: it has no config\.yaml"):
        open_run(tiny_run.parent, console)
    with pytest.raises(ConfigError, match="is a model alone, without the settings and data of a"):
        open_run(tiny_run / "checkpoints/last", console)
    meant = rf"tinny does not exist; did you mean .*{tiny_run.name}\?"
    with pytest.raises(ConfigError, match=meant):
        open_run(tiny_run.with_name("tinny"), console)


def test_run_of_finds_the_run_of_a_checkpoint_and_guesses_nothing(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert run_of(tiny_run) == tiny_run
    for name in ("best", "last", "step-30"):
        assert run_of(tiny_run / "checkpoints" / name) == tiny_run
    monkeypatch.chdir(tiny_run / "checkpoints")
    assert run_of(Path("best")) == tiny_run
    assert run_of(tiny_run / "snapshots/step-0") == tiny_run
    (tmp_path / "config.yaml").write_text("{}")
    assert run_of(tmp_path / "models") is None
    assert run_of(tmp_path / "models" / "mine") is None


def test_the_environment_is_told() -> None:
    values = environment()
    assert values["torch"] == torch.__version__
    assert values["threads"] == torch.get_num_threads()
    assert values["cpu"]
    assert values["memory_gib"] > 0.1
    assert json.loads(json.dumps(values)) == values


def test_threads_are_put_back_also_after_an_error() -> None:
    before = torch.get_num_threads()
    with threads(2):
        assert torch.get_num_threads() == 2
    with pytest.raises(RuntimeError), threads(2):
        raise RuntimeError
    with threads(0):
        assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before


def test_the_tiny_run_learns(tiny_run: Path) -> None:
    """The session's fixture itself: a loss that falls, and everything that a run leaves."""
    result = read_result(tiny_run / "results/training.json")
    assert result is not None
    assert result["steps"] == 30
    assert result["best"]["perplexity"] < result["uniform_perplexity"] / 2
    assert result["best"]["loss"] == pytest.approx(math.log(result["best"]["perplexity"]))
    for name in ("config.yaml", "metrics.jsonl", "checkpoints/best", "checkpoints/last"):
        assert (tiny_run / name).exists()
