"""Backpropagation through time, written out, and how fast gradients vanish or explode.

Self-contained: the few lines of the document, against autograd and finite differences.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sympy
import torch
from torch import Tensor

SIZE, INPUTS, STEPS = 5, 3, 9


def identity(x: Tensor) -> Tensor:
    return x


def drawn(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return A, B, b, h_0, inputs and targets, float64."""
    torch.manual_seed(seed)
    shapes = ((SIZE, SIZE), (SIZE, INPUTS), (SIZE,), (SIZE,), (STEPS, INPUTS), (STEPS, SIZE))
    a, b, bias, h_0, x, targets = (0.6 * torch.randn(shape).double() for shape in shapes)
    return a, b, bias, h_0, x, targets


def states(
    phi: Callable[[Tensor], Tensor], a: Tensor, b: Tensor, bias: Tensor, h: Tensor, x: Tensor
) -> list[Tensor]:
    every = [h]
    for inputs in x:
        every.append(phi(a @ every[-1] + b @ inputs + bias))
    return every


@pytest.mark.parametrize(
    ("phi", "slope_at"),
    [(identity, torch.ones_like), (torch.tanh, lambda h: 1 - h.square())],
    ids=["linear", "Elman"],
)
def test_the_written_gradients_are_those_of_autograd(
    phi: Callable[[Tensor], Tensor], slope_at: Callable[[Tensor], Tensor]
) -> None:
    a, b, bias, h_0, x, targets = drawn()
    parameters = [each.requires_grad_() for each in (a, b, bias, h_0)]
    h = states(phi, a, b, bias, h_0, x)
    # Every state has a loss of its own, some of them none.
    weights = torch.tensor([1.0, 0, 2, 0, 0, 1, 3, 0, 1]).double()
    losses = [
        w * (each - target).square().sum() / 2
        for w, each, target in zip(weights, h[1:], targets, strict=True)
    ]
    expected = torch.autograd.grad(torch.stack(losses).sum(), parameters)

    of_a, of_b, of_bias = (torch.zeros_like(each) for each in (a, b, bias))
    through = torch.zeros(SIZE).double()  # what g_(t+1) says of h_t
    for t in range(STEPS, 0, -1):
        state = h[t].detach()
        g = weights[t - 1] * (state - targets[t - 1]) + through
        at_sum = slope_at(state) * g  # phi'(a_t) g_t
        of_a += torch.outer(at_sum, h[t - 1].detach())
        of_b += torch.outer(at_sum, x[t - 1])
        of_bias += at_sum
        through = a.detach().T @ at_sum
    for ours, theirs in zip((of_a, of_b, of_bias, through), expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def test_the_gradient_of_the_linear_net_by_finite_differences() -> None:
    a, b, bias, h_0, x, targets = drawn(1)

    def loss(a: Tensor) -> Tensor:
        return (torch.stack(states(identity, a, b, bias, h_0, x)[1:]) - targets).square().sum() / 2

    h = states(identity, a, b, bias, h_0, x)
    g, derived = torch.zeros(SIZE).double(), torch.zeros_like(a)
    for t in range(STEPS, 0, -1):
        g = h[t] - targets[t - 1] + a.T @ g
        derived += torch.outer(g, h[t - 1])
    eps = 1e-6
    for i in range(SIZE):
        for j in range(SIZE):
            step = torch.zeros_like(a)
            step[i, j] = eps
            slope = float(loss(a + step) - loss(a - step)) / (2 * eps)
            assert float(derived[i, j]) == pytest.approx(slope, rel=1e-6, abs=1e-6)


def test_three_steps_by_algebra() -> None:
    """One state, a loss of the last: h_3 is a polynomial of a, and so is its derivative."""
    a, b, c, h_0, *x = sympy.symbols("a b c h0 x1 x2 x3")
    h = [h_0]
    for each in x:
        h.append(a * h[-1] + b * each + c)
    loss = h[3] ** 2 / 2
    g = {3: h[3], 2: a * h[3], 1: a**2 * h[3]}
    derived = sum(g[t] * h[t - 1] for t in (1, 2, 3))
    assert sympy.expand(sympy.diff(loss, a) - derived) == 0
    assert sympy.expand(sympy.diff(loss, b) - sum(g[t] * x[t - 1] for t in g)) == 0
    assert sympy.expand(sympy.diff(loss, c) - sum(g.values())) == 0
    assert sympy.expand(sympy.diff(loss, h_0) - a * g[1]) == 0


@pytest.mark.parametrize("rho", [0.7, 1.0, 1.3])
def test_the_effect_of_an_early_state_goes_with_the_spectral_radius(rho: float) -> None:
    a, b, bias, h_0, _, _ = drawn(2)
    a = a * rho / torch.linalg.eigvals(a).abs().max()
    norm = float(torch.linalg.matrix_norm(a, 2))
    for k in (1, 5, 60, 400):
        x = torch.zeros(k, INPUTS).double()
        effect = torch.autograd.functional.jacobian(
            lambda h, x=x: states(identity, a, b, bias, h, x)[-1], h_0
        )
        assert torch.allclose(effect, torch.linalg.matrix_power(a, k), rtol=1e-9)
        size = float(torch.linalg.matrix_norm(effect, 2))
        assert rho**k * (1 - 1e-9) <= size <= norm**k * (1 + 1e-9)
    assert size ** (1 / 400) == pytest.approx(rho, rel=0.01)


def test_below_a_radius_of_one_it_can_grow_first() -> None:
    a = torch.tensor([[0.9, 5.0], [0.0, 0.9]]).double()
    sizes = [
        float(torch.linalg.matrix_norm(torch.linalg.matrix_power(a, k), 2)) for k in (1, 9, 300)
    ]
    assert sizes[1] > sizes[0] > 1 > 1e-6 > sizes[2]


def test_with_tanh_a_norm_below_one_is_enough_to_vanish() -> None:
    a, b, bias, h_0, _, _ = drawn(3)
    a = 0.9 * a / torch.linalg.matrix_norm(a, 2)
    x = torch.randn(50, INPUTS).double()
    effect = torch.autograd.functional.jacobian(
        lambda h: states(torch.tanh, a, b, bias, h, x)[-1], h_0
    )
    assert float(torch.linalg.matrix_norm(effect, 2)) <= 0.9**50


def test_truncation_leaves_out_terms_that_shrink_with_its_length() -> None:
    a, b, bias, h_0, _, _ = drawn(4)
    a = a * 0.7 / torch.linalg.eigvals(a).abs().max()
    x = torch.randn(60, INPUTS).double()
    h = states(identity, a, b, bias, h_0, x)
    terms, g = [], h[-1]  # the loss is that of the last state
    for t in range(60, 0, -1):
        terms.append(torch.outer(g, h[t - 1]))
        g = a.T @ g
    whole = torch.stack(terms).sum(0)
    missing = [
        float((whole - torch.stack(terms[:k]).sum(0)).norm() / whole.norm()) for k in (1, 10, 30)
    ]
    assert missing[0] > 0.05 > missing[1] > 1e-3 > missing[2] * 10
