"""Hidden-state matching beside word-level distillation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tinylm.compression.layer_matching import Projections, matched_layers
from tinylm.config import TrainingConfig
from tinylm.config.distillation import HiddenConfig
from tinylm.data.windows import IGNORED, Batch
from tinylm.errors import ConfigError
from tinylm.model.base import GenerativeModel
from tinylm.tasks.distillation.base import Lesson
from tinylm.tasks.distillation.word import WordLevel


class HiddenStates(WordLevel):
    """Word-level, with the mean squared difference of layers (``compression.layer_matching``)."""

    Settings = HiddenConfig
    label = "word-level and hidden states"
    noun = "distillation of words and hidden states"
    explanation = (
        "*Hidden-state matching* [[romero2015]] [[jiao2020]] is word-level distillation that also "
        "draws a learned projection of the student's residual stream to the teacher's, layer by "
        "layer, mapped evenly."
    )

    def begin(self, lesson: Lesson) -> None:
        """Draw the projections, which are trained with the student."""
        student, teacher = lesson.student, lesson.teacher.config
        self.projections = self.beside = Projections(
            student.num_layers, student.hidden_size, teacher.hidden_size, lesson.seed
        )
        matched = matched_layers(student.num_layers, teacher.num_layers)
        self.own_names = [_name(layer) for layer in range(student.num_layers)]
        self.wanted_names = [_name(layer) for layer in matched]

    @classmethod
    def suited(cls, training: TrainingConfig) -> TrainingConfig:
        """Return the settings without compiling, which keeps no activation of a layer.

        Raises:
            ConfigError: for settings that do not keep them.
        """
        for name, off in (("gradient_checkpointing", "0"), ("compile", "false")):
            value = getattr(training, name)
            if value not in (0, False, "auto"):
                raise ConfigError(
                    f"training.{name} = {str(value).lower()}: matching hidden states needs the "
                    f"activations of every layer: give -o training.{name}={off}, or another "
                    "--method"
                )
        return replace(super().suited(training), compile=False)

    def loss(self, model: GenerativeModel, batch: Batch) -> tuple[Tensor, int]:
        """Return the summed loss of the student; see ``Task.loss``."""
        teacher = self.teacher_on(batch.ids.device)
        with torch.no_grad():
            taught, wanted = _residuals(teacher, batch, self.wanted_names)
        x, own = _residuals(model, batch, self.own_names)
        if self.alpha(batch) == 0:
            loss = model.summed_loss(x, batch.labels, IGNORED)
        else:
            loss = self.taught_loss(model, x, taught, batch)
        apart: Tensor = self.projections(own, wanted)
        return loss + self.settings.hidden_weight * apart, batch.num_targets


def _name(layer: int) -> str:
    return f"layers.{layer}.residual"


def _residuals(
    model: GenerativeModel, batch: Batch, names: Sequence[str]
) -> tuple[Tensor, list[Tensor]]:
    """Return the last residual stream, (batch, seq, hidden), and named ones, (targets, hidden)."""
    counted = batch.labels != IGNORED
    kept: dict[str, Tensor] = {}

    def keep(name: str, activation: Tensor) -> None:
        # A kind that reads places before those that it returns has activations of them, too.
        kept[name] = activation[:, -counted.shape[1] :][counted]

    hooks = model.hooks(dict.fromkeys(names, keep))
    x = model.read(batch, hooks)
    return x, [kept[name] for name in names]
