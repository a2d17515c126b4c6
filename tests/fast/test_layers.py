"""LayerNorm's gradient in closed form, against torch's."""

from __future__ import annotations

import pytest
import torch

from tests.model.helpers import assert_layer_norm_is_torchs
from tinylm.fast.layers import FastLayerNorm


@pytest.mark.parametrize("size", [1, 7, 300])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("eps", [1e-5, 0.5])
def test_layer_norm_and_its_gradients_equal_torchs(size: int, bias: bool, eps: float) -> None:
    torch.manual_seed(0)
    assert_layer_norm_is_torchs(FastLayerNorm(size, eps, bias).double(), size, eps)


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
