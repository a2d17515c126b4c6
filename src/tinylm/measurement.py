"""The one rule for what is measured: when it counts, when two results differ, what may be said.

**A measurement** is a number of rounds of the same work; its result is their median. Its *spread*
is the distance between the quartiles of the rounds, as a share of the median. Above `LIMIT` it is
*disturbed*: it is then repeated, up to `MOST` times as many rounds, and marked where it is shown if
it is disturbed still. Quartiles are robust against a few outlying rounds; a range is not.

**Two results differ** if the interval of their difference leaves 0 out. The interval is the
difference plus and minus Student's quantile times its standard error, which is estimated by leaving
out one part at a time (the jackknife; Tukey 1958, Efron and Stein 1981). Parts are what was
repeated and can be paired: rounds in which competitors took turns, texts that both models read,
seeds. For a mean that is the paired t-interval; for BLEU, distinct-n or a ratio of sums it needs no
formula. Of times the logarithms are compared, so that the difference is a ratio; a ratio that is
nearer to 1 than `LEAST` is not interpreted, since the place of a competitor in memory changes its
time by as much.

**What may be said**: of times *quicker*, *slower*, *not measurably different*, or, where a
disturbance may hide a difference, *could not be measured*. Of other results *higher*, *lower* and
the same two. Nothing else turns a difference into words.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

LIMIT = 0.1
"""Spread above which a measurement is disturbed."""
MOST = 3
"""How many times as many rounds as asked for are run while a measurement is disturbed."""
LEAST = 0.02
"""Relative difference of times below which they are called not measurably different."""
CONFIDENCE = 0.95
"""Of every interval."""

Indices = npt.NDArray[np.int64]
Values = Sequence[float] | npt.NDArray[np.float64]


class Verdict(Enum):
    """What may be said of two results."""

    LESS = "less"
    MORE = "more"
    ALIKE = "alike"
    UNKNOWN = "unknown"


TIME_WORDS = {
    Verdict.LESS: "quicker",
    Verdict.MORE: "slower",
    Verdict.ALIKE: "not measurably different",
    Verdict.UNKNOWN: "could not be measured",
}
"""Of times: less is quicker."""
VALUE_WORDS = {
    Verdict.LESS: "lower",
    Verdict.MORE: "higher",
    Verdict.ALIKE: "not measurably different",
    Verdict.UNKNOWN: "could not be measured",
}
"""Of all else."""


@dataclass(frozen=True)
class Measurement:
    """Rounds of the same work, in the order in which they were run."""

    rounds: tuple[float, ...]
    """Seconds, or another positive quantity, of each round."""

    def __post_init__(self) -> None:
        """Refuse to measure nothing.

        Raises:
            ValueError: without a round, or with one that is no positive number.
        """
        if not self.rounds or not all(0 < value < math.inf for value in self.rounds):
            raise ValueError(f"a measurement needs rounds of positive numbers, not {self.rounds}")

    @classmethod
    def of(cls, rounds: Sequence[float]) -> Measurement:
        """Return the measurement of these rounds."""
        return cls(tuple(map(float, rounds)))

    @classmethod
    def from_result(cls, result: Mapping[str, Any]) -> Measurement:
        """Return the measurement that ``as_result`` wrote down."""
        return cls.of(result["seconds"])

    @property
    def median(self) -> float:
        """The result."""
        return statistics.median(self.rounds)

    @property
    def spread(self) -> float:
        """Distance between the quartiles, as a share of the median."""
        if len(self.rounds) < 2:
            return 0.0
        first, _, third = statistics.quantiles(self.rounds, n=4, method="inclusive")
        return (third - first) / self.median

    @property
    def disturbed(self) -> bool:
        """Whether the rounds lie too far apart for their median to be relied on."""
        return self.spread > LIMIT

    def as_result(self) -> dict[str, Any]:
        """Return it as JSON-ready values; the rounds are seconds."""
        return {
            "median_s": self.median,
            "min_s": min(self.rounds),
            "max_s": max(self.rounds),
            "spread": self.spread,
            "rounds": len(self.rounds),
            "seconds": list(self.rounds),
        }


@dataclass(frozen=True)
class Difference:
    """A difference of two results and its interval; not numbers where it cannot be had."""

    value: float
    low: float
    high: float

    @classmethod
    def from_result(cls, result: Sequence[float | None] | None) -> Difference:
        """Return the difference that ``as_result`` wrote down; None: it was not measured."""
        value, low, high = (math.nan if part is None else part for part in result or [None] * 3)
        return cls(value, low, high)

    @property
    def verdict(self) -> Verdict:
        """Whether the first result is less or more than the second."""
        if math.isnan(self.low) or math.isnan(self.high):
            return Verdict.UNKNOWN
        if self.high < 0:
            return Verdict.LESS
        return Verdict.MORE if self.low > 0 else Verdict.ALIKE

    @property
    def ends(self) -> tuple[float, float]:
        """Where the interval begins and ends."""
        return self.low, self.high

    @property
    def word(self) -> str:
        """``higher``, ``lower``, ``not measurably different`` or ``could not be measured``."""
        return VALUE_WORDS[self.verdict]

    def as_result(self) -> list[float | None]:
        """Return value, low and high; JSON has no NaN."""
        return [None if math.isnan(part) else part for part in (self.value, self.low, self.high)]

    def __neg__(self) -> Difference:
        return Difference(-self.value, -self.high, -self.low)


@dataclass(frozen=True)
class Comparison:
    """How long one competitor takes beside another."""

    ratio: float
    """Time of the first over that of the second: the geometric mean over the rounds."""
    low: float
    high: float
    disturbed: bool
    """Whether either measurement is."""

    @property
    def verdict(self) -> Verdict:
        """Whether the first takes less time than the second, or more."""
        if self.high < 1 and self.ratio <= 1 - LEAST:
            return Verdict.LESS
        if self.low > 1 and self.ratio >= 1 + LEAST:
            return Verdict.MORE
        return Verdict.UNKNOWN if self.disturbed or math.isnan(self.low) else Verdict.ALIKE

    @property
    def word(self) -> str:
        """``quicker``, ``slower``, ``not measurably different`` or ``could not be measured``."""
        return TIME_WORDS[self.verdict]

    @property
    def inverse(self) -> Comparison:
        """The second beside the first."""
        return Comparison(1 / self.ratio, 1 / self.high, 1 / self.low, self.disturbed)


@dataclass(frozen=True)
class Replicates:
    """A statistic of several parts (rounds, texts, seeds), and of all of them but each one."""

    value: float
    without: tuple[float, ...]
    """The statistic without part 0, without part 1, …"""

    @classmethod
    def of(cls, statistic: Callable[[Indices], float], size: int) -> Replicates:
        """Take a statistic of the parts with given indices, (parts,), of ``size`` parts."""
        every = np.arange(size)
        if size < 2:
            return cls(statistic(every) if size else math.nan, ())
        return cls(statistic(every), tuple(statistic(np.delete(every, part)) for part in every))

    @property
    def error(self) -> float:
        """The jackknife's standard error; NaN for fewer than two parts."""
        size = len(self.without)
        if size < 2:
            return math.nan
        without = np.array(self.without)
        return math.sqrt((size - 1) / size * float(((without - without.mean()) ** 2).sum()))

    @property
    def interval(self) -> Difference:
        """The statistic with its interval."""
        return _around(self.value, self.error, len(self.without) - 1)


