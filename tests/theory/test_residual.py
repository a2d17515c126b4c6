"""Add & Norm: the Jacobians, and sizes of streams and gradients at initialisation."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import sympy
import torch
from torch import Tensor
from torch.nn import functional as F

from tinylm.config import ModelConfig
from tinylm.model.decoder import DecoderLM
from tinylm.model.layers import FeedForward, LayerNorm

Part = Callable[[Tensor], Tensor]
Form = Callable[[Tensor, Part], Tensor]
HIDDEN, DEPTH, GAIN = 256, 40, 8 / 25


def test_the_jacobian_of_a_residual_sum_has_the_identity() -> None:
    torch.manual_seed(0)
    part = FeedForward(ModelConfig(hidden_size=6, activation="gelu"), "part").double()
    x = torch.randn(6).double()
    of_part = torch.autograd.functional.jacobian(part, x)
    of_sum = torch.autograd.functional.jacobian(lambda x: x + part(x), x)
    assert torch.allclose(of_sum, torch.eye(6).double() + of_part, atol=1e-14)


def test_the_jacobian_of_layer_norm_by_algebra() -> None:
    x = sympy.Matrix(sympy.symbols("x0:3", real=True))
    n = len(x)
    mean = sum(x) / n
    deviation = sympy.sqrt(sum((each - mean) ** 2 for each in x) / n)
    y = (x - mean * sympy.ones(n, 1)) / deviation
    derived = (sympy.eye(n) - sympy.ones(n, n) / n - y * y.T / n) / deviation
    assert sympy.simplify(y.jacobian(x) - derived) == sympy.zeros(n, n)


def test_the_jacobian_of_the_projects_layer_norm() -> None:
    torch.manual_seed(0)
    n = 7
    x = (2 * torch.randn(n) + 3).double()
    norm = LayerNorm(n, 0.0).double()
    y = norm(x).detach()
    ones = torch.ones(n).double()
    kept = torch.eye(n).double() - torch.outer(ones, ones) / n - torch.outer(y, y) / n
    derived = kept / x.std(correction=0)
    actual = torch.autograd.functional.jacobian(norm, x)
    assert torch.allclose(actual, derived, atol=1e-14)
    for direction in (ones, y):
        assert float((actual @ direction).abs().max()) < 1e-14


def test_the_gain_of_feed_forward_follows_from_glorots_variance() -> None:
    """8/25 forwards and backwards, as the mean over many drawn parts."""
    config = ModelConfig(vocab_size=9, num_layers=30, num_heads=4, hidden_size=HIDDEN)
    torch.manual_seed(0)
    forwards, backwards = [], []
    for layer in DecoderLM(config).double().layers:
        x = torch.randn(50, HIDDEN).double().requires_grad_()
        upstream = torch.randn(50, HIDDEN).double()
        y = layer.feed_forward(x)  # type: ignore[operator]
        (gradient,) = torch.autograd.grad(y, x, upstream)
        forwards.append(y.detach().square().mean())
        backwards.append(gradient.square().mean())
    assert float(torch.stack(forwards).mean()) == pytest.approx(GAIN, rel=0.03)
    assert float(torch.stack(backwards).mean()) == pytest.approx(GAIN, rel=0.03)


def norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, (HIDDEN,))


# What is done with a part; by how much the stream and the gradient grow over all parts.
FORMS: dict[str, tuple[Form, float, float]] = {
    "part alone": (lambda x, part: part(x), GAIN ** (DEPTH / 2), GAIN ** (DEPTH / 2)),
    "Norm": (lambda x, part: norm(part(x)), 1, 1),
    "Add": (lambda x, part: x + part(x), (1 + GAIN) ** (DEPTH / 2), (1 + GAIN) ** (DEPTH / 2)),
    "post-norm": (lambda x, part: norm(x + part(x)), 1, 1),
    "pre-norm": (
        lambda x, part: x + part(norm(x)),
        math.sqrt(1 + DEPTH * GAIN),
        math.sqrt(1 + DEPTH * GAIN),
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_streams_and_gradients_have_the_derived_sizes(name: str) -> None:
    form, of_stream, of_gradient = FORMS[name]
    config = ModelConfig(vocab_size=9, num_layers=DEPTH, num_heads=4, hidden_size=HIDDEN)
    streams, gradients = [], []
    for seed in range(3):
        torch.manual_seed(seed)
        first = norm(torch.randn(50, HIDDEN).double()).requires_grad_()
        x = first
        for layer in DecoderLM(config).double().layers:
            x = form(x, layer.feed_forward)  # type: ignore[arg-type]
        (gradient,) = torch.autograd.grad(x, first, torch.randn_like(x))
        streams.append(x.detach().square().mean().log() / 2)
        gradients.append(gradient.square().mean().log() / 2)
    # Mean-field: what is left out (means of ReLU, correlations, the two directions) stays below
    # 2 % a part, while the forms lie a factor of 3 and more apart.
    for actual, expected in ((streams, of_stream), (gradients, of_gradient)):
        assert float(torch.stack(actual).mean()) == pytest.approx(math.log(expected), abs=0.5), name


def last_gradient(placement: str, num_layers: int) -> float:
    """Return the size of the last feed-forward's gradient in a model as it is initialised."""
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=200,
        num_layers=num_layers,
        hidden_size=64,
        num_heads=4,
        norm_placement=placement,
        dropout=0.0,
    )
    model = DecoderLM(config).double().eval()
    ids = torch.randint(4, 200, (4, 32))
    loss = F.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    weight = model.layers[-1].feed_forward.contract.weight  # type: ignore[union-attr]
    (gradient,) = torch.autograd.grad(loss, weight)  # type: ignore[arg-type]
    return float(gradient.norm())


def test_depth_shrinks_the_last_gradient_with_pre_norm_alone() -> None:
    """Xiong et al. 2020, theorem 1: by the root of the variance of the stream."""
    shallow, deep = 2, 32
    post = last_gradient("post", deep) / last_gradient("post", shallow)
    pre = last_gradient("pre", deep) / last_gradient("pre", shallow)
    assert post == pytest.approx(1, abs=0.3)
    # Attention's gain is not 8/25 exactly, and is of the same order.
    expected = math.sqrt((1 + 2 * shallow * GAIN) / (1 + 2 * deep * GAIN))
    assert pre == pytest.approx(expected, rel=0.35)
    assert pre < 0.6 * post
