"""The decoder, quick: copies in bfloat16 from layer to layer, and the loss in chunks."""

from __future__ import annotations

from torch import Tensor

from tinylm.fast.layers import in_turn_with_copies
from tinylm.fast.loss import output_loss
from tinylm.model.base import GenerativeModel
from tinylm.model.decoder import DecoderLM
from tinylm.model.reading import Reading


class LossInChunks(GenerativeModel):
    """A model that never holds all logits of a batch that it is trained on."""

    def summed_loss(self, x: Tensor, labels: Tensor, ignored: int) -> Tensor:
        """Return the sum of the losses of the tokens that follow; see ``Model``."""
        output = self.unembedding
        if not getattr(output, "by_weight", True):  # a ``LinearLike`` that does more
            return super().summed_loss(x, labels, ignored)
        return output_loss(x, output.weight, output.bias, labels, ignored)


class FastDecoderLM(LossInChunks, DecoderLM):
    """The decoder, with copies of the residual stream in bfloat16 from layer to layer."""

    def run_layers(self, x: Tensor, reading: Reading) -> Tensor:
        """Run the residual stream through all layers; see ``DecoderLM.run_layers``."""
        if self.layer_runner is not None or reading.hooks.active:
            return super().run_layers(x, reading)
        return in_turn_with_copies(self.layers, x, reading)
