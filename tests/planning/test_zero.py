"""ZeRO's formulas beside the paper's numbers, worked ones, and a count of who holds what."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylm.planning.zero import (
    CARDS,
    FORMATS,
    GIGA,
    STAGES,
    fewest_ranks,
    zero_bytes,
    zero_numbers,
)
from tinylm.value_types import Precision

# Rajbhandari et al. 2020, table 1: GB a device for 7.5, 128 and 1,000 billion parameters, with
# states, then gradients, then parameters in parts, over so many devices.
PAPER = {
    1: ((120, 120, 120), (2048, 2048, 2048), (16000, 16000, 16000)),
    4: ((52.5, 41.3, 30), (896, 704, 512), (7000, 5500, 4000)),
    16: ((35.6, 21.6, 7.5), (608, 368, 128), (4750, 2875, 1000)),
    64: ((31.4, 16.6, 1.88), (536, 284, 32), (4187, 2218, 250)),
    256: ((30.4, 15.4, 0.47), (518, 263, 8), (4046, 2054, 62.5)),
    1024: ((30.1, 15.1, 0.12), (513, 257, 2), (4011, 2013, 15.6)),
}
SIZES = (7.5e9, 128e9, 1e12)
PRECISIONS: tuple[Precision, ...] = ("bf16", "fp32")


def rows() -> Iterator[tuple[int, float, int, float]]:
    for ranks, models in PAPER.items():
        for size, stages in zip(SIZES, models, strict=True):
            for stage, gigabytes in enumerate(stages, 1):
                yield ranks, size, stage, gigabytes


@pytest.mark.parametrize(("ranks", "size", "stage", "gigabytes"), list(rows()))
def test_memory_is_that_of_the_paper(ranks: int, size: float, stage: int, gigabytes: float) -> None:
    planned = zero_bytes(stage, ranks, size).total / GIGA
    assert planned == pytest.approx(gigabytes, abs=0.06 if gigabytes < 100 else 1)


def test_without_parts_every_rank_holds_sixteen_bytes_a_parameter() -> None:
    for precision in PRECISIONS:
        assert zero_bytes(0, 64, 7.5e9, precision).total / GIGA == 120


@pytest.mark.parametrize(
    ("precision", "stage", "whole", "shared"),
    [
        ("fp32", 0, 16, 0), ("fp32", 1, 8, 8), ("fp32", 2, 4, 12), ("fp32", 3, 0, 16),
        ("bf16", 0, 16, 0), ("bf16", 1, 4, 12), ("bf16", 2, 2, 14), ("bf16", 3, 0, 16),
    ],
)  # fmt: skip
def test_bytes_a_parameter(precision: Precision, stage: int, whole: int, shared: int) -> None:
    for ranks in (1, 2, 4, 8):
        assert zero_bytes(stage, ranks, 1.0, precision).total == whole + shared / ranks


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("stage", STAGES)
def test_memory_is_what_is_counted_number_by_number(precision: Precision, stage: int) -> None:
    """Who holds the number with an index, asked of every number and rank."""
    form, ranks, trained, frozen = FORMATS[precision], 4, 24, 8
    for rank in range(ranks):
        held = {"parameters": 0, "gradients": 0, "optimizer": 0}
        for index in range(trained + frozen):
            own = index % ranks == rank
            if own or stage < 3:
                held["parameters"] += form.parameter
            if index < trained:
                held["gradients"] += form.gradient * (own or stage < 2)
                held["optimizer"] += form.states * (own or stage < 1)
        planned = zero_bytes(stage, ranks, trained, precision, frozen)
        assert {name: getattr(planned, name) for name in held} == held


def sent_in_a_ring(ranks: int, size: int) -> int:
    """Numbers that a rank sends in a reduce-scatter or an all-gather, turn by turn."""
    return sum(size // ranks for _ in range(ranks - 1))


@given(
    ranks=st.integers(1, 16),
    part=st.integers(1, 50),
    frozen_part=st.integers(0, 9),
    micro_batches=st.integers(1, 5),
)
def test_traffic_is_that_of_the_operations(
    ranks: int, part: int, frozen_part: int, micro_batches: int
) -> None:
    size, frozen = ranks * part, ranks * frozen_part
    ring, of_frozen = sent_in_a_ring(ranks, size), sent_in_a_ring(ranks, frozen)
    operations = {
        0: (2 * ring, 0),  # one all-reduce
        1: (ring, ring),  # a reduce-scatter of gradients, an all-gather of parameters
        2: (micro_batches * ring, ring),
        3: (micro_batches * ring, 2 * micro_batches * (ring + of_frozen)),
    }
    for stage, (gradients, parameters) in operations.items():
        planned = zero_numbers(stage, ranks, size, micro_batches, frozen)
        assert planned.gradients == pytest.approx(gradients, rel=1e-12)
        assert planned.parameters == pytest.approx(parameters, rel=1e-12)


def test_one_micro_batch_sends_two_two_two_three() -> None:
    assert [zero_numbers(stage, 4, 1.0).total * 4 / 3 for stage in STAGES] == [2, 2, 2, 3]
    assert [zero_numbers(stage, 4, 1.0, 5).total * 4 / 3 for stage in STAGES] == [2, 2, 6, 15]


@given(
    stage=st.sampled_from(STAGES),
    precision=st.sampled_from(PRECISIONS),
    parameters=st.integers(1, 10**13),
    frozen=st.sampled_from([0, 10**6, 10**10]),
    card=st.sampled_from(sorted(CARDS)),
)
def test_the_fewest_ranks_fit_and_one_less_does_not(
    stage: int, precision: Precision, parameters: int, frozen: int, card: int
) -> None:
    def total(ranks: int) -> float:
        return zero_bytes(stage, ranks, parameters, precision, frozen).total

    capacity = card * GIGA
    ranks = fewest_ranks(stage, capacity, parameters, precision, frozen)
    if ranks is None:
        assert total(10**12) > capacity * (1 - 1e-9)
        return
    assert total(ranks) <= capacity * (1 + 1e-9)
    assert ranks == 1 or total(ranks - 1) >= capacity * (1 - 1e-9)


def test_seven_billion_on_eight_cards_worked() -> None:
    totals = [zero_bytes(stage, 8, 7e9).total / GIGA for stage in STAGES]
    assert totals == [112, 38.5, 26.25, 14]
    # 16 GB hold 2 P = 14 GB and a share of 98 GB below 2 GB.
    assert [fewest_ranks(stage, 16 * GIGA, 7e9) for stage in STAGES] == [None, None, 49, 7]
