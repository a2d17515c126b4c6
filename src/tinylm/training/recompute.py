"""Gradient checkpointing: keep a segment's input only, and compute its inside again when needed.

Chen et al. 2016, "Training deep nets with sublinear memory cost", section 4: the layers are cut
into segments. The forward pass keeps the input of each; the backward pass takes the segments from
the last to the first, runs each once more from its input with the graph recorded, and propagates
the gradient through it. Kept at once: ``L / k`` inputs and the inside of one segment of k layers,
instead of the inside of all L. The price is a second forward pass, about a third more time.

The second run must be the same as the first, so it gets the random states (CPU and device) and the
autocast settings of the first, after which the outer random states are put back. Gradients then
are the same bits as without recomputation.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tinylm.errors import TrainingError
from tinylm.fast.autograd import apply
from tinylm.model.base import LayerRunner
from tinylm.model.decoder import in_turn
from tinylm.model.reading import Reading

_inside = threading.local()


def recomputing(segment: int, run_segment: LayerRunner = in_turn) -> LayerRunner:
    """Return a way to run the layers that keeps the input of every ``segment`` layers only.

    It is a model's ``layer_runner``. Where no gradient is recorded it runs the layers plainly.

    Args:
        segment: layers of which the input is kept.
        run_segment: how the layers of a segment are run.

    Raises:
        TrainingError: from the forward pass, if it is nested, or called with a cache or with hooks
            (both would see every activation twice).
    """

    def run(layers: Iterable[nn.Module], x: Tensor, reading: Reading) -> Tensor:
        whole = list(layers)
        for start in range(0, len(whole), segment):
            part = whole[start : start + segment]
            x, reading = _recomputed(part, x, reading, run_segment)
        return x

    return run


def recompute(
    layers: Sequence[nn.Module],
    x: Tensor,
    reading: Reading,
    run_segment: LayerRunner = in_turn,
) -> Tensor:
    """Run ``x`` through the layers as one segment.

    Args:
        layers: each is called as ``layer(x, reading)``.
        x: (batch, seq, hidden); it may need no gradient.
        reading: given to every layer. Gradients reach the parameters of its encoding and its
            memory, and no other tensor of it.
        run_segment: how the layers are run.

    Returns:
        (batch, seq, hidden), the same numbers as ``in_turn``.

    Raises:
        TrainingError: if a segment is run inside another, or ``reading`` has a cache or active
            hooks.
    """
    return _recomputed(layers, x, reading, run_segment)[0]


def _recomputed(
    layers: Sequence[nn.Module], x: Tensor, reading: Reading, run_segment: LayerRunner
) -> tuple[Tensor, Reading]:
    """Return what ``recompute`` does, and the reading for the next segment.

    A memory goes through the segments, one after the other, so that its gradient is added up from
    the last layer to the first, as without segments: sums in another order have other bits.
    """
    if getattr(_inside, "segment", False):
        raise TrainingError(
            "gradient checkpointing inside a checkpointed segment: its layers would be computed "
            "three times; set training.gradient_checkpointing in one place only"
        )
    if reading.cache is not None or reading.carried is not None or reading.hooks.active:
        kind = "a cache" if reading.cache is not None else "hooks"
        kind = kind if reading.carried is None else "a state that is carried on"
        raise TrainingError(
            f"gradient checkpointing with {kind}: a recomputed layer would write to them "
            "twice; run the model without layer_runner = recomputing(…)"
        )
    modules = [*layers, reading.encoding]
    parameters = list(dict.fromkeys(p for module in modules for p in module.parameters()))
    memory = reading.memory
    inputs = (x,) if memory is None else (x, memory)
    if not (torch.is_grad_enabled() and any(t.requires_grad for t in (*inputs, *parameters))):
        return run_segment(layers, x, reading), reading

    def run(inside: Tensor, *remembered: Tensor) -> tuple[Tensor, ...]:
        _inside.segment = True
        try:
            own = replace(reading, memory=remembered[0]) if remembered else reading
            made = run_segment(layers, inside, own)
            return (made, *(each.view_as(each) for each in remembered))
        finally:
            _inside.segment = False

    # Parameters are inputs of the function, so that autograd knows that it leads to them even
    # where x needs no gradient, and that a frozen one needs none.
    made: tuple[Tensor, ...] = apply(_Segment, run, len(inputs), *inputs, *parameters)
    return made[0], replace(reading, memory=made[1]) if made[1:] else reading


class _Segment(torch.autograd.Function):
    """The segment as one operation: autograd keeps its inputs and parameters, nothing inside."""

    @staticmethod
    def forward(
        ctx: Any, run: Callable[..., tuple[Tensor, ...]], num_inputs: int, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.run = run
        ctx.num_inputs = num_inputs
        ctx.surroundings = _Surroundings.now(tensors[0].device)
        # Saving parameters takes no memory, and autograd then refuses a change before the backward
        # pass.
        ctx.save_for_backward(*tensors)
        # Autograd is off here: the copy of a weight that autocast cast and cached would have no
        # graph, and later uses of it would give the weight no gradient.
        with ctx.surroundings.autocast():
            return run(*tensors[:num_inputs])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        saved, count = ctx.saved_tensors, ctx.num_inputs
        needed = ctx.needs_input_grad[2:]
        inside = [
            x.detach().requires_grad_(need)
            for x, need in zip(saved[:count], needed[:count], strict=True)
        ]
        surroundings: _Surroundings = ctx.surroundings
        with torch.enable_grad(), surroundings.random_state(), surroundings.autocast():
            made = ctx.run(*inside)
        outputs = [pair for pair in zip(made, gradients, strict=True) if pair[0].requires_grad]
        tensors = (*inside, *saved[count:])
        wanted = [tensor for tensor, need in zip(tensors, needed, strict=True) if need]
        # A parameter may have no part in the result (None), as without recomputation.
        to_all = torch.autograd.grad(
            [y for y, _ in outputs], wanted, [to_y for _, to_y in outputs], allow_unused=True
        )
        left = iter(to_all)
        return (None, None, *(next(left) if need else None for need in needed))


@dataclass(frozen=True)
class _Surroundings:
    """What a forward pass depends on besides its inputs."""

    device: torch.device
    cpu_state: Tensor
    device_state: Tensor | None
    autocast_settings: tuple[tuple[str, torch.dtype, bool], ...]
    """Device type, number format and whether it is on, for the CPU and the device."""

    @classmethod
    def now(cls, device: torch.device) -> _Surroundings:
        return cls(
            device,
            torch.get_rng_state(),
            torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            tuple(
                (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))
                for kind in sorted({"cpu", device.type})
            ),
        )

    @contextmanager
    def random_state(self) -> Iterator[None]:
        """Use the recorded random states inside the block; put the present ones back after it."""
        now = _Surroundings.now(self.device)
        self._set_random_state()
        try:
            yield
        finally:
            now._set_random_state()

    def _set_random_state(self) -> None:
        torch.set_rng_state(self.cpu_state)
        if self.device_state is not None:
            torch.cuda.set_rng_state(self.device_state, self.device)

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Use the recorded autocast settings inside the block, without caching casts."""
        with ExitStack() as stack:
            for kind, dtype, enabled in self.autocast_settings:
                stack.enter_context(
                    torch.autocast(kind, dtype=dtype, enabled=enabled, cache_enabled=False)
                )
            yield
