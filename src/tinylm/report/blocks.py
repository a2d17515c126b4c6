"""The report as data: blocks of text, tables, figures and samples, and their numbers.

A section returns blocks; ``typst`` and ``html`` print the same blocks, so that the two reports
cannot say different things. Prose carries a minimal inline markup:

- ``*emphasis*``, `` `code` ``, ``$x^2$`` (mathematics in Typst's notation);
- ``[[key]]`` refers to the figure, table or section with that key ("Figure 3") or cites the
  reference with that name ("[2]");
- a backslash before one of ``\\*`$['`` makes it an ordinary character.

An apostrophe of prose is printed as one (’); that of a text which is quoted stays as it is.

Whatever comes from results or from a configuration goes through ``literal`` before it is put into
prose, so that a story's ``*`` stays a ``*``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tinylm.errors import shown
from tinylm.report.references import REFERENCES

SpanKind = Literal["text", "emphasis", "code", "math", "link"]
APPENDIX = "Appendix\u00a0"
"""What stands before the letter of an appendix in its heading."""
LabelKind = Literal["section", "appendix", "table", "figure", "listing", "reference"]


@dataclass(frozen=True)
class Span:
    """A run of inline text of one kind; of a ``link`` the text is the key."""

    kind: SpanKind
    text: str


@dataclass(frozen=True)
class Heading:
    """A section (level 1) or subsection (level 2)."""

    level: int
    text: str
    key: str = ""
    numbered: bool = True
    appendix: bool = False
    """Whether it begins an appendix: numbered by a letter and printed after the references, with
    all that follows up to the next section."""

    @property
    def is_appendix(self) -> bool:
        """Whether the word stands before its number."""
        return self.appendix and self.level == 1


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of inline markup."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list; every item is inline markup."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Equation:
    """A displayed equation in Typst's notation; never made from data."""

    typst: str


@dataclass(frozen=True)
class Table:
    """A numbered table; like a figure it moves to the end of a paragraph that keeps pages full.

    Attributes:
        key: what ``[[key]]`` names.
        caption: inline markup.
        columns: headers, inline markup.
        rows: cells, inline markup.
        alignment: one letter a column: l, r, c, or p for a column of running text that takes the
            room that is left.
        note: inline markup under the table.
        emphasised: indices of rows that are printed bold (a total, a best one).
        spans: how many columns each header stands over; empty: one each.
        beside: on paper it stands beside the table that follows it; the layout decides that.
    """

    key: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    alignment: str
    note: str = ""
    emphasised: tuple[int, ...] = ()
    spans: tuple[int, ...] = ()
    beside: bool = False

    def __post_init__(self) -> None:
        widths = {len(self.alignment), *(len(row) for row in self.rows)}
        widths.add(sum(span for _, span in self.headers()))
        if len(widths) != 1:
            raise ValueError(f"table {self.key!r}: rows, columns and alignment differ in length")
        _refuse_other_than_text(*(cell for row in self.rows for cell in row))

    def headers(self) -> list[tuple[str, int]]:
        """Return every header with how many columns it stands over."""
        return list(zip(self.columns, self.spans or (1,) * len(self.columns), strict=True))


@dataclass(frozen=True)
class Figure:
    """A numbered figure; it stands after the paragraph that names it, or some paragraphs later.

    Attributes:
        key: what ``[[key]]`` names.
        path: the SVG (or PNG) relative to the run's folder, with ``/``.
        caption: inline markup.
        alt: what it shows, for those who cannot see it; plain text.
        width: share of the text width.
    """

    key: str
    path: str
    caption: str
    alt: str
    width: float = 1.0


@dataclass(frozen=True)
class Code:
    """Commands or a file, as they are; long lines wrap.

    With a key and a caption (inline markup) it is a numbered listing.
    """

    text: str
    key: str = ""
    caption: str = ""


@dataclass(frozen=True)
class Sample:
    """Text from a story or from the model.

    Attributes:
        label: plain text: where it comes from.
        text: plain text.
        prompt: plain text that the model was given, printed before ``text``.
        note: plain text of measurements.
    """

    label: str
    text: str
    prompt: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        _refuse_other_than_text(self.label, self.text, self.prompt, self.note)

    @property
    def joint(self) -> str:
        """What stands between prompt and text."""
        return joint(self.text)


@dataclass(frozen=True)
class References:
    """The list of the cited works, in the order of their first citation."""


@dataclass(frozen=True)
class PageBreak:
    """Where the layout begins a new page; on screen it is nothing."""


Block = (
    Heading
    | Paragraph
    | Bullets
    | Equation
    | Table
    | Figure
    | Code
    | Sample
    | References
    | PageBreak
)  # fmt: skip


@dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    author: str
    date: str
    abstract: str
    blocks: tuple[Block, ...]
    footer: str = ""


@dataclass(frozen=True)
class Label:
    """What a key stands for."""

    kind: LabelKind
    number: str

    @property
    def text(self) -> str:
        """The words that a reader sees where the key is referred to."""
        if self.kind == "reference":
            return f"[{self.number}]"
        return f"{self.kind.capitalize()}\u00a0{self.number}"


@dataclass(frozen=True)
class Numbering:
    """The labels of a document's keys and, aligned with its blocks, every block's own number."""

    labels: dict[str, Label]
    numbers: tuple[str, ...]
    cited: tuple[str, ...] = field(default=())


_INLINE = re.compile(
    r"\\(?P<escaped>[\\*`$\['])"
    r"|\*(?P<emphasis>(?:\\.|[^*\\])+)\*"
    r"|`(?P<code>(?:\\.|[^`\\])+)`"
    r"|\$(?P<math>[^$]+)\$"
    r"|\[\[(?P<link>[\w:.-]+)\]\]"
)
_SPECIAL = re.compile(r"([\\*`$\['])")
_APOSTROPHE = re.compile(r"(?<=\w)'|'(?=s\b)")
_BEFORE_NUMBER = re.compile(r" (?=\d)")


