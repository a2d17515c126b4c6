"""Sequence-level distillation: the student learns the texts that the teacher writes.

Kim and Rush 2016, section 3.2: the teacher's distribution over whole texts is stood for by its
mode, which beam search approximates. The student is trained on these texts as on any; that betters
the text that greedy decoding gives and worsens the perplexity of texts that people wrote, so both
are to be looked at.
"""

from __future__ import annotations

from tinylm.config.distillation import BothConfig, SequenceConfig
from tinylm.data.windows import Batch
from tinylm.tasks.distillation.base import Distillation
from tinylm.tasks.distillation.word import WordLevel


class SequenceLevel(Distillation):
    """The loss of language modelling, on the teacher's texts."""

    Settings = SequenceConfig
    label = "sequence-level"
    noun = "sequence-level distillation"
    explanation = (
        "*Sequence-level* distillation [[kim2016]] trains the student on texts that the teacher "
        "finds by beam search from the beginnings of training texts."
    )
    by_labels = True
    from_teacher = True

    def alpha(self, batch: Batch) -> float:
        """Return 0: the teacher's texts are learned as true ones."""
        return 0.0


class Combined(WordLevel):
    """The teacher's distribution of each next word, in the teacher's texts."""

    Settings = BothConfig
    label = "word- and sequence-level"
    noun = "word- and sequence-level distillation"
    explanation = (
        "*Both* [[kim2016]]: the student learns the teacher's distribution of each next word in "
        "the texts that the teacher finds by beam search."
    )
    from_teacher = True
