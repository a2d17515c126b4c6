"""Losses of preferences beside worked numbers, their theory, and variants that are wrong."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tinylm.alignment.preference_losses import dpo_loss, ipo_loss, kto_loss, simpo_loss

RATIOS = st.floats(-20, 20)
BETAS = st.floats(0.05, 3)


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def number(x: Tensor) -> float:
    return float(x.detach())


def softplus(x: float) -> float:
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


def slope(loss: Callable[[Tensor], Tensor], at: float) -> float:
    x = numbers(at)
    return float(torch.autograd.grad(loss(x).sum(), x)[0])


def test_it_begins_at_ln_2_exactly() -> None:
    for kind in (torch.float32, torch.float64):
        ratios = torch.zeros(3, dtype=kind)
        for smoothing in ((0.0, False), (0.2, False), (0.2, True)):
            loss = dpo_loss(ratios, ratios, 0.1, *smoothing)
            expected = torch.full((3,), math.log(2), dtype=kind)
            if smoothing[0]:
                torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
            else:
                assert torch.equal(loss, expected)


@given(RATIOS, RATIOS, BETAS)
def test_dpo_is_the_loss_and_the_gradient_of_the_paper(w: float, lo: float, beta: float) -> None:
    better, worse = numbers(w), numbers(lo)
    loss = dpo_loss(better, worse, beta)
    margin = beta * (w - lo)
    assert number(loss) == pytest.approx(softplus(-margin), rel=1e-9, abs=1e-12)
    # Equation 7's gradient: the pair weighs as much as the implicit rewards rank it wrongly.
    to_better, to_worse = torch.autograd.grad(loss.sum(), (better, worse))
    weight = beta / (1 + math.exp(margin))
    assert float(to_better) == pytest.approx(-weight, rel=1e-9)
    assert float(to_worse) == pytest.approx(weight, rel=1e-9)


@given(RATIOS, st.floats(0.01, 0.49), BETAS)
def test_smoothed_losses_are_what_wrong_labels_make_of_them(
    margin: float, wrong: float, beta: float
) -> None:
    zero = numbers(0.0)

    def loss(x: float, *smoothing: float | bool) -> float:
        return number(dpo_loss(numbers(x), zero, beta, *smoothing))

    clean, flipped = loss(margin), loss(-margin)
    assert loss(margin, wrong) == pytest.approx((1 - wrong) * clean + wrong * flipped, rel=1e-9)
    # The mean of the robust loss over labels that are wrong so often is the clean loss.
    mean = (1 - wrong) * loss(margin, wrong, True) + wrong * loss(-margin, wrong, True)
    assert mean == pytest.approx(clean, rel=1e-6, abs=1e-9)


def test_the_conservative_loss_is_smallest_at_a_finite_margin() -> None:
    # Mitchell 2023: where the implicit probability of the better one is 1 - wrong.
    wrong, beta = 0.1, 0.5
    best = math.log((1 - wrong) / wrong) / beta

    def loss(x: Tensor) -> Tensor:
        return dpo_loss(x, torch.zeros_like(x), beta, wrong)

    assert slope(loss, best) == pytest.approx(0, abs=1e-12)
    assert slope(loss, best - 1) < 0 < slope(loss, best + 1)


@given(RATIOS, RATIOS, BETAS)
def test_ipo_asks_for_one_difference_and_no_more(w: float, lo: float, beta: float) -> None:
    loss = ipo_loss(numbers(w), numbers(lo), beta)
    assert number(loss) == pytest.approx((w - lo - 1 / (2 * beta)) ** 2, rel=1e-9, abs=1e-9)
    best = lo + 1 / (2 * beta)
    assert slope(lambda x: ipo_loss(x, numbers(lo), beta), best) == pytest.approx(0, abs=1e-9)


def test_kto_is_the_worked_example() -> None:
    # beta 0.5, z_0 = 2: gains (3 - 2) / 2 and (1 - 2) / 2; a bad response loses by its gain.
    ratios, baseline = numbers(3.0, 1.0), numbers(2.0)
    loss = kto_loss(ratios, torch.tensor([True, False]), baseline, 0.5, 2.0, 3.0)
    sigma = 1 / (1 + math.exp(-0.5))
    expected = torch.tensor([2 * (1 - sigma), 3 * (1 - sigma)], dtype=torch.float64)
    torch.testing.assert_close(loss, expected)
    # Nothing flows through the baseline; both responses are drawn the right way.
    (good, bad), nothing = torch.autograd.grad(loss.sum(), (ratios, baseline), allow_unused=True)
    assert nothing is None
    assert float(good) == pytest.approx(-2 * 0.5 * sigma * (1 - sigma))
    assert float(bad) == pytest.approx(3 * 0.5 * sigma * (1 - sigma))


@given(RATIOS, RATIOS, BETAS, st.floats(0, 3))
def test_simpo_is_a_margin_of_mean_log_probabilities(
    w: float, lo: float, beta: float, gamma: float
) -> None:
    loss = simpo_loss(numbers(w), numbers(lo), beta, gamma)
    assert number(loss) == pytest.approx(softplus(gamma - beta * (w - lo)), rel=1e-9, abs=1e-12)


def test_a_wrong_sign_and_an_exchanged_pair_give_another_number() -> None:
    better, worse = numbers(1.0), numbers(-1.0)
    assert number(dpo_loss(better, worse, 0.1)) < math.log(2) < number(dpo_loss(worse, better, 0.1))
    assert number(simpo_loss(better, worse, 2.0, 1.0)) < number(simpo_loss(worse, better, 2.0, 1.0))
    assert number(ipo_loss(better, worse, 0.25)) == 0 != number(ipo_loss(worse, better, 0.25))
