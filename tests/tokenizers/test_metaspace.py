"""Unigram tokenizers that write spaces as ``▁``, against Hugging Face ``tokenizers``."""

import functools
import json
import re
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from tests.tokenizers.test_unigram import HARD, NOT_STRIPPED, STORIES
from tinylm.errors import DataError
from tinylm.tokenizers import files, hugging_face
from tinylm.tokenizers.base import SPECIAL_TOKENS, UNK_ID
from tinylm.tokenizers.metaspace import Metaspace
from tinylm.tokenizers.unigram import UnigramTokenizer
from tinylm.tokenizers.unigram_file import METASPACE, Content

# The library takes the name of a token within a word for the token, here it is text.
NAMES = re.compile("<[^>]*>")
TEXTS = [
    *(text for text in HARD if not NAMES.search(text)),
    *(" x", "  x", "▁x", "▁▁ x ▁", "a▁b a b", "\u3000a b", "\n a\tb\r\n c ", "a\u00a0b  c\x85d"),
    "\x1c a \x1f",
]
SCHEMES = ("always", "first", "never")
RULES = [
    *(Metaspace(*given) for given in product(SCHEMES, (True, False), (True, False))),
    Metaspace("never", dropped="nothing"),
    *(Metaspace(scheme, False, dropped="space") for scheme in (*SCHEMES, "added")),
    Metaspace("added", False, dropped="nothing"),
]
_SCORES = {"▁": -2.0, "a": -1.5, "b": -2.5, "▁a": -2.0, "a▁b": -3.0, "▁▁": -3.5, "é": -4.0}
PIECES = {**_SCORES, "ab": -3.0}


def in_the_library(rule: Metaspace) -> tokenizers.Tokenizer:
    """Return an empty tokenizer with the library's own steps, made by its own classes."""
    theirs = tokenizers.Tokenizer(models.Unigram())
    if rule.prepend == "added":
        theirs.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    else:
        step = pre_tokenizers.Metaspace("▁", prepend_scheme=rule.prepend, split=rule.cut)
        theirs.pre_tokenizer = (
            pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), step])
            if rule.at_white_space
            else step
        )
    replaced = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    theirs.decoder = {
        "marks": decoders.Metaspace("▁", prepend_scheme="first"),
        "space": decoders.Sequence([*replaced, decoders.Strip(" ", 1, 0)]),
        "nothing": decoders.Sequence(replaced),
    }[rule.dropped]
    return theirs


@functools.cache
def file_of(rule: Metaspace) -> str:
    """Return a file that the library wrote, of a vocabulary that its trainer learned.

    Where texts are words whole, those it learns from are cut short for it, which goes through all
    of a word's substrings.
    """
    theirs = in_the_library(rule)
    trainer = trainers.UnigramTrainer(
        vocab_size=500,
        special_tokens=list(SPECIAL_TOKENS),
        unk_token="<unk>",
        show_progress=False,
    )
    texts = [text[:80] for text in STORIES] if not rule.cut else STORIES
    theirs.train_from_iterator(texts, trainer)
    return theirs.to_str()


@pytest.fixture(scope="module", params=RULES, ids=str)
def rule(request: pytest.FixtureRequest) -> Metaspace:
    rule: Metaspace = request.param
    return rule


def test_a_file_of_the_library_gives_its_ids_and_texts(tmp_path: Path, rule: Metaspace) -> None:
    path = tmp_path / "theirs.json"
    path.write_text(file_of(rule), "utf-8")
    theirs = tokenizers.Tokenizer.from_file(str(path))
    theirs.encode_special_tokens = True
    ours = hugging_face.read(path)
    assert isinstance(ours, UnigramTokenizer)
    assert not hugging_face.ids_shift(path, ours)
    unseen = [text[:200] for text in STORIES[200:230]]
    texts = [*STORIES[:30], *unseen, *TEXTS]
    expected = [theirs.encode(text).ids for text in texts]
    assert [ours._encode_plain(text) for text in texts] == expected
    assert ours.encode_batch(texts) == expected  # long enough for the compiled path
    for ids in expected:
        known = [index for index in ids if index != UNK_ID]  # which the library leaves out
        assert ours.decode(known) == theirs.decode(known)
        assert ours.decode([2, *known, 3]) == theirs.decode(known)


def test_it_is_written_back(tmp_path: Path, rule: Metaspace) -> None:
    path = tmp_path / "theirs.json"
    path.write_text(file_of(rule), "utf-8")
    ours = hugging_face.read(path)
    back = tmp_path / "back.json"
    back.write_text(json.dumps(ours.to_hugging_face()), "utf-8")
    theirs, again = tokenizers.Tokenizer.from_file(str(back)), hugging_face.read(back)
    theirs.encode_special_tokens = True
    assert again.fingerprint() == ours.fingerprint()
    original = json.loads(file_of(rule))
    for section in ("normalizer", "pre_tokenizer"):
        assert json.loads(theirs.to_str())[section] == original[section]
    ours.save(tmp_path / "ours.json")
    loaded = files.load(tmp_path / "ours.json")
    assert loaded.fingerprint() == ours.fingerprint()
    for text in [*STORIES[:10], *TEXTS]:
        ids = ours.encode(text)
        assert theirs.encode(text).ids == ids == again.encode(text) == loaded.encode(text)
        known = [index for index in ids if index != UNK_ID]
        decoded = ours.decode(known)
        assert theirs.decode(known) == decoded == again.decode(known) == loaded.decode(known)


