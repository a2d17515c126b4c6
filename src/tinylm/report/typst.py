"""Blocks -> Typst source -> PDF, with Typst's Python wheel (no network, no system packages).

Text never meets Typst's markup: every piece of it is printed as a string literal in code mode
(``#"…"``), where only the quote, the backslash and control characters mean anything. A corpus
full of ``#``, ``$``, ``@`` or ``//`` therefore comes out as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from importlib import resources
from pathlib import Path

import typst

from tinylm.errors import DataError
from tinylm.report.blocks import (
    Block,
    Bullets,
    Code,
    Document,
    Equation,
    Figure,
    Heading,
    Numbering,
    Paragraph,
    References,
    Sample,
    Span,
    Table,
    number,
    spans,
)
from tinylm.report.references import REFERENCES

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
# Soft places to break a long path, address or key; a zero-width space prints nothing.
_BREAKABLE = re.compile(r"(?<=[/_.=:,])(?=[^\s/_.=:,])")
_LONG_TABLE = 40
"""Rows from which a table may run on to the next page."""


def string(text: str) -> str:
    """Return ``text`` as a Typst string literal; what cannot be printed becomes U+FFFD."""
    text = _UNPRINTABLE.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return '"' + text.replace("\t", "    ") + '"'


def inline(markup: str, numbering: Numbering) -> str:
    """Return inline markup as Typst markup."""
    return "".join(_span(span, numbering) for span in spans(markup))


def source(document: Document, created: datetime) -> str:
    """Return the whole document as Typst source."""
    numbering = number(document.blocks, [document.abstract])
    template = resources.files("tinylm.report").joinpath("templates/paper.typ").read_text("utf-8")
    date = f"datetime(year: {created.year}, month: {created.month}, day: {created.day})"
    head = (
        f"#show: paper.with(title: {string(document.title)}, author: {string(document.author)}, "
        f"date: {date}, date-text: {string(document.date)}, "
        f"footer: {string(document.footer)}, "
        f"abstract: [{inline(document.abstract, numbering)}])"
    )
    body = []
    following = [*document.blocks[1:], None]
    for block, after in zip(document.blocks, following, strict=True):
        printed = _block(block, numbering)
        # Words that announce a formula, a list or a command stay on its page.
        if isinstance(block, Paragraph) and isinstance(after, (Equation, Bullets, Code)):
            printed = f"#block(width: 100%, sticky: true, par[{printed}])"
        body.append(printed)
    return "\n\n".join([template, head, *body]) + "\n"


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


def mathml(equations: Iterable[tuple[str, bool]]) -> list[str]:
    """Return MathML of equations in Typst's notation, each with whether it is displayed."""
    wanted = list(equations)
    if not wanted:
        return []
    lines = [f"$ {text} $" if displayed else f"${text}$" for text, displayed in wanted]
    page = typst.compile("\n\n".join(lines).encode("utf-8"), format="html").decode("utf-8")
    found = re.findall(r"<math.*?</math>", page.partition("<body>")[2], re.DOTALL)
    if len(found) != len(wanted):
        raise ValueError(f"{len(wanted)} equations gave {len(found)} pieces of MathML")
    return found


def _span(span: Span, numbering: Numbering) -> str:
    match span.kind:
        case "emphasis":
            return f"#emph({string(span.text)});"
        case "code":
            return f"#raw({string(_BREAKABLE.sub(chr(0x200B), span.text))});"
        case "math":
            return f"${span.text}$"
        case "link":
            return f"#link(<{_label(span.text)}>, {string(numbering.labels[span.text].text)});"
    return f"#{string(span.text)};"


def _label(key: str) -> str:
    return "k-" + re.sub(r"[^\w.-]", "-", key)


def _anchor(key: str) -> str:
    return f" <{_label(key)}>" if key else ""


def _block(block: Block, numbering: Numbering) -> str:
    match block:
        case Heading():
            numbered = '"1.1"' if block.numbered else "none"
            text = inline(block.text, numbering)
            flush = "#place.flush()\n" if block.after_floats else ""
            heading = f"#heading(level: {block.level}, numbering: {numbered})[{text}]"
            return flush + heading + _anchor(block.key)
        case Paragraph(text=text):
            return inline(text, numbering)
        case Bullets(items=items):
            return f"#list({', '.join(f'[{inline(item, numbering)}]' for item in items)})"
        case Equation():
            return f"$ {block.typst} $"
        case Table():
            return _table(block, numbering)
        case Figure():
            placement = "auto" if block.floats else "none"
            return (
                f"#figure(picture({string('/' + block.path)}, {100 * block.width:g}%, "
                f"{string(block.alt)}), kind: image, placement: {placement}, "
                f"caption: [{inline(block.caption, numbering)}]){_anchor(block.key)}"
            )
        case Code() if block.key:
            return (
                f"#figure(listing({string(block.text)}), kind: raw, placement: auto, "
                f"caption: [{inline(block.caption, numbering)}]){_anchor(block.key)}"
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
            return _references(numbering)


def _table(table: Table, numbering: Numbering) -> str:
    columns = ", ".join("1fr" if letter == "p" else "auto" for letter in table.alignment)
    names = {"l": "left", "p": "left", "r": "right", "c": "center"}
    alignment = ", ".join(names[letter] for letter in table.alignment)
    header = "".join(f"[{inline(cell, numbering)}], " for cell in table.columns)
    if not any(table.columns):
        header = ""
    rows = []
    for i, row in enumerate(table.rows):
        bold = i in table.emphasised
        cells = [inline(cell, numbering) for cell in row]
        rows.append(", ".join(f"[#strong[{cell}]]" if bold else f"[{cell}]" for cell in cells))
    return (
        f"#booktabs(columns: ({columns},), align: ({alignment},), header: ({header}), "
        f"rows: ({', '.join(rows)},), caption: [{inline(table.caption, numbering)}], "
        f"note: [{inline(table.note, numbering)}], "
        f"long: {'true' if len(table.rows) >= _LONG_TABLE else 'false'}, "
        f"key: {_anchor(table.key).strip() or 'none'})"
    )


def _references(numbering: Numbering) -> str:
    entries = []
    for key in numbering.cited:
        reference = REFERENCES[key]
        title = f"#emph({string(reference.title)});"
        text = (
            f"#{string(f'{reference.authors} ({reference.year}). ')};{title}"
            f"#{string(f'. {reference.venue}.')};"
        )
        if reference.link:
            shown = string(_BREAKABLE.sub(chr(0x200B), reference.link.removeprefix("https://")))
            text += f" #link({string(reference.link)}, text(0.9em, {shown}));"
        number_text = string(numbering.labels[key].text)
        entries.append(f"[#metadata(none){_anchor(key)}#{number_text};], [{text}]")
    return f"#references(({', '.join(entries)},))" if entries else ""
