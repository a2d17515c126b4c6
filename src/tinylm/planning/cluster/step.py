"""The time of a training step on a cluster, by part, and the bytes that a card sends.

A card computes a micro-batch's forward and backward pass through its layers in

    products       FLOPs / (peak x attainable share): maps, scores and output, twice as many
                   backward, once more what is recomputed
    memory         bytes of what is no product (``moved.py``) / the memory's rate
    tensor         two all-reduces of s b h numbers a layer forward, two backward and two where the
                   layer is recomputed (Shoeybi et al. 2019, section 3); sequence parallelism makes
                   each a reduce-scatter and an all-gather of the same bytes
    context        all-gathers of keys and values forward and backward, and a reduce-scatter of
                   their gradients (Llama 3, section 3.3.2)
    expert         all-to-alls that send tokens to their experts and back, two forward and two
                   backward (Lepikhin et al. 2020, "GShard", section 3)
    pipeline       what is sent to the next stage and back, for each part of interleaved layers

An optimizer step takes m micro-batches at the pace of the slowest stage, and

    bubble         (p - 1) / v micro-batches of waiting (Narayanan et al. 2021, section 2.2)
    data           what of the gradients' and parameters' traffic does not run beside computation
    update         reading and writing the states once

**Data-parallel traffic** of a card's P parameters (Rajbhandari et al. 2020, section 7): stages 0 to
2 move 2 P numbers a step, as an all-reduce or as reduce-scatter and all-gather, stage 2 its
reduce-scatter for each micro-batch; stage 3 gathers parameters for each forward and each backward
pass. It runs layer by layer, beside the backward pass of the last micro-batch, at stage 3 beside
all computation, at stage 2 beside all backward passes. A layer's share, the gradient that is made
last or the parameters that are needed first, never does. Experts are summed over the copies that
hold the same ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from tinylm.planning.cluster.cards import Card, Links
from tinylm.planning.cluster.collectives import Group, send
from tinylm.planning.cluster.layout import Layout
from tinylm.planning.cluster.memory import Sharded, card_parameters
from tinylm.planning.cluster.moved import moved_bytes, score_bytes
from tinylm.planning.cluster.shapes import Shape

_UPDATE_PASSES = 2  # states, gradients and parameters are read and written


@dataclass(frozen=True)
class StepTime:
    """Seconds of an optimizer step, by part; together they are the step."""

    products: float
    memory: float
    """What is no product, bound by the card's memory."""
    tensor: float
    """Collectives of cards that share a tensor."""
    context: float
    """Collectives of cards that share the places of a text."""
    expert: float
    """Sending tokens to experts and back."""
    pipeline: float
    """Sending between stages."""
    bubble: float
    """Waiting for the pipeline to fill and to run empty."""
    data: float
    """Traffic of gradients and parameters that nothing hides."""
    update: float
    """The optimizer."""

    @property
    def total(self) -> float:
        """The step."""
        return sum(self.parts.values())

    @property
    def parts(self) -> dict[str, float]:
        """Seconds by name."""
        return {part.name: getattr(self, part.name) for part in fields(self)}


@dataclass(frozen=True)
class Traffic:
    """Bytes that a card sends in an optimizer step, by kind."""

    tensor: float
    context: float
    expert: float
    pipeline: float
    data: float

    @property
    def parts(self) -> dict[str, float]:
        """Bytes by name."""
        return {part.name: getattr(self, part.name) for part in fields(self)}


@dataclass(frozen=True)
class Pass:
    """A micro-batch's pass through some layers, in seconds."""

    products: float
    memory: float
    tensor: float = 0.0
    context: float = 0.0
    expert: float = 0.0

    @property
    def total(self) -> float:
        """All together."""
        return sum(vars(self).values(), start=0.0)

    def __add__(self, other: Pass) -> Pass:
        mine, its = vars(self), vars(other)
        return Pass(**{name: mine[name] + its[name] for name in mine})

    def times(self, factor: float) -> Pass:
        """Return so many of them."""
        return Pass(**{name: factor * value for name, value in vars(self).items()})


