"""The sections on how training and generation are done: what they say follows from the numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.report import fixtures, made_up
from tests.report.telling import SECTIONS
from tests.report.test_build import text_of
from tinylm.experiments.beam_search.section import beside_first
from tinylm.experiments.document.inputs import ReportInputs
from tinylm.experiments.gradient_checkpointing.section import slopes
from tinylm.report.blocks import Block, Heading, Table, plain_text
from tinylm.report.measurements import mib

NAMES = (
    *("hyperparameters", "kv-cache", "beam-search", "accumulation", "gradient-checkpointing"),
    *("efficiency", "precision", "verification"),
)


def blocks(name: str, result: dict[str, Any] | None) -> list[Block]:
    results = {} if result is None else {name: result}
    section: list[Block] = SECTIONS[name](ReportInputs(fixtures.config(), results, Path("none")))
    return section


def tables(name: str) -> dict[str, Table]:
    section = blocks(name, fixtures.example(name))
    return {block.key: block for block in section if isinstance(block, Table)}


@pytest.mark.parametrize("name", NAMES)
def test_without_its_result_a_section_is_empty(name: str) -> None:
    assert blocks(name, None) == []
    heading = blocks(name, fixtures.example(name))[0]
    assert isinstance(heading, Heading) and heading.key == f"sec:{name}" and heading.level == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_section_stands_alone_and_refers_to_nothing_missing(name: str) -> None:
    assert len(text_of({name: fixtures.example(name)})) > 1_000


@pytest.mark.parametrize(
    "name",
    [name for name in NAMES if name not in ("verification", "precision", "hyperparameters")],
)
def test_every_timing_shows_rounds_spread_and_machine(name: str) -> None:
    notes = [
        f"{table.caption} {' '.join(table.columns)} {table.note}"
        for table in tables(name).values()
        if "Measured on" in table.note
    ]
    assert notes
    for note in notes:
        assert "Xeon" in note and "2\u00a0threads on 2\u00a0cores" in note
        assert "pread" in note or "range" in note
        assert "edian of 3 rounds" in note or name == "accumulation"


def test_the_table_of_growth_is_never_long() -> None:
    result = fixtures.example("kv-cache")
    growth = result["growth"]
    growth["lengths"] = list(range(16, 657, 16))
    for way in ("cached", "uncached"):
        totals = [float(n) for n in growth["lengths"]]
        growth[way] = made_up.way(totals, totals, 1.0)
    for memory in (result["memory"], []):
        result["memory"] = memory
        table = next(b for b in blocks("kv-cache", result)
                     if isinstance(b, Table) and b.key == "tab:kv-growth")  # fmt: skip
        assert len(table.rows) <= 8 and len(table.columns) == (7 if memory else 4)


# Gradient checkpointing


def test_slopes_are_bytes_a_layer() -> None:
    rows = [{"num_layers": n, "segment": k, "peak_bytes": 7 + n * (5 if k else 20)}
            for n in (3, 6, 12) for k in (0, 2)]  # fmt: skip
    assert slopes(rows, "peak_bytes") == pytest.approx({0: 20, 2: 5})
    assert slopes(rows[:2], "peak_bytes") == {}


# Verification


def test_failed_checks_are_emphasised() -> None:
    result = fixtures.example("verification")
    for row in result["rows"][4:6]:
        row["passed"] = False
    table = next(b for b in blocks("verification", result) if isinstance(b, Table))
    assert table.emphasised == (4, 5)
    failed = [i for i, row in enumerate(table.rows) if "*FAILED*" in row[0]]
    assert failed == [4, 5]
    assert "2 of 12 checks" in text_of({"verification": result}).partition("Verification")[0]


def test_bounds_of_nothing_are_exact() -> None:
    rows = tables("verification")["tab:verification"].rows
    assert [row[4] for row in rows].count("exact") == 4
    assert plain_text(rows[0][2]) == "511" and rows[0][3] == "8.9·10⁻¹⁶" and rows[0][4] == "10⁻⁹"


# Efficiency


def test_one_size_has_no_exponent_and_is_shown_all_the_same() -> None:
    result = fixtures.example("efficiency")
    for series in result["growth"]:
        series["rows"] = series["rows"][:1]
        series["exponents"] = {
            cost: {"measured": None, "planned": None} for cost in series["exponents"]
        }
    tables = {
        block.key: block for block in blocks("efficiency", result) if isinstance(block, Table)
    }
    assert tables["tab:growth"].rows[0][1:] == ("–",) * 8
    assert len(tables["tab:growth-points"].rows) == 4


def test_the_table_of_plans_shows_both_sides() -> None:
    rows = {row[0]: row[1:] for row in tables("efficiency")["tab:efficiency"].rows}
    own = fixtures.example("efficiency")["own"]
    kept = mib(own["planned"]["saved_bytes"])
    assert rows["Activations kept, MiB"] == (kept, kept, "none")
    assert rows["Peak memory of a step, MiB"][2] == "+4.0\u202f%"


@pytest.mark.parametrize(
    ("first", "text", "shown"),
    [
        ("a b c d e f", "a b c d e g", "… d e g"),
        ("a b c d e f", "x b c d e f", "x b c …"),
        ("a b c d e f g h i", "a b c d x f g h i", "… c d x f g …"),
        ("a b c d e", "a b c d e", "…"),
        ("a b", "x y", "x y"),
        ("a b c d e f g", "z a b c d e f y", "z a b … e f y"),
        ("a b c d e", "z a b c d y", "z a b c d y"),
    ],
)
def test_of_a_later_hypothesis_the_differences_stand(first: str, text: str, shown: str) -> None:
    assert beside_first(first, text) == shown
