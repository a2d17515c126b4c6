"""The unigram tokenizer against Hugging Face ``tokenizers``, brute force, and what it promises."""

import json
import math
import random
from itertools import pairwise
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from tinylm.config import DataConfig
from tinylm.data.corpora import open_corpus
from tinylm.errors import ConfigError, DataError, TinylmError
from tinylm.tokenizers.base import UNK_ID
from tinylm.tokenizers.unigram import UnigramSettings, UnigramTokenizer
from tinylm.tokenizers.unigram_file import BYTES, Content

STORIES = list(open_corpus(DataConfig(corpus="stories", train_stories=300)).train())
HARD = [
    *("", " ", "  two  spaces ", " \n\t \r\n x", "\x00\x01\x1f x\x7f", "\u2028\u3000\u200b"),
    *("👨‍👩‍👧 a👍🏽", "e\u0301 é ﬁ", "שלום עולם", "مرحبا", "中文字符です", "नमस्ते"),
    *("▁ ▁the ▁", "<pad> <unk><0x0A> <eos><0xF0>", "don't DON'T I'LL ſ'ſ", "12,345.678 ½ ²"),
    *("a" * 3000, "once" * 400 + "👍" * 50, "â€œmojibakeâ€\x9d", "�"),
]
NOT_STRIPPED = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
SETTINGS: list[dict[str, Any]] = [
    {},
    {"byte_fallback": False},
    {"split": "cl100k", "vocab_size": 700},
    {"sparse": False, "longest_piece": 4},
]


@pytest.fixture(scope="module", params=SETTINGS, ids=str)
def tokenizer(request: pytest.FixtureRequest) -> UnigramTokenizer:
    return UnigramTokenizer.train(STORIES, UnigramSettings(**{"vocab_size": 600, **request.param}))


@pytest.fixture(scope="module")
def small() -> UnigramTokenizer:
    return UnigramTokenizer(
        Content(
            split="gpt2",
            byte_fallback=False,
            pieces={" ": -2.0, "a": -1.0, "b": -2.0, "ab": -2.5, " a": -2.2, " ab": -4.0},
            unknown_score=-14.0,
        )
    )


def in_the_library(tokenizer: UnigramTokenizer) -> tokenizers.Tokenizer:
    theirs = tokenizers.Tokenizer.from_str(json.dumps(tokenizer.to_hugging_face()))
    theirs.encode_special_tokens = True
    return theirs


def test_ids_are_those_of_the_library(tokenizer: UnigramTokenizer) -> None:
    theirs = in_the_library(tokenizer)
    unseen = list(open_corpus(DataConfig(corpus="stories", train_stories=1)).validation())[:50]
    texts = [*STORIES[:100], *unseen, *HARD, " ".join(HARD)]
    expected = [theirs.encode(text).ids for text in texts]
    assert [tokenizer._encode_plain(text) for text in texts] == expected
    assert tokenizer.encode_batch(texts) == expected  # long enough for the compiled path


@given(text=st.text(max_size=40))
def test_ids_of_any_text_are_those_of_the_library(small: UnigramTokenizer, text: str) -> None:
    assert small.encode(text) == in_the_library(small).encode(text).ids


SCORES = st.integers(-6, -1)  # few values, so that ties are common


@given(
    scores=st.dictionaries(st.text("ab é", min_size=1, max_size=4), SCORES, min_size=1),
    text=st.text("abcé ", max_size=20),
)
def test_any_vocabulary_gives_the_librarys_ids_ties_included(
    scores: dict[str, float], text: str
) -> None:
    for byte_fallback in (False, True):
        content = Content(
            "gpt2", byte_fallback, scores, unknown_score=float(min(scores.values()) - 10)
        )
        tokenizer = UnigramTokenizer(content)
        assert tokenizer.encode(text) == in_the_library(tokenizer).encode(text).ids
        best = tokenizer.lattice(text).best()
        assert tokenizer.ids_of(text, best) == tokenizer.encode(text)
        assert tokenizer.n_best(text, 1) == [(tokenizer.encode(text), best.log_probability)]


