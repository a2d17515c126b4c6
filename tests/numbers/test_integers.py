"""Whole numbers of few bits beside torch's own quantization, brute force and bit strings."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tinylm.errors import ConfigError
from tinylm.numbers.integers import INT8, IntegerFormat

GRANULARITIES: tuple[dict[str, Any], ...] = (
    {"granularity": "tensor"},
    {"granularity": "row"},
    *({"granularity": "group", "group_size": size} for size in (1, 3, 6)),
)
SCALES: tuple[dict[str, Any], ...] = ({"scale_format": "float32"}, {"scale_format": "bfloat16"})
FORMATS = [
    IntegerFormat(bits=bits, symmetric=symmetric, **granularity, **scales)
    for bits, symmetric, granularity, scales in itertools.product(
        (8, 4, 3, 2), (True, False), GRANULARITIES, SCALES
    )
]
formats = st.sampled_from(FORMATS)


@st.composite
def weights(draw: st.DrawFn, columns: st.SearchStrategy[int] | None = None) -> Tensor:
    """Return a matrix whose rows may be shifted off 0, constant, or 0."""
    rows = draw(st.integers(1, 5))
    width = draw(columns or st.sampled_from((6, 12, 30)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    weight = torch.randn(rows, width, generator=generator)
    weight *= draw(st.sampled_from((1e-9, 1e-4, 1.0, 300.0)))
    weight += draw(st.sampled_from((0.0, 0.5, -4.0)))
    if draw(st.booleans()):
        weight[draw(st.integers(0, rows - 1))] = draw(st.sampled_from((0.0, 2.5, -1.0)))
    return weight


def by_group(format: IntegerFormat, weight: Tensor) -> list[Tensor]:
    """Return the weights that share a scale, group by group, cut by hand."""
    if format.granularity == "tensor":
        return [weight.flatten()]
    rows = list(weight)
    if format.granularity == "row":
        return rows
    size = format.group_size
    assert size is not None
    return [row[i : i + size] for row in rows for i in range(0, len(row), size)]


@given(formats, weights())
def test_no_weight_moves_by_more_than_half_a_scale(format: IntegerFormat, weight: Tensor) -> None:
    scale, zero = format.fit(weight)
    codes = format.encode(weight, scale, zero)
    assert codes.shape == weight.shape
    assert codes.dtype == (torch.int8 if format.symmetric else torch.uint8)
    assert (zero is None) == format.symmetric
    assert int(codes.min()) >= format.lowest
    assert int(codes.max()) <= format.highest
    decoded = format.decode(codes, scale, zero)
    assert decoded.dtype == torch.float32
    groups = by_group(format, weight)
    assert scale.numel() == len(groups)
    for before, after, each in zip(groups, by_group(format, decoded), scale.flatten(), strict=True):
        # The largest weight itself is rounded at 2e-7 of it, which is many scales' 1e-5.
        slack = float(each) * 1e-6 + float(before.abs().max()) * 2e-7
        assert float((after.double() - before.double()).abs().max()) <= float(each) / 2 + slack
    assert torch.equal(format.rounded(weight), decoded)


@given(formats, weights())
def test_zero_is_exact(format: IntegerFormat, weight: Tensor) -> None:
    weight[:, 1::4] = 0
    decoded = format.rounded(weight)
    assert torch.equal(decoded[weight == 0], weight[weight == 0])
    zeros = torch.zeros(3, 6)
    assert torch.equal(format.rounded(zeros), zeros)


@given(formats, weights())
def test_scales_are_the_span_of_the_weights_over_that_of_the_codes(
    format: IntegerFormat, weight: Tensor
) -> None:
    scale, _ = format.fit(weight)
    codes = {8: 254, 4: 15, 3: 7, 2: 3}[format.bits] if format.symmetric else 2**format.bits - 1
    for group, each in zip(by_group(format, weight.double()), scale.flatten(), strict=True):
        if format.symmetric:
            span = 2 * float(group.abs().max())
        else:
            span = max(0.0, float(group.max())) - min(0.0, float(group.min()))
        wanted = max(span, 1e-12) / codes
        if format.scale_format == "float32":
            assert float(each) == pytest.approx(wanted, rel=1e-6)
        else:
            assert wanted * (1 - 1e-7) <= float(each) <= wanted * (1 + 2**-7)
            assert float(each.bfloat16()) == float(each)


@given(st.sampled_from([f for f in FORMATS if f.symmetric]), weights())
def test_a_weight_of_the_other_sign_has_the_codes_of_the_other_sign(
    format: IntegerFormat, weight: Tensor
) -> None:
    scale, _ = format.fit(weight)
    assert torch.equal(format.fit(-weight)[0], scale)
    codes, negated = format.encode(weight, scale).int(), format.encode(-weight, scale).int()
    # Below 8 bits the lowest code has none of the other sign.
    assert torch.equal(codes.clamp(min=-format.highest), -negated.clamp(min=-format.highest))
    if format.bits == 8:
        assert int(codes.min()) >= -127


def nearly_tied(weight: Tensor, scale: Tensor) -> Tensor:
    """Say which weights lie so near the middle of two codes that float32 decides between them."""
    steps = (weight.unflatten(1, (scale.shape[1], -1)).double() / scale[..., None]).flatten(1)
    return ((steps - steps.floor()) - 0.5).abs() < 1e-4


@pytest.mark.filterwarnings("ignore:torch.quantize_per:UserWarning")
@given(st.sampled_from([f for f in FORMATS if f.granularity != "group"]), weights())
def test_codes_and_weights_are_those_of_torch(format: IntegerFormat, weight: Tensor) -> None:
    scale, zero = format.fit(weight)
    codes, decoded = format.encode(weight, scale, zero), format.rounded(weight)
    at = torch.zeros(scale.shape, dtype=torch.int32) if zero is None else zero.int()
    bounds = (format.lowest, format.highest)
    if format.granularity == "tensor":
        theirs = torch.fake_quantize_per_tensor_affine(weight, scale[0, 0], at[0, 0], *bounds)
        kind = torch.qint8 if format.symmetric else torch.quint8
        quantized = torch.quantize_per_tensor(weight, float(scale), int(at), kind)
    else:
        theirs = torch.fake_quantize_per_channel_affine(weight, scale[:, 0], at[:, 0], 0, *bounds)
        kind = torch.qint8 if format.symmetric else torch.quint8
        quantized = torch.quantize_per_channel(weight, scale[:, 0], at[:, 0], 0, kind)
    sure = ~nearly_tied(weight, scale)
    torch.testing.assert_close(decoded[sure], theirs[sure], rtol=2e-6, atol=0)
    their_codes = quantized.int_repr().int().clamp(*bounds)
    assert torch.equal(codes.int()[sure], their_codes[sure])
    assert bool(((codes.int() - their_codes).abs() <= 1).all())


@given(st.sampled_from([f for f in FORMATS if f.granularity == "group"]), weights())
def test_a_group_is_a_row_of_its_own(format: IntegerFormat, weight: Tensor) -> None:
    size = format.group_size
    assert size is not None
    rows = IntegerFormat(format.bits, format.symmetric, "row", None, format.scale_format)
    alone = rows.rounded(weight.reshape(-1, size)).view_as(weight)
    assert torch.equal(format.rounded(weight), alone)
    # Columns with the scales of their groups have the codes that they have among all.
    scale, zero = format.fit(weight)
    codes = format.encode(weight, scale, zero)
    for column in range(weight.shape[1]):
        group = slice(column // size, column // size + 1)
        its_zero = None if zero is None else zero[:, group]
        one_column = format.encode(weight[:, column : column + 1], scale[:, group], its_zero)
        assert torch.equal(one_column[:, 0], codes[:, column])


@given(weights())
def test_codes_are_the_nearest_of_all(weight: Tensor) -> None:
    """By brute force over every code of every group."""
    for format in FORMATS:
        if format.bits == 8:
            continue
        scale, zero = format.fit(weight)
        decoded = format.rounded(weight)
        every = torch.arange(format.lowest, format.highest + 1).float()
        at = torch.zeros(scale.numel()) if zero is None else zero.flatten().float()
        for before, after, each, code in zip(
            by_group(format, weight), by_group(format, decoded), scale.flatten(), at, strict=True
        ):
            choices = (every - code) * each
            nearest = (choices - before[:, None]).abs().amin(1)
            slack = float(before.abs().max()) * 1e-6
            assert bool(((after - before).abs() <= nearest + slack).all())


@given(
    st.sampled_from((8, 4, 3, 2)), st.booleans(), st.integers(1, 4), st.integers(1, 40),
    st.integers(0, 1000),
)  # fmt: skip
def test_packed_codes_are_a_string_of_bits(
    bits: Any, symmetric: bool, rows: int, columns: int, seed: int
) -> None:
    format = IntegerFormat(bits=bits, symmetric=symmetric)
    generator = torch.Generator().manual_seed(seed)
    low, high = format.lowest, format.highest
    codes = torch.randint(low, high + 1, (rows, columns), generator=generator)
    codes[0, 0], codes[-1, -1] = low, high
    codes = codes.to(torch.int8 if symmetric else torch.uint8)
    packed = format.pack(codes)
    assert packed.dtype == torch.uint8
    assert packed.shape == (rows, math.ceil(columns * bits / 8))
    for row, packed_row in zip(codes.tolist(), packed.tolist(), strict=True):
        string = "".join(f"{code % 2**bits:0{bits}b}" for code in row)
        string += "0" * (-len(string) % 8)
        assert [int(string[i : i + 8], 2) for i in range(0, len(string), 8)] == packed_row
    unpacked = format.unpack(packed, columns)
    assert unpacked.dtype == codes.dtype
    assert torch.equal(unpacked, codes)


@given(formats, weights())
def test_bytes_are_those_of_what_is_stored(format: IntegerFormat, weight: Tensor) -> None:
    scale, zero = format.fit(weight)
    packed = format.pack(format.encode(weight, scale, zero))
    kind = torch.float32 if format.scale_format == "float32" else torch.bfloat16
    stored = [packed, scale.to(kind), *([] if zero is None else [format.pack(zero)])]
    assert format.num_bytes(weight.shape) == sum(t.numel() * t.element_size() for t in stored)
    assert torch.equal(stored[1].float(), scale)
    if zero is not None:
        assert torch.equal(format.unpack(stored[2], zero.shape[1]), zero)


def test_bytes_of_worked_sizes() -> None:
    groups: dict[str, Any] = {"granularity": "group", "group_size": 32}
    assert IntegerFormat(8).num_bytes((10, 7)) == 70 + 40
    assert IntegerFormat(4, granularity="tensor").num_bytes((10, 7)) == 40 + 4
    assert IntegerFormat(4, **groups).num_bytes((64, 128)) == 64 * 64 + 64 * 4 * 4
    small = IntegerFormat(4, False, scale_format="bfloat16", **groups)
    assert 8 * small.num_bytes((64, 128)) == 64 * 128 * (4 + 16 / 32 + 4 / 32)
    assert IntegerFormat(3, False).num_bytes((2, 9)) == 2 * (4 + 4 + 1)


def test_worked_numbers() -> None:
    weight = torch.tensor([[1.0, -7.5, 3.4, 0.0], [0.1, 0.2, 0.3, 1.5]])
    format = IntegerFormat(4)
    scale, _ = format.fit(weight)
    torch.testing.assert_close(scale, torch.tensor([[1.0], [0.2]]))
    assert format.encode(weight, scale).tolist() == [[1, -8, 3, 0], [0, 1, 2, 7]]
    asymmetric = IntegerFormat(2, symmetric=False)
    scale, zero = asymmetric.fit(torch.tensor([[-1.0, 2.0, 0.4], [4.0, 6.0, 5.0]]))
    assert zero is not None
    torch.testing.assert_close(scale, torch.tensor([[1.0], [2.0]]))
    assert zero.tolist() == [[1], [0]]
    codes = asymmetric.encode(torch.tensor([[-9.0, 2.0, 0.4], [4.0, 99.0, 5.1]]), scale, zero)
    assert codes.tolist() == [[0, 3, 1], [2, 3, 3]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bits": 5}, "bits = 5: there are formats of 8, 4, 3 and 2 bits"),
        ({"bits": True}, "bits = True"),
        ({"granularity": "column"}, "granularity = 'column': allowed: tensor, row, group"),
        ({"scale_format": "float8"}, "scale_format = 'float8': allowed: float32, bfloat16"),
        ({"granularity": "group"}, "granularity = 'group' with group_size = None"),
        ({"group_size": 8}, "granularity = 'row' with group_size = 8"),
        ({"granularity": "group", "group_size": 0}, "group_size = 0: must be at least 1"),
    ],
)
def test_a_format_that_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        IntegerFormat(**settings)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_groups_that_do_not_divide_a_row_are_refused() -> None:
    format = IntegerFormat(4, granularity="group", group_size=32)
    message = "group_size = 32 does not divide a row of 30 weights; these do: 1, 2, 3, 5, 6"
    with pytest.raises(ConfigError, match=message):
        format.fit(torch.ones(2, 30))
    with pytest.raises(ConfigError, match=message):
        format.num_bytes((2, 30))


@given(rows=st.integers(1, 6), columns=st.integers(1, 30), size=st.floats(1e-3, 1e3))
def test_int8_is_multiples_of_a_127th_of_the_largest_of_a_row(
    rows: int, columns: int, size: float
) -> None:
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(columns)) * size
    scale, _ = INT8.fit(weight)
    integers = INT8.encode(weight, scale)
    for row, whole, factor in zip(weight, integers, scale, strict=True):
        largest = float(row.abs().max())
        assert float(factor) == torch.tensor(largest / 127).item()
        assert int(whole.abs().max()) == 127
        error = (whole.double() * factor.double() - row.double()).abs().max()
        assert float(error) <= float(factor) * 0.5 * (1 + 1e-5)
    zeros = torch.tensor([[0.0, 0.0], [0.0, -2.0]])
    assert INT8.encode(zeros, INT8.fit(zeros)[0]).tolist() == [[0, 0], [0, -127]]
