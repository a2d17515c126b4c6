"""Rankings of a model's own samples by a reward that can be measured.

Everything about preferences then runs offline, and the true reward behind them is known. With a
rate of wrong labels, that share of the rankings is turned round, the worst response first: of two
responses the wrong one is then preferred with exactly that probability, whatever their number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tinylm.alignment.log_probabilities import sample_responses
from tinylm.alignment.samples import Reward, Sample
from tinylm.data.preferences import WrittenRanking
from tinylm.model.base import GenerativeModel
from tinylm.tokenizers.base import Tokenizer

ROWS = 256
"""Responses that are drawn at once."""
_SEEDS = 2**31
_LOTS = 1_000_033
"""Beside the seed of the responses, so that what is turned round does not hang on them."""


@dataclass(frozen=True)
class Ranked:
    """Rankings of own samples."""

    rankings: Sequence[WrittenRanking]
    scores: Sequence[tuple[float, ...]]
    """What the reward gives to each response of each ranking."""
    turned: int
    """Rankings that are wrong on purpose."""
    alike: int
    """Prompts whose responses all earned the same, or were the same: there is no preference."""
    tokens: int = 0
    """Of all responses that were drawn."""
    unread: int = 0
    """Prompts that were left out, since their text is not read as the ids that they were of."""


def rank_samples(
    model: GenerativeModel,
    tokenizer: Tokenizer,
    reward: Reward,
    prompts: Sequence[Sequence[int]],
    responses: int,
    most: int,
    seed: int,
    wrong: float = 0.0,
    temperature: float = 1.0,
    progress: Callable[[float], None] = lambda prompts: None,
) -> Ranked:
    """Draw responses to every prompt and rank them by what they earn.

    A prompt whose text is not read as its ids, for it holds words that the tokenizer does not know,
    is left out: in a file it would be another one. A response that another one to the same prompt
    equals is left out, and so is one whose text is not read as the ids that it was made of.

    Args:
        model: any mode; it is evaluated without dropout and put back.
        tokenizer: of the model.
        reward: what is good; equal rewards are ties.
        prompts: token ids, ``<sos>`` first.
        responses: drawn to each prompt, two or more.
        most: tokens of a response.
        seed: of the responses, and of which rankings are turned round.
        wrong: share of the rankings that are turned round, in [0, 1].
        temperature: of the samples.
        progress: called with the number of prompts that are answered.

    Raises:
        AlignmentError: if a reward is not finite.
    """
    rankings: list[WrittenRanking] = []
    scores: list[tuple[float, ...]] = []
    turned = alike = tokens = unread = 0
    at_once = max(1, ROWS // responses)
    for first in range(0, len(prompts), at_once):
        asked = [prompt for prompt in prompts[first : first + at_once] for _ in range(responses)]
        of_batch = int(np.random.default_rng((seed, first)).integers(_SEEDS))
        samples = sample_responses(model, asked, most, of_batch, temperature)
        tokens += sum(len(sample.response) for sample in samples)
        for row in range(0, len(samples), responses):
            if not _is_read(samples[row].prompt, tokenizer):
                unread += 1
                continue
            different = _different(samples[row : row + responses], tokenizer)
            earned = reward(different) if different else []
            if len(set(earned)) < 2:
                alike += 1
                continue
            lot = np.random.default_rng((seed, _LOTS, first + row // responses)).random()
            turn = bool(lot < wrong)
            order = sorted(set(earned), reverse=not turn)
            turned += turn
            scores.append(tuple(earned))
            rankings.append(
                WrittenRanking(
                    prompt=tokenizer.decode(list(different[0].prompt)),
                    responses=tuple(_text(sample, tokenizer) for sample in different),
                    ranks=tuple(order.index(each) for each in earned),
                    finished=tuple(sample.finished for sample in different),
                )
            )
        progress(min(first + at_once, len(prompts)))
    return Ranked(rankings, scores, turned, alike, tokens, unread)


def _is_read(prompt: Sequence[int], tokenizer: Tokenizer) -> bool:
    """Whether the text of a prompt is read as its ids, ``<sos>`` left aside."""
    return tokenizer.encode(tokenizer.decode(list(prompt))) == list(prompt[1:])


def _different(samples: Sequence[Sample], tokenizer: Tokenizer) -> list[Sample]:
    """Return the samples that differ and whose text is read as the same ids."""
    once = {sample.ids: sample for sample in samples}
    return [
        sample
        for sample in once.values()
        if (text := _text(sample, tokenizer)).strip()
        and tuple(tokenizer.encode(text)) == sample.ids
    ]


def _text(sample: Sample, tokenizer: Tokenizer) -> str:
    """Return a response as it stands after its prompt, its space included."""
    prompt = tokenizer.decode(list(sample.prompt))
    return tokenizer.decode([*sample.prompt, *sample.ids])[len(prompt) :]
