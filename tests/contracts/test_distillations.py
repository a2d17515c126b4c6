"""What every distillation method of the registry must hold."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.tiny import (
    Recorder,
    state_without_clock,
    tiny_model,
    tiny_tokenizer,
    tiny_windows,
)
from tinylm.checkpoint import load_checkpoint, load_training_state
from tinylm.config import TrainingConfig, field_help, to_dict
from tinylm.config.distillation import SequenceConfig
from tinylm.model.weights import load_weights
from tinylm.registry import DISTILLATIONS
from tinylm.report.references import REFERENCES
from tinylm.tasks.distillation.base import Distillation, Lesson
from tinylm.training.loop import Trainer

SETTINGS: dict[str, dict[str, Any]] = {"on-policy": {"prompt_tokens": 2}}
STEPS, BETWEEN = 8, 4


@pytest.mark.parametrize("name", DISTILLATIONS)
def test_it_says_what_it_is(name: str) -> None:
    method = DISTILLATIONS.load(name)
    fields = to_dict(method.Settings())
    assert set(re.findall(r"\[\[(\w+)\]\]", method.explanation)) <= REFERENCES.keys()
    assert "[[" in method.explanation
    assert dict(field_help(method.Settings)).keys() == fields.keys()
    assert all(dict(field_help(method.Settings)).values())
    assert method.from_teacher == issubclass(method.Settings, SequenceConfig)
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.Settings().seed = 3


def trainer(name: str, folder: Path, **changed: Any) -> Trainer:
    """A training of a student of one layer by a teacher of two, of another width."""
    method: type[Distillation] = DISTILLATIONS.load(name)
    student = tiny_model(dropout=0.2)
    teacher = tiny_model(seed=3, num_layers=2, hidden_size=24, dropout=0.3)
    settings = method.Settings(**SETTINGS.get(name, {}))
    folder.mkdir(exist_ok=True)
    windows = tiny_windows(folder)
    lesson = Lesson(teacher, settings, student.config, 0)
    task = method(lesson, tiny_tokenizer(), windows, windows, 4)
    settings_of_training: dict[str, Any] = {
        "device": "cpu",
        "threads": 1,
        "batch_size": 3,
        "max_steps": STEPS,
        "accumulation_steps": 2,
        "checkpoint_interval": BETWEEN,
        "validations": 1,
        "learning_rate": 1e-2,
    }
    config = method.suited(TrainingConfig(**{**settings_of_training, **changed}))
    return Trainer(student, task, config, folder / "checkpoints", Recorder())


@pytest.mark.usefixtures("keep_threads")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", DISTILLATIONS)
def test_it_goes_on_bit_for_bit(name: str, precision: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    whole = trainer(name, tmp_path / "whole", precision=precision)
    assert whole.run().step == STEPS
    resumed = trainer(name, tmp_path / "resumed", precision=precision)
    torch.manual_seed(99)  # whatever the process did before
    path = tmp_path / f"whole/checkpoints/step-{BETWEEN}"
    load_weights(resumed.model, load_checkpoint(path).weights, path)
    resumed.restore(load_training_state(path))
    assert resumed.run().step == STEPS
    ends = [folder.checkpoints / f"step-{STEPS}" for folder in (whole, resumed)]
    for file in ("model.safetensors", "training.safetensors", "config.json"):
        assert (ends[0] / file).read_bytes() == (ends[1] / file).read_bytes(), file
    assert state_without_clock(ends[0]) == state_without_clock(ends[1])
    # The student is a plain model of its sizes: nothing of the teacher is in it.
    kept = load_checkpoint(ends[0])
    assert not kept.changes
    assert kept.build_language_model().parameter_counts() == tiny_model().parameter_counts()


@pytest.mark.parametrize("name", DISTILLATIONS)
def test_a_student_learns(name: str, tmp_path: Path) -> None:
    made = trainer(name, tmp_path, max_steps=40, learning_rate=2e-2, checkpoint_interval=0)
    made.run()
    listener = made.listener
    assert isinstance(listener, Recorder)
    losses = [loss for _, loss in listener.steps]
    assert sum(losses[-8:]) < 0.9 * sum(losses[:8])
