"""Losses that are not finite, full disks: one clear line, and the last good checkpoint intact."""

import errno
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.processes import Processes
from tests.training.tiny import (
    Recorder,
    metrics_without_clock,
    state_without_clock,
    step_names,
    tiny_model,
    tiny_run,
    tiny_trainer,
    write_config,
)
from tinylm import atomic, checkpoint
from tinylm.checkpoint import damage, load_checkpoint, newest, writing
from tinylm.errors import CheckpointError, TrainingError
from tinylm.experiments.context import Context, SilentConsole, run_experiment
from tinylm.model.decoder import DecoderLM
from tinylm.training import tracking
from tinylm.training.loop import Trainer


def all_finite(run: Path) -> bool:
    """Whether every checkpoint of a run is whole and finite."""
    checkpoints = [path for path in (run / "checkpoints").iterdir() if not path.is_symlink()]
    for path in checkpoints:
        assert damage(path) is None
        state = checkpoint.load_training_state(path).tensors
        tensors = [*load_checkpoint(path).weights.values(), *state.values()]
        if not all(bool(tensor.isfinite().all()) for tensor in tensors):
            return False
    return True


# --- not finite ---


def spoiled(model: DecoderLM, step: int, value: float) -> DecoderLM:
    """A model whose last stream holds ``value`` in forward pass ``step``, counted from 1."""
    calls = [0]

    def spoil(module: Any, inputs: Any, x: Tensor) -> Tensor:
        calls[0] += 1
        return x * value if calls[0] == step else x

    model.final_norm.register_forward_hook(spoil)
    return model


@pytest.mark.parametrize(("value", "shown"), [(math.nan, "nan"), (math.inf, "nan")])
def test_a_loss_that_is_not_finite(tmp_path: Path, value: float, shown: str) -> None:
    recorder = Recorder()
    model = spoiled(tiny_model(), 5, value)
    trainer = tiny_trainer(
        tmp_path, model, listener=recorder, checkpoint_interval=2, batch_size=2, max_steps=9
    )
    orders = []
    plain = trainer.order.next
    trainer.order.next = lambda: orders.append(plain()) or orders[-1]  # type: ignore[method-assign]
    with pytest.raises(TrainingError) as caught:
        trainer.run()
    windows = ", ".join(map(str, orders[-1]))
    good = tmp_path / "checkpoints/step-4"
    message = str(caught.value)
    assert message.startswith(f"step 5: loss {shown}, gradient norm ")
    assert f"(windows {windows}); last good checkpoint: {good} (delete it" in message
    assert message.endswith("; LOWER THE RATE")
    assert "\n" not in message
    assert step_names(tmp_path / "checkpoints") == ["step-2", "step-4"]
    assert all_finite(tmp_path)
    assert all(bool(p.isfinite().all()) for p in model.parameters())
    assert [step for step, _ in recorder.steps] == [1, 2, 3, 4]


def test_the_mean_loss_is_named_when_only_the_gradient_is_infinite(tmp_path: Path) -> None:
    model = tiny_model()
    model.unembedding.weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(TrainingError, match=r"^step 1: loss [2-5]\.\d+, gradient norm (inf|nan)"):
        tiny_trainer(tmp_path, model, batch_size=8).run()
    assert not (tmp_path / "checkpoints").exists()


def test_every_window_of_an_accumulated_step_is_named(tmp_path: Path) -> None:
    trainer = tiny_trainer(
        tmp_path, spoiled(tiny_model(), 2, math.nan), batch_size=3, accumulation_steps=3
    )
    with pytest.raises(TrainingError) as caught:
        trainer.run()
    named = str(caught.value).partition("(windows ")[2].partition(")")[0].split(", ")
    assert sorted(map(int, named)) == list(range(9))
    assert "last good checkpoint: none" in str(caught.value)


def test_weights_that_overflow_in_a_step_are_not_saved(tmp_path: Path) -> None:
    """The loss and the gradient were finite; the step made them useless."""
    model = tiny_model()
    trainer = tiny_trainer(
        tmp_path, model, checkpoint_interval=1, optimizer="sgd", learning_rate=1e-3, max_steps=9
    )
    step = trainer.optimizer.step

    def stepping(*_: Any) -> None:
        step()
        if trainer.step == 2:
            with torch.no_grad():
                model.unembedding.bias[3] = math.inf

    trainer.optimizer.step = stepping  # type: ignore[method-assign]
    with pytest.raises(TrainingError, match=r"step 3: unembedding\.bias is not finite any more; "):
        trainer.run()
    assert step_names(tmp_path / "checkpoints") == ["step-1", "step-2"]
    assert all_finite(tmp_path)


