"""Inputs rounded to 8 bits beside the formula, with ranges of what the maps multiply."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.compression.test_calibration import inputs_one_by_one, texts
from tinylm.compression.activations import quantized_maps, round_dynamically, round_statically
from tinylm.compression.calibration import linear_maps
from tinylm.compression.ranges import RANGES
from tinylm.errors import CompressionError
from tinylm.model.decoder import DecoderLM
from tinylm.numbers.integers import IntegerFormat
from tinylm.numbers.quantized import QuantizedLinear


def quantized(model: DecoderLM, scaled: bool = True) -> DecoderLM:
    """Keep the weights of all maps in 8 bits; every second map divides its inputs."""
    torch.manual_seed(1)
    for number, (path, linear) in enumerate(linear_maps(model).items()):
        parent, _, name = path.rpartition(".")
        scale = torch.rand(linear.in_features).add(0.5) if scaled and number % 2 else None
        new = QuantizedLinear(linear, IntegerFormat(8, True, "row"), scale)
        setattr(model.get_submodule(parent), name, new)
    return model


def rounded(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return numbers as 256 codes between two bounds stand for them."""
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = ((high - low) / 255).float().double()
    zero = (-low / scale).round()
    return (((x / scale).round() + zero).clamp(0, 255) - zero) * scale


def output(linear: QuantizedLinear, x: Tensor) -> Tensor:
    weight = linear.quantized().double()
    return x @ weight.T + (0 if linear.bias is None else linear.bias.detach())


@pytest.mark.parametrize("name", list(RANGES))
def test_a_static_range_is_that_of_what_the_codes_multiply(
    small_model: Callable[..., DecoderLM], name: str
) -> None:
    model = quantized(small_model().double())
    ids, real = texts()
    inputs = inputs_one_by_one(model, ids, real)
    ranges = round_statically(model, ids, RANGES[name], real, batch_size=2)
    maps = quantized_maps(model)
    assert list(ranges) == list(maps) == list(inputs)
    for path, linear in maps.items():
        x = inputs[path]
        if linear.input_scale is not None:
            x = x / linear.input_scale
        assert linear.rounding == "static"
        assert linear.input_range is not None
        low, high = linear.input_range.double()
        assert (float(low), float(high)) == pytest.approx(ranges[path], rel=1e-6)
        assert x.min().clamp(max=0) * 1.001 <= low <= 0 <= high <= x.max().clamp(min=0) * 1.001
        if name == "min-max":
            assert float(high) == pytest.approx(float(x.max().clamp(min=0)), rel=1e-6)
            assert float(low) == pytest.approx(float(x.min().clamp(max=0)), rel=1e-6)
        expected = output(linear, rounded(x, low, high))
        torch.testing.assert_close(linear(inputs[path]), expected, rtol=1e-6, atol=1e-6)


def test_a_dynamic_range_is_that_of_each_row(small_model: Callable[..., DecoderLM]) -> None:
    model = quantized(small_model().double())
    ids, real = texts()
    inputs = inputs_one_by_one(model, ids, real)
    round_statically(model, ids, RANGES["min-max"], real)
    round_dynamically(model)
    for path, linear in quantized_maps(model).items():
        x = inputs[path]
        if linear.input_scale is not None:
            x = x / linear.input_scale
        assert linear.rounding == "dynamic"
        assert linear.input_range is None
        expected = output(linear, rounded(x, x.amin(1, True), x.amax(1, True)))
        torch.testing.assert_close(linear(inputs[path]), expected, rtol=1e-6, atol=1e-6)


def test_the_whole_model_stays_near_and_ranges_are_of_inputs_that_are_not_rounded(
    small_model: Callable[..., DecoderLM],
) -> None:
    model = quantized(small_model(sharpness=1.0).double(), scaled=False)
    ids, real = texts()
    with torch.no_grad():
        before = model(ids, real=real)
        first = round_statically(model, ids, RANGES["min-max"], real)
        static = model(ids, real=real)
        again = round_statically(model, ids, RANGES["min-max"], real)
        round_dynamically(model)
        dynamic = model(ids, real=real)
    assert first == again
    for logits in (static, dynamic):
        difference = (logits - before)[real].abs().max()
        assert 0 < difference < 0.1 * before[real].abs().max()


def test_texts_that_calibrate_nothing_are_refused_and_rounding_is_then_off(
    small_model: Callable[..., DecoderLM],
) -> None:
    model = quantized(small_model())
    ids, _ = texts()
    with pytest.raises(CompressionError, match="no text"):
        round_statically(model, ids[:0], RANGES["mse"])
    with torch.no_grad():
        model.layers[0].attention_norm.weight[0] = torch.inf
    with pytest.raises(CompressionError, match="no histogram"):
        round_statically(model, ids, RANGES["mse"])
    assert all(linear.rounding is None for linear in quantized_maps(model).values())
