"""What is said of texts that are decoded again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.telling import table_of

Result = dict[str, Any]


def counts(**changes: int) -> Callable[[Result], None]:
    def change(result: Result) -> None:
        result["round_trip"].update(changes)

    return change


def unmeasured(result: Result) -> None:
    del result["round_trip"]


CASES = table_of(
    "data",
    (None, "Identical\n880\n96.5\u202f%"),
    (None, "Differ in capitals\n30\n3.3\u202f%"),
    (None, "A story may differ in more than one way"),
    (counts(), "(912 stories; 88 stories with <unk> were left out)."),
    (counts(with_unknown=1), "(912 stories; 1 story with <unk> was left out)."),
    (counts(with_unknown=0), "(912 stories).", "left out"),
    (counts(texts=1, with_unknown=0), "(1 story).", "stories)"),
    (None, "occur in 40 of the stories and are not counted"),
    (counts(typographic=0), "what differs otherwise.", "Typographic"),
    (counts(same=912), "Identical\n912", "more than one way"),
    (counts(texts=0), "From text to tokens", "Identical"),
    (unmeasured, "From text to tokens", "Identical"),
)
