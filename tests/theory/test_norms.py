"""LayerNorm reads a token, BatchNorm the whole batch."""

from __future__ import annotations

import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tinylm.model.layers import LayerNorm


def test_mean_and_variance_of_a_padded_batch_by_algebra() -> None:
    """Two groups: N tokens of mean m and variance s^2, and M of the value z."""
    tokens, padding = sympy.symbols("N M", positive=True)
    m, z, s = sympy.symbols("m z s", real=True)
    share = padding / (tokens + padding)
    mean = (tokens * m + padding * z) / (tokens + padding)
    assert sympy.simplify(mean - (m + share * (z - m))) == 0
    # E[x^2] of the first group is s^2 + m^2.
    variance = (tokens * (s**2 + m**2) + padding * z**2) / (tokens + padding) - mean**2
    derived = (1 - share) * s**2 + share * (1 - share) * (z - m) ** 2
    assert sympy.simplify(variance - derived) == 0


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 9), st.integers(0, 30), st.floats(-3, 3), st.integers(0, 99))
def test_batch_norm_of_a_real_token_follows_the_formula(
    real: int, padding: int, value: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(real, 5, generator=generator).double() + 1
    padded = torch.cat((x, torch.full((padding, 5), value, dtype=torch.float64)))
    norm = nn.BatchNorm1d(5, eps=1e-9).double()
    share = padding / (real + padding)
    mean, variance = x.mean(0), x.var(0, correction=0)
    moved = mean + share * (value - mean)
    spread = (1 - share) * variance + share * (1 - share) * (value - mean).square()
    assert torch.allclose(norm(padded)[:real], (x - moved) / (spread + 1e-9).sqrt(), atol=1e-9)


def test_padding_and_other_texts_move_batch_norm_and_not_layer_norm() -> None:
    torch.manual_seed(0)
    layer_norm, batch_norm = LayerNorm(16, 1e-5).double(), nn.BatchNorm1d(16).double()
    nn.init.normal_(layer_norm.weight)
    text = torch.randn(5, 16).double()
    for longest in (5, 8, 40):
        batch = torch.zeros(3, longest, 16).double()
        batch[0, :5] = text
        batch[1:] = torch.randn(2, longest, 16)
        alone, beside = layer_norm(text), layer_norm(batch)[0, :5]
        assert torch.allclose(beside, alone, rtol=0, atol=1e-15)
        moved = batch_norm(batch.flatten(0, 1))[:5] - batch_norm(text)
        assert float(moved.detach().abs().max()) > 0.1


def test_masking_the_padding_leaves_the_other_texts_in() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(4).double()
    text, other, longer = (torch.randn(n, 4).double() for n in (5, 5, 30))
    beside = [norm(torch.cat((text, neighbour)))[:5] for neighbour in (other, longer)]
    assert float((beside[0] - beside[1]).detach().abs().max()) > 0.1


def test_over_places_batch_norm_lets_the_future_through() -> None:
    torch.manual_seed(0)
    layer_norm, batch_norm = LayerNorm(4, 1e-5).double(), nn.BatchNorm1d(4).double()
    x = torch.randn(6, 4).double().requires_grad_()
    for norm, seen in ((layer_norm, False), (batch_norm, True)):
        (gradient,) = torch.autograd.grad(norm(x)[0].square().sum(), x)
        assert bool(gradient[1:].any()) == seen
