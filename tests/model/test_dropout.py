import math

import pytest
import torch

from tests.model.helpers import build_random, largest_difference, random_ids
from tinylm.model.decoder import record
from tinylm.model.dropout import Dropout, uniform_numbers


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
        numbers = []
        for _ in range(count):
            state = (state + 0x9E3779B97F4A7C15) % 2**64
            z = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
            z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
            numbers.append(z ^ (z >> 31))
        return numbers

    # The published sequence of the seed 1234567.
    assert splitmix64(1234567, 5) == [
        *(6457827717110365317, 3203168211198807973, 9817491932198370423),
        *(4593380528125082431, 16408922859458223821),
    ]
    draw = 6457827717110365317 - 2**63
    numbers = [number % 2**64 for number in uniform_numbers(draw, 4000).view(torch.int64).tolist()]
    assert numbers == splitmix64((draw - 0x9E3779B97F4A7C15) % 2**64, 1000)
    assert torch.equal(uniform_numbers(draw, 5), uniform_numbers(draw, 4000)[:5])


def test_a_mask_follows_from_one_number_of_torchs_generator() -> None:
    dropout, x = Dropout(0.25), torch.ones(101)
    torch.manual_seed(7)
    draw, dropped = dropout.draw()
    torch.manual_seed(7)
    assert dropped == 2**14
    assert torch.equal(dropout(x) == 0, uniform_numbers(draw, 101) < dropped - 2**15)
    assert dropout.eval().draw() == (0, 0)


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