def small(rule: Metaspace, byte_fallback: bool) -> UnigramTokenizer:
    return UnigramTokenizer(
        Content(METASPACE, byte_fallback, PIECES, unknown_score=-14.0, spaces=rule)
    )


@functools.cache
def both(rule: Metaspace, byte_fallback: bool) -> tuple[UnigramTokenizer, tokenizers.Tokenizer]:
    ours = small(rule, byte_fallback)
    theirs = tokenizers.Tokenizer.from_str(json.dumps(ours.to_hugging_face()))
    theirs.encode_special_tokens = True
    return ours, theirs


TEXT = st.text(max_size=20) | st.text("ab ▁é\n\u3000x", max_size=20)


@settings(deadline=None, max_examples=300)
@given(text=TEXT, number=st.integers(0, len(RULES) - 1), byte_fallback=st.booleans())
def test_ids_and_texts_of_any_text_are_the_librarys(
    text: str, number: int, byte_fallback: bool
) -> None:
    ours, theirs = both(RULES[number], byte_fallback)
    ids = ours.encode(text)
    assert ids == theirs.encode(text).ids
    flat, bounds = ours.encode_flat([text, "", text])
    assert [flat[a:b].tolist() for a, b in pairwise(bounds.tolist())] == [ids, [], ids]
    known = [index for index in ids if index != UNK_ID]
    assert ours.decode(known) == theirs.decode(known)
    best = ours.lattice(text).best()
    assert ours.ids_of(text, best) == ids


@settings(deadline=None)
@given(text=TEXT.map(lambda text: text.replace("▁", "")), cut=st.booleans())
def test_what_is_lost_is_no_more_than_is_said(text: str, cut: bool) -> None:
    kept = both(Metaspace("never", cut, dropped="nothing"), True)[0]
    assert kept.decode(kept.encode(text)) == text
    added = both(Metaspace("added", False, dropped="space"), True)[0]
    assert added.decode(added.encode(text)) == text
    always = both(Metaspace("always", True), True)[0]
    begun = text.lstrip(" ")
    assert always.decode(always.encode(begun)) == begun
    white = both(Metaspace("always", True, at_white_space=True), True)[0]
    words = re.split("[\\s\x85]+", re.sub("[\x1c-\x1f]", "", text))
    assert white.decode(white.encode(" ".join(filter(None, words)))) == " ".join(
        filter(None, words)
    )


@settings(deadline=None)
@given(text=TEXT, number=st.integers(0, len(RULES) - 1))
def test_the_text_of_a_prefix_is_a_prefix_of_the_text(text: str, number: int) -> None:
    ours = both(RULES[number], True)[0]
    ids = ours.encode(text)
    whole = ours.decode(ids)
    for end in range(len(ids)):
        assert whole.startswith(ours.decode(ids[:end]))


def test_half_a_character_is_read_as_that_of_no_meaning() -> None:
    ours = both(Metaspace(), True)[0]
    expected = ours.encode("\ufffd a")
    assert ours.encode("\ud800 a") == expected
    assert ours.encode_flat(["\ud800 a"])[0].tolist() == expected


def test_names_of_tokens_in_a_text_are_text() -> None:
    ours = small(Metaspace(), byte_fallback=True)
    for text in ("<eos>", "a<0x0A>b", "<unk> <pad>"):
        ids = ours.encode(text)
        assert not {*ids} & {*range(len(SPECIAL_TOKENS))}
        assert ours.decode(ids) == text


def test_characters_that_words_lack_may_be_added() -> None:
    ours = small(Metaspace(), byte_fallback=False)
    assert ours.encode("a x") == [ours.encode("a")[0], 4, UNK_ID]
    more = ours.with_words(["x y"])
    assert [more.token(i) for i in range(more.vocab_size)][-2:] == ["x", "y"]
    assert ours.with_words(["a b"]) is ours
    assert ours.unknown_words(["a x x"]) == {"▁x": 2}


def file_like_t5() -> dict[str, Any]:
    """Return a file as transformers writes that of T5: its own special tokens, an old decoder."""
    names = ["<pad>", "</s>", "<unk>", "<extra_id_0>"]
    pieces = [[name, 0.0] for name in names[:3]] + [[p, s] for p, s in PIECES.items()]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": name, "special": True, **NOT_STRIPPED}
            for number, name in zip((0, 1, 2, len(pieces)), names, strict=True)
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "WhitespaceSplit"},
                {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True},
            ],
        },
        "post_processor": None,
        "decoder": {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True},
        "model": {"type": "Unigram", "unk_id": 2, "vocab": pieces, "byte_fallback": False},
    }


