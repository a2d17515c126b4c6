"""Time and traffic of a step, held to worked numbers, to schedules and to the papers' counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.planning.cluster.schedules import simulate
from tinylm.errors import ConfigError
from tinylm.planning.cluster.cards import GIB, Card, Links
from tinylm.planning.cluster.collectives import Group
from tinylm.planning.cluster.layout import Layout, check
from tinylm.planning.cluster.moved import moved_bytes
from tinylm.planning.cluster.shapes import Shape
from tinylm.planning.cluster.step import Step

CARD = Card("even", 1e15, 0.8, 80 * GIB, 2e12, training=0.5, memory_share=0.5)
LINKS = Links(8, 400e9, 50e9, share=0.5)
SHAPE = Shape.gpt(24, 1024, 16, 512, 1000)


def step(layout: Layout, shape: Shape = SHAPE) -> Step:
    check(layout, shape, LINKS.per_node)
    return Step(shape, layout, CARD, LINKS)


def test_one_card_by_hand() -> None:
    """32 texts of 512 places in micro-batches of 8: 24 layers and the output."""
    time = step(Layout(1, micro_batch=8, batch=32)).time()
    h, s, tokens = 1024, 512, 32 * 512
    # Forward and backward, scores once more in blocks: five products for four backward.
    flops = tokens * (24 * (3 * 24 * h * h + 3.5 * 4 * s * h) + 3 * 2 * h * 1000)
    assert time.products == pytest.approx(flops / 4e14)
    moved = tokens * (24 * (38 + 52) * h + 16 * 1000)
    assert time.memory == pytest.approx(moved / 1e12)
    assert time.update == pytest.approx(SHAPE.parameters * 2 * 16 / 1e12)
    assert time.total == pytest.approx(time.products + time.memory + time.update)


def test_small_products_wait_for_their_weights() -> None:
    """One place: every weight is read for two FLOPs."""
    shape = replace(SHAPE, context=1, places=0)
    time = step(Layout(1), shape).time()
    read = 3 * 2 * (24 * shape.layer_parameters + 1000 * 1024)
    assert time.products == pytest.approx(read / 1e12)


def test_what_is_moved_by_hand() -> None:
    """h bytes: norms 8, sums and dropout 14, activation 16; back 12 + 6 + 10 + 24."""
    layout = Layout(1)
    h, scores = 1024, 16 * 512
    assert moved_bytes(SHAPE, layout, backward=False) == 38 * h
    assert moved_bytes(SHAPE, layout, backward=True) == 52 * h
    kept = replace(layout, flash=False)
    assert moved_bytes(SHAPE, kept, backward=False) == 38 * h + 9 * scores
    assert moved_bytes(SHAPE, kept, backward=True) == 52 * h + 11 * scores
    shared = replace(layout, tensor=4)
    assert moved_bytes(SHAPE, shared, backward=False) == 38 * h / 4
    whole = replace(shared, sequence=False)
    assert moved_bytes(SHAPE, whole, backward=False) == 22 * h + 16 * h / 4


@given(st.sampled_from([2, 4, 8]), st.integers(1, 4), st.integers(1, 3))
def test_tensor_parallel_traffic_is_that_of_narayanan(tensor: int, micro: int, count: int) -> None:
    """Section 3.2: 8 b s h (t - 1) / t numbers a layer and micro-batch, half more recomputed."""
    layout = Layout(tensor, tensor=tensor, micro_batch=micro, batch=micro * count)
    numbers = 24 * count * 8 * micro * 512 * 1024 * (tensor - 1) / tensor
    assert step(layout).traffic().tensor == pytest.approx(2 * numbers)
    again = step(replace(layout, recompute="full")).traffic().tensor
    assert again == pytest.approx(3 * numbers)


@pytest.mark.parametrize(("stage", "numbers"), [(0, 2), (1, 2), (2, 2), (3, 3)])
def test_data_parallel_traffic_is_that_of_zero(stage: int, numbers: int) -> None:
    """Section 7: 2 P, at stage 3 3 P numbers, times (N - 1) / N."""
    layout = Layout(16, data=16, batch=16, stage=stage)
    sent = step(layout).traffic().data
    assert sent == pytest.approx(numbers * SHAPE.parameters * 2 * 15 / 16)


def test_accumulation_multiplies_what_is_sharded() -> None:
    """With four micro-batches stage 2 scatters four times, and stage 3 gathers eight times."""
    whole = SHAPE.parameters * 2 * 15 / 16
    for stage, numbers in ((0, 2), (1, 2), (2, 4 + 1), (3, 4 + 8)):
        layout = Layout(16, data=16, batch=64, stage=stage)
        assert step(layout).traffic().data == pytest.approx(numbers * whole)


@pytest.mark.parametrize(("parts", "count"), [(1, 4), (1, 12), (2, 8), (3, 12), (6, 4)])
def test_the_bubble_is_that_of_a_schedule(parts: int, count: int) -> None:
    shape = replace(SHAPE, vocabulary=1)  # every stage takes as long
    layout = Layout(4, pipeline=4, batch=count, interleave=parts)
    plan = step(layout, shape)
    time = plan.time()
    both = time.products + time.memory + time.pipeline
    run = simulate(4, parts, count, both / count / 3, 2 * both / count / 3)
    assert both + time.bubble == pytest.approx(run.seconds)


def test_stages_send_what_narayanan_counts() -> None:
    """b s h numbers forward and back, by parts as often, of a tensor's cards a share each."""
    layout = Layout(16, tensor=2, pipeline=8, micro_batch=2, batch=16, interleave=3)
    sent = step(layout).traffic().pipeline
    assert sent == 8 * 2 * 3 * 2 * (2 * 512 * 1024) / 2


