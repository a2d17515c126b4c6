"""Timings and sizes of memory in words: medians with their spread, and the machine."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tinylm.measurement import (
    CONFIDENCE,
    LIMIT,
    Comparison,
    Difference,
    Measurement,
    Verdict,
    compare,
    mean,
)
from tinylm.report.blocks import literal
from tinylm.report.formatting import duration, percent, plural, significant

Timing = Mapping[str, Any]
"""What ``Measurement.as_result`` wrote down."""
DAGGER = "†"
"""Behind a number whose measurement was disturbed."""


def hardware(result: Mapping[str, Any]) -> str:
    """Return inline markup that names the machine on which a result was measured."""
    environment = result.get("environment") or {}
    processor = literal(str(environment.get("cpu") or "an unnamed processor"))
    threads, cores = environment.get("threads"), environment.get("cores")
    parts = [plural(threads, "thread")] if threads else []
    parts += [plural(cores, "core")] if cores else []
    used = " on ".join(part.replace(" ", "\u00a0") for part in parts)
    host = f"{processor} ({used})" if parts else processor
    device = str(environment.get("device") or "cpu")
    return host if device == "cpu" else f"{literal(device)}, with {host} as host"


def rounds(*timings: Timing) -> str:
    """Return over what timings are medians, such as ``median of 3 rounds``."""
    numbers = sorted({len(timing["seconds"]) for timing in timings})
    if len(numbers) == 1:
        return f"median of {plural(numbers[0], 'round')}"
    return f"medians of {numbers[0]} to {numbers[-1]} rounds"


def seconds(value: float) -> str:
    """Return seconds, or milliseconds below a second: ``41.3 ms``, ``2.35 s``, ``3 min``."""
    if value < 1:
        return f"{significant(1000 * value)}\u00a0ms"
    return f"{significant(value)}\u00a0s" if value < 60 else duration(value)


def measured(timing: Timing) -> Measurement:
    """Return the measurement that a result holds."""
    return Measurement.from_result(timing)


def over_seeds(values: Sequence[float], digits: int, least: float = 0.0) -> str:
    """Return the mean of a value over seeds with its interval: ``1.52 (1.49–1.55)``.

    Of one seed there is no interval, and none goes below ``least``, which no value can.
    """
    value = mean(values)
    if value.verdict is Verdict.UNKNOWN:
        return f"{value.value:,.{digits}f}"
    low, high = (f"{max(least, end):,.{digits}f}" for end in value.ends)
    return f"{value.value:,.{digits}f} ({low}–{high})"


def median(timing: Timing) -> str:
    """Return the median of a timing, with a dagger if it was disturbed."""
    return f"{seconds(timing['median_s'])}{dagger(measured(timing))}"


def dagger(measurement: Measurement) -> str:
    """Return the mark of a disturbed measurement, or nothing."""
    return DAGGER if measurement.disturbed else ""


def spread(timing: Timing) -> str:
    """Return the distance between a timing's quartiles in percent of its median."""
    return percent(measured(timing).spread)


def disturbances(measurements: Iterable[Measurement], repeated: bool = True) -> str:
    """Return what the dagger means, as a sentence for a table's note, if one stands there.

    Args:
        measurements: those in the table.
        repeated: whether a disturbed one was repeated, as those of trainings are not.
    """
    if not any(measurement.disturbed for measurement in measurements):
        return ""
    again = ", although the measurement was repeated" if repeated else ""
    return (
        f" {DAGGER}: disturbed; the middle half of the rounds spans more than {percent(LIMIT, 0)} "
        f"of the median{again}."
    )


def compared(timing: Timing, other: Timing) -> Comparison:
    """Compare two timings that were taken in turns, round by round."""
    return compare(measured(timing), measured(other))


def factor(comparison: Comparison) -> str:
    """Return a ratio of times: ``2.31 (95 % interval: 2.25 to 2.38)``."""
    low, high = significant(comparison.low), significant(comparison.high)
    ratio = significant(comparison.ratio)
    return ratio if low == high else f"{ratio} ({percent(CONFIDENCE, 0)} interval: {low} to {high})"


def difference(result: Mapping[str, Any], measure: str, name: str, other: str) -> Difference:
    """Return how much the texts of ``name`` are above those of ``other`` in a measure.

    Args:
        result: a part of one with ``differences``, as ``evaluation.text_sets`` returns them.
        measure: one of theirs.
        name: of what is compared.
        other: another.
    """
    pairs = result["differences"][measure]
    if other in pairs[name]:
        return Difference.from_result(pairs[name][other])
    return -Difference.from_result(pairs[other][name])


def leaders(
    result: Mapping[str, Any], measure: str, values: Mapping[str, float]
) -> tuple[str, list[str]]:
    """Return whose value is the highest, and the others that are not measurably different from it.

    Args:
        result: as for ``difference``.
        measure: of which ``values`` are.
        values: name -> value, or its opposite where less is better.
    """
    best = max(values, key=values.__getitem__)
    others = [name for name in values if name != best]
    undecided = (Verdict.ALIKE, Verdict.UNKNOWN)
    return best, [
        name for name in others if difference(result, measure, best, name).verdict in undecided
    ]


def signed(value: float, digits: int) -> str:
    """Return a number with so many decimals and a minus that is no hyphen."""
    return f"{value:.{digits}f}".replace("-", "−")


def in_nats(difference: Difference) -> str:
    """Return a difference of losses: ``0.412 nats (95 % interval: 0.391 to 0.433)``."""
    value, low, high = (signed(part, 3) for part in (difference.value, *difference.ends))
    return f"{value} nats ({percent(CONFIDENCE, 0)} interval: {low} to {high})"


def as_increase(nats: float) -> str:
    """Return a difference of losses as an increase of perplexity: ``1.23 %``."""
    share = math.expm1(nats)
    if abs(share) >= 0.1:
        return f"{significant(100 * share)}\u202f%".replace("-", "−")
    return f"{round(100 * share, 2) + 0.0:.2f}\u202f%".replace("-", "−")  # no negative zero


def cost(more: Difference) -> str:
    """Return an increase of perplexity with its interval, or that there is none to speak of.

    Args:
        more: of the losses, in nats a token.
    """
    if more.verdict is Verdict.ALIKE:
        return "nothing measurable"
    if more.verdict is Verdict.UNKNOWN:
        return f"{as_increase(more.value)} (no interval)"
    low, high = map(as_increase, more.ends)
    return f"{as_increase(more.value)} ({percent(CONFIDENCE, 0)} interval: {low} to {high})"


def cost_cell(more: Difference) -> str:
    """Return an increase of perplexity in per cent, with half of its interval, for a table."""
    value, low, high = (100 * math.expm1(part) for part in (more.value, *more.ends))
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    text = f"{value:,.{digits}f}".replace("-", "−")
    return text if math.isnan(low) else f"{text} ± {(high - low) / 2:,.{digits}f}"


def mib(size: float) -> str:
    """Return bytes in MiB (2^20 bytes), without the unit."""
    return significant(size / 2**20)


def times(ratio: float) -> str:
    """Return a ratio: ``2.31×``."""
    return f"{significant(ratio)}×"


def named(names: Sequence[str]) -> list[str]:
    """Return names from results, each as emphasised inline markup."""
    return [f"*{literal(name)}*" for name in names]
