"""How good a reward model is, beyond its loss.

**Accuracy**: the share of pairs whose better response has the higher reward. **Calibration**: of
pairs whose rewards differ by d, the higher one should be the better with the share sigmoid(d). The
expected calibration error is the mean distance of the two over bins of that share, weighed by their
pairs (Guo et al. 2017); with few pairs it is above 0 by chance, and how much is said beside it.
**Agreement** with a true reward, where there is one: rank correlations, over all responses
(Spearman) and within a ranking (Kendall's tau-b), since preferences say nothing of what one prompt
earns beside another. **Length bias**: how the reward hangs on the number of tokens, and whether the
longer of two is preferred where it is the worse.

Intervals take a ranking as one part: its pairs are correlated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tinylm.data.preferences import Ranking
from tinylm.measurement import Difference, Indices, Replicates, mean, mean_replicates

Floats = npt.NDArray[np.float64]
_BINS = 5
_RESAMPLES = 500


@dataclass(frozen=True)
class Judged:
    """A ranking, what a reward model makes of its responses, and what they truly earn."""

    ranking: Ranking
    rewards: Sequence[float]
    true: Sequence[float] | None = None
    """None: the true reward is not known."""


def measured(judged: Sequence[Judged], seed: int = 0) -> dict[str, Any]:
    """Return all measures of held-out rankings, as JSON values.

    Args:
        judged: at least one.
        seed: of the resamples.
    """
    gaps = [_gaps(each.rewards, each.ranking.pairs()) for each in judged]
    known = [each for each in judged if each.true is not None]
    return {
        "rankings": len(judged),
        "pairs": sum(len(each) for each in gaps),
        "accuracy": accuracy(gaps).as_result(),
        "calibration": calibration(gaps, seed),
        "true": agreement(known) if known else None,
        "length": length_bias(judged),
    }


def accuracy(gaps: Sequence[Floats]) -> Difference:
    """Return the share of pairs that are right, an equal one half.

    Args:
        gaps: of each ranking, what the better of each pair earns more than the worse.
    """
    right = [float((each > 0).sum() + (each == 0).sum() / 2) for each in gaps]
    return mean_replicates(right, [float(len(each)) for each in gaps]).interval


def calibration(gaps: Sequence[Floats], seed: int = 0) -> dict[str, Any]:
    """Return bins of the expected share of wins, and the expected calibration error.

    Args:
        gaps: as in ``accuracy``.
        seed: of the resamples, which give the interval, and of the wins that chance gives.
    """
    generator = np.random.default_rng(seed)
    every = np.concatenate(list(gaps))
    resampled = [
        _calibration_error(np.concatenate([gaps[i] for i in chosen]))
        for chosen in generator.integers(len(gaps), size=(_RESAMPLES, len(gaps)))
    ]
    low, high = np.quantile([each for each in resampled if each is not None], [0.025, 0.975])
    expected = _expected(every)
    drawn = generator.random((_RESAMPLES, len(every))) < expected
    by_chance = np.mean([_error(expected, won.astype(np.float64)) for won in drawn])
    error = _calibration_error(every)
    assert error is not None
    return {
        "error": [error, float(low), float(high)],
        "by_chance": float(by_chance),
        "bins": [
            {
                "from": 0.5 + each / (2 * _BINS),
                "pairs": int(there.sum()),
                "expected": float(expected[there].mean()),
                "won": float(_won(every)[there].mean()),
            }
            for each in range(_BINS)
            if (there := _bins(expected) == each).any()
        ],
    }


def agreement(judged: Sequence[Judged]) -> dict[str, Any]:
    """Return how a learned reward agrees with the true one.

    Accuracy is that of the pairs by the true reward, whatever the ranking says. A correlation that
    is not defined, where one of the two is always the same, is None.
    """
    gaps = [_gaps(each.rewards, _better(_true(each))) for each in judged]
    within = [tau for each in judged if (tau := kendall(each.rewards, _true(each))) is not None]
    pooled = _correlation([each.rewards for each in judged], [_true(each) for each in judged])
    return {
        "pairs": sum(len(each) for each in gaps),
        "accuracy": accuracy(gaps).as_result(),
        "spearman": pooled.as_result(),
        "kendall_within": mean(within).as_result(),
    }


def length_bias(judged: Sequence[Judged]) -> dict[str, Any]:
    """Return how the reward hangs on the number of tokens of a response, and how the true one does.

    A correlation is no bias where the true reward has the same.
    """
    lengths = [[len(response) for response in each.ranking.responses] for each in judged]
    known = [i for i, each in enumerate(judged) if each.true is not None]
    true = _correlation([_true(judged[i]) for i in known], [lengths[i] for i in known])
    result: dict[str, Any] = {
        "spearman": _correlation([each.rewards for each in judged], lengths).as_result(),
        "true_spearman": true.as_result() if known else None,
    }
    for name, sign in (("longer_is_better", 1), ("shorter_is_better", -1)):
        gaps = [
            _gaps(
                each.rewards,
                [(i, j) for i, j in each.ranking.pairs() if sign * (own[i] - own[j]) > 0],
            )
            for each, own in zip(judged, lengths, strict=True)
        ]
        result[name] = {
            "pairs": sum(len(each) for each in gaps),
            "accuracy": accuracy(gaps).as_result(),
        }
    return result


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the correlation of ranks, ties sharing the mean of theirs; NaN where undefined."""
    a, b = _mean_ranks(first), _mean_ranks(second)
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / scale) if scale else float("nan")