def test_every_text_comes_back_if_unknown_characters_are_bytes(
    tokenizer: UnigramTokenizer,
) -> None:
    if not any(name in BYTES for name in map(tokenizer.token, range(tokenizer.vocab_size))):
        assert tokenizer.decode(tokenizer.encode("The 👍👍 dog")) == "The <unk> dog"
        assert tokenizer.unknown_words(["The 👍 dog 👍 "]) == {" 👍": 2}
        return
    assert tokenizer.unknown_words(HARD) == {}
    for text in HARD:
        assert tokenizer.decode(tokenizer.encode(text)) == text
        for seed in range(5):
            sampled = tokenizer.sample(text[:300], random.Random(seed), 0.1)
            assert tokenizer.decode(sampled) == text[:300]


def test_the_probability_of_a_text_is_the_sum_over_all_its_segmentations(
    small: UnigramTokenizer,
) -> None:
    #  " ab": whole, " a" b, " " ab, " " a b
    ways = [-4.0, -2.2 - 2.0, -2.0 - 2.5, -2.0 - 1.0 - 2.0]
    total = math.log(math.fsum(map(math.exp, ways)))
    assert small.log_probability(" ab") == pytest.approx(total, abs=1e-12)
    assert small.lattice(" ab").best().log_probability == -4.0
    assert [score for _, score in small.n_best(" ab", 9)] == pytest.approx(ways)
    # Words are independent of each other, and nothing goes beyond one.
    assert small.log_probability("ab ab") == pytest.approx(
        small.log_probability("ab") + total, abs=1e-12
    )
    assert len(small.n_best("ab ab", 99)) == 2 * 4


def test_unknown_characters_in_a_row_are_one_within_a_word(small: UnigramTokenizer) -> None:
    assert small.encode("xyz") == [UNK_ID]
    assert small.encode("xay x") == [UNK_ID, small.encode("a")[0], UNK_ID, 4, UNK_ID]
    assert small.lattice("xa").best().log_probability == pytest.approx(-15.0)
    assert small.ids_of("xy x", small.lattice("xy x").best()) == [UNK_ID, 4, UNK_ID]
    assert small.unknown_words(["xy a xy", "b"]) == {"xy": 1, " xy": 1}
    more = small.with_words(["yx", "ab"])
    assert [more.token(i) for i in range(more.vocab_size)][-2:] == ["y", "x"]
    assert UNK_ID not in more.encode("xyx")
    assert more.encode("a ab b") == small.encode("a ab b")
    assert small.with_words(["ab"]) is small


def test_a_higher_alpha_draws_the_best_segmentation_more_often(
    tokenizer: UnigramTokenizer,
) -> None:
    text = STORIES[0][:60]
    best = tokenizer.encode(text)
    shares = []
    for alpha in (0.0, 1.0, 30.0):
        source = random.Random(3)
        shares.append(sum(tokenizer.sample(text, source, alpha) == best for _ in range(60)) / 60)
    assert shares[0] <= shares[1] <= shares[2]
    assert shares[0] < 0.5 < shares[2]


