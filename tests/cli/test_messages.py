"""Every command that a message prints can be run as it is printed."""

from __future__ import annotations

import ast
import json
import math
import re
import shlex
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer.core
from typer.main import get_command

from tests.cli.conftest import Command
from tests.cli.test_classify import labelled
from tinylm.cli import app
from tinylm.experiments.document import build
from tinylm.experiments.document.inputs import ReportInputs
from tinylm.registry import COMMANDS
from tinylm.training import loop
from tinylm.training.loop import Trainer
from tinylm.training.step import Gradients, TrainingStep

SOURCE = Path(__file__).parents[2] / "src/tinylm"
NAMES = "|".join(COMMANDS)
PRINTED = re.compile(rf"\btinylm (?:{NAMES})\b(?:(?!, or |; |: |`|\)|\n).)*")
"""A command in a message, up to what parts it from the words after it."""
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*\b(?!:)")  # and no property of CSS
METHOD = ("--method", "sequence-classification")
# Of the tiny run, a layer and two heads: two trainings, and what a test adds.
FEW = ("steps=3", "seeds=2", "num_layers=[1]", "num_heads=[2]", "learning_rate_factors=[1]",
       "validation_windows=4")  # fmt: skip


def commands_in(message: str) -> list[str]:
    return [match.group().strip() for match in PRINTED.finditer(message)]


# --- what the source holds ---


def template(node: ast.expr) -> str:
    """Return the text of a string, ``X`` standing for what is not known before."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        parts = (part if isinstance(part, ast.Constant) else None for part in node.values)
        return "".join("X" if part is None else str(part.value) for part in parts)
    return "X"


def strings(tree: ast.Module) -> Iterator[tuple[ast.expr, str]]:
    """Yield every string of a module that is no docstring, and every list of words."""
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inner |= {id(part) for part in ast.walk(node) if part is not node}
    for node in ast.walk(tree):
        if id(node) in inner:
            continue
        if isinstance(node, ast.JoinedStr) or (
            isinstance(node, ast.Constant) and isinstance(node.value, str)
        ):
            yield node, template(node)
        elif isinstance(node, ast.List) and node.elts:
            words = [template(word) for word in node.elts if not isinstance(word, ast.Starred)]
            if words[:1] == ["tinylm"]:
                yield node, shlex.join(words)


def sources() -> Iterator[tuple[str, str]]:
    for path in sorted(SOURCE.rglob("*.py")):
        place = str(path.relative_to(SOURCE))
        for node, text in strings(ast.parse(path.read_text("utf-8"))):
            yield f"{place}:{node.lineno}", text


def test_every_command_in_the_source_is_one(
    tinylm: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each parses; what it would do is left out."""
    base = typer.core.TyperCommand.__mro__[1]
    monkeypatch.setattr(base, "invoke", lambda self, context: None)
    printed = [(place, command) for place, text in sources() for command in commands_in(text)]
    assert len(printed) > 40
    for place, command in printed:
        status, _, err = tinylm(*shlex.split(command)[1:])
        assert status == 0, (place, command, err)


def options_of(command: Any) -> set[str]:
    own = {name for parameter in command.params for name in parameter.opts}
    return own.union(*(options_of(inner) for inner in getattr(command, "commands", {}).values()))


def test_every_option_in_the_source_is_one() -> None:
    root: Any = get_command(app)
    everywhere = options_of(root) | {"--help"}
    files = {f"cli/{name}.py": options_of(root.commands[name]) for name in COMMANDS}
    for path in (SOURCE / "cli").glob("plan_*.py"):
        files[f"cli/{path.name}"] = options_of(root.commands["plan"])
    files["cli/cluster_tables.py"] = options_of(root.commands["plan"])
    named = 0
    for place, text in sources():
        file = place.partition(":")[0]
        if file == "cli/examples.py":
            continue  # which belong to all commands
        # A command, parsed above, or a word of one.
        whole = text.startswith("tinylm ") or " " not in text
        for option in OPTION.findall(text):
            named += 1
            assert option in (everywhere if whole else files.get(file, everywhere)), (place, text)
    assert named > 40


# --- what is printed ---


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the tiny run, whose name a shell would take apart."""
    return shutil.copytree(tiny_run, tmp_path / "runs/my run", symlinks=True).relative_to(tmp_path)


def follow(tinylm: Command, message: str, **blanks: object) -> str:
    """Run the one command that a message ends with, its blanks filled in, and return it."""
    assert message.count("\n") <= 1, message
    (command,) = commands_in(message)
    words = shlex.split(command)[1:]
    status, _, err = tinylm(*(blanks.get(word, word) for word in words))
    assert status == 0, (command, err)
    return command


def refused(tinylm: Command, *args: object) -> str:
    """Return the last line of what a command says that fails."""
    status, _, err = tinylm(*args)
    assert status != 0
    assert "Traceback" not in err
    return err.splitlines()[-1]


def stop_once(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Stop the next training by a signal after a step."""
    take, stopped = Trainer._take_step, []

    def stopping(trainer: Trainer) -> bool:
        ended = take(trainer)
        if trainer.step == step and not stopped:
            stopped.append(trainer)
            signal.raise_signal(signal.SIGTERM)
        return ended

    monkeypatch.setattr(Trainer, "_take_step", stopping)


