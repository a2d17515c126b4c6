import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.model.helpers import SMALL, build_random, largest_difference, random_ids
from tinylm.config import ModelConfig
from tinylm.model.decoder import record
from tinylm.model.hooks import NO_HOOKS
from tinylm.model.layers import (
    Dropout,
    FeedForward,
    LayerNorm,
    _random_numbers,
    gelu,
    gelu_tanh,
    relu,
)

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
    norm = LayerNorm(size, eps, bias).double()
    nn.init.normal_(norm.weight)
    if norm.bias is not None:
        nn.init.normal_(norm.bias)
    x = (3 * torch.randn(2, 5, size, dtype=torch.float64) + 7).requires_grad_()
    upstream = torch.randn_like(x)
    parameters = [x, *norm.parameters()]

    ours = norm(x)
    theirs = F.layer_norm(x, (size,), norm.weight, norm.bias, eps)

    assert largest_difference(ours, theirs) < 1e-12
    our_gradients = torch.autograd.grad(ours, parameters, upstream)
    their_gradients = torch.autograd.grad(theirs, parameters, upstream)
    for mine, other in zip(our_gradients, their_gradients, strict=True):
        assert largest_difference(mine, other) < 1e-10


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
    ],
)
def test_activations_and_their_gradients_equal_torchs(ours, theirs) -> None:  # type: ignore[no-untyped-def]
    x = torch.linspace(-8, 8, 1001, dtype=torch.float64).requires_grad_()
    assert largest_difference(ours(x), theirs(x)) < 1e-14
    (mine,) = torch.autograd.grad(ours(x).sum(), x)
    (other,) = torch.autograd.grad(theirs(x).sum(), x)
    assert largest_difference(mine, other) < 1e-13


def test_activations_at_one() -> None:
    one = torch.tensor(1.0, dtype=torch.float64)
    assert float(relu(one)) == 1
    assert float(gelu(one)) == pytest.approx(0.8413447460685429, abs=1e-15)  # Phi(1)
    inner = math.sqrt(2 / math.pi) * 1.044715
    assert float(gelu_tanh(one)) == pytest.approx(0.5 * (1 + math.tanh(inner)), abs=1e-15)


# Feed-forward


def test_feed_forward_is_two_linear_maps_around_the_activation() -> None:
    torch.manual_seed(0)
    part = FeedForward(ModelConfig(**{**SMALL, "activation": "relu"}), "part").double()
    x = torch.randn(2, 3, 10, dtype=torch.float64)
    inner = (x @ part.expand.weight.T + part.expand.bias).clamp(min=0)
    assert inner.shape == (2, 3, 14)
    by_hand = inner @ part.contract.weight.T + part.contract.bias
    assert largest_difference(part(x, NO_HOOKS), by_hand) < 1e-14


def test_ffn_size_defaults_to_four_times_hidden_size() -> None:
    part = FeedForward(ModelConfig(**{**SMALL, "ffn_size": None}), "part")
    assert part.expand.weight.shape == (40, 10)
    assert part.contract.weight.shape == (10, 40)


# Dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(p: float) -> None:
    torch.manual_seed(0)
    count = 400_000
    out = Dropout(p)(torch.ones(count, dtype=torch.float64))
    dropped = out == 0
    five_deviations = 5 * math.sqrt(p * (1 - p) / count)
    assert abs(float(dropped.double().mean()) - p) < five_deviations
    # Each of the four places that share one draw, apart from the others.
    for place in range(4):
        assert abs(float(dropped[place::4].double().mean()) - p) < 2 * five_deviations
    rounded = round(p * 65_536) / 65_536
    assert out[~dropped].unique().tolist() == pytest.approx([1 / (1 - rounded)], abs=1e-15)


def test_dropout_decides_each_number_by_itself() -> None:
    torch.manual_seed(0)
    count, p = 400_000, 0.3
    dropped = (Dropout(p)(torch.ones(count)) == 0).double() - p
    for lag in (1, 2, 3, 4, 8):
        correlation = float((dropped[:-lag] * dropped[lag:]).mean()) / (p * (1 - p))
        assert abs(correlation) < 5 / math.sqrt(count), lag


