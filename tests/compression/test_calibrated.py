"""Whole models quantized by their inputs: what each map is given, and what it is replaced by."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from tests.compression.test_calibration import inputs_one_by_one
from tinylm.compression.calibrated import LinearInput, Rounded, quantize_maps
from tinylm.compression.calibration import Gram, linear_maps
from tinylm.compression.clipping import clipped_constants
from tinylm.compression.gptq import rounded_by_gptq
from tinylm.compression.quantizing import quantize
from tinylm.config.quantization import AwqConfig, GptqConfig, RoundingConfig, SmoothQuantConfig
from tinylm.errors import CompressionError
from tinylm.model.decoder import DecoderLM
from tinylm.model.masks import hold
from tinylm.numbers.integers import IntegerFormat
from tinylm.numbers.quantized import QuantizedEmbedding, QuantizedLinear, QuantizedWeight
from tinylm.registry import QUANTIZERS

IDS = torch.randint(4, 23, (6, 9), generator=torch.Generator().manual_seed(0))
ALL_REAL = torch.ones_like(IDS, dtype=torch.bool)


@dataclass(frozen=True)
class Unrounded:
    """A format that keeps a weight as it is."""

    kind: ClassVar[str] = "unrounded"
    label: ClassVar[str] = "unrounded"

    def quantize(self, weight: Tensor) -> dict[str, Tensor]:
        return {"values": weight}

    def dequantize(self, stored: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        return stored["values"]

    def rows(self, stored: Mapping[str, Tensor], shape: torch.Size, rows: Tensor) -> Tensor:
        return stored["values"][rows]

    def num_bytes(self, shape: torch.Size) -> int:
        return 8 * shape.numel()


@pytest.mark.parametrize("placement", ["pre", "post"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("after_quantized", [False, True])
def test_before_rounding_a_scale_of_the_inputs_changes_no_output(
    small_model: Callable[..., DecoderLM], placement: str, tied: bool, after_quantized: bool
) -> None:
    model = small_model(norm_placement=placement, tie_embeddings=tied).double()
    with torch.no_grad():
        before = model(IDS)
    scales: list[Tensor | None] = []

    def rounded(each: LinearInput) -> Rounded:
        scale = None if each.tied else torch.rand(each.weight.shape[1]).mul(4).sub(2).exp()
        scales.append(scale)
        weight = each.weight if scale is None else each.weight * scale
        return Rounded(QuantizedWeight(weight, Unrounded()), scale)

    settings = RoundingConfig(targets=("*",) if tied else ("layers.*", ".unembedding"))
    details = quantize_maps(model, settings, IDS, rounded, after_quantized)
    with torch.no_grad():
        torch.testing.assert_close(model(IDS), before, rtol=1e-10, atol=1e-10)
    maps = {p: m for p, m in model.named_modules() if isinstance(m, QuantizedLinear)}
    assert len(maps) == len(scales) == 9
    in_norms = {p for p in maps if p.endswith(("query_key_value", "expand")) or p == "unembedding"}
    for (path, module), scale in zip(maps.items(), scales, strict=True):
        absorbed = placement == "pre" and path in in_norms
        assert (module.input_scale is not None) == (scale is not None and not absorbed)
        assert details["output_errors"][path][1] == pytest.approx(0, abs=1e-9)
        assert details["output_errors"][path][0] > 0
    assert (scales[-1] is None) == tied


@pytest.mark.parametrize("after_quantized", [False, True])
def test_each_map_is_rounded_by_what_it_multiplies(
    small_model: Callable[..., DecoderLM], after_quantized: bool
) -> None:
    model = small_model().double()
    plain = copy.deepcopy(model)
    settings = GptqConfig(bits=3, group_size=4, after_quantized=after_quantized)
    quantize(model, QUANTIZERS.load("gptq"), settings, IDS)

    form = IntegerFormat(3, False, "group", 4, "bfloat16")
    if after_quantized:  # the embedding comes before all maps
        plain.embedding.weight.data = model.embedding.quantized()
    for path, linear in linear_maps(plain).items():
        gram = Gram()
        gram.add(inputs_one_by_one(plain, IDS, ALL_REAL)[path])
        result = rounded_by_gptq(linear.weight, gram.hessian, form)
        quantized = model.get_submodule(path)
        assert isinstance(quantized, QuantizedLinear)
        codes, scale, zero = form.parts(quantized.quantized.stored, linear.weight.shape[1])
        assert torch.equal(scale.float(), result.scale)
        assert torch.equal(zero, result.zero)
        assert torch.equal(codes, result.codes)
        if after_quantized:
            linear.weight.data = quantized.quantized()


@pytest.mark.parametrize("name", ["gptq", "awq", "smoothquant"])
@pytest.mark.parametrize("tied", [False, True])
def test_outputs_of_8_bits_are_near_and_those_of_few_no_further_than_by_the_nearest(
    small_model: Callable[..., DecoderLM], name: str, tied: bool
) -> None:
    method = QUANTIZERS.load(name)
    for bits, most in ((8, 0.02), (3, 1.0)):
        model = small_model(tie_embeddings=tied, sharpness=1.0)
        with torch.no_grad():
            before = model(IDS)
        details = quantize(model, method, method.Settings(bits=bits, activations="float"), IDS)
        with torch.no_grad():
            difference = (model(IDS) - before).square().mean() / before.square().mean()
        assert 0 < difference < most**2
        errors = details["output_errors"]
        assert list(errors) == list(linear_maps(small_model()))
        if name != "smoothquant":  # whose scales are for the inputs' sake
            nearest, this = map(sum, zip(*errors.values(), strict=True))
            assert this < nearest
    assert isinstance(model.embedding, QuantizedEmbedding)
    assert (model.unembedding.quantized is model.embedding.quantized) == tied


def test_a_scale_that_the_search_leaves_at_1_is_not_stored(
    small_model: Callable[..., DecoderLM],
) -> None:
    model = small_model()
    details = quantize(model, QUANTIZERS.load("awq"), AwqConfig(), IDS)
    for path, exponent in details["exponents"].items():
        assert (model.get_submodule(path).input_scale is None) == (exponent == 0)


@pytest.mark.parametrize("name", ["gptq", "awq", "smoothquant"])
def test_an_embedding_alone_takes_the_ranges_of_the_least_error(
    small_model: Callable[..., DecoderLM], name: str
) -> None:
    model = small_model()
    table = model.embedding.weight.detach().clone()
    settings = QUANTIZERS.load(name).Settings(bits=3, granularity="group", group_size=4)
    quantize(model, QUANTIZERS.load(name), settings, IDS)
    form = IntegerFormat(3, False, "group", 4, "bfloat16")
    expected = clipped_constants(table, form)
    codes, scale, zero = form.parts(model.embedding.quantized.stored, 12)
    assert torch.equal(scale.float(), expected[0])
    assert torch.equal(zero, expected[1])
    assert torch.equal(codes, form.encode(table, *expected))


@pytest.mark.parametrize("name", ["gptq", "awq", "smoothquant"])
def test_pruned_weights_stay_0(small_model: Callable[..., DecoderLM], name: str) -> None:
    model = small_model()
    generator = torch.Generator().manual_seed(0)
    masks = {
        path: torch.rand(linear.weight.shape, generator=generator) < 0.5
        for path, linear in linear_maps(model).items()
    }
    hold(model, masks)
    quantize(model, QUANTIZERS.load(name), QUANTIZERS.load(name).Settings(), IDS)
    for path, kept in masks.items():
        weight = model.get_submodule(path).weight
        assert not weight[~kept].any()
        assert weight[kept].any()


def test_smoothing_makes_rounded_inputs_cost_less_where_some_are_far_larger(
    small_model: Callable[..., DecoderLM],
) -> None:
    """With outliers made by a norm's weight, as large models have them."""

    def error(name: str, settings: Any) -> float:
        model = small_model(norm_placement="pre", sharpness=1.0)
        with torch.no_grad():
            for layer in model.layers:
                for norm in (layer.attention_norm, layer.feed_forward_norm):
                    norm.weight[3] = 60.0
                layer.attention.query_key_value.weight[:, 3] /= 60
                layer.feed_forward.expand.weight[:, 3] /= 60
            before = model(IDS)
            quantize(model, QUANTIZERS.load(name), settings, IDS)
            return float((model(IDS) - before).square().mean())

    for activations in ("dynamic", "static"):
        rows: dict[str, Any] = {"bits": 8, "granularity": "row", "activations": activations}
        plain = error("rtn", RoundingConfig(**rows, activation_range="min-max"))
        smooth = error("smoothquant", SmoothQuantConfig(**rows, activation_range="min-max"))
        assert smooth < 0.3 * plain


@pytest.mark.parametrize("name", ["gptq", "awq", "smoothquant"])
def test_what_cannot_be_is_refused_before_anything_changes(
    small_model: Callable[..., DecoderLM], name: str
) -> None:
    method = QUANTIZERS.load(name)
    model = small_model()
    for settings, ids, problem in (
        (method.Settings(), None, "give texts"),
        (method.Settings(), IDS[:, :1], "give texts"),
        (method.Settings(targets=("nothing",)), IDS, "matches nothing"),
        (method.Settings(granularity="group", group_size=5), IDS, "does not divide"),
    ):
        with pytest.raises(CompressionError, match=problem):
            quantize(model, method, settings, ids)
    assert all(type(m) is nn.Linear for m in linear_maps(model).values())
    assert model.changes == ()