def test_an_absurd_learning_rate_saves_nothing_that_is_not_finite(
    tmp_path: Path, cache: Path
) -> None:
    settings = ("training.learning_rate=1e36", "training.checkpoint_interval=1")
    context = tiny_run(tmp_path / "run", cache, *settings, "model.norm_placement=pre")
    with pytest.raises(TrainingError, match=r"^step \d+: "):
        run_experiment("training", context)
    if (context.folder / "checkpoints").exists():
        assert all_finite(context.folder)
    assert not (context.results / "training.json").exists()


def test_a_validation_loss_that_is_not_finite(tmp_path: Path) -> None:
    losses = iter([2.0, math.nan])
    recorder = Recorder()
    trainer = tiny_trainer(
        tmp_path, validate=lambda _: next(losses), listener=recorder, validation_interval=2
    )
    good = tmp_path / "checkpoints/step-2"
    with pytest.raises(TrainingError, match=rf"step 4: validation loss nan; .* {good}; "):
        trainer.run()
    assert [record.step for record, _ in recorder.validations] == [2]
    assert step_names(tmp_path / "checkpoints") == ["step-2"]


def test_a_start_whose_loss_is_not_finite_is_not_blamed_on_the_rate(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, validate=lambda _: math.nan)
    trainer.begins_trained = True
    with pytest.raises(TrainingError, match=r"^step 0: .* before anything was trained: look at"):
        trainer.run()


def test_a_validation_that_fails_loses_no_more_than_the_steps_since_the_last_checkpoint(
    tmp_path: Path,
) -> None:
    def fail(model: DecoderLM) -> float:
        raise RuntimeError("out of memory")

    trainer = tiny_trainer(tmp_path, validate=fail, checkpoint_interval=2, validation_interval=5)
    with pytest.raises(RuntimeError, match="out of memory"):
        trainer.run()
    assert newest(tmp_path / "checkpoints") == tmp_path / "checkpoints/step-4"


def test_the_command_line_names_it_in_one_line_and_a_lower_rate_goes_on(
    tmp_path: Path, cache: Path, processes: Processes
) -> None:
    context = tiny_run(tmp_path / "run", cache, "training.max_steps=20")
    stop_at(context, 7)
    run = str(context.folder)
    quiet = ("-o", "training.checkpoint_interval=100", "-o", "training.validation_interval=100")
    rate = ("-o", "training.learning_rate=1e30")
    status, errors = processes.run(["train", "--resume", run, *quiet, *rate], tmp_path)
    assert status == 1
    last = errors.splitlines()[-1]
    assert last.startswith("tinylm: step 9: loss ")
    advised = f"tinylm train --resume {run} -o training.learning_rate=3e+29"
    assert f"checkpoints/step-7; go on with a lower rate: {advised}; training.grad" in last
    assert "Traceback" not in errors
    rate = ("-o", "training.learning_rate=1e-3")
    status, errors = processes.run(["train", "--resume", run, *rate], tmp_path)
    assert status == 0, errors
    assert str((context.folder / "checkpoints/last").readlink()) == "step-20"
    assert all_finite(context.folder)


def test_a_checkpoint_saved_just_before_may_be_spoiled_and_that_is_said(tmp_path: Path) -> None:
    trainer = tiny_trainer(
        tmp_path, spoiled(tiny_model(), 3, math.nan), checkpoint_interval=1, validation_interval=9
    )
    good = tmp_path / "checkpoints/step-2"
    with pytest.raises(TrainingError) as caught:
        trainer.run()
    assert f"{good} (delete it if going on from it fails at once); LOWER" in str(caught.value)


# --- disk full ---

SAVING = ("training.checkpoint_interval=3", "training.log_interval=1", "training.max_steps=20")


def test_a_file_that_cannot_grow(tmp_path: Path, cache: Path, processes: Processes) -> None:
    """The optimizer's state does not fit; the run goes on once it does, bit for bit."""
    steady = tiny_run(tmp_path / "steady", cache, *SAVING)
    run_experiment("training", steady)
    context = tiny_run(tmp_path / "run", cache, *SAVING)
    stop_at(context, 7)
    run = context.folder
    size = (run / "checkpoints/last/training.safetensors").stat().st_size
    status, errors = processes.run(["train", "--resume", str(run)], tmp_path, size - 1)
    assert status == 1
    assert errors.splitlines()[-1] == (
        f"tinylm: cannot write checkpoint {run / 'checkpoints/step-9'}: File too large; the last "
        f"good one is {run / 'checkpoints/step-7'}; then go on: tinylm train --resume {run}"
    )
    assert "Traceback" not in errors
    assert step_names(run / "checkpoints") == ["step-6", "step-7"]
    assert all_finite(run)
    status, errors = processes.run(["train", "--resume", str(run)], tmp_path)
    assert status == 0, errors
    for name in ("model.safetensors", "training.safetensors"):
        left, right = run / "checkpoints/last" / name, steady.folder / "checkpoints/last" / name
        assert left.read_bytes() == right.read_bytes()
    assert metrics_without_clock(run) == metrics_without_clock(steady.folder)
    assert state_without_clock(run / "checkpoints/last") == state_without_clock(
        steady.folder / "checkpoints/last"
    )


