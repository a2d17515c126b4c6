"""Batching: a text gets the same numbers whatever stands beside it in its batch.

Padding on the left (generation), padding on the right with a mask (training on stories) and padding
on the right that causality hides (scoring) are compared with each text alone. In float64, so that a
tie which rounding decides is no difference.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tinylm.config import GenerationConfig
from tinylm.data.windows import story_rows
from tinylm.experiments.checks import Finding, Subject
from tinylm.experiments.checks.material import (
    device_of,
    in_float64,
    largest,
    num_differing,
    ragged_stories,
    worst,
)
from tinylm.generation.engine import generate
from tinylm.generation.scoring import token_log_probabilities
from tinylm.language_model import SPECIAL_IDS
from tinylm.model.base import GenerativeModel

_ROWS = 4
_NEW_TOKENS = 16
_LONGEST = 64


def run(subject: Subject) -> Finding:
    """Compare a batch of texts of different lengths with each text alone."""
    model = in_float64(subject.lm.model)
    longest = min(model.config.context_length, _LONGEST)
    texts = ragged_stories(subject.validation, _ROWS, longest)
    prompts = [text[: max(1, len(text) // 2)] for text in texts]
    differences = [_forward(model, texts), _scores(model, texts)]
    cases = 0
    for strategy in ("greedy", "sampling"):
        config = GenerationConfig(
            strategy=strategy, max_new_tokens=_NEW_TOKENS, temperature=1.0, seed=subject.seed
        )
        together = generate(model, prompts, config, SPECIAL_IDS)
        for prompt, batched in zip(prompts, together, strict=True):
            (alone,) = generate(model, [prompt], config, SPECIAL_IDS)
            cases += len(alone.ids) + alone.finished
            differences.append(num_differing(batched.ids, alone.ids))
            differences.append(abs(batched.log_probability - alone.log_probability))
    return Finding(
        compared=f"ids (greedy, sampled), sums, logits and scores of {_ROWS} texts of different "
        "lengths in one batch, against each alone (float64; an id that differs counts 1)",
        cases=cases + sum(len(text) for text in texts),
        unit="tokens",
        difference=worst(differences),
        bound=1e-9,
    )


@torch.no_grad()
def _forward(model: GenerativeModel, texts: Sequence[Sequence[int]]) -> float:
    """Compare the logits of padded rows, where they are real, with each row's own."""
    device = device_of(model)
    batch = story_rows(texts).to(device)
    together = model.unembed(model.read(batch))
    alone = [model(torch.tensor([text[:-1]], device=device))[0] for text in texts]
    return worst(
        [largest(together[row, : len(logits)], logits) for row, logits in enumerate(alone)]
    )


def _scores(model: GenerativeModel, texts: Sequence[Sequence[int]]) -> float:
    together = token_log_probabilities(model, texts)
    alone = [token_log_probabilities(model, [text])[0] for text in texts]
    return worst(
        [
            largest(torch.tensor(batched), torch.tensor(single))
            for batched, single in zip(together, alone, strict=True)
        ]
    )
