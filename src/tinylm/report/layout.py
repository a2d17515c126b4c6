"""Where figures and tables stand: pages are full, sentences whole, sections together.

Text runs on from page to page line by line; a figure or a table fits on the rest of a page or it
does not, and then leaves that rest white. So it need not stand directly after the paragraph that
names it, but may stand after any later one of its section, and the text between fills the page.
All places are chosen together by a beam search over the places, from the heights that Typst
measures: a layout costs what its pages leave white, how far figures and tables stand from where
they are named, and how much figures are made smaller to fit. Figures keep their order among
themselves, and so do tables; both are numbered in the order in which they end up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from tinylm.report.blocks import (
    Block,
    Bullets,
    Code,
    Document,
    Equation,
    Figure,
    Heading,
    PageBreak,
    Paragraph,
    References,
    Sample,
    Table,
    inline_texts,
    plain_text,
    spans,
)
from tinylm.report.drawing import SMALLEST_LETTERS
from tinylm.report.sizes import PAGE_HEIGHT, Sizes, measure, whites
from tinylm.report.typst import is_whole, keeps_with, spaces

WIDTH_OF_SEARCH = 150
"""Layouts that are kept after every block."""
SMALLEST = 0.84
"""Share of its width to which a figure may shrink, if its letters are large enough."""
SLACKS = (3.0, 10.0, 24.0, 16.0, 34.0, 6.0, 20.0, 29.0)
"""Points of a page that are left out of account, for what lines differ in height: tried in turn,
until Typst sets no page too white."""

# What a layout costs. A page that is a tenth white costs 1.5, one that is a third white 17.
WHITE = 150.0
TOO_WHITE, DEAR = 0.26, 300.0
FAR = 0.006
"""For every point of text between the paragraph that names a figure and the figure."""
OTHER_PART = 2.5
"""For every figure or table that waits where another part of the section begins."""
SHRINKING = 18.0
TOGETHER = 0.3
"""For a figure or table that follows another without a word between."""
SIDE_BY_SIDE = 2.0
"""What two tables beside each other are worth."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """The best way to a place in the text, so far."""

    cost: float
    filled: float
    """Points of the page that are taken."""
    below: float
    """Space that the last block wants below it."""
    placed: tuple[int, int]
    """How many tables and figures are placed."""
    last: Block | None = None
    before: _Layout | None = None

    def blocks(self) -> list[Block]:
        """Return what was placed, in order."""
        made: list[Block] = []
        layout: _Layout | None = self
        while layout is not None:
            if layout.last is not None:
                made.append(layout.last)
            layout = layout.before
        return made[::-1]


@dataclass(frozen=True, slots=True)
class _Float:
    """A figure or table, and the block of text after which it may stand at the earliest."""

    index: int
    after: int


def arrange(document: Document, root: str | Path, created: datetime) -> Document:
    """Return the document with figures and tables where they keep pages full.

    Args:
        document: the document, with every figure and table near the paragraph that names it.
        root: the folder that paths of figures start from.
        created: the date that the document bears.

    Raises:
        DataError: if Typst refuses the document or a figure.
    """
    sizes = measure(document, root, created)
    tried: list[tuple[float, int, Document]] = []
    for slack in SLACKS:
        blocks = arranged(document.blocks, sizes, slack)
        # Where a text is longer than foreseen, a break could leave its last lines alone on a page.
        free = [block for block in blocks if not isinstance(block, PageBreak)]
        for order in (blocks, free):
            made = replace(document, blocks=tuple(order))
            white = max(whites(made, root, created), default=0.0)
            if white <= TOO_WHITE:
                return made
            tried.append((white, len(tried), made))
    return min(tried)[2]


def arranged(blocks: Sequence[Block], sizes: Sizes, slack: float = SLACKS[0]) -> list[Block]:
    """Return blocks in the order in which they are printed, with page breaks between them.

    Args:
        blocks: the blocks of a document.
        sizes: their heights.
        slack: points at the end of every page that are not counted on.
    """
    return _Search(blocks, sizes, PAGE_HEIGHT - slack).run().blocks()


class _Search:
    """The beam search over one document."""

    def __init__(self, blocks: Sequence[Block], sizes: Sizes, page: float) -> None:
        self.blocks = blocks
        self.sizes = sizes
        self.page = page
        self.text = [i for i, block in enumerate(blocks) if not isinstance(block, (Table, Figure))]
        self.floats = tuple(tuple(_floats(blocks, kind)) for kind in (Table, Figure))
        self.leads = self._leads()
        # Points of text before every block of it.
        self.depths: dict[int, float] = {}
        depth = 0.0
        for i in self.text:
            self.depths[i] = depth
            depth += sizes.heights[i] + spaces(blocks[i])[0]

    def run(self) -> _Layout:
        """Return the cheapest layout of the whole."""
        layouts = [_Layout(0.0, self.sizes.top, 0.0, (0, 0))]
        for i, after in zip(self.text, [*self.text[1:], None], strict=True):
            layouts = [self._set_text(layout, i) for layout in layouts]
            following = None if after is None else self.blocks[after]
            must = _ends_section(following)
            layouts = self._with_floats(layouts, i, must or _may_follow(self.blocks[i], following))
            if must:
                due = tuple(sum(f.after <= i for f in floats) for floats in self.floats)
                layouts = [layout for layout in layouts if layout.placed == due]
            layouts = _best(layouts)
        return layouts[0]

    def _leads(self) -> dict[int, float]:
        """Return for every block of text the height that must fit before the page may end."""
        leads: dict[int, float] = {}
        for i, after in zip(reversed(self.text), [None, *reversed(self.text[1:])], strict=True):
            block = self.blocks[i]
            following = None if after is None else self.blocks[after]
            leads[i] = self._pieces(i)[0][1]
            if after is not None and keeps_with(block, following):
                space = max(spaces(block)[1], spaces(self.blocks[after])[0])
                leads[i] = self.sizes.heights[i] + space + leads[after]
        return leads

    def _pieces(self, i: int) -> list[tuple[float, float]]:
        """Return the parts of a block that stay whole: the space above each, and its height."""
        block = self.blocks[i]
        height, line, pitch = self.sizes.heights[i], self.sizes.line, self.sizes.pitch
        lines = round((height - line) / pitch) + 1
        if is_whole(block) or lines <= 3:
            return [(0.0, height)]
        if isinstance(block, Table):  # caption and header, like a row, and two rows stay together
            row = height / (len(block.rows) + 1)
            return [(0.0, 3 * row), *[(0.0, row)] * (len(block.rows) - 2)]
        pitch = (height - line) / (lines - 1)
        gap = pitch - line
        # Neither the first nor the last line of a paragraph stands alone.
        return [(0.0, line + pitch), *[(gap, line)] * (lines - 4), (gap, line + pitch)]

    def _set_text(self, layout: _Layout, i: int) -> _Layout:
        """Return the layout with a block of text after it."""
        block = self.blocks[i]
        above, below = spaces(block)
        explicit = is_whole(block) or isinstance(block, Heading)
        layout = self._make_room(layout, above, self.leads[i], explicit)
        cost, filled = layout.cost, self._filled(layout.filled, i)
        if isinstance(block, Heading):
            waiting = sum(len(floats) for floats in self._waiting(layout, i))
            cost += waiting * OTHER_PART
        return replace(
            layout, cost=cost, filled=filled % PAGE_HEIGHT, below=below, last=block, before=layout
        )

    def _filled(self, filled: float, i: int) -> float:
        """Return how much of the last page is taken with a block, which may run over its end."""
        for gap, height in self._pieces(i):
            filled = (
                height if 0 < filled < filled + gap + height > self.page else filled + gap + height
            )
        return filled

    def _make_room(self, layout: _Layout, above: float, height: float, explicit: bool) -> _Layout:
        """Return the layout with the space above a block, on the next page if it does not fit."""
        space = max(layout.below, above) if layout.filled else 0.0
        if not layout.filled or layout.filled + space + height <= self.page:
            return replace(layout, filled=layout.filled + space)
        white = 1 - layout.filled / PAGE_HEIGHT
        cost = layout.cost + WHITE * white**2 + DEAR * (white > TOO_WHITE)
        made = replace(layout, cost=cost, filled=0.0, below=0.0)
        return replace(made, last=PageBreak(), before=layout) if explicit else made

    def _waiting(self, layout: _Layout, i: int) -> list[tuple[_Float, ...]]:
        """Return the tables and the figures that may stand after block ``i`` and do not yet."""
        return [
            tuple(f for f in floats[placed:] if f.after <= i)
            for floats, placed in zip(self.floats, layout.placed, strict=True)
        ]

    def _with_floats(self, layouts: list[_Layout], i: int, allowed: bool) -> list[_Layout]:
        """Return the layouts, each with none, one or more figures and tables after block ``i``."""
        made = layouts
        while allowed and layouts:
            layouts = _best(longer for layout in layouts for longer in self._longer(layout, i))
            made = made + layouts
        return made

    def _longer(self, layout: _Layout, i: int) -> Iterator[_Layout]:
        """Yield the layout with one figure or table more, or two tables side by side."""
        for waiting in filter(None, self._waiting(layout, i)):
            index = waiting[0].index
            block = self.blocks[index]
            height = self.sizes.heights[index]
            yield self._set_float(layout, i, waiting[:1], height, block)
            if index in self.sizes.pairs and len(waiting) > 1:
                pair = self.sizes.pairs[index]
                yield self._set_float(layout, i, waiting[:2], pair, block)
            if isinstance(block, Figure):
                room = self.page - layout.filled - max(layout.below, spaces(block)[0])
                share = 1 - (height - room) / self.sizes.pictures[index]
                least = max(SMALLEST, SMALLEST_LETTERS / self.sizes.letters[index])
                if least <= share < 1 and layout.filled:
                    small = replace(block, width=block.width * share)
                    yield self._set_float(layout, i, waiting[:1], room, small, share)

    def _set_float(
        self,
        layout: _Layout,
        i: int,
        floats: Sequence[_Float],
        height: float,
        block: Block,
        share: float = 1.0,
    ) -> _Layout:
        above, below = spaces(block)
        follows = isinstance(layout.last, (Table, Figure))
        (index, *others) = (f.index for f in floats)
        whole = bool(others) or is_whole(block)
        made = self._make_room(layout, above, height if whole else self._pieces(index)[0][1], True)
        filled = made.filled + height if whole else self._filled(made.filled, index)
        cost = made.cost + SHRINKING * (1 - share) + TOGETHER * follows
        cost += sum(FAR * (self.depths[i] - self.depths[f.after]) for f in floats)
        cost -= SIDE_BY_SIDE * (len(floats) - 1)
        tables, figures = layout.placed
        if isinstance(block, Table):
            tables += len(floats)
            if len(floats) > 1:
                block = replace(block, beside=True)
        else:
            figures += 1
        made = replace(made, cost=cost, filled=filled, below=below,
                       placed=(tables, figures), last=block, before=made)  # fmt: skip
        for second in floats[1:]:
            made = replace(made, last=self.blocks[second.index], before=made)
        return made


def _best(layouts: Iterable[_Layout]) -> list[_Layout]:
    """Return the cheapest layouts, of those that end alike only one."""
    kept: dict[tuple[tuple[int, int], int], _Layout] = {}
    for layout in layouts:
        key = layout.placed, round(layout.filled / 6)
        if key not in kept or layout.cost < kept[key].cost:
            kept[key] = layout
    return sorted(kept.values(), key=lambda layout: layout.cost)[:WIDTH_OF_SEARCH]


def _floats(blocks: Sequence[Block], kind: type[Table] | type[Figure]) -> Iterator[_Float]:
    """Yield the tables or the figures with the block of text after which each may stand.

    That is the paragraph of its section that names it first, or the first place thereafter where
    none of the text is torn.
    """
    latest = 0
    for i, block in enumerate(blocks):
        if not isinstance(block, kind):
            continue
        start, end = _section(blocks, i)
        text = [j for j in range(start, end) if not isinstance(blocks[j], (Table, Figure))]
        naming = next((j for j in text if block.key in _named(blocks[j])), 0)
        earliest = max(latest, naming, *(j for j in text if j < i))
        latest = next(
            j for j in text if j >= earliest and _may_follow(blocks[j], _next_text(blocks, j))
        )
        yield _Float(i, latest)


def _section(blocks: Sequence[Block], i: int) -> tuple[int, int]:
    """Return where the section of a block begins and ends."""
    titles = [j for j, b in enumerate(blocks) if isinstance(b, Heading) and b.level == 1]
    start = max((j for j in titles if j <= i), default=0)
    return start, min((j for j in titles if j > i), default=len(blocks))


def _named(block: Block) -> set[str]:
    texts = inline_texts(block)
    return {span.text for text in texts for span in spans(text) if span.kind == "link"}


def _next_text(blocks: Sequence[Block], i: int) -> Block | None:
    return next((b for b in blocks[i + 1 :] if not isinstance(b, (Table, Figure))), None)


def _ends_section(after: Block | None) -> bool:
    """Whether a section ends before a block: all its figures and tables then have their place."""
    return after is None or (isinstance(after, Heading) and after.level == 1)


def _may_follow(block: Block, after: Block | None) -> bool:
    """Whether a figure may stand between two blocks of text, which tears no sentence or list."""
    if _ends_section(after):
        return True
    if isinstance(block, Heading) or isinstance(after, (Equation, Bullets, Code, References)):
        return False
    if isinstance(block, Sample) and isinstance(after, Sample):
        return False
    if isinstance(block, Paragraph) and not _ENDED.search(plain_text(block.text)):
        return False
    return not (isinstance(after, Paragraph) and _CONTINUES.match(plain_text(after.text)))


_ENDED = re.compile(r"[.!?]['\"’”)\]]*\s*$")
_CONTINUES = re.compile(r"\s*[a-zà-ÿ(]")
