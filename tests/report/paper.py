"""A printed report as a reader sees it: lines of text, ink and white, measured on the PDF.

Nothing here knows how the report was made: the text comes from the PDF's own characters, what is
drawn from its pixels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pypdfium2
import pypdfium2.raw as pdfium
from numpy.typing import NDArray

LEFT, RIGHT = 70.9, 524.4
"""Edges of the text in points from the left edge of the page."""
TOP, BOTTOM = 76.5, 771.0
"""Edges of the text in points from the top of the page."""
HANGING = 4.0
"""Points by which hyphens and commas hang into the margin, so that the edge looks straight."""
WHITE_BAND = 36.0
"""Points of empty height from which white counts as white, not as the space between two blocks."""
CAPTION = re.compile(r"(Table|Figure) \d+\.")


@dataclass(frozen=True)
class Line:
    """Characters on one line, in the order of the text."""

    text: str
    size: float
    """The size of most of its letters in points."""
    left: float
    top: float
    right: float
    bottom: float

    @property
    def is_body(self) -> bool:
        """Whether it is running text, by its size and place."""
        return abs(self.size - 10.5) < 0.2 and TOP - 3 < self.bottom < BOTTOM + 3


@dataclass(frozen=True)
class Page:
    """A page: its characters, its lines, and where it bears ink (a point a row and a column)."""

    characters: str
    boxes: NDArray[np.float64]
    """Left, top, right and bottom of every character's ink."""
    lines: tuple[Line, ...]
    ink: NDArray[np.bool_]

    @property
    def fill(self) -> float:
        """Share of the height of the text that is not white.

        White is what lies below the last ink, and every empty band of more than ``WHITE_BAND``.
        """
        rows = np.flatnonzero(self.ink[int(TOP) - 2 : int(BOTTOM) + 1].any(axis=1))
        gaps = np.diff(np.concatenate([[0], rows, [int(BOTTOM) - int(TOP) + 2]]))
        white = gaps[:-1][gaps[:-1] > WHITE_BAND].sum() + gaps[-1]
        return float(1 - white / (BOTTOM - TOP))

    @property
    def overlaps(self) -> list[str]:
        """Characters that print over others, each with what stands around both.

        Neighbours may be kerned, a ligature is one box for its letters, and what stands at a tall
        bracket or root reaches into the box of it; of all others no two share a fifth of the
        smaller one's box.
        """
        marks = np.array([character in "()[]{}|‖√⎷∑∏" for character in self.characters])
        order = np.flatnonzero(~marks)
        order = order[np.argsort(self.boxes[order, 1], kind="stable")]
        boxes = self.boxes[order]
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        ends = np.searchsorted(boxes[:, 1], boxes[:, 3])
        result = []
        for i, (box, end) in enumerate(zip(boxes, ends, strict=True)):
            others = boxes[i + 1 : end]
            low = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
            shared = np.where((low > 0).all(axis=1), low.prod(axis=1), 0)
            clash = shared > 0.2 * np.minimum(areas[i], areas[i + 1 : end])
            for j in i + 1 + np.flatnonzero(clash):
                first, second = sorted((order[i], order[j]))
                if second - first > 3 and not (box == boxes[j]).all():
                    result.append(f"{self._around(first)!r} over {self._around(second)!r}")
        return result

    def _around(self, i: int) -> str:
        return self.characters[max(0, i - 12) : i + 12]

    @property
    def beyond(self) -> list[str]:
        """What stands outside the margins: lines, and ink that is no text."""
        left, right = LEFT - HANGING, RIGHT + HANGING
        lines = [line.text for line in self.lines if line.left < left or line.right > right]
        sides = self.ink[:, : int(left)].any() or self.ink[:, int(right) + 1 :].any()
        return lines + ["ink beside the text"] * bool(sides)


def read(path: Path | bytes) -> list[Page]:
    """Return the pages of a PDF."""
    with pypdfium2.PdfDocument(path) as document:
        return [_page(page) for page in document]


def torn(pages: Sequence[Page]) -> list[str]:
    """Return the sentences and lists into which a figure or a table was put.

    Each as the line before and the line after: text that stops without the end of a sentence, then
    a caption, then text that goes on in lower case; or one point of a list, a caption and another.
    """
    result = []
    last, caption = "", ""
    for line in (line for page in pages for line in page.lines):
        if CAPTION.match(line.text) and abs(line.size - 9) < 0.2:
            caption = line.text
        elif line.size > 11:  # a heading
            last, caption = "", ""
        elif line.is_body:
            halves = not re.search(r"[.!?:][)”’\"']*$", last) and line.text[:1].islower()
            points = line.text.startswith("•") and caption and last
            if caption and last and (halves or points):
                result.append(f"{last!r}, {caption!r}, {line.text!r}")
            last, caption = line.text, ""
    return result


def strayed(pages: Sequence[Page]) -> list[str]:
    """Return the figures and tables that stand in a later section than the text that names them.

    A section is what follows a heading of the highest level, by the size of its letters.
    """
    named: dict[str, int] = {}
    result = []
    section = 0
    for line in (line for page in pages for line in page.lines):
        caption = CAPTION.match(line.text) if abs(line.size - 9) < 0.2 else None
        if abs(line.size - 14) < 0.2:
            section += 1
        elif caption:
            name = caption[0].rstrip(".")
            if named.get(name, section) < section:
                result.append(name)
        elif line.is_body:
            for name in re.findall(r"(?:Table|Figure) \d+", line.text.replace("\u00a0", " ")):
                named.setdefault(name, section)
    return result


def _page(page: pypdfium2.PdfPage) -> Page:
    text = page.get_textpage()
    height = page.get_height()
    characters, sizes, boxes = [], [], []
    for i in range(text.count_chars()):
        character = chr(pdfium.FPDFText_GetUnicode(text, i))
        # Of a pair of surrogates, as mathematical letters are, the first stands for both.
        if character.isspace() or character in "\ufffe\u200b" or "\udc00" <= character <= "\udfff":
            continue
        left, bottom, right, top = text.get_charbox(i)
        characters.append(character)
        sizes.append(pdfium.FPDFText_GetFontSize(text, i))
        boxes.append((left, height - top, right, height - bottom))
    pixels = page.render(scale=1, grayscale=True).to_numpy()
    whole = np.array(boxes).reshape(-1, 4)
    return Page(
        "".join(characters),
        whole,
        tuple(_lines(characters, sizes, whole)),
        np.asarray(pixels.reshape(pixels.shape[:2]) < 230),
    )


def _lines(characters: list[str], sizes: list[float], boxes: NDArray[np.float64]) -> Iterator[Line]:
    starts = [0, *(i for i in range(1, len(boxes)) if _breaks(boxes[i - 1], boxes[i]))]
    for start, end in pairwise([*starts, len(boxes)]):
        letters = characters[start:end]
        for i in range(end - 1, start, -1):  # a space is a distance
            if boxes[i, 0] - boxes[i - 1, 2] > 0.13 * sizes[i]:
                letters[i - start : i - start] = " "
        part = boxes[start:end]
        yield Line(
            "".join(letters), float(np.median(sizes[start:end])),
            *part[:, :2].min(axis=0), *part[:, 2:].max(axis=0),
        )  # fmt: skip


def _breaks(before: NDArray[np.float64], after: NDArray[np.float64]) -> bool:
    """Whether a character begins a new line: further left, or clear of the last one's height."""
    return bool(after[0] < before[0] - 3 or after[1] > before[3] + 3 or after[3] < before[1] - 6)
