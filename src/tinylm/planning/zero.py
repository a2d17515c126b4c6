"""What ZeRO saves and costs: bytes a rank holds, and numbers it sends, by stage.

Rajbhandari et al. 2020, "ZeRO: memory optimizations toward training trillion parameter models",
sections 3, 5 and 7. P parameters, N ranks, k micro-batches a step; stage 1 cuts the optimizer's
states into N parts, stage 2 also the gradients, stage 3 also the parameters:

    bytes a rank      bfloat16, states in float32     float32 throughout
    stage 0           2 P + 2 P + 12 P                4 P + 4 P + 8 P
    stage 1           2 P + 2 P + 12 P / N            4 P + 4 P + 8 P / N
    stage 2           2 P + 14 P / N                  4 P + 12 P / N
    stage 3           16 P / N                        16 P / N

    numbers sent      2 P, 2 P, (k + 1) P, 3 k P, each times (N - 1) / N

The states of Adam are two moments, and with bfloat16 the parameters in float32, from which those
that are computed with are rounded. Activations are not counted, nor what there is for a while: the
parameters of the layer that stage 3 computes with, and gradients that are about to be summed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tinylm.value_types import Precision

STAGES = (0, 1, 2, 3)
CARDS: dict[int, str] = {
    16: "T4, V100",
    24: "L4, RTX 4090",
    40: "A100",
    80: "A100, H100",
    141: "H200",
}
"""Memory in GB (10^9 bytes), as makers tell it -> cards that have it."""
GIGA = 10**9


@dataclass(frozen=True)
class StateFormat:
    """In how many bytes a parameter's numbers are kept."""

    label: str
    parameter: int
    gradient: int
    states: int
    """Of the optimizer."""


FORMATS: dict[Precision, StateFormat] = {
    "bf16": StateFormat("bfloat16, states and master weights in float32", 2, 2, 12),
    "fp32": StateFormat("float32 throughout", 4, 4, 8),
}


@dataclass(frozen=True)
class StateBytes:
    """What a rank holds, in bytes."""

    parameters: float
    gradients: float
    optimizer: float

    @property
    def total(self) -> float:
        """All together."""
        return self.parameters + self.gradients + self.optimizer


def zero_bytes(
    stage: int, ranks: int, parameters: float, precision: Precision = "bf16", frozen: float = 0
) -> StateBytes:
    """Return what each rank holds between the backward passes of a step and its update.

    Args:
        stage: 0 to 3.
        ranks: N.
        parameters: P, those that are trained.
        precision: a name of ``FORMATS``.
        frozen: parameters that are not trained: they have neither gradient nor states.
    """
    form = FORMATS[precision]
    share = [1 / ranks if stage >= first else 1.0 for first in (3, 2, 1)]
    return StateBytes(
        form.parameter * (parameters + frozen) * share[0],
        form.gradient * parameters * share[1],
        form.states * parameters * share[2],
    )


@dataclass(frozen=True)
class SentNumbers:
    """What a rank sends in a step, in numbers."""

    gradients: float
    """Of all that stage 0 sends, too: the sum of the gradients, brought to every rank."""
    parameters: float

    @property
    def total(self) -> float:
        """Both together."""
        return self.gradients + self.parameters


def zero_numbers(
    stage: int, ranks: int, parameters: float, micro_batches: int = 1, frozen: float = 0
) -> SentNumbers:
    """Return how many numbers each rank sends in a step, by the ring's collectives.

    An all-reduce is a reduce-scatter and an all-gather, each ``(N - 1) / N`` of the whole. Stage 2
    sums the gradients of every micro-batch, because no rank keeps them whole, and stage 3 gathers
    the parameters for every forward and for every backward pass besides.

    Args:
        stage: 0 to 3.
        ranks: N.
        parameters: P, those that are trained.
        micro_batches: k.
        frozen: parameters that are not trained: stage 3 gathers them, too.
    """
    of_gradients = {0: 2, 1: 1, 2: micro_batches, 3: micro_batches}[stage] * parameters
    of_parameters = {
        0: 0.0,
        1: parameters,
        2: parameters,
        3: 2 * micro_batches * (parameters + frozen),
    }[stage]
    share = (ranks - 1) / ranks
    return SentNumbers(of_gradients * share, of_parameters * share)


def fewest_ranks(
    stage: int, capacity: float, parameters: float, precision: Precision = "bf16", frozen: float = 0
) -> int | None:
    """Return over how many ranks the states must be shared out to fit; None: over no number.

    Args:
        stage: 0 to 3.
        capacity: bytes of each rank.
        parameters: those that are trained.
        precision: a name of ``FORMATS``.
        frozen: parameters that are not trained.
    """
    whole = zero_bytes(stage, 1, parameters, precision, frozen).total
    if whole <= capacity:
        return 1
    # Bytes are a + b / N: b is what a second rank halves.
    shared = 2 * (whole - zero_bytes(stage, 2, parameters, precision, frozen).total)
    left = capacity - (whole - shared)
    return math.ceil(shared / left) if shared > 0 and left > 0 else None
