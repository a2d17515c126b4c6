"""Blocks -> one self-contained HTML file: styles, figures and mathematics inside, no scripts.

Figures go in as data URIs: as an image of its own, an SVG keeps its ids to itself, so that those of
two figures cannot collide. Mathematics becomes MathML, which every current browser draws; the font
that gives it stretched brackets and places for limits goes into the page too.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

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
    Table,
    inline_texts,
    number,
    spans,
)
from tinylm.report.references import REFERENCES
from tinylm.report.typst import BREAKABLE, mathml

_MIME = {".svg": "image/svg+xml", ".png": "image/png"}


def page(document: Document, root: str | Path) -> str:
    """Return the whole report as one HTML page.

    Args:
        document: the report.
        root: the folder that paths of figures start from.

    Raises:
        DataError: if a figure cannot be read.
    """
    printer = _Printer(document, Path(root))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    templates = resources.files("tinylm.report") / "templates"
    template = (templates / "page.html").read_text("utf-8")
    return environment.from_string(template).render(
        math_font=base64.b64encode((templates / "math.woff").read_bytes()).decode("ascii"),
        title=printable(document.title),
        author=printable(document.author),
        date=printable(document.date),
        footer=printable(document.footer),
        abstract=printer.inline(document.abstract),
        contents=printer.contents(),
        body=printer.body(),
    )


class _Printer:
    """Turns the blocks of one document into HTML."""

    def __init__(self, document: Document, root: Path) -> None:
        self.blocks = document.blocks
        self.root = root
        self.numbering: Numbering = number(document.blocks, [document.abstract])
        self.equation_number = 0
        self.math = _typeset(document)

    def inline(self, markup: str) -> Markup:
        """Return inline markup as HTML."""
        parts = []
        for span in spans(printable(markup), typeset=True):
            match span.kind:
                case "emphasis":
                    parts.append(Markup("<em>{}</em>").format(span.text))
                case "code":
                    parts.append(Markup("<code>{}</code>").format(_breakable(span.text)))
                case "math":
                    parts.append(self.math[span.text, False])
                case "link":
                    shown = self.numbering.labels[span.text].text
                    parts.append(Markup('<a href="#{}">{}</a>').format(_id(span.text), shown))
                case _:
                    parts.append(escape(span.text))
        return Markup("").join(parts)

    def contents(self) -> list[dict[str, object]]:
        """Return the table of contents: sections with their subsections."""
        entries: list[dict[str, object]] = []
        for i, (block, shown) in enumerate(zip(self.blocks, self.numbering.numbers, strict=True)):
            if not isinstance(block, Heading):
                continue
            entry: dict[str, object] = {
                "id": _heading_id(block, i),
                "number": f"{APPENDIX}{shown}" if block.is_appendix else shown,
                "text": self.inline(block.text),
                "parts": [],
            }
            if block.level == 1 or not entries:
                entries.append(entry)
            else:
                parts = entries[-1]["parts"]
                assert isinstance(parts, list)
                parts.append(entry)
        return entries

    def body(self) -> Markup:
        """Return every block as HTML."""
        parts = [
            self._block(block, shown, i)
            for i, (block, shown) in enumerate(
                zip(self.blocks, self.numbering.numbers, strict=True)
            )
        ]
        return Markup("\n").join(parts)

    def _block(self, block: Block, shown: str, index: int) -> Markup:
        match block:
            case Heading():
                level = min(block.level + 1, 6)
                shown = f"{APPENDIX}{shown}" if block.is_appendix else shown
                before = Markup('<span class="number">{}</span> ').format(shown) if shown else ""
                return Markup('<h{0} id="{1}">{2}{3}</h{0}>').format(
                    level, _heading_id(block, index), before, self.inline(block.text)
                )
            case Paragraph(text=text):
                return Markup("<p>{}</p>").format(self.inline(text))
            case Bullets(items=items):
                lines = [Markup("<li>{}</li>").format(self.inline(item)) for item in items]
                return Markup("<ul>{}</ul>").format(Markup("").join(lines))
            case Equation():
                self.equation_number += 1
                return Markup('<div class="equation"><div>{}</div><span>({})</span></div>').format(
                    self.math[block.typst, True], self.equation_number
                )
            case Table():
                return self._table(block, shown)
            case Figure():
                return self._figure(block, shown)
            case Code():
                listing = Markup("<pre><code>{}</code></pre>").format(printable(block.text))
                if not block.key:
                    return listing
                return Markup(
                    '<figure class="table" id="{}"><figcaption><b>Listing {}.</b> {}</figcaption>'
                    "{}</figure>"
                ).format(_id(block.key), shown, self.inline(block.caption), listing)
            case Sample():
                return _sample(block)
            case References():
                return self._references()
            case PageBreak():
                return Markup("")

    def _table(self, table: Table, shown: str) -> Markup:
        sides = {"l": "", "p": "p", "r": "r", "c": "c"}
        classes = [sides[letter] for letter in table.alignment]

        def row(cells: Sequence[str], name: str = "") -> Markup:
            inner = [
                Markup('<td class="{}">{}</td>').format(side, self.inline(cell))
                for side, cell in zip(classes, cells, strict=True)
            ]
            return Markup('<tr class="{}">{}</tr>').format(name, Markup("").join(inner))

        heads, place = [], 0
        for cell, span in table.headers():
            heads.append(
                Markup('<th class="{}"{}>{}</th>').format(
                    classes[place] if span == 1 else "c",
                    Markup(' scope="col"')
                    if span == 1
                    else Markup(' scope="colgroup" colspan="{}"').format(span),
                    self.inline(cell),
                )
            )
            place += span
        body = [
            row(cells, "strong" if i in table.emphasised else "")
            for i, cells in enumerate(table.rows)
        ]
        note = Markup('<p class="note">{}</p>').format(self.inline(table.note))
        return Markup(
            '<figure class="table" id="{}"><figcaption><b>Table {}.</b> {}</figcaption>'
            '<div class="scroll"><table class="{}"><thead>{}</thead><tbody>{}</tbody></table></div>'
            "{}</figure>"
        ).format(
            _id(table.key),
            shown,
            self.inline(table.caption),
            "wide" if "p" in table.alignment else "",
            Markup("<tr>{}</tr>").format(Markup("").join(heads)) if any(table.columns) else "",
            Markup("\n").join(body),
            note if table.note else "",
        )

    def _figure(self, figure: Figure, shown: str) -> Markup:
        path = self.root / figure.path
        try:
            content = base64.b64encode(path.read_bytes()).decode("ascii")
        except OSError as error:
            raise DataError(f"cannot read the figure {path}: {error.strerror}") from None
        return Markup(
            '<figure id="{}"><div class="scroll"><img src="data:{};base64,{}" alt="{}" '
            'style="--width: {:g}"></div><figcaption><b>Figure {}.</b> {}</figcaption></figure>'
        ).format(
            _id(figure.key),
            _MIME[path.suffix],
            content,
            printable(figure.alt),
            figure.width,
            shown,
            self.inline(figure.caption),
        )

    def _references(self) -> Markup:
        lines = []
        for key in self.numbering.cited:
            reference = REFERENCES[key]
            venue: Markup | str = reference.venue
            link = Markup("")
            if reference.is_address:
                venue = Markup('<a href="{}">{}</a>').format(reference.link, venue)
            elif reference.link:
                link = Markup(' <a href="{0}">{1}</a>').format(
                    reference.link, _breakable(reference.link.removeprefix("https://"))
                )
            lines.append(
                Markup('<li id="{}">{} ({}). <em>{}</em>{} {}.{}</li>').format(
                    _id(key),
                    reference.authors,
                    reference.year,
                    reference.title,
                    reference.stop,
                    venue,
                    link,
                )
            )
        return Markup('<ol class="references">{}</ol>').format(Markup("").join(lines))


def _typeset(document: Document) -> dict[tuple[str, bool], Markup]:
    """Return MathML of every equation of the document, all typeset in one go."""
    wanted: dict[tuple[str, bool], None] = {}
    texts = [document.abstract]
    for block in document.blocks:
        texts.extend(inline_texts(block))
        if isinstance(block, Equation):
            wanted[block.typst, True] = None
    for text in texts:
        wanted.update(
            {(span.text, False): None for span in spans(printable(text)) if span.kind == "math"}
        )
    return dict(zip(wanted, map(Markup, mathml(wanted)), strict=True))


def _sample(sample: Sample) -> Markup:
    head = Markup('<div class="label"><span>{}</span><span>{}</span></div>').format(
        printable(sample.label), printable(sample.note)
    )
    prompt = (
        Markup("<b>{}</b>{}").format(printable(sample.prompt), sample.joint)
        if sample.prompt
        else ""
    )
    return Markup('<div class="sample">{}<p>{}{}</p></div>').format(
        head if sample.label or sample.note else "", prompt, printable(sample.text)
    )


def _breakable(text: str) -> Markup:
    return Markup("<wbr>").join(escape(part) for part in BREAKABLE.split(text))


def _id(key: str) -> str:
    return re.sub(r"[^\w.-]", "-", key)


def _heading_id(heading: Heading, index: int) -> str:
    return _id(heading.key) if heading.key else f"part-{index}"
