"""What a tokenizer loses: how often ``decode(encode(text))`` is the text, and what differs if not.

Compared up to typographic marks, which ``normalise`` writes in ASCII in both, over the texts
without ``<unk>``. A text that comes back otherwise may differ in several ways:

- *capitals*: without white space the texts are the same but for case;
- *line breaks*: they stand elsewhere between the other characters;
- *spaces*: the rest of the white space does;
- *characters*: others are lost or new.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from tinylm.tokenizers.base import UNK_ID, Tokenizer
from tinylm.tokenizers.word_rule import normalise

DIFFERENCES = ("capitals", "line breaks", "spaces", "characters")
_SPACE = re.compile(r"\s")
_SPACE_IN_LINE = re.compile(r"[^\S\n]")


def round_trip(texts: Iterable[str], tokenizer: Tokenizer) -> dict[str, Any]:
    """Count the texts that come back from their ids.

    Returns:
        ``texts``: how many were compared; ``with_unknown``: how many were not, since they hold
        ``<unk>``; ``typographic``: how many of those compared hold typographic marks; ``same``:
        how many of them come back; ``differing``: how many differ in what, by name.
    """
    compared = with_unknown = typographic = same = 0
    differing = dict.fromkeys(DIFFERENCES, 0)
    for text in texts:
        ids = tokenizer.encode(text)
        if UNK_ID in ids:
            with_unknown += 1
            continue
        compared += 1
        plain = normalise(text)
        typographic += plain != text.replace("\r\n", "\n")
        kinds = differences(plain, normalise(tokenizer.decode(ids)))
        same += not kinds
        for kind in kinds:
            differing[kind] += 1
    return {
        "texts": compared,
        "with_unknown": with_unknown,
        "typographic": typographic,
        "same": same,
        "differing": differing,
    }


def differences(text: str, decoded: str) -> list[str]:
    """Return in what two texts differ, of ``DIFFERENCES``."""
    kinds = []
    before, after = (_SPACE.sub("", each) for each in (text, decoded))
    if before.lower() != after.lower():
        return ["characters"]  # positions no longer correspond
    if before != after:
        kinds.append("capitals")
    before, after = text.lower(), decoded.lower()
    if _SPACE_IN_LINE.sub("", before) != _SPACE_IN_LINE.sub("", after):
        kinds.append("line breaks")
    if before.replace("\n", "") != after.replace("\n", ""):
        kinds.append("spaces")
    if not kinds and text != decoded:
        # Where a line break and the spaces beside it changed places.
        kinds.append("spaces")
    return kinds
