from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typst as wheel
from hypothesis import given, settings
from hypothesis import strategies as st

from tinylm.errors import DataError
from tinylm.report import html, typst
from tinylm.report.blocks import (
    Block,
    Bullets,
    Code,
    Document,
    Equation,
    Figure,
    Heading,
    Paragraph,
    References,
    Sample,
    Table,
    code,
    literal,
    number,
)

HOSTILE = (
    '#panic("no") $x @a *b* _c_ `d` \\ \\" <e> <unk> [f] ]{ }( // g /* h */ "i" \'j\' ~ -- '
    "{{ 1 }} {% if %} &amp; </p><script>alert(1)</script> [[fig:a]] "
    "\x00\x1b\u2028 = - + 1. \t\n\n k"
)
NOW = datetime(2025, 1, 2, tzinfo=UTC)


def document(text: str) -> Document:
    """A document that has the text in every place where data can stand."""
    safe = literal(text)
    blocks: tuple[Block, ...] = (
        Heading(1, safe, "sec:a"),
        Paragraph(f"{safe}*{safe}*{code(text)}"),
        Bullets((safe,)),
        Equation("x"),
        Table("tab:a", safe, (safe, "b"), ((safe, code(text)),), "lp", safe),
        Code(text),
        Code(text, "lst:a", safe),
        Sample(text, text, text, text),
    )
    return Document(text, text, text, safe, blocks, text)


@pytest.mark.parametrize("text", [HOSTILE, "", " ", "\\", '"', "#", "//", "中文 😀 é", "\ud800"])
def test_hostile_text_compiles(text: str) -> None:
    made = typst.pdf(typst.source(document(text), NOW), ".", NOW)
    assert made.startswith(b"%PDF")


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=60))
def test_any_text_compiles(text: str) -> None:
    assert typst.pdf(typst.source(document(text), NOW), ".", NOW).startswith(b"%PDF")


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=40))
def test_a_string_comes_back_from_typst_as_it_is(text: str) -> None:
    wanted = text.replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd")
    source = f"#metadata({typst.string(text)}) <it>".encode()
    compiler = wheel.Compiler(input=source)
    assert wheel_json(compiler.query("<it>", field="value", one=True)) == wanted


def wheel_json(text: str) -> str:
    import json

    return str(json.loads(text))


def test_hostile_text_stays_text_in_html(tmp_path: Path) -> None:
    page = html.page(document(HOSTILE), tmp_path)
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "{{ 1 }}" in page
    assert "\x00" not in page


def test_the_same_source_gives_the_same_bytes() -> None:
    source = typst.source(document("a"), NOW)
    assert typst.pdf(source, ".", NOW) == typst.pdf(source, ".", NOW)


def test_a_missing_figure_is_told_in_one_line(tmp_path: Path) -> None:
    figure = Figure("fig:a", "figures/none.svg", "a", "a")
    lonely = Document("t", "", "", "", (figure,))
    with pytest.raises(DataError, match=r"none\.svg"):
        html.page(lonely, tmp_path)
    with pytest.raises(DataError, match="cannot print") as error:
        typst.pdf(typst.source(lonely, NOW), tmp_path, NOW)
    assert "\n" not in str(error.value)


def test_mathematics_becomes_mathml() -> None:
    inline, displayed = typst.mathml([("x^2", False), ("sum_i p_i", True)])
    assert inline.startswith("<math>") and "<msup>" in inline
    assert re.match('<math display="block"', displayed)
    assert typst.mathml([]) == []


def test_brackets_stretch_around_what_is_tall_alone() -> None:
    low, high, nested = typst.mathml(
        [("f (x_1, y^2)", False), ("(a/b)", True), ("[sum_(i=1)^n (x_i)]", True)]
    )
    assert low.count('<mo stretchy="false">') == 2 and "<mo>(</mo>" not in low
    assert "<mo>(</mo>" in high and "stretchy" not in high
    assert "<mo>[</mo>" in nested and '<mo stretchy="false">(</mo>' in nested


def test_numbers_of_a_column_stand_in_line() -> None:
    rows = (("2,236", "37.0\u00a0ms†", "1.2 to 3"), ("13.25", "161\u00a0ms", "–"), ("–", "", "5"))
    table = Table("tab:t", "t", ("a", "b", "c"), rows, "rrr")
    source = typst.rules(table, number([table]))
    assert '[#"2,236";#hide(".25");], [#"37.0\u00a0ms†";], [#"1.2 to 3";]' in source
    assert '[#"13.25";], [#"161\u00a0ms";#hide("†");], [#"–";]' in source


def test_a_work_is_listed_with_one_address_and_no_stop_behind_a_question() -> None:
    document = Document("t", "", "", "", (Paragraph("[[michel2019]] [[ba2016]]"), References()))
    source = typst.source(document, datetime(2025, 1, 2, tzinfo=UTC))
    assert 'better than one?");#" ";' in source and "one?." not in source
    assert source.count("1607.06450") == 2  # where the link leads, and what is printed
