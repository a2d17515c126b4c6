"""Beam search: width 1 is greedy decoding, and a wide beam's texts have the sums it says.

Prompts are beginnings of real stories, and stories but for their ``<eos>``. A second model is the
first with a preference for ``<eos>`` that makes it the likeliest next token there: its texts end,
and a beam that forgets to count the end gives another sum than scoring the text does. In float64,
so that a tie which rounding decides is no difference.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import nn

from tinylm.config import GenerationConfig
from tinylm.experiments.checks import Finding, Subject
from tinylm.experiments.checks.material import (
    device_of,
    in_float64,
    num_differing,
    spread,
    worst,
)
from tinylm.generation.engine import generate
from tinylm.generation.results import Generated
from tinylm.generation.scoring import token_log_probabilities
from tinylm.language_model import SPECIAL_IDS
from tinylm.model.base import GenerativeModel
from tinylm.tokenizers.base import EOS_ID

_STORIES = 3
_NEW_TOKENS = 16
_GIVEN = 5
_LONGEST = 48
_WIDTH = 4


class _Compared(NamedTuple):
    """What was found with one model."""

    cases: int
    difference: float
    ended: int
    """Texts of the wide beam that end with ``<eos>``."""


def run(subject: Subject) -> Finding:
    """Compare a beam of width 1 with greedy decoding, and a wider one's sums with scoring."""
    model = in_float64(subject.lm.model)
    context = model.config.context_length
    new = max(1, min(_NEW_TOKENS, context // 2))  # prompt and new tokens fit the context
    stories = spread(subject.validation, _STORIES)
    longest = min(_LONGEST, context - new)
    beginnings = [story[: min(_GIVEN, longest)] for story in stories]
    whole = [story[:-1][-longest:] for story in stories]
    prompts = beginnings + whole
    ending = _preferring_the_end(model, whole)
    # Without a length penalty no text is likelier than one that ends where that is likeliest.
    results = [_compare(model, prompts, new, 1.0), _compare(ending, prompts, new, 0.0)]
    return Finding(
        compared="ids of a beam of width 1, against greedy decoding; sums and scores of one of "
        f"width {_WIDTH}, against scoring its texts (float64, nats; an id that differs counts 1)",
        cases=sum(result.cases for result in results),
        unit="tokens and sums",
        difference=worst([result.difference for result in results]),
        bound=1e-9,
        note=f"{sum(result.ended for result in results)} of the texts of width {_WIDTH} end with "
        "<eos>",
    )


@torch.no_grad()
def _preferring_the_end(model: GenerativeModel, texts: Sequence[Sequence[int]]) -> GenerativeModel:
    """Return a copy whose ``<eos>`` is the likeliest token after each text."""
    missing = 0.0
    for text in texts:
        ids = torch.tensor([list(text)], device=device_of(model))
        logits = model(ids, given=torch.tensor([len(text)], device=ids.device))[0, -1]
        missing = max(missing, float(logits.max() - logits[EOS_ID]))
    other = copy.deepcopy(model)
    given = model.unembedding.bias
    bias = model.unembedding.weight.new_zeros(logits.shape) if given is None else given.clone()
    bias[EOS_ID] += missing + 1.0  # more than missing, which would make a tie
    other.unembedding.bias = nn.Parameter(bias)
    return other


def _whole(text: Generated) -> list[int]:
    return text.ids + [EOS_ID] * text.finished


def _compare(
    model: GenerativeModel, prompts: Sequence[Sequence[int]], new: int, length_penalty: float
) -> _Compared:
    """Compare a narrow beam with greedy decoding, and a wide beam's sums and scores with scoring.

    Args:
        model: in float64.
        prompts: ids of each prompt.
        new: most tokens generated; with the prompts they fit the context.
        length_penalty: of the wide beam.
    """
    greedy = GenerationConfig(strategy="greedy", max_new_tokens=new)
    narrow = replace(greedy, strategy="beam", num_beams=1, early_stopping="full")
    expected = [_whole(text) for text in generate(model, prompts, greedy, SPECIAL_IDS)]
    narrow_ids = [_whole(text) for text in generate(model, prompts, narrow, SPECIAL_IDS)]
    wrong = [float(sum(map(num_differing, narrow_ids, expected)))]

    wide = replace(
        narrow,
        num_beams=_WIDTH,
        num_return=_WIDTH,
        early_stopping="never",
        length_penalty=length_penalty,
    )
    texts = [
        (prompt, text)
        for prompt, best in zip(prompts, generate(model, prompts, wide, SPECIAL_IDS), strict=True)
        for text in (best, *best.alternatives)
    ]
    scored = token_log_probabilities(
        model,
        [[*prompt, *_whole(text)] for prompt, text in texts],
        given=[len(prompt) for prompt, _ in texts],
    )
    for (prompt, text), values in zip(texts, scored, strict=True):
        own = values[len(prompt) - 1 :]
        wrong.append(abs(text.log_probability - sum(own)))
        assert text.score is not None, "a search returns what it ranked a text by"
        wrong.append(abs(text.score - sum(own) / len(own) ** length_penalty))
    return _Compared(
        cases=sum(map(len, expected)) + 2 * len(texts),
        difference=worst(wrong),
        ended=sum(text.finished for _, text in texts),
    )
