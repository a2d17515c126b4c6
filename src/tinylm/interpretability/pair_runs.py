"""A pair of prompts run once each, and the scale on which every patch between them is measured.

The clean prompt makes the right answer likely, the corrupted one, of the same length, the wrong
answer. What is measured is the logit difference after the last token, the logit of the right answer
less that of the wrong one, put on a scale where the corrupted run is 0 and the clean run 1. A
difference of logits does not move when both rise or fall together, and is linear in the stream that
the unembedding reads (Wang et al. 2023, "Interpretability in the Wild", section 2; Heimersheim and
Nanda 2024, "How to use and interpret activation patching", section 4).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from tinylm.errors import ConfigError, GenerationError
from tinylm.interpretability.trace import Trace, trace
from tinylm.model.base import GenerativeModel

LEAST_DIFFERENCE = 1e-3
"""Change of the logit difference from the corrupted prompt to the clean one, up to which nothing
can be put on its scale: in float32 a patch's effect would be divided by what is mostly rounding."""

Direction = Literal["denoising", "noising"]
"""``denoising``: clean activations into the corrupted run, which shows what suffices.

``noising``: corrupted activations into the clean run, which shows what is needed. They are not
mirror images: of two parts that can stand in for one another each suffices and none is needed.
"""


@dataclass(frozen=True)
class TokenPair:
    """Two prompts as token ids, ``<sos>`` included, and what follows each."""

    clean: tuple[int, ...]
    corrupted: tuple[int, ...]
    answer: int
    """What follows the clean prompt."""
    wrong: int
    """What follows the corrupted prompt."""


@dataclass(frozen=True, eq=False)
class PairRuns:
    """Both runs of a pair, with all activations."""

    pair: TokenPair
    clean: Trace = field(repr=False)
    """Of one text."""
    corrupted: Trace = field(repr=False)
    """Of one text."""
    clean_difference: float
    """Logit of the right answer less that of the wrong one, after the clean prompt."""
    corrupted_difference: float
    """The same after the corrupted prompt."""

    @property
    def model(self) -> GenerativeModel:
        """What was run."""
        return self.clean.model

    @property
    def length(self) -> int:
        """Tokens of each prompt."""
        return len(self.pair.clean)

    @property
    def first_changed(self) -> int:
        """Position of the first token that differs; before it both runs are the same."""
        pairs = zip(self.pair.clean, self.pair.corrupted, strict=True)
        return next(i for i, (a, b) in enumerate(pairs) if a != b)

    @property
    def scale(self) -> float:
        """What is 1: the clean logit difference less the corrupted one."""
        return self.clean_difference - self.corrupted_difference

    def base_and_source(self, direction: Direction) -> tuple[Trace, Trace]:
        """Return the run that is patched, and the one that activations are taken from."""
        if direction == "denoising":
            return self.corrupted, self.clean
        return self.clean, self.corrupted

    def logit_difference(self, logits: Tensor) -> Tensor:
        """Return the right answer's logit less the wrong one's, (...), of logits (..., vocab)."""
        return logits[..., self.pair.answer] - logits[..., self.pair.wrong]

    def normalised(self, logits: Tensor) -> Tensor:
        """Return where logits, (..., vocab), stand between the corrupted run, 0, and the clean, 1.

        Both runs' own logits come out as exactly 0 and 1.
        """
        both = logits[..., [self.pair.answer, self.pair.wrong]].double()
        difference = both[..., 0] - both[..., 1]
        return (difference - self.corrupted_difference) / self.scale


def run_pair(model: GenerativeModel, pair: TokenPair) -> PairRuns:
    """Run both prompts of a pair.

    Args:
        model: any device and precision.
        pair: prompts of one length.

    Raises:
        GenerationError: if the prompts are of different lengths or the same, the answers are the
            same or no tokens, or a prompt cannot be read.
        ConfigError: if the model's answers to the two prompts differ so little that no patch can be
            measured by it.
    """
    clean, corrupted = pair.clean, pair.corrupted
    if len(clean) != len(corrupted):
        raise GenerationError(
            f"the clean prompt has {len(clean)} tokens and the corrupted one {len(corrupted)}: "
            "exchange words for words of as many tokens"
        )
    if clean == corrupted:
        raise GenerationError("the two prompts are the same: exchange a word in the corrupted one")
    if pair.answer == pair.wrong:
        raise GenerationError("the right and the wrong answer are the same token: give two")
    vocab_size = model.config.resolved_vocab_size
    for token in (pair.answer, pair.wrong):
        if not 0 <= token < vocab_size:
            raise GenerationError(f"token id {token} is outside the vocabulary of {vocab_size}")
    # One after the other, not as a batch: the same shapes give the same bits.
    runs = [trace(model, [prompt]) for prompt in (clean, corrupted)]
    differences = [
        float(logits[pair.answer].double() - logits[pair.wrong].double())
        for logits in (run.logits[0, -1] for run in runs)
    ]
    if not abs(differences[0] - differences[1]) > LEAST_DIFFERENCE:
        raise ConfigError(
            f"the logit difference of the two answers is {differences[0]:.4f} after the clean "
            f"prompt and {differences[1]:.4f} after the corrupted one: patches between runs that "
            f"differ by no more than {LEAST_DIFFERENCE} cannot be measured; take a pair that the "
            "model tells apart"
        )
    return PairRuns(pair, runs[0], runs[1], *differences)


def right_answers(clean: Tensor, corrupted: Tensor) -> list[float]:
    """Return the share of a pair's two prompts after which the right answer leads: 0, 0.5 or 1.

    A model that does not see the exchanged words answers both prompts of a pair alike, and so has
    one half of every pair right.

    Args:
        clean: logit differences after the clean prompts, (pairs,).
        corrupted: after the corrupted ones, where the other answer is right, (pairs,).
    """
    right: list[float] = ((clean > 0).double() + (corrupted < 0).double()).div(2).tolist()
    return right


def effect(values: Tensor, direction: Direction) -> Tensor:
    """Return how far patches take a run to the other one's value, from 0, none, to 1, all the way.

    Args:
        values: normalised logit differences.
        direction: of the patches.
    """
    return values if direction == "denoising" else 1 - values
