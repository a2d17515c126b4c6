"""BPE tokenizers as files of Hugging Face ``tokenizers``, written and read."""

from __future__ import annotations

from typing import Any

from tinylm.reading import checked
from tinylm.reading.shapes import Refuse
from tinylm.tokenizers import byte_letters, hugging_face
from tinylm.tokenizers.base import SPECIAL_TOKENS
from tinylm.tokenizers.bpe_file import Content, check, from_letters, pair

_NOT_SET = (None, "")
_PLAIN: dict[str, tuple[Any, ...]] = {
    "dropout": (None, 0.0),
    "continuing_subword_prefix": _NOT_SET,
    "end_of_word_suffix": _NOT_SET,
    "byte_fallback": (None, False),
    "ignore_merges": (None, False),
}
"""What a model may say beside vocabulary and merges."""


def written(content: Content) -> dict[str, Any]:
    """Return a tokenizer as a file of the library holds it; ids are the same."""
    special = (*SPECIAL_TOKENS, *content.special)
    letters = byte_letters.written
    tokens = [*special, *map(letters, content.tokens)]
    return hugging_face.written(
        model_section(
            {token: number for number, token in enumerate(tokens)},
            [[letters(left), letters(right)] for left, right in content.merges],
        ),
        special,
        hugging_face.byte_level(content.split),
        hugging_face.BYTE_LEVEL_DECODER,
    )


def model_section(vocabulary: dict[str, int], merges: list[list[str]]) -> dict[str, Any]:
    """Return the section ``model``."""
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": vocabulary,
        "merges": merges,
    }


def read(content: dict[str, Any], refuse: Refuse) -> Content:
    """Return the tokenizer that a file of the library holds.

    Args:
        content: of the file.
        refuse: makes the error.

    Raises:
        TinylmError: ``refuse``'s, naming what does not fit.
    """
    hugging_face.refuse_frame(content, refuse)
    hugging_face.refuse_steps(content, {"decoder": ("ByteLevel",)}, refuse)
    split = hugging_face.rule_of(content.get("pre_tokenizer"), refuse)
    model = hugging_face.model_of(content, refuse)
    hugging_face.refuse_steps(model, _PLAIN, lambda what: refuse(f"model.{what}"))
    special = hugging_face.special_of(content, refuse)
    names = {*SPECIAL_TOKENS, *special}
    merges = [
        merge.split(" ") if isinstance(merge, str) else merge
        for merge in checked(
            list[str | list[str]], model.get("merges"), lambda what: refuse(f"model.merges {what}")
        )
    ]
    held = Content(
        split=split,
        tokens=[
            from_letters(token, refuse)
            for token in hugging_face.vocabulary_of(model, refuse)
            if token not in names
        ],
        merges=[pair(merge, refuse) for merge in merges],
        special=special,
    )
    check(held, refuse)
    return held
