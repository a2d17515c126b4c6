"""Recurrent models, quick: the products with the state are oneDNN's, and the loss is in chunks.

torch takes float32 products from MKL, which needs twice the time for those of a step on an AMD
processor. The matrix of the state is packed once for all steps.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tinylm.fast.decoder import LossInChunks
from tinylm.fast.onednn import can_pack, onednn_linear, pack, weight_gradient
from tinylm.model.recurrent.cells import Products
from tinylm.model.recurrent.layer import RecurrentLayer
from tinylm.model.recurrent.lm import GRULM, LSTMLM, ElmanLM, LinearLM


class OneDNNProducts(Products):
    """By oneDNN, on a CPU in float32; elsewhere as torch computes them."""

    def recur(self, weight: Tensor) -> Callable[[Tensor, Tensor | None, Tensor], Tensor]:
        """Return the product with the state; see ``Products``."""
        if not _suits(weight):
            return super().recur(weight)
        packed = pack(weight)

        def product(state: Tensor, addend: Tensor | None, out: Tensor) -> Tensor:
            made = onednn_linear(state, packed, None)
            return out.copy_(made) if addend is None else torch.add(made, addend, out=out)

        return product

    def back(self, weight: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the product with dL/da; see ``Products``."""
        if not _suits(weight):
            return super().back(weight)
        packed = pack(weight.T.contiguous())
        return lambda to_products, addend: onednn_linear(to_products, packed, None).add_(addend)

    def weight_gradient(self, to_products: Tensor, before: Tensor) -> Tensor:
        """Return the gradient of the matrix; see ``Products``."""
        return weight_gradient(to_products, before)


def _suits(weight: Tensor) -> bool:
    return weight.dtype == torch.float32 and can_pack(weight)


class FastRecurrentLayer(RecurrentLayer):
    """With oneDNN's products."""

    products = OneDNNProducts()


class FastElmanLM(LossInChunks, ElmanLM):
    """See ``LossInChunks``."""


class FastLinearLM(LossInChunks, LinearLM):
    """See ``LossInChunks``."""


class FastGRULM(LossInChunks, GRULM):
    """See ``LossInChunks``."""


class FastLSTMLM(LossInChunks, LSTMLM):
    """See ``LossInChunks``."""
