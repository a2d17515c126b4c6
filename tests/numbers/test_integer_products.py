"""Codes multiplied as whole numbers: exactly, and to what the numbers behind them multiply to."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tinylm.numbers.integers import IntegerFormat


@settings(max_examples=40)
@given(
    st.integers(1, 40),
    st.integers(2, 300),
    st.integers(1, 40),
    st.sampled_from([8, 4, 3, 2]),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_products_of_codes_are_exact(
    rows: int, width: int, outputs: int, bits: int, extreme: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    form = IntegerFormat(bits, True, "row")  # type: ignore[arg-type]
    inputs_form = IntegerFormat(8, True, "row")
    weight = torch.randn(outputs, width, generator=generator)
    inputs = torch.randn(rows, width, generator=generator)
    if extreme:  # every code at its end: the largest sums there are
        weight, inputs = weight.sign(), -inputs.sign()
    scale, _ = form.fit(weight)
    inputs_scale, _ = inputs_form.fit(inputs)
    codes = form.encode(weight, scale)
    inputs_codes = inputs_form.encode(inputs, inputs_scale)
    product = torch._int_mm(inputs_codes, codes.mT.contiguous())
    assert product.dtype == torch.int32
    # float64 holds whole numbers up to 2^53.
    assert torch.equal(product.double(), inputs_codes.double() @ codes.double().mT)
    decoded = (
        inputs_form.decode(inputs_codes, inputs_scale.double())
        @ form.decode(codes, scale.double()).mT
    )
    scaled = product * inputs_scale.double() * scale.double().mT
    torch.testing.assert_close(scaled, decoded, rtol=1e-12, atol=1e-12)
