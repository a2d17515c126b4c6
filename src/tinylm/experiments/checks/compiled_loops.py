"""Compiled loops: a training step and decoding give what the torch operations give.

Dropout is on, with the same masks on both sides. Products are in float32, so that nothing but the
order of sums may differ.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tinylm.data.windows import IGNORED, Batch
from tinylm.experiments.checks import Finding, Subject
from tinylm.experiments.checks.material import (
    first_windows,
    gradients,
    largest,
    ragged_stories,
    relative,
    seeded,
    with_dropout,
    without_rounded_inputs,
    worst,
)
from tinylm.fast import PLAIN, WHOLE, for_decoding, install, loops, remove
from tinylm.generation.stepper import Stepper
from tinylm.model.base import GenerativeModel
from tinylm.tokenizers.base import PAD_ID

_WINDOWS = 2.5  # the last one is padded
_LONGEST_WINDOW = 63  # and a place more, which some kinds read: one block of queries
_LEAST_DROPOUT = 0.1
_LEAST_SCALE = 0.01
"""Of the largest gradient of all: smaller ones are compared with that share of it. They are sums
that cancel, such as the gradient of an attention's keys where what it looks at is nearly equal, in
which float32 itself is 2e-5 of their size off."""
_TEXTS, _LONGEST_TEXT, _STEPS = 3, 12, 6


def run(subject: Subject) -> Finding:
    """Compare gradients, and the logits of decoding steps, with and without the loops."""
    given = subject.lm.model
    cpu = torch.device("cpu")
    windows = first_windows(subject.train, given.config, _WINDOWS, _LONGEST_WINDOW)
    batch = windows.batch(range(len(windows)))
    dropout = max(_LEAST_DROPOUT, given.config.dropout)
    with seeded(subject.seed, cpu):
        model = without_rounded_inputs(with_dropout(given, dropout))
    model.to(cpu, torch.float32).train()
    steps = [_gradients(model, batch, on, subject.seed) for on in (False, True)]
    logits = [_decoded(model.eval(), subject, on) for on in (False, True)]
    return Finding(
        compared=f"loss and gradients of a training step (float32, dropout {dropout:g}) and logits "
        "of decoding steps that reorder texts, by compiled loops, against torch's operations "
        "(relative to the largest)",
        cases=sum(p.numel() for p in model.parameters()) + logits[0].numel(),
        unit="gradient components and logits",
        difference=worst([*_apart(steps[1], steps[0]), relative(logits[1], logits[0])]),
        bound=1e-5,
        note="" if loops.available() else "there are no compiled loops on this machine",
    )


def _apart(quick: Mapping[str, Tensor], plain: Mapping[str, Tensor]) -> list[float]:
    """Return the largest difference of each tensor, as a share of its largest number or of all."""
    sizes = {name: float(each.abs().max()) for name, each in plain.items() if each.numel()}
    least = _LEAST_SCALE * max(size for name, size in sizes.items() if name != "loss")
    return [
        largest(quick[name], plain[name]) / max(size, least, torch.finfo(torch.float32).tiny)
        for name, size in sizes.items()
    ]


def _gradients(
    model: GenerativeModel, batch: Batch, compiled: bool, seed: int
) -> dict[str, Tensor]:
    model.zero_grad(set_to_none=True)
    install(model, WHOLE if compiled else PLAIN)
    with seeded(seed, torch.device("cpu")):
        x = model.read(batch)
        loss = model.summed_loss(x, batch.labels, IGNORED)
        torch.autograd.backward(loss)
    return {"loss": loss.detach(), **gradients(model)}


def _decoded(model: GenerativeModel, subject: Subject, compiled: bool) -> Tensor:
    """Return the logits of some steps, (steps * texts, vocab)."""
    longest = min(_LONGEST_TEXT, model.config.context_length - _STEPS)
    prompts = ragged_stories(subject.validation, _TEXTS, max(2, longest))
    remove(model)
    stepper = Stepper(for_decoding(model) if compiled else model, prompts, PAD_ID)
    logits = []
    for step in range(_STEPS):
        logits.append(stepper.logits().float())
        stepper.append(range(4 + step, 4 + step + len(prompts)))
        stepper.keep([(i + step) % len(prompts) for i in range(len(prompts))])
    return torch.cat(logits)
