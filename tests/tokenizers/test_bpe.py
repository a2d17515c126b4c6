"""Byte-level BPE: merges, vocabulary and ids are those of Hugging Face tokenizers."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, trainers

from tinylm.config import DataConfig
from tinylm.data.corpora import open_corpus
from tinylm.errors import ConfigError, DataError
from tinylm.reading import signed
from tinylm.tokenizers import byte_letters
from tinylm.tokenizers.base import SPECIAL_TOKENS
from tinylm.tokenizers.bpe import BPESettings, BPETokenizer
from tinylm.tokenizers.bpe_file import Content
from tinylm.tokenizers.hugging_face import byte_level
from tinylm.tokenizers.loops import bpe_encoding, counting
from tinylm.tokenizers.loops.bpe_encoding import Encoder
from tinylm.tokenizers.loops.counting import WordTable
from tinylm.tokenizers.splitting import PATTERNS, RULES, split

STORIES = list(open_corpus(DataConfig(corpus="stories", train_stories=400)).train())
HARD = [
    "",
    " ",
    "👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301 n\u0303o",
    "שלום עולם مرحبا بالعالم \u200f\u202eabc",
    "\x00\x01\x07\x1b[31m\x7f\x85\u2028\ufeff\ufffe",
    "漢字かな交じり文。" * 30,
    "a" * 5000,
    "ab" * 700 + " " * 900 + "x\r\n\r\n\t y",
    "-" * 777 + "=" * 333,
    "don't I'LL we'Ve 'ſ 1234567 ½² x=5",
    "<pad> <eos><unk>",
    "\U0010ffff\U00030000\ue000",
]
ALPHABET = [bytes([byte]) for byte in byte_letters.ALPHABET]


def theirs_trained(
    texts: Sequence[str], size: int, least: int, split: str = "gpt2"
) -> tokenizers.Tokenizer:
    theirs = tokenizers.Tokenizer(models.BPE())
    frame = {**json.loads(theirs.to_str()), "pre_tokenizer": byte_level(split)}
    theirs = tokenizers.Tokenizer.from_str(json.dumps(frame))
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=least,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    theirs.train_from_iterator(iter(texts), trainer)
    theirs.encode_special_tokens = True
    return theirs


def assert_same(ours: BPETokenizer, theirs: tokenizers.Tokenizer) -> None:
    assert {ours.token(i): i for i in range(ours.vocab_size)} == theirs.get_vocab()
    merges = json.loads(theirs.to_str())["model"]["merges"]
    written = byte_letters.written
    assert [[written(left), written(right)] for left, right in ours.merges] == merges


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    return BPETokenizer.train(STORIES, BPESettings(vocab_size=800))


# --- training ---


@pytest.mark.parametrize("split", PATTERNS)
@pytest.mark.parametrize(("size", "least"), [(300, 1), (800, 2), (4000, 2), (100_000, 1)])
def test_merges_vocabulary_and_ids_are_those_of_hugging_face(
    split: str, size: int, least: int
) -> None:
    texts = STORIES + HARD
    settings = BPESettings(vocab_size=size, min_frequency=least, split=split)  # type: ignore[arg-type]
    ours, theirs = BPETokenizer.train(texts, settings), theirs_trained(texts, size, least, split)
    assert_same(ours, theirs)
    expected = [theirs.encode(text).ids for text in texts]
    assert ours.encode_batch(texts) == expected
    assert [ours._encode_plain(text) for text in texts] == expected
    assert ours.decode_batch(expected) == texts


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_ties_and_runs_are_merged_as_hugging_face_does(data: st.DataObject) -> None:
    # Few letters and long runs: many pairs are equally frequent, and a token comes from two pairs.
    letters = data.draw(st.sampled_from(["a", "ab", "ab c", "-=", "- ", "aé"]))
    texts = data.draw(st.lists(st.text(letters, max_size=50), min_size=1, max_size=8))
    texts += ["a" * length for length in data.draw(st.lists(st.integers(1, 90), max_size=5))]
    size, least = data.draw(st.integers(261, 340)), data.draw(st.integers(1, 3))
    ours = BPETokenizer.train(texts, BPESettings(vocab_size=size, min_frequency=least))
    theirs = theirs_trained(texts, size, least)
    assert_same(ours, theirs)
    assert ours.encode_batch(texts) == [theirs.encode(text).ids for text in texts]


def brute_force(texts: Sequence[str], size: int, least: int) -> list[tuple[bytes, bytes]]:
    """Learn merges by counting all pairs anew each time, as the paper's listing does."""
    ids = {token: i for i, token in enumerate(ALPHABET)}
    counts = Counter(word for text in texts for word in split(text, RULES["gpt2"]))
    words = {word: [bytes([byte]) for byte in word] for word in counts}
    merges: list[tuple[bytes, bytes]] = []
    while len(ids) + len(SPECIAL_TOKENS) < size:
        pairs: Counter[tuple[bytes, bytes]] = Counter()
        for word, parts in words.items():
            for pair in itertools.pairwise(parts):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], ids[pair[0]], ids[pair[1]]))
        if pairs[best] < least:
            break
        merges.append(best)
        ids.setdefault(best[0] + best[1], len(ids))
        for word, parts in words.items():
            merged: list[bytes] = []
            for part in parts:
                # A part that was merged just now is longer than the pair's first, never equal.
                if merged and (merged[-1], part) == best:
                    merged[-1] += part
                else:
                    merged.append(part)
            words[word] = merged
    return merges


