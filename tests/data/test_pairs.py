"""Pairs of prompts: from the grammar, and from a user's file."""

from __future__ import annotations

import itertools
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from tinylm.data.corpora.stories import build_story
from tinylm.data.corpora.story_grammar import lexicon
from tinylm.data.corpora.story_grammar.places import PLACES
from tinylm.data.corpora.story_grammar.plots.having import lost_and_found, sharing, trading
from tinylm.data.corpora.story_grammar.world import World
from tinylm.data.pairs import (
    BEHAVIOURS,
    EncodedPair,
    PromptPair,
    encode_pair,
    grammar_pairs,
    read_pairs,
    readable_pairs,
)
from tinylm.errors import DataError
from tinylm.tokenizers.bytes import BytesTokenizer
from tinylm.tokenizers.word import WordTokenizer

PLOTS = (sharing, lost_and_found, trading)
GOOD = {"clean": "Lily saw Tom.", "corrupted": "Lily saw Ben.", "answer": "Tom", "wrong": "Ben"}


@pytest.fixture(scope="module")
def tokenizer() -> WordTokenizer:
    texts = (build_story(0, "train", i).text for i in range(400))
    return WordTokenizer.train(texts, WordTokenizer.Settings())


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_prompts_differ_in_one_word_and_so_do_the_answers(behaviour: str) -> None:
    orders = set()
    for pair in itertools.islice(grammar_pairs(behaviour, 3), 200):
        clean, corrupted = pair.clean.split(), pair.corrupted.split()
        assert len(clean) == len(corrupted)
        changed = [i for i, words in enumerate(zip(clean, corrupted, strict=True))
                   if words[0] != words[1]]  # fmt: skip
        assert len(changed) == 1
        assert clean[changed[0]].lower().strip('."') == pair.answer.lower()
        assert corrupted[changed[0]].lower().strip('."') == pair.wrong.lower()
        orders.add(pair.clean.split()[0] == pair.answer)
    if BEHAVIOURS[behaviour].exchanged == "name":
        assert orders == {True, False}


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_a_seed_makes_the_same_pairs(behaviour: str) -> None:
    first, again, other = (
        list(itertools.islice(grammar_pairs(behaviour, seed), 20)) for seed in (1, 1, 2)
    )
    assert first == again
    assert not set(first) & set(other)


def shape_of(sentence: str) -> str:
    """A sentence with every name, thing, colour, place and spot as a blank."""
    names = [*lexicon.GIRLS, *lexicon.BOYS, *lexicon.ANIMAL_GIRLS, *lexicon.ANIMAL_BOYS]
    words = [toy.noun for toy in lexicon.TOYS] + [toy.noun for toy in lexicon.TREASURES]
    adjectives = {word for toy in [*lexicon.TOYS, *lexicon.TREASURES] for word in toy.adjectives}
    places = [place.at for place in PLACES]
    spots = [spot for place in PLACES for spot in place.spots]
    for group, blank in ((places, "AT"), (spots, "SPOT"), (names, "NAME"), (words, "THING"),
                         (adjectives, "LIKE")):  # fmt: skip
        choices = "|".join(re.escape(word) for word in sorted(group, key=len, reverse=True))
        sentence = re.sub(rf"\b(?:{choices})\b", blank, sentence)
    return re.sub(r"LIKE THING", "THING", sentence).lower()


def test_every_sentence_is_the_grammar_s_own() -> None:
    """What a pair says, its last sentence as far as it goes, stands in stories of that shape."""
    texts = []
    for seed, plot in itertools.product(range(2500), PLOTS):
        world = World(plot.__name__, random.Random(seed).random, animals=False)
        plot(world)
        texts.append(world.text().replace("\n\n", " "))
    stories = shape_of(" ".join(texts))
    for behaviour in BEHAVIOURS:
        pair = next(grammar_pairs(behaviour, 0))
        sentences = re.split(r"(?<=[.]) ", shape_of(pair.clean))
        assert len(sentences) > 1
        for sentence in sentences:
            assert sentence in stories, sentence


