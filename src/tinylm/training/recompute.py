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
from dataclasses import dataclass
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
            x = recompute(whole[start : start + segment], x, reading, run_segment)
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
        reading: given to every layer. Gradients reach the parameters of its encoding, and no
            tensor of it.
        run_segment: how the layers are run.

    Returns:
        (batch, seq, hidden), the same numbers as ``in_turn``.

    Raises:
        TrainingError: if a segment is run inside another, or ``reading`` has a cache, active
            hooks, or a memory that needs a gradient.
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
    if reading.memory is not None and reading.memory.requires_grad:
        raise TrainingError(
            "gradient checkpointing: only the residual stream and parameters get gradients; "
            "detach the memory"
        )
    modules = [*layers, reading.encoding]
    parameters = list(dict.fromkeys(p for module in modules for p in module.parameters()))
    if not (torch.is_grad_enabled() and any(t.requires_grad for t in (x, *parameters))):
        return run_segment(layers, x, reading)

    def run(inside: Tensor) -> Tensor:
        _inside.segment = True
        try:
            return run_segment(layers, inside, reading)
        finally:
            _inside.segment = False

    # Parameters are inputs of the function, so that autograd knows that it leads to them even
    # where x needs no gradient, and that a frozen one needs none.
    result: Tensor = apply(_Segment, run, x, *parameters)
    return result


class _Segment(torch.autograd.Function):
    """The segment as one operation: autograd keeps its input and parameters, nothing inside."""

    @staticmethod
    def forward(
        ctx: Any, run: Callable[[Tensor], Tensor], x: Tensor, *parameters: Tensor
    ) -> Tensor:
        ctx.run = run
        ctx.surroundings = _Surroundings.now(x.device)
        # Saving parameters takes no memory, and autograd then refuses a change before the backward
        # pass.
        ctx.save_for_backward(x, *parameters)
        # Autograd is off here: the copy of a weight that autocast cast and cached would have no
        # graph, and later uses of it would give the weight no gradient.
        with ctx.surroundings.autocast():
            return run(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        needed = ctx.needs_input_grad[1:]
        inside = x.detach().requires_grad_(needed[0])
        surroundings: _Surroundings = ctx.surroundings
        with torch.enable_grad(), surroundings.random_state(), surroundings.autocast():
            y = ctx.run(inside)
        tensors = (inside, *parameters)
        wanted = [tensor for tensor, need in zip(tensors, needed, strict=True) if need]
        # A parameter may have no part in the result (None), as without recomputation.
        gradients = iter(torch.autograd.grad(y, wanted, gradient, allow_unused=True))
        return (None, *(next(gradients) if need else None for need in needed))


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
