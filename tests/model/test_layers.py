import math

import pytest
import torch
from torch.nn import functional as F

from tests.model.helpers import SMALL, assert_layer_norm_is_torchs, largest_difference
from tinylm.config import ModelConfig
from tinylm.model.activations.gelu import gelu, gelu_tanh
from tinylm.model.activations.relu import relu
from tinylm.model.activations.silu import silu
from tinylm.model.layers import FeedForward, LayerNorm

# LayerNorm


def test_layer_norm_of_a_hand_worked_row() -> None:
    # Mean 2; deviations -1, 0, 1; biased variance 2/3; with eps 1/3 the root is exactly 1.
    norm = LayerNorm(3, eps=1 / 3).double()
    x = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    assert norm(x).tolist() == pytest.approx([-1, 0, 1], abs=1e-15)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([2.0, 3.0, 4.0]))
        assert norm.bias is not None
        norm.bias.copy_(torch.tensor([0.5, 0.25, -1.0]))
    assert norm(x).tolist() == pytest.approx([-1.5, 0.25, 3], abs=1e-15)


@pytest.mark.parametrize("size", [1, 7, 300])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("eps", [1e-5, 0.5])
def test_layer_norm_and_its_gradients_equal_torchs(size: int, bias: bool, eps: float) -> None:
    torch.manual_seed(0)
    assert_layer_norm_is_torchs(LayerNorm(size, eps, bias).double(), size, eps)


def test_layer_norm_of_a_constant_row_is_its_bias() -> None:
    norm = LayerNorm(4, 1e-5)
    assert norm(torch.full((2, 4), 1e4)).abs().max() == 0


# Activations


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (relu, F.relu),
        (gelu, F.gelu),
        (gelu_tanh, lambda x: F.gelu(x, approximate="tanh")),
        (silu, F.silu),
    ],
)
def test_activations_and_their_gradients_equal_torchs(ours, theirs) -> None:  # type: ignore[no-untyped-def]
    x = torch.linspace(-8, 8, 1001, dtype=torch.float64).requires_grad_()
    assert largest_difference(ours(x), theirs(x)) < 1e-14
    (mine,) = torch.autograd.grad(ours(x).sum(), x)
    (other,) = torch.autograd.grad(theirs(x).sum(), x)
    assert largest_difference(mine, other) < 1e-13


def test_activations_at_one() -> None:
    x = torch.tensor(1.0, dtype=torch.float64)
    assert float(relu(x)) == 1
    assert float(gelu(x)) == pytest.approx(0.8413447460685429, abs=1e-15)  # Phi(1)
    assert float(silu(x)) == pytest.approx(0.7310585786300049, abs=1e-15)  # 1 / (1 + 1/e)
    inner = math.sqrt(2 / math.pi) * 1.044715
    assert float(gelu_tanh(x)) == pytest.approx(0.5 * (1 + math.tanh(inner)), abs=1e-15)


# Feed-forward


def test_feed_forward_is_two_linear_maps_around_the_activation() -> None:
    torch.manual_seed(0)
    part = FeedForward(ModelConfig(**{**SMALL, "activation": "relu"}), "part").double()
    x = torch.randn(2, 3, 10, dtype=torch.float64)
    inner = (x @ part.expand.weight.T + part.expand.bias).clamp(min=0)
    assert inner.shape == (2, 3, 14)
    by_hand = inner @ part.contract.weight.T + part.contract.bias
    assert largest_difference(part(x), by_hand) < 1e-14


def test_ffn_size_defaults_to_four_times_hidden_size() -> None:
    part = FeedForward(ModelConfig(**{**SMALL, "ffn_size": None}), "part")
    assert part.expand.weight.shape == (40, 10)
    assert part.contract.weight.shape == (10, 40)
