"""Teacher forcing: one pass over whole windows gives the losses of reading token by token.

The training side is the real one, from windows to the loss of a step. The naive side knows nothing
of labels: it reads the token file, feeds the ids up to a place and asks for the probability of the
id that stands next in the file. A label shifted twice, or not at all, or a token that sees its own
future, shows.

Windows are those that the kind of model is trained on: of one that reads a source first, the tokens
after it count. A model that is trained to find hidden tokens is held to the same places, but with
nothing hidden: what it is told of both sides cannot be had by reading token by token.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from tinylm.data.windows import Batch, Windows
from tinylm.experiments.checks import Finding, Subject
from tinylm.experiments.checks.material import (
    device_of,
    double_step,
    first_windows,
    in_float64,
    seeded,
    with_dropout,
)
from tinylm.model.base import GenerativeModel
from tinylm.model.decoder import evaluating

_WINDOWS = 2.5  # the last one is cut short, and filled with padding


def run(subject: Subject) -> Finding:
    """Compare the loss of a training step with that of reading token by token."""
    windows = first_windows(subject.train, subject.lm.model.config, _WINDOWS)
    with seeded(subject.seed, device_of(subject.lm.model)):
        model = in_float64(with_dropout(subject.lm.model, 0.0))
    batch = replace(windows.batch(range(len(windows))), hidden=None)
    step = double_step(subject, model).backward([batch])
    naive = _loss_token_by_token(model, windows)
    return Finding(
        compared="loss of a training step on windows, against feeding the ids up to each place "
        "alone and looking up the next id in the token file (float64, mean nats)",
        cases=windows.num_targets(range(len(windows))),
        unit="predicted tokens",
        difference=abs(step.loss / max(1, step.num_targets) - naive),
        bound=1e-9,
    )


@torch.no_grad()
def _loss_token_by_token(model: GenerativeModel, windows: Windows) -> float:
    device = device_of(model)
    total, count = 0.0, 0
    with evaluating(model):
        for index in range(len(windows)):
            ids, drawn = _ids(windows, index), windows.batch([index])
            given = None if drawn.given is None else drawn.given.to(device)
            for place in _predicted(drawn, len(ids) - 1):
                seen = torch.tensor([ids[: place + 1]], device=device)
                logits = model.unembed(model.residual(seen, given=given)[0, -1])
                total -= float(logits.log_softmax(-1)[ids[place + 1]])
                count += 1
    return total / max(1, count)


def _ids(windows: Windows, index: int) -> list[int]:
    """Return what stands in the token file where a window is, and the id after it; or a pair."""
    tokens, length = windows.tokens, windows.context_length
    if tokens.header.pairs:
        ids: list[int] = tokens.story(int(windows.texts[index])).tolist()
        return ids
    first = index * length
    window: list[int] = tokens.ids[first : first + length + 1].tolist()
    return window


def _predicted(drawn: Batch, inputs: int) -> list[int]:
    """Return after which of its inputs a window's tokens count; ``drawn``: that window alone."""
    first = 0 if drawn.given is None else int(drawn.given[0]) - 1
    if drawn.hidden is None:
        return list(range(first, inputs))
    if drawn.real is not None:  # it may be cut short
        inputs = int(drawn.real[0].sum())
    hidden = drawn.hidden[0].tolist()
    return [place for place in range(first, inputs) if place == inputs - 1 or hidden[place + 1]]
