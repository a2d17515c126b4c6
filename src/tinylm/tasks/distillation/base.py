"""What every distillation has: a teacher beside the student's batches, and a loss by it.

The teacher reads the same inputs as the student, in eval mode and without gradients. Padding is
told by the labels that a batch marks as ignored, never by an id: where padding and the end of a
text share an id, the end still counts. The loss is a sum over the real targets and is divided by
their number, over the whole optimizer step (``training.accumulation``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from tinylm.compression.by_rows import rows_at_once, summed_by_rows
from tinylm.config import ModelConfig, TrainingConfig
from tinylm.data.windows import IGNORED, Batch, Windows
from tinylm.errors import ConfigError
from tinylm.model.base import GenerativeModel
from tinylm.model.loss import token_losses
from tinylm.tasks.language_modelling import LanguageModelling
from tinylm.tokenizers.base import Tokenizer


@dataclass(frozen=True)
class Lesson:
    """What a distillation is made of, beside texts."""

    teacher: GenerativeModel
    """In eval mode; it is not trained."""
    settings: Any
    """Of the type ``Settings`` of the method."""
    student: ModelConfig
    seed: int
    """Of what the method draws."""


class Distillation(LanguageModelling):
    """One way to learn from a teacher: what entries of the registry DISTILLATIONS derive from."""

    Settings: ClassVar[type]
    """The frozen dataclass of its settings."""
    label: ClassVar[str]
    """Its name in a table or a figure."""
    noun: ClassVar[str]
    """Its name in a sentence, such as ``word-level distillation``."""
    explanation: ClassVar[str]
    """A sentence of the report, as inline markup: what the student learns, with the source."""
    by_labels: ClassVar[bool] = False
    """Whether nothing but the next token of its texts is learned, so that a state can be carried
    (``tasks.carried``): a teacher's answers to a window know of none."""
    from_teacher: ClassVar[bool] = False
    """Whether it trains on texts that the teacher writes; ``Settings`` then derives from
    ``SequenceConfig``."""

    def __init__(
        self,
        lesson: Lesson,
        tokenizer: Tokenizer,
        windows: Windows,
        validation: Windows,
        batch_size: int,
        subset: Sequence[int] | None = None,
        measure_training: bool = False,
    ) -> None:
        """Train a student on windows, and validate it as any model (``LanguageModelling``).

        Args:
            lesson: the teacher and the method's settings.
            tokenizer: of both.
            windows: trained on.
            validation: held out.
            batch_size: windows in a forward pass of a validation.
            subset: windows that a validation reads; None: all.
            measure_training: whether the loss on training windows is measured, too.
        """
        super().__init__(tokenizer, windows, validation, batch_size, subset, measure_training)
        self.teacher = lesson.teacher.eval().requires_grad_(False)
        self.held = {"the teacher": self.teacher.config}
        self.settings = lesson.settings
        self.begin(lesson)

    def begin(self, lesson: Lesson) -> None:
        """Make what the method has beside the teacher, once the texts are known."""

    @classmethod
    def suited(cls, training: TrainingConfig) -> TrainingConfig:
        """Return the settings of a training by this method.

        Raises:
            ConfigError: if it cannot be trained by these.
        """
        if training.carry_state and not cls.by_labels:
            raise ConfigError(
                f"training.carry_state = true: in {cls.noun} the teacher reads every window anew "
                "and knows no state: give -o training.carry_state=false, or train without a teacher"
            )
        return training

    def divergence(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Return the divergence of each row; shapes as in ``compression.divergences``."""
        raise NotImplementedError

    def alpha(self, batch: Batch) -> float:
        """Return the share of the divergence in the loss of a batch; 0: the true labels alone."""
        alpha: float = self.settings.alpha
        return alpha

    def loss(self, model: GenerativeModel, batch: Batch) -> tuple[Tensor, int]:
        """Return the summed loss of the student; see ``Task.loss``."""
        if self.alpha(batch) == 0:
            return super().loss(model, batch)
        with torch.no_grad():
            taught = self.teacher_on(batch.ids.device).read(batch)
        x = model.read(batch)
        return self.taught_loss(model, x, taught, batch), batch.num_targets

    def taught_loss(
        self, student: GenerativeModel, x: Tensor, taught: Tensor, batch: Batch
    ) -> Tensor:
        """Return ``alpha * divergence + (1 - alpha) * cross-entropy``, summed over real targets.

        Args:
            student: gets the gradient.
            x: its residual stream, (batch, seq, hidden).
            taught: the teacher's, of the same inputs, (batch, seq, teacher's hidden).
            batch: says which positions count, and the true labels.

        Returns:
            A scalar, in nats, in float32 at least.
        """
        alpha, temperature = self.alpha(batch), self.settings.temperature
        counted = batch.labels != IGNORED
        labels, wanted = batch.labels[counted], taught[counted]  # (targets,), (targets, hidden)

        def of_rows(rows: Tensor, part: slice) -> Tensor:
            logits = student.unembed(rows)  # (rows, vocab)
            with torch.no_grad():
                target = self.teacher.unembed(wanted[part])
            loss = alpha * self.divergence(logits, target, temperature).sum()
            if alpha < 1:  # at a temperature of 1, whatever the divergence's
                true = token_losses(logits[None], labels[None, part], IGNORED)
                loss = loss + (1 - alpha) * true.sum()
            return loss

        parameters = list(student.unembedding.parameters())
        size = rows_at_once(student.config.resolved_vocab_size)
        return summed_by_rows(of_rows, x[counted], parameters, size)

    def teacher_on(self, device: torch.device) -> GenerativeModel:
        """Return the teacher, on the student's device."""
        if self.teacher.embedding.weight.device != device:
            self.teacher.to(device)
        return self.teacher
