"""The loss and its gradient, against cross-entropy written out with loops.

The naive side goes over the ids of the stories, not over labels, and adds exponentials one by one
in double precision. Logits are the model's own on padded rows. The loss that training uses, which
makes its logits chunk by chunk, is held to the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tinylm.data.windows import IGNORED, story_rows
from tinylm.experiments.checks import Finding, Subject
from tinylm.experiments.checks.material import device_of, ragged_stories, relative, worst
from tinylm.fast.loss import output_loss
from tinylm.model.decoder import evaluating
from tinylm.model.loss import token_losses

_ROWS = 3
_LONGEST = 24


def run(subject: Subject) -> Finding:
    """Compare losses and the gradient of their sum with a loop over positions."""
    model = subject.lm.model
    longest = min(_LONGEST, model.config.context_length + 1)
    stories = ragged_stories(subject.validation, _ROWS, longest)
    batch = story_rows(stories).to(device_of(model))
    with torch.no_grad(), evaluating(model):
        x = model.read(batch)
        logits = model.unembed(x)
    losses, slope = _by_loops(logits, stories)

    leaf = logits.clone().requires_grad_()
    computed = token_losses(leaf, batch.labels, IGNORED)
    (gradient,) = torch.autograd.grad(computed.sum(), leaf)
    # Mixed precision gives logits in bfloat16; the loss must not be computed in it.
    rounded = logits.bfloat16()
    losses_of_rounded, _ = _by_loops(rounded, stories)
    found_of_rounded = token_losses(rounded, batch.labels, IGNORED)
    output = model.unembedding
    stream = x.clone().requires_grad_()
    if getattr(output, "by_weight", True):
        total = output_loss(stream, output.weight, output.bias, batch.labels, IGNORED)
    else:  # its inputs are rounded, so that the loss is not made from its weight
        total = model.summed_loss(stream, batch.labels, IGNORED)
    (gradient_of_stream,) = torch.autograd.grad(total, stream)
    slope_of_stream = slope @ output.weight.detach().double().cpu()
    return Finding(
        compared="losses on padded rows and their gradients, plain and in chunks, against a "
        "log-softmax written out position by position in float64 (relative to the largest)",
        cases=2 * len(losses) + slope.numel() + 1 + slope_of_stream.numel(),
        unit="losses and gradient components",
        difference=worst(
            [
                relative(computed, losses),
                relative(gradient, slope),
                relative(found_of_rounded, losses_of_rounded),
                relative(total, losses.sum()),
                relative(gradient_of_stream, slope_of_stream),
            ]
        ),
        bound=1e-5,
    )


def _by_loops(logits: Tensor, stories: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return losses, (predicted tokens,), and the gradient of their sum, as logits; float64."""
    losses = []
    gradient = torch.zeros(logits.shape, dtype=torch.float64)
    for row, story in enumerate(stories):
        for place, following in enumerate(story[1:]):
            values = logits[row, place].double().tolist()
            largest = max(values)
            normaliser = math.fsum(math.exp(value - largest) for value in values)
            losses.append(math.log(normaliser) + largest - values[following])
            gradient[row, place] = torch.tensor(
                [math.exp(value - largest) / normaliser for value in values], dtype=torch.float64
            )
            gradient[row, place, following] -= 1
    return torch.tensor(losses, dtype=torch.float64), gradient
