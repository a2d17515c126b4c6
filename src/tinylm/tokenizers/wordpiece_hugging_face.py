"""WordPiece tokenizers as files of Hugging Face ``tokenizers``, written and read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinylm.errors import shown
from tinylm.reading.shapes import Refuse
from tinylm.tokenizers import hugging_face
from tinylm.tokenizers.base import EOS, PAD, SOS, SPECIAL_TOKENS, UNK
from tinylm.tokenizers.bert_words import WordRule
from tinylm.tokenizers.wordpiece_file import Content, check
from tinylm.tokenizers.wordpiece_training import CONTINUES

_NORMALIZER = "BertNormalizer"
_PRE_TOKENIZER = "BertPreTokenizer"
_BERTS = {"[PAD]": PAD, "[CLS]": SOS, "[SEP]": EOS, "[MASK]": "<mask>"}
"""What BERT calls tokens that have another name here."""


def written(content: Content) -> dict[str, Any]:
    """Return a tokenizer as a file of the library holds it; ids are the same."""
    special = (*SPECIAL_TOKENS, *content.special)
    whole = hugging_face.written(
        {
            "type": "WordPiece",
            "unk_token": UNK,
            "continuing_subword_prefix": CONTINUES,
            "max_input_chars_per_word": content.longest_word,
            "vocab": {piece: number for number, piece in enumerate((*special, *content.pieces))},
        },
        special,
        {"type": _PRE_TOKENIZER},
        {"type": "WordPiece", "prefix": CONTINUES, "cleanup": True},
    )
    whole["normalizer"] = {
        "type": _NORMALIZER,
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": content.rule.strip_accents,
        "lowercase": content.rule.lowercase,
    }
    return whole


def read(content: dict[str, Any], refuse: Refuse) -> Content:
    """Return the tokenizer that a file of the library holds.

    Its own name of the unknown token, such as ``[UNK]``, becomes ``<unk>``, and BERT's ``[PAD]``,
    ``[CLS]``, ``[SEP]`` and ``[MASK]`` become ``<pad>``, ``<sos>``, ``<eos>`` and ``<mask>``.

    Args:
        content: of the file.
        refuse: makes the error.

    Raises:
        TinylmError: ``refuse``'s, naming what does not fit.
    """
    normalizer = content.get("normalizer")
    hugging_face.refuse_frame({**content, "normalizer": None}, refuse)
    kinds = {"normalizer": (_NORMALIZER,), "pre_tokenizer": (_PRE_TOKENIZER,)}
    hugging_face.refuse_steps(content, kinds, refuse)
    rule = _rule(normalizer, refuse)
    model = hugging_face.model_of(content, refuse)
    taken = {"continuing_subword_prefix": (CONTINUES,)}
    hugging_face.refuse_steps(model, taken, lambda what: refuse(f"model.{what}"))
    longest = model.get("max_input_chars_per_word", 100)
    if type(longest) is not int:
        raise refuse(f"model.max_input_chars_per_word is {shown(longest)}, no whole number")
    unknown = model.get("unk_token")
    vocabulary = hugging_face.vocabulary_of(model, refuse)
    if unknown not in vocabulary:
        raise refuse(f"model.vocab lacks {shown(unknown)}, which model.unk_token names")
    special = hugging_face.special_of(content, refuse, {**_BERTS, str(unknown): UNK})
    names = {*SPECIAL_TOKENS, *special, unknown, *_BERTS}
    held = Content(
        pieces=[piece for piece in vocabulary if piece not in names],
        rule=rule,
        longest_word=longest,
        special=special,
    )
    check(held, refuse)
    return held


def _rule(normalizer: Any, refuse: Refuse) -> WordRule:
    steps: Mapping[str, Any] = normalizer
    always = {"clean_text": (True,), "handle_chinese_chars": (True,)}
    hugging_face.refuse_steps(steps, always, lambda what: refuse(f"normalizer.{what}"))
    choices = {"lowercase": (True, False), "strip_accents": (None, True, False)}
    hugging_face.refuse_steps(steps, choices, lambda what: refuse(f"normalizer.{what}"))
    lowercase, strip = steps["lowercase"], steps.get("strip_accents")
    return WordRule(lowercase, lowercase if strip is None else strip)