def kendall(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Kendall's tau-b (Kendall 1945), or None where one side is all ties."""
    a, b = (np.asarray(each, dtype=np.float64) for each in (first, second))
    upper = np.triu_indices(len(a), 1)
    signs = [np.sign(each[:, None] - each[None, :])[upper] for each in (a, b)]
    scale = float(np.sqrt((signs[0] ** 2).sum() * (signs[1] ** 2).sum()))
    return float((signs[0] * signs[1]).sum() / scale) if scale else None


def _true(judged: Judged) -> Sequence[float]:
    assert judged.true is not None
    return judged.true


def _gaps(rewards: Sequence[float], pairs: Any) -> Floats:
    return np.array([rewards[i] - rewards[j] for i, j in pairs], dtype=np.float64)


def _better(scores: Sequence[float]) -> list[tuple[int, int]]:
    places = range(len(scores))
    return [(i, j) for i in places for j in places if scores[i] > scores[j]]


def _correlation(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> Difference:
    def of(kept: Indices) -> float:
        return spearman(*([v for i in kept for v in side[i]] for side in (first, second)))

    return Replicates.of(of, len(first)).interval


def _mean_ranks(values: Sequence[float]) -> Floats:
    given = np.asarray(values, dtype=np.float64)
    _, inverse, counts = np.unique(given, return_inverse=True, return_counts=True)
    ends = counts.cumsum()
    ranks: Floats = (ends - (counts - 1) / 2)[inverse]
    return ranks


def _expected(gaps: Floats) -> Floats:
    """Return how likely the higher of each pair is the better, at least a half."""
    expected: Floats = 1 / (1 + np.exp(-np.abs(gaps)))
    return expected


def _won(gaps: Floats) -> Floats:
    won: Floats = (np.sign(gaps) + 1) / 2
    return won


def _bins(expected: Floats) -> npt.NDArray[np.int64]:
    return np.minimum(((expected - 0.5) * 2 * _BINS).astype(np.int64), _BINS - 1)


def _calibration_error(gaps: Floats) -> float | None:
    """Return the expected calibration error; None without a pair."""
    return _error(_expected(gaps), _won(gaps)) if len(gaps) else None


def _error(expected: Floats, won: Floats) -> float:
    off = np.bincount(_bins(expected), weights=expected - won)
    return float(np.abs(off).sum() / len(expected))
