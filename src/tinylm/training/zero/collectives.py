"""The three collective operations of ZeRO, counted: what each rank sends.

    reduce-scatter   every rank has a whole tensor and gets its own part of the sum of all
    all-gather       every rank has its own part and gets the whole
    all-reduce       every rank has a whole tensor and gets the sum of all: one after the other

With the ring (Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce algorithms for clusters of
workstations"), in which every rank sends to its right neighbour only, N - 1 of the N parts pass
through each rank: it sends ``(N - 1) / N`` of the whole tensor for either of the first two, and
twice that for an all-reduce. No algorithm sends less. That is what is counted here, from the
operations and the sizes of their tensors, whatever a backend does: gloo's own reduce-scatter moves
twice the bytes.

``reduce_scatter_tensor`` and ``all_gather_into_tensor`` are called by the names that torch 2.13
gave them, ``reduce_scatter_single`` and ``all_gather_single``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import torch.distributed as dist
from torch import Tensor

Kind = Literal["reduce-scatter", "all-gather", "all-reduce"]
_TURNS: dict[Kind, int] = {"reduce-scatter": 1, "all-gather": 1, "all-reduce": 2}
"""How often the parts of a tensor go round the ring."""


@dataclass(frozen=True)
class Sent:
    """What a rank sent by operations of one kind for one purpose."""

    kind: Kind
    purpose: str
    """What was sent, such as ``gradients``."""
    calls: int
    numbers: Fraction
    """Exact; whole wherever a tensor has a whole number of numbers for each rank."""
    bytes: Fraction


def ring_share(kind: Kind, ranks: int) -> Fraction:
    """Return which share of the whole tensor each rank sends in a ring of so many."""
    return Fraction(_TURNS[kind] * (ranks - 1), ranks)


class Collectives:
    """The operations among the ranks of a process group, and what was sent since ``take``."""

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        """Speak with the ranks of a group; empty: the default one, or nobody if there is none."""
        self.group = group
        together = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank(group) if together else 0
        self.ranks = dist.get_world_size(group) if together else 1
        self._sent: dict[tuple[Kind, str], Sent] = {}

    @classmethod
    def alone(cls) -> Collectives:
        """Return those of one process that speaks with nobody, also within a process group."""
        made = cls()
        made.rank, made.ranks = 0, 1
        return made

    def reduce_scatter(self, own: Tensor, whole: Tensor, purpose: str) -> None:
        """Write this rank's part of the sum of ``whole`` over all ranks into ``own``.

        Args:
            own: (n / ranks,); a part of ``whole``, or a tensor of its own.
            whole: (n,), another on every rank.
            purpose: what it is counted as.
        """
        if self.ranks == 1:
            own.copy_(whole)
        else:
            dist.reduce_scatter_single(own, whole, group=self.group)
        self._count("reduce-scatter", purpose, whole)

    def all_gather(self, whole: Tensor, own: Tensor, purpose: str) -> None:
        """Write the parts ``own`` of all ranks into ``whole``, one after the other.

        Args:
            whole: (n,).
            own: (n / ranks,); a part of ``whole``, or a tensor of its own.
            purpose: what it is counted as.
        """
        if self.ranks == 1:
            whole.copy_(own)
        else:
            dist.all_gather_single(whole, own, group=self.group)
        self._count("all-gather", purpose, whole)

    def all_reduce(self, whole: Tensor, purpose: str) -> None:
        """Replace ``whole`` by its sum over all ranks.

        Args:
            whole: of any shape, another on every rank.
            purpose: what it is counted as.
        """
        if self.ranks > 1:
            dist.all_reduce(whole, group=self.group)
        self._count("all-reduce", purpose, whole)

    def _count(self, kind: Kind, purpose: str, whole: Tensor) -> None:
        numbers = ring_share(kind, self.ranks) * whole.numel()
        before = self._sent.get((kind, purpose), Sent(kind, purpose, 0, Fraction(0), Fraction(0)))
        self._sent[kind, purpose] = Sent(
            kind,
            purpose,
            before.calls + 1,
            before.numbers + numbers,
            before.bytes + numbers * whole.element_size(),
        )

    def take(self) -> list[Sent]:
        """Return what was sent since the last call, by kind and purpose, in order of first use."""
        sent, self._sent = list(self._sent.values()), {}
        return sent


def total(sent: Iterable[Sent], *purposes: str) -> tuple[Fraction, Fraction]:
    """Return numbers and bytes that were sent for these purposes; without any, for all."""
    wanted = [each for each in sent if not purposes or each.purpose in purposes]
    zero = Fraction(0)
    return sum((e.numbers for e in wanted), zero), sum((e.bytes for e in wanted), zero)
