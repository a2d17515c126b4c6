"""Blocks -> Typst source -> PDF, with Typst's Python wheel (no network, no system packages).

Text never meets Typst's markup: every piece of it is printed as a string literal in code mode
(``#"…"``), where only the quote, the backslash and control characters mean anything. A corpus
full of ``#``, ``$``, ``@`` or ``//`` therefore comes out as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import typst

from tinylm.errors import DataError
from tinylm.printable import printable
from tinylm.report.blocks import (
    APPENDIX,
    Block,
    Bullets,
    Code,
    Document,
    Equation,
    Figure,
    Heading,
    Numbering,
    PageBreak,
    Paragraph,
    References,
    Sample,
    Span,
    Table,
    number,
    spans,
)
from tinylm.report.references import REFERENCES

LONG_TABLE = 40
"""Lines from which a table may run on to the next page, between two rows."""
LINE_OF_TABLE = 90
"""Characters of running text that a table holds in a line."""
LONG_CODE = 40
"""Lines from which a listing may."""
LONG_SAMPLE = 600
"""Characters from which a sample may."""
# Soft places to break a long path, address or key; a zero-width space prints nothing.
BREAKABLE = re.compile(r"(?<=[/_.=:,|])(?=[^\s/_.=:,|])")
_NUMBER = re.compile(r"([−\d,]+)((?:\.\d+)?)((?:[\u202f\u00a0]?[^\d\s†*`$\[\\]*)?)(†?)")
"""A cell with one number: what is before the point and from it on, the unit, and a mark."""
_TALL = {"mfrac", "msqrt", "mroot", "munder", "mover", "munderover", "mtable"}
"""Elements of MathML that make a formula taller than a line."""


def string(text: str) -> str:
    """Return ``text`` as a Typst string literal; what cannot be printed becomes U+FFFD."""
    text = printable(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return '"' + text.replace("\t", "    ") + '"'


def inline(markup: str, numbering: Numbering) -> str:
    """Return inline markup as Typst markup."""
    return "".join(_span(span, numbering) for span in spans(markup, typeset=True))


def source(document: Document, created: datetime) -> str:
    """Return the whole document as Typst source, blocks in their order.

    ``layout.arrange`` puts them in the order in which they fill pages well.
    """
    numbering = number(document.blocks, [document.abstract])
    body = []
    waiting: list[Table] = []  # tables that stand beside the one that follows
    following = [*document.blocks[1:], None]
    for block, after, shown in zip(document.blocks, following, numbering.numbers, strict=True):
        if isinstance(block, Table) and block.beside:
            waiting.append(block)
        elif isinstance(block, Table) and waiting:
            body.append(item(block, beside(waiting.pop(), block, numbering)))
        elif isinstance(block, PageBreak):
            body.append("#pagebreak(weak: true)")
        else:
            body.append(item(block, printed(block, numbering, shown), keeps_with(block, after)))
    return "\n\n".join([*head(document, created, numbering), *body]) + "\n"


def head(document: Document, created: datetime, numbering: Numbering) -> list[str]:
    """Return the template and what it prints before the blocks: title, author, date, abstract."""
    template = resources.files("tinylm.report").joinpath("templates/paper.typ").read_text("utf-8")
    date = f"datetime(year: {created.year}, month: {created.month}, day: {created.day})"
    return [
        template,
        f"#show: paper.with(title: {string(document.title)}, author: {string(document.author)}, "
        f"date: {date}, date-text: {string(document.date)}, "
        f"footer: {string(document.footer)}, "
        f"abstract: [{inline(document.abstract, numbering)}])",
    ]


def spaces(block: Block) -> tuple[float, float]:
    """Return the space above and below a block, in points; of two that meet the larger one holds.

    At the top and at the bottom of a page there is none.
    """
    match block:
        case Heading(level=1):
            return 26.6, 12.6
        case Heading():
            return 17.3, 9.2
        case Table() | Figure():
            return 15.8, 15.8
        case Equation():
            return 10.5, 10.5
        case Sample():
            return 9.0, 9.0
        case Code():
            return 10.0, 10.0
    return 10.7, 10.7


def keeps_with(block: Block, after: Block | None) -> bool:
    """Whether a block must not be parted from the one after it by the end of a page.

    So it is with headings and with the few words that announce a formula, a list or a command; a
    long paragraph would take too much of a page along.
    """
    if isinstance(block, Heading):
        return True
    announced = isinstance(after, (Equation, Bullets, Code))
    return isinstance(block, Paragraph) and announced and len(block.text) < 420


def is_whole(block: Block) -> bool:
    """Whether a block is never broken at the end of a page."""
    match block:
        case Table():
            return _lines(block) < LONG_TABLE
        case Code():
            return block.text.count("\n") < LONG_CODE
        case Heading() | Figure() | Equation():
            return True
        case Sample():
            return len(block.prompt + block.text) < LONG_SAMPLE
    return False


def _lines(table: Table) -> int:
    """Return about how many lines a table has, by the columns of running text in it."""
    room = LINE_OF_TABLE / (table.alignment.count("p") or 1) - 6 * len(table.alignment)
    running = [
        max((len(cell) for cell, side in zip(row, table.alignment, strict=True) if side == "p"),
            default=0)
        for row in table.rows
    ]  # fmt: skip
    return sum(1 + int(length / max(room, 20)) for length in running)


def item(block: Block, content: str, sticky: bool = False) -> str:
    """Return a printed block with the space around it and what holds at the end of a page."""
    above, below = spaces(block)
    options = ", sticky: true" * sticky + ", whole: true" * is_whole(block)
    return f"#item({above}, {below}{options})[{content}]"


def pdf(source: str, root: str | Path, created: datetime) -> bytes:
    """Compile Typst source to a PDF; the same source, figures and date give the same bytes.

    Args:
        source: Typst source.
        root: the folder that paths of figures start from; nothing outside it is read.
        created: the date that the file bears.

    Raises:
        DataError: if Typst refuses the source or a figure.
    """
    try:
        # System fonts stay allowed: they are used only for characters, such as those of other
        # scripts, that none of the wheel's own fonts has.
        compiler = typst.Compiler(root=str(root))
        made = compiler.compile(
            source.encode("utf-8"), format="pdf", timestamp=int(created.timestamp())
        )
    except typst.TypstError as error:
        raise DataError(f"Typst cannot print the report: {error.message}") from error
    assert isinstance(made, bytes)  # a list only for formats with one file a page
    return made


def query(source: str, root: str | Path, label: str) -> list[Any]:
    """Return the values of the metadata that bear a label in Typst source, in their order.

    Raises:
        DataError: if Typst refuses the source or a figure.
    """
    try:
        compiler = typst.Compiler(input=source.encode("utf-8"), root=str(root))
        values = compiler.query(f"<{label}>", field="value")
    except RuntimeError as error:  # of which typst.TypstError is one
        raise DataError(f"Typst cannot print the report: {error}") from error
    return list(json.loads(values))


def mathml(equations: Iterable[tuple[str, bool]]) -> list[str]:
    """Return MathML of equations in Typst's notation, each with whether it is displayed."""
    wanted = list(equations)
    if not wanted:
        return []
    lines = [f"$ {text} $" if displayed else f"${text}$" for text, displayed in wanted]
    page = typst.compile("\n\n".join(lines).encode("utf-8"), format="html").decode("utf-8")
    formulas = re.findall(r"<math.*?</math>", page.partition("<body>")[2], re.DOTALL)
    if len(formulas) != len(wanted):
        raise ValueError(f"{len(wanted)} equations gave {len(formulas)} pieces of MathML")
    return [_with_low_brackets(formula) for formula in formulas]


