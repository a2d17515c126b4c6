"""The teacher's own texts: what beam search finds after the beginnings of training texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tinylm.config import GenerationConfig
from tinylm.config.distillation import SequenceConfig
from tinylm.data.token_files import TokenFile
from tinylm.errors import DataError
from tinylm.generation.engine import SpecialIds, generate
from tinylm.model.base import GenerativeModel
from tinylm.tokenizers.base import EOS_ID, PAD_ID, SOS_ID, UNK_ID

_SPECIAL = SpecialIds(PAD_ID, SOS_ID, EOS_ID, UNK_ID)


@dataclass(frozen=True)
class TeacherTexts:
    """What a teacher wrote."""

    prompts: list[list[int]]
    """The beginnings of the texts that ended, ``<sos>`` included."""
    rests: list[list[int]]
    """What the teacher wrote after each, ``<eos>`` left out."""
    left_out: int
    """Texts that did not end within the most tokens that the teacher may add."""


def beginnings(tokens: TokenFile, settings: SequenceConfig) -> list[list[int]]:
    """Return distinct beginnings of texts, spread evenly over a split.

    Those with an unknown word are passed over, and texts that are no longer than the beginning.

    Returns:
        At most ``settings.texts``, each ``<sos>`` and ``settings.prompt_tokens`` ids.

    Raises:
        DataError: if there is none.
    """
    length = settings.prompt_tokens + 1  # with <sos>
    ends = np.append(tokens.starts[1:], tokens.header.num_tokens)
    starts = tokens.starts[ends - tokens.starts > length + 1]
    rows = tokens.ids[starts[:, None] + np.arange(length)]  # (texts, length)
    rows = rows[(rows != UNK_ID).all(1)]
    if len(rows) == 0:
        raise DataError(
            f"prompt_tokens = {settings.prompt_tokens}: no text goes on after "
            f"{settings.prompt_tokens} known words: give fewer, such as -o prompt_tokens=8"
        )
    first = np.sort(np.unique(rows, axis=0, return_index=True)[1])
    count = min(settings.texts, len(first))
    chosen = first[np.linspace(0, len(first) - 1, count).round().astype(int)]
    return [[int(i) for i in rows[index]] for index in chosen]


def teacher_texts(
    teacher: GenerativeModel,
    prompts: Sequence[list[int]],
    settings: SequenceConfig,
    progress: Callable[[float], None] = lambda share: None,
) -> TeacherTexts:
    """Let a teacher continue beginnings by beam search.

    Args:
        teacher: any mode; it is evaluated without dropout.
        prompts: ids, ``<sos>`` included.
        settings: of the search.
        progress: called with the share of the work that is done.

    Raises:
        ConfigError: if the search needs more memory than there is.
        DataError: if no text ended.
    """
    config = GenerationConfig(
        strategy="beam",
        num_beams=settings.num_beams,
        length_penalty=settings.length_penalty,
        max_new_tokens=settings.max_new_tokens,
    )
    kept: list[list[int]] = []
    rests: list[list[int]] = []
    for start in range(0, len(prompts), settings.texts_at_once):
        some = prompts[start : start + settings.texts_at_once]
        for prompt, text in zip(some, generate(teacher, some, config, _SPECIAL), strict=True):
            if text.finished:
                kept.append(list(prompt))
                rests.append(text.ids)
        progress((start + len(some)) / len(prompts))
    if not kept:
        raise DataError(
            f"the teacher ended none of {len(prompts):,} texts within max_new_tokens = "
            f"{settings.max_new_tokens}: give more"
        )
    return TeacherTexts(kept, rests, len(prompts) - len(kept))
