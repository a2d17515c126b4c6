"""Products of a few rows with matrices in floating point and in packed codes, against float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tinylm.config import GenerationConfig, ModelConfig
from tinylm.fast import for_decoding, loops
from tinylm.fast.cache import StepCache
from tinylm.fast.codes import MANY, CodedLinear, rows_by_number
from tinylm.fast.decoding import FEW, matrix_of
from tinylm.generation.engine import SpecialIds, generate
from tinylm.model.decoder import DecoderLM
from tinylm.numbers.integers import IntegerFormat
from tinylm.numbers.nf4 import NormalFloat
from tinylm.numbers.quantized import QuantizedEmbedding, QuantizedLinear, QuantizedWeight

pytestmark = [
    pytest.mark.skipif(not loops.available(), reason="no numba, or not on Linux"),
    pytest.mark.usefixtures("keep_threads"),
]
SPECIAL = SpecialIds(pad=0, sos=2, eos=3, unk=1)
STEP = 2.0**-24
"""What an input may be off by, in shares of the largest of its row."""


def multiply(x: Tensor, linear: Any, numbers: Any = "float32") -> Tensor:
    matrix = matrix_of(linear, numbers)
    assert matrix is not None
    return loops.matrices.Linear(matrix, x.shape[1])(x)


def exact(x: Tensor, linear: Any) -> Tensor:
    return x.double() @ linear.weight.double().T + linear.bias.double()


def made(inputs: int, outputs: int, rows: int, seed: int) -> tuple[nn.Linear, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    linear = nn.Linear(inputs, outputs)
    with torch.no_grad():
        for part in linear.parameters():
            part.copy_(torch.randn(part.shape, generator=generator))
    return linear.requires_grad_(False), torch.randn(rows, inputs, generator=generator) * 3


sizes = {
    "outputs": st.integers(1, 40),
    "rows": st.integers(1, 14),
    "threads": st.sampled_from([1, 2, 5]),
    "seed": st.integers(0, 1000),
}


@settings(max_examples=60, deadline=None)
@given(inputs=st.integers(1, 90), numbers=st.sampled_from(["float32", "bfloat16"]), **sizes)
def test_products_in_floating_point(
    inputs: int, outputs: int, rows: int, threads: int, seed: int, numbers: str
) -> None:
    torch.set_num_threads(threads)
    linear, x = made(inputs, outputs, rows, seed)
    product = multiply(x, linear, numbers)
    if numbers == "bfloat16":
        linear.weight.data = linear.weight.bfloat16().float()
    bound = 1e-6 * (x.abs() @ linear.weight.abs().T + linear.bias.abs())
    assert ((product - exact(x, linear)).abs() <= bound).all()


@settings(max_examples=200, deadline=None)
@given(
    size=st.integers(1, 80),
    groups=st.integers(1, 4),
    bits=st.sampled_from([8, 4, 3, 2]),
    symmetric=st.booleans(),
    granularity=st.sampled_from(["tensor", "row", "group"]),
    scale_format=st.sampled_from(["float32", "bfloat16"]),
    divided=st.booleans(),
    **sizes,
)
def test_products_with_packed_codes(
    size: int,
    groups: int,
    bits: Literal[8, 4, 3, 2],
    symmetric: bool,
    granularity: Literal["tensor", "row", "group"],
    scale_format: Literal["float32", "bfloat16"],
    divided: bool,
    outputs: int,
    rows: int,
    threads: int,
    seed: int,
) -> None:
    """No further from what the codes stand for than the rounding of the inputs allows."""
    torch.set_num_threads(threads)
    in_group = size if granularity == "group" else None
    linear, x = made(size * groups, outputs, rows, seed)
    form = IntegerFormat(bits, symmetric, granularity, in_group, scale_format)
    divisor = torch.rand(size * groups) + 0.5 if divided else None
    quantized = QuantizedLinear(linear, form, divisor)
    given = x if divisor is None else x / divisor
    weight = quantized.quantized().double()
    expected = given.double() @ weight.T + quantized.bias.double()  # type: ignore[union-attr]
    rounding = STEP * given.abs().amax(1, keepdim=True) * weight.abs().sum(1)
    # The sums of products of codes are turned into float32 before what zeros add is taken off.
    scale = weight.abs().amax(1) + linear.weight.abs().amax(1)
    summing = 1e-6 * given.abs().sum(1, keepdim=True) * scale + 1e-6
    assert ((multiply(x, quantized) - expected).abs() <= 1.001 * rounding + summing).all()


@pytest.mark.parametrize("bits", [8, 4])
def test_whole_inputs_are_multiplied_exactly(bits: Literal[8, 4]) -> None:
    """With nothing to round, codes and inputs give the whole number that they should."""
    generator = torch.Generator().manual_seed(0)
    form = IntegerFormat(bits, symmetric=True, granularity="row")
    codes = torch.randint(form.lowest, form.highest + 1, (37, 76), generator=generator)
    most = (2**24 - 1) // (76 * -form.lowest)  # so that float32 holds the sum
    x = torch.randint(-most, most + 1, (5, 76), generator=generator)
    x[:, 3], codes[:, 3] = loops.codes.LARGEST[3], 0  # what a row is rounded by
    linear, _ = made(76, 37, 1, 0)
    linear.bias.zero_()
    kept = form.store(codes, torch.ones(37, 1))
    quantized = QuantizedLinear(linear, QuantizedWeight(linear.weight, form, kept))
    assert torch.equal(multiply(x.float(), quantized), (x @ codes.T).float())


def test_codes_of_the_longest_group_do_not_overflow() -> None:
    inputs = loops.matrices.LONGEST_GROUP
    linear, _ = made(inputs, 5, 1, 0)
    form = IntegerFormat(8, symmetric=False)
    kept = form.store(
        torch.full((5, inputs), 255), torch.ones(5, 1), torch.zeros(5, 1, dtype=torch.uint8)
    )
    quantized = QuantizedLinear(linear, QuantizedWeight(linear.weight, form, kept))
    x = torch.full((1, inputs), 2.5)
    torch.testing.assert_close(multiply(x, quantized), exact(x, quantized).float())
    torch.testing.assert_close(multiply(-x, quantized), exact(-x, quantized).float())


def test_a_row_of_zeros_and_numbers_that_are_not_finite() -> None:
    linear, x = made(40, 9, 3, 0)
    quantized = QuantizedLinear(linear, IntegerFormat(4, False, "group", 10))
    x[0] = 0
    product = multiply(x, quantized)
    assert torch.equal(product[0], linear.bias)
    for number in (torch.nan, torch.inf, -torch.inf):
        x[1, 7] = number
        assert not multiply(x, quantized)[1].isfinite().any()


def test_a_row_is_the_same_alone_and_in_any_company() -> None:
    linear, x = made(300, 33, FEW, 1)
    for part in (linear, QuantizedLinear(linear, IntegerFormat(4, False, "group", 60))):
        whole = multiply(x, part)
        for count in range(1, FEW):
            assert torch.equal(multiply(x[:count], part), whole[:count])


@pytest.mark.parametrize("form", [IntegerFormat(8), NormalFloat()])
def test_what_the_loops_cannot_read(form: Any) -> None:
    linear, _ = made(40, 8, 1, 0)
    assert matrix_of(QuantizedLinear(linear, form, None, "dynamic"), "float32") is None


def test_codes_that_are_no_whole_numbers_are_read_in_float32() -> None:
    linear, x = made(40, 8, 3, 0)
    quantized = QuantizedLinear(linear, NormalFloat())
    matrix = matrix_of(quantized, "float32")
    assert matrix is not None
    assert matrix.weight.dtype == torch.float32
    assert matrix is matrix_of(quantized, "float32")
    torch.testing.assert_close(
        multiply(x, quantized), exact(x, quantized).float(), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    "form",
    [
        NormalFloat(),
        *(IntegerFormat(bits, True, "row") for bits in (8, 4, 3, 2)),
        *(IntegerFormat(bits, False, "group", 5, "bfloat16") for bits in (8, 4, 3, 2)),
        *(IntegerFormat(bits, False, "tensor") for bits in (8, 3)),
    ],
    ids=str,
)
def test_rows_by_number_are_those_of_the_weight(form: Any) -> None:
    weight = QuantizedWeight(torch.randn(19, 35, generator=torch.Generator().manual_seed(0)), form)
    rows = [18, 0, 7, 7]
    rows_of = rows_by_number(weight)
    assert rows_of is not None
    assert torch.equal(torch.from_numpy(rows_of(rows)), weight()[rows])


@pytest.mark.parametrize("rows", [1, 5, MANY, MANY + 9])
@pytest.mark.parametrize("form", [IntegerFormat(8), IntegerFormat(4, False, "group", 5)])
def test_a_quick_quantized_map_multiplies_any_rows_from_its_codes(
    rows: int, form: IntegerFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    linear, x = made(40, 21, rows, 2)
    quantized = QuantizedLinear(linear, form, torch.rand(40) + 0.5)
    expected = exact(x, quantized)
    quantized.__class__ = CodedLinear
    monkeypatch.setattr(QuantizedWeight, "forward", None)  # nothing is dequantized
    with torch.inference_mode():
        product = quantized(x.view(rows, 1, 40))[:, 0]
    torch.testing.assert_close(product, expected.float(), rtol=1e-5, atol=1e-5)
    matrix = matrix_of(quantized, "float32")
    assert matrix is not None
    assert matrix is matrix_of(quantized, "float32")  # one copy for steps and prompts
    assert matrix.weight.dtype == torch.uint8
    padded_outputs, padded_inputs = 32, 40 if form.bits == 8 else 8 * 8
    assert matrix.weight.numel() == padded_outputs * padded_inputs * form.bits // 8
    with torch.no_grad():
        quantized.quantized.stored["scale"].mul_(2)
        doubled = quantized(x) - linear.bias
    torch.testing.assert_close(doubled, 2 * (product - linear.bias), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("vnni", [True, False])
def test_products_of_bytes_with_and_without_the_instruction(vnni: bool) -> None:
    from llvmlite import ir
    from numba import njit, types
    from numba.core.registry import cpu_target
    from numba.extending import intrinsic

    from tinylm.fast.loops.vectors import load, vector_of

    if vnni and not loops.codes.has_dot(cpu_target.target_context):
        pytest.skip("this processor has no such instruction")

    @intrinsic
    def multiply(_: Any, total: Any, code: Any, x: Any) -> Any:
        def generate(_: Any, builder: Any, __: Any, places: Any) -> Any:
            wide = vector_of(ir.IntType(32))
            made = loops.codes.dot(builder, *(load(builder, place, wide) for place in places), vnni)
            builder.store(made, builder.inttoptr(places[0], wide.as_pointer()), align=1)
            return ir.Constant(ir.IntType(8).as_pointer(), None)

        return types.none(total, code, x), generate

    compiled = njit(lambda *places: multiply(*places))  # noqa: PLW0108 - numba needs a function
    random = np.random.default_rng(0)
    total = random.integers(-(2**30), 2**30, 16, np.int32)
    code, x = random.integers(0, 256, 64, np.uint8), random.integers(-128, 128, 64, np.int8)
    code[:8], x[:4], x[4:8] = 255, -128, 127  # no sum of two is cut off
    expected = total + (code.astype(np.int32) * x).reshape(16, 4).sum(1)
    compiled(total.ctypes.data, code.ctypes.data, x.ctypes.data)
    np.testing.assert_array_equal(total, expected)


CONFIG = ModelConfig(
    vocab_size=131, hidden_size=28, num_heads=4, head_dim=7, num_layers=3, context_length=24
)


def quantized_model(form: IntegerFormat, table: bool) -> DecoderLM:
    torch.manual_seed(0)
    model = DecoderLM(CONFIG).eval().requires_grad_(False)
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0.5 if parameter.dim() < 2 else 0.0, 0.3)
    for parent in list(model.modules()):
        for name, part in parent.named_children():
            if isinstance(part, nn.Linear):
                scale = torch.rand(part.in_features) + 0.5 if name == "expand" else None
                setattr(parent, name, QuantizedLinear(part, form, scale))
    if table:
        weight = QuantizedWeight(model.embedding.weight, form)
        model.embedding = QuantizedEmbedding(weight)  # type: ignore[assignment]
    return model


def test_maps_of_different_widths_are_decoded_in_one_call() -> None:
    model = quantized_model(IntegerFormat(8), table=False)
    for layer, bits in zip(model.layers, (8, 4, 2), strict=True):
        part = layer.feed_forward.contract
        layer.feed_forward.contract = QuantizedLinear(part, IntegerFormat(bits, False))
    state = for_decoding(model).decoding_state(1)
    assert isinstance(state, StepCache)
    assert state.layers is not None
    settings = GenerationConfig(max_new_tokens=12, strategy="greedy")
    quick, plain = (
        generate(model, [[2, 5]], replace(settings, linear=linear), SPECIAL)[0]
        for linear in ("packed", "plain")
    )
    assert quick.ids == plain.ids
    assert quick.log_probability == pytest.approx(plain.log_probability, rel=1e-4)


@pytest.mark.parametrize("table", [False, True])
@pytest.mark.parametrize(
    "form",
    [
        IntegerFormat(8),
        IntegerFormat(4, granularity="group", group_size=14),
        IntegerFormat(4, False, "group", 28, "bfloat16"),
        IntegerFormat(3, False, "group", 7),
    ],
)
@pytest.mark.parametrize("strategy", ["greedy", "beam"])
def test_a_quantized_model_is_decoded_from_its_codes(
    form: IntegerFormat, table: bool, strategy: Any
) -> None:
    """The texts of the plain model, and no dequantized matrix in a step."""
    model = quantized_model(form, table)
    quick = for_decoding(model)
    prompts = [[2, 5, 6, 7], [2, 9, 8, 3, 4]]
    if strategy == "greedy":  # more than are decoded at once with matrices in floating point
        prompts += [[2, i] for i in range(20, 21 + FEW)]
    settings = GenerationConfig(strategy=strategy, num_beams=3, max_new_tokens=26)
    plain = replace(settings, linear="plain")
    texts = generate(model, prompts, settings, SPECIAL)
    for result, expected in zip(texts, generate(model, prompts, plain, SPECIAL), strict=True):
        assert result.ids == expected.ids
        assert result.log_probability == pytest.approx(expected.log_probability, rel=1e-3)
    with torch.inference_mode():
        state = quick.decoding_state(1)
        assert isinstance(state, StepCache)
        quick.residual(torch.tensor([[2, 5, 6]]), cache=state)
        whole: list[QuantizedWeight] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(QuantizedWeight, "forward", whole.append)
            quick.next_logits([7], [3], state)
    assert not whole
