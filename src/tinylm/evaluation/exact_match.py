"""Exact match: whether a model's likeliest continuation of a prompt is the answer, to its end.

The greedy continuation is the answer if at every place the likeliest token after the prompt and the
part of the answer before is the next one of the answer, ``<eos>`` at the end included. So one pass
over prompts with their answers decides it, and nothing is generated; a test holds it equal to
generating. Partly right answers count nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tinylm.config import GenerationConfig
from tinylm.data.windows import IGNORED, story_rows
from tinylm.errors import DataError, shown
from tinylm.generation.forbidden import forbid
from tinylm.generation.results import SpecialIds
from tinylm.model.base import GenerativeModel
from tinylm.model.decoder import evaluating
from tinylm.tokenizers.base import Tokenizer

_TOKENS = 8192
"""Tokens of a forward pass, about."""


@dataclass(frozen=True)
class Question:
    """A prompt and its one right answer, as ids."""

    prompt: Sequence[int]
    """``<sos>`` included."""
    answer: Sequence[int]
    """``<eos>`` included."""


def question(prompt: str, answer: str, tokenizer: Tokenizer, special: SpecialIds) -> Question:
    """Return a prompt and its answer in the ids of a tokenizer.

    Raises:
        DataError: if the tokenizer cuts them otherwise where they stand together, so that no
            continuation of the prompt would be the text that was trained on.
    """
    before, whole = tokenizer.encode_batch([prompt, f"{prompt} {answer}"])
    if whole[: len(before)] != before:
        raise DataError(
            f"the prompt {shown(prompt)} has other tokens where its answer follows: end it with a "
            "mark of punctuation"
        )
    return Question([special.sos, *before], [*whole[len(before) :], special.eos])


@torch.no_grad()
def exact_matches(
    model: GenerativeModel, questions: Sequence[Question], special: SpecialIds
) -> list[bool]:
    """Return for each question whether the model's greedy continuation is the answer.

    Args:
        model: any mode; it is evaluated without dropout and put back.
        questions: of which each must fit into the model's context.
        special: as for generating: ``<pad>``, ``<sos>`` and ``<unk>`` are never chosen.

    Raises:
        DataError: if a question is longer than the context.
    """
    context = model.config.context_length
    device = model.embedding.weight.device
    settings = GenerationConfig(strategy="greedy")
    lengths = [len(each.prompt) + len(each.answer) for each in questions]
    if lengths and max(lengths) > context + 1:
        raise DataError(
            f"a question of {max(lengths)} tokens with its answer does not fit into "
            f"model.context_length = {context}"
        )
    right = [False] * len(questions)
    order = sorted(range(len(questions)), key=lengths.__getitem__)  # little padding
    size = max(1, _TOKENS // max(lengths, default=1))
    with evaluating(model):
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            asked = [questions[i] for i in chosen]
            batch = story_rows(
                [[*each.prompt, *each.answer] for each in asked],
                [len(each.prompt) for each in asked],
            ).to(device)
            x = model.read(batch)
            predicted = batch.labels != IGNORED
            logits = forbid(model.unembed(x[predicted]), settings, special, 0)
            missed: Tensor = torch.zeros_like(predicted)
            missed[predicted] = logits.argmax(-1) != batch.labels[predicted]
            for i, wrong in zip(chosen, missed.any(1).tolist(), strict=True):
                right[i] = not wrong
    return right
