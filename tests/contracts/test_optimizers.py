"""What every optimizer of the registry must hold."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from tinylm.config import TrainingConfig
from tinylm.registry import OPTIMIZERS
from tinylm.training.optimizers import (
    build_optimizer,
    optimizer_tensors,
    restore_optimizer,
    set_learning_rate,
)

INPUTS = torch.randn(32, 4, generator=torch.Generator().manual_seed(1))
WANTED = INPUTS @ torch.tensor([[1.0], [-2.0], [0.5], [3.0]]) + 0.7


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def build(model: nn.Module, name: str, **settings: Any) -> torch.optim.Optimizer:
    return build_optimizer(
        model, TrainingConfig(optimizer=name, **{"learning_rate": 1e-2, **settings})
    )


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> float:
    loss = torch.zeros(())
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        loss = (model(INPUTS) - WANTED).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return loss.item()


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_it_keeps_what_it_says(name: str, momentum: float) -> None:
    model, rule = network(), OPTIMIZERS.load(name)
    optimizer = build(model, name, beta1=momentum)
    train(model, optimizer, 2)
    for parameter in model.parameters():
        kept = [
            key
            for key, value in optimizer.state[parameter].items()
            if value is not None and value.shape == parameter.shape
        ]
        assert len(kept) == rule.moments(momentum > 0)
        assert set(kept) <= set(rule.state)
    assert OPTIMIZERS.load(rule.fused).state == rule.state
    assert OPTIMIZERS.load(rule.fused).fused == rule.fused


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_learns(name: str) -> None:
    model = network()
    optimizer = build(model, name)
    assert train(model, optimizer, 300) < 0.05 * train(network(), build(network(), name), 1)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_saved_and_restored_goes_on_bit_for_bit(name: str) -> None:
    steady = network()
    train(steady, build(steady, name, weight_decay=0.1), 20)
    model = network()
    optimizer = build(model, name, weight_decay=0.1)
    train(model, optimizer, 9)
    kept = {key: value.clone() for key, value in optimizer_tensors(optimizer, model).items()}
    assert all(key.rpartition("/")[0] in dict(model.named_parameters()) for key in kept)
    resumed = copy.deepcopy(model)
    fresh = build(resumed, name, weight_decay=0.1)
    restore_optimizer(fresh, resumed, kept)
    train(resumed, fresh, 11)
    for left, right in zip(resumed.parameters(), steady.parameters(), strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_rate_of_zero_changes_nothing_and_the_rate_scales_the_first_step(name: str) -> None:
    moved = []
    for factor in (0.0, 0.5, 1.0):
        model = network()
        start = copy.deepcopy(model[0].weight)
        optimizer = build(model, name, weight_decay=0.0)
        set_learning_rate(optimizer, factor)
        train(model, optimizer, 1)
        moved.append((model[0].weight - start).detach())
    assert not moved[0].any()
    assert moved[2].any()
    torch.testing.assert_close(2 * moved[1], moved[2], rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_frozen_and_unused_parameters_stay_as_they_are(name: str) -> None:
    model = network()
    model[0].weight.requires_grad_(False)
    model[0].unused = nn.Parameter(torch.ones(3, 3))
    before = copy.deepcopy(model.state_dict())
    optimizer = build(model, name, weight_decay=0.1)
    train(model, optimizer, 3)
    after = model.state_dict()
    for key, value in before.items():
        same = key in ("0.weight", "0.unused")
        assert torch.equal(value, after[key]) is same, key
    kept = optimizer_tensors(optimizer, model)
    assert not any(key.startswith(("0.weight", "0.unused")) for key in kept)
