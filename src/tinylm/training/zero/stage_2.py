"""Stage 2: the gradients in parts, too. Parameters whole on every rank.

The gradient of a bucket is needed whole only until it is summed. So it is reduce-scattered as soon
as a backward pass has it complete, and what is not the rank's own part is freed: beside the parts
there is never more than the buckets that the backward pass is at.

With several micro-batches a step each of them has to be summed for itself, because nobody keeps the
whole gradient until the last: k micro-batches send the gradients k times, where stage 1 sends them
once.

    memory a rank    4 + 12 / N bytes a parameter in float32; 2 + 14 / N with bfloat16
    sent a step      (k + 1) P (N - 1) / N numbers with k micro-batches
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tinylm.training.task import Examples, Trained
from tinylm.training.zero.buckets import Bucket
from tinylm.training.zero.collectives import Collectives
from tinylm.training.zero.stage import Settings
from tinylm.training.zero.stage_1 import Stage1


class Stage2(Stage1[Trained]):
    """The optimizer's states and the gradients in parts."""

    number = 2

    def __init__(
        self,
        model: Trained,
        loss: Callable[[Trained, Any], tuple[Tensor, int]],
        collectives: Collectives,
        settings: Settings,
    ) -> None:
        """Take a model; see ``Stage``."""
        super().__init__(model, loss, collectives, settings)
        self._awaited: dict[Bucket, set[nn.Parameter]] = {}
        """Buckets of which this micro-batch is not summed yet, the next first, and the parameters
        whose gradients have not come."""
        self._places = {
            parameter: (bucket, place)
            for bucket in self.trained
            for place, parameter in enumerate(bucket.parameters)
        }
        for parameter in self._places:
            parameter.register_post_accumulate_grad_hook(self._take)  # type: ignore[no-untyped-call]

    def begin(self) -> None:
        """Begin with nothing: gradients come and go with every micro-batch."""

    def propagate(self, batch: Examples) -> float:
        """Take one micro-batch forwards and backwards, and sum its gradients over all ranks.

        All ranks sum all buckets in one order, that of a backward pass, the last layer first; also
        one of which a rank has no gradient because nothing led to it.
        """
        self._awaited = {bucket: set(bucket.parameters) for bucket in reversed(self.trained)}
        loss = super().propagate(batch)
        for bucket in list(self._awaited):
            self._sum(bucket)
        return loss

    @torch.no_grad()
    def _take(self, parameter: nn.Parameter) -> None:
        """Move a gradient that has just been made into its bucket, and sum what is complete."""
        bucket, place = self._places[parameter]
        if bucket.gradient is None:
            bucket.gradient = bucket.zeros()
        assert parameter.grad is not None
        bucket.views(bucket.gradient)[place].copy_(parameter.grad)
        parameter.grad = None
        self._awaited[bucket].discard(parameter)
        for ready in list(self._awaited):
            if self._awaited[ready]:
                break
            self._sum(ready)

    def _sum(self, bucket: Bucket) -> None:
        del self._awaited[bucket]
        if bucket.gradient is None:
            bucket.gradient = bucket.zeros()
        self.sum_part(bucket, self._taken(bucket))

    def reduce(self) -> None:
        """Do nothing more: every micro-batch was summed."""
