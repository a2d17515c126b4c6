"""Gradient accumulation: micro-batches give the gradient of one batch of all their stories.

The micro-batches have very different numbers of target tokens, so that the mean of their means,
the usual mistake, is far off.
"""

from __future__ import annotations

from itertools import accumulate, pairwise

import torch

from tinylm.data.windows import IGNORED, story_rows
from tinylm.experiments.checks import Finding, Subject
from tinylm.experiments.checks.material import (
    device_of,
    double_step,
    gradients,
    in_float64,
    largest_of_named,
    ragged_stories,
    seeded,
    with_dropout,
    worst,
)
from tinylm.model.masks import mask_gradients

_SIZES = (1, 2, 3)  # stories of each micro-batch, from the shortest stories to the longest
_LONGEST = 64


def run(subject: Subject) -> Finding:
    """Compare the gradients of a training step with those of the mean loss of one whole batch."""
    device = device_of(subject.lm.model)
    with seeded(subject.seed, device):
        model = in_float64(with_dropout(subject.lm.model, 0.0))
    longest = min(model.config.context_length, _LONGEST)
    stories = ragged_stories(subject.train, sum(_SIZES), longest + 1)
    bounds = accumulate(_SIZES, initial=0)
    parts = [story_rows(stories[start:end]) for start, end in pairwise(bounds)]
    step = double_step(subject, model).backward(parts)
    accumulated = gradients(model)

    model.zero_grad()
    whole = story_rows(stories).to(device)
    logits = model(whole.ids, real=whole.real)
    mean = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), whole.labels.flatten(), ignore_index=IGNORED
    )
    torch.autograd.backward(mean)
    mask_gradients(model)
    expected = gradients(model)
    scale = max(float(gradient.abs().max()) for gradient in expected.values())
    targets = ", ".join(str(part.num_targets) for part in parts)
    return Finding(
        compared=f"gradients of a step over padded mini-batches of {targets} targets, against the "
        "mean loss of all in one batch (float64, relative to the largest)",
        cases=sum(gradient.numel() for gradient in expected.values()),
        unit="gradient components",
        difference=worst(
            [
                largest_of_named(accumulated, expected) / scale,
                abs(step.loss / max(1, step.num_targets) - mean.item()),
            ]
        ),
        bound=1e-10,
    )
