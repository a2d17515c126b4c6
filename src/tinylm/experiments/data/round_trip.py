"""Texts after encoding and decoding: a part of the section on the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinylm.experiments.units import Unit
from tinylm.report.blocks import Block, Table
from tinylm.report.formatting import count, percent, plural
from tinylm.report.passages import passages

TEXT = passages(__file__)


def round_trip_blocks(result: Mapping[str, Any] | None, unit: Unit) -> list[Block]:
    """Return how many texts are the same after decoding, or nothing without the measurement.

    Of pairs, each text is one.
    """
    text, many = unit.text, unit.texts
    if not result or not result["texts"]:
        return []
    texts, differing = result["texts"], result["differing"]

    def row(name: str, number: int) -> tuple[str, str, str]:
        return name, count(number), percent(number / texts)

    without = (
        f"; {plural(result['with_unknown'], text, many)} with `<unk>` "
        f"{'was' if result['with_unknown'] == 1 else 'were'} left out"
        if result["with_unknown"]
        else ""
    )
    typographic = (
        " " + TEXT.line("typographic marks", number=count(result["typographic"]), stories=many)
        if result["typographic"]
        else ""
    )
    same = result["same"] == texts
    return [
        *TEXT.blocks("round trip", typographic=typographic, text=text),
        Table(
            "tab:round-trip",
            TEXT.line(
                "table of the round trip",
                every=many,
                stories=plural(texts, text, many),
                unknown=without,
            ),
            ("", many.capitalize(), "Share"),
            (
                row("Identical", result["same"]),
                *(row(f"Differ in {kind}", differing[kind]) for kind in differing),
            ),
            "lrr",
            "" if same else TEXT.line("table of the round trip, note", text=text),
        ),
    ]
