"""Saving and loading: what is read back is what was written, to the last bit."""

from __future__ import annotations

import torch

from tinylm.data.windows import story_rows
from tinylm.experiments.checks import Finding, Subject
from tinylm.experiments.checks.material import (
    device_of,
    largest,
    largest_of_named,
    ragged_stories,
    seeded,
    spread,
    worst,
)
from tinylm.language_model import LanguageModel
from tinylm.model.decoder import evaluating

_ROWS = 4
_DECODED = 50  # stories; which words are names shows in their capitals alone
_LONGEST = 64


def run(subject: Subject) -> Finding:
    """Compare weights, logits, configuration, tokenizer and decoded text after a round trip."""
    lm = subject.lm
    device = device_of(lm.model)
    with seeded(subject.seed, device):  # a model is initialised before its weights are read
        loaded = LanguageModel.load(lm.save(subject.folder / "saved"), device)
    weights, expected = loaded.model.state_dict(), lm.model.state_dict()
    stories = ragged_stories(
        subject.validation, _ROWS, min(_LONGEST, lm.model.config.context_length + 1)
    )
    whole = spread(subject.validation, _DECODED)
    batch = story_rows(stories).to(device)
    with torch.no_grad(), evaluating(lm.model), evaluating(loaded.model):
        logits = [model.unembed(model.read(batch)) for model in (loaded.model, lm.model)]
    differing = [
        name
        for name, same in (
            ("the configuration", loaded.model.config == lm.model.config),
            ("the tokenizer", loaded.tokenizer.fingerprint() == lm.tokenizer.fingerprint()),
            (
                "decoded text",
                loaded.tokenizer.decode_batch(whole) == lm.tokenizer.decode_batch(whole),
            ),
        )
        if not same
    ]
    return Finding(
        compared="weights, logits, configuration, tokenizer and decoded text of the model loaded "
        "from its files, against those of the model in memory",
        cases=sum(tensor.numel() for tensor in expected.values()) + logits[1].numel(),
        unit="numbers",
        difference=worst(
            [largest_of_named(weights, expected), largest(*logits), float(len(differing))]
        ),
        bound=0.0,
        note=f"not the same: {', '.join(differing)}" if differing else "",
    )
