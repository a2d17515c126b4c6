"""Products of a few rows with matrices in floating point and in packed codes, against float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tinylm.config import GenerationConfig, ModelConfig
from tinylm.fast import for_decoding, loops
from tinylm.fast.cache import StepCache
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


@settings(max_examples=150, deadline=None)
@given(
    size=st.integers(1, 80),
    groups=st.integers(1, 4),
    bits=st.sampled_from([8, 4]),
    symmetric=st.booleans(),
    granularity=st.sampled_from(["tensor", "row", "group"]),
    scale_format=st.sampled_from(["float32", "bfloat16"]),
    divided=st.booleans(),
    **sizes,
)
def test_products_with_packed_codes(
    size: int,
    groups: int,
    bits: Literal[8, 4],
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
    if bits == 4 and granularity == "group" and groups > 1:
        size, in_group = 2 * size, 2 * size
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
    x = torch.randint(-40, 41, (5, 76), generator=generator)
    x[:, 3] = 32767  # what a row is rounded by
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


@pytest.mark.parametrize(
    ("form", "rounding"),
    [
        (IntegerFormat(3), None),
        (IntegerFormat(2), None),
        (IntegerFormat(4, granularity="group", group_size=5), None),
        (IntegerFormat(8), "dynamic"),
        (NormalFloat(), None),
    ],
)
def test_what_the_loops_cannot_read(form: Any, rounding: Any) -> None:
    linear, _ = made(40, 8, 1, 0)
    assert matrix_of(QuantizedLinear(linear, form, None, rounding), "float32") is None


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


@pytest.mark.parametrize("table", [False, True])
@pytest.mark.parametrize(
    "form",
    [
        IntegerFormat(8),
        IntegerFormat(4, granularity="group", group_size=14),
        IntegerFormat(4, False, "group", 28, "bfloat16"),
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