def stop_at(context: Context, step: int) -> None:
    """Train a run up to a step and no further, as a signal would."""
    plain = Trainer._take_step

    def stepping(trainer: Trainer) -> bool:
        ended = plain(trainer)
        if trainer.step == step:
            trainer._save()
            raise InterruptedError
        return ended

    with pytest.MonkeyPatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(Trainer, "_take_step", stepping)
        run_experiment("training", Context(context.folder, context.config, SilentConsole()))


def test_metrics_that_cannot_grow(tmp_path: Path, cache: Path, processes: Processes) -> None:
    context = tiny_run(tmp_path / "run", cache, *SAVING)
    stop_at(context, 7)
    metrics = context.folder / "metrics.jsonl"
    status, errors = processes.run(
        ["train", "--resume", str(context.folder)], tmp_path, metrics.stat().st_size + 50
    )
    assert status == 1
    assert errors.splitlines()[-1] == (
        f"tinylm: cannot write the metrics in {context.folder}: File too large; checkpoints are "
        f"untouched: make room, then go on: tinylm train --resume {context.folder}"
    )
    assert "Traceback" not in errors
    assert all_finite(context.folder)
    status, errors = processes.run(["train", "--resume", str(context.folder)], tmp_path)
    assert status == 0, errors
    steps = [r["step"] for r in metrics_without_clock(context.folder) if r["kind"] == "train"]
    assert steps == list(range(1, 21))


def test_data_that_cannot_be_written_is_named(tmp_path: Path, processes: Processes) -> None:
    config = write_config(tmp_path / "run.yaml", tmp_path / "empty-cache")
    status, errors = processes.run(["train", "--config", str(config)], tmp_path, 2000)
    assert status == 1
    last = errors.splitlines()[-1]
    assert last.startswith(f"tinylm: {tmp_path / 'empty-cache'}/")
    assert "File too large" in last
    assert not [path for path in (tmp_path / "empty-cache").rglob("*") if path.is_file()]


@pytest.mark.parametrize("full_at", range(7))
def test_a_disk_that_fills_up_at_any_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_at: int
) -> None:
    """The second checkpoint fails at its n-th write; the first stays, and nothing else does."""
    trainer = tiny_trainer(tmp_path, checkpoint_interval=2, max_steps=4, validation_interval=9)
    writes = [0]
    plain = os.fsync

    def fsync(descriptor: int) -> None:
        if trainer.step == 4:
            writes[0] += 1
            if writes[0] == full_at + 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        plain(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    folder = tmp_path / "checkpoints"
    with pytest.raises(CheckpointError) as caught:
        trainer.run()
    assert str(caught.value) == (
        f"cannot write checkpoint {folder / 'step-4'}: No space left on device; the last good one "
        f"is {folder / 'step-2'}; then go on: GO ON"
    )
    assert step_names(folder) == ["step-2"]
    assert damage(folder / "step-2") is None
    assert load_checkpoint(tmp_path / "checkpoints/last").path.resolve().name == "step-2"


def test_a_disk_full_at_the_first_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(writing, "_write", full)
    with pytest.raises(CheckpointError, match=r"No space left on device; there is no earlier one;"):
        tiny_trainer(tmp_path).run()
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_full_disk_in_tensorboard_or_at_closing_is_one_line(tmp_path: Path) -> None:
    class Full:
        def add_scalar(self, *_: Any) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def close(self) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    tracker = tracking.Tracker(tmp_path, tracking.TrainingConfig(tensorboard=False), 0)
    tracker._board = Full()
    for write in (lambda: tracker.write("train", {"step": 1, "loss": 1.0}), tracker.close):
        with pytest.raises(TrainingError, match=r"cannot write the metrics in .*: No space left"):
            write()


def test_a_result_that_cannot_be_written_leaves_the_run_to_be_gone_on_with(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = tiny_run(tmp_path / "run", cache)
    with monkeypatch.context() as patch:
        plain = os.fsync

        def fsync(descriptor: int) -> None:
            if (context.results).exists():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            plain(descriptor)

        patch.setattr(atomic.os, "fsync", fsync)
        with pytest.raises(OSError, match="No space left") as caught:
            run_experiment("training", context)
    assert caught.value.filename == str(context.results / "training.json")
    assert run_experiment("training", context)["steps"] == 12
