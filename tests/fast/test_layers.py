"""LayerNorm's gradient in closed form, against torch's."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.model.helpers import largest_difference
from tinylm.fast.layers import FastLayerNorm


@pytest.mark.parametrize("size", [1, 7, 300])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("eps", [1e-5, 0.5])
def test_layer_norm_and_its_gradients_equal_torchs(size: int, bias: bool, eps: float) -> None:
    torch.manual_seed(0)
    norm = FastLayerNorm(size, eps, bias).double()
    nn.init.normal_(norm.weight)
    if norm.bias is not None:
        nn.init.normal_(norm.bias)
    x = (3 * torch.randn(2, 5, size, dtype=torch.float64) + 7).requires_grad_()
    upstream = torch.randn_like(x)
    parameters = [x, *norm.parameters()]

    ours = norm(x)
    theirs = F.layer_norm(x, (size,), norm.weight, norm.bias, eps)

    assert largest_difference(ours, theirs) < 1e-12
    with torch.no_grad():
        assert largest_difference(norm(x), theirs) < 1e-12
    our_gradients = torch.autograd.grad(ours, parameters, upstream)
    their_gradients = torch.autograd.grad(theirs, parameters, upstream)
    for mine, other in zip(our_gradients, their_gradients, strict=True):
        assert largest_difference(mine, other) < 1e-10


@pytest.mark.parametrize("frozen", ["x", "weight", "bias"])
def test_a_frozen_part_has_no_gradient(frozen: str) -> None:
    norm = FastLayerNorm(5, 1e-5).double()
    parts = {"x": torch.randn(3, 5, dtype=torch.float64), "weight": norm.weight, "bias": norm.bias}
    for name, part in parts.items():
        assert part is not None
        part.requires_grad_(name != frozen)
    norm(parts["x"]).square().sum().backward()
    for name, part in parts.items():
        assert part is not None
        assert (part.grad is None) == (name == frozen)
