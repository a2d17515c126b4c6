"""ZeRO's stages: N ranks equal one process with all rows, and what they hold and send is counted.

What is said of bits was found so and is held here: all stages end with the same bits, on 2 ranks
and on 4, except that with several micro-batches stages 2 and 3 add them up after the sum over the
ranks, in another order than stages 0 and 1.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.training.zero.work import CASES, STEPS, everything, no_targets
from tinylm.planning.zero import FORMATS, StateFormat, zero_bytes, zero_numbers
from tinylm.training.zero.collectives import Collectives
from tinylm.training.zero.processes import run_ranks

RANKS, STAGES = (1, 2, 4), ("0", "1", "2", "3")
FLOAT64 = StateFormat("float64 throughout", 8, 8, 16)
Said = dict[str, Any]


@pytest.fixture(scope="module")
def said() -> dict[int, list[Said]]:
    """What each rank says, by how many there are; one is this process."""
    return {
        1: [everything(Collectives(), torchs_own=False)],
        2: run_ranks(everything, 2, (True,), seconds=280),
        4: run_ranks(everything, 4, (False,), seconds=280),
    }


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("ranks", RANKS)
def test_ranks_equal_one_process_at_every_step(
    said: dict[int, list[Said]], ranks: int, case: str, stage: str
) -> None:
    for rank in said[ranks]:
        differences = rank["compared"][case][stage]["differences"]
        assert differences.keys() == {"loss", "norm", "parameters", "exp_avg", "exp_avg_sq"}
        for what, values in differences.items():
            assert len(values) == STEPS
            for step, value in enumerate(values, 1):
                assert value <= step * 1e-12, (what, values)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("ranks", RANKS)
def test_which_stages_have_the_same_bits(
    said: dict[int, list[Said]], ranks: int, case: str
) -> None:
    once = ranks == 1 or CASES[case].micro_batches == 1
    for rank in said[ranks]:
        stages = rank["compared"][case]
        assert stages["1"]["equal"] == [True]
        assert stages["2"]["equal"] == [once, once]
        assert stages["3"]["equal"] == [once, once, True]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("ranks", RANKS)
def test_what_is_sent_is_the_formula_with_padding(
    said: dict[int, list[Said]], ranks: int, case: str, stage: str
) -> None:
    for rank in said[ranks]:
        row = rank["compared"][case][stage]
        trained = sum(n + padding for n, padding, of_trained in row["sizes"] if of_trained)
        frozen = sum(n + padding for n, padding, of_trained in row["sizes"] if not of_trained)
        micro_batches = CASES[case].micro_batches
        planned = zero_numbers(int(stage), ranks, trained, micro_batches, frozen).total
        if case == "a frozen layer" and stage == "3":
            # No gradient goes through its first layer, which is not gathered for one.
            numbers, padding, of_trained = row["sizes"][2]
            assert not of_trained
            planned -= (numbers + padding) * (ranks - 1) / ranks
        assert row["numbers"] == planned
        assert all(0 <= padding < ranks for _, padding, _ in row["sizes"])


def test_sizes_do_not_divide(said: dict[int, list[Said]]) -> None:
    assert any(padding for _, padding, _ in said[2][0]["compared"]["plain"]["1"]["sizes"])
    for case in said[4][0]["compared"].values():
        assert any(padding for _, padding, _ in case["1"]["sizes"])


def test_accumulation_multiplies_the_reduce_scatters_of_stages_2_and_3(
    said: dict[int, list[Said]],
) -> None:
    once, thrice = (said[2][0]["compared"][name] for name in ("plain", "accumulated"))
    buckets = len(once["0"]["sizes"])
    for stage, factor in (("1", 1), ("2", 3), ("3", 3)):
        assert once[stage]["calls"]["reduce-scatter gradients"] == buckets
        assert thrice[stage]["calls"]["reduce-scatter gradients"] == factor * buckets
    assert thrice["0"]["calls"] == {"all-reduce gradients": buckets}
    assert thrice["2"]["calls"]["all-gather parameters"] == buckets
    assert thrice["3"]["calls"]["all-gather parameters"] == 6 * buckets
    assert thrice["2"]["numbers"] == 2 * once["2"]["numbers"]
    assert thrice["3"]["numbers"] == 3 * once["3"]["numbers"]


MEASURED = ("accumulated, bf16", "accumulated, fp64", "frozen, bf16", "frozen, fp64")


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("case", MEASURED)
@pytest.mark.parametrize("ranks", RANKS)
def test_memory_is_the_formula_with_padding(
    said: dict[int, list[Said]],
    monkeypatch: pytest.MonkeyPatch,
    ranks: int,
    case: str,
    stage: str,
) -> None:
    monkeypatch.setitem(FORMATS, "fp32", FLOAT64)  # the tests' own format in the place of float32
    form = "bf16" if case.endswith("bf16") else "fp32"
    for rank in said[ranks]:
        row = rank["measured"][case][stage]
        trained = sum(size for _, size, _, of_trained in row["sizes"] if of_trained)
        frozen = sum(size for _, size, _, of_trained in row["sizes"] if not of_trained)
        planned = zero_bytes(int(stage), ranks, trained, form, frozen)
        counters = 4 * sum(of_trained for *_, of_trained in row["sizes"])  # steps, a float each
        assert row["held"] == {
            "parameters": planned.parameters,
            "gradients": planned.gradients,
            "optimizer": planned.optimizer + counters,
        }
        micro_batches = CASES[case.partition(",")[0]].micro_batches
        numbers = zero_numbers(int(stage), ranks, trained, micro_batches, frozen).total
        assert row["bytes"] == FORMATS[form].parameter * numbers


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("case", MEASURED)
@pytest.mark.parametrize("ranks", RANKS)
def test_nothing_is_alive_that_is_not_counted(
    said: dict[int, list[Said]], ranks: int, case: str, stage: str
) -> None:
    for rank in said[ranks]:
        row = rank["measured"][case][stage]
        assert row["alive"] == row["now"]


@pytest.mark.parametrize("ranks", RANKS)
def test_stage_3_has_one_layer_at_a_time_and_then_nothing(
    said: dict[int, list[Said]], ranks: int
) -> None:
    for rank in said[ranks]:
        row = rank["measured"]["accumulated, fp64"]["3"]
        assert set(row["left"]) == {0}
        rest = sum(size for _, size, of_layer, _ in row["sizes"] if not of_layer)
        layer = max(size for _, size, of_layer, _ in row["sizes"] if of_layer)
        own = sum(size for _, size, *_ in row["sizes"]) / ranks
        assert row["most"]["parameters"] == 8 * (own + rest + layer)


@pytest.mark.parametrize("ranks", RANKS)
def test_stage_2_has_the_gradients_of_one_layer_at_a_time(
    said: dict[int, list[Said]], ranks: int
) -> None:
    for rank in said[ranks]:
        for stage in ("2", "3"):
            row = rank["measured"]["accumulated, fp64"][stage]
            # What is in no layer has some of its gradients from the beginning of the pass on.
            rest = sum(size for _, size, of_layer, _ in row["sizes"] if not of_layer)
            layer = max(size for _, size, of_layer, _ in row["sizes"] if of_layer)
            own = sum(size for _, size, *_ in row["sizes"]) / ranks
            assert row["most"]["gradients"] <= 8 * (own + rest + layer + layer / ranks)


@pytest.mark.parametrize("ranks", RANKS)
def test_what_is_computed_with_is_what_the_optimizer_has_rounded(
    said: dict[int, list[Said]], ranks: int
) -> None:
    for rank in said[ranks]:
        for case in MEASURED:
            assert all(row["rounded"] for row in rank["measured"][case].values())


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("case", ["plain", "accumulated"])
def test_torchs_own_end_with_the_same_parameters(
    said: dict[int, list[Said]], case: str, stage: str
) -> None:
    for rank in said[2]:
        differences = rank["torch"][case][stage]
        assert differences.keys() == {"ZeroRedundancyOptimizer", "fully_shard"}
        assert max(differences.values()) <= STEPS * 1e-12


def test_a_step_without_any_target_changes_nothing() -> None:
    for stage in no_targets(Collectives()).values():
        assert stage == {"loss": 0.0, "num_targets": 0, "norm": 0.0, "same": True, "states": 0}
