"""Word-level distillation: the student learns the teacher's distribution of each next word."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from tinylm.compression.divergences import forward_kl, reverse_kl
from tinylm.config.distillation import ReverseConfig, WordConfig
from tinylm.tasks.distillation.base import Distillation


class WordLevel(Distillation):
    """By the forward KL, mixed with the loss of the true labels."""

    Settings: ClassVar[type] = WordConfig
    label = "word-level"
    noun = "word-level distillation"
    explanation = (
        "*Word-level* distillation [[hinton2015]] [[kim2016]] draws the student's distribution of "
        "each next word to the teacher's, by the divergence KL(teacher || student)."
    )

    def divergence(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Return the forward KL of each row."""
        return forward_kl(student, teacher, temperature)


class ReverseKL(Distillation):
    """By the reverse KL, mixed with the loss of the true labels."""

    Settings = ReverseConfig
    label = "word-level, reverse KL"
    noun = "word-level distillation by the reverse KL"
    explanation = (
        "By the *reverse* KL [[gu2024]], KL(student || teacher), the student gives up words that "
        "it cannot tell rather than spread probability over words that the teacher rules out."
    )

    def divergence(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Return the reverse KL of each row."""
        return reverse_kl(student, teacher, temperature)
