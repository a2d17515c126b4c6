"""Teacher forcing: one pass over whole windows gives the losses of reading token by token.

The training side is the real one, from windows to the loss of a step. The naive side knows nothing
of labels: it reads the token file, feeds the ids up to a place and asks for the probability of the
id that stands next in the file. A label shifted twice, or not at all, or a token that sees its own
future, shows.
"""

from __future__ import annotations

import torch

from tinylm.data.token_files import TokenFile
from tinylm.data.windows import windows_of
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
    step = double_step(subject, model).backward([windows.batch(range(len(windows)))])
    naive = _loss_token_by_token(model, tokens, length)
    return Finding(
        compared="loss of a training step on windows, against feeding the ids up to each place "
        "alone and looking up the next id in the token file (float64, mean nats)",
        cases=tokens.header.num_tokens - 1,
        unit="predicted tokens",
        difference=abs(step.loss / max(1, step.num_targets) - naive),
        bound=1e-9,
    )


@torch.no_grad()
def _loss_token_by_token(model: GenerativeModel, tokens: TokenFile, length: int) -> float:
    ids = tokens.ids.tolist()
    total = 0.0
    with evaluating(model):
        for place in range(len(ids) - 1):
            first = place - place % length  # of the window that the place is in
            seen = torch.tensor([ids[first : place + 1]], device=device_of(model))
            logits = model.unembed(model.residual(seen)[0, -1])
            total -= float(logits.log_softmax(-1)[ids[place + 1]])
    return total / (len(ids) - 1)
