"""Permutations of tokens: what attention, its mask and positions make of them."""

from __future__ import annotations

import pytest
import sympy
import torch
from torch import Tensor

from tests.model.helpers import build_random, largest_difference, random_ids
from tinylm.config import ModelConfig
from tinylm.model.decoder import DecoderLM
from tinylm.model.positions import Positions
from tinylm.model.positions.rotary import RotaryPositions
from tinylm.model.positions.sinusoidal import sinusoidal_table
from tinylm.registry import POSITIONS


def without_positions(**changes: object) -> DecoderLM:
    model = build_random(**changes)  # type: ignore[arg-type]
    model.positions = Positions(model.config)
    return model


def activations(model: DecoderLM, ids: Tensor) -> dict[str, Tensor]:
    """Return all activations of a model that sees the whole text."""
    seen: dict[str, Tensor] = {}

    def keep(name: str, activation: Tensor) -> None:
        seen[name] = activation.detach()

    hooks = model.hooks({"*": keep})
    model.unembed(model.residual(ids, causal=False, hooks=hooks), hooks)
    return seen


ORDER = torch.randperm(12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("placement", ["post", "pre"])
def test_without_positions_and_mask_every_activation_moves_along(placement: str) -> None:
    model = without_positions(norm_placement=placement)
    ids = random_ids(model, 2, 12)
    plain, moved = activations(model, ids), activations(model, ids[:, ORDER])
    for name, activation in plain.items():
        kind = name.rpartition(".")[2]
        if kind in ("scores", "pattern"):
            expected = activation[:, :, ORDER][..., ORDER]  # P S P^T
        elif kind in ("query", "key", "value", "mixed"):
            expected = activation[:, :, ORDER]
        else:
            expected = activation[:, ORDER]
        assert largest_difference(moved[name], expected) < 1e-12, name


def test_the_causal_mask_breaks_it_for_every_order_but_one() -> None:
    model = without_positions(num_layers=1)
    ids = torch.arange(4, 12)[None]
    plain = model.residual(ids)
    for first in range(7):  # neighbours change places
        order = list(range(8))
        order[first], order[first + 1] = order[first + 1], order[first]
        assert largest_difference(model.residual(ids[:, order]), plain[:, order]) > 1e-3
    blocked = torch.ones(4, 4).triu(1)
    kept = [
        order
        for order in torch.cartesian_prod(*[torch.arange(4)] * 4).tolist()
        if len(set(order)) == 4 and torch.equal(blocked[order][:, order], blocked)
    ]
    assert kept == [[0, 1, 2, 3]]


def test_one_causal_layer_sees_a_set_and_two_see_an_order() -> None:
    ids = torch.arange(4, 16)[None]
    earlier = torch.cat((ORDER[ORDER != 11], torch.tensor([11])))
    for num_layers in (1, 2):
        model = without_positions(num_layers=num_layers)
        difference = largest_difference(
            model.residual(ids[:, earlier])[:, -1], model.residual(ids)[:, -1]
        )
        assert (difference < 1e-12) == (num_layers == 1)


@pytest.mark.parametrize("encoding", POSITIONS)
def test_every_encoding_tells_orders_apart(encoding: str) -> None:
    model = build_random(positions=encoding)
    ids = torch.arange(4, 16)[None]
    moved = model.residual(ids[:, ORDER], causal=False)
    assert largest_difference(moved, model.residual(ids, causal=False)[:, ORDER]) > 1e-2


def test_the_addition_theorems_are_a_rotation() -> None:
    p, k, w = sympy.symbols("p k w", real=True)
    turned = sympy.Matrix(
        [[sympy.cos(k * w), sympy.sin(k * w)], [-sympy.sin(k * w), sympy.cos(k * w)]]
    )
    at = sympy.Matrix([sympy.sin(p * w), sympy.cos(p * w)])
    shifted = sympy.Matrix([sympy.sin((p + k) * w), sympy.cos((p + k) * w)])
    assert sympy.simplify(turned * at - shifted) == sympy.zeros(2, 1)
    assert sympy.simplify(turned * turned.T) == sympy.eye(2)


@pytest.mark.parametrize("k", [1, 5, 40])
def test_one_matrix_shifts_all_sinusoidal_positions(k: int) -> None:
    hidden = 12
    table = sinusoidal_table(100, hidden)
    turned = torch.zeros(hidden, hidden, dtype=torch.float64)
    for i in range(0, hidden, 2):
        angle = torch.tensor(k * 10_000 ** (-i / hidden), dtype=torch.float64)
        sin, cos = angle.sin(), angle.cos()
        turned[i : i + 2, i : i + 2] = torch.stack((cos, sin, -sin, cos)).view(2, 2)
    assert largest_difference(table[:-k] @ turned.T, table[k:]) < 1e-12
    assert largest_difference(turned @ turned.T, torch.eye(hidden).double()) < 1e-14
    products = (table[:-k] * table[k:]).sum(1)
    frequencies = 10_000 ** (-torch.arange(0, hidden, 2).double() / hidden)
    expected = (k * frequencies).cos().sum()
    assert largest_difference(products, expected.expand_as(products)) < 1e-12
    squares = table.square().sum(1)
    assert largest_difference(squares, torch.full_like(squares, hidden / 2)) < 1e-12


def test_rotary_scores_depend_on_the_distance_alone() -> None:
    config = ModelConfig(hidden_size=8, num_heads=1, context_length=64)
    rotary = RotaryPositions(config).double()
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 1, 1, 8).double()

    def score(m: int, n: int) -> torch.Tensor:
        turned = (rotary.rotate(x, torch.tensor([[place]])) for x, place in ((query, m), (key, n)))
        first, second = turned
        return (first * second).sum()

    # The tables are float32.
    assert float((score(3, 10) - score(40, 47)).abs()) < 1e-5
    assert float((score(0, 7) - score(3, 10)).abs()) < 1e-5
    assert float((score(0, 8) - score(3, 10)).abs()) > 1e-3
