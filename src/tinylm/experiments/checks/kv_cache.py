"""The key-value cache: every next-token distribution equals that of reading the window anew.

Prompts of several lengths stand in one batch, short ones and some a few tokens short of the
context, so that the sequences grow past it. There cached keys hold positions that no longer fit:
dropping the oldest and moving the rest up is wrong from the first token on. On the way one row
leaves, one is taken twice and all change places, as in beam search.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tinylm.data.token_files import TokenFile
from tinylm.experiments.checks import Finding, Subject
from tinylm.experiments.checks.material import (
    device_of,
    relative,
    stream,
    without_rounded_inputs,
    worst,
)
from tinylm.fast import for_decoding
from tinylm.generation.stepper import Stepper
from tinylm.model.base import GenerativeModel
from tinylm.model.decoder import evaluating
from tinylm.tokenizers.base import PAD_ID

_STEPS = 8
_SHORT = (2, 5, 9)
_BEFORE_CONTEXT = (3, 5, 12)  # the first outgrows the context after three steps
_REORDER_AT = 2
_KEPT = (2, 0, 0)


def run(subject: Subject) -> Finding:
    """Compare the stepper's logits with those of each row's last window, read alone."""
    model = without_rounded_inputs(subject.lm.model)
    context = model.config.context_length
    short = [max(1, min(length, context - 1)) for length in _SHORT]
    long = [max(1, context - missing) for missing in _BEFORE_CONTEXT]
    with evaluating(model):
        differences = [
            *_differences(model, subject.validation, short),
            *_differences(model, subject.validation, long),
        ]
    return Finding(
        compared="logits with cache and packed weights, up to "
        f"{max(long) + _STEPS - 1} tokens in a context of {context}, against recomputing each "
        "row's last window separately (relative to the largest)",
        cases=len(differences),
        unit="distributions",
        difference=worst(differences),
        bound=1e-5,
    )


@torch.no_grad()
def _differences(model: GenerativeModel, tokens: TokenFile, lengths: Sequence[int]) -> list[float]:
    """Feed real text to a batch of prompts of these lengths; one difference a row and step."""
    share = tokens.header.num_tokens // len(lengths)
    rows = [stream(tokens, i * share, length) for i, length in enumerate(lengths)]
    following = stream(tokens, share // 2, _STEPS * len(lengths))  # for equal rows to part
    stepper = Stepper(for_decoding(model), rows, PAD_ID)  # as generation does
    differences, prompts = [], list(lengths)
    for step in range(_STEPS):
        logits = stepper.logits()
        differences += [
            relative(logits[i], _read_anew(model, row, given))
            for i, (row, given) in enumerate(zip(rows, prompts, strict=True))
        ]
        if step == _REORDER_AT:
            stepper.keep(_KEPT)
            rows = [list(rows[i]) for i in _KEPT]
            prompts = [prompts[i] for i in _KEPT]
        new = following[step * len(rows) : (step + 1) * len(rows)]
        stepper.append(new)
        rows = [[*row, token] for row, token in zip(rows, new, strict=True)]
    return differences


def _read_anew(model: GenerativeModel, text: Sequence[int], prompt: int) -> Tensor:
    """Return the logits, (vocab,), after the last window of a text, so much of it a prompt."""
    device = device_of(model)
    window = torch.tensor([text[-model.config.context_length :]], device=device)
    left = prompt - (len(text) - window.shape[1])  # of the prompt
    given = torch.tensor([max(1, left)], device=device)
    return model.unembed(model.residual(window, given=given)[0, -1])