def diverge(
    monkeypatch: pytest.MonkeyPatch, which: Callable[[TrainingStep[Any]], bool], after: int = 0
) -> None:
    """Let trainings diverge, each after so many steps."""
    backward = TrainingStep.backward
    steps: dict[int, int] = {}

    def diverging(step: TrainingStep[Any], batches: Any, idle: Any = ()) -> Gradients:
        gradients = backward(step, batches, idle)
        steps[id(step)] = steps.get(id(step), 0) + 1
        return (
            replace(gradients, loss=math.nan)
            if which(step) and steps[id(step)] > after
            else gradients
        )

    monkeypatch.setattr(TrainingStep, "backward", diverging)


@pytest.fixture
def unprinted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Reports are assembled, and neither drawn nor printed: the experiments that each tells of."""
    named: list[str] = []
    monkeypatch.setattr(build, "draw", lambda inputs: None)

    def write_document(document: object, inputs: ReportInputs, stem: str) -> dict[str, Path]:
        named.append(",".join(inputs.results))
        (inputs.folder / f"{stem}.pdf").touch()
        return {}

    monkeypatch.setattr(build, "write_document", write_document)
    return named


def settings(*values: str) -> list[str]:
    return [part for value in values for part in ("-o", f"experiments.hyperparameters.{value}")]


def test_a_name_that_is_taken(tinylm: Command, run: Path) -> None:
    follow(tinylm, refused(tinylm, "train", "--name", run.name))


def test_a_run_without_a_checkpoint_and_one_with_a_damaged_one(tinylm: Command, run: Path) -> None:
    (run / "checkpoints").rename(run / "elsewhere")
    follow(tinylm, refused(tinylm, "generate", run, "x"))
    (run / "checkpoints/best/model.safetensors").resolve().write_bytes(b"x")
    follow(tinylm, refused(tinylm, "generate", run, "x"))
    assert tinylm("generate", run, "x")[0] == 0


def test_adapters_and_classifiers_that_are_not_there(
    tinylm: Command, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "total_steps", lambda config, num_windows: 3)  # of many
    for args in (("generate", run, "x", "--adapter", "lora"), ("classify", run, "who", "x")):
        command = follow(tinylm, refused(tinylm, *args), FILE=labelled(Path("rows.jsonl")))
    assert command.endswith("--data FILE")
    labels = run / "adapters/sequence-classification"
    message = refused(tinylm, "generate", run, "x", "--adapter", labels.name)
    follow(tinylm, message, RUN=run, TEXT="a dog")
    (run / "adapters/lora/tinylm.json").unlink()
    follow(tinylm, refused(tinylm, "generate", run, "x", "--adapter", "lora"))
    assert tinylm("generate", run, "x", "--adapter", "lora")[0] == 0


def test_fine_tuning_that_is_stopped_or_diverges(
    tinylm: Command, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--data", "letters", "--steps", 4, "-o", "rank=2", "--name", "my own")
    with monkeypatch.context() as patch:
        stop_once(patch, 2)
        message = refused(tinylm, "finetune", run, *options)
    unfinished = refused(tinylm, "generate", run, "x", "--adapter", "my own")
    assert commands_in(unfinished) == commands_in(message)
    follow(tinylm, message)
    assert (run / "adapters/my own/adapter_model.safetensors").exists()
    with monkeypatch.context() as patch:
        diverge(patch, lambda step: True, after=2)
        message = refused(tinylm, "finetune", run, *options, "--seed", 1, "--name", "other")
    command = follow(tinylm, message)
    assert "--name other-2" in command
    assert (run / "adapters/other-2/adapter_model.safetensors").exists()


def test_training_that_is_stopped_or_diverges(
    tinylm: Command, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def longer(steps: int) -> list[object]:
        return ["train", "--resume", run, "-o", f"training.max_steps={steps}"]

    with monkeypatch.context() as patch:
        stop_once(patch, 32)
        message = refused(tinylm, *longer(34))
    follow(tinylm, message)
    with monkeypatch.context() as patch:
        diverge(patch, lambda step: True, after=2)
        message = refused(tinylm, *longer(38))
    assert "-o training.learning_rate=3e-03" in follow(tinylm, message)
    assert str((run / "checkpoints/last").readlink()) == "step-38"


def hyperparameters_of(run: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((run / "results/hyperparameters.json").read_text("utf-8"))
    return result


@pytest.mark.parametrize(
    ("setting", "which"),
    [
        ("num_layers=[2]", lambda step: step.model.config.num_layers == 2),
        ("num_heads=[1]", lambda step: step.model.config.num_heads == 1),
        ("learning_rate_factors=[0.5]", lambda step: step.config.learning_rate == 5e-3),
        ("seeds=2", lambda step: step.config.learning_rate == 1e-2),
    ],
)
def test_a_comparison_in_which_one_training_diverges(
    tinylm: Command,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    which: Callable[[TrainingStep[Any]], bool],
) -> None:
    diverge(monkeypatch, which)
    options = settings(*FEW, setting)
    follow(tinylm, refused(tinylm, "experiment", "hyperparameters", "--run", run, *options))
    result = hyperparameters_of(run)
    assert result["changes"] == []
    assert result["steps"] == 3  # what was asked for holds
    assert len(result["repeats"]) == 2


def test_a_comparison_that_is_stopped(
    tinylm: Command, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings that were given and are not the run's are part of what goes on."""
    trained: list[int] = []
    take = Trainer._take_step
    monkeypatch.setattr(Trainer, "_take_step", lambda t: trained.append(t.step) or take(t))
    with monkeypatch.context() as patch:
        stop_once(patch, 2)
        message = refused(tinylm, "experiment", "hyperparameters", "--run", run, *settings(*FEW))
    follow(tinylm, message)
    assert trained == [0, 1, 2, 0, 1, 2]  # each step once
    assert hyperparameters_of(run)["steps"] == 3