def test_a_foreign_file_keeps_pieces_and_scores_and_gets_our_special_tokens() -> None:
    theirs = {
        "version": "1.0",
        "added_tokens": [
            {"id": 0, "content": "[UNK]", "special": True, **NOT_STRIPPED},
        ],
        "normalizer": None,
        "pre_tokenizer": UnigramTokenizer.train(
            STORIES[:20], UnigramSettings(vocab_size=400)
        ).to_hugging_face()["pre_tokenizer"],
        "model": {
            "type": "Unigram",
            "unk_id": 0,
            "vocab": [["[UNK]", 0.0], ["a", -1], ["b", -2.5], ["ab", -3.0], [" ", -2.0]],
            "byte_fallback": False,
        },
    }
    library = tokenizers.Tokenizer.from_str(json.dumps(theirs))
    ours = UnigramTokenizer.from_hugging_face(theirs, DataError)
    assert ours.scores == {"a": -1.0, "b": -2.5, "ab": -3.0, " ": -2.0}
    for text in ("ab ba", "aab b", "axxb", ""):
        expected = [library.id_to_token(i) for i in library.encode(text).ids]
        got = ["[UNK]" if i == UNK_ID else ours.token(i) for i in ours.encode(text)]
        assert got == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normalizer": {"type": "NFKC"}}, r"normalizer is 'NFKC'"),
        ({"pre_tokenizer": {"type": "Metaspace"}}, r"pre_tokenizer.replacement is None"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, r"pre_tokenizer is 'Whitespace'"),
        ({"pre_tokenizer": None}, r"pre_tokenizer is None"),
        ({"model.unk_id": None}, r"model.unk_id is None"),
        ({"model.unk_id": 10**6}, r"model.unk_id is 1000000"),
        ({"model.vocab": [["<unk>", 0.0], ["a"]]}, r"model.vocab holds \['a'\]"),
        ({"model.vocab": [["<unk>", 0.0], ["a", True]]}, r"model.vocab holds \['a', True\]"),
        ({"model.vocab": [["a", 0.0], ["a", 0.0]]}, r"holds 'a' twice"),
        ({"model.vocab": {"a": 1}}, r"model.vocab"),
        ({"model.vocab": [["<unk>", 0.0], ["a", -1.0]], "model.unk_id": 0}, r"lacks <0x00>"),
        ({"model.alpha": 0.5}, r"model.alpha is 0.5"),
    ],
)
def test_files_of_the_library_that_have_no_equal_are_refused(
    change: dict[str, Any], message: str
) -> None:
    content = UnigramTokenizer.train(
        STORIES[:20], UnigramSettings(vocab_size=400)
    ).to_hugging_face()
    for key, value in change.items():
        section, _, last = key.rpartition(".")
        (content[section] if section else content)[last] = value
    with pytest.raises(DataError, match=message) as error:
        UnigramTokenizer.from_hugging_face(content, DataError)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pieces": {}}, "holds no piece"),
        ({"pieces": {"": -1.0}}, "an empty piece"),
        ({"pieces": {"<pad>": -1.0}}, "the name of another token"),
        ({"pieces": {"<0x0A>": -1.0}}, "the name of another token"),
        ({"pieces": {"a": math.nan}}, "is not a finite number"),
        ({"unknown_score": 1.0}, "unknown_score"),
    ],
)
def test_contents_that_cannot_be_used_are_refused(changed: dict[str, Any], message: str) -> None:
    values = {"split": "gpt2", "byte_fallback": True, "pieces": {"a": -1.0}, "unknown_score": -9.0}
    with pytest.raises(DataError, match=message):
        UnigramTokenizer(Content(**{**values, **changed}))


def test_texts_without_a_frequent_character_and_too_small_a_vocabulary_are_refused() -> None:
    for texts, settings, expected, message in (
        (["abc"], {}, DataError, "no character of the training texts occurs 2 times"),
        ([], {}, DataError, "no character"),
        (["aabb"], {"vocab_size": 261}, ConfigError, "261 .* 2 characters .* 256 bytes.* 262"),
        (["aabb"], {"vocab_size": 5, "byte_fallback": False}, ConfigError, "set it to 6 or more"),
    ):
        with pytest.raises(TinylmError, match=message) as error:
            UnigramTokenizer.train(texts, UnigramSettings(**settings))
        assert type(error.value) is expected


def test_a_table_of_words_that_is_full_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    from tinylm.tokenizers.loops import numbering

    tokenizer = UnigramTokenizer.train(STORIES[:50], UnigramSettings(vocab_size=500))
    texts = [*STORIES[:60], "", "x" * 900, *STORIES[60:90], ""]
    expected = [tokenizer._encode_plain(text) for text in texts]
    monkeypatch.setattr(numbering, "_ENTRIES", 16)
    encoder = numbering.Encoder(0, tokenizer._cutter)
    for _ in range(2):
        ids, bounds = encoder(texts)
        places = bounds.tolist()
        rows = [ids[a:b].tolist() for a, b in pairwise(places)]
        assert rows == expected
