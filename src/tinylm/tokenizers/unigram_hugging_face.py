"""Unigram tokenizers as files of Hugging Face ``tokenizers``, written and read.

There the special tokens and the bytes stand in the vocabulary with the pieces, and have scores. No
word of a splitting rule is the name of one, so these are never used; they are those of the rarest
piece, since an unknown character costs the least score of all less 10.
"""

from __future__ import annotations

from typing import Any

from tinylm.errors import shown
from tinylm.reading import checked
from tinylm.reading.shapes import Refuse
from tinylm.tokenizers import hugging_face, metaspace_hugging_face
from tinylm.tokenizers.base import SPECIAL_TOKENS, UNK, UNK_ID
from tinylm.tokenizers.metaspace import Metaspace
from tinylm.tokenizers.splitting import PATTERNS
from tinylm.tokenizers.unigram_file import (
    BYTES,
    METASPACE,
    UNKNOWN_PENALTY,
    Content,
    check,
    of_pairs,
    unknown_score,
)

_DECODER = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}
_NO_BYTES_DECODER = {"type": "Fuse"}


def written(content: Content) -> dict[str, Any]:
    """Return a tokenizer as a file of the library holds it; ids are the same."""
    special = (*SPECIAL_TOKENS, *content.special)
    others = [*special, *(BYTES if content.byte_fallback else ())]
    least = content.unknown_score + UNKNOWN_PENALTY
    whole = hugging_face.written(
        {
            "type": "Unigram",
            "unk_id": UNK_ID,
            "vocab": [
                *([name, least] for name in others),
                *([piece, score] for piece, score in content.pieces.items()),
            ],
            "byte_fallback": content.byte_fallback,
        },
        special,
        {
            "type": "Split",
            "pattern": {"Regex": PATTERNS.get(content.split, "")},
            "behavior": "Isolated",
            "invert": False,
        },
        _DECODER if content.byte_fallback else _NO_BYTES_DECODER,
    )
    if content.spaces is not None:
        byte_fallback = content.byte_fallback
        whole |= metaspace_hugging_face.written(content.spaces, byte_fallback=byte_fallback)
    return whole


def read(content: dict[str, Any], refuse: Refuse) -> Content:
    """Return the tokenizer that a file of the library holds.

    Its own name of the unknown token becomes ``<unk>``.

    Args:
        content: of the file.
        refuse: makes the error.

    Raises:
        TinylmError: ``refuse``'s, naming what does not fit.
    """
    split, spaces = _rule_of(content, refuse)
    model = hugging_face.model_of(content, refuse)
    taken = {"alpha": (None,), "nbest_size": (None,), "byte_fallback": (None, False, True)}
    hugging_face.refuse_steps(model, taken, lambda what: refuse(f"model.{what}"))
    pairs = _pairs(model.get("vocab"), refuse)
    unk_id = model.get("unk_id")
    if type(unk_id) is not int or not 0 <= unk_id < len(pairs):
        raise refuse(f"model.unk_id is {shown(unk_id)}, but the place of a token is needed")
    special = hugging_face.special_of(content, refuse, {pairs[unk_id][0]: UNK})
    everything = of_pairs([piece for piece, _ in pairs], [score for _, score in pairs], refuse)
    names = {*SPECIAL_TOKENS, *special, pairs[unk_id][0]}
    byte_fallback = bool(model.get("byte_fallback"))
    if byte_fallback:
        missing = next((name for name in BYTES if name not in everything), None)
        if missing is not None:
            raise refuse(
                f"model.byte_fallback is true, but model.vocab lacks {missing}: all 256 bytes are "
                "needed"
            )
        names |= {*BYTES}
    held = Content(
        split=split,
        byte_fallback=byte_fallback,
        pieces={piece: score for piece, score in everything.items() if piece not in names},
        unknown_score=unknown_score(list(everything.values())),
        special=special,
        spaces=spaces,
    )
    check(held, refuse)
    return held


def _pairs(vocabulary: Any, refuse: Refuse) -> list[tuple[str, float]]:
    """Return the pieces of a vocabulary and their scores, as they stand there."""
    rows = checked(list[list[Any]], vocabulary, lambda what: refuse(f"model.vocab {what}"))
    pairs = []
    for row in rows:
        match row:
            case [str(piece), int() | float() as score] if not isinstance(score, bool):
                pairs.append((piece, float(score)))
            case _:
                raise refuse(f"model.vocab holds {shown(row)}, but a piece and its score is needed")
    return pairs


def _rule_of(content: dict[str, Any], refuse: Refuse) -> tuple[str, Metaspace | None]:
    """Return the rule by which a file cuts texts into words, and how it writes spaces."""
    normalizers = metaspace_hugging_face.steps_of(content.get("normalizer"))
    if any(step.get("type") == "Precompiled" for step in normalizers):
        raise refuse(
            "normalizer is 'Precompiled', SentencePiece's compiled table of characters, which has "
            "no equal here: give a file without it, whose texts are normalised before"
        )
    if metaspace_hugging_face.is_meant(content):
        hugging_face.refuse_frame({**content, "normalizer": None}, refuse)
        return METASPACE, metaspace_hugging_face.read(content, refuse)
    hugging_face.refuse_frame(content, refuse)
    pre_tokenizer = content.get("pre_tokenizer")
    step = pre_tokenizer if isinstance(pre_tokenizer, dict) else {}
    pattern = step.get("pattern")
    expression = pattern.get("Regex") if isinstance(pattern, dict) else None
    plain = step.get("behavior") == "Isolated" and step.get("invert", False) is False
    for name, known in PATTERNS.items():
        if step.get("type") == "Split" and expression == known and plain:
            return name, None
    raise refuse(
        f"pre_tokenizer is {shown(expression or step.get('type'))}, but Split, Isolated, by one of "
        f"the rules {' and '.join(PATTERNS)} is needed, or Metaspace"
    )
