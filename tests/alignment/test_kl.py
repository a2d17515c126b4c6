"""Estimates of the divergence: value, variance and gradient of each, exactly by enumeration."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.alignment.spaces import MOST, PROMPT, VOCAB_SIZE, moved, space_model
from tinylm.alignment.enumeration import every_response, kl_divergence, log_probabilities
from tinylm.alignment.kl import ESTIMATORS, spreads
from tinylm.alignment.log_probabilities import (
    response_rows,
    sample_responses,
    token_log_probabilities,
)
from tinylm.model.base import GenerativeModel

SAMPLES = every_response(VOCAB_SIZE, PROMPT, MOST)


def _pair() -> tuple[GenerativeModel, Tensor, Tensor]:
    start = space_model(sharpness=2)
    policy = moved(start)
    return policy, log_probabilities(policy, SAMPLES), log_probabilities(start, SAMPLES).detach()


def _gradient(of: Tensor, model: nn.Module) -> Tensor:
    made = torch.autograd.grad(of, list(model.parameters()), retain_graph=True, allow_unused=True)
    return torch.cat([g.flatten() for g in made if g is not None])


def test_bias_and_variance_are_known_exactly() -> None:
    _, policy, start = _pair()
    policy = policy.detach()
    ratio, weights = policy - start, policy.exp()
    true = float(kl_divergence(policy, start))
    means, variances = {}, {}
    for name in ("k1", "k2", "k3"):
        values = ESTIMATORS[name].value(ratio)
        means[name] = float((weights * values).sum())
        variances[name] = float((weights * (values - means[name]) ** 2).sum())
    assert means["k1"] == pytest.approx(true, abs=1e-12)
    assert means["k3"] == pytest.approx(true, abs=1e-12)
    assert abs(means["k2"] / true - 1) > 0.01  # biased
    assert variances["k3"] < variances["k1"]
    assert variances["k2"] < variances["k1"]
    assert bool((ESTIMATORS["k3"].value(ratio) >= 0).all())
    assert bool((ratio < 0).any())  # as k1 is, though no divergence is


def test_gradients_of_the_estimates_as_losses() -> None:
    model, policy, start = _pair()
    right = _gradient(kl_divergence(policy, start), model)
    other = _gradient(kl_divergence(start, policy), model)
    assert not torch.allclose(right, other, rtol=0.1)
    weight = (policy - policy.detach()).exp()
    wanted = {
        "k1": torch.zeros_like(right),
        "k2": right,
        "k3": other,
        "weighted-k3": right,
    }
    for name, gradient in wanted.items():
        losses = ESTIMATORS[name].loss(policy - start, weight)
        # the mean over samples: what they are drawn from has no gradient
        made = _gradient((policy.detach().exp() * losses).sum(), model)
        torch.testing.assert_close(made, gradient, rtol=1e-9, atol=1e-12)


def test_divided_into_tokens_a_loss_holds_the_states_fixed() -> None:
    """k2 summed over tokens is no loss for responses; k1 taken from their reward is."""
    model, policy, start = _pair()
    rows = response_rows(SAMPLES)
    of_tokens = token_log_probabilities(model, rows)
    with torch.no_grad():
        before = token_log_probabilities(space_model(sharpness=2), rows)
    weights = policy.detach().exp()[:, None]
    right = _gradient(kl_divergence(policy, start), model)
    by_tokens = _gradient((weights * ESTIMATORS["k2"].value(of_tokens - before)).sum(), model)
    assert not torch.allclose(by_tokens, right, rtol=0.1)
    cost = (of_tokens - before).detach().flip(1).cumsum(1).flip(1)  # of each token and all later
    in_reward = _gradient((weights * cost * of_tokens).sum(), model)
    torch.testing.assert_close(in_reward, right, rtol=1e-9, atol=1e-12)


def test_spreads_of_samples_are_those_of_the_space() -> None:
    start = space_model(sharpness=2)
    policy = moved(start)
    drawn = sample_responses(policy, [PROMPT] * 2000, MOST, seed=1)
    with torch.no_grad():
        ratio = log_probabilities(policy, drawn) - log_probabilities(start, drawn)
        true = float(kl_divergence(*(log_probabilities(m, SAMPLES) for m in (policy, start))))
    made = spreads(ratio)
    for name in ("k1", "k3"):
        assert abs(made[name].mean - true) < 3 * made[name].standard_error
    assert made["k3"].variance < made["k1"].variance