def _with_low_brackets(formula: str) -> str:
    """Return MathML in which brackets around what is no taller than a line do not stretch.

    Browsers give a bracket that may stretch the width of its largest form.
    """
    tree = ElementTree.fromstring(formula)
    for row in tree.iter("mrow"):
        if len(row) > 1 and not any(part.tag in _TALL for part in row.iter()):
            for mark in (row[0], row[-1]):
                if mark.tag == "mo" and mark.text and mark.text in "()[]{}":
                    mark.set("stretchy", "false")
    return ElementTree.tostring(tree, encoding="unicode")


def _span(span: Span, numbering: Numbering) -> str:
    match span.kind:
        case "emphasis":
            return f"#emph({string(span.text)});"
        case "code":
            return f"#raw({string(BREAKABLE.sub(chr(0x200B), span.text))});"
        case "math":
            return f"${span.text}$"
        case "link":
            return f"#to(<{_label(span.text)}>, {string(numbering.labels[span.text].text)});"
    return f"#{string(span.text)};"


def _label(key: str) -> str:
    return "k-" + re.sub(r"[^\w.-]", "-", key)


def _anchor(key: str) -> str:
    return f" <{_label(key)}>" if key else ""


def printed(block: Block, numbering: Numbering, shown: str = "", anchored: bool = True) -> str:
    """Return a block as Typst markup.

    Args:
        block: the block.
        numbering: what its references are printed from.
        shown: the number of a heading; figures and tables are counted by Typst, in their order.
        anchored: whether it bears the label that references lead to.
    """
    match block:
        case Heading():
            shown = f"{APPENDIX}{shown}" if block.is_appendix else shown
            numbered = f"(..levels) => {string(shown)}" if shown else "none"
            text = inline(block.text, numbering)
            made = f"#heading(level: {block.level}, numbering: {numbered})[{text}]"
        case Paragraph(text=text):
            return f"#par[{inline(text, numbering)}]"
        case Bullets(items=items):
            return f"#list({', '.join(f'[{inline(text, numbering)}]' for text in items)})"
        case Equation():
            return f"#display($ {block.typst} $)"
        case Table():
            made = (
                f"#booktabs({_rules(block, numbering)}, "
                f"caption: [{inline(block.caption, numbering)}], "
                f"note: [{inline(block.note, numbering)}], "
                f"long: {'false' if is_whole(block) else 'true'})"
            )
        case Figure():
            made = (
                f"#figure({picture(block)}, kind: image, placement: none, "
                f"caption: [{inline(block.caption, numbering)}])"
            )
        case Code() if block.key:
            made = (
                f"#figure(listing({string(block.text)}), kind: raw, placement: none, "
                f"caption: [{inline(block.caption, numbering)}])"
            )
        case Code():
            return f"#listing({string(block.text)})"
        case Sample():
            return (
                f"#sample(label: {string(block.label)}, prompt: {string(block.prompt)}, "
                f"joint: {string(block.joint)}, "
                f"body: {string(block.text)}, note: {string(block.note)})"
            )
        case References():
            return _references(numbering, anchored)
        case PageBreak():
            return ""
    return made + (_anchor(block.key) if anchored else "")


