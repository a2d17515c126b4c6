"""A machine whose figures were measured: processes of a processor, joined by gloo.

A process stands for a card. Its rate is what a whole training step reaches alone, so that what is
no product is part of it. Latency and bandwidth follow from all-reduces of several sizes among n
processes (``collectives.py``): their time is ``2 (n - 1) latency + 2 V (n - 1) / (n rate)``, fitted
with the squares of relative errors, since sizes differ by factors of a thousand. Processes beyond
the cores share them: each computes, and copies what it sends, as many times more slowly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from tinylm.planning.cluster.cards import Card, Links, Machine


def fit_links(members: int, times: Mapping[float, float]) -> Links:
    """Return the links on which all-reduces take these times, nearly.

    Args:
        members: processes that took part, all in one node.
        times: bytes -> seconds, of at least two sizes.

    Raises:
        ValueError: with fewer sizes or processes than two.
    """
    if len(times) < 2 or members < 2:
        raise ValueError("links need all-reduces of two sizes at least, among two processes")
    sizes, seconds = (np.array(each) for each in zip(*sorted(times.items()), strict=True))
    messages = 2 * (members - 1)
    sent = 2 * sizes * (members - 1) / members
    rows = np.stack([np.full(len(sizes), float(messages)), sent], axis=1) / seconds[:, None]
    latency, per_byte = np.linalg.lstsq(rows, np.ones(len(sizes)), rcond=None)[0]
    if latency <= 0:  # too small to be seen: the bytes alone
        latency = 0.0
        per_byte = float(rows[:, 1].sum() / (rows[:, 1] ** 2).sum())
    rate = 1 / per_byte if per_byte > 0 else math.inf
    return Links(
        per_node=members, within=float(rate), between=float(rate), latency_within=float(latency),
        latency_between=float(latency), start=0.0, share=1.0,
    )  # fmt: skip


def processes(number: int, cores: int, rate: float, links: Links, fitted: int = 0) -> Machine:
    """Return so many processes of a machine.

    Args:
        number: of processes.
        cores: that they share.
        rate: FLOP a second of one alone.
        links: as measured.
        fitted: processes among which the links were measured; empty: among so many as these.
    """
    card = Card("process", rate, 1.0, math.inf, math.inf, training=1.0, memory_share=1.0)
    crowded = max(1.0, number / cores)
    slower = crowded / max(1.0, (fitted or number) / cores)
    rates = links.within / slower
    return Machine(
        card.shared(crowded),
        Links(
            per_node=number, within=rates, between=rates,
            latency_within=links.latency_within * slower,
            latency_between=links.latency_between * slower, start=0.0, share=1.0,
        ),
    )  # fmt: skip