def test_merges_are_those_of_counting_all_pairs_anew() -> None:
    texts = STORIES[:60]
    tokenizer = BPETokenizer.train(texts, BPESettings(vocab_size=460, min_frequency=2))
    assert tokenizer.merges == brute_force(texts, 460, 2)
    assert len(tokenizer.merges) == 200


def test_a_worked_example() -> None:
    # "ab" 3 times, then "ab" + "c" twice; "cd" twice ties with it and is the larger pair of ids.
    tokenizer = BPETokenizer.train(["abcd", "abc", "ab", "cd"], BPESettings(vocab_size=262))
    assert tokenizer.merges == [(b"a", b"b"), (b"c", b"d")]
    assert [tokenizer.token(i) for i in tokenizer.encode("abcdab")] == ["ab", "cd", "ab"]


def test_a_special_tokens_name_is_never_merged() -> None:
    name = "<-->"  # one word of the rule
    texts = [name] * 50 + ["<--"] * 5
    plain = BPETokenizer.train(texts, BPESettings(vocab_size=300))
    assert name in {plain.token(i) for i in range(4, plain.vocab_size)}
    tokenizer = BPETokenizer.train(texts, BPESettings(vocab_size=300, special_tokens=(name,)))
    assert [tokenizer.token(i) for i in range(tokenizer.vocab_size)].count(name) == 1
    assert 4 not in tokenizer.encode(name * 3)
    assert tokenizer.decode(tokenizer.encode(name)) == name


def test_the_chunks_of_training_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = STORIES + HARD
    whole = BPETokenizer.train(texts, BPESettings(vocab_size=2000)).fingerprint()
    monkeypatch.setattr(counting, "CHUNK_BYTES", 100)
    assert BPETokenizer.train(texts, BPESettings(vocab_size=2000)).fingerprint() == whole


def test_words_are_counted_where_the_table_grows() -> None:
    generator = random.Random(1)
    texts = [
        " ".join("".join(generator.choices("abcdefghé", k=6)) for _ in range(4000))
        for _ in range(20)
    ] + ["x" * 700_000]
    table = WordTable(RULES["gpt2"])
    table.add(texts)
    content, bounds, counts = table.words()
    words = [content[a:b].tobytes() for a, b in itertools.pairwise(bounds)]
    assert len(words) > 40_000
    expected = Counter(word for text in texts for word in split(text, RULES["gpt2"]))
    assert dict(zip(words, counts.tolist(), strict=True)) == expected


