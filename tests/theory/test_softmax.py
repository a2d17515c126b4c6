"""The Jacobian of softmax, and how it dies with the scale of the logits."""

from __future__ import annotations

import math

import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tinylm.config import ModelConfig
from tinylm.model.attention import Attention

LOGITS = st.lists(st.floats(-4, 4), min_size=2, max_size=7)


def jacobian_of(p: Tensor) -> Tensor:
    """Return diag(p) - p p^T, the formula of the document."""
    return torch.diag(p) - torch.outer(p, p)


def test_the_jacobian_by_algebra() -> None:
    z = sympy.Matrix(sympy.symbols("z0:4", real=True))
    total = sum(sympy.exp(each) for each in z)
    p = sympy.Matrix([sympy.exp(each) / total for each in z])
    difference = p.jacobian(z) - (sympy.diag(*p) - p * p.T)
    assert sympy.simplify(difference) == sympy.zeros(4, 4)


def test_the_gradient_of_cross_entropy_by_algebra() -> None:
    z = sympy.Matrix(sympy.symbols("z0:3", real=True))
    total = sum(sympy.exp(each) for each in z)
    loss = -(z[1] - sympy.log(total))
    for i, each in enumerate(z):
        assert sympy.simplify(sympy.diff(loss, each) - (sympy.exp(each) / total - int(i == 1))) == 0


@settings(deadline=None)
@given(LOGITS, LOGITS)
def test_it_is_symmetric_kills_constants_and_measures_a_variance(
    logits: list[float], values: list[float]
) -> None:
    n = min(len(logits), len(values))
    z, x = torch.tensor(logits[:n]).double(), torch.tensor(values[:n]).double()
    p = z.softmax(0)
    jacobian = jacobian_of(p)
    actual = torch.autograd.functional.jacobian(lambda z: z.softmax(0), z)
    assert torch.allclose(actual, jacobian, atol=1e-14)
    assert float((jacobian @ torch.ones(n).double()).abs().max()) < 1e-15
    variance = (p * (x - (p * x).sum()).square()).sum()
    assert torch.allclose(x @ jacobian @ x, variance, atol=1e-12)
    assert float(torch.linalg.eigvalsh(jacobian).min()) > -1e-15


@settings(deadline=None)
@given(LOGITS, st.floats(0.1, 50))
def test_the_bound_of_the_gradient_at_any_scale(logits: list[float], scale: float) -> None:
    z = torch.tensor(logits).double()
    largest, second = z.topk(2).values
    p = (scale * z).softmax(0)
    n, gap = len(z), float(largest - second)
    remainder = (n - 1) * math.exp(-scale * gap)
    assert float(1 - p.max()) <= remainder + 1e-12
    actual = torch.autograd.functional.jacobian(lambda z: (scale * z).softmax(0), z)
    norm = float(torch.linalg.matrix_norm(actual, 2))
    assert norm <= 2 * scale * remainder + 1e-9
    assert norm <= scale * float(1 - p.square().sum()) + 1e-9


def test_in_attention_the_gradient_of_a_query_is_the_jacobians() -> None:
    """Through the project's attention: dL/dq = K^T J V^T g / sqrt(d), with J at the pattern."""
    d, keys = 6, 5
    torch.manual_seed(0)
    attention = Attention(ModelConfig(num_heads=1, hidden_size=d, dropout=0.0), 0, "attention")
    key, value = torch.randn(2, 1, 1, keys, d).double()
    upstream = torch.randn(d).double()
    sizes = []
    for scale in (1.0, 60.0, 10_000.0):
        query = (
            scale * torch.randn(1, 1, 1, d, generator=torch.Generator().manual_seed(1))
        ).double()
        query.requires_grad_()
        mixed = attention.mix(query, key, value, None)
        (gradient,) = torch.autograd.grad(mixed, query, upstream.expand_as(mixed))
        p = (key[0, 0] @ query[0, 0, 0] / math.sqrt(d)).softmax(0).detach()
        expected = key[0, 0].T @ jacobian_of(p) @ value[0, 0] @ upstream / math.sqrt(d)
        assert torch.allclose(gradient[0, 0, 0], expected, atol=1e-13)
        sizes.append(float(gradient.norm()))
    # Two keys lie 0.004 apart: at 60 they nearly tie, and the gradient lives.
    assert sizes[2] < 1e-9 < 1e-2 < min(sizes[:2])