def test_accumulation_that_diverges(
    tinylm: Command, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [part for setting in ("steps=[1]", "batch_size=4", "windows=8")
           for part in ("-o", f"experiments.accumulation.{setting}")]  # fmt: skip
    diverge(monkeypatch, lambda step: step.config.learning_rate == 1e-2)
    message = refused(tinylm, "experiment", "accumulation", "--run", run, *few)
    assert "experiments.accumulation.learning_rate=3e-03" in follow(tinylm, message)


def test_a_report_with_a_training_that_diverges(
    tinylm: Command, run: Path, monkeypatch: pytest.MonkeyPatch, unprinted: list[str]
) -> None:
    """A report takes no other training settings, so the experiment is left out."""
    diverge(monkeypatch, lambda step: step.config.learning_rate == 1e-2)
    report = ("report", "--run", run, "--experiments", "data,hyperparameters")
    message = refused(tinylm, *report, "-o", "report.author=A. B", *settings(*FEW))
    assert "report.author=A. B" in follow(tinylm, message)
    assert unprinted == ["data"]


def test_a_report_of_a_new_run_that_is_stopped_in_an_experiment(
    tinylm: Command, run: Path, monkeypatch: pytest.MonkeyPatch, unprinted: list[str]
) -> None:
    """The run has a configuration by then, though nothing of its own is trained."""
    few = (*settings(*FEW), "-o", "report.experiments=[hyperparameters]")
    with monkeypatch.context() as patch:
        stop_once(patch, 2)
        message = refused(tinylm, "report", "--config", run / "config.yaml", "--name", "new", *few)
    assert follow(tinylm, message) == "tinylm report --run runs/new"
    assert unprinted == ["hyperparameters"]
    assert hyperparameters_of(Path("runs/new"))["steps"] == 3


def test_a_report_of_nothing(tinylm: Command, run: Path, unprinted: list[str]) -> None:
    follow(tinylm, refused(tinylm, "report", "--run", run, "-o", "report.experiments=[]"))
    assert unprinted == ["data,training"]


def test_help_the_list_of_settings_and_what_memory_is_needed(
    tinylm: Command, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = refused(tinylm, "generate", run, "--topk", 3)
    assert "see `tinylm generate --help`" in message
    follow(tinylm, message)
    message = refused(tinylm, "config", "-o", "training.zzzzzz=1")
    follow(tinylm, message)

    def too_much(*_: object) -> None:
        raise MemoryError("x")

    with monkeypatch.context() as patch:
        patch.setattr("tinylm.language_model.LanguageModel.load", too_much)
        message = refused(tinylm, "generate", run, "x")
    follow(tinylm, message)


def test_checks_that_fail(tinylm: Command, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = iter([["loss"], []])
    monkeypatch.setattr(
        "tinylm.experiments.verification.measure.run",
        lambda context: {"rows": [], "passed": 0, "failed": next(outcomes)},
    )
    status, out, _ = tinylm("verify", run)
    assert status == 1
    follow(tinylm, out.splitlines()[-1])
