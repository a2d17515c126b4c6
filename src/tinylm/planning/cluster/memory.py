"""Bytes that a card holds: states by ZeRO's stage, activations with and without recomputation.

**States** (Rajbhandari et al. 2020, "ZeRO", section 3 and figure 1) of P parameters of a stage's
part of a tensor, among N copies, with 2 bytes a parameter and 12 of the optimizer's state:

    stage 0    (2 + g + 12) P              stage 2    2 P + (g + 12) P / N
    stage 1    (2 + g) P + 12 P / N        stage 3    (2 + g + 12) P / N, and two layers whole

with g bytes of a gradient, 2 in that paper and 4 where sums are kept in float32.

**Activations** of a layer, by Korthikanti et al. 2022, "Reducing activation recomputation in large
Transformer models", sections 4 and 5 and table 2: s places, b texts, hidden size h, a heads, t
cards that share a tensor,

    nothing shared                      s b h (34 + 5 a s / h)
    tensor parallel                     s b h (10 + 24 / t + 5 a s / (h t))
    and sequence parallel               s b h / t (34 + 5 a s / h)
    selective recomputation, or flash   the same without 5 a s / h
    full recomputation                  2 s b h, and one layer's while it is computed again

The 34 are counted here by array, so that other widths, gated parts and models without dropout have
their own number. A stage holds the activations of as many micro-batches as are under way: the
first stage of p of them, with v interleaved parts 1 + (p - 1) / (p v) times as many; the last of
one, and the logits.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinylm.planning.cluster.layout import Layout
from tinylm.planning.cluster.shapes import Shape


@dataclass(frozen=True)
class CardBytes:
    """What a card holds, by part."""

    parameters: float
    gradients: float
    optimizer: float
    activations: float
    """Kept for the backward pass."""
    output: float
    """Logits and what is kept beside them, or the embedding's."""
    gathered: float
    """Whole parameters and gradients of the layers that are computed, at stage 3."""

    @property
    def total(self) -> float:
        """All together."""
        return sum(vars(self).values(), start=0.0)


def layer_numbers(shape: Shape, layout: Layout) -> tuple[float, float]:
    """Return what a layer keeps of each place, in bytes: shared over places, and by matrices.

    The first is divided only by sequence parallelism, the second by the tensor's degree too.
    """
    number, mask = layout.number_bytes, int(shape.dropout)
    # Inputs of both norms and of both parts; masks after both parts; what is sent to experts and
    # comes back.
    whole = 4 * shape.hidden * number + 2 * shape.hidden * mask
    if shape.experts > 1:
        whole += 2 * shape.active * shape.hidden * number
    inner = (3 if shape.gated else 2) * shape.ffn * shape.active
    split = (2 * shape.width + 2 * shape.key_width + inner) * number
    return whole, split


def score_bytes(shape: Shape, layout: Layout) -> float:
    """Return what attention keeps of each place where it keeps its pattern, not shared.

    The pattern, and with dropout its mask and what it leaves: 5 a s in bf16.
    """
    number = layout.number_bytes
    return shape.heads * shape.context * (number + shape.dropout * (1 + number))


def layer_bytes(shape: Shape, layout: Layout) -> float:
    """Return what a layer keeps of a micro-batch on a card, or holds when it is computed again."""
    places = layout.micro_batch * shape.context / layout.context
    whole, split = layer_numbers(shape, layout)
    if not layout.flash and layout.recompute != "selective":
        # The places of a card meet all keys.
        split += score_bytes(shape, layout)
    if layout.sequence:
        whole /= layout.tensor
    return places * (whole + split / layout.tensor)


def kept_layer_bytes(shape: Shape, layout: Layout) -> float:
    """Return what stays of a layer until its backward pass."""
    if layout.recompute != "full":
        return layer_bytes(shape, layout)
    places = layout.micro_batch * shape.context / layout.context
    shared = layout.tensor if layout.sequence else 1
    return places * shape.hidden * layout.number_bytes / shared


def in_flight(layout: Layout, last: bool = False) -> float:
    """Return for how many micro-batches the first stage keeps its layers, or the last."""
    stages, parts = layout.pipeline, layout.interleave
    if parts > 1:
        started = (parts - 1) * stages + 1 + (0 if last else 2 * (stages - 1))
        return min(started / parts, layout.micro_batches)
    return 1.0 if last else float(min(stages, layout.micro_batches))


@dataclass(frozen=True)
class Sharded:
    """Parameters of a card that the same number of copies hold."""

    parameters: float
    copies: int
    stride: int
    """How far apart the ranks of the copies are."""


def card_parameters(shape: Shape, layout: Layout) -> tuple[Sharded, Sharded]:
    """Return the parameters of the fullest card: those that all copies have, and experts'.

    With one stage it has all layers and both ends; with more, its layers and the embedding, or the
    output projection, which a tied model has a copy of at the last stage.
    """
    layers, ends = layout.stage_layers(shape), 0
    if layout.pipeline == 1:
        ends = shape.embedding_parameters + shape.output_parameters
    else:
        end = max(shape.embedding_parameters, shape.vocabulary * shape.hidden)
        missing = 0 if layout.even(shape) else shape.layer_parameters
        if layout.pipeline == 2 or end >= missing:
            layers, ends = layers - (missing > 0), end
    tensor, expert = layout.tensor, layout.expert
    shared = layers * shape.shared_parameters + ends
    experts = layers * shape.expert_parameters
    if expert == 1:
        return Sharded((shared + experts) / tensor, layout.copies, tensor), Sharded(0.0, 1, 1)
    return (
        Sharded(shared / tensor, layout.copies, tensor),
        Sharded(experts / tensor / expert, layout.copies // expert, tensor * expert),
    )


def _kept(shape: Shape, layout: Layout, last: bool) -> tuple[float, float]:
    """Return the activations of the first or the last stage, and what stands at its end."""
    waiting = in_flight(layout, last)
    activations = layout.stage_layers(shape) * kept_layer_bytes(shape, layout) * waiting
    if layout.recompute == "full":
        activations += layer_bytes(shape, layout)
    places = layout.micro_batch * shape.context / layout.context
    shared = layout.tensor if layout.sequence else 1
    # A mask of dropout on the embedding; the last norm's and the projection's input, and logits in
    # float32.
    mask = shape.hidden * shape.dropout / shared * waiting
    end = 2 * shape.hidden * layout.number_bytes / shared + 4 * shape.vocabulary / layout.tensor
    output = (0.0 if last and layout.pipeline > 1 else mask) + (end if last else 0.0)
    return activations, places * output


def card_bytes(shape: Shape, layout: Layout) -> CardBytes:
    """Return what the fullest card holds at one time."""
    groups = card_parameters(shape, layout)
    activations, output = max((_kept(shape, layout, last=end) for end in (False, True)), key=sum)
    gathered = 0.0
    if layout.stage >= 3 and layout.copies > 1:
        # One layer computes while the next is fetched; its gradient waits to be scattered.
        whole = (shape.shared_parameters + shape.expert_parameters / layout.expert) / layout.tensor
        gathered = whole * (2 * layout.number_bytes + layout.gradient_bytes)

    def held(size: int, from_stage: int) -> float:
        sharded = layout.stage >= from_stage
        return size * sum(g.parameters / (g.copies if sharded else 1) for g in groups)

    return CardBytes(
        parameters=held(layout.number_bytes, 3),
        gradients=held(layout.gradient_bytes, 2),
        optimizer=held(layout.state_bytes, 1),
        activations=activations,
        output=output,
        gathered=gathered,
    )
