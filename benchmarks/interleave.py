"""Timing of competitors that is fair on a shared machine: interleaved, repeated, spread shown.

Every round runs each competitor once, in a rotating order, so that a slow minute of the machine
falls on all of them. The median is the result, the spread says how far to trust it.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def run_interleaved(
    competitors: Mapping[str, Callable[[], object]], rounds: int = 7, warmup: int = 1
) -> dict[str, list[float]]:
    """Return the wall-clock seconds of each round, by name.

    Args:
        competitors: name -> callable without arguments; what it returns is dropped after timing.
        rounds: timed rounds.
        warmup: rounds run before and not counted.
    """
    names = list(competitors)
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(warmup + rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            start = time.perf_counter()
            result = competitors[name]()
            seconds = time.perf_counter() - start
            del result
            if number >= warmup:
                times[name].append(seconds)
    return times


def summarise(seconds: Sequence[float]) -> dict[str, float]:
    """Return median, least and greatest seconds, and the spread (max - min) / median."""
    median = statistics.median(seconds)
    return {
        "median_s": median,
        "min_s": min(seconds),
        "max_s": max(seconds),
        "spread": (max(seconds) - min(seconds)) / median,
    }


def table(
    times: Mapping[str, Sequence[float]],
    baseline: str | None = None,
    amount: float | None = None,
    unit: str = "items",
) -> list[dict[str, Any]]:
    """Return one row a competitor, fastest first.

    Args:
        times: what ``run_interleaved`` returned.
        baseline: the competitor that ``ratio`` compares with (above 1: faster than it).
        amount: units of work in one call, for a ``<unit>/s`` column.
        unit: name of that unit.
    """
    rows = []
    for name, seconds in times.items():
        row: dict[str, Any] = {"name": name, "rounds": len(seconds), **summarise(seconds)}
        if amount is not None:
            row[f"{unit}/s"] = amount / row["median_s"]
        if baseline is not None:
            # Round by round, so that a slow minute cancels.
            pairs = zip(times[baseline], seconds, strict=True)
            row["ratio"] = statistics.median(other / own for other, own in pairs)
        rows.append(row)
    return sorted(rows, key=lambda row: row["median_s"])


def print_table(rows: Sequence[Mapping[str, Any]], baseline: str | None = None) -> None:
    """Print rows of ``table`` with aligned columns."""
    heads = {"median_s": "median ms", "min_s": "min ms", "max_s": "max ms", "spread": "spread"}
    columns = [name for name in rows[0] if name != "rounds"]
    shown = [[heads.get(name, name) for name in columns]]
    if baseline is not None:
        shown[0] = [f"x {baseline}" if name == "ratio" else name for name in shown[0]]
    for row in rows:
        shown.append([_cell(name, row[name]) for name in columns])
    widths = [max(len(line[place]) for line in shown) for place in range(len(columns))]
    for line in shown:
        first, *rest = line
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        print("  ".join(cells))
    print(f"(median of {rows[0]['rounds']} interleaved rounds)")


def _cell(name: str, value: Any) -> str:
    if name.endswith("_s"):
        return f"{value * 1000:.2f}"
    if name == "spread":
        return f"{value:.0%}"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def hardware_line() -> str:
    """Say in one line what the numbers were measured on."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return (
        f"{model}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    )
