"""What the probability of the canonical segmentation misses, beside the exact sum over all."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.evaluation.segmentations import TextProbability, segmentable, text_probability
from tinylm.experiments.tokenizers.settings import TokenizersExperiment
from tinylm.language_model import LanguageModel
from tinylm.tokenizers.base import Tokenizer

_WORD = re.compile(r"\S+")
_SHOWN = 3
"""Segmentations that are shown of a text."""
_ADDED = ("texts", "words")


def missed(
    lm: LanguageModel, texts: Sequence[str], settings: TokenizersExperiment
) -> dict[str, Any] | None:
    """Return what the usual number misses of beginnings of texts, and of words never seen.

    Returns:
        For ``texts`` and ``words`` the means of ``bytes``, ``segmentations``, ``missed_bits`` and
        ``share``; ``example``, the word of which most is missed. None where the tokenizer has one
        segmentation of each, or none that can be summed over.
    """
    tokenizer, most = lm.tokenizer, settings.prefixes
    context = lm.model.config.context_length
    ways = {word: segmentable(tokenizer, word, context, most) for word in settings.unseen}
    if max(ways.values(), default=0) < 2:
        return None
    beginnings = [
        longest_beginning(tokenizer, text, context, most) for text in texts[: settings.summed]
    ]
    groups = {
        "texts": [text for text in beginnings if text],
        "words": [word for word, number in ways.items() if number],
    }
    if not groups["texts"]:
        return None
    measured = {
        group: [text_probability(lm.model, tokenizer, text, False, most) for text in chosen]
        for group, chosen in groups.items()
    }
    farthest = max(
        zip(groups["words"], measured["words"], strict=True), key=lambda pair: pair[1].missed_bits
    )
    return {
        **{group: _means(of) for group, of in measured.items()},
        "example": _example(tokenizer, *farthest),
    }


def longest_beginning(tokenizer: Tokenizer, text: str, context: int, most: int) -> str:
    """Return the longest beginning of whole words that has few enough prefixes; empty: none."""
    longest = ""
    for word in _WORD.finditer(text):
        if not segmentable(tokenizer, text[: word.end()], context, most):
            break
        longest = text[: word.end()]
    return longest


def _means(texts: Sequence[TextProbability]) -> dict[str, float]:
    size = len(texts)
    return {
        "number": size,
        "bytes": sum(text.num_bytes for text in texts) / size,
        "segmentations": sum(len(text.paths) for text in texts) / size,
        "missed_bits": sum(text.missed_bits for text in texts) / size,
        "share": sum(text.share for text in texts) / size,
    }


def _example(tokenizer: Tokenizer, word: str, of: TextProbability) -> dict[str, Any]:
    """Return the likeliest segmentations of a word, each with its share of the probability."""
    return {
        "word": word,
        "segmentations": len(of.paths),
        "canonical": [tokenizer.token(token) for token in of.canonical],
        "share": of.share,
        "likeliest": [
            {
                "tokens": [tokenizer.token(token) for token in ids],
                "share": math.exp(value - of.total),
            }
            for ids, value in of.paths[:_SHOWN]
        ],
    }


def together(seeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the measurements of all seeds: lists of what hangs on the model, the example once."""
    return {
        **{
            group: {
                key: [seed[group][key] for seed in seeds]
                if key in ("missed_bits", "share")
                else seeds[0][group][key]
                for key in seeds[0][group]
            }
            for group in _ADDED
        },
        "example": seeds[0]["example"],
    }
