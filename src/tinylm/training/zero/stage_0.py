"""Stage 0: plain data parallelism. Every rank holds everything, and gradients are all-reduced.

    memory a rank    4 + 4 + 8 bytes a parameter in float32 (parameters, gradients, two moments)
                     2 + 2 + 12 with bfloat16 (the states have the float32 parameters besides)
    sent a step      2 P (N - 1) / N numbers, however many micro-batches

What the other stages are measured against.
"""

from __future__ import annotations

from torch import Tensor

from tinylm.training.task import Trained
from tinylm.training.zero.buckets import Bucket
from tinylm.training.zero.stage import GRADIENTS, Stage


class Stage0(Stage[Trained]):
    """Nothing in parts."""

    number = 0

    def owned(self, bucket: Bucket, flat: Tensor) -> Tensor:
        """Return all of it: every rank keeps all states, and computes the same update."""
        return flat

    def begin(self) -> None:
        """Let every gradient be added to its part of the bucket's."""
        for bucket in self.trained:
            bucket.gradient = bucket.zeros()
            for parameter, view in zip(
                bucket.parameters, bucket.views(bucket.gradient), strict=True
            ):
                parameter.grad = view

    def reduce(self) -> None:
        """Sum the gradients over all ranks, in place."""
        for bucket in self.trained:
            bucket.summed = self._taken(bucket)
            self.collectives.all_reduce(bucket.summed, GRADIENTS)

    @staticmethod
    def _taken(bucket: Bucket) -> Tensor:
        """Return the gradient of a bucket, which nothing else keeps any more."""
        gradient, bucket.gradient = bucket.gradient, None
        assert gradient is not None
        for parameter in bucket.parameters:
            parameter.grad = None
        return gradient

    def own_gradient(self, bucket: Bucket) -> Tensor:
        """Return this rank's part, so that the norm is that of the other stages, bit for bit."""
        assert bucket.summed is not None
        return bucket.part(bucket.summed, self.collectives.rank)

    def spread(self, bucket: Bucket, master: Tensor) -> None:
        """Round the optimizer's parameters to those that are computed with, if these are others."""
        bucket.flat.copy_(master)

    def assemble(self, flat: Tensor, own: Tensor) -> None:
        """Copy it: every rank has all."""
        flat.copy_(own)
