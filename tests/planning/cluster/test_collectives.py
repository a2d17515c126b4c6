"""Times and bytes of collectives, held to rings on which every message is sent."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylm.errors import ConfigError
from tinylm.planning.cluster.cards import MACHINES, TRAINING_SHARE, Links, machine
from tinylm.planning.cluster.collectives import Group, send

PLAIN = Links(8, 100.0, 10.0, latency_within=0, latency_between=0, start=0, share=1.0)


class Ring:
    """Ranks with a vector each; a message goes to the next rank, and its bytes are counted."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors.copy()  # (ranks, parts, numbers)
        self.sent = np.zeros(len(vectors))
        self.rounds = 0

    def _pass(self, first: int, add: bool) -> None:
        ranks = len(self.vectors)
        for turn in range(ranks - 1):
            part = (np.arange(ranks) + first - turn) % ranks
            messages = self.vectors[np.arange(ranks), part].copy()
            for rank in range(ranks):
                to = (rank + 1) % ranks
                self.sent[rank] += messages[rank].nbytes
                old = self.vectors[to, part[rank]] if add else 0
                self.vectors[to, part[rank]] = old + messages[rank]
            self.rounds += 1

    def reduce_scatter(self) -> None:
        self._pass(0, add=True)

    def all_gather(self) -> None:
        self._pass(1, add=False)


@pytest.mark.parametrize("ranks", [2, 3, 4, 8])
def test_a_ring_sends_these_bytes_in_so_many_messages(ranks: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(ranks, ranks, 5))
    ring = Ring(vectors)
    group = Group(replace(PLAIN, per_node=ranks), ranks)
    size = vectors[0].nbytes
    ring.reduce_scatter()
    for rank in range(ranks):  # each has the sum of its part
        mine = (rank + 1) % ranks
        assert np.allclose(ring.vectors[rank, mine], vectors[:, mine].sum(0))
    assert set(ring.sent) == {group.gather_bytes(size)}
    assert ring.rounds == ranks - 1
    ring.all_gather()
    assert np.allclose(ring.vectors, vectors.sum(0))
    assert set(ring.sent) == {group.all_reduce_bytes(size)}
    slow = Group(replace(PLAIN, per_node=ranks, latency_within=1.0), ranks)
    # The messages of the ring; a chain to a root and back has as many.
    assert slow.all_reduce(0) == pytest.approx(ring.rounds)
    assert slow.gather(0) == pytest.approx(ranks - 1)


def test_nothing_is_sent_alone() -> None:
    group = Group(PLAIN, 1)
    assert group.all_reduce(1e9) == group.gather(1e9) == group.all_to_all(1e9) == 0
    assert group.all_reduce_bytes(1e9) == 0


@given(st.integers(2, 64), st.floats(1, 1e12))
def test_an_all_reduce_is_a_scatter_and_a_gather(members: int, size: float) -> None:
    group = Group(PLAIN, members)
    assert group.all_reduce(size) == pytest.approx(2 * group.gather(size))


def test_a_group_uses_the_network_cards_of_its_members_in_a_node() -> None:
    """Eight cards of a node send 8 x 10 to others; one of them 10; within a node 100."""
    assert Group(PLAIN, 8).rate == 100
    assert Group(PLAIN, 16).rate == 80
    assert (Group(PLAIN, 16).per_node, Group(PLAIN, 16).nodes) == (8, 2)
    assert Group(PLAIN, 16, stride=8).rate == 10  # tensors of 8 lie between
    assert Group(PLAIN, 16, stride=2).rate == 40
    assert Group(PLAIN, 4, stride=2).rate == 100
    fast = replace(PLAIN, between=50.0)
    assert Group(fast, 64).rate == 100  # not more than within a node


def test_long_messages_take_a_ring_and_short_ones_a_tree() -> None:
    slow = replace(PLAIN, latency_within=1e-6, latency_between=1e-5)
    group = Group(slow, 1024)  # 128 nodes
    crossings = 7  # log2 of the nodes
    assert group.all_reduce(0) == pytest.approx(2 * (7 * 1e-6 + crossings * 1e-5))
    assert group.gather(0) == pytest.approx(896 * 1e-6 + 127 * 1e-5)


def test_tokens_to_experts_leave_a_node_by_its_own_network_card() -> None:
    """Of 16 members, 8 elsewhere: half of the bytes at 10, the time of 7/16 at 100 beside it."""
    assert Group(PLAIN, 16).all_to_all(160.0) == pytest.approx(80 / 10)
    assert Group(PLAIN, 8).all_to_all(160.0) == pytest.approx(160 * 7 / 8 / 100)


def test_a_stage_sends_to_the_next() -> None:
    assert send(PLAIN, 100.0, 8) == pytest.approx(10)
    assert send(PLAIN, 100.0, 4) == pytest.approx(1)


def test_stated_figures() -> None:
    a100, h100 = machine("a100"), machine("h100")
    assert a100.card.rate == pytest.approx(271.2e12 * TRAINING_SHARE)
    assert h100.card.products == pytest.approx(0.803, abs=5e-4)
    # NCCL's own model of the A100 ends at 235 GB/s.
    assert Group(a100.links, 8).rate == pytest.approx(235e9, rel=0.03)
    # A maintainer of NCCL on the H100: 370 GB/s of 450.
    assert Group(h100.links, 8).rate == pytest.approx(370e9, rel=0.03)
    shared = a100.card.shared(2)
    assert shared.rate == a100.card.rate / 2
    assert a100.card.shared(0.5) == a100.card
    assert math.isclose(shared.memory_rate, a100.card.memory_rate / 2)
    assert set(MACHINES) == {"a100", "a100-40", "h100", "h200"}
    with pytest.raises(ConfigError, match="--card 'a10' is not known; did you mean a100"):
        machine("a10")
