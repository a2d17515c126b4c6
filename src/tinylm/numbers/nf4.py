"""4-bit NormalFloat: weights as one of 16 quantiles of a normal distribution, times a constant.

Dettmers et al. 2023 (QLoRA), section 3. A block of 64 weights is divided by its largest absolute
value, the block's constant, and each weight becomes the nearest of 16 code values, which are as
likely as each other where weights are normal. The constants of the blocks are quantized once more:
their mean is taken off, and what is left goes to 8 bits in blocks of 256, each with a float32 scale
of its own. A weight then takes 4 bits and (8 + 32/256) / 64 = 0.127 bits of constants.

The paper keeps the 8 bits as a small float; here they are a whole number from -127 to 127 times the
scale, whose error is at most 1/254 of the largest deviation among 256 constants.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tinylm.numbers.linear import LinearLike, LinearMap

CONSTANTS_BLOCK = 256
"""Constants that share one scale."""
_LARGEST = 127


def _code_book() -> Tensor:
    """Return the 16 code values, ascending, from -1 to 1 with an exact 0.

    Eight positive and seven negative quantiles, evenly spread over each half of the distribution
    (section 3 and appendix E). The outermost probability is the mean of 1 - 1/32 and 1 - 1/30, the
    midpoints of the last of 16 and of the last of 15 equal shares.
    """
    outermost = 1 - (1 / 32 + 1 / 30) / 2

    def quantiles(count: int) -> list[float]:
        step = (outermost - 0.5) / count
        return [NormalDist().inv_cdf(outermost - i * step) for i in range(count)]

    values = [-value for value in quantiles(7)] + [0.0] + quantiles(8)
    largest = max(values)
    return torch.tensor(sorted(value / largest for value in values))


CODE_BOOK = _code_book()
"""The 16 values of the 4 bits, (16,), float32."""


class NF4Weight(nn.Module):
    """A frozen matrix in 4-bit NormalFloat: buffers alone, no parameter."""

    codes: Tensor
    """Two codes a byte, (weights / 2,), uint8."""
    constants: Tensor
    """(blocks,), int8, or float32 if they are not quantized."""
    scales: Tensor | None
    """(blocks / 256,), float32."""
    mean: Tensor | None
    """Of the constants, a scalar."""

    def __init__(self, weight: Tensor, block_size: int = 64, double: bool = True) -> None:
        """Quantize.

        Args:
            weight: any shape; blocks are runs of it in reading order, the last one may be shorter.
            block_size: weights that share a constant.
            double: quantize the constants as well.
        """
        super().__init__()
        self.shape = weight.shape
        self.dtype = weight.dtype
        self.block_size = block_size
        blocks = _padded(weight.detach().flatten().float(), block_size)  # (blocks, block_size)
        constants = blocks.abs().amax(1)
        if double:
            mean = constants.mean()
            groups = _padded(constants - mean, CONSTANTS_BLOCK)
            scales = groups.abs().amax(1) / _LARGEST
            steps = (groups / _nonzero(scales)[:, None]).round()
            constants = steps.flatten()[: len(constants)].to(torch.int8)
            self.register_buffer("scales", scales)
            self.register_buffer("mean", mean)
        else:
            self.register_buffer("scales", None)
            self.register_buffer("mean", None)
        self.register_buffer("constants", constants)
        # Codes are chosen for the constants as they will be read.
        shares = blocks / _nonzero(self._read_constants())[:, None]
        book = CODE_BOOK.to(weight.device)
        nearest = torch.bucketize(shares, (book[1:] + book[:-1]) / 2)
        flat = nearest.flatten()[: weight.numel()].to(torch.uint8)
        flat = nn.functional.pad(flat, (0, flat.numel() % 2))
        self.register_buffer("codes", flat[::2] << 4 | flat[1::2])

    def forward(self) -> Tensor:
        """Return the weights that the codes stand for, in the format and shape they had."""
        nibbles = torch.stack([self.codes >> 4, self.codes & 15], 1).flatten()
        count = self.shape.numel()
        values = CODE_BOOK.to(nibbles.device)[nibbles[:count].long()]
        blocks = _padded(values, self.block_size) * self._read_constants()[:, None]
        return blocks.flatten()[:count].view(self.shape).to(self.dtype)

    def _read_constants(self) -> Tensor:
        """Return the constant of each block, (blocks,), float32."""
        if self.scales is None or self.mean is None:
            return self.constants.float()
        groups = _padded(self.constants.float(), CONSTANTS_BLOCK) * self.scales[:, None].float()
        return groups.flatten()[: len(self.constants)] + self.mean

    @property
    def num_bytes(self) -> int:
        """Bytes of the codes and of all constants."""
        return sum(buffer.numel() * buffer.element_size() for buffer in self.buffers())


def _padded(values: Tensor, size: int) -> Tensor:
    """Return a flat tensor as rows of ``size``, or of all it has, the last one filled up with 0."""
    size = min(size, max(1, len(values)))
    return nn.functional.pad(values, (0, -len(values) % size)).view(-1, size)


def _nonzero(values: Tensor) -> Tensor:
    """Return values with 1 in place of 0, to divide by: a block of zeros has zeros for shares."""
    return torch.where(values == 0, 1.0, values)


class NF4Linear(LinearLike):
    """A frozen linear map whose weight is kept in 4 bits and dequantized whenever it is used."""

    def __init__(self, linear: LinearMap, block_size: int = 64, double: bool = True) -> None:
        """Quantize the weight of a linear map; its bias stays the same tensor."""
        super().__init__()
        self.quantized = NF4Weight(linear.weight, block_size, double)
        self.bias = linear.bias
        self.train(linear.training)

    @property
    def in_features(self) -> int:
        """Width of the input."""
        return self.quantized.shape[1]

    @property
    def out_features(self) -> int:
        """Width of the output."""
        return self.quantized.shape[0]

    @property
    def weight(self) -> Tensor:
        """The dequantized weight, (out, in), computed when asked for."""
        weight: Tensor = self.quantized()
        return weight

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x``, (..., in), to (..., out)."""
        product: Tensor = _Product.apply(x, self.quantized)  # type: ignore[no-untyped-call]
        return product if self.bias is None else product + self.bias.to(product.dtype)


class _Product(torch.autograd.Function):
    """``x @ W.T`` that keeps nothing: the backward pass dequantizes W again (section 3)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, quantized: NF4Weight) -> Tensor:
        ctx.quantized, ctx.dtype = quantized, x.dtype
        # Under autocast in its format, as that of any linear map.
        return nn.functional.linear(x, quantized().to(_format(x)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        product = gradient @ ctx.quantized().to(gradient.dtype)
        return product.to(ctx.dtype), None


def _format(x: Tensor) -> torch.dtype:
    """Return the number format in which a product with ``x`` is computed."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
