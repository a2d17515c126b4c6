"""What a card holds, held to the papers' formulas and to what torch keeps of such a layer."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from tests.planning.cluster.schedules import simulate
from tinylm.planning.cluster.layout import Layout
from tinylm.planning.cluster.memory import card_bytes, card_parameters, in_flight, layer_bytes
from tinylm.planning.cluster.shapes import Shape

GPT3 = Shape.gpt(96, 12_288, 96, 2048, 51_200)
MT_NLG = Shape.gpt(105, 20_480, 128, 2048, 51_200)


@given(
    st.sampled_from([1, 2, 4, 8]), st.integers(1, 8), st.integers(1, 4096), st.integers(1, 8),
    st.integers(1, 4),
)  # fmt: skip
def test_the_table_of_korthikanti(t: int, heads: int, s: int, b: int, width: int) -> None:
    """Table 2: bytes of a layer's activations."""
    a = t * heads
    h = 8 * a * width
    shape = Shape.gpt(8, h, a, s, 100)
    base = Layout(t, tensor=t, micro_batch=b, batch=b, sequence=False, flash=False)
    sbh = s * b * h
    scores = 5 * a * s / h

    def size(**changes: object) -> float:
        return layer_bytes(shape, replace(base, **changes))

    assert size() == pytest.approx(sbh * (10 + 24 / t + scores / t))
    assert size(sequence=True) == pytest.approx(sbh / t * (34 + scores))
    assert size(recompute="selective") == pytest.approx(sbh * (10 + 24 / t))
    assert size(sequence=True, recompute="selective") == pytest.approx(sbh * 34 / t)
    assert size(sequence=True, flash=True) == pytest.approx(sbh * 34 / t)
    assert size(recompute="full") == size()  # while it is computed again
    whole = card_bytes(shape, replace(base, recompute="full"))
    assert whole.activations == pytest.approx(8 * 2 * sbh + size(recompute="full"))


def test_the_savings_that_the_paper_tells() -> None:
    """Section 5: 5 a s / h is 80 and 64, so that 70 % and 65 % of the activations go."""
    for shape, scores, saved in ((GPT3, 80, 0.70), (MT_NLG, 64, 0.65)):
        assert 5 * shape.heads * shape.context / shape.hidden == scores
        layout = Layout(8, tensor=8, flash=False)
        less = layer_bytes(shape, replace(layout, recompute="selective"))
        assert 1 - less / layer_bytes(shape, layout) == pytest.approx(saved, abs=0.005)


