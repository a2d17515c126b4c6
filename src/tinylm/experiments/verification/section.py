"""Verification: what was checked against an independent way, and how it came out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.report.blocks import Block, Heading, Paragraph, Table, code, literal
from tinylm.report.formatting import count, duration, listed, setting, significant
from tinylm.report.measurements import hardware


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``verification``."""
    found = results.results.get("verification")
    if found is None or not found["rows"]:
        return []
    rows = found["rows"]
    return [
        Heading(1, "Verification", "sec:verification"),
        Paragraph(
            "Every fast or intricate path of the program was run on the trained model beside a "
            "plain or independent version, and both must give the same result. "
            "[[tab:verification]] names both, the path in use first, with the largest difference "
            "found over all cases and the bound up to which it counts as rounding; where the bound "
            f"is *exact*, every bit must agree. {verdict(found)}"
        ),
        Table(
            "tab:verification",
            "What was compared, and the largest difference found.",
            ("Check", "Compared", "Cases", "Difference", "Bound", "Result"),
            tuple(_row(row) for row in rows),
            "lprrrl",
            "Cases: how many values, tokens or texts were compared. Measured on "
            f"{hardware(found)}.",
            emphasised=tuple(i for i, row in enumerate(rows) if not row["passed"]),
        ),
        Paragraph(
            "`tinylm verify RUN`, with a run's folder for `RUN`, repeats the checks and ends with "
            "an error if one fails."
        ),
    ]


def verdict(found: Mapping[str, Any]) -> str:
    """Return whether all checks passed, and what follows if not."""
    rows = found["rows"]
    failed = [row["name"] for row in rows if not row["passed"]]
    if failed:
        names = listed([code(name) for name in failed])
        told = f"{len(failed)} of {len(rows)} checks" if len(rows) > 1 else "The one check"
        parts, until = (
            ("this part", "it passes") if len(failed) == 1 else ("these parts", "they pass")
        )
        return (
            f"{told} *FAILED*: {names}. The numbers in this report that depend on {parts} must not "
            f"be trusted until {until}."
        )
    took = sum(row["seconds"] for row in rows)
    text = f"All {len(rows)} checks passed" if len(rows) > 1 else "The one check passed"
    return f"{text}, in {duration(took)}."


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    compared = literal(str(row["compared"]))
    if row.get("note"):
        compared += f". Note: {literal(str(row['note']))}"
    return (
        literal(str(row["name"])),
        compared,
        count(row["cases"]),
        _difference(row["difference"]),
        "exact" if row["bound"] == 0 else setting(row["bound"]),
        "passed" if row["passed"] else "FAILED",
    )


def _difference(value: float | None) -> str:
    return "–" if value is None else significant(value, 2)
