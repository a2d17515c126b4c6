"""Time and bytes of collectives on rings, as NCCL and gloo run them.

With n cards and V bytes, a ring's reduce-scatter or all-gather takes n - 1 messages of V / n bytes
of every card, an all-reduce both one after the other (Patarasuk and Yuan 2009, "Bandwidth optimal
all-reduce algorithms for clusters of workstations"):

    bytes sent by a card   V (n - 1) / n            2 V (n - 1) / n
    messages               n - 1                    2 (n - 1)

The slowest link of the ring sets its rate. A ring through several nodes leaves each node once, and
as many rings run side by side as the group has cards in a node, each by another network card, so
that the group reaches ``between`` times its cards in a node, and never more than ``within``.

A long ring has a long latency. An all-reduce may go along a tree of nodes, 2 log2 of them, in
place of a ring (NCCL since 2.4); the shorter one counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tinylm.planning.cluster.cards import Links


@dataclass(frozen=True)
class Group:
    """Cards that take part in a collective together."""

    links: Links
    members: int
    stride: int = 1
    """How far apart their ranks are: the product of the degrees that are placed within."""

    @property
    def per_node(self) -> int:
        """Members that stand in one node."""
        return max(1, min(self.members, self.links.per_node // self.stride))

    @property
    def nodes(self) -> int:
        """Nodes over which it is spread."""
        return -(-self.members // self.per_node)

    @property
    def rate(self) -> float:
        """Bytes a second that each member sends."""
        links = self.links
        if self.nodes == 1:
            return links.within * links.share
        return min(links.within, links.between * self.per_node) * links.share

    @property
    def _ring(self) -> float:
        """Seconds of the messages of one round along the ring."""
        crossing = self.nodes - 1
        staying = self.members - 1 - crossing
        return staying * self.links.latency_within + crossing * self.links.latency_between

    @property
    def _tree(self) -> float:
        """Seconds of the messages from the leaves to the root, or back."""
        staying = (self.per_node - 1) * self.links.latency_within
        return staying + math.ceil(math.log2(self.nodes)) * self.links.latency_between

    def gather_bytes(self, size: float) -> float:
        """Return what each member sends so that all have ``size`` bytes, or a sum is scattered."""
        return size * (self.members - 1) / self.members

    def gather(self, size: float) -> float:
        """Return the seconds of an all-gather to, or a reduce-scatter of, ``size`` bytes."""
        if self.members == 1:
            return 0.0
        return self.links.start + self._ring + self.gather_bytes(size) / self.rate

    def all_reduce_bytes(self, size: float) -> float:
        """Return what each member sends in an all-reduce of ``size`` bytes."""
        return 2 * self.gather_bytes(size)

    def all_reduce(self, size: float) -> float:
        """Return the seconds of an all-reduce of ``size`` bytes."""
        if self.members == 1:
            return 0.0
        latency = 2 * min(self._ring, self._tree)
        return self.links.start + latency + self.all_reduce_bytes(size) / self.rate

    def all_to_all(self, size: float) -> float:
        """Return the seconds in which each member sends its ``size`` bytes in equal parts."""
        if self.members == 1:
            return 0.0
        links = self.links
        leaving = size * (self.members - self.per_node) / self.members
        staying = self.gather_bytes(size) - leaving
        transfer = max(staying / links.within, leaving / links.between) / links.share
        return links.start + self._ring + transfer


def send(links: Links, size: float, stride: int) -> float:
    """Return the seconds in which a card sends bytes to the one ``stride`` ranks further."""
    if stride >= links.per_node:
        return links.latency_between + size / (links.between * links.share)
    return links.latency_within + size / (links.within * links.share)