class Layer(nn.Module):
    """A layer of GPT as the paper counts it, in bf16: masks of one byte, nothing fused."""

    def __init__(self, hidden: int, heads: int, ffn: int, gated: bool, drop: bool) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(2))
        self.qkv, self.out = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.up, self.down = nn.Linear(hidden, ffn), nn.Linear(ffn, hidden)
        self.gate = nn.Linear(hidden, ffn) if gated else None
        self.heads, self.drop = heads, drop

    def dropped(self, x: Tensor) -> Tensor:
        return torch.native_dropout(x, 0.1, True)[0] if self.drop else x

    def forward(self, x: Tensor) -> Tensor:
        rows, seq, hidden = x.shape
        query, key, value = (
            part.view(rows, seq, self.heads, -1).transpose(1, 2).contiguous()
            for part in self.qkv(self.norms[0](x)).chunk(3, -1)
        )
        pattern = self.dropped((query @ key.mT).softmax(-1))
        mixed = (pattern @ value).transpose(1, 2).reshape(rows, seq, hidden)
        x = x + self.dropped(self.out(mixed))
        y = self.norms[1](x)
        inner = F.gelu(self.up(y)) if self.gate is None else F.silu(self.gate(y)) * self.up(y)
        return x + self.dropped(self.down(inner))


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("drop", [False, True])
def test_torch_keeps_as_much(gated: bool, drop: bool) -> None:
    """Saved tensors of a layer in bf16, each storage once; a norm's two numbers a place aside.

    Of a gate torch keeps the activated numbers too, which a fused kernel computes again.
    """
    b, s, a, h, f = 2, 24, 4, 32, 96
    torch.manual_seed(0)
    layer = Layer(h, a, f, gated, drop).to(torch.bfloat16)
    parameters = {p.untyped_storage().data_ptr() for p in layer.parameters()}
    kept: dict[int, tuple[Tensor, int]] = {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in parameters and x.numel() > b * s:
            kept[storage.data_ptr()] = (x, storage.nbytes())
        return x

    x = torch.randn(b, s, h, dtype=torch.bfloat16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        layer(x)
    counted = sum(size for _, size in kept.values())
    if gated:
        counted -= b * s * f * 2
    shape = Shape(1, h, a, s, 9, a, h // a, f, gated=gated, dropout=drop)
    planned = layer_bytes(shape, Layout(1, micro_batch=b, flash=False))
    assert counted == planned


def test_the_states_that_the_paper_of_zero_tells() -> None:
    """Figure 1: 7.5 billion parameters over 64 cards, 2, 2 and 12 bytes each."""
    shape = Shape.gpt(36, 4096, 32, 2048, 51_200)
    scale = 7.5e9 / shape.parameters
    for stage, told in ((0, 120.0), (1, 31.4), (2, 16.6), (3, 1.9)):
        held = card_bytes(shape, Layout(64, data=64, batch=64, stage=stage))
        states = held.parameters + held.gradients + held.optimizer
        assert scale * states / 1e9 == pytest.approx(told, abs=0.05)
        assert (held.gathered > 0) == (stage == 3)


@pytest.mark.parametrize(
    ("stages", "parts", "count"), [(1, 1, 3), (4, 1, 8), (4, 1, 3), (4, 2, 8), (4, 3, 12)]
)
def test_as_many_micro_batches_are_kept_as_in_a_schedule(
    stages: int, parts: int, count: int
) -> None:
    layout = Layout(stages, pipeline=stages, batch=count, interleave=parts)
    run = simulate(stages, parts, count, 1.0, 2.0)
    assert in_flight(layout) == pytest.approx(run.kept[0] / parts)
    assert in_flight(layout, last=True) == pytest.approx(run.kept[-1] / parts)


def test_the_fullest_stage_counts() -> None:
    """The first with its waiting micro-batches, or the last with its logits, whatever is more."""
    shape = Shape.gpt(8, 128, 4, 64, 1000)
    layout = Layout(4, pipeline=4, batch=8)
    first = card_bytes(shape, layout)
    assert first.activations == 4 * 2 * layer_bytes(shape, layout)
    assert first.output == 4 * 64 * 128  # masks on the embedding
    last = card_bytes(replace(shape, vocabulary=10**6), layout)
    assert last.activations == 2 * layer_bytes(shape, layout)
    assert last.output == 64 * (2 * 128 * 2 + 4 * 10**6)
    alone = card_bytes(shape, Layout(1))
    assert alone.output == 64 * (128 + 2 * 128 * 2 + 4 * 1000)


def test_every_parameter_is_on_some_card() -> None:
    """Over stages and tensors; the two ends may have a layer less."""
    shape = Shape.gpt(24, 256, 8, 64, 1000)
    whole, none = card_parameters(shape, Layout(4, data=4, batch=4))
    assert (whole.parameters, whole.copies, none.parameters) == (shape.parameters, 4, 0)
    part, _ = card_parameters(shape, Layout(8, tensor=8))
    assert part.parameters == shape.parameters / 8
    first, _ = card_parameters(shape, Layout(4, pipeline=4))
    assert first.parameters == 6 * shape.layer_parameters + shape.embedding_parameters
    two, _ = card_parameters(replace(shape, layers=26), Layout(4, pipeline=4))
    assert two.parameters == 7 * shape.layer_parameters
    many, _ = card_parameters(replace(shape, layers=26, vocabulary=10**5), Layout(4, pipeline=4))
    assert many.parameters == 6 * shape.layer_parameters + (10**5 + 64) * 256


def test_experts_are_shared_among_copies() -> None:
    shape = replace(Shape.gpt(4, 64, 4, 32, 100), experts=8, active=2)
    layout = Layout(8, data=8, batch=8, expert=4, stage=1)
    shared, experts = card_parameters(shape, layout)
    assert (shared.copies, experts.copies, experts.stride) == (8, 2, 4)
    assert experts.parameters == 4 * shape.expert_parameters / 4
    assert shared.parameters + 4 * experts.parameters == shape.parameters
    held = card_bytes(shape, layout)
    assert held.optimizer == 12 * (shared.parameters / 8 + experts.parameters / 2)
    assert held.parameters == 2 * (shared.parameters + experts.parameters)