def test_the_slowest_stage_sets_the_pace() -> None:
    wide = replace(SHAPE, vocabulary=500_000)
    inner = step(Layout(4, pipeline=4, batch=8)).micro_batch()
    last = step(Layout(4, pipeline=4, batch=8), wide).micro_batch()
    assert last.total > 2 * inner.total
    # Where the ends have a layer less, the last has six of seven and the output.
    shape = replace(wide, layers=26)
    layer = 3 * 512 * (shape.layer_map_flops + 7 / 6 * shape.layer_score_flops)
    output = 3 * 512 * shape.output_flops
    uneven = step(Layout(4, pipeline=4, batch=8), shape).micro_batch()
    assert uneven.products == pytest.approx((6 * layer + output) / 4e14)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_traffic_hides_behind_computation(stage: int) -> None:
    layout = Layout(16, data=16, micro_batch=32, batch=16 * 32, stage=stage)
    plan = step(layout)
    traffic = plan.data_traffic()[0]
    hidden = plan.time().data
    assert hidden == pytest.approx(traffic / 24)  # the last layer's
    assert step(replace(layout, overlap=0.0)).time().data == pytest.approx(traffic)
    half = step(replace(layout, overlap=0.5)).time().data
    assert half == pytest.approx(traffic / 2)
    # Beside little computation little is hidden.
    few = step(replace(layout, micro_batch=1, batch=16)).time()
    assert few.data > 0.5 * (few.total - few.update)


LAYOUTS = st.builds(
    Layout,
    gpus=st.just(64), data=st.just(2), tensor=st.just(4), pipeline=st.just(4), context=st.just(2),
    batch=st.sampled_from([8, 16, 64]), stage=st.integers(0, 3), interleave=st.sampled_from([1, 2]),
    micro_batch=st.just(1), recompute=st.sampled_from(["none", "selective", "full"]),
    sequence=st.booleans(), flash=st.booleans(), overlap=st.sampled_from([0.0, 0.5, 1.0]),
).filter(lambda layout: layout.recompute != "selective" or not layout.flash)  # fmt: skip


@given(LAYOUTS)
def test_machines_twice_as_fast_take_half(layout: Layout) -> None:
    """Every second comes from a rate or a latency that is stated."""
    card = replace(CARD, peak=2 * CARD.peak, bandwidth=2 * CARD.bandwidth)
    links = replace(
        LINKS, within=2 * LINKS.within, between=2 * LINKS.between, start=LINKS.start / 2,
        latency_within=LINKS.latency_within / 2, latency_between=LINKS.latency_between / 2,
    )  # fmt: skip
    slow, fast = step(layout).time(), Step(SHAPE, layout, card, links).time()
    for name, seconds in slow.parts.items():
        assert fast.parts[name] == pytest.approx(seconds / 2)
    assert slow.context > 0
    assert slow.pipeline > 0