class Step:
    """A layout of a shape on cards: times and bytes of its training step."""

    def __init__(self, shape: Shape, layout: Layout, card: Card, links: Links) -> None:
        self.shape, self.layout, self.card, self.links = shape, layout, card, links
        tensor, context = layout.tensor, layout.context
        self.tensor_group = Group(links, tensor)
        self.context_group = Group(links, context, stride=tensor)
        self.expert_group = Group(links, layout.expert, stride=tensor * context)
        self.places = layout.micro_batch * shape.context / context
        """Places of a micro-batch on a card."""

    # --- a micro-batch through a layer ---

    def _product(self, flops: float, weights: float) -> float:
        """Return the seconds of products, or of reading their weights where that takes longer."""
        reading = weights * self.layout.number_bytes / self.card.memory_rate
        return max(flops / self.card.rate, reading)

    def _moved(self, size: float) -> float:
        """Return the seconds in which the card's places move so many bytes each."""
        return self.places * size / self.card.memory_rate

    def _layer_forward(self) -> Pass:
        shape, layout = self.shape, self.layout
        layer = shape.layer_map_flops + shape.layer_score_flops
        flops = layer * self.places / layout.tensor
        return Pass(
            self._product(flops, self._weights),
            self._moved(moved_bytes(shape, layout, backward=False)),
            2 * self.tensor_group.all_reduce(self._stream),
            self.context_group.gather(self._keys),
            2 * self.expert_group.all_to_all(self._routed),
        )

    def _layer_backward(self) -> Pass:
        shape, layout = self.shape, self.layout
        # Blocks compute their scores again: five products in place of four.
        scores = shape.layer_score_flops * (1.25 if layout.flash else 1)
        flops = 2 * self.places * (shape.layer_map_flops + scores) / layout.tensor
        backward = Pass(
            self._product(flops, 2 * self._weights),
            self._moved(moved_bytes(shape, layout, backward=True)),
            2 * self.tensor_group.all_reduce(self._stream),
            2 * self.context_group.gather(self._keys),
            2 * self.expert_group.all_to_all(self._routed),
        )
        if layout.recompute == "full":
            return backward + self._layer_forward()
        if layout.recompute == "selective" and not layout.flash:
            flops = self.places * shape.layer_score_flops / layout.tensor
            moved = score_bytes(shape, layout, backward=False) / layout.tensor
            return backward + Pass(self._product(flops, 0), self._moved(moved))
        return backward

    def _output(self) -> Pass:
        """Return the forward and backward pass of the output projection and the loss."""
        shape, layout = self.shape, self.layout
        flops = 3 * self.places * shape.output_flops / layout.tensor
        weights = 3 * shape.vocabulary * shape.hidden / layout.tensor
        # Logits are written and read, and their gradient, in float32.
        return Pass(
            self._product(flops, weights), self._moved(4 * 4 * shape.vocabulary / layout.tensor)
        )

    @property
    def _weights(self) -> float:
        """Parameters of a layer on a card, which its products read."""
        shape, layout = self.shape, self.layout
        experts = shape.expert_parameters / layout.expert
        return (shape.shared_parameters + experts) / layout.tensor

    @property
    def _routed(self) -> float:
        """Bytes of a micro-batch's tokens, once for each of their experts, as a card sends them."""
        shared = self.layout.tensor if self.layout.sequence else 1
        return self.shape.active * self._stream / shared

    @property
    def _stream(self) -> float:
        """Bytes of a micro-batch's residual stream on a card that has it whole."""
        return self.places * self.shape.hidden * self.layout.number_bytes

    @property
    def _keys(self) -> float:
        """Bytes of a micro-batch's keys and values of a layer, all places together."""
        places = self.layout.micro_batch * self.shape.context
        width = 2 * self.shape.key_width / self.layout.tensor
        return places * width * self.layout.number_bytes

    # --- a step ---

    @property
    def _layers(self) -> int:
        return self.layout.stage_layers(self.shape)

    def micro_batch(self) -> Pass:
        """Return a micro-batch's passes through the slowest stage."""
        layer = self._layer_forward() + self._layer_backward()
        if self.layout.pipeline == 1:
            return layer.times(self._layers) + self._output()
        at_end = self._layers - (not self.layout.even(self.shape))
        inner, last = layer.times(self._layers), layer.times(at_end) + self._output()
        return max(inner, last, key=lambda stage: stage.total)

    def _sent(self) -> float:
        """Return the bytes that a stage sends of a micro-batch, forward and back."""
        layout = self.layout
        if layout.pipeline == 1:
            return 0.0
        # Cards that share a tensor send a part each (Narayanan et al. 2021, section 4.1).
        return 2 * layout.interleave * self._stream / layout.tensor

    def _sending(self) -> float:
        layout = self.layout
        if layout.pipeline == 1:
            return 0.0
        times = 2 * layout.interleave
        stride = layout.tensor * layout.copies
        return times * send(self.links, self._sent() / times, stride)

    def data_traffic(self) -> tuple[float, float]:
        """Return the seconds and the bytes of gradients and parameters in a step."""
        parts = [self._traffic_of(each) for each in card_parameters(self.shape, self.layout)]
        return sum(seconds for seconds, _ in parts), sum(size for _, size in parts)

    def _traffic_of(self, sharded: Sharded) -> tuple[float, float]:
        layout = self.layout
        group = Group(self.links, sharded.copies, sharded.stride)
        gradients = sharded.parameters * layout.gradient_bytes
        weights = sharded.parameters * layout.number_bytes
        if group.members == 1:
            return 0.0, 0.0
        if layout.stage == 0:
            seconds = self._by_layer(group.all_reduce, gradients)
            return seconds, group.all_reduce_bytes(gradients)
        scatters = layout.micro_batches if layout.stage >= 2 else 1
        gathers = 2 * layout.micro_batches if layout.stage == 3 else 1
        seconds = scatters * self._by_layer(group.gather, gradients)
        seconds += gathers * self._by_layer(group.gather, weights)
        return seconds, group.gather_bytes(scatters * gradients + gathers * weights)

    def _by_layer(self, collective: Callable[[float], float], size: float) -> float:
        return self._layers * collective(size / self._layers)

    def _exposed(self, traffic: float) -> float:
        """Return what of the data-parallel traffic nothing hides."""
        layout = self.layout
        backward = self._layer_backward().total * self._layers
        passes, times = backward, 1
        if layout.stage >= 2:
            times = layout.micro_batches
            passes *= times
        if layout.stage == 3:
            passes += self._layer_forward().total * self._layers * times
        last = traffic / (self._layers * times)
        hidden = min(layout.overlap * traffic, passes, traffic - last)
        return traffic - hidden

    def _update(self) -> float:
        layout = self.layout
        size = layout.number_bytes + layout.gradient_bytes + layout.state_bytes
        groups = card_parameters(self.shape, layout)
        parameters = sum(g.parameters / (g.copies if layout.stage else 1) for g in groups)
        return _UPDATE_PASSES * parameters * size / self.card.memory_rate

    def time(self) -> StepTime:
        """Return the time of an optimizer step."""
        layout = self.layout
        count = layout.micro_batches
        passes, sending = self.micro_batch(), self._sending()
        waiting = (layout.pipeline - 1) / layout.interleave
        return StepTime(
            products=count * passes.products,
            memory=count * passes.memory,
            tensor=count * passes.tensor,
            context=count * passes.context,
            expert=count * passes.expert,
            pipeline=count * sending,
            bubble=waiting * (passes.total + sending),
            data=self._exposed(self.data_traffic()[0]),
            update=self._update(),
        )

    def traffic(self) -> Traffic:
        """Return the bytes that a card of an inner stage sends in an optimizer step."""
        layout = self.layout
        passes = layout.micro_batches * self._layers
        reduces = 6 if layout.recompute == "full" else 4
        gathers = 4 if layout.recompute == "full" else 3
        return Traffic(
            tensor=passes * reduces * self.tensor_group.all_reduce_bytes(self._stream),
            context=passes * gathers * self.context_group.gather_bytes(self._keys),
            expert=passes * reduces * self.expert_group.gather_bytes(self._routed),
            pipeline=layout.micro_batches * self._sent(),
            data=self.data_traffic()[1],
        )
