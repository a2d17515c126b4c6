"""Measures of a set of texts, and how much two sets differ in them.

A difference carries an interval, which comes from leaving out one text at a time
(``tinylm.measurement``); texts that continue the same prompts are pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from tinylm.evaluation.bleu import bleu_replicates
from tinylm.evaluation.diversity import ngrams
from tinylm.measurement import Replicates, mean_replicates, paired


@dataclass(frozen=True)
class TextSet:
    """Texts of one origin, in the order of their prompts."""

    ids: Sequence[Sequence[int]]
    """Of each text, without prompt and ``<eos>``."""
    log_probabilities: Sequence[float]
    """Of each text given its prompt, ``<eos>`` included where it stands: summed, in nats."""
    num_scored: Sequence[int]
    """Tokens of that sum."""
    bleu: npt.NDArray[np.float64] | None = None
    """What BLEU counts of each text, (texts, counts), as ``bleu_counts`` returns it."""


def _distinct(n: int) -> Callable[[TextSet], Replicates]:
    def measure(texts: TextSet) -> Replicates:
        grams = [list(ngrams(ids, n)) for ids in texts.ids]
        holders = Counter(gram for text in grams for gram in set(text))
        total = sum(map(len, grams))
        different = len(holders)
        # Without a text its n-grams are missing, and those kinds that it alone holds.
        without = []
        for text in grams if len(grams) > 1 else ():
            alone = sum(holders[gram] == 1 for gram in set(text))
            without.append(_share(different - alone, total - len(text)))
        return Replicates(_share(different, total), tuple(without))

    return measure


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _repetition(texts: TextSet) -> Replicates:
    grams = [list(ngrams(ids, 4)) for ids in texts.ids]
    repeated = [float(len(text) - len(set(text))) for text in grams]
    return mean_replicates(repeated, [float(len(text)) for text in grams])


MEASURES: dict[str, Callable[[TextSet], Replicates]] = {
    "log_probability": lambda texts: mean_replicates(texts.log_probabilities),
    "log_probability_per_token": lambda texts: mean_replicates(
        texts.log_probabilities, [float(number) for number in texts.num_scored]
    ),
    "length": lambda texts: mean_replicates([float(len(ids)) for ids in texts.ids]),
    "repetition": _repetition,
    **{f"distinct_{n}": _distinct(n) for n in (1, 2, 3)},
    "bleu": lambda texts: bleu_replicates(texts.bleu),
}
"""Name -> measure of a set, and of the set without each text."""


def differences(
    sets: Mapping[str, TextSet], reference: str | None = None
) -> dict[str, dict[str, dict[str, list[float | None]]]]:
    """Return how much the first of two sets is above the second, in every measure.

    Args:
        sets: name -> texts; all continue the same prompts.
        reference: true texts, such as the name of one set. They have no BLEU, and the others also
            have a ``distance`` from them: the absolute differences in distinct-2 and repetition
            added up.

    Returns:
        measure -> first name -> second name -> value, low and high end of its interval. The first
        name of two is the one that stands first in ``sets``.
    """
    measured = {
        measure: {
            name: of(texts)
            for name, texts in sets.items()
            if measure != "bleu" or texts.bleu is not None
        }
        for measure, of in MEASURES.items()
    }
    if reference is not None:
        others = [name for name in sets if name != reference]
        measured["distance"] = {name: _distance(measured, name, reference) for name in others}
    made: dict[str, dict[str, dict[str, Any]]] = {}
    for measure, values in measured.items():
        made[measure] = {name: {} for name in values}
        for first, second in combinations(values, 2):
            made[measure][first][second] = paired(values[first], values[second]).as_result()
    return made


def _distance(
    measured: Mapping[str, Mapping[str, Replicates]], name: str, reference: str
) -> Replicates:
    def gaps(measure: str) -> list[float]:
        own, true = measured[measure][name], measured[measure][reference]
        values, others = (own.value, *own.without), (true.value, *true.without)
        return [abs(a - b) for a, b in zip(values, others, strict=True)]

    pairs = zip(gaps("distinct_2"), gaps("repetition"), strict=True)
    value, *without = (first + second for first, second in pairs)
    return Replicates(value, tuple(without))
