"""What a document shows: each block that runs, with the output that is printed below it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

OMITTED = "…"
"""A line of an output that stands for any number of lines."""


@dataclass(frozen=True)
class Shown:
    """A block and its output."""

    section: str
    language: str
    """``python`` or ``sh``."""
    code: str
    output: str
    """What is printed under it; empty: nothing is."""


def sections(path: Path) -> dict[str, str]:
    """Return the text of every section, by its heading."""
    _, *parts = re.split(r"^## ", path.read_text("utf-8"), flags=re.MULTILINE)
    return dict(part.split("\n", 1) for part in parts)


def shown(path: Path) -> list[Shown]:
    """Return all blocks of Python and of the shell in their order."""
    return [
        Shown(section, language, code, output or "")
        for section, text in sections(path).items()
        for language, code, output in re.findall(
            r"```(python|sh)\n(.*?)```\n(?:\n```text\n(.*?)```)?", text, flags=re.DOTALL
        )
    ]


def stripped(text: str) -> list[str]:
    """Return the lines of an output without spaces at their ends and empty lines around."""
    return [line.rstrip() for line in text.strip("\n").splitlines()]


def is_printed(output: str, expected: str) -> bool:
    """Return whether an output is the expected one, whose lines ``…`` stand for any lines."""
    pattern = "".join(
        r"(?:.*\n)*" if line.strip() == OMITTED else re.escape(line) + "\n"
        for line in stripped(expected)
    )
    return re.fullmatch(pattern, "".join(line + "\n" for line in stripped(output))) is not None
