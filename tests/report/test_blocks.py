from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report import paper
from tinylm.report import html, typst
from tinylm.report.blocks import (
    Document,
    Figure,
    Heading,
    Paragraph,
    Sample,
    Span,
    Table,
    code,
    literal,
    number,
    plain_text,
    spans,
)


def test_spans_of_every_kind() -> None:
    assert spans("a *b* `c*` $x^2$ [[fig:d]] \\* e") == [
        Span("text", "a "),
        Span("emphasis", "b"),
        Span("text", " "),
        Span("code", "c*"),
        Span("text", " "),
        Span("math", "x^2"),
        Span("text", " "),
        Span("link", "fig:d"),
        Span("text", " * e"),
    ]


@given(st.text())
def test_literal_text_comes_out_as_it_went_in(text: str) -> None:
    assert plain_text(literal(text)) == text
    assert all(span.kind == "text" for span in spans(literal(text)))


@given(st.text(min_size=1), st.text())
def test_code_and_emphasis_hold_any_text(text: str, after: str) -> None:
    assert spans(code(text))[0] == Span("code", text)
    assert spans(f"*{literal(text)}*{literal(after)}")[0] == Span("emphasis", text)


def test_prose_has_apostrophes_and_what_is_quoted_keeps_its_own() -> None:
    quoted, emphasised = literal("'Tis the boy's dog's."), literal("don't")
    markup = f"The model's *Zipf's* `it's` {quoted} *{emphasised}*"
    texts = [span.text for span in spans(markup, typeset=True)]
    assert texts == ["The model’s ", "Zipf’s", " ", "it's", " 'Tis the boy's dog's. ", "don't"]
    assert plain_text(markup) == "The model's Zipf's it's 'Tis the boy's dog's. don't"


def test_the_number_of_a_name_stays_on_its_line() -> None:
    assert spans("*beam 5* of 8", typeset=True)[0] == Span("emphasis", "beam\u00a05")
    assert spans("*beam 5*")[0] == Span("emphasis", "beam 5")


def test_numbering_counts_each_kind_and_cites_in_order() -> None:
    blocks = [
        Heading(1, "One", "sec:one"),
        Heading(2, "Part", "sec:part"),
        Figure("fig:a", "a.svg", "see [[ba2016]]", "a"),
        Heading(1, "Two", "sec:two"),
        Figure("fig:b", "b.svg", "b", "b"),
        Table("tab:a", "t", ("x",), (("1",),), "r"),
        Paragraph("[[fig:b]], [[tab:a]], [[sec:part]], [[vaswani2017]], [[ba2016]]"),
    ]
    numbering = number(blocks)
    assert plain_text(blocks[-1].text, numbering) == (  # type: ignore[union-attr]
        "Figure\u00a02, Table\u00a01, Section\u00a01.1, [2], [1]"
    )
    assert numbering.cited == ("ba2016", "vaswani2017")
    assert numbering.numbers == ("1", "1.1", "1", "2", "2", "1", "")


def test_numbering_refuses_what_leads_nowhere() -> None:
    with pytest.raises(ValueError, match="fig:none"):
        number([Paragraph("[[fig:none]]")])
    with pytest.raises(ValueError, match="twice"):
        number([Heading(1, "a", "sec:a"), Heading(1, "b", "sec:a")])


def test_table_refuses_a_short_row() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        Table("t", "", ("a", "b"), (("1",),), "lr")


@pytest.mark.parametrize("value", [1.5, None, [], {"a": 1}])
def test_what_is_no_text_is_refused_where_text_belongs(value: object) -> None:
    with pytest.raises(TypeError, match="stands where text belongs"):
        Sample("1. True", value)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="stands where text belongs"):
        Table("tab:x", "", ("a", "b"), (("1", value),), "lr")  # type: ignore[arg-type]


def test_a_heading_stands_over_its_columns(tmp_path: Path) -> None:
    table = Table(
        "tab:a", "A.", ("", "Left", "Right"), (("n", "1", "2", "3"),), "lrrr", spans=(1, 2, 1)
    )
    document = Document("t", "", "", "", (table,))
    page = html.page(document, tmp_path)
    assert '<th class="" scope="col"></th>' in page
    assert '<th class="c" scope="colgroup" colspan="2">Left</th>' in page
    assert '<th class="r" scope="col">Right</th>' in page
    now = datetime(2025, 1, 2, tzinfo=UTC)
    (printed,) = paper.read(typst.pdf(typst.source(document, now), tmp_path, now))
    places = {
        name: printed.boxes[i : i + len(name), 0::2].mean()
        for name in ("Left", "Right")
        for i in [printed.characters.index(name)]
    }
    first = printed.characters.index("n1") + 1
    first_end, second_end, third_end = printed.boxes[first : first + 3, 2]
    assert first_end < places["Left"] < second_end < places["Right"] < third_end
    with pytest.raises(ValueError, match="differ in length"):
        Table("t", "", ("a", "b"), (("1", "2"),), "rr", spans=(1, 2))
