"""Importance weights: no bias, and how much variance."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tinylm.alignment.policy_losses import effective_sample_size, of_sequences, of_tokens


def pair(seed: int, size: int = 5, spread: float = 0.5) -> tuple[Tensor, Tensor]:
    """Return log-probabilities of a policy and of the older one, (tokens,) each."""
    generator = torch.Generator().manual_seed(seed)
    older = torch.randn(size, generator=generator).double()
    moved = older + spread * torch.randn(size, generator=generator).double()
    return moved.log_softmax(0), older.log_softmax(0)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.floats(0.01, 2))
def test_mean_and_variance_by_listing(seed: int, spread: float) -> None:
    policy, older = pair(seed, spread=spread)
    p, q = policy.exp(), older.exp()
    w, f = p / q, torch.randn(5, generator=torch.Generator().manual_seed(seed)).double()
    assert float((q * w * f).sum()) == pytest.approx(float((p * f).sum()), abs=1e-13)
    variance = float((q * (w - 1).square()).sum())
    chi2 = float((p.square() / q).sum() - 1)
    assert variance == pytest.approx(chi2, rel=1e-9, abs=1e-13)
    kl = float((p * (policy - older)).sum())
    assert 1 + chi2 >= math.exp(kl) - 1e-12


def responses(length: int) -> Tensor:
    """Return all responses of five tokens and a length, (responses, length)."""
    return torch.tensor(list(itertools.product(range(5), repeat=length)))


def test_the_weights_of_whole_responses_have_no_bias_and_those_of_tokens_have_one() -> None:
    """With a function of the last token and the one before, on all responses, listed."""
    policy, older = pair(0)
    tokens = responses(3)
    values = (tokens[:, 2] * (tokens[:, 1] == 0)).double()
    drawn = older[tokens].sum(1).exp()
    wanted = float((policy[tokens].sum(1).exp() * values).sum())
    log_ratio = (policy - older)[tokens]
    real = torch.ones_like(log_ratio, dtype=torch.bool)
    whole = of_sequences(log_ratio, real)[:, 0]
    of_last = of_tokens(log_ratio, real)[:, 2]
    assert float((drawn * whole * values).sum()) == pytest.approx(wanted, abs=1e-14)
    assert abs(float((drawn * of_last * values).sum()) - wanted) > 0.01
    assert abs(float((drawn * whole.clamp(max=1.2) * values).sum()) - wanted) > 0.01  # cut off


@pytest.mark.parametrize("length", [1, 2, 4])
def test_the_second_moment_of_a_response_is_a_power(length: int) -> None:
    policy, older = pair(1)
    tokens = responses(length)
    drawn = older[tokens].sum(1).exp()
    log_ratio = (policy - older)[tokens]
    weights = of_sequences(log_ratio, torch.ones_like(log_ratio, dtype=torch.bool))[:, 0]
    of_token = float((2 * policy - older).exp().sum())
    assert float((drawn * weights).sum()) == pytest.approx(1, abs=1e-13)
    assert float((drawn * weights.square()).sum()) == pytest.approx(of_token**length, rel=1e-12)


def test_the_effective_share_is_one_over_the_second_moment() -> None:
    policy, older = pair(2, spread=0.4)
    torch.manual_seed(0)
    for length in (1, 5, 20):
        tokens = torch.multinomial(older.exp(), 40_000 * length, replacement=True)
        log_weights = (policy - older)[tokens].view(40_000, length).sum(1)
        expected = float((2 * policy - older).exp().sum()) ** -length
        assert effective_sample_size(log_weights) == pytest.approx(expected, rel=0.1)
        kl = length * float((policy.exp() * (policy - older)).sum())
        assert expected <= math.exp(-kl)


def test_the_variance_of_a_weighted_mean_is_that_of_as_many_unweighted_ones() -> None:
    """Where what is measured has nothing to do with the weights (Kong 1992)."""
    policy, older = pair(3, spread=0.8)
    torch.manual_seed(1)
    n, repeats = 200, 4000
    log_weights = (policy - older)[torch.multinomial(older.exp(), n * repeats, replacement=True)]
    weights = log_weights.view(repeats, n).exp()
    values = torch.randn(repeats, n).double()
    means = (weights * values).sum(1) / weights.sum(1)
    share = effective_sample_size(log_weights)
    assert 0.3 < share < 0.8
    assert float(means.var() * n * share) == pytest.approx(1, abs=0.1)