def test_a_tokenizer_decides_which_pairs_are_read(tokenizer: WordTokenizer) -> None:
    pairs = readable_pairs("holder", 0, 12, tokenizer, 64)
    assert len(pairs) == 12
    for pair, encoded in pairs:
        assert encoded == encode_pair(pair, tokenizer)
        assert encoded.clean[0] == 2
        assert 1 not in encoded.clean
        differ = [a != b for a, b in zip(encoded.clean, encoded.corrupted, strict=True)]
        assert sum(differ) == 1
    assert readable_pairs("holder", 0, 3, tokenizer, 10) == []  # none is so short
    assert readable_pairs("holder", 0, 3, BytesTokenizer(), 640) == []  # names are of many bytes


def test_a_user_s_file_is_read(tmp_path: Path, tokenizer: WordTokenizer) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(GOOD) + "\n\n" + json.dumps(GOOD | {"clean": "Lily saw Sam."}))
    pairs = read_pairs(path, tokenizer)
    assert [pair.clean for pair, _ in pairs] == ["Lily saw Tom.", "Lily saw Sam."]
    encode = tokenizer.encode
    assert pairs[0][1] == EncodedPair(
        (2, *encode("Lily saw Tom.")), (2, *encode("Lily saw Ben.")), *encode("Tom"), *encode("Ben")
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            GOOD | {"corrupted": "Lily saw."},
            "the clean prompt has 4 tokens and the corrupted one 3",
        ),
        (GOOD | {"corrupted": GOOD["clean"]}, "the two prompts are the same to the model"),
        (GOOD | {"clean": "Lily saw Zarathustra."}, "the clean prompt holds 'Zarathustra.', which"),
        (GOOD | {"clean": ""}, "the clean prompt is empty"),
        (GOOD | {"answer": "Tom Ben"}, "the right answer 'Tom Ben' is 2 tokens: give a word that"),
        (GOOD | {"wrong": ""}, "the wrong answer '' is 0 tokens"),
        (GOOD | {"wrong": "xylem"}, "the wrong answer holds 'xylem', which the vocabulary lacks"),
        (GOOD | {"wrong": "tom"}, "the right and the wrong answer are the same token"),
        (GOOD | {"answr": "x"}, "unknown key 'answr'; did you mean answer?"),
        ({"clean": "Lily."}, "corrupted is missing: a pair has clean, corrupted, answer, wrong"),
        (GOOD | {"answer": 3}, r"answer = 3: expected"),
        ([], r"holds \[\]: expected"),
    ],
)
def test_a_line_that_is_no_pair_is_refused(
    tmp_path: Path, tokenizer: WordTokenizer, row: Any, message: str
) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(DataError, match=rf"pairs\.jsonl, line 2: {message}") as caught:
        read_pairs(path, tokenizer)
    assert "\n" not in str(caught.value)


def test_prompts_longer_than_the_context_are_refused_by_their_line(
    tmp_path: Path, tokenizer: WordTokenizer
) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(GOOD))
    tokens = len(tokenizer.encode(GOOD["clean"])) + 1
    assert read_pairs(path, tokenizer, tokens) == read_pairs(path, tokenizer)
    with pytest.raises(DataError) as caught:
        read_pairs(path, tokenizer, tokens - 1)
    assert str(caught.value) == (
        f"{path}, line 1: the prompts have {tokens} tokens, <sos> included, and the model reads "
        f"{tokens - 1}: shorten both"
    )


def test_files_without_pairs_are_refused(tmp_path: Path, tokenizer: WordTokenizer) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n")
    with pytest.raises(DataError, match="holds no pairs: give one a line"):
        read_pairs(path, tokenizer)
    path.write_text("{")
    with pytest.raises(DataError, match=r"line 1: not JSON"):
        read_pairs(path, tokenizer)
    with pytest.raises(DataError, match=r"cannot be read"):
        read_pairs(tmp_path / "none.jsonl", tokenizer)
    with pytest.raises(DataError, match=r"unknown behaviour 'holders'; did you mean holder\?"):
        next(grammar_pairs("holders", 0))
    assert PromptPair(**GOOD).answer == "Tom"
