"""Attribution patching: the gradient's estimate of every activation patch at once.

To first order, putting activation a' in place of a changes what is measured by its gradient at a
times a' - a. One forward pass of each prompt and one backward pass give that for every activation,
head and position, where ``patching.sweep`` runs the model once for each (Nanda 2023, "Attribution
Patching: Activation Patching At Industrial Scale"; Syed, Rager and Conmy 2024; Kramár et al. 2024,
"AtP*"). It misses what is not linear: a softmax that is saturated, a norm whose scale changes.
``agreement`` measures how much of the real patches it gets right.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tinylm.interpretability.gradients import activation_gradients
from tinylm.interpretability.pair_runs import Direction, PairRuns, effect
from tinylm.interpretability.patching import matching

LEAST_EFFECT = 0.01
"""Real effect, as a share of the way from one run to the other, from which signs are compared: the
sign of less is that of rounding."""


def attributions(
    runs: PairRuns, direction: Direction, patterns: str | Iterable[str] = "*", by_head: bool = True
) -> dict[str, Tensor]:
    """Estimate what patching each activation at each head and position would give.

    Args:
        runs: of the pair.
        direction: what is patched into what.
        patterns: names of activations, or patterns with ``*``.
        by_head: each head alone, where there are heads; else all of them together.

    Returns:
        Name -> normalised logit differences as ``patching.sweep`` gives them, (heads, positions) or
        (positions,), in float64.

    Raises:
        ConfigError: if a pattern matches no activation.
    """
    base, source = runs.base_and_source(direction)
    names = matching(base.model.activation_shapes(1, 1), patterns)
    start = 0.0 if direction == "denoising" else 1.0
    estimates = {}
    derived = activation_gradients(base.model, base.ids, names, runs.logit_difference)
    for name, (activation, gradient) in derived.items():
        change = gradient.double() * (source[name].double() - activation.double())
        summed = change[0].sum(-1)  # (heads, positions) or (positions,)
        if summed.dim() == 2 and not by_head:
            summed = summed.sum(0)
        estimates[name] = start + summed / runs.scale
    return estimates


@dataclass(frozen=True)
class Agreement:
    """How far estimated effects agree with the real ones."""

    correlation: float
    """Pearson's; NaN where one side does not vary."""
    same_sign: float
    """Share of the sites with an effect of ``LEAST_EFFECT`` or more whose sign is estimated right;
    NaN without such a site."""
    sites: int
    """How many are compared."""


def agreement(
    estimates: Mapping[str, Tensor], patches: Mapping[str, Tensor], direction: Direction
) -> Agreement:
    """Compare estimates with real patches, over all sites where either has an effect.

    Args:
        estimates: of ``attributions``.
        patches: of ``patching.sweep``, with the same names and shapes.
        direction: of both.
    """
    estimated, real = (
        effect(torch.cat([values[name].reshape(-1) for name in patches]), direction)
        for values in (estimates, patches)
    )
    compared = (estimated != 0) | (real != 0)
    estimated, real = estimated[compared], real[compared]
    clear = real.abs() >= LEAST_EFFECT
    same = (estimated.sign() == real.sign())[clear].double().mean()
    return Agreement(_correlation(estimated, real), float(same), len(real))


def _correlation(first: Tensor, second: Tensor) -> float:
    if len(first) < 2:
        return math.nan
    first, second = first - first.mean(), second - second.mean()
    size = float(first.norm() * second.norm())
    return float(first @ second) / size if size else math.nan
