"""A reward model as a reward of samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tinylm.alignment.reward_model import RewardModel, rewards_of
from tinylm.alignment.samples import Sample
from tinylm.errors import AlignmentError


class LearnedReward:
    """What a reward model gives to a text, read to its last token."""

    label = "learned reward"

    def __init__(self, model: RewardModel, place: str, batch_size: int = 32) -> None:
        """Take a model.

        Args:
            model: in eval mode; it is not trained.
            place: where it is from, for messages.
            batch_size: texts in one forward pass.
        """
        self.model = model.eval().requires_grad_(False)
        self.place = place
        self.batch_size = batch_size

    @property
    def longest(self) -> int:
        """Tokens of prompt and response that it can read."""
        return self.model.config.context_length

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        """Return the reward of each sample.

        Raises:
            AlignmentError: if one is not finite, or a text is longer than the model can read.
        """
        texts = [sample.text for sample in samples]
        if not texts:
            return []
        if (longest := max(map(len, texts))) > self.longest:
            raise AlignmentError(
                f"{self.place} reads {self.longest:,} tokens, and a response with its prompt has "
                f"{longest:,}: give fewer with -o max_new_tokens"
            )
        rewards = rewards_of(self.model, texts, self.batch_size)
        wrong = next((reward for reward in rewards if not math.isfinite(reward)), None)
        if wrong is not None:
            raise AlignmentError(
                f"the reward model {self.place} gives {wrong:g} to a response: rewards must be "
                "finite; train it again: `tinylm reward RUN --preferences FILE --out FOLDER`"
            )
        return rewards
