"""Maps and tables whose weight is kept in few bits beside products with the dequantized weight."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.numbers.test_integers import FORMATS
from tinylm.errors import ConfigError
from tinylm.numbers.formats import WeightFormat
from tinylm.numbers.integers import INT8, IntegerFormat
from tinylm.numbers.nf4 import NormalFloat
from tinylm.numbers.quantized import (
    QuantizedEmbedding,
    QuantizedLinear,
    QuantizedWeight,
    format_of,
    format_settings,
)

ALL: list[WeightFormat] = [*FORMATS, NormalFloat(4), NormalFloat(64, double=False)]
every_format = st.sampled_from(ALL)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(every_format, st.integers(1, 6), st.sampled_from([6, 12, 30]), st.integers(0, 99))
def test_a_weight_is_kept_at_the_bytes_of_its_format(
    form: WeightFormat, rows: int, columns: int, seed: int
) -> None:
    weight = drawn(rows, columns, seed=seed)
    kept = QuantizedWeight(weight, form)
    state = kept.state_dict()
    stored = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    assert stored == kept.num_bytes == form.num_bytes(weight.shape)
    assert not list(kept.parameters())
    dequantized = kept()
    if isinstance(form, IntegerFormat):
        assert torch.equal(dequantized, form.rounded(weight))
    assert kept().dtype == weight.dtype
    numbers = torch.tensor([[0, rows - 1, rows // 2]])
    assert torch.equal(kept.rows(numbers), dequantized[numbers])
    # Read back into a module of the same format, whatever it held.
    other = QuantizedWeight(torch.zeros(rows, columns), form)
    other.load_state_dict(state)
    assert torch.equal(other(), dequantized)
    # A format is written as JSON and read again.
    assert format_of(json.loads(json.dumps(format_settings(form)))) == form


@pytest.mark.parametrize("form", [INT8, IntegerFormat(3, False, "group", 5), NormalFloat(16)])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_map_has_the_outputs_and_gradients_of_its_weight(
    form: WeightFormat, scaled: bool, bias: bool
) -> None:
    linear = nn.Linear(10, 6, bias=bias).double()
    input_scale = drawn(10).double().abs() + 0.5 if scaled else None
    quantized = QuantizedLinear(linear, form, input_scale)
    assert (quantized.in_features, quantized.out_features) == (10, 6)
    assert quantized.bias is linear.bias
    assert quantized.by_weight
    x = drawn(2, 3, 10).double().requires_grad_()
    factor = torch.ones(10).double() if input_scale is None else input_scale
    kept = QuantizedWeight(linear.weight * factor, form)()
    wanted = (x / factor) @ kept.T + (0 if linear.bias is None else linear.bias)
    output = quantized(x)
    torch.testing.assert_close(output, wanted)
    torch.testing.assert_close(x @ quantized.weight.T + (linear.bias if bias else 0), wanted)
    toward = drawn(2, 3, 6).double()
    (from_reference,) = torch.autograd.grad(wanted, x, toward, retain_graph=True)
    (ours,) = torch.autograd.grad(output, x, toward)
    torch.testing.assert_close(ours, from_reference)


def test_a_scale_of_the_input_moves_the_rounding_and_nothing_else() -> None:
    """A weight of a small input is rounded more finely once it is made larger."""
    linear = nn.Linear(8, 16, bias=False)
    with torch.no_grad():
        linear.weight[:, 0] *= 0.01
    scale = torch.ones(8)
    scale[0] = 100
    plain, scaled = (
        QuantizedLinear(linear, IntegerFormat(4)),
        QuantizedLinear(linear, IntegerFormat(4), scale),
    )
    errors = [(q.weight - linear.weight)[:, 0].abs().max() for q in (plain, scaled)]
    assert errors[1] < errors[0] / 10


def test_inputs_are_rounded_by_row_or_by_one_range() -> None:
    linear = nn.Linear(12, 5)
    x = drawn(3, 4, 12) * torch.tensor([0.01, 1.0, 100.0])[:, None, None]
    dynamic = QuantizedLinear(linear, INT8, rounding="dynamic")
    assert not dynamic.by_weight
    rounded = dynamic.multiplied(x)
    for row, before in zip(rounded.flatten(0, 1), x.flatten(0, 1), strict=True):
        low, high = before.min().clamp(max=0), before.max().clamp(min=0)
        scale = (high - low).double() / 255
        zero = int((-low / scale).round())
        theirs = torch.fake_quantize_per_tensor_affine(before, float(scale), zero, 0, 255)
        torch.testing.assert_close(row, theirs, rtol=1e-5, atol=float(scale) * 1e-3)
    torch.testing.assert_close(dynamic(x), rounded @ dynamic.weight.T + linear.bias)
    # What a row becomes depends on no other row.
    assert torch.equal(dynamic.multiplied(x[1:2, 2:]), rounded[1:2, 2:])

    static = QuantizedLinear(linear, INT8, None, "static", torch.tensor([-1.0, 2.0]))
    rounded = static.multiplied(x)
    assert float(rounded.min()) >= -1 - 2 / 255
    assert float(rounded.max()) <= 2 + 2 / 255
    inside = (x > -1) & (x < 2)
    assert float((rounded - x)[inside].abs().max()) <= 3 / 255 / 2 * 1.0001
    # The gradient is that of the input as it was.
    x.requires_grad_()
    static(x).sum().backward()
    torch.testing.assert_close(x.grad, static.weight.sum(0).expand_as(x))


def test_scales_of_the_input_come_before_its_rounding() -> None:
    linear, scale = nn.Linear(6, 4), drawn(6).abs() + 0.1
    x = drawn(5, 6)
    quantized = QuantizedLinear(linear, INT8, scale, "dynamic")
    plain = QuantizedLinear(linear, INT8, None, "dynamic")
    assert torch.equal(quantized.multiplied(x), plain.multiplied(x / scale))


def test_a_table_and_a_map_may_hold_one_weight() -> None:
    weight = drawn(9, 6)
    kept = QuantizedWeight(weight, IntegerFormat(4, False))
    table = QuantizedEmbedding(kept)
    linear = nn.Linear(6, 9, bias=False)
    output = QuantizedLinear(linear, kept)
    ids = torch.tensor([[3, 8], [0, 3]])
    assert torch.equal(table(ids), nn.functional.embedding(ids, table.weight))
    assert torch.equal(table.weight, output.weight)
    assert (table.num_embeddings, table.embedding_dim) == (9, 6)
    both = nn.ModuleDict({"table": table, "output": output})
    assert len(list(both.buffers())) == 3
    again = copy.deepcopy(both)
    assert again["table"].quantized is again["output"].quantized


def test_a_model_that_changes_its_number_format_takes_it_along() -> None:
    module = QuantizedLinear(nn.Linear(6, 4), IntegerFormat(4, scale_format="bfloat16"))
    before = module.weight
    size = module.quantized.num_bytes
    module.double()
    assert module.quantized.num_bytes == size
    assert module.weight.dtype == torch.float64
    assert torch.equal(module.weight.float(), before)
    assert module.quantized.codes.dtype == torch.uint8
    x = drawn(3, 6).double()
    assert module(x).dtype == torch.float64
    assert copy.deepcopy(module).weight.dtype == torch.float64


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "integr", "bits": 4}, "unknown number format 'integr'; did you mean integer?"),
        ({"bits": 4}, "unknown number format None; allowed: integer, normal-float"),
        ({"kind": ["integer"]}, "unknown number format"),
        ({"kind": "integer", "bits": 7}, "bits = 7: expected 8, 4, 3 or 2"),
        (format_settings(INT8) | {"colour": 1}, "unknown key colour"),
        (format_settings(INT8) | {"granularity": "group", "group_size": -3}, "group_size = -3"),
        ({"kind": "normal-float", "block_size": 0, "double": True}, "block_size = 0"),
        ({"kind": "normal-float", "block_size": 1}, "double is missing"),
    ],
)
def test_a_format_that_a_file_got_wrong_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        format_of(settings)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