def test_a_file_like_that_of_t5_is_read() -> None:
    content = file_like_t5()
    theirs = tokenizers.Tokenizer.from_str(json.dumps(content))
    ours = UnigramTokenizer.from_hugging_face(content, DataError)
    assert ours.special_tokens == (*SPECIAL_TOKENS, "</s>", "<extra_id_0>")
    for text in TEXTS:
        names = [theirs.id_to_token(index) for index in theirs.encode(text).ids]
        assert [ours.token(index) for index in ours.encode(text)] == names


@pytest.mark.parametrize("name", ["T5Tokenizer", "XLMRobertaTokenizer"])
def test_what_transformers_saves_is_read(tmp_path: Path, name: str) -> None:
    pieces = list(PIECES.items())
    special = {
        "T5Tokenizer": ["<pad>", "</s>", "<unk>"],
        "XLMRobertaTokenizer": ["<s>", "<pad>", "</s>", "<unk>"],
    }[name]
    vocabulary = [*((piece, 0.0) for piece in special), *pieces, ("<mask>", 0.0)]
    theirs = getattr(transformers, name)(vocab=vocabulary)
    theirs.save_pretrained(tmp_path)
    ours = hugging_face.read(tmp_path / "tokenizer.json")
    assert set(special) < {*ours.special_tokens}
    for text in [*TEXTS, "ab a b \u2028 ab\né"]:
        expected = theirs.backend_tokenizer.encode(text, add_special_tokens=False).ids
        ids = ours.encode(text)
        names = [theirs.backend_tokenizer.id_to_token(index) for index in expected]
        assert [ours.token(index) for index in ids] == names
        if UNK_ID not in ids:
            assert ours.decode(ids) == theirs.backend_tokenizer.decode(expected)


META = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
FROM_MARK = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
            "normalizer is 'Precompiled', SentencePiece's compiled table .* has no equal here",
        ),
        (
            {
                "normalizer": {
                    "type": "Sequence",
                    "normalizers": [{"type": "Lowercase"}, {"type": "Precompiled"}],
                }
            },
            "normalizer is 'Precompiled'",
        ),
        ({"normalizer": {"type": "NFKC"}}, "normalizer is 'NFKC', but nothing is needed beside"),
        ({"pre_tokenizer": {**META, "replacement": "_"}}, "pre_tokenizer.replacement is '_'"),
        ({"pre_tokenizer": {**META, "prepend_scheme": "last"}}, "prepend_scheme is 'last'"),
        ({"pre_tokenizer": {**META, "split": 1}}, "pre_tokenizer.split is 1, but true or false"),
        ({"pre_tokenizer": {**META, "add_prefix_space": "no"}}, "add_prefix_space is 'no'"),
        (
            {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [META, {"type": "Digits"}]}},
            "pre_tokenizer is 'Metaspace, Digits', but Metaspace is needed, alone or after Whit",
        ),
        (
            {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [5, META]}},
            "pre_tokenizer is '5, Metaspace', but Metaspace is needed",
        ),
        (
            {"pre_tokenizer": None, "normalizer": {**FROM_MARK}},
            "normalizer is 'Replace', but without a pre_tokenizer Replace of ' ' by ▁ is needed",
        ),
        ({"decoder": None}, "decoder is None, but Metaspace is needed"),
        ({"decoder": {**META, "replacement": "_"}}, "decoder.replacement is '_'"),
        (
            {"decoder": {"type": "Sequence", "decoders": [FROM_MARK, STRIP]}},
            "decoder is 'Replace, Strip', but Metaspace is needed, or Replace of ▁ by ' '",
        ),
        ({"post_processor": {"type": "BertProcessing"}}, "post_processor is 'BertProcessing'"),
        ({"model": {"type": "Unigram", "unk_id": None, "vocab": []}}, "model.unk_id is None"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    content = {**small(Metaspace(), True).to_hugging_face(), **change}
    with pytest.raises(DataError, match=message) as error:
        UnigramTokenizer.from_hugging_face(content, DataError)
    assert "\n" not in str(error.value)


def test_a_file_whose_rule_and_spaces_do_not_fit_is_refused(tmp_path: Path) -> None:
    values = {"byte_fallback": False, "pieces": {"a": -1.0}, "unknown_score": -9.0}
    for split, spaces in (("gpt2", Metaspace()), (METASPACE, None)):
        with pytest.raises(DataError, match="spaces belongs to the rule metaspace"):
            UnigramTokenizer(Content(split=split, spaces=spaces, **values))  # type: ignore[arg-type]
    for cuts in ({"cut": True}, {"cut": False, "at_white_space": True}):
        with pytest.raises(DataError, match=r"spaces.prepend is 'added', but then texts are one"):
            small(Metaspace("added", **cuts), True)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="split is 'gpt3', but gpt2 or cl100k or metaspace"):
        UnigramTokenizer(Content(split="gpt3", **values))  # type: ignore[arg-type]
