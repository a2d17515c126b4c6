"""One text that models decode greedily, so that their times can be compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tinylm.experiments.context import Context
from tinylm.generation.engine import generate
from tinylm.language_model import SPECIAL_IDS
from tinylm.model.base import GenerativeModel
from tinylm.tokenizers.base import SOS_ID, Tokenizer


class DecodedText:
    """The first prompt of the report and what comes after it, always as many tokens."""

    def __init__(self, context: Context, tokenizer: Tokenizer, tokens: int) -> None:
        """Begin a text.

        Args:
            context: of the run.
            tokenizer: of the models.
            tokens: that are decoded, or as many as the context holds.
        """
        config = context.config
        self.prompt = [SOS_ID, *tokenizer.encode(config.report.prompts[0])]
        longest = config.model.context_length + 1 - len(self.prompt)
        self.tokens = max(1, min(tokens, longest))
        """That are decoded."""
        self.greedy = replace(
            config.generation,
            strategy="greedy",
            max_new_tokens=self.tokens,
            min_new_tokens=self.tokens,
        )

    def by(self, model: GenerativeModel) -> Callable[[], object]:
        """Return a function that has a model decode it."""
        return lambda: generate(model, [self.prompt], self.greedy, SPECIAL_IDS)