def test_no_text_leaves_the_bytes() -> None:
    tokenizer = BPETokenizer.train([], BPESettings(vocab_size=300))
    assert tokenizer.vocab_size == 260
    assert tokenizer.merges == []
    assert tokenizer.decode(tokenizer.encode("ö!")) == "ö!"


def test_a_vocabulary_smaller_than_the_alphabet_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        BPETokenizer.train(STORIES, BPESettings(vocab_size=259))
    assert str(error.value) == (
        "tokenizer.vocab_size = 259 has no room for the alphabet, 256 bytes beside 4 special "
        "tokens: set it to 260 or more"
    )


# --- encoding ---


def by_rank(tokenizer: BPETokenizer, word: bytes) -> list[bytes]:
    """Merge a word as the definition says: the lowest rank anywhere, the first from the left."""
    ranks = {pair: rank for rank, pair in enumerate(tokenizer.merges)}
    parts = [bytes([byte]) for byte in word]
    while True:
        ranked = [
            (ranks[pair], place)
            for place, pair in enumerate(itertools.pairwise(parts))
            if pair in ranks
        ]
        if not ranked:
            return parts
        place = min(ranked)[1]
        parts[place : place + 2] = [parts[place] + parts[place + 1]]


@settings(max_examples=200, deadline=None)
@given(word=st.text("abcdefghilnorstuy", min_size=1, max_size=120))
def test_both_paths_merge_the_lowest_rank_anywhere(tokenizer: BPETokenizer, word: str) -> None:
    expected = by_rank(tokenizer, word.encode())
    for ids in (tokenizer._encode_plain(word), tokenizer.encode_flat([word])[0].tolist()):
        assert [tokenizer._bytes[i] for i in ids] == expected


@settings(max_examples=300, deadline=None)
@given(texts=st.lists(st.text(max_size=40), max_size=6))
def test_every_text_comes_back_from_both_paths(tokenizer: BPETokenizer, texts: list[str]) -> None:
    ids, bounds = tokenizer.encode_flat(texts)
    rows = [ids[a:b].tolist() for a, b in itertools.pairwise(bounds)]
    assert rows == [tokenizer._encode_plain(text) for text in texts]
    assert tokenizer.decode_batch(rows) == texts


def test_words_are_forgotten_where_the_table_is_full(
    tokenizer: BPETokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bpe_encoding, "_ENTRIES", 32)
    encoder = Encoder(RULES["gpt2"], tokenizer._byte_ids, tokenizer._merges)
    for _ in range(2):
        ids, bounds = encoder(STORIES + HARD)
        expected = tokenizer.encode_flat(STORIES + HARD)
        assert np.array_equal(ids, expected[0])
        assert np.array_equal(bounds, expected[1])


def test_a_very_long_word_takes_time_in_proportion(tokenizer: BPETokenizer) -> None:
    generator = random.Random(2)
    word = "".join(generator.choice("abcdehilnorst") for _ in range(400_000))  # seconds if squared
    ids = tokenizer.encode(word)
    assert tokenizer.decode(ids) == word
    assert ids == tokenizer._encode_plain(word)


