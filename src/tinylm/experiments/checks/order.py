"""The order of the tokens: without positions and mask it must not matter, with positions it must.

Attention compares every token with every other, whatever its place. Without positions and causal
mask a text in another order therefore gives the same residual stream in that other order (Vaswani
et al. 2017, section 3.5; ``docs/theory.md`` derives it): a mask left on, a key read from another
row or a place that is counted shows at once. With the run's own positions the two must differ; if
they do not, the encoding has no effect.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tinylm.experiments.checks import Finding, Subject
from tinylm.experiments.checks.material import (
    device_of,
    in_float64,
    ragged_stories,
    relative,
    seeded,
    without_rounded_inputs,
    worst,
)
from tinylm.model.decoder import DecoderLM
from tinylm.model.positions import Positions

_TEXTS, _LONGEST = 3, 32
_SEEN = 1e-6
"""What order must change with positions, as a share of the largest number: far above rounding."""


def run(subject: Subject) -> Finding | None:
    """Compare the residual stream of shuffled texts with the shuffled one; None: it has an order.

    A model that reads one token after the other has no form without.
    """
    model = in_float64(without_rounded_inputs(subject.lm.model))
    if not isinstance(model, DecoderLM):  # the kind that can read a text without a mask
        return None
    longest = min(_LONGEST, model.config.context_length)
    texts = [t for t in ragged_stories(subject.validation, _TEXTS, longest) if len(set(t)) > 1]
    device = device_of(model)
    pairs = []
    with seeded(subject.seed, device), torch.no_grad():
        for text in texts:
            ids = torch.tensor([text], device=device)
            pairs.append((ids, _shuffled(ids)))
    with_positions = worst([_difference(model, *pair) for pair in pairs])
    model.positions = Positions(model.config)  # the encoding that does nothing
    without = worst([_difference(model, *pair) for pair in pairs])
    seen = with_positions > _SEEN
    return Finding(
        compared="residual stream of shuffled texts, against the shuffled residual stream, without "
        "positions and mask; with the run's positions they differ (float64, relative to the "
        "largest)",
        cases=sum(ids.numel() for ids, _ in pairs) * model.config.hidden_size,
        unit="numbers",
        difference=without if seen else math.inf,
        bound=1e-10,
        note="" if seen else "the run's positions do not tell orders apart",
    )


def _shuffled(ids: Tensor) -> Tensor:
    """Return an order, (seq,), in which another token stands at some place."""
    while True:
        order = torch.randperm(ids.shape[1]).to(ids.device)
        if not torch.equal(ids[:, order], ids):
            return order


@torch.no_grad()
def _difference(model: DecoderLM, ids: Tensor, order: Tensor) -> float:
    """Return how far a shuffled text's residual stream is from that of the text, shuffled."""
    moved = model.residual(ids, causal=False)[:, order]
    return relative(model.residual(ids[:, order], causal=False), moved)
