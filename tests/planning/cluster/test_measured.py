"""Links and processes from measurements."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylm.planning.cluster.cards import Links
from tinylm.planning.cluster.collectives import Group
from tinylm.planning.cluster.layout import Layout
from tinylm.planning.cluster.measured import fit_links, processes
from tinylm.planning.cluster.shapes import Shape
from tinylm.planning.cluster.step import Step

SIZES = (4e3, 256e3, 4e6, 64e6)


def links(latency: float, rate: float, per_node: int) -> Links:
    return Links(per_node, rate, rate, latency, latency, start=0.0, share=1.0)


@given(st.floats(1e-6, 1e-3), st.floats(1e8, 1e10), st.sampled_from([2, 3, 4, 8]))
def test_links_are_found_again(latency: float, rate: float, members: int) -> None:
    group = Group(links(latency, rate, members), members)
    fitted = fit_links(members, {size: group.all_reduce(size) for size in SIZES})
    assert fitted.latency_within == pytest.approx(latency, rel=1e-6)
    assert fitted.within == pytest.approx(rate, rel=1e-6)


def test_noise_moves_them_little() -> None:
    group = Group(links(5e-5, 1e9, 2), 2)
    noisy = {s: group.all_reduce(s) * (1.1 if i % 2 else 0.9) for i, s in enumerate(SIZES)}
    fitted = fit_links(2, noisy)
    assert fitted.within == pytest.approx(1e9, rel=0.15)
    assert fitted.latency_within == pytest.approx(5e-5, rel=0.3)


def test_a_latency_that_cannot_be_seen_is_none() -> None:
    fitted = fit_links(2, {1e6: 1e-3, 2e6: 2.1e-3})  # a line that falls below zero
    assert fitted.latency_within == 0
    assert fitted.within == pytest.approx(1e9, rel=0.1)


def test_too_little_is_refused() -> None:
    for members, times in ((2, {1e3: 1.0}), (1, {1e3: 1.0, 2e3: 2.0})):
        with pytest.raises(ValueError, match="two sizes at least, among two processes"):
            fit_links(members, times)


def test_processes_beyond_the_cores_share_them() -> None:
    """Two processes on two cores compute as one; four half as fast, and send half as fast."""
    shape = Shape.gpt(2, 64, 2, 16, 50)
    measured = links(1e-4, 1e9, 2)
    alone = processes(1, 2, 1e9, measured, fitted=2)
    seconds = {}
    for number in (1, 2, 4):
        machine = processes(number, 2, 1e9, measured, fitted=2)
        layout = Layout(
            number, number, micro_batch=4, batch=4 * number, overlap=0.0, gradient_bytes=4
        )
        seconds[number] = Step(shape, layout, machine.card, machine.links).time()
    flops = 3 * 4 * 16 * (2 * (shape.layer_map_flops + 7 / 6 * shape.layer_score_flops))
    flops += 3 * 4 * 16 * shape.output_flops
    assert seconds[1].total == pytest.approx(flops / 1e9)
    assert seconds[2].products == pytest.approx(seconds[1].products)
    assert seconds[4].products == pytest.approx(2 * seconds[1].products)
    size = 4 * shape.parameters
    # A message a layer and direction: the traffic runs layer by layer.
    assert seconds[2].data == pytest.approx(2 * 2 * 1e-4 + size / 1e9)
    assert seconds[4].data == pytest.approx(2 * (2 * 2 * 3 * 1e-4 + 1.5 * size / 1e9))
    assert seconds[1].data == 0
    assert alone.card.memory == math.inf
    own = processes(4, 2, 1e9, replace(measured, per_node=4))
    assert own.links.within == 1e9  # measured among four already
