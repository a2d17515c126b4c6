"""What comes back from token ids: a part of the section on the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinylm.report.blocks import Block, Paragraph, Table
from tinylm.report.formatting import count, percent, plural


def round_trip_blocks(result: Mapping[str, Any] | None) -> list[Block]:
    """Return the rates at which texts come back, or nothing without the measurement."""
    if not result or not result["texts"]:
        return []
    texts, differing = result["texts"], result["differing"]

    def row(name: str, number: int) -> tuple[str, str, str]:
        return name, count(number), percent(number / texts)

    without = (
        f"; {plural(result['with_unknown'], 'story', 'stories')} with `<unk>` "
        f"{'was' if result['with_unknown'] == 1 else 'were'} left out"
        if result["with_unknown"]
        else ""
    )
    marks = (
        f" Typographic quotes and dashes, which the tokenizer reads as plain ones, stand in "
        f"{count(result['typographic'])} of them and are not counted as differences."
        if result["typographic"]
        else ""
    )
    same = result["same"] == texts
    return [
        Paragraph(
            "Line breaks, and on which side a quotation mark stands, are part of the tokens; "
            "case is not, and is restored from the words before. [[tab:round-trip]] says how often "
            "a validation story is the same after encoding and decoding, and what differs "
            f"otherwise.{marks}"
        ),
        Table(
            "tab:round-trip",
            "Validation stories after encoding and decoding "
            f"({plural(texts, 'story', 'stories')}{without}).",
            ("", "Stories", "Share"),
            (
                row("Come back as they were", result["same"]),
                *(row(f"Differ in {kind}", differing[kind]) for kind in differing),
            ),
            "lrr",
            "" if same else "A story may differ in more than one way.",
        ),
    ]