def test_dropouts_masks_of_different_calls_are_independent() -> None:
    torch.manual_seed(0)
    count, p = 400_000, 0.3
    dropout = Dropout(p)
    first, second = ((dropout(torch.ones(count)) == 0).double() - p for _ in range(2))
    for lag in (-4, -1, 0, 1, 4):
        correlation = float((first * second.roll(lag)).mean()) / (p * (1 - p))
        assert abs(correlation) < 5 / math.sqrt(count), lag


def test_random_numbers_are_those_of_splitmix64() -> None:
    def splitmix64(state: int, count: int) -> list[int]:
        found = []
        for _ in range(count):
            state = (state + 0x9E3779B97F4A7C15) % 2**64
            z = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
            z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
            found.append(z ^ (z >> 31))
        return found

    # The published sequence of the seed 1234567.
    assert splitmix64(1234567, 5) == [
        *(6457827717110365317, 3203168211198807973, 9817491932198370423),
        *(4593380528125082431, 16408922859458223821),
    ]
    torch.manual_seed(7)
    draw = int(torch.empty((), dtype=torch.int64).random_(-(2**63), None))
    torch.manual_seed(7)
    found = [number % 2**64 for number in _random_numbers(1000).tolist()]
    assert found == splitmix64((draw - 0x9E3779B97F4A7C15) % 2**64, 1000)


def test_dropout_passes_gradients_where_it_passed_numbers() -> None:
    torch.manual_seed(0)
    x = torch.ones(7, 9, dtype=torch.float64, requires_grad=True)
    out = Dropout(0.4)(x)
    out.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, out.detach())
    assert 0 < int((out == 0).sum()) < 63


def test_dropout_follows_the_seed_and_draws_anew_each_time() -> None:
    dropout, x = Dropout(0.5), torch.ones(1001)
    torch.manual_seed(3)
    first, second = dropout(x), dropout(x)
    torch.manual_seed(3)
    assert torch.equal(dropout(x), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 6, 7])
def test_dropout_of_any_size_keeps_shape_and_format(count: int) -> None:
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        out = Dropout(0.5)(torch.ones(count, 1, dtype=dtype))
        assert out.shape == (count, 1)
        assert out.dtype == dtype


def test_dropout_rests_in_evaluation_and_at_zero() -> None:
    x = torch.randn(10)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_dropout_close_to_one_stays_finite() -> None:
    torch.manual_seed(0)
    out = Dropout(0.9999999)(torch.ones(300_000))
    assert bool(out.isfinite().all())
    assert float((out == 0).float().mean()) > 0.999


def test_dropout_acts_on_embedding_pattern_and_the_output_of_each_part() -> None:
    model = build_random(dropout=0.25).train()
    seen: list[tuple[int, ...]] = []
    for module in model.modules():
        if isinstance(module, Dropout):
            assert module.p == 0.25
            module.register_forward_hook(lambda _, inputs, __: seen.append(tuple(inputs[0].shape)))
    model(random_ids(model, 2, 5))
    residual, pattern = (2, 5, 10), (2, 3, 5, 5)
    assert seen == [residual, *(2 * [pattern, residual, residual])]


def test_dropout_acts_on_the_sum_of_embeddings_and_positions() -> None:
    model = build_random(dropout=0.5).train()
    _, kept = record(model, ["embedding", "layers.0.input"], random_ids(model, 4, 16))
    summed = model.positions.add(kept["embedding"], torch.arange(16)[None])
    left = kept["layers.0.input"]
    dropped = left == 0
    assert 0.4 < float(dropped.double().mean()) < 0.6
    assert largest_difference(left[~dropped], 2 * summed[~dropped]) < 1e-12


def test_dropout_changes_training_alone() -> None:
    model = build_random(dropout=0.25)
    ids = random_ids(model, 2, 5)
    assert torch.equal(model(ids), model(ids))
    without = build_random(dropout=0.0)
    assert torch.equal(model(ids), without(ids))
    model.train()
    assert not torch.equal(model(ids), model(ids))
