"""What a printed report looks like: full pages, whole sentences, nothing over anything."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report import paper
from tinylm.experiments.document.build import assemble
from tinylm.experiments.document.inputs import load_inputs
from tinylm.report import layout, typst
from tinylm.report.blocks import (
    Block,
    Bullets,
    Document,
    Equation,
    Figure,
    Heading,
    Paragraph,
    Sample,
    Table,
    number,
)
from tinylm.report.layout import arrange

FULL = 0.7
"""Share of its height that every page but the last fills at least."""
NOW = datetime(2025, 1, 2, tzinfo=UTC)


def printed(document: Document, root: Path) -> bytes:
    return typst.pdf(typst.source(arrange(document, root, NOW), NOW), root, NOW)


def faults(pages: list[paper.Page]) -> dict[str, Any]:
    """Everything that is wrong with the pages, by kind."""
    problems = {
        "white": [(i, page.fill) for i, page in enumerate(pages[:-1], 1) if page.fill < FULL],
        "overlaps": [(i, text) for i, page in enumerate(pages, 1) for text in page.overlaps],
        "beyond": [(i, text) for i, page in enumerate(pages, 1) for text in page.beyond],
        "torn": paper.torn(pages),
        "strayed": paper.strayed(pages),
    }
    return {kind: found for kind, found in problems.items() if found}


def test_the_report_fills_its_pages_and_tears_no_sentence(run_folder: Path) -> None:
    pages = paper.read(run_folder / "report.pdf")
    assert len(pages) > 10
    assert not faults(pages)


def test_another_layout_is_tried_until_no_page_is_too_white(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Document] = []

    def white(document: Document, *_: Any) -> list[float]:
        tried.append(document)
        return [0.0, 0.1 if len(tried) == 12 else 0.5 - len(tried) / 100]

    monkeypatch.setattr(layout, "whites", white)
    document = Document("Title", "", "", "", (Heading(1, "One"), Paragraph("Text.")))
    assert arrange(document, tmp_path, NOW) is tried[11]
    tried.clear()
    monkeypatch.setattr(layout, "whites", lambda document, *_: tried.append(document) or [0.4])
    assert arrange(document, tmp_path, NOW) is tried[0]
    assert len(tried) == 2 * len(layout.SLACKS)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("#place(dx: 3pt, dy: 2pt)[words over]words that are under", "overlaps"),
        ("#box(width: 18cm)[#h(1fr) too far to the right]", "beyond"),
        ("#move(dx: -1cm, rect(width: 3cm))", "beyond"),
        ("Few words. #pagebreak() More.", "white"),
        ("Top. #v(9cm) Bottom. #v(1fr) End. #pagebreak() More.", "white"),
        ("Half a sentence #figure(rect(), caption: [A box.]) goes on here.", "torn"),
        ("See Figure 1. \n\n= Next\n\n Text. #figure(rect(), caption: [A box.]) More.", "strayed"),
        ("A list: #list([A point.]) #figure(rect(), caption: [A box.]) #list([More.])", "torn"),
    ],
)
def test_what_is_wrong_with_a_page_is_seen(body: str, kind: str) -> None:
    head, *_ = typst.head(Document("t", "", "", "", ()), NOW, number([]))
    source = f'{head}\n#show: paper.with(title: "A title", date-text: "today")\n{body}\n'
    assert set(faults(paper.read(typst.pdf(source, ".", NOW)))) == {kind}


@pytest.mark.parametrize("seed", range(4))
def test_so_does_a_report_of_some_of_the_sections(run_folder: Path, seed: int) -> None:
    chance = random.Random(seed)
    inputs = load_inputs(run_folder)
    kept = {name: result for name, result in inputs.results.items() if chance.random() < 0.6}
    training = kept.get("training")
    if training is not None:  # a longer or a shorter table
        training["validations"] = training["validations"] * chance.randint(1, 4)
    document = assemble(replace(inputs, results=kept))
    assert not faults(paper.read(printed(document, run_folder)))


@pytest.mark.parametrize("seed", range(8))
def test_so_does_a_document_of_any_blocks(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    blocks = [block for part in range(6) for block in section(chance, tmp_path, part)]
    document = Document("Any document", "", "", sentence(chance, 60), tuple(blocks))
    pages = paper.read(printed(document, tmp_path))
    assert len(pages) > 4
    assert not faults(pages)


def section(chance: random.Random, folder: Path, part: int) -> list[Block]:
    """A section with a few figures and tables of any height, each named in a paragraph."""
    blocks: list[Block] = [Heading(1, f"Section {part}", f"sec:{part}")]
    for i in range(chance.randint(4, 9)):
        key = f"{part}-{i}"
        kind = chance.choice(["figure", "table", "text", "text", "list", "formula", "sample"])
        text = " ".join(
            sentence(chance, chance.randint(8, 30)) for _ in range(chance.randint(1, 5))
        )
        if kind == "figure":
            height = chance.randint(200, 750)
            picture = f'<svg xmlns="http://www.w3.org/2000/svg" width="800" height="{height}">'
            box = f'<rect width="798" height="{height}" fill="#ccddee"/></svg>'
            (folder / f"{key}.svg").write_text(picture + box, "utf-8")
            blocks += [
                Paragraph(f"[[fig:{key}]] shows it. {text}"),
                Figure(f"fig:{key}", f"{key}.svg", sentence(chance, 20), "a box"),
            ]
        elif kind == "table":
            columns = chance.randint(2, 5)
            rows = tuple(("12.5",) * columns for _ in range(chance.randint(2, 24)))
            blocks += [
                Paragraph(f"{text} [[tab:{key}]] has the numbers."),
                Table(f"tab:{key}", sentence(chance, 12), ("Size",) * columns, rows, "r" * columns),
            ]
        elif kind == "list":
            points = tuple(sentence(chance, 15) for _ in range(chance.randint(2, 6)))
            blocks += [Paragraph(f"{text} In detail:"), Bullets(points)]
        elif kind == "formula":
            blocks += [
                Paragraph(f"{text} The sum is"),
                Equation("s = sum_(i=1)^n x_i / n"),
                Paragraph(f"where $n$ is their number. {text}"),
            ]
        elif kind == "sample":
            blocks += [
                Paragraph(f"{text} Two texts:"),
                *(Sample("a text", sentence(chance, 80), "Once upon a time") for _ in range(2)),
            ]
        else:
            blocks.append(Paragraph(text))
    return blocks


def sentence(chance: random.Random, words: int) -> str:
    letters = "etaoinshrdlu"
    made = ["".join(chance.choices(letters, k=chance.randint(2, 9))) for _ in range(words)]
    return " ".join(made).capitalize() + "."


def test_the_number_of_a_formula_stands_clear_of_it(tmp_path: Path) -> None:
    terms = [8, 18, 19, 20, 21, 22, 24]
    formulas = tuple(Equation(" + ".join(["x_1"] * count)) for count in terms)
    (page,) = paper.read(printed(Document("Formulas", "", "", "", formulas), tmp_path))
    numbers = [page.characters.index(f"({i})") for i, _ in enumerate(terms, 1)]
    for i in numbers:
        left, top, right, bottom = page.boxes[i : i + 3].T
        rest = np.delete(page.boxes, range(i, i + 3), axis=0)
        beside = rest[(rest[:, 1] < bottom.max()) & (rest[:, 3] > top.min())]
        assert left.min() - beside[:, 2].max() > 8
        assert abs(right.max() - paper.RIGHT) < 2
        assert beside[:, 0].min() > paper.LEFT - 1


def test_a_sample_goes_on_behind_its_prompt_and_keeps_its_paragraphs(tmp_path: Path) -> None:
    sample = Sample("greedy", ", there was Nora.\n\nShe ran.", "Once upon a time", "9 tokens")
    (page,) = paper.read(printed(Document("Samples", "", "", "", (sample,)), tmp_path))
    assert [line.text for line in page.lines if abs(line.size - 9.5) < 0.2] == [
        "Once upon a time, there was Nora.",
        "She ran.",
    ]
