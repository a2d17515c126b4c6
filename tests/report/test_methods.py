"""The sections on how training and generation are done: what they say follows from the numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.report import fixtures, method_fixtures
from tests.report.test_build import text_of
from tinylm.registry import SECTIONS
from tinylm.report.blocks import Block, Heading, Table, plain_text
from tinylm.report.inputs import ReportInputs
from tinylm.report.measurements import hardware, mib, order, rounds, seconds, spread, times
from tinylm.report.sections import efficiency, precision
from tinylm.report.sections.accumulation import loss_comment, memory_comment, time_comment
from tinylm.report.sections.gradient_checkpointing import (
    context_comment,
    depth_comment,
    slopes,
)
from tinylm.report.sections.gradient_checkpointing import (
    time_comment as price_comment,
)
from tinylm.report.sections.kv_cache import growth_comment, samples_comment
from tinylm.report.sections.kv_cache import memory_comment as cache_comment
from tinylm.report.sections.verification import verdict

NAMES = list(method_fixtures.results())
Edit = Callable[[dict[str, Any]], None]


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
    "name", [name for name in NAMES if name not in ("verification", "precision")]
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
        (rounds({"rounds": 1}), "median of 1 round"),
        (spread({"spread": 0.0412}), "4.1\u202f%"),
        (hardware({"environment": {"cpu": "A*", "cores": 4, "threads": 1, "device": "cpu"}}),
         "A\\* (1 thread on 4 cores)"),
        (hardware({"environment": {"cpu": "A", "device": "NVIDIA H200"}}),
         "NVIDIA H200, with A as host"),
        (hardware({}), "an unnamed processor"),
    ],
)  # fmt: skip
def test_measurements_in_words(shown: str, wanted: str) -> None:
    assert shown == wanted


def test_timings_differ_only_if_their_ranges_do() -> None:
    one, other = method_fixtures.timing(1.0, 0.1), method_fixtures.timing(1.2, 0.1)
    assert (order(one, other), order(other, one)) == (-1, 1)
    assert order(one, method_fixtures.timing(1.05, 0.1)) == 0


# Key-value cache


def cache_told(edit: Edit) -> str:
    found = method_fixtures.kv_cache()
    edit(found)
    return " ".join((samples_comment(found), growth_comment(found["growth"], True),
                     cache_comment(found)))  # fmt: skip


def faster(samples: dict[str, Any], cached: float, uncached: float) -> None:
    samples["cached"] = {**method_fixtures.timing(cached), "tokens_per_second": 1.0}
    samples["uncached"] = {**method_fixtures.timing(uncached), "tokens_per_second": 1.0}
    samples["ratio"] = uncached / cached


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda f: None, "quicker by a factor of 3.22"),
        (lambda f: faster(f["samples"], 2.0, 1.0), "*slower*, by a factor of 2.00"),
        (lambda f: faster(f["samples"], 1.0, 1.01), "shows no difference"),
        (lambda f: None, "gave the same tokens"),
        (lambda f: f["samples"].update(identical=False), "did *not* give the same tokens"),
        (lambda f: None, "1.08 with the cache, near to linear"),
        (lambda f: f["growth"]["cached"].update(exponent=1.9), "1.90 with the cache, near to quad"),
        (lambda f: f["growth"]["uncached"].update(exponent=1.5), "only in the long run"),
        (lambda f: f["growth"]["uncached"].update(exponent=2.6), "2.60 without it, above quad"),
        (lambda f: f["growth"]["cached"].update(exponent=0.6), "below linear"),
        (lambda f: f["growth"].update(speedup=[0.5] * 5), "At none of these lengths"),
        (lambda f: f["growth"].update(speedup=[0.5, 0.9, 1.2, 2, 3]), "from a length of 64 on"),
        (lambda f: f["growth"].update(speedup=[1.5, 0.9, 1.2, 2, 3]), "at 4 of 5 lengths"),
        (lambda f: None, "pays at every length measured"),
        (lambda f: f["growth"]["cached"].update(step_ms=[7.0] * 5), "nearly the same time"),
        (lambda f: f["growth"]["cached"].update(step_ms=[9, 8, 7, 6, 5]), "becomes shorter"),
        (lambda f: None, "exactly that size"),
        (lambda f: f["memory"][1].update(measured_bytes=2 * f["memory"][1]["formula_bytes"]),
         "by at most 100\u202f% (more)"),
        (lambda f: f.update(memory=[]), "bytes for each token of each text."),
    ],
)  # fmt: skip
def test_the_cache_is_judged_by_its_numbers(edit: Edit, said: str) -> None:
    assert said in cache_told(edit)


def test_what_is_not_so_is_not_said_of_the_cache() -> None:
    told = cache_told(lambda f: None)
    assert "slower" not in told and "in the long run" not in told


def test_the_table_of_growth_is_never_long() -> None:
    found = method_fixtures.kv_cache()
    growth = found["growth"]
    growth["lengths"] = list(range(16, 657, 16))
    for way in ("cached", "uncached"):
        growth[way]["total_s"] = [float(n) for n in growth["lengths"]]
    growth["speedup"] = [1.0] * len(growth["lengths"])
    for memory in (found["memory"], []):
        found["memory"] = memory
        table = next(b for b in blocks("kv-cache", found)
                     if isinstance(b, Table) and b.key == "tab:kv-growth")  # fmt: skip
        assert len(table.rows) <= 8 and len(table.columns) == (7 if memory else 4)


# Gradient accumulation


def with_losses(*losses: float) -> list[dict[str, Any]]:
    runs = copy.deepcopy(method_fixtures.accumulation()["runs"])
    for run, loss in zip(runs, losses, strict=True):
        run["validation_loss"] = loss
    return runs


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ((3.0, 3.1, 3.2, 3.4), "fewer updates bring the model less far"),
        ((3.4, 3.2, 3.1, 3.0), "*falls* with every enlargement"),
        ((3.2, 3.0, 3.1, 3.3), "lowest with $k$ = 2"),
        ((3.0, 3.001, 3.002, 3.003), "no difference for one training each"),
    ],
)
def test_losses_of_accumulation_are_told_as_they_are(losses: tuple[float, ...], said: str) -> None:
    assert said in loss_comment(with_losses(*losses))


def test_equal_steps_are_compared_by_training_loss() -> None:
    runs = method_fixtures.accumulation()["runs"]
    assert "brings the model further, but it costs 8.0 times the tokens" in loss_comment(runs)
    for point in runs[-1]["curve"]:
        point["loss"] += 9
    assert "not even each single update" in loss_comment(runs)
    runs[-1]["curve"] = []
    assert "At equal *steps*" not in loss_comment(runs)


def test_other_tokens_are_not_called_the_same() -> None:
    runs = method_fixtures.accumulation()["runs"]
    assert "the same 1.16 million tokens" in loss_comment(runs)
    runs[0]["tokens"] *= 2
    said = loss_comment(runs)
    assert "1,163,264 to 2,326,528 tokens" in said and "At equal tokens" not in said


def test_memory_and_time_of_accumulation_follow_the_numbers() -> None:
    runs = method_fixtures.accumulation()["runs"]
    assert "changes by 4\u202f%" in memory_comment(runs) and "saves 78" in memory_comment(runs)
    assert "it is quicker" in time_comment(runs)
    runs[-1]["tokens_per_second"] = {"median": 700, "min": 600, "max": 800}
    assert "accumulation is slower" in time_comment(runs)
    runs[-1]["tokens_per_second"] = {"median": 7_000, "min": 600, "max": 8_000}
    assert "not apart" in time_comment(runs)
    for run in runs:
        run["peak_bytes"] = run["whole_batch_peak_bytes"] = 10**8
    assert "hardly depends on $k$" in memory_comment(runs)
    assert "need no more either" in memory_comment(runs)
    assert memory_comment(runs[:1]) == time_comment(runs[:1]) == ""


# Gradient checkpointing


def test_slopes_are_bytes_a_layer() -> None:
    rows = [{"num_layers": n, "segment": k, "peak_bytes": 7 + n * (5 if k else 20)}
            for n in (3, 6, 12) for k in (0, 2)]  # fmt: skip
    assert slopes(rows, "peak_bytes") == pytest.approx({0: 20, 2: 5})
    assert slopes(rows[:2], "peak_bytes") == {}


def test_memory_against_depth_follows_the_numbers() -> None:
    rows = method_fixtures.gradient_checkpointing()["depth"]
    said = depth_comment(rows)
    assert "lowest with segments of 1 layer" in said and "48\u202f% less" in said
    assert "$a$ = 2.34 MiB" in said
    for row in rows:
        row["peak_bytes"] = 10**8 if not row["segment"] else 2 * 10**8
    assert "no segment length lowers the peak" in depth_comment(rows)
    assert "MiB" in depth_comment(method_fixtures.gradient_checkpointing()["depth"][:3])


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        (4 / 3, "agrees with the 4/3"),
        (1.2, "below the 4/3"),
        (1.6, "above the 4/3"),
        (0.8, "*quicker*"),
        (1.01, "In 6 of 6 comparisons the ranges"),
    ],
)
def test_the_price_in_time_is_set_against_theory(ratio: float, said: str) -> None:
    rows = method_fixtures.gradient_checkpointing()["depth"]
    for row in rows:
        row["step"] = method_fixtures.timing(ratio if row["segment"] else 1.0)
    assert said in price_comment(rows)


def test_without_a_plain_row_nothing_is_compared() -> None:
    rows = [row for row in method_fixtures.gradient_checkpointing()["depth"] if row["segment"]]
    assert "Nothing was measured" in price_comment(rows)
    depth_comment(rows)


def test_memory_against_context_follows_the_numbers() -> None:
    rows = method_fixtures.gradient_checkpointing()["context"]
    said = context_comment(rows)
    assert "with the same number of tokens" in said and "grows faster than the tokens" in said
    assert "With it they are not kept" in said
    for row in rows:
        row["saved_bytes"] = 1_000
    said = context_comment(rows)
    assert "no faster than the tokens" in said and "With it" not in said
    assert "Only one context length" in context_comment(rows[:3])


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


def test_plans_that_hold_are_told_from_those_that_do_not() -> None:
    found = method_fixtures.efficiency()
    said = efficiency.own_comment(found)
    assert "parameters, FLOPs, activations and the cache hold exactly" in said
    assert "differs from the estimate by +4.0\u202f%" in said
    found["own"]["measured"]["saved_bytes"] *= 0.9
    said = efficiency.own_comment(found)
    assert "parameters, FLOPs and the cache hold exactly" in said
    assert "differs from the plan for activations (−10.0\u202f%)" in said


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        (1.1, "grows as its FLOPs do with batch (1.10 against 1.00)"),
        (0.6, "grows more slowly than its FLOPs with batch (0.60 against 1.00)"),
        (1.4, "grows faster than its FLOPs with batch (1.40 against 1.00)"),
    ],
)
def test_exponents_are_compared(measured: float, said: str) -> None:
    growth = method_fixtures.efficiency()["growth"][:1]
    nothing = {"measured": None, "planned": None}
    for cost, subject in (("step", "a step"), ("generation", "generation")):
        growth[0]["exponents"] = {"step": nothing, "generation": nothing}
        assert efficiency.growth_comment(growth) == ""
        growth[0]["exponents"][cost] = {"measured": measured, "planned": 1.0}
        assert f"The time of {subject} {said}" in efficiency.growth_comment(growth)


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
