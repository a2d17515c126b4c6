"""A model whose linear maps are laid out for the processor's matrix kernels, for inference.

Decoding multiplies the same matrices at every step, so they are packed once: in float32 or bfloat16
for oneDNN, or rounded to 8-bit integers. The price is a second copy of the matrices: as large, half
or a quarter as large, and what a step of few rows waits for is reading it. Packing 6.5 million
numbers takes 2 to 10 ms. Steps of up to 8 rows run as compiled loops (``steps``), which read
matrices row by row: the model's own in float32, another such copy in the other formats.

The integers are those of dynamic quantization: a matrix is ``scale * integer`` with one scale for
each output, chosen so that its largest number is 127. Of many rows the inputs are rounded to 8
bits too, by the range of the batch at hand (Jacob et al. 2018, section 2.1), and the products are
added up exactly by FBGEMM's kernel, which torch carries.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any, Literal, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from tinylm.model.decoder import DecoderLM
from tinylm.model.onednn import can_pack, pack, packed_linear
from tinylm.model.steps import FEW, can_step, matrix_of, step_runner
from tinylm.numbers.int8 import row_scales

Numbers = Literal["float32", "bfloat16", "int8"]
"""Format of a packed model's linear maps."""
Kind = TypeVar("Kind", bound=nn.Module)
_KEPT: WeakKeyDictionary[DecoderLM, dict[Numbers, tuple[list[Any], DecoderLM]]]
_KEPT = WeakKeyDictionary()


class FewRowsLinear(nn.Module):
    """``nn.Linear`` without gradients, whose few rows a compiled loop multiplies."""

    def __init__(self, linear: nn.Linear, numbers: torch.dtype, many: nn.Module) -> None:
        super().__init__()
        self.matrix = matrix_of(linear, numbers)
        self.many = many

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x @ weight.T + bias``, (..., out)."""
        if x.shape[:-1].numel() > FEW:
            product: Tensor = self.many(x)
            return product
        from tinylm.fast.loops.single_token import linear

        return linear(x.reshape(-1, x.shape[-1]), self.matrix).view(*x.shape[:-1], -1)


class PackedLinear(nn.Module):
    """``nn.Linear`` without gradients, its weight in the order of oneDNN's kernels.

    The result is in the weight's format, as it is under autocast.
    """

    def __init__(self, linear: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.packed = pack(linear.weight.detach().to(dtype))
        self.bias = None if linear.bias is None else linear.bias.detach().to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x @ weight.T + bias``, (..., out)."""
        return packed_linear(x.to(self.dtype), self.packed, self.bias)


class QuantizedLinear(nn.Module):
    """``nn.Linear`` without gradients, in 8-bit integers; float32 in and out."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        self.scale = row_scales(weight)
        zero = torch.zeros(len(weight), dtype=torch.long)
        with warnings.catch_warnings():  # torch deprecates the type that the kernel asks for
            warnings.simplefilter("ignore", UserWarning)
            integers = torch.quantize_per_channel(weight, self.scale, zero, 0, torch.qint8)
            bias = None if linear.bias is None else linear.bias.detach()
            self.packed: Any = torch.ops.quantized.linear_prepack(integers, bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return about ``x @ weight.T + bias``, (..., out)."""
        product: Tensor = torch.ops.quantized.linear_dynamic(x, self.packed)
        return product


_MAKE: dict[Numbers, Callable[[nn.Linear], nn.Module]] = {
    "float32": lambda linear: PackedLinear(linear, torch.float32),
    "bfloat16": lambda linear: PackedLinear(linear, torch.bfloat16),
    "int8": QuantizedLinear,
}


_FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}


def packed(model: DecoderLM, numbers: Numbers = "float32") -> DecoderLM:
    """Return a copy for inference that shares all but the linear maps, or the model itself.

    Args:
        model: in eval mode.
        numbers: format of the linear maps' weights and products.

    The model itself where it is packed already or cannot be: on a GPU, in float64, where torch has
    no such kernels. A copy is kept with the model and given again as long as nothing has changed:
    modules, their hooks, parameters, and the numbers in these (by torch's count of changes in
    place, which sees all but those made through ``.data``).
    """
    weight = model.embedding.weight
    possible = can_quantize() if numbers == "int8" else can_pack(weight)
    if weight.device.type != "cpu" or weight.dtype != torch.float32 or not possible:
        return model
    if any(isinstance(module, (PackedLinear, QuantizedLinear)) for module in model.modules()):
        return model
    kept, state = _KEPT.setdefault(model, {}), _state(model)
    if numbers not in kept or kept[numbers][0] != state:
        made = _with_linear_maps(model, _MAKE[numbers])
        if can_step(model):
            made.layer_runner = step_runner(model, _FORMATS[numbers])
            if type(model.unembedding) is nn.Linear and not _watched(model.unembedding):
                made.unembedding = FewRowsLinear(  # type: ignore[assignment]
                    model.unembedding, _FORMATS[numbers], made.unembedding
                )
        if numbers != "float32":  # in bfloat16 the projection gives nothing finer
            made.cache_dtype = torch.bfloat16
        kept[numbers] = (state, made)
    return kept[numbers][1]


def _state(model: nn.Module) -> list[Any]:
    """Return what a packed copy depends on, in a form that can be compared."""
    state: list[Any] = []
    for module in model.modules():
        state.append((id(module), module.training, _watched(module)))
        state += [
            None if held is None else (id(held), held.data_ptr(), held._version)
            for held in (*module._parameters.values(), *module._buffers.values())
        ]
    return state


def _watched(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def can_quantize() -> bool:
    """Whether torch's kernels for 8-bit integers are there, on a processor that they suit."""
    return "x86" in torch.backends.quantized.supported_engines


def _with_linear_maps(module: Kind, make: Callable[[nn.Linear], nn.Module]) -> Kind:
    """Return a copy of a module, down to its parts, with other linear maps."""
    other = copy.copy(module)
    other._modules = {}
    for name, child in module._modules.items():
        # One that somebody watches stays what it is: its hooks would not be called.
        if type(child) is nn.Linear and not _watched(child):
            other._modules[name] = make(child)
        else:
            other._modules[name] = None if child is None else _with_linear_maps(child, make)
    return other
