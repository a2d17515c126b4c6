"""The parameter calculator of LoRA."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tinylm.config.finetuning import LoraConfig
from tinylm.errors import ConfigError
from tinylm.finetuning.adapters import attach, trained_parameters
from tinylm.planning.lora import LoraPlan, plan_lora, read_shape


def test_the_worked_example() -> None:
    plan = plan_lora({"matrix": (120, 120)}, reduction=15)["matrix"]
    assert (plan.rank, plan.weights, plan.trained) == (4, 14_400, 4 * 240)
    assert plan.reduction == 15


@given(st.integers(1, 400), st.integers(1, 400), st.floats(0.6, 50))
def test_the_rank_is_the_largest_that_reaches_the_reduction(
    rows: int, columns: int, reduction: float
) -> None:
    most = rows * columns / (rows + columns)
    if reduction > most:
        with pytest.raises(ConfigError, match="cannot be reached") as raised:
            plan_lora({"matrix": (rows, columns)}, reduction)
        assert "\n" not in str(raised.value)
        return
    plan = plan_lora({"matrix": (rows, columns)}, reduction)["matrix"]
    assert plan.reduction >= reduction * (1 - 1e-9)
    if plan.rank < min(rows, columns):
        assert LoraPlan((rows, columns), plan.rank + 1).reduction < reduction


def test_several_matrices_share_a_rank_that_reaches_it_together() -> None:
    shapes = {"a": (300, 900), "b": (40, 20)}
    plans = plan_lora(shapes, reduction=20)
    (rank,) = {plan.rank for plan in plans.values()}
    trained = sum(plan.trained for plan in plans.values())
    assert trained == rank * (1200 + 60)
    assert 270_800 / trained >= 20 > 270_800 / (trained + 1260)


@pytest.mark.parametrize("rank", [1, 3])
def test_the_count_is_that_of_an_attached_adapter(rank: int) -> None:
    model = nn.Sequential(nn.Linear(12, 7), nn.ReLU(), nn.Linear(7, 5))
    plans = plan_lora({"0": (7, 12), "2": (5, 7)}, rank=rank)
    attached = attach(model, "lora", LoraConfig(rank=rank, targets=(".0", ".2")))
    counted = sum(p.numel() for p in trained_parameters(attached, "default").values())
    assert sum(plan.trained for plan in plans.values()) == counted
    assert torch.is_tensor(attached(torch.zeros(1, 12)))


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="small is 3 x 8 and has rank 3 at most"):
        plan_lora({"large": (9, 9), "small": (3, 8)}, rank=4)
    for both in ({}, {"reduction": 2.0, "rank": 1}):
        with pytest.raises(ConfigError, match="give either a reduction"):
            plan_lora({"matrix": (9, 9)}, **both)  # type: ignore[arg-type]


def test_shapes_are_read() -> None:
    assert read_shape("120x120") == read_shape("120 X 120") == read_shape("120×120") == (120, 120)
    assert read_shape("3*4") == (3, 4)
    for wrong in ("", "120", "axb", "0x4", "-1x4", "1x2x3", "1.5x2"):
        with pytest.raises(ConfigError, match="write rows x columns"):
            read_shape(wrong)
