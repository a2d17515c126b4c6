"""Verification: what was compared with an independent implementation, and the results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.report.blocks import Block, Heading, Table, code, literal
from tinylm.report.formatting import count, duration, listed, setting, significant
from tinylm.report.measurements import hardware
from tinylm.report.passages import passages

TEXT = passages(__file__)


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``verification``."""
    result = results.results.get("verification")
    if result is None or not result["rows"]:
        return []
    rows = result["rows"]
    return [
        Heading(1, "Verification", "sec:verification"),
        *TEXT.blocks("what was compared", verdict=verdict(result)),
        Table(
            "tab:verification",
            TEXT.line("table"),
            ("Check", "Compared", "Cases", "Difference", "Bound"),
            tuple(_row(row) for row in rows),
            "lprrr",
            TEXT.line("table's note", hardware=hardware(result)),
            emphasised=tuple(i for i, row in enumerate(rows) if not row["passed"]),
        ),
        *TEXT.blocks("repeating the checks"),
    ]


def verdict(result: Mapping[str, Any]) -> str:
    """Return whether all checks passed, and what follows if not."""
    rows = result["rows"]
    failed = [row["name"] for row in rows if not row["passed"]]
    if failed:
        names = listed([code(name) for name in failed])
        subject = f"{len(failed)} of {len(rows)} checks" if len(rows) > 1 else "The one check"
        parts, until = (
            ("this part", "it passes") if len(failed) == 1 else ("these parts", "they pass")
        )
        return (
            f"{subject} *FAILED*: {names}. The numbers in this report that depend on {parts} must "
            f"not be trusted until {until}."
        )
    took = sum(row["seconds"] for row in rows)
    text = f"All {len(rows)} checks passed" if len(rows) > 1 else "The one check passed"
    return f"{text}, in {duration(took)}."


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    compared = literal(str(row["compared"]))
    if row.get("note"):
        compared += f". Note: {literal(str(row['note']))}"
    return (
        code(str(row["name"])) + ("" if row["passed"] else " *FAILED*"),
        compared,
        count(row["cases"]),
        _difference(row["difference"]),
        "exact" if row["bound"] == 0 else setting(row["bound"]),
    )


def _difference(value: float | None) -> str:
    return "–" if value is None else significant(value, 2)
