"""Recurrent models, quick: the products with the state are oneDNN's, and the loss is in chunks.

torch takes float32 products from MKL, which needs twice the time for those of a step on an AMD
processor. The matrix of the state is packed once for all steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tinylm.fast import loops
from tinylm.fast.decoder import LossInChunks
from tinylm.fast.onednn import can_pack, onednn_linear, pack, weight_gradient
from tinylm.model.recurrent.attentive import Attending
from tinylm.model.recurrent.cells import Products
from tinylm.model.recurrent.layer import RecurrentLayer
from tinylm.model.recurrent.lm import GRULM, LSTMLM, ElmanLM, LinearLM
from tinylm.model.recurrent.pairs import AdditiveLayer
from tinylm.model.recurrent.seq2seq import AdditiveSeq2SeqLM, MultiplicativeSeq2SeqLM


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


class QuickAttending(Attending):
    """The additive attention of a step in one pass, in float32 on a CPU; elsewhere torch's."""

    def __call__(self, query: Tensor, pattern: Tensor, context: Tensor) -> None:
        """Attend once; see ``Attending``."""
        if not self._suits(query):
            super().__call__(query, pattern, context)
            return
        if self._look is None:
            parts = (self.keys, self.memory, self.vector, self.blocked)
            self._look = loops.additive.Look(*parts, query.stride(0))
        self._look(query, pattern, context)

    def begin_back(self) -> None:
        """Make room for the gradients; see ``Attending``."""
        self._look = None
        if not self._suits(self.keys):
            super().begin_back()

    def back(self, query: Tensor, pattern: Tensor, to_context: Tensor, to_query: Tensor) -> None:
        """Go back through one step; see ``Attending``."""
        if not self._suits(query):
            super().back(query, pattern, to_context, to_query)
            return
        if self._look is None:
            parts = (self.keys, self.memory, self.vector, self.blocked)
            self._look = loops.additive.Look(*parts, query.stride(0), back=True)
        self._look.back(query, pattern, to_context, to_query)

    def end_back(self, patterns: Tensor, to_contexts: Tensor) -> Tensor:
        """Return the gradient of the memory; see ``Attending``."""
        if self._look is not None:
            self.to_keys, self.to_vector = self._look.to_keys, self._look.to_vector()
        return super().end_back(patterns, to_contexts)

    _look: Any = None

    def _suits(self, query: Tensor) -> bool:
        return query.dtype == torch.float32 and loops.suit(query)


class FastAdditiveLayer(AdditiveLayer):
    """With the attention of a step in one pass."""

    attending = QuickAttending


class FastElmanLM(LossInChunks, ElmanLM):
    """See ``LossInChunks``."""


class FastLinearLM(LossInChunks, LinearLM):
    """See ``LossInChunks``."""


class FastGRULM(LossInChunks, GRULM):
    """See ``LossInChunks``."""


class FastLSTMLM(LossInChunks, LSTMLM):
    """See ``LossInChunks``."""


class FastAdditiveSeq2SeqLM(LossInChunks, AdditiveSeq2SeqLM):
    """See ``LossInChunks``."""


class FastMultiplicativeSeq2SeqLM(LossInChunks, MultiplicativeSeq2SeqLM):
    """See ``LossInChunks``."""
