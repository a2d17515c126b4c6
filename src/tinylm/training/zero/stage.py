"""What the stages of ZeRO share: the step of data-parallel training with Adam.

Every rank reads other rows. A step is

1. ``backward``: forward and backward passes over the rank's micro-batches; the gradients of all
   ranks are summed;
2. ``update``: Adam moves the parameters, in their own format or, if they are computed with in
   bfloat16, in a float32 copy of them (the master weights) from which they are rounded again.

The stages (Rajbhandari et al. 2020, "ZeRO: memory optimizations toward training trillion parameter
models", section 5) differ in what every rank holds whole and what in parts: ``stage_0`` nothing in
parts, ``stage_1`` the optimizer's states, ``stage_2`` also the gradients, ``stage_3`` also the
parameters. Each file tells what is new in it.

A summed loss is divided by the targets of all ranks and micro-batches together, never by a rank's
own, so that N ranks with batch b give the gradient of one with batch N b, however unevenly the
targets lie. Gradients are clipped by the norm over all parts. There is no weight decay.

Written to be read and measured. To train, take torch's: ``ZeroRedundancyOptimizer`` for stage 1,
``fully_shard`` for stages 2 and 3, which send while they compute; here one follows the other.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from tinylm.errors import TrainingError
from tinylm.training.optimizers import Adam
from tinylm.training.precision import autocast
from tinylm.training.task import Examples, Trained
from tinylm.training.zero.buckets import Bucket, buckets_of
from tinylm.training.zero.collectives import Collectives
from tinylm.training.zero.memory import Meter, Parts

GRADIENTS, PARAMETERS, FEW, LOOK = "gradients", "parameters", "loss and norm", "to be looked at"
"""What is sent (``collectives.Sent.purpose``)."""


@dataclass(frozen=True)
class Settings:
    """Of the optimizer, and the format that is computed in."""

    learning_rate: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    largest_norm: float = 0.0
    """Of the whole gradient, above which it is scaled down to it; 0: it is left as it is."""
    bf16: bool = False
    """Whether parameters and gradients are kept in bfloat16, and a copy of the parameters with the
    optimizer's states in the format that the model came in."""


@dataclass(frozen=True)
class Summed:
    """The result of the backward passes of a step, of all ranks together."""

    loss: float
    """Sum over the targets, in nats."""
    num_targets: int
    norm: float
    """Of the whole gradient, before clipping."""


