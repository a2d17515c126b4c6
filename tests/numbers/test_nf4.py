"""4-bit NormalFloat beside the published code book, a brute force, and bitsandbytes where it is."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tinylm.errors import ConfigError
from tinylm.model.weights import state_sha256
from tinylm.numbers.nf4 import CODE_BOOK, NormalFloat, _read_constants
from tinylm.numbers.quantized import QuantizedLinear, QuantizedWeight

# Dettmers et al. 2023, appendix E.
PUBLISHED = [
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.1


def nf4(weight: Tensor, block: int = 64, double: bool = True) -> QuantizedWeight:
    return QuantizedWeight(weight, NormalFloat(block, double))


def test_the_code_book_is_the_published_one() -> None:
    torch.testing.assert_close(CODE_BOOK, torch.tensor(PUBLISHED), rtol=0, atol=2e-7)
    assert CODE_BOOK[7] == 0
    assert CODE_BOOK.diff().gt(0).all()


@pytest.mark.parametrize("shape", [(8, 16), (7, 9), (1, 1), (130, 3)])
@pytest.mark.parametrize("block", [4, 64])
def test_every_weight_is_the_nearest_code_times_its_constant(
    shape: tuple[int, int], block: int
) -> None:
    weight = drawn(*shape)
    dequantized = nf4(weight, block, double=False)().flatten()
    flat = weight.flatten()
    for start in range(0, len(flat), block):
        part = flat[start : start + block]
        constant = part.abs().max()
        choices = CODE_BOOK * constant
        for value, chosen in zip(part, dequantized[start : start + block], strict=True):
            assert chosen in choices
            assert abs(chosen - value) <= (choices - value).abs().min() + 1e-9
    largest = flat.abs().argmax()
    assert dequantized[largest] == flat[largest]


@given(st.integers(1, 700), st.sampled_from([1, 2, 64]), st.booleans(), st.integers(0, 50))
def test_a_second_quantization_changes_nothing_that_matters(
    count: int, block: int, double: bool, seed: int
) -> None:
    once = nf4(drawn(count, seed=seed), block, double)()
    assert once.shape == (count,)
    again = nf4(once, block, double)()
    torch.testing.assert_close(again, once, rtol=0.02, atol=1e-6 + 0.01 * float(once.abs().max()))
    if not double:
        assert torch.equal(again, once)


@pytest.mark.parametrize("double", [False, True])
def test_a_block_longer_than_the_weight_is_one_of_all_of_it(double: bool) -> None:
    weight = drawn(7, 9)
    assert torch.equal(nf4(weight, 2**62, double)(), nf4(weight, 63, double)())


def test_constants_are_within_half_a_step_of_what_they_were() -> None:
    weight = drawn(600, 64)
    plain, double = nf4(weight, double=False), nf4(weight)
    wanted = plain.constants
    constants = _read_constants(double.stored)
    deviation = wanted - wanted.mean()
    for start in range(0, 600, 256):
        rows = slice(start, start + 256)
        step = deviation[rows].abs().max() / 127
        assert (constants[rows] - wanted[rows]).abs().max() <= step / 2 * 1.001
    assert not torch.equal(constants, wanted)
    error = (double() - weight).norm() / weight.norm()
    assert error == pytest.approx(float((plain() - weight).norm() / weight.norm()), rel=0.01)


def test_normal_weights_lose_a_tenth_and_use_all_codes_about_as_often() -> None:
    weight = drawn(1024, 64)
    quantized = nf4(weight)
    assert float((quantized() - weight).norm() / weight.norm()) == pytest.approx(0.092, abs=0.005)
    nibbles = torch.cat([quantized.codes >> 4, quantized.codes & 15]).long()
    shares = torch.bincount(nibbles, minlength=16) / len(nibbles)
    assert shares.min() > 0.015  # the blocks are short: their largest is nearer than a quantile
    # Beside a code of its own spacing, 4 equal steps a bit lose more on the same weights.
    constants = weight.abs().amax(1, keepdim=True)
    even = (weight / constants * 7).round() / 7 * constants
    assert (quantized() - weight).norm() < 0.9 * (even - weight).norm()


@pytest.mark.parametrize("double", [False, True])
def test_zeros_stay_zeros(double: bool) -> None:
    weight = torch.zeros(3, 64)
    assert torch.equal(nf4(weight, double=double)(), weight)
    weight[1] = 0.5
    dequantized = nf4(weight, double=double)()
    torch.testing.assert_close(dequantized, weight, rtol=0, atol=1e-6)
    assert nf4(torch.zeros(0, 4), double=False)().shape == (0, 4)


def test_bytes_are_half_a_byte_a_weight_and_an_eighth_of_a_bit_of_constants() -> None:
    count = 64 * 256 * 4
    quantized = nf4(drawn(count))
    blocks = count // 64
    assert quantized.num_bytes == count // 2 + blocks + 4 * blocks // 256 + 4
    bits = 8 * (quantized.num_bytes - count / 2 - 4) / count
    assert bits == pytest.approx(0.127, abs=0.0005)
    assert nf4(drawn(count), double=False).num_bytes == count // 2 + 4 * blocks
    state = quantized.state_dict().values()
    assert sum(value.numel() * value.element_size() for value in state) == quantized.num_bytes
    assert nf4(drawn(7, 9)).num_bytes == 32 + 1 + 4 + 4  # an odd count: half a byte more


@given(st.integers(1, 9), st.integers(1, 20), st.sampled_from([1, 3, 64]), st.booleans())
def test_rows_and_bytes_are_those_of_the_whole(
    rows: int, columns: int, block: int, double: bool
) -> None:
    kept = nf4(drawn(rows, columns), block, double)
    numbers = torch.tensor([[rows - 1, 0], [rows // 2, 0]])
    assert torch.equal(kept.rows(numbers), kept()[numbers])
    assert kept.form.num_bytes(kept.shape) == kept.num_bytes


EARLIER = {
    True: "dd9c9b1196bc308a0e0bd14001cf84a10500d0d635ff850bb791879377ef1453",
    False: "bd844ed7ac1c4e1028b72599f473023a024e0300528f5569074e0b093244d6a2",
}
"""Fingerprints of what the version of 26 November 2026 kept of the same weight."""


@pytest.mark.parametrize("double", [False, True])
def test_it_keeps_the_bits_of_earlier_versions(double: bool) -> None:
    weight = (torch.arange(7 * 45) * 0.6180339887 % 1 - 0.5).view(7, 45)
    linear = QuantizedLinear(nn.Linear(45, 7, bias=False), nf4(weight, 16, double))
    assert list(linear.state_dict()) == [
        f"quantized.{name}"
        for name in (*(("scales", "mean") if double else ()), "constants", "codes")
    ]
    assert state_sha256(linear) == EARLIER[double]


def test_a_block_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="block_size = 0: must be at least 1"):
        NormalFloat(0)


@pytest.mark.parametrize("bias", [False, True])
def test_the_linear_map_has_the_outputs_and_gradients_of_its_dequantized_weight(bias: bool) -> None:
    linear = nn.Linear(10, 6, bias=bias).double()
    quantized = QuantizedLinear(linear, NormalFloat(16))
    assert (quantized.in_features, quantized.out_features) == (10, 6)
    assert quantized.bias is linear.bias
    x = torch.randn(2, 3, 10, dtype=torch.float64, requires_grad=True)
    weight = quantized.weight
    assert weight.dtype == torch.float64
    wanted = x @ weight.T + (linear.bias if bias else 0)
    output = quantized(x)
    torch.testing.assert_close(output, wanted)
    toward = torch.randn_like(wanted)
    (from_reference,) = torch.autograd.grad(wanted, x, toward, retain_graph=True)
    (ours,) = torch.autograd.grad(output, x, toward)
    torch.testing.assert_close(ours, from_reference)
    assert torch.autograd.gradcheck(quantized, (x,))
    names = [name for name, _ in quantized.named_parameters()]
    assert names == (["bias"] if bias else [])


def test_the_forward_pass_keeps_no_weight_for_the_backward_pass() -> None:
    quantized = QuantizedLinear(nn.Linear(64, 64), NormalFloat())
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        quantized(torch.randn(2, 64, requires_grad=True))
    assert sum(tensor.numel() for tensor in kept) < 64


def test_autocast_multiplies_in_its_format() -> None:
    quantized = QuantizedLinear(nn.Linear(32, 16), NormalFloat())
    x = torch.randn(4, 32, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = quantized(x)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.float32
    torch.testing.assert_close(y.float(), quantized(x), rtol=0.05, atol=0.05)


def test_it_is_what_bitsandbytes_makes() -> None:
    bitsandbytes = pytest.importorskip(
        "bitsandbytes", reason="bitsandbytes is not installed", exc_type=ImportError
    )
    weight = drawn(96, 64)
    try:
        packed, state = bitsandbytes.functional.quantize_4bit(
            weight, blocksize=64, quant_type="nf4", compress_statistics=False
        )
    except (RuntimeError, NotImplementedError) as error:
        pytest.skip(f"bitsandbytes does not run here: {error}")
    ours = nf4(weight, 64, double=False)
    torch.testing.assert_close(state.code, CODE_BOOK, rtol=0, atol=1e-6)
    torch.testing.assert_close(state.absmax, ours.constants)
    different = (packed.flatten() != ours.codes).float().mean()
    assert different < 1e-3  # weights that lie between two codes to rounding
    theirs = bitsandbytes.functional.dequantize_4bit(packed, state)
    same = (ours() - theirs).abs() < 1e-6
    assert same.float().mean() > 0.999
    # Their 8 bits are a small float, ours whole steps: the constants differ, the loss hardly does.
    packed, state = bitsandbytes.functional.quantize_4bit(
        weight, blocksize=64, quant_type="nf4", compress_statistics=True
    )
    double = bitsandbytes.functional.dequantize_4bit(packed, state)
    error = float((nf4(weight, 64)() - weight).norm() / weight.norm())
    assert error == pytest.approx(float((double - weight).norm() / weight.norm()), rel=0.02)
