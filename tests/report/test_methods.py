"""The sections on how training and generation are done: what they say follows from the numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.report import fixtures, method_fixtures
from tests.report.test_build import text_of
from tinylm.registry import SECTIONS
from tinylm.report.blocks import Block, Heading, Table, plain_text
from tinylm.report.inputs import ReportInputs
from tinylm.report.measurements import (
    disturbances,
    hardware,
    measured,
    median,
    mib,
    rounds,
    seconds,
    spread,
    times,
)
from tinylm.report.sections import precision
from tinylm.report.sections.beam_search import beside_first
from tinylm.report.sections.gradient_checkpointing import slopes
from tinylm.report.sections.verification import verdict

NAMES = list(method_fixtures.results())


def blocks(name: str, result: dict[str, Any] | None) -> list[Block]:
    results = {} if result is None else {name: result}
    made: list[Block] = SECTIONS.load(name)(ReportInputs(fixtures.config(), results, Path("none")))
    return made


def tables(name: str) -> dict[str, Table]:
    made = blocks(name, method_fixtures.results()[name])
    return {block.key: block for block in made if isinstance(block, Table)}


@pytest.mark.parametrize("name", NAMES)
def test_without_its_result_a_section_is_empty(name: str) -> None:
    assert blocks(name, None) == []
    heading = blocks(name, method_fixtures.results()[name])[0]
    assert isinstance(heading, Heading) and heading.key == f"sec:{name}" and heading.level == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_section_stands_alone_and_refers_to_nothing_missing(name: str) -> None:
    assert len(text_of({name: method_fixtures.results()[name]})) > 1_000


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
        assert "Xeon" in note and "2 threads on 2 cores" in note
        assert "pread" in note or "range" in note
        assert "edian of 3 rounds" in note or name == "accumulation"


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (seconds(0.0413), "41.3\u00a0ms"),
        (seconds(2.345), "2.35\u00a0s"),
        (seconds(185), "3\u00a0min 5\u00a0s"),
        (mib(3 * 2**20), "3.00"),
        (times(2.314), "2.31×"),
        (rounds({"seconds": [1.0]}), "median of 1 round"),
        (spread({"seconds": [0.9794, 1.0, 1.0206, 1.0, 0.9794]}), "2.1\u202f%"),
        (hardware({"environment": {"cpu": "A*", "cores": 4, "threads": 1, "device": "cpu"}}),
         "A\\* (1 thread on 4 cores)"),
        (hardware({"environment": {"cpu": "A", "device": "NVIDIA H200"}}),
         "NVIDIA H200, with A as host"),
        (hardware({}), "an unnamed processor"),
    ],
)  # fmt: skip
def test_measurements_in_words(shown: str, wanted: str) -> None:
    assert shown == wanted


def test_a_disturbed_timing_bears_a_mark_and_the_note_says_what_it_is() -> None:
    quiet, noisy = method_fixtures.timing(1.0, 0.05, 5), method_fixtures.timing(1.0, 0.9, 5)
    assert median(quiet) == "1.00\u00a0s" and median(noisy) == "1.00\u00a0s†"
    assert disturbances([measured(quiet)]) == ""
    assert "†: disturbed" in disturbances([measured(quiet), measured(noisy)])
    assert rounds(quiet, method_fixtures.timing(1.0)) == "medians of 3 to 5 rounds"


def test_the_table_of_growth_is_never_long() -> None:
    found = method_fixtures.kv_cache()
    growth = found["growth"]
    growth["lengths"] = list(range(16, 657, 16))
    for way in ("cached", "uncached"):
        totals = [float(n) for n in growth["lengths"]]
        growth[way] = method_fixtures.way(totals, totals, 1.0)
    for memory in (found["memory"], []):
        found["memory"] = memory
        table = next(b for b in blocks("kv-cache", found)
                     if isinstance(b, Table) and b.key == "tab:kv-growth")  # fmt: skip
        assert len(table.rows) <= 8 and len(table.columns) == (7 if memory else 4)


# Gradient checkpointing


def test_slopes_are_bytes_a_layer() -> None:
    rows = [{"num_layers": n, "segment": k, "peak_bytes": 7 + n * (5 if k else 20)}
            for n in (3, 6, 12) for k in (0, 2)]  # fmt: skip
    assert slopes(rows, "peak_bytes") == pytest.approx({0: 20, 2: 5})
    assert slopes(rows[:2], "peak_bytes") == {}


# Verification


def test_a_failed_check_is_told_loudly() -> None:
    found = method_fixtures.verification()
    assert verdict(found) == "All 12 checks passed, in 14\u00a0s."
    found["rows"][4].update(passed=False, difference=None, note="RuntimeError: no")
    assert "1 of 12 checks *FAILED*: `accumulation`" in verdict(found)
    assert "must not be trusted until it passes" in verdict(found)
    found["rows"][5]["passed"] = False
    assert "`accumulation` and `gradient-checkpointing`" in verdict(found)
    table = next(b for b in blocks("verification", found) if isinstance(b, Table))
    assert table.emphasised == (4, 5)
    assert [row[-1] for row in table.rows].count("FAILED") == 2
    assert table.rows[4][3] == "–" and "RuntimeError: no" in table.rows[4][1]
    assert "2 of 12 checks" in text_of({"verification": found}).partition("Verification")[0]


def test_bounds_of_nothing_are_exact() -> None:
    rows = tables("verification")["tab:verification"].rows
    assert [row[4] for row in rows].count("exact") == 4
    assert plain_text(rows[0][2]) == "511" and rows[0][3] == "8.9·10⁻¹⁶" and rows[0][4] == "10⁻⁹"


# Efficiency


def test_one_size_has_no_exponent_and_is_shown_all_the_same() -> None:
    found = method_fixtures.efficiency()
    for series in found["growth"]:
        series["rows"] = series["rows"][:1]
        series["exponents"] = {
            cost: {"measured": None, "planned": None} for cost in series["exponents"]
        }
    made = {block.key: block for block in blocks("efficiency", found) if isinstance(block, Table)}
    assert made["tab:growth"].rows[0][1:] == ("–",) * 8
    assert len(made["tab:growth-points"].rows) == 4


def test_the_table_of_plans_shows_both_sides() -> None:
    rows = {row[0]: row[1:] for row in tables("efficiency")["tab:efficiency"].rows}
    found = method_fixtures.efficiency()["own"]
    kept = mib(found["planned"]["saved_bytes"])
    assert rows["Activations kept, MiB"] == (kept, kept, "none")
    assert rows["Peak memory of a step, MiB"][2] == "+4.0\u202f%"


# Number formats


def test_what_is_outside_the_tolerances_is_said() -> None:
    found = method_fixtures.precision()
    assert "within the 0.5\u202f% allowed" in precision.loss_comment(found)
    assert "All are within" in precision.gradient_comment(found)
    assert "no instructions" not in precision.loss_comment(found)
    found.update(failed=["loss", "gradient at the end"], native=False, loss_difference=0.021)
    said = precision.loss_comment(found)
    assert "2.10\u202f%, *outside* the 0.5\u202f% allowed" in said
    assert "training.precision=fp32" in said and "no instructions" in said
    assert "The gradient at the end is *outside*" in precision.gradient_comment(found)


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
