"""The loop knows no objective: another one is one class, and training does all the rest."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.tasks.toy import KILLED_AFTER, STEPS, Pairs, Preference, trainer
from tests.training.tiny import Recorder, state_without_clock, tiny_model
from tinylm.config import TrainingConfig
from tinylm.errors import DataError, TrainingError
from tinylm.training.step import TrainingStep

pytestmark = pytest.mark.usefixtures("keep_threads")


def test_a_new_task_is_trained_killed_and_resumed_bit_for_bit(tmp_path: Path) -> None:
    whole, listener = tmp_path / "whole", Recorder()
    outcome = trainer(whole, listener).run()
    assert (outcome.step, outcome.reason) == (STEPS, "finished")
    losses = [record.loss for record, _ in listener.validations]
    assert losses[-1] < 0.5 * losses[0]  # it learns what it is told

    killed = tmp_path / "killed"
    ended = subprocess.run(
        [sys.executable, "-m", "tests.tasks.toy", str(killed)],
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    assert (killed / "checkpoints/step-6").exists()
    assert not (killed / f"checkpoints/step-{KILLED_AFTER}").exists()
    resumed = trainer(killed, Recorder())
    assert resumed.step == 6
    resumed.run()
    for step in (9, STEPS):
        left, right = (folder / f"checkpoints/step-{step}" for folder in (whole, killed))
        for name in ("model.safetensors", "training.safetensors", "config.json"):
            assert (left / name).read_bytes() == (right / name).read_bytes(), (step, name)
        assert state_without_clock(left) == state_without_clock(right)
        # 10 pairs in batches of 4: two steps of each epoch, of eight pairs and of two
        assert state_without_clock(right)["task"] == {"seen": (step // 2) * 10 + (step % 2) * 8}


def test_micro_batches_of_a_new_task_are_one_batch() -> None:
    task = Preference(6)
    parts = [Pairs(*task.texts[:, part]) for part in (slice(0, 1), slice(1, 6))]
    config = TrainingConfig(device="cpu", speed="plain", precision="fp32", gradient_clip=0.0)
    steps = [TrainingStep(tiny_model().double(), task.loss, config) for _ in range(2)]
    split, whole = steps[0].backward(parts), steps[1].backward([Pairs(*task.texts)])
    assert split.num_targets == whole.num_targets == 6
    assert split.loss == pytest.approx(whole.loss, rel=1e-12)
    for of_parts, of_whole in zip(
        steps[0].model.parameters(), steps[1].model.parameters(), strict=True
    ):
        torch.testing.assert_close(of_parts.grad, of_whole.grad, rtol=1e-10, atol=1e-12)


def test_a_loss_that_counts_otherwise_than_its_batch_is_refused() -> None:
    task = Preference()
    step = TrainingStep(
        tiny_model(), lambda model, batch: (task.loss(model, batch)[0], 3), TrainingConfig()
    )
    with pytest.raises(TrainingError, match="the sum over 3 targets, and its batch has 10"):
        step.backward([Pairs(*task.texts)])


def test_a_state_of_another_task_is_refused(tmp_path: Path) -> None:
    made = trainer(tmp_path, Recorder())
    state = made.state()
    other_state = replace(state, numbers={**state.numbers, "corpus": "other pairs"})
    with pytest.raises(DataError, match="was trained on corpus other pairs, the data now is toy"):
        made.restore(other_state)
