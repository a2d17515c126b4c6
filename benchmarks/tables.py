"""Tables of competitors that took turns (``tinylm.evaluation.speed``), and the machine's name."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tinylm.measurement import Measurement, compare


def table(
    times: Mapping[str, Measurement],
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
    for name, measured in times.items():
        row: dict[str, Any] = {"name": name, **measured.as_result()}
        if amount is not None:
            row[f"{unit}/s"] = amount / row["median_s"]
        if baseline is not None:
            row["ratio"] = compare(times[baseline], measured).ratio
            row["says"] = compare(measured, times[baseline]).word
        rows.append(row)
    return sorted(rows, key=lambda row: row["median_s"])


def print_table(rows: Sequence[Mapping[str, Any]], baseline: str | None = None) -> None:
    """Print rows of ``table`` with aligned columns."""
    heads = {"median_s": "median ms", "min_s": "min ms", "max_s": "max ms", "cpu_s": "CPU ms"}
    columns = [name for name in rows[0] if name not in ("rounds", "seconds")]
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
    print(f"(medians of {rows[0]['rounds']} interleaved rounds; spread: between the quartiles)")
    for row in rows:
        if Measurement.from_result(row).disturbed:
            print(f"disturbed, though repeated: {row['name']}")


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
