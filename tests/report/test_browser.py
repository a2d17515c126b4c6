"""The pages for the screen, as Chromium draws them on a telephone and on a desk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from importlib import resources
from pathlib import Path

import pytest
from fontTools.ttLib import TTFont

from tests.report import fixtures
from tests.report.browser import Browser, chromium
from tinylm.experiments.lens import reading as lens_reading
from tinylm.experiments.lens.page import lens_html
from tinylm.report import html
from tinylm.report.blocks import Block, Document, Equation, Paragraph, Table, code

TELEPHONE, DESK = 390, 1280


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


def written(folder: Path, *blocks: Block) -> Path:
    path = folder / "page.html"
    path.write_text(html.page(Document("A title", "", "", "", blocks), folder), "utf-8")
    return path


@pytest.mark.parametrize("width", [TELEPHONE, DESK])
@pytest.mark.parametrize("name", ["report.html", "attention.html"])
def test_nothing_lies_beyond_the_edge(
    browser: Browser, run_folder: Path, name: str, width: int
) -> None:
    (path,) = run_folder.rglob(name)
    browser.open(path, width)
    assert browser.run("return document.documentElement.clientWidth") == width
    assert not browser.faults()


def test_letters_of_figures_can_be_read_on_a_telephone(browser: Browser, run_folder: Path) -> None:
    """They are at least three quarters as large as on a desk; the figure scrolls in its box."""
    widths = """return [...document.querySelectorAll("figure img")].map(image => [
        image.style.getPropertyValue("--width"), image.getBoundingClientRect().width,
        image.parentElement.clientWidth])"""
    browser.open(run_folder / "report.html", DESK)
    desk = browser.run(widths)
    browser.open(run_folder / "report.html", TELEPHONE)
    telephone = browser.run(widths)
    assert len(desk) == len(telephone) > 3
    for (share, large, _), (_, small, room) in zip(desk, telephone, strict=True):
        assert 0.75 * large < small <= 544 * float(share) + 1
        assert room <= TELEPHONE


@pytest.mark.parametrize(
    ("markup", "said"),
    [
        ("<div style='width: 600px'>wide</div>", "600 wide"),
        ("<div style='width: 40px'><i style='display: block; width: 90px'>w</i></div>", "90 in 40"),
        ("<p style='margin-left: -9px'>left</p>", "-9 to"),
        ("<p style='width: 30px; word-break: break-all'>happy</p>", "broken: happy"),
        ("<img alt='a curve' src='data:image/png;base64,AAAA'>", "no picture: a curve"),
    ],
)
def test_what_is_wrong_with_a_page_is_seen(
    browser: Browser, tmp_path: Path, markup: str, said: str
) -> None:
    path = tmp_path / "page.html"
    path.write_text(f"<!DOCTYPE html><body style='margin: 0'>{markup}", "utf-8")
    browser.open(path, TELEPHONE)
    assert any(said in fault for fault in browser.faults())


def test_long_formulas_words_and_tables_stay_inside(browser: Browser, tmp_path: Path) -> None:
    long = code("/".join(["a-folder"] * 12))
    table = Table("tab:a", "A.", ("Setting", "Value"), ((long, "happy"), ("x", long)), "lp")
    path = written(
        tmp_path, Equation(" + ".join("x" * 40)), Paragraph(f"In {long} and {long}."), table
    )
    for width in (TELEPHONE, DESK):
        browser.open(path, width)
        assert not browser.faults()
        box = "document.querySelector('.equation > div')"
        scroll, inside = browser.run(f"return [{box}.scrollWidth, {box}.clientWidth]")
        assert scroll > inside  # the formula scrolls in its own box, its number stands beside it


def test_mathematics_has_a_font_of_its_own(browser: Browser, tmp_path: Path) -> None:
    """Brackets stretch and limits stand clear of their sign."""
    path = written(tmp_path, Equation("(a)"), Equation("((a / b) / (c / d))"),
                   Equation("sum_(i=1)^n x_i"))  # fmt: skip
    browser.open(path, DESK)
    fonts = "return [...document.fonts].map(font => [font.family, font.status])"
    assert browser.run(fonts) == [["tinylm Math", "loaded"]]
    heights = """return [...document.querySelectorAll("mo")].filter(mo => mo.textContent === "(")
        .map(mo => mo.getBoundingClientRect().height)"""
    low, high, *_ = browser.run(heights)
    assert high > 2 * low
    over, sign, under = browser.run("""
        const parts = document.querySelector("munderover").children;
        return [2, 0, 1].map(i => parts[i].getBoundingClientRect())""")
    assert over["bottom"] <= sign["top"] and sign["bottom"] <= under["top"]
    assert sign["height"] > 2 * over["height"]  # the sum is a large one


def test_the_font_has_every_sign_of_the_formulas(run_folder: Path) -> None:
    font = TTFont(resources.files("tinylm.report") / "templates/math.woff")
    formulas = re.findall("<math.*?</math>", (run_folder / "report.html").read_text("utf-8"))
    signs = {sign for formula in formulas for sign in unescape(re.sub("<[^>]*>", "", formula))}
    assert len(signs) > 60
    signs -= {"\ufe00", "\n", " "}  # the first chooses a form of the sign before it
    assert not signs - set(map(chr, font.getBestCmap()))


def test_a_page_of_a_lens_shows_more_of_a_cell_that_has_the_focus(
    browser: Browser, tmp_path: Path
) -> None:
    reading = fixtures.example("lens")["example"]["logit"]
    path = tmp_path / "lens.html"
    path.write_text(lens_html(reading, "Logit lens: <b>the</b> dog", "What is read."), "utf-8")
    for width in (DESK, TELEPHONE):
        browser.open(path, width)
        assert not browser.faults()
    assert browser.run("return document.querySelector('h1').textContent") == (
        "Logit lens: <b>the</b> dog"
    )
    displayed = "return getComputedStyle(document.querySelector('td:focus .more, .more')).display"
    assert browser.run(displayed) == "none"
    browser.run("document.querySelector('td').focus()")
    assert browser.run(displayed) == "block"
    word, probability = reading["cells"][0][0]["top"][0]
    shown = browser.run("return document.querySelector('td:focus .more').innerText")
    assert shown.startswith(f"{lens_reading.share(probability)}{word}")
    assert shown.endswith(f"divergence {reading['cells'][0][0]['divergence']:.3f} nats")
