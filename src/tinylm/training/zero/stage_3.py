"""Stage 3: the parameters in parts, too. Nothing whole, but for as long as it is computed with.

Each rank keeps its part of every bucket. Before a layer computes, an all-gather brings its
parameters together, and after it they are freed: in the forward pass, and once more in the backward
pass, which begins at the last layer. What is in no layer is there from the beginning of a pass to
its end. Beside the parts a rank thus holds the parameters of one layer, and of what is in none.

    memory a rank    16 / N bytes a parameter, in float32 and with bfloat16
    sent a step      3 P (N - 1) / N numbers: each pass gathers all, and the gradients are summed;
                     3 k P (N - 1) / N with k micro-batches

Autograd keeps parameters for the backward pass. What it keeps are views of a bucket's storage, so
it is the storage that is emptied and filled again: the views stay what they are.

What is in no layer is freed and gathered again between the two passes, though nothing is computed
in between, so that the rule is one for all, and is that of the formula; ``fully_shard`` keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tinylm.fast.autograd import apply
from tinylm.model.decoder import layers_run_by
from tinylm.model.reading import Reading
from tinylm.training.task import Examples, Trained
from tinylm.training.zero.buckets import Bucket
from tinylm.training.zero.stage import PARAMETERS
from tinylm.training.zero.stage_2 import Stage2


class Stage3(Stage2[Trained]):
    """The optimizer's states, the gradients and the parameters in parts.

    Outside of a step the parameters of the model are empty; ``whole`` returns them. Its layers are
    run by ``run_layers``, in the place of a ``layer_runner`` of its own.
    """

    number = 3

    def _keep(self, bucket: Bucket) -> Tensor:
        master = super()._keep(bucket)
        bucket.own = self.owned(bucket, bucket.flat).clone()
        self._free_bucket(bucket)
        return master if self.settings.bf16 else bucket.own

    def forward(self, batch: Examples) -> Tensor:
        """Return the summed loss of a micro-batch; what is in no layer is there for it."""
        self.gather(None)
        with layers_run_by(self.model, self.run_layers):
            loss = super().forward(batch)
        self.free(None)
        return loss

    def backpropagate(self, loss: Tensor) -> None:
        """Make the gradients of a micro-batch; what is in no layer is there for it again."""
        self.gather(None)
        super().backpropagate(loss)
        self.free(None)

    def run_layers(self, layers: Iterable[nn.Module], x: Tensor, reading: Reading) -> Tensor:
        """Run the residual stream, (batch, seq, hidden), through the layers, one there at a time.

        A backward pass goes through these lines from the last to the first.
        """
        for layer in layers:
            gather, free = partial(self.gather, layer), partial(self.free, layer)
            x = apply(_Doing, x, gather, free)
            x = layer(x, reading)
            x = apply(_Doing, x, free, gather)
        return x

    def propagate(self, batch: Examples) -> float:
        """Take one micro-batch forwards and backwards, and sum its gradients over all ranks."""
        loss = super().propagate(batch)
        for bucket in self.buckets:  # also a layer at whose beginning no gradient arrived
            self._free_bucket(bucket)
        return loss

    @torch.no_grad()
    def gather(self, layer: nn.Module | None) -> None:
        """Bring the parameters of a layer together, or of what is in none."""
        for bucket in self.buckets:
            if bucket.layer is layer:
                assert bucket.own is not None
                bucket.flat.untyped_storage().resize_(bucket.size * bucket.flat.element_size())
                self.collectives.all_gather(bucket.flat, bucket.own, PARAMETERS)
                bucket.connect()
        self.meter.look(self.parts())

    def free(self, layer: nn.Module | None) -> None:
        """Keep of the parameters of a layer, or of what is in none, the own part alone."""
        for bucket in self.buckets:
            if bucket.layer is layer:
                self._free_bucket(bucket)

    @staticmethod
    def _free_bucket(bucket: Bucket) -> None:
        for parameter in bucket.parameters:
            parameter.data = bucket.flat.new_empty(0)  # who reads it meets no freed memory
        bucket.flat.untyped_storage().resize_(0)

    def spread(self, bucket: Bucket, master: Tensor) -> None:
        """Round the own part to what is computed with; nobody else needs it now."""
        assert bucket.own is not None
        bucket.own.copy_(master)


class _Doing(torch.autograd.Function):
    """Passes a tensor on, and its gradient back; does something at either time."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, forwards: Callable[[], None], backwards: Callable[[], None]
    ) -> Tensor:
        ctx.backwards = backwards
        forwards()
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        ctx.backwards()
        return gradient, None, None
