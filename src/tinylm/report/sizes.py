"""How high every block of a document is on paper, measured by Typst itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tinylm.report import typst
from tinylm.report.blocks import (
    Block,
    Document,
    Figure,
    Heading,
    Numbering,
    PageBreak,
    Table,
    number,
)
from tinylm.report.drawing import smallest_letters

PAGE_HEIGHT = 694.48
"""Height of the text of a full page in points (24.5 cm)."""


@dataclass(frozen=True)
class Sizes:
    """Heights in points.

    Attributes:
        top: of what stands before the blocks: title, author and abstract, and the space below.
        heights: of the blocks, in their order, without the space around them.
        pictures: block -> the part of a figure's height that shrinks with its width.
        letters: block -> size of the smallest letters of a figure, in points.
        pairs: block -> height of a table beside the next table, where both fit the width.
        line: of the first line of a paragraph.
        pitch: from one line of a paragraph to the next.
    """

    top: float
    heights: tuple[float, ...]
    pictures: dict[int, float]
    letters: dict[int, float]
    pairs: dict[int, float]
    line: float
    pitch: float


def measure(document: Document, root: str | Path, created: datetime) -> Sizes:
    """Measure the blocks of a document.

    Args:
        document: the document.
        root: the folder that paths of figures start from.
        created: the date that the document bears.

    Raises:
        DataError: if Typst refuses the document or a figure.
    """
    numbering = number(document.blocks, [document.abstract])
    source = "\n\n".join([
        *typst.head(document, created, numbering),
        # Blocks are measured out of place, where a link would lead nowhere.
        "#let to(target, shown) = text(fill: accent, shown)",
        '#context [#metadata(("top", 0, (here().position().y - page-top) / 1pt)) <size>]',
        *_probes(document.blocks, numbering),
    ])  # fmt: skip
    values = {(name, i): height for name, i, height in typst.query(source, root, "size")}
    return Sizes(
        top=values["top", 0],
        heights=tuple(values["block", i] for i in range(len(document.blocks))),
        pictures={i: value for (name, i), value in values.items() if name == "picture"},
        letters={
            i: block.width * smallest_letters(Path(root) / block.path)
            for i, block in enumerate(document.blocks)
            if isinstance(block, Figure)
        },
        pairs={i: value for (name, i), value in values.items() if name == "pair"},
        line=values["lines", 1],
        pitch=values["lines", 2] - values["lines", 1],
    )


def whites(document: Document, root: str | Path, created: datetime) -> list[float]:
    """Return how much of each page but the last is left white at its end, as Typst sets it.

    Each is a share of the height of the text. A page whose end falls into a block that may be
    broken is full.

    Raises:
        DataError: if Typst refuses the document or a figure.
    """
    ends = (
        "#context [#metadata(query(<end>).map(mark => mark.location().position()).map("
        "place => (place.page, (place.y - page-top) / 1pt))) <ends>]"
    )
    (places,) = typst.query(f"{typst.source(document, created)}\n{ends}\n", root, "ends")
    items = [block for block in document.blocks if not isinstance(block, PageBreak)
             and not (isinstance(block, Table) and block.beside)]  # fmt: skip
    result = [0.0] * (places[-1][0] - 1)
    for (page, y), (after, _), block in zip(places, places[1:], items[1:], strict=False):
        if after > page and typst.is_whole(block):
            result[page - 1] = 1 - y / PAGE_HEIGHT
    return result


def _probes(blocks: tuple[Block, ...], numbering: Numbering) -> Iterator[str]:
    """Yield what measures each block and what is made of it."""
    for lines in (1, 2):
        yield _probe("lines", lines, f"#par[{' #linebreak() '.join(['x'] * lines)}]")
    for i, block in enumerate(blocks):
        yield _probe("block", i, typst.printed(block, numbering, anchored=False))
        if isinstance(block, Figure):
            yield _probe("picture", i, f"#{typst.picture(block)}")
    for i, j in neighbours(blocks):
        left, right = blocks[i], blocks[j]
        assert isinstance(left, Table) and isinstance(right, Table)
        pair = typst.beside(left, right, numbering, anchored=False)
        widths = (f"measure({typst.rules(t, numbering)}).width" for t in (left, right))
        fits = f"{' + '.join(widths)} + gutter.to-absolute() <= text-width"
        yield f"#context if {fits} [{_probe('pair', i, pair)}]"


def neighbours(blocks: Sequence[Block]) -> Iterator[tuple[int, int]]:
    """Yield tables that follow each other in a section and have no column of running text."""
    last = None
    for i, block in enumerate(blocks):
        if isinstance(block, Heading) and block.level == 1:
            last = None
        elif isinstance(block, Table):
            free = "p" not in block.alignment and typst.is_whole(block)
            if last is not None and free:
                yield last, i
            last = i if free else None


def _probe(name: str, index: int, content: str) -> str:
    height = f"measure(width: text-width, [{content}]).height / 1pt"
    return f'#context [#metadata(("{name}", {index}, {height})) <size>]'
