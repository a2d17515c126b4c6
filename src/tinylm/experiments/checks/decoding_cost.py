"""What decoding costs: the operations that are counted are those that are planned.

The distributions are right without a cache too, if one is dropped or read anew by mistake: only
the work shows it. Torch counts the operations of all matrix products while a text goes on with a
cache, token by token, and without one (``docs/theory.md``: T^2 against T^3 for the attention), on a
plain copy of the model, without adapters and quick parts.
"""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from tinylm.experiments.checks import Finding, Subject
from tinylm.experiments.checks.material import dequantized, device_of, seeded, stream, worst
from tinylm.generation.stepper import Stepper
from tinylm.model.base import GenerativeModel
from tinylm.planning.flops import QUERY_BLOCK, decoding_flops
from tinylm.tokenizers.base import PAD_ID

_PROMPT, _NEW = 4, 28


def run(subject: Subject) -> Finding:
    """Compare the counted operations with the planned ones."""
    with seeded(subject.seed, device_of(subject.lm.model)):
        model = dequantized(subject.lm.model).eval()
    # Up to one block of queries the quick model, which planning counts, is the plain one.
    context = min(model.config.context_length, QUERY_BLOCK)
    prompt = min(_PROMPT, context - 1)
    text = stream(subject.validation, 0, min(prompt + _NEW, context))
    new = len(text) - prompt
    differences = []
    for cached in (True, False):
        planned = decoding_flops(model.config, prompt, new, cached)
        counted = _counted(model, text, prompt, cached)
        differences.append(abs(counted - planned) / planned)
    return Finding(
        compared=f"floating-point operations of {new} tokens after {prompt}, with and without a "
        "cache, counted by torch, against those planned (relative)",
        cases=2 * new,
        unit="tokens",
        difference=worst(differences),
        bound=0.0,
    )


def _counted(model: GenerativeModel, text: list[int], prompt: int, cached: bool) -> int:
    """Return the operations with which each token after the prompt is predicted."""
    stepper = Stepper(model, [text[:prompt]], PAD_ID, use_cache=cached)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        for token in text[prompt:]:
            stepper.logits()
            stepper.append([token])
    return int(counter.get_total_flops())
