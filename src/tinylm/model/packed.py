"""A model whose linear maps are laid out for the processor's matrix kernels, for inference.

Decoding multiplies the same matrices at every step, so they are packed for oneDNN once: 2 ms for
6.5 million numbers. The price is a second copy of the matrices. In bfloat16 the copy is half as
large, and what a step of few rows waits for is reading it.
"""

from __future__ import annotations

import copy
import itertools

import torch
from torch import Tensor, nn

from tinylm.model.decoder import DecoderLM
from tinylm.model.onednn import can_pack, pack, packed_linear


class PackedLinear(nn.Module):
    """``nn.Linear`` without gradients, its weight in the order of oneDNN's kernels."""

    def __init__(self, linear: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        weight = linear.weight.detach().to(dtype)
        self.packed = pack(weight)
        self.bias = None if linear.bias is None else linear.bias.detach().to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x @ weight.T + bias``, (..., out), of ``x``, (..., in), in x's number format."""
        return packed_linear(x.to(self.dtype), self.packed, self.bias).to(x.dtype)


def packed(model: DecoderLM, dtype: torch.dtype | None = None) -> DecoderLM:
    """Return a copy for inference that shares all but the linear maps, or the model itself.

    Args:
        model: in eval mode.
        dtype: number format of the linear maps' weights and products; empty: the model's own.

    The model itself where packing is not possible: on a GPU, in float64, without oneDNN. The copy
    holds the weights of now; make another one when they have changed.
    """
    weight = model.embedding.weight
    if weight.dtype != torch.float32 or not can_pack(weight):
        return model
    shared = itertools.chain(model.parameters(), model.buffers())
    other = copy.deepcopy(model, {id(tensor): tensor for tensor in shared})
    for module in list(other.modules()):
        for name, child in list(module.named_children()):
            # One that somebody watches stays what it is: its hooks would not be called.
            watched = child._forward_hooks or child._forward_pre_hooks
            if type(child) is nn.Linear and not watched:
                setattr(module, name, PackedLinear(child, dtype or weight.dtype))
    return other
