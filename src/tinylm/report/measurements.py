"""Timings and sizes of memory in words: medians with their spread, and the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.report.blocks import literal
from tinylm.report.formatting import duration, percent, plural, significant


def hardware(result: Mapping[str, Any]) -> str:
    """Return inline markup that names the machine on which a result was measured."""
    environment = result.get("environment") or {}
    processor = literal(str(environment.get("cpu") or "an unnamed processor"))
    threads, cores = environment.get("threads"), environment.get("cores")
    parts = [plural(threads, "thread")] if threads else []
    parts += [plural(cores, "core")] if cores else []
    host = f"{processor} ({' on '.join(parts)})" if parts else processor
    device = str(environment.get("device") or "cpu")
    return host if device == "cpu" else f"{literal(device)}, with {host} as host"


def rounds(timing: Mapping[str, Any]) -> str:
    """Return over what a timing is the median: ``median of 3 rounds``."""
    return f"median of {plural(timing['rounds'], 'round')}"


def seconds(value: float) -> str:
    """Return seconds, or milliseconds below a second: ``41.3 ms``, ``2.35 s``, ``3 min``."""
    if value < 1:
        return f"{significant(1000 * value)}\u00a0ms"
    return f"{significant(value)}\u00a0s" if value < 60 else duration(value)


def median(timing: Mapping[str, Any]) -> str:
    """Return the median of a timing."""
    return seconds(timing["median_s"])


def spread(timing: Mapping[str, Any]) -> str:
    """Return the range of a timing in percent of its median."""
    return percent(timing["spread"])


def order(one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    """Compare two timings: -1 if every round of the first was quicker, 1 if slower, else 0."""
    if one["max_s"] < other["min_s"]:
        return -1
    return 1 if one["min_s"] > other["max_s"] else 0


def mib(size: float) -> str:
    """Return bytes in MiB (2^20 bytes), without the unit."""
    return significant(size / 2**20)


def times(ratio: float) -> str:
    """Return a ratio: ``2.31×``."""
    return f"{significant(ratio)}×"


def named(names: Sequence[str]) -> list[str]:
    """Return names from results, each as emphasised inline markup."""
    return [f"*{literal(name)}*" for name in names]
