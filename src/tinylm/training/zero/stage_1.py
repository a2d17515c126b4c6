"""Stage 1: the optimizer's states in parts. Parameters and gradients whole on every rank.

A rank needs the states of a parameter only to move it, and any rank can move it for all others. So
each rank keeps the states of its part of every bucket, gets the summed gradient of that part by a
reduce-scatter, moves it, and an all-gather brings the moved parts to all ranks. An all-reduce is a
reduce-scatter and an all-gather: nothing more is sent than by stage 0.

    memory a rank    8 + 8 / N bytes a parameter in float32; 2 + 2 + 12 / N with bfloat16
    sent a step      2 P (N - 1) / N numbers, however many micro-batches
"""

from __future__ import annotations

from torch import Tensor

from tinylm.training.task import Trained
from tinylm.training.zero.buckets import Bucket
from tinylm.training.zero.stage import GRADIENTS, LOOK, PARAMETERS
from tinylm.training.zero.stage_0 import Stage0


class Stage1(Stage0[Trained]):
    """The optimizer's states in parts."""

    number = 1

    def owned(self, bucket: Bucket, flat: Tensor) -> Tensor:
        """Return this rank's part."""
        return bucket.part(flat, self.collectives.rank)

    def reduce(self) -> None:
        """Sum the gradients over all ranks, a bucket after the other."""
        for bucket in self.trained:
            self.sum_part(bucket, self._taken(bucket))

    def sum_part(self, bucket: Bucket, gradient: Tensor) -> None:
        """Keep the sum over all ranks of the own part of a gradient, and nothing else of it.

        Args:
            bucket: of which it is; to what it has of the sum already, this is added.
            gradient: (size,).
        """
        own = gradient.new_empty(bucket.part_size)
        self.collectives.reduce_scatter(own, gradient, GRADIENTS)
        self.meter.look(self.parts(gradient, own))
        bucket.summed = own if bucket.summed is None else bucket.summed.add_(own)

    def own_gradient(self, bucket: Bucket) -> Tensor:
        """Return it: it is all that is left."""
        assert bucket.summed is not None
        return bucket.summed

    def spread(self, bucket: Bucket, master: Tensor) -> None:
        """Bring every rank's part of the bucket to all ranks."""
        own = self.owned(bucket, bucket.flat)
        own.copy_(master)
        self.collectives.all_gather(bucket.flat, own, PARAMETERS)

    def assemble(self, flat: Tensor, own: Tensor) -> None:
        """Gather the parts of all ranks."""
        self.collectives.all_gather(flat, own, LOOK)