@dataclass(frozen=True)
class Noise:
    """How far results of the same training lie apart that differ in their random numbers alone."""

    deviation: float
    """Standard deviation of one result, estimated from the repeats; NaN from fewer than two."""
    freedom: int
    """Repeats less one."""

    @classmethod
    def of(cls, repeats: Values) -> Noise:
        """Estimate it from results of trainings with other seeds."""
        values = np.asarray(repeats, dtype=np.float64)
        deviation = float(values.std(ddof=1)) if len(values) > 1 else math.nan
        return cls(deviation, len(values) - 1)

    def difference(
        self, first: float, second: float, repeats: tuple[float, float] = (1, 1)
    ) -> Difference:
        """Return how much the first result exceeds the second, where both have this noise.

        Args:
            first: a result, or the mean of several.
            second: the result that it is compared with.
            repeats: of how many trainings each is the mean; ``math.inf`` for one without noise.
        """
        error = self.deviation * math.sqrt(sum(1 / number for number in repeats))
        return _around(first - second, error, self.freedom)


def paired(first: Replicates, second: Replicates) -> Difference:
    """Return how much the first exceeds the second, their parts paired.

    Raises:
        ValueError: if they have not the same number of parts.
    """
    if len(first.without) != len(second.without):
        raise ValueError(f"{len(first.without)} parts beside {len(second.without)}: not paired")
    pairs = zip(first.without, second.without, strict=True)
    return Replicates(first.value - second.value, tuple(a - b for a, b in pairs)).interval