def literal(text: str) -> str:
    """Return inline markup that prints ``text`` as it is."""
    return _SPECIAL.sub(r"\\\1", text)


def joint(text: str) -> str:
    """Return what stands before a text that goes on: nothing before a mark that closes."""
    return "" if text[:1] in tuple(".,;:!?’”)") else " "


def code(text: str) -> str:
    """Return inline markup that prints ``text`` as code (an empty text as nothing)."""
    return f"`{literal(text)}`" if text else ""


def spans(markup: str, typeset: bool = False) -> list[Span]:
    """Parse inline markup; what is not markup is text.

    Args:
        markup: inline markup.
        typeset: whether apostrophes and spaces become those of print: a number in an emphasised
            name, as in *beam 5*, stays on the line of the name.
    """
    parsed: list[Span] = []
    curl = (lambda text: _APOSTROPHE.sub("’", text)) if typeset else str

    def add(kind: SpanKind, text: str) -> None:
        if parsed and kind == "text" and parsed[-1].kind == "text":
            parsed[-1] = Span("text", parsed[-1].text + text)
        elif text:
            parsed.append(Span(kind, text))

    end = 0
    for match in _INLINE.finditer(markup):
        add("text", curl(markup[end : match.start()]))
        end = match.end()
        if match["escaped"] is not None:
            add("text", match["escaped"])
        elif match["emphasis"] is not None:
            text = _unescape(curl(match["emphasis"]))
            add("emphasis", _BEFORE_NUMBER.sub("\u00a0", text) if typeset else text)
        elif match["code"] is not None:
            add("code", _unescape(match["code"]))
        elif match["math"] is not None:
            add("math", match["math"])
        else:
            add("link", match["link"])
    add("text", curl(markup[end:]))
    return parsed


def inline_texts(block: Block) -> Iterator[str]:
    """Yield every piece of inline markup of a block, in reading order."""
    match block:
        case Heading(text=text) | Paragraph(text=text):
            yield text
        case Bullets(items=items):
            yield from items
        case Table():
            yield block.caption
            yield from block.columns
            for row in block.rows:
                yield from row
            yield block.note
        case Figure(caption=caption) | Code(caption=caption):
            yield caption
        case _:
            pass


def number(blocks: Sequence[Block], before: Iterable[str] = ()) -> Numbering:
    """Number sections, tables, figures and cited references.

    Args:
        blocks: the document's blocks.
        before: inline markup that is read before them (the abstract).

    Raises:
        ValueError: if a key is used twice or refers to nothing.
    """
    labels: dict[str, Label] = {}
    numbers: list[str] = []
    section = subsection = appendix = 0
    prefix = ""
    counts: dict[Literal["table", "figure", "listing"], int] = {
        "table": 0,
        "figure": 0,
        "listing": 0,
    }

    def label(key: str, made: Label) -> str:
        if key:
            if key in labels:
                raise ValueError(f"the key {key!r} is used twice in the report")
            labels[key] = made
        return made.number

    for block in blocks:
        match block:
            case Heading(numbered=True, level=1):
                subsection = 0
                if block.appendix:
                    appendix += 1
                    prefix = chr(ord("A") + appendix - 1)
                else:
                    section += 1
                    prefix = str(section)
                kind: LabelKind = "appendix" if block.appendix else "section"
                numbers.append(label(block.key, Label(kind, prefix)))
            case Heading(numbered=True):
                subsection += 1
                numbers.append(label(block.key, Label("section", f"{prefix}.{subsection}")))
            case Table():
                counts["table"] += 1
                numbers.append(label(block.key, Label("table", str(counts["table"]))))
            case Figure():
                counts["figure"] += 1
                numbers.append(label(block.key, Label("figure", str(counts["figure"]))))
            case Code() if block.key:
                counts["listing"] += 1
                numbers.append(label(block.key, Label("listing", str(counts["listing"]))))
            case _:
                numbers.append("")
    cited: list[str] = []
    texts = [*before, *(text for block in blocks for text in inline_texts(block))]
    for key in (span.text for text in texts for span in spans(text) if span.kind == "link"):
        if key in labels:
            continue
        if key not in REFERENCES:
            raise ValueError(f"the report refers to {key!r}, which it does not contain")
        cited.append(key)
        labels[key] = Label("reference", str(len(cited)))
    return Numbering(labels, tuple(numbers), tuple(cited))


def with_references(blocks: Sequence[Block], before: Iterable[str] = ()) -> list[Block]:
    """Return the blocks with the list of references, if any work is cited, and then the appendices.

    An appendix is written where it belongs, in the section that tells of it.
    """
    body: list[Block] = []
    appendices: list[Block] = []
    part = body
    for block in blocks:
        if isinstance(block, Heading) and block.level == 1:
            part = appendices if block.appendix else body
        part.append(block)
    if number(blocks, before).cited:
        heading = Heading(1, "References", "sec:references", numbered=False)
        body += [heading, References()]
    return [*body, *appendices]


def plain_text(markup: str, numbering: Numbering | None = None) -> str:
    """Return what a reader sees of inline markup, without its looks."""
    return "".join(
        numbering.labels[span.text].text if span.kind == "link" and numbering else span.text
        for span in spans(markup)
    )


def _refuse_other_than_text(*values: object) -> None:
    """Refuse what a damaged result put where text belongs, while its section is still known."""
    for value in values:
        if not isinstance(value, str):
            raise TypeError(f"{shown(value)} stands where text belongs")


def _unescape(text: str) -> str:
    return re.sub(r"\\([\\*`$\['])", r"\1", text)