def picture(figure: Figure) -> str:
    """Return the call that draws a figure without its caption."""
    return f"picture({string('/' + figure.path)}, {100 * figure.width:.4g}%, {string(figure.alt)})"


def beside(left: Table, right: Table, numbering: Numbering, anchored: bool = True) -> str:
    """Return two tables side by side."""
    widths = ", ".join(f"measure({rules(table, numbering)}).width" for table in (left, right))
    tables = ", ".join(
        f"[{printed(table, numbering, anchored=anchored)}]" for table in (left, right)
    )
    return f"#context beside({tables}, {widths})"


def rules(table: Table, numbering: Numbering) -> str:
    """Return the call that draws a table without its caption and note."""
    return f"rules({_rules(table, numbering)})"


def _rules(table: Table, numbering: Numbering) -> str:
    columns = ", ".join("1fr" if letter == "p" else "auto" for letter in table.alignment)
    numbers = [_numbers([row[i] for row in table.rows]) if letter == "r" else {}
               for i, letter in enumerate(table.alignment)]  # fmt: skip
    names = {"l": "left", "p": "left", "r": "right", "c": "center"}
    alignment = ", ".join(names[letter] for letter in table.alignment)
    header = "".join(f"([{inline(cell, numbering)}], {span}), " for cell, span in table.headers())
    if not any(table.columns):
        header = ""
    cells = []
    for i, row in enumerate(table.rows):
        bold = i in table.emphasised
        for cell, aligned in zip(row, numbers, strict=True):
            content = aligned.get(cell) or inline(cell, numbering)
            cells.append(f"[#strong[{content}]]" if bold else f"[{content}]")
    return (
        f"columns: ({columns},), align: ({alignment},), header: ({header}), "
        f"rows: ({', '.join(cells)},)"
    )


def _numbers(column: Sequence[str]) -> dict[str, str]:
    """Return cell -> Typst markup of the numbers of a column, in line.

    Decimal points are, or where there are units, the units; a mark behind them stands apart. Empty
    where nothing has to be done, or where units differ, as seconds and milliseconds.
    """
    numbers = {cell: _NUMBER.fullmatch(cell) for cell in column if cell not in ("", "–")}
    parts = {cell: match.groups() for cell, match in numbers.items() if match}
    if len(parts) < len(numbers) or len({unit for _, _, unit, _ in parts.values()}) > 1:
        return {}
    decimals, marks = (
        max((part[k] for part in parts.values()), key=len, default="") for k in (1, 3)
    )
    bare = not any(unit for _, _, unit, _ in parts.values())
    made = {}
    for cell, (whole, decimal, unit, mark) in parts.items():
        # Digits are equally wide, printed or not. Units stand in line instead of points.
        blank = decimals[len(decimal) :] * bare + marks[len(mark) :]
        if blank:
            made[cell] = f"#{string(whole + decimal + unit + mark)};#hide({string(blank)});"
    return made


def _references(numbering: Numbering, anchored: bool) -> str:
    entries = []
    for key in numbering.cited:
        reference = REFERENCES[key]
        link, venue = string(reference.link), string(reference.venue)
        text = (
            f"#{string(f'{reference.authors} ({reference.year}). ')};"
            f"#emph({string(reference.title)});#{string(reference.stop + ' ')};"
        )
        text += f'#link({link}, {venue});#".";' if reference.is_address else f'#{venue};#".";'
        if reference.link and not reference.is_address:
            shown = string(reference.link.removeprefix("https://").replace("/", "/\u200b"))
            text += f" #link({link}, text(0.9em, {shown}));"
        number_text = string(numbering.labels[key].text)
        anchor = f"#metadata(none){_anchor(key)}" if anchored else ""
        entries.append(f"[{anchor}#{number_text};], [{text}]")
    return f"#references(({', '.join(entries)},))" if entries else ""
