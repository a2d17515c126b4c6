"""The best policy, the reward that it stands for, and DPO's loss, by algebra and in float64."""

from __future__ import annotations

import math

import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tinylm.alignment.enumeration import best_policy, kl_divergence, objective
from tinylm.alignment.frontier import frontier
from tinylm.alignment.preference_losses import dpo_loss


def space(seed: int, size: int = 6) -> tuple[Tensor, Tensor]:
    """Return log-probabilities of a start and rewards, (responses,) each."""
    generator = torch.Generator().manual_seed(seed)
    start = (1.5 * torch.randn(size, generator=generator).double()).log_softmax(0)
    return start, torch.randn(size, generator=generator).double()


def test_the_stationary_point_of_the_lagrangian_by_algebra() -> None:
    p = sympy.symbols("p0:3", positive=True)
    start = sympy.symbols("s0:3", positive=True)
    rewards = sympy.symbols("r0:3", real=True)
    beta, m = sympy.symbols("beta m", positive=True)
    value = sum(
        a * r - beta * a * sympy.log(a / s) for a, s, r in zip(p, start, rewards, strict=True)
    )
    lagrangian = value + m * (1 - sum(p))
    z = sum(s * sympy.exp(r / beta) for s, r in zip(start, rewards, strict=True))
    best = [s * sympy.exp(r / beta) / z for s, r in zip(start, rewards, strict=True)]
    assert sympy.simplify(sum(best)) == 1
    # With the multiplier that the constraint asks for, every slope is 0.
    at_best = {**dict(zip(p, best, strict=True)), m: beta * sympy.log(z) - beta}
    for each in p:
        slope = sympy.diff(lagrangian, each)
        assert sympy.simplify(sympy.expand_log(slope.subs(at_best), force=True)) == 0
        assert sympy.simplify(sympy.diff(lagrangian, each, 2) + beta / each) == 0
    # And the value there is beta log Z.
    value_at_best = sympy.expand_log(value.subs(at_best), force=True)
    assert sympy.simplify(value_at_best - beta * sympy.log(z)) == 0


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.floats(0.1, 5))
def test_any_policy_lacks_beta_times_its_divergence(seed: int, beta: float) -> None:
    start, rewards = space(seed)
    best = best_policy(start, rewards, beta)
    policy, _ = space(seed + 1)
    largest = beta * (start + rewards / beta).logsumexp(0)
    lacking = beta * kl_divergence(policy, best)
    assert float(objective(best, start, rewards, beta)) == pytest.approx(float(largest), abs=1e-12)
    assert float(objective(policy, start, rewards, beta) + lacking) == pytest.approx(
        float(largest), abs=1e-11
    )
    assert float(lacking) > 0


def test_the_gradient_of_the_objective_is_zero_at_the_best_policy_alone() -> None:
    start, rewards = space(0)
    for at, is_zero in ((best_policy(start, rewards, 0.4), True), (start, False)):
        logits = at.clone().requires_grad_()
        value = objective(logits.log_softmax(0), start, rewards, 0.4)
        (gradient,) = torch.autograd.grad(value, logits)
        assert (float(gradient.abs().max()) < 1e-14) == is_zero


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.floats(0.1, 5))
def test_the_reward_comes_back_but_for_a_constant(seed: int, beta: float) -> None:
    start, rewards = space(seed)
    ratio = best_policy(start, rewards, beta) - start
    log_z = (start + rewards / beta).logsumexp(0)
    assert torch.allclose(beta * ratio + beta * log_z, rewards, atol=1e-12)
    # In a pair the constant cancels: preferences follow from the policy alone.
    by_policy = torch.sigmoid(beta * (ratio[:, None] - ratio))
    assert torch.allclose(by_policy, torch.sigmoid(rewards[:, None] - rewards), atol=1e-13)
    # Nor does a constant added to the reward change what is best.
    moved = best_policy(start, rewards + 3, beta)
    assert torch.allclose(moved, best_policy(start, rewards, beta), atol=1e-13)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.floats(0.2, 5))
def test_the_divergence_follows_from_reward_and_normaliser(seed: int, beta: float) -> None:
    start, rewards = space(seed)
    best = best_policy(start, rewards, beta)
    earned = (best.exp() * rewards).sum()
    log_z = (start + rewards / beta).logsumexp(0)
    kl = float(kl_divergence(best, start))
    assert kl == pytest.approx(float(earned / beta - log_z), abs=1e-12)
    (point,) = frontier(rewards.numpy(), [beta], start.exp().numpy())
    assert (point.kl, point.reward) == pytest.approx((kl, float(earned)), abs=1e-11)


def test_the_gradient_of_dpo_weighs_a_pair_by_how_wrong_it_is() -> None:
    start, _ = space(1)
    logits = space(2)[0].requires_grad_()
    beta, better, worse = 0.3, 4, 1

    def gradient(value: Tensor) -> Tensor:
        return torch.autograd.grad(value, logits, retain_graph=True)[0]

    policy = logits.log_softmax(0)
    ratio = policy - start
    margin = beta * (ratio[better] - ratio[worse])
    derived = -beta * torch.sigmoid(-margin) * (gradient(policy[better]) - gradient(policy[worse]))
    loss = dpo_loss(ratio[better][None], ratio[worse][None], beta)
    assert float(loss.detach()) == pytest.approx(
        math.log(1 + math.exp(-float(margin.detach()))), abs=1e-14
    )
    assert torch.allclose(gradient(loss.sum()), derived, atol=1e-15)


@pytest.mark.parametrize("all_pairs", [True, False], ids=["all pairs", "neighbours"])
@pytest.mark.parametrize("beta", [0.2, 1.0])
def test_dpo_ends_at_the_best_policy_where_preferences_follow_the_reward(
    beta: float, all_pairs: bool
) -> None:
    """Pairs of neighbours alone connect all responses, and are enough."""
    start, rewards = space(3)
    shares = torch.sigmoid(rewards[:, None] - rewards)
    if not all_pairs:
        places = torch.arange(len(rewards))
        shares = shares * ((places[:, None] - places).abs() == 1)
    ended = by_dpo(start, shares, beta)
    assert torch.allclose(ended, best_policy(start, rewards, beta), atol=1e-5)


def test_dpo_does_not_where_pairs_leave_responses_apart() -> None:
    start, rewards = space(3)
    shares = torch.sigmoid(rewards[:, None] - rewards)
    shares[:3, 3:], shares[3:, :3] = 0, 0  # no pair of one half with the other
    ended = by_dpo(start, shares, 0.5)
    best = best_policy(start, rewards, 0.5)
    assert not torch.allclose(ended, best, atol=1e-2)
    for half in (slice(3), slice(3, None)):
        assert torch.allclose(ended[half].log_softmax(0), best[half].log_softmax(0), atol=1e-5)


def by_dpo(start: Tensor, shares: Tensor, beta: float) -> Tensor:
    """Return the log-probabilities that minimise DPO's loss.

    Args:
        start: log-probabilities, (responses,).
        shares: how often each is preferred to each, (better, worse).
        beta: of the loss.
    """
    logits = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [logits],
        max_iter=2000,
        tolerance_grad=1e-12,
        tolerance_change=1e-15,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        ratio = logits.log_softmax(0) - start
        value = (shares * dpo_loss(ratio[:, None], ratio[None], beta)).sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)
    return logits.detach().log_softmax(0)