def test_a_text_shared_among_cards() -> None:
    """Keys and values go round: 2 b s k numbers of a layer, gathered twice, scattered once."""
    layout = Layout(2, context=2, micro_batch=3, batch=3)
    plan = step(layout)
    assert plan.traffic().context == pytest.approx(24 * 3 * (2 * 3 * 512 * 1024 * 2) / 2)
    alone = step(Layout(1, micro_batch=3, batch=3)).time()
    shared = plan.time()
    gather = Group(LINKS, 2).gather(2 * 3 * 512 * 1024 * 2)
    assert shared.context == pytest.approx(24 * 3 * gather)
    assert shared.products == pytest.approx(alone.products / 2)
    assert plan.traffic().data == pytest.approx(2 * SHAPE.parameters * 2 / 2)


def test_tokens_go_to_their_experts_and_back() -> None:
    """Of k places of a token (e - 1) / e leave, out and back, forward and backward."""
    shape = replace(SHAPE, experts=8, active=2)
    layout = Layout(8, data=8, batch=8, expert=8)
    plan = step(layout, shape)
    numbers = 24 * 4 * 2 * 512 * 1024 * 7 / 8
    assert plan.traffic().expert == pytest.approx(2 * numbers)
    exchange = Group(LINKS, 8).all_to_all(2 * 512 * 1024 * 2)
    assert plan.time().expert == pytest.approx(24 * 4 * exchange)
    # Sorted by experts and back, each place of a token read and written.
    more = moved_bytes(shape, layout, backward=False) - moved_bytes(SHAPE, layout, backward=False)
    assert more == 1024 * 2 * (4 * 2 + 8)  # and two activations in place of one
    # Copies that share experts stand behind those that share a text.
    both = Layout(64, data=8, tensor=2, context=4, batch=8, expert=8)
    assert step(both, shape).expert_group.stride == 8
    # The experts' gradients need no sum: no two cards hold the same ones.
    shared = shape.parameters - 24 * shape.expert_parameters
    assert plan.traffic().data == pytest.approx(2 * 2 * shared * 7 / 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gpus": 60}, "is 64 and not --gpus 60$"),
        ({"gpus": 12, "data": 12, "tensor": 1, "pipeline": 1}, "does not fill nodes of 8"),
        ({"pipeline": 7, "gpus": 112}, "24 layers are not divisible by --pipeline-parallel 7: "
         "6 or 8 would do"),
        ({"tensor": 6, "gpus": 96}, "16 heads are not divisible by --tensor-parallel 6: 4 or 8"),
        ({"batch": 30}, "--batch 30 is not divisible by --data-parallel 4 x --micro-batch 1: "
         "28 or 32 is"),
        ({"micro_batch": 3}, "--batch 32 is not divisible by --data-parallel 4 x --micro-batch 3"),
        ({"interleave": 5, "batch": 32}, "6 layers of a stage are not divisible by --interleave"),
        ({"interleave": 3, "batch": 24}, "needs micro-batches that --pipeline-parallel 4 divides"),
        ({"pipeline": 1, "data": 16, "interleave": 2}, "has no effect with --pipeline-parallel 1"),
        ({"context": 3, "gpus": 192}, "512 places of a text are not divisible by --context-par"),
        ({"expert": 2}, "1 experts are not divisible by --expert-parallel 2: 1 would do"),
        ({"stage": 4}, "--zero 4 is no stage: allowed are 0, 1, 2 and 3"),
        ({"recompute": "fully"}, "--recompute 'fully'; did you mean full"),
        ({"recompute": "selective"}, "attention in blocks keeps none: leave it out"),
        ({"overlap": 1.5}, "--overlap 1.5 is no share: give 0 to 1"),
        ({"data": 0}, "--data-parallel is 0: it must be 1 or more"),
        ({"micro_batch": -1}, "--micro-batch is -1: it must be 1 or more"),
    ],
)  # fmt: skip
def test_what_cannot_be_laid_out_is_refused(changes: dict[str, object], message: str) -> None:
    layout = Layout(64, data=4, tensor=4, pipeline=4, batch=32)
    check(layout, SHAPE, 8)
    with pytest.raises(ConfigError, match=message) as raised:
        check(replace(layout, **changes), SHAPE, 8)
    assert "\n" not in str(raised.value)


def test_ends_may_have_a_layer_less() -> None:
    """126 layers in 16 stages: eight each, seven at both ends, as of Llama 3."""
    shape = replace(SHAPE, layers=126)
    layout = Layout(16, pipeline=16, batch=16, interleave=8)
    check(layout, shape, 8)
    assert layout.stage_layers(shape) == 8
    assert not layout.even(shape)
