"""Bits and bytes of texts: what can be compared between tokenizers and kinds of models.

A perplexity is of a token, and tokens differ; a byte of text is the same for all (Gao et al. 2020,
"The Pile", section 3.1). A text is given in two parts, and only the second is scored: a model that
continues texts reads the first before it, and one that reads a source and writes a target has it as
its source, so that both answer for the same bytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tinylm.errors import DataError, shown
from tinylm.evaluation.restoring import Restoring
from tinylm.generation.scoring import token_log_probabilities
from tinylm.model.base import GenerativeModel
from tinylm.tokenizers.base import EOS_ID, SOS_ID, Tokenizer

_FIRST = re.compile(r".*?[.!?][\"'”’)\]]*(?=\s+\S)", re.DOTALL)


@dataclass(frozen=True)
class Parts:
    """A text in two parts: ``beginning + rest``."""

    beginning: str
    """Given; empty: nothing is."""
    rest: str
    """Scored."""


@dataclass(frozen=True)
class TextBits:
    """What the rest of a text costs."""

    token_bits: float
    """Bits of its tokens and of the end of the text, by the model."""
    restoring_bits: float
    """Bits of what the tokens do not say (``restoring``)."""
    num_bytes: int
    """Bytes of its UTF-8."""
    num_tokens: int
    """Its tokens, the end not counted."""

    @property
    def bits(self) -> float:
        """All of them."""
        return self.token_bits + self.restoring_bits


def after_first_sentence(text: str) -> Parts | None:
    """Cut a text after its first sentence; None if nothing follows it.

    A sentence ends with ``.``, ``!`` or ``?``, closing marks included, before white space, which
    belongs to the rest.
    """
    match = _FIRST.match(text)
    return None if match is None else Parts(match[0], text[match.end() :])


def text_bits(
    model: GenerativeModel,
    tokenizer: Tokenizer,
    texts: Sequence[Parts],
    restoring: Restoring,
    batch_size: int = 32,
) -> list[TextBits]:
    """Return the bits and bytes of the rest of each text, given its beginning.

    Args:
        model: any mode; it is evaluated without dropout and put back.
        tokenizer: its own.
        texts: in two parts each.
        restoring: what the tokens do not say; learned for this tokenizer.
        batch_size: texts in one forward pass.

    Raises:
        ConfigError: if a batch needs more memory than there is.
        DataError: if the tokenizer cuts a beginning otherwise where its rest follows.
    """
    beginnings = tokenizer.encode_batch([each.beginning for each in texts])
    wholes = tokenizer.encode_batch([each.beginning + each.rest for each in texts])
    for each, given, whole in zip(texts, beginnings, wholes, strict=True):
        if whole[: len(given)] != given:
            raise DataError(
                f"the beginning {shown(each.beginning)} has other tokens where its rest follows: "
                "cut texts where a sentence ends, before white space"
            )
    # What stands before the rest is given; a kind that has a source reads it as that.
    rows = [[SOS_ID, *whole, EOS_ID] for whole in wholes]
    sources = [1 + len(given) for given in beginnings]
    scores = token_log_probabilities(model, rows, batch_size, sources)
    made = []
    for each, given, whole, values in zip(texts, beginnings, wholes, scores, strict=True):
        decoded = tokenizer.decode(whole)[len(tokenizer.decode(given)) :]
        made.append(
            TextBits(
                token_bits=-math.fsum(values[len(given) :]) / math.log(2),
                restoring_bits=restoring.bits(decoded, each.rest),
                num_bytes=len(each.rest.encode()),
                num_tokens=len(whole) - len(given),
            )
        )
    return made


def bits_per_byte(texts: Sequence[TextBits]) -> float:
    """Return the bits of all texts over all their bytes."""
    return sum(text.bits for text in texts) / sum(text.num_bytes for text in texts)