def unpaired(first: Replicates, second: Replicates) -> Difference:
    """Return how much the first exceeds the second, by Welch's interval for unpaired parts."""
    value, errors = first.value - second.value, (first.error, second.error)
    error = math.hypot(*errors)
    if not error > 0:  # NaN included
        return _around(value, error, 1)
    sizes = len(first.without), len(second.without)
    freedom = error**4 / sum(e**4 / (size - 1) for e, size in zip(errors, sizes, strict=True))
    return _around(value, error, freedom)


def compare(first: Measurement, second: Measurement) -> Comparison:
    """Compare two competitors that took turns, round by round.

    Raises:
        ValueError: if they were not run in the same rounds.
    """
    if len(first.rounds) != len(second.rounds):
        raise ValueError(f"{len(first.rounds)} rounds beside {len(second.rounds)}: not interleaved")
    return _comparison(mean(np.log(first.rounds) - np.log(second.rounds)), first, second)


def compare_unpaired(first: Measurement, second: Measurement) -> Comparison:
    """Compare two competitors of which one ran after the other.

    A disturbance of the machine may affect only one of them, which no interval shows: say so beside
    the result.
    """
    first_logs, second_logs = (mean_replicates(np.log(each.rounds)) for each in (first, second))
    return _comparison(unpaired(first_logs, second_logs), first, second)


def mean_replicates(values: Values, weights: Values | None = None) -> Replicates:
    """Return the mean of values, or their sum over that of their weights.

    Such as a loss a token: ``values`` are the summed losses of each text, ``weights`` its tokens.
    """
    given = np.asarray(values, dtype=np.float64)
    weight = np.ones_like(given) if weights is None else np.asarray(weights, dtype=np.float64)

    def ratio(kept: Indices) -> float:
        whole = float(weight[kept].sum())
        return float(given[kept].sum()) / whole if whole else math.nan

    return Replicates.of(ratio, len(given))


def mean(values: Values) -> Difference:
    """Return the mean of paired differences with its interval, which is Student's."""
    return mean_replicates(values).interval


def _around(value: float, error: float, freedom: float) -> Difference:
    if math.isnan(error):
        return Difference(value, math.nan, math.nan)
    from scipy.special import stdtrit  # half a second, which reading a result need not wait for

    reach = float(stdtrit(freedom, 0.5 + CONFIDENCE / 2)) * error if error else 0.0
    return Difference(value, value - reach, value + reach)


def _comparison(logs: Difference, first: Measurement, second: Measurement) -> Comparison:
    ratio, low, high = (math.exp(part) for part in (logs.value, logs.low, logs.high))
    return Comparison(ratio, low, high, first.disturbed or second.disturbed)
