"""The processes that train together: what each does of a step, and what they tell each other.

Each process, a *rank*, holds the whole model and computes the gradient of its own rows of every
batch (data parallelism). What the sums are divided by, how they are clipped and what the optimizer
does is then the same on all of them, since it follows from sums over all ranks alone:

- the order is that of one process, and ``training.batch_size`` counts the windows of all ranks:
  each takes its rows of every batch (``WholeOrder.share``), so that an epoch has every window once;
- the loss is divided by the targets of all ranks;
- gradients are added up (``buckets``), so the norm they are clipped by is the whole gradient's;
- rank 0 alone writes and shows.

One process is :data:`ALONE`, whose sums are its own numbers: the loop is the same for both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tinylm.errors import ConfigError, TrainingError
from tinylm.training.processes.buckets import Buckets

_LOST = re.compile(r"gloo/|nccl|socket|connection (closed|reset)|timed out", re.IGNORECASE)
"""What torch's backends say where another process does not answer; gloo has no type for it."""


class LostProcessError(TrainingError):
    """Another process has gone, so that what it was to send never comes."""

    is_consequence = True
    """It is the other process that has something to say."""


class Reduction(Protocol):
    """How the gradients of a step become those of all processes."""

    def begin(self, passes: int) -> None:
        """Expect so many backward passes of this process."""

    def finish(self) -> None:
        """Wait until ``.grad`` of every parameter is the sum over all processes."""


class Processes(Protocol):
    """What a step asks of the processes that take it together."""

    rank: int
    """Number of this process, from 0."""
    size: int
    """How many there are."""

    def sum(self, value: float) -> float:
        """Return the sum of a number over all processes, in float64."""

    def most(self, value: int) -> int:
        """Return the largest of a number over all processes."""

    def joined(self, rows: Tensor) -> Tensor:
        """Return the rows of all processes, (rows, …), one process's after the other's."""

    def reduction(self, parameters: Iterable[nn.Parameter]) -> Reduction:
        """Return how the gradients of these parameters are added up."""

    def agree(self, tensors: Iterable[Tensor]) -> None:
        """Make tensors what they are on rank 0."""


class _OwnGradients:
    """The gradients of one process are those of all."""

    def begin(self, passes: int) -> None:
        """Expect nothing."""

    def finish(self) -> None:
        """Wait for nothing."""


class Alone:
    """One process."""

    rank, size = 0, 1

    def sum(self, value: float) -> float:
        """Return the number."""
        return value

    def most(self, value: int) -> int:
        """Return the number."""
        return value

    def joined(self, rows: Tensor) -> Tensor:
        """Return the rows."""
        return rows

    def reduction(self, parameters: Iterable[nn.Parameter]) -> Reduction:
        """Return that there is nothing to add."""
        return _OwnGradients()

    def agree(self, tensors: Iterable[Tensor]) -> None:
        """Leave them."""


ALONE = Alone()


class Group:
    """The ranks of torch's default process group, which must be there."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def sum(self, value: float) -> float:
        """Return the sum over all processes."""
        return float(self._reduced(torch.tensor(value, dtype=torch.float64), dist.ReduceOp.SUM))

    def most(self, value: int) -> int:
        """Return the largest over all processes."""
        return int(self._reduced(torch.tensor(value), dist.ReduceOp.MAX))

    def _reduced(self, value: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
        with telling_lost():
            dist.all_reduce(value, operation)
        return value

    def joined(self, rows: Tensor) -> Tensor:
        """Return the rows of all processes; they may have different numbers of them."""
        mine = torch.tensor([len(rows)])
        with telling_lost():
            counts = [torch.zeros_like(mine) for _ in range(self.size)]
            dist.all_gather(counts, mine)
            sizes = [int(count) for count in counts]
            # A gather is of equal sizes: shorter ones are filled up.
            padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
            padded[: len(rows)] = rows
            parts = [torch.empty_like(padded) for _ in range(self.size)]
            dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    def reduction(self, parameters: Iterable[nn.Parameter]) -> Reduction:
        """Return buckets that are sent while the backward pass goes on."""
        return Buckets(parameters, telling_lost)

    def agree(self, tensors: Iterable[Tensor]) -> None:
        """Make tensors what they are on rank 0."""
        with telling_lost(), torch.no_grad():
            for tensor in tensors:
                whole = tensor.detach().contiguous()
                dist.broadcast(whole, 0)
                tensor.copy_(whole)


@contextmanager
def telling_lost() -> Iterator[None]:
    """Say in a line that a collective failed.

    Raises:
        LostProcessError: if it did, which it does where another process has gone.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not _LOST.search(str(error)):
            raise
        raise LostProcessError(
            "the connection to another process was lost: it has ended or cannot be reached "
            f"({str(error).splitlines()[0]})"
        ) from error


def refuse_unshared(batch_size: int, windows: int, processes: Processes) -> None:
    """Refuse a training that cannot be shared out among so many processes.

    Args:
        batch_size: of all processes together.
        windows: that there are to train on.
        processes: that train.

    Raises:
        ConfigError: if the batch does not divide, or there are fewer windows than processes.
    """
    size = processes.size
    if batch_size % size:
        near = max(size, batch_size - batch_size % size)
        raise ConfigError(
            f"training.batch_size = {batch_size} is the number of windows of all processes "
            f"together, and {size} processes do not divide it: give a multiple of {size}, such as "
            f"{near}, or another number of processes"
        )
    if windows < size:
        raise ConfigError(
            f"there are {windows} windows to train on and {size} processes: give at most {windows} "
            "processes, or more text"
        )
