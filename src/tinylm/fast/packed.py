"""Linear maps laid out for the processor's matrix kernels, for inference.

Decoding multiplies by the same matrices at every step, so they are packed once: in float32 or
bfloat16 for oneDNN, or rounded to 8-bit integers. The price is a second copy of the matrices: as
large, half or a quarter as large; reading it is what bounds a step of few rows. Packing 6.5 million
numbers takes 2 to 10 ms. Where a gradient is wanted the parameters themselves multiply.

The integers are those of dynamic quantization: a matrix is ``scale * integer`` with one scale for
each output (``numbers.integers.INT8``). The inputs are rounded to 8 bits too, by the range of the
batch at hand (Jacob et al. 2018, section 2.1), and the products are added up exactly by FBGEMM's
kernel, which torch carries.
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tinylm.fast.kept import kept, numbers_of
from tinylm.fast.linear import QuickLinear
from tinylm.fast.onednn import onednn_linear, pack
from tinylm.numbers.integers import INT8


class _InferenceLinear(QuickLinear):
    """A linear map with a packed copy of its weight."""

    for_inference: ClassVar[bool] = True
    """Whether the map is not computed from its weight where no gradient is wanted."""

    def forward(self, x: Tensor, low: Tensor | None = None, relu: bool = False) -> Tensor:
        """Return ``x @ weight.T + bias``, or ReLU of it; see ``QuickLinear``."""
        if torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad):
            return super().forward(x, low, relu)
        return self._multiply(x, low, relu, kept(self, "packed", numbers_of(self), self._pack))

    def _pack(self) -> Any:
        raise NotImplementedError

    def _multiply(self, x: Tensor, low: Tensor | None, relu: bool, packed: Any) -> Tensor:
        raise NotImplementedError


class PackedLinear(_InferenceLinear):
    """With its weight in the order of oneDNN's kernels."""

    numbers: ClassVar[torch.dtype] = torch.float32
    """Format of weight, products and result, as under autocast."""

    def _pack(self) -> tuple[Tensor, Tensor | None]:
        bias = None if self.bias is None else self.bias.detach().to(self.numbers)
        return pack(self.weight.detach().to(self.numbers)), bias

    def _multiply(self, x: Tensor, low: Tensor | None, relu: bool, packed: Any) -> Tensor:
        weight, bias = packed
        given = x if low is None or low.dtype != self.numbers else low
        return onednn_linear(given.to(self.numbers), weight, bias, relu)


class BFloat16Linear(PackedLinear):
    """Rounded to bfloat16, in the order of oneDNN's kernels."""

    numbers = torch.bfloat16


class Int8Linear(_InferenceLinear):
    """Rounded to 8-bit integers; float32 in and out."""

    def _pack(self) -> Any:
        weight = self.weight.detach()
        zero = torch.zeros(len(weight), dtype=torch.long)
        with warnings.catch_warnings():  # torch deprecates the type that the kernel asks for
            warnings.simplefilter("ignore", UserWarning)
            scale = INT8.fit(weight)[0][:, 0]
            integers = torch.quantize_per_channel(weight, scale, zero, 0, torch.qint8)
            bias = None if self.bias is None else self.bias.detach()
            return torch.ops.quantized.linear_prepack(integers, bias)

    def _multiply(self, x: Tensor, low: Tensor | None, relu: bool, packed: Any) -> Tensor:
        product: Tensor = torch.ops.quantized.linear_dynamic(x, packed)
        return torch.relu(product) if relu else product


def can_quantize() -> bool:
    """Whether torch's kernels for 8-bit integers are there, on a processor that they suit."""
    return "x86" in torch.backends.quantized.supported_engines


LINEARS: tuple[type[nn.Linear], ...] = (nn.Linear, PackedLinear, BFloat16Linear, Int8Linear)
"""Linear maps that are nothing but that."""