class Stage(ABC, Generic[Trained]):
    """A model that is trained on several ranks."""

    number: ClassVar[int]

    def __init__(
        self,
        model: Trained,
        loss: Callable[[Trained, Any], tuple[Tensor, int]],
        collectives: Collectives,
        settings: Settings,
    ) -> None:
        """Take a model, the same on every rank, to train it in place.

        Args:
            model: its parameters become views of buckets.
            loss: of the model and a batch; the sum of its losses, and how many (``Task.loss``).
            collectives: among the ranks.
            settings: the same on every rank.
        """
        self.model = model
        self.collectives = collectives
        self.settings = settings
        self.meter = Meter()
        self._loss = loss
        self._num_targets = 0
        self._scale = 1.0
        self.buckets = buckets_of(model, collectives.ranks)
        self.trained = [bucket for bucket in self.buckets if bucket.trained]
        kept = {bucket: self._keep(bucket) for bucket in self.buckets}
        self.masters = {bucket: kept[bucket] for bucket in self.trained}
        """What the optimizer moves of each bucket; without bfloat16 views of the bucket itself."""
        self.adam = Adam(
            [{"params": list(self.masters.values())}],
            lr=settings.learning_rate,
            betas=settings.betas,
            eps=settings.eps,
        )

    def _keep(self, bucket: Bucket) -> Tensor:
        master = self.owned(bucket, bucket.flat)
        if self.settings.bf16:
            bucket.flat = bucket.flat.bfloat16()
            master = master.clone()
        bucket.connect()
        return master

    @abstractmethod
    def owned(self, bucket: Bucket, flat: Tensor) -> Tensor:
        """Return what this rank keeps states of, as a view of a tensor of the bucket's size."""

    def parts(self, *gradients: Tensor) -> Parts:
        """Return every tensor that this rank holds, by what it is.

        Args:
            gradients: what there is besides for a moment.
        """
        states = [value for state in self.adam.state.values() for value in state.values()]
        held: dict[str, list[Tensor | None]] = {
            "parameters": [
                *self.model.parameters(),
                *(each for bucket in self.buckets for each in (bucket.flat, bucket.own)),
            ],
            "gradients": [
                *gradients,
                *(parameter.grad for parameter in self.model.parameters()),
                *(each for bucket in self.buckets for each in (bucket.gradient, bucket.summed)),
            ],
            "optimizer": [*self.masters.values(), *states],
        }
        return {
            name: [tensor for tensor in tensors if tensor is not None]
            for name, tensors in held.items()
        }

    def backward(self, batches: Sequence[Examples]) -> Summed:
        """Leave in the buckets the gradient of the mean loss over the targets of all ranks.

        Args:
            batches: this rank's micro-batches; each rank has as many, and one without targets
                takes part in all that is sent.

        Raises:
            TrainingError: if ranks have not the same number of micro-batches, naming two, or a
                loss is the sum of another number of targets than its batch has.
        """
        self.meter.begin()
        self._num_targets = self._agree(batches)
        if self._num_targets == 0:
            return Summed(0.0, 0, 0.0)
        self.model.train()
        self.begin()
        summed = 0.0
        for batch in batches:
            summed += self.propagate(batch.to(next(self.model.parameters()).device))
        self.meter.after_backward = self.meter.look(self.parts())
        self.reduce()
        loss, norm = self._over_all_ranks(summed)
        largest = self.settings.largest_norm
        self._scale = largest / norm if largest and norm > largest else 1.0
        return Summed(loss, self._num_targets, norm)

    def _agree(self, batches: Sequence[Examples]) -> int:
        """Return the targets of all ranks."""
        own = torch.tensor([sum(batch.num_targets for batch in batches), len(batches)])
        every = self._gathered(own)
        counts = every[:, 1].tolist()
        for rank, number in enumerate(counts):
            if number != counts[0]:
                raise TrainingError(
                    f"micro-batches in this step: rank {rank} has {number} and rank 0 has "
                    f"{counts[0]}; give every rank as many, of which some may have no target"
                )
        return int(every[:, 0].sum())

    def _over_all_ranks(self, summed: float) -> tuple[float, float]:
        """Return the loss and the norm of the gradient; the same bits on every rank.

        Each rank measures its own part, whatever it holds besides, and all add up in one order.
        """
        norms = [
            torch.linalg.vector_norm(self.own_gradient(bucket), dtype=torch.float64)
            for bucket in self.trained
        ]
        square = float(torch.stack(norms).square().sum()) if norms else 0.0
        every = self._gathered(torch.tensor([summed, square], dtype=torch.float64))
        loss, squares = every.sum(0).tolist()
        return loss, math.sqrt(squares)

    def _gathered(self, own: Tensor) -> Tensor:
        """Return a few numbers of every rank, (ranks, numbers), on the CPU."""
        own = own.to(next(self.model.parameters()).device)
        every = own.new_empty(self.collectives.ranks * len(own))
        self.collectives.all_gather(every, own, FEW)
        return every.view(self.collectives.ranks, -1).cpu()

    def begin(self) -> None:
        """Make ready for the first micro-batch of a step."""

    def propagate(self, batch: Examples) -> float:
        """Take one micro-batch forwards and backwards; return its summed loss."""
        loss = self.forward(batch)
        self.backpropagate(loss / self._num_targets)
        return loss.item()

    def forward(self, batch: Examples) -> Tensor:
        """Return the summed loss of a micro-batch."""
        device = next(self.model.parameters()).device
        with autocast("bf16" if self.settings.bf16 else "fp32", device):
            loss, count = self._loss(self.model, batch)
        if count != batch.num_targets:
            raise TrainingError(
                f"the loss is the sum over {count} targets, and its batch has {batch.num_targets}: "
                "let the loss and the batch count the same"
            )
        return loss

    def backpropagate(self, loss: Tensor) -> None:
        """Make the gradients of a micro-batch."""
        torch.autograd.backward(loss)

    @abstractmethod
    def reduce(self) -> None:
        """Sum the gradients of a step over all ranks, where they are not yet."""

    @abstractmethod
    def own_gradient(self, bucket: Bucket) -> Tensor:
        """Return the summed gradient of this rank's part, (part_size,)."""

    @torch.no_grad()
    def update(self) -> None:
        """Move the parameters along the gradient, and drop it; without any target, do nothing."""
        if self._num_targets == 0:
            return
        for bucket, master in self.masters.items():
            assert bucket.summed is not None
            # The gradient in the optimizer's own format is there for one bucket at a time: a step
            # of Adam moves what has a gradient.
            master.grad = bucket.summed.to(master.dtype)
            if self._scale != 1:
                master.grad.mul_(self._scale)
            self.adam.step()
            master.grad = bucket.summed = None
            self.spread(bucket, master)
        # What is made of the parameters and kept must know that they are others now.
        increment_version(self.model.parameters())

    @abstractmethod
    def spread(self, bucket: Bucket, master: Tensor) -> None:
        """Bring what the optimizer moved to where it is computed with."""

    def whole(self, what: str = "parameters") -> dict[str, Tensor]:
        """Return name -> tensor of every trained parameter, whole on every rank.

        Args:
            what: ``parameters``, as the optimizer has them, or its ``exp_avg`` or ``exp_avg_sq``.
        """
        made: dict[str, Tensor] = {}
        for bucket, master in self.masters.items():
            own = master if what == "parameters" else self.adam.state[master][what]
            flat = own.new_empty(bucket.size)
            self.assemble(flat, own)
            made |= zip(bucket.names, bucket.views(flat), strict=True)
        return made

    @abstractmethod
    def assemble(self, flat: Tensor, own: Tensor) -> None:
        """Fill a tensor of a bucket's size from what each rank has of it."""
