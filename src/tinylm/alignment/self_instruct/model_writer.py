"""A writer that is a model of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tinylm.alignment.log_probabilities import SPECIAL
from tinylm.alignment.self_instruct.writer import Request, Written, cut
from tinylm.config import GenerationConfig
from tinylm.errors import AlignmentError
from tinylm.generation.engine import generate
from tinylm.generation.streams import equal_before
from tinylm.model.base import GenerativeModel
from tinylm.tokenizers.base import SOS_ID, Tokenizer

ROWS = 32
"""Prompts that are answered at once."""


class ModelWriter:
    """Samples of a model; the same prompts, request and model give the same answers."""

    needs_examples = False
    repeatable = True

    def __init__(self, model: GenerativeModel, tokenizer: Tokenizer, name: str) -> None:
        """Write with a model.

        Args:
            model: any mode; it is evaluated without dropout and put back.
            tokenizer: of the model.
            name: what identifies its weights.
        """
        self.model = model
        self.tokenizer = tokenizer
        self.name = name

    def describe(self) -> dict[str, Any]:
        """Return what it is; see ``Writer``."""
        return {"model": self.name}

    def ids(self, prompt: str) -> list[int]:
        """Return ``<sos>`` and the ids of a prompt."""
        return [SOS_ID, *self.tokenizer.encode(prompt)]

    def fits(self, prompt: str, most: int | None) -> bool:
        """Whether prompt and answer fit in the context; see ``Writer``."""
        return len(self.ids(prompt)) + (most or 1) <= self.model.config.context_length

    def write(
        self,
        prompts: Sequence[str],
        request: Request,
        progress: Callable[[float], None] = lambda share: None,
    ) -> list[Written]:
        """Sample an answer to each prompt; see ``Writer``.

        Raises:
            AlignmentError: if a prompt fills the context.
        """
        every = [self.ids(prompt) for prompt in prompts]
        numbers = equal_before(every)  # equal prompts of different batches get different answers
        written: list[Written] = []
        for first in range(0, len(every), ROWS):
            batch = slice(first, first + ROWS)

            def done(share: float, first: int = first, rows: int = len(every[batch])) -> None:
                progress((first + share * rows) / len(every))

            written += self._write(every[batch], numbers[batch], request, done)
        return written

    def _write(
        self,
        rows: Sequence[Sequence[int]],
        numbers: Sequence[int],
        request: Request,
        progress: Callable[[float], None],
    ) -> list[Written]:
        context = self.model.config.context_length
        longest = max(map(len, rows))
        if longest >= context:
            raise AlignmentError(
                f"a prompt of {longest:,} tokens fills the context of {context:,}: shorten the "
                "seed tasks, or take a model with a longer one"
            )
        most = min(request.most or context, context - longest)
        config = GenerationConfig(
            strategy="sampling",
            max_new_tokens=most,
            temperature=request.temperature,
            top_p=request.top_p,
            seed=request.seed,
        )
        texts = generate(
            *(self.model, rows, config, SPECIAL),
            numbers=numbers,
            progress=lambda steps: progress(steps / most),
        )
        written = []
        for text in texts:
            # Alone, so that it begins with a capital where a text does.
            answer, stopped = cut(self.tokenizer.decode(text.ids), request.stop)
            written.append(Written(answer, text.finished or stopped))
        return written
