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

from tinylm.data.token_files import TokenFile
from tinylm.data.windows import Batch, windows_of
from tinylm.experiments.checks import Finding, Subject
from tinylm.experiments.checks.material import (
    device_of,
    double_step,
    excerpt,
    in_float64,
    seeded,
    with_dropout,
)
from tinylm.model.base import GenerativeModel
from tinylm.model.decoder import evaluating

_LONGEST_WINDOW = 64
_WINDOWS = 2.5  # the last one is cut short, and filled with padding


def run(subject: Subject) -> Finding:
    """Compare the loss of a training step with that of reading token by token."""
    length = min(subject.lm.model.config.context_length, _LONGEST_WINDOW)
    tokens = excerpt(subject.train, int(_WINDOWS * length))
    windows = windows_of(tokens, subject.lm.model.config, length)
    with seeded(subject.seed, device_of(subject.lm.model)):
        model = in_float64(with_dropout(subject.lm.model, 0.0))
    batch = windows.batch(range(len(windows)))
    step = double_step(subject, model).backward([replace(batch, hidden=None)])
    naive, cases = _loss_token_by_token(model, tokens, batch)
    return Finding(
        compared="loss of a training step on windows, against feeding the ids up to each place "
        "alone and looking up the next id in the token file (float64, mean nats)",
        cases=cases,
        unit="predicted tokens",
        difference=abs(step.loss / max(1, step.num_targets) - naive),
        bound=1e-9,
    )


@torch.no_grad()
def _loss_token_by_token(
    model: GenerativeModel, tokens: TokenFile, batch: Batch
) -> tuple[float, int]:
    """Return the mean loss, and of how many tokens."""
    ids, device = tokens.ids.tolist(), device_of(model)
    total, cases = 0.0, 0
    with evaluating(model):
        for row in range(len(batch.ids)):
            first = row * batch.ids.shape[1]
            given = None if batch.given is None else batch.given[[row]].to(device)
            for place in _predicted(batch, row, len(ids) - 1 - first):
                seen = torch.tensor([ids[first : first + place + 1]], device=device)
                logits = model.unembed(model.residual(seen, given=given)[0, -1])
                total -= float(logits.log_softmax(-1)[ids[first + place + 1]])
                cases += 1
    return total / max(1, cases), cases


def _predicted(batch: Batch, row: int, left: int) -> list[int]:
    """Return after which places of a window a token counts; ``left``: such places in the file."""
    count = min(batch.ids.shape[1], left)
    if batch.given is not None:
        return list(range(int(batch.given[row]) - 1, count))
    if batch.hidden is None:
        return list(range(count))
    if batch.real is not None:  # it may be cut short
        count = int(batch.real[row].sum())
    hidden = batch.hidden[row].tolist()
    return [place for place in range(count) if place == count - 1 or hidden[place + 1]]