def test_lone_surrogates_become_the_replacement_character(tokenizer: BPETokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a\ufffdb"
    assert tokenizer.decode(tokenizer.encode_batch(["a\ud800b" * 5000])[0]) == "a\ufffdb" * 5000


def test_half_a_character_waits_for_the_rest(tokenizer: BPETokenizer) -> None:
    ids = tokenizer.encode("é")
    assert len(ids) == 2
    assert tokenizer.decode(ids[:1]) == ""
    assert tokenizer.decode([ids[0], ids[0], ids[1]]) == "\ufffdé"
    with pytest.raises(DataError, match="ids run from 0 to"):
        tokenizer.decode([tokenizer.vocab_size])


# --- the file ---


def test_what_the_file_holds(tokenizer: BPETokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    content = json.loads(path.read_text("utf-8"))
    assert content["kind"] == "bpe"
    assert content["split"] == "gpt2"
    assert content["vocabulary"][:3] == ["!", '"', "#"]
    assert content["merges"][0] == [byte_letters.written(part) for part in tokenizer.merges[0]]
    assert BPETokenizer.load(path).merges == tokenizer.merges
    other = BPETokenizer.train(STORIES, BPESettings(vocab_size=800, split="cl100k"))
    assert other.fingerprint() != tokenizer.fingerprint()


def changed(content: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the file with a mistake."""
    words, merges = list(content["vocabulary"]), [list(merge) for merge in content["merges"]]
    if key == "a byte is missing":
        words.remove("Ġ")
    elif key == "twice":
        words.append(words[-1])
    elif key == "no merge makes it":
        words.append("xyzxyz")
    elif key == "a merge makes what is not there":
        merges.append(["x", "z"])
    elif key == "a merge takes what is not there":
        merges.append(["xyz", "z"])
    elif key == "a merge twice":
        merges.append(merges[0])
    elif key == "three parts":
        merges[0] = ["a", "b", "c"]
    elif key == "no bytes":
        words[-1] = "漢"
    elif key == "an empty token":
        words.append("")
    elif key == "a special token's name":
        words.append("<eos>")
        merges += [["<", "e"], ["<e", "o"], ["<eo", "s"], ["<eos", ">"]]
        words += ["<e", "<eo", "<eos"]
    elif key == "another rule":
        return content | {"split": "gpt3"}
    elif key == "numbers for words":
        return content | {"vocabulary": [1, 2]}
    elif key == "an unknown key":
        return content | {"dropout": 0.1}
    elif key == "a missing key":
        return {name: value for name, value in content.items() if name != "merges"}
    return content | {"vocabulary": words, "merges": merges}


MISTAKES = {
    "a byte is missing": "lacks the byte 0x20",
    "twice": "holds .* twice",
    "no merge makes it": "'xyzxyz', which no merge makes",
    "a merge makes what is not there": "makes 'xz', which the vocabulary lacks",
    "a merge takes what is not there": "takes 'xyz', which the vocabulary lacks",
    "a merge twice": "stands there twice",
    "three parts": "is not a pair",
    "no bytes": "'漢' is no token of bytes",
    "an empty token": "'' is no token of bytes",
    "a special token's name": "'<eos>', the name of a special token",
    "another rule": "split is 'gpt3', but gpt2 or cl100k is needed",
    "numbers for words": r"vocabulary\.0 = 1: expected text",
    "an unknown key": "unknown key dropout",
    "a missing key": "merges is missing",
}


@pytest.mark.parametrize("key", MISTAKES)
def test_a_file_that_contradicts_itself_is_refused(
    tokenizer: BPETokenizer, tmp_path: Path, key: str
) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    content = json.loads(path.read_text("utf-8"))
    content.pop("checksum")
    path.write_text(json.dumps(signed(changed(content, key))), "utf-8")
    with pytest.raises(DataError, match=MISTAKES[key]) as error:
        BPETokenizer.load(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_file_that_was_changed_is_refused(tokenizer: BPETokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    path.write_text(path.read_text("utf-8").replace('"gpt2"', '"cl100k"'), "utf-8")
    with pytest.raises(DataError, match="has changed since it was written"):
        BPETokenizer.load(path)


def test_ids_follow_the_vocabulary_in_any_order() -> None:
    tokens = [b"ab", *reversed(ALPHABET), b"abc"]
    content = Content("gpt2", tokens, [(b"a", b"b"), (b"ab", b"c")])
    tokenizer = BPETokenizer(content)
    assert tokenizer.encode("abab abc") == [4, 4, 4 + tokens.index(b" "), 261]
    assert tokenizer.decode([4, 261]) == "ababc"
