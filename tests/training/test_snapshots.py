"""Snapshots: after which steps they are taken, that they are the model, and that they survive."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.training.processes import Processes
from tests.training.test_resume import Raising, check_same_end
from tests.training.tiny import step_names, tiny_run, write_config
from tinylm import LanguageModel
from tinylm.checkpoint import load_checkpoint
from tinylm.errors import CheckpointError
from tinylm.experiments.context import Context, SilentConsole, open_run, run_experiment
from tinylm.experiments.training.measure import StoppedBySignalError
from tinylm.training.loop import Trainer
from tinylm.training.snapshots import snapshot_steps, snapshots_of

SNAPSHOTS = ("training.snapshots=6", "training.checkpoint_interval=5")
STEPS = [0, 1, 2, 3, 6, 12]  # round(12 ** (i / 4)) for i in 0..4 is 1, 2, 3, 6, 12


# --- which steps ---


@given(count=st.integers(2, 60), total=st.integers(1, 10**7))
def test_steps_are_as_many_as_wanted_from_the_first_to_the_last(count: int, total: int) -> None:
    steps = snapshot_steps(count, total)
    assert len(steps) == min(count, total + 1)
    assert (steps[0], steps[-1]) == (0, total)
    assert all(step < following for step, following in pairwise(steps))


@given(count=st.integers(3, 20), total=st.integers(10**6, 10**9))
def test_the_ratio_of_steps_is_constant(count: int, total: int) -> None:
    steps = np.array(snapshot_steps(count, total)[1:])
    # An integer is 0.5 from what it was rounded from, or as far as those before it push it.
    assert np.abs(steps - np.geomspace(1, total, count - 1)).max() <= 0.5 + count


@pytest.mark.parametrize(
    ("count", "total", "steps"),
    [
        (0, 9, []),
        (1, 9, [9]),
        (2, 9, [0, 9]),
        (3, 9, [0, 1, 9]),
        (6, 10_000, [0, 1, 10, 100, 1000, 10_000]),
        (99, 3, [0, 1, 2, 3]),
        (3, 1, [0, 1]),
    ],
)
def test_steps_of_a_run(count: int, total: int, steps: list[int]) -> None:
    assert snapshot_steps(count, total) == steps


# --- what they are ---


def kept_steps(run: Path) -> list[int]:
    return [int(path.name[5:]) for path in snapshots_of(run)]


def test_a_snapshot_is_the_model_after_its_step(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = tiny_run(tmp_path / "run", cache, *SNAPSHOTS, "training.keep_checkpoints=1")
    seen: dict[int, dict[str, torch.Tensor]] = {}
    plain = Trainer._take_step

    def stepping(trainer: Trainer) -> bool:
        weights = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
        seen[trainer.step] = weights
        return plain(trainer)

    monkeypatch.setattr(Trainer, "_take_step", stepping)
    run_experiment("training", context)
    assert kept_steps(context.folder) == STEPS
    assert isinstance(context.console, SilentConsole)
    (told,) = [note for note in context.console.notes if note.startswith("snapshots")]
    folder = context.folder / "snapshots"
    size = sum(weight.nbytes for weight in seen[0].values())
    assert told.startswith(f"snapshots: 6 of {size / 1024:.4g} KiB each, {6 * size / 1024:.4g} KiB")
    assert told.endswith(f"in all, after steps 0, 1, 2, 3, 6, 12, in {folder}")
    for step in STEPS[:-1]:
        lm = LanguageModel.load(folder / f"step-{step}")
        held = dict(lm.model.named_parameters())
        assert held.keys() == seen[step].keys()
        assert all(torch.equal(held[name], value) for name, value in seen[step].items())
    last = load_checkpoint(context.folder / "checkpoints/step-12")
    kept = load_checkpoint(folder / "step-12")
    assert kept.tokenizer.fingerprint() == last.tokenizer.fingerprint()
    assert (folder / "step-12/model.safetensors").read_bytes() == (
        context.folder / "checkpoints/step-12/model.safetensors"
    ).read_bytes()
    for path in folder.iterdir():  # weights alone
        files = {file.name: file.stat().st_size for file in path.iterdir()}
        assert files["training.safetensors"] + files["training.json"] < 64


def test_training_with_snapshots_is_training_without(tmp_path: Path, cache: Path) -> None:
    plain = tiny_run(tmp_path / "plain", cache, SNAPSHOTS[1])
    with_snapshots = tiny_run(tmp_path / "run", cache, *SNAPSHOTS)
    for context in (plain, with_snapshots):
        run_experiment("training", context)
    check_same_end(with_snapshots.folder, plain.folder, 12)
    assert not (plain.folder / "snapshots").exists()


# --- going on ---


def check_same_snapshots(run: Path, expected: Path) -> None:
    assert step_names(run / "snapshots") == step_names(expected / "snapshots")
    for path in snapshots_of(expected):
        for file in path.iterdir():
            twin = run / "snapshots" / path.name / file.name
            assert twin.read_bytes() == file.read_bytes(), twin


@pytest.mark.parametrize("stop", [0, 4, 7])
def test_a_run_that_goes_on_ends_with_the_same_snapshots(
    tmp_path: Path, cache: Path, stop: int
) -> None:
    """It was stopped by a signal, or killed at step 7 and goes on from step 5, before step 6."""
    steady = tiny_run(tmp_path / "steady", cache, *SNAPSHOTS)
    run_experiment("training", steady)
    context = tiny_run(tmp_path / "run", cache, *SNAPSHOTS)
    if stop == 4:
        with pytest.raises(StoppedBySignalError):
            run_experiment("training", Context(context.folder, context.config, Raising(stop)))
    else:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(InterruptedError):
            patch.setattr(Trainer, "_take_step", killed_at(stop))
            run_experiment("training", context)
    assert kept_steps(context.folder) == [step for step in STEPS if step <= stop]
    run_experiment("training", context)
    check_same_snapshots(context.folder, steady.folder)
    check_same_end(context.folder, steady.folder, 12)


def killed_at(step: int):  # type: ignore[no-untyped-def]
    plain = Trainer._take_step

    def stepping(trainer: Trainer) -> bool:
        if trainer.step == step:
            raise InterruptedError
        return plain(trainer)

    return stepping


def test_snapshots_after_the_step_that_training_goes_on_from_are_taken_again(
    tmp_path: Path, cache: Path
) -> None:
    """The settings may be others now: what is kept is of one training."""
    context = tiny_run(tmp_path / "run", cache, *SNAPSHOTS)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(Trainer, "_take_step", killed_at(9))
        run_experiment("training", context)
    before = (context.folder / "snapshots/step-6/model.safetensors").read_bytes()
    changed = open_run(context.folder, SilentConsole(), ["training.learning_rate=1e-2"])
    run_experiment("training", changed)
    assert kept_steps(context.folder) == STEPS
    assert (context.folder / "snapshots/step-6/model.safetensors").read_bytes() != before
    last = load_checkpoint(context.folder / "checkpoints/step-12").weights
    kept = load_checkpoint(context.folder / "snapshots/step-12").weights
    assert all(torch.equal(kept[name], weight) for name, weight in last.items())


def test_a_run_killed_while_a_snapshot_is_written_goes_on(
    tmp_path: Path, cache: Path, processes: Processes
) -> None:
    """By a real SIGKILL, in the command."""
    steady = tiny_run(tmp_path / "steady", cache, *SNAPSHOTS)
    run_experiment("training", steady)
    config = write_config(tmp_path / "run.yaml", cache, *SNAPSHOTS)
    process = processes.start(["train", "--config", str(config)], tmp_path)
    folder = tmp_path / "runs/run/snapshots"
    if process.kill_when((folder / "step-3").exists):
        begun = (tmp_path / "runs/run/config.yaml").exists()
        again = ["--resume", "runs/run"] if begun else ["--config", str(config)]
        process = processes.start(["train", *again], tmp_path)
    assert process.wait() == 0, process.errors()
    check_same_snapshots(tmp_path / "runs/run", steady.folder)


def test_a_snapshot_that_cannot_be_written_says_how_to_go_on(tmp_path: Path, cache: Path) -> None:
    context = tiny_run(tmp_path / "run", cache, *SNAPSHOTS)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(Trainer, "_take_step", killed_at(0))
        run_experiment("training", context)
    (context.folder / "snapshots").rename(tmp_path / "aside")
    (context.folder / "snapshots").write_text("a file in the place of the folder")
    with pytest.raises(CheckpointError) as caught:
        run_experiment("training", context)
    assert str(caught.value).endswith(f"then go on: tinylm train --resume {context.folder}")
    assert "\n" not in str(caught.value)


def test_a_damaged_snapshot_is_refused(tmp_path: Path, cache: Path) -> None:
    context = tiny_run(tmp_path / "run", cache, "training.snapshots=2")
    run_experiment("training", context)
    path = context.folder / "snapshots/step-0/model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"step-0 is damaged: model.safetensors has changed"):
        LanguageModel.load(path.parent)
