"""On-policy distillation: the student's own texts, scored by the teacher (GKD).

Agarwal et al. 2024, algorithm 1: with a probability of ``own_share`` a batch is continuations that
the student draws from its own distribution, after the beginnings of training texts; else it is a
batch of training texts. The loss is a generalised Jensen-Shannon divergence; no gradient goes
through what was drawn. A student that has seen only true texts meets at generation states that it
never learned; here it learns in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from tinylm.compression.divergences import jensen_shannon
from tinylm.config import GenerationConfig
from tinylm.config.distillation import OnPolicyConfig
from tinylm.data.windows import Batch, story_rows
from tinylm.errors import DataError
from tinylm.generation.engine import SpecialIds, generate
from tinylm.model.base import GenerativeModel
from tinylm.tasks.distillation.base import Distillation, Lesson
from tinylm.tokenizers.base import EOS_ID, PAD_ID, SOS_ID, UNK_ID

_SPECIAL = SpecialIds(PAD_ID, SOS_ID, EOS_ID, UNK_ID)
_SEEDS = 2**31


@dataclass(frozen=True)
class OwnTexts(Batch):
    """The student's own texts: what follows the prompt counts, and no label of it is true."""


class OnPolicy(Distillation):
    """The generalised Jensen-Shannon divergence, in training texts and in the student's own."""

    Settings = OnPolicyConfig
    label = "on-policy"
    noun = "on-policy distillation"
    explanation = (
        "*On-policy* distillation [[agarwal2024]] has the teacher score texts that the student "
        "draws itself, by a generalised Jensen-Shannon divergence."
    )

    def begin(self, lesson: Lesson) -> None:
        """Begin with no batch drawn.

        Raises:
            DataError: if the beginning of a text leaves no room in the context.
        """
        self.seed = lesson.seed
        self.drawn = 0
        self.prompt = self.settings.prompt_tokens + 1  # with <sos>
        if self.settings.own_share and self.prompt > self.windows.context_length:
            context = self.windows.context_length
            raise DataError(
                f"prompt_tokens = {self.settings.prompt_tokens} leaves no room in the student's "
                f"context of {context}: give {context - 1} at most"
            )

    def prepare(self, model: GenerativeModel, batch: Batch) -> Batch:
        """Return the batch, or as many texts of the student's own in its place."""
        random = np.random.default_rng((self.seed, self.drawn))
        self.drawn += 1
        if random.random() >= self.settings.own_share:
            return batch
        texts = self.windows.texts
        stories = [texts[i] for i in random.choice(len(texts), len(batch.ids))]
        prompts = [self.windows.tokens.beginning(int(i), self.prompt) for i in stories]
        pairs = self.windows.tokens.header.pairs
        longest = max(map(len, prompts)) if pairs else self.prompt
        config = GenerationConfig(
            strategy="sampling",
            # What the context holds: the last token is only predicted.
            max_new_tokens=self.windows.context_length + 1 - longest,
            temperature=1.0,
            top_p=1.0,
            allow_unk=True,
            seed=int(random.integers(_SEEDS)),
        )
        written = [
            [*prompt, *text.ids, *([EOS_ID] if text.finished else [])]
            for prompt, text in zip(
                prompts, generate(model, prompts, config, _SPECIAL), strict=True
            )
        ]
        rows = story_rows(written, [len(prompt) for prompt in prompts])
        return OwnTexts(rows.ids, rows.labels, rows.real, rows.given)

    def divergence(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Return the generalised Jensen-Shannon divergence of each row."""
        return jensen_shannon(student, teacher, temperature, self.settings.beta)

    def alpha(self, batch: Batch) -> float:
        """Return 1 for the student's own texts, of which no label is true."""
        return 1.0 if isinstance(batch, OwnTexts) else super().alpha(batch)

    def state(self) -> dict[str, Any]:
        """Return how many batches were drawn, from which all that is drawn follows."""
        return {"drawn": self.drawn}

    def restore(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Go on after the batches that were drawn."""
        self.drawn = state["drawn"]
