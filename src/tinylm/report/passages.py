"""Passages: what a section says whatever was measured, in a text file that a teacher can edit.

A file holds passages of inline markup (``blocks``):

- ``## name`` begins a passage, and its name is what the section asks for;
- a blank line ends a paragraph, which may be broken into lines anywhere;
- a paragraph between ``$$`` and ``$$`` is a displayed equation, in Typst's notation;
- lines that begin with ``- `` are a list, whose items may go on in indented lines;
- ``{value}`` stands for what the section gives under that name, and ``\\{`` for a brace.

What stands before the first passage is for those who edit the file.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tinylm.errors import DataError, key_shown, nearest
from tinylm.report.blocks import Block, Bullets, Equation, Paragraph

FILE = "text.md"
_HEADING = re.compile(r"^## +(.+?) *$", re.MULTILINE)
_VALUE = re.compile(r"\\\{|\{(\w+)\}")
_ITEM = re.compile(r"^- +", re.MULTILINE)


@dataclass(frozen=True)
class Passages:
    """The passages of one file."""

    path: Path
    texts: Mapping[str, str]

    def blocks(self, name: str, /, **values: str) -> list[Block]:
        """Return a passage as paragraphs, equations and lists.

        Args:
            name: of the passage.
            values: inline markup for every ``{value}`` that the passage may hold.

        Raises:
            DataError: naming the file, if it lacks the passage or names another value.
        """
        made: list[Block] = []
        for part in re.split(r"\n\s*\n", self._text(name)):
            if part.startswith("$$") and part.endswith("$$") and len(part) > len("$$$$"):
                made.append(Equation(self._filled(name, part[2:-2], values)))
            elif part.startswith("- "):
                items = _ITEM.split(part)[1:]
                made.append(Bullets(tuple(self._filled(name, item, values) for item in items)))
            else:
                made.append(Paragraph(self._filled(name, part, values)))
        return made

    def line(self, name: str, /, **values: str) -> str:
        """Return a passage as one piece of inline markup: a caption, a note, a sentence.

        Raises:
            DataError: naming the file, if it lacks the passage or names another value.
        """
        return self._filled(name, self._text(name), values)

    def _text(self, name: str) -> str:
        text = self.texts.get(name)
        if not text:
            raise DataError(
                f"{self.path} has no passage {name!r}: put the line '## {name}' and its text back"
            )
        return text

    def _filled(self, name: str, text: str, values: Mapping[str, str]) -> str:
        def value(match: re.Match[str]) -> str:
            key = match[1]
            if key is None:
                return "{"
            if key not in values:
                known = nearest(key, values) if values else "; it may name none"
                raise DataError(
                    f"{self.path}, passage {name!r}: there is no value {key_shown(key)!r}{known}; "
                    "a brace of the text is written \\{"
                )
            return values[key]

        return _VALUE.sub(value, _one_line(text))


def passages(module: str) -> Passages:
    """Return the passages of the text file beside a module.

    Args:
        module: the module's ``__file__``.

    Raises:
        DataError: if a passage stands in it twice.
    """
    return read(Path(module).with_name(FILE))


@functools.cache
def read(path: Path) -> Passages:
    """Return the passages of a file, see ``passages``."""
    _, *parts = _HEADING.split(path.read_text("utf-8"))
    texts: dict[str, str] = {}
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        if name in texts:
            raise DataError(f"{path} has the passage {name!r} twice: give one another name")
        texts[name] = text.strip()
    return Passages(path, texts)


def _one_line(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines()).strip()
