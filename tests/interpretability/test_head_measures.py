"""Shares and what is expected of them, beside plain loops over queries and keys."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tinylm.config import ModelConfig
from tinylm.errors import GenerationError
from tinylm.interpretability import head_measures
from tinylm.interpretability.head_measures import FIRST_QUERY, HeadMeasure, measure_heads
from tinylm.interpretability.head_roles import role
from tinylm.interpretability.places import PLACES, Text, frequent_types, is_punctuation
from tinylm.model.decoder import DecoderLM

VOCAB = 12
MARK = 5
MARKS = torch.tensor([i == MARK for i in range(VOCAB)])
PATTERN = torch.Tensor


def model(layers: int = 1, heads: int = 1) -> DecoderLM:
    torch.manual_seed(0)
    return DecoderLM(
        ModelConfig(vocab_size=VOCAB, context_length=64, num_layers=layers, num_heads=heads,
                    hidden_size=8, ffn_size=8)
    )  # fmt: skip


def is_key(place: str, ids: list[int], rarer: list[bool], i: int, j: int) -> bool:
    """What every place means, written as for one query and one key."""
    if place == "first token":
        return j == 0
    if j == 0 or j > i:
        return False
    back = i - j
    return {
        "own position": back == 0,
        "previous token": back == 1,
        "next-to-last token": back == 2,
        "nearby tokens": 3 <= back <= 8,
        "same word": back > 0 and ids[i] == ids[j] and ids[i] != MARK,
        "after same word": back > 0 and j > 1 and ids[j - 1] == ids[i] and ids[i] != MARK,
        "punctuation": back > 0 and ids[j] == MARK,
        "rarer words": back > 0 and rarer[ids[j]] and ids[j] != MARK,
    }[place]


@settings(max_examples=40, deadline=None)
@given(
    ids=st.lists(st.integers(2, VOCAB - 1), min_size=2, max_size=14),
    rarer=st.lists(st.booleans(), min_size=VOCAB, max_size=VOCAB),
)
def test_places_are_what_they_are_said_to_be(ids: list[int], rarer: list[bool]) -> None:
    tokens = torch.tensor(ids)
    text = Text(tokens, MARKS[tokens], torch.tensor(rarer)[tokens])
    for place in PLACES:
        keys = place.keys(text)
        expected = [
            [is_key(place.name, ids, rarer, i, j) for j in range(len(ids))] for i in range(len(ids))
        ]
        assert keys.tolist() == expected, place.name


def random_patterns(texts: list[list[int]], seed: int = 0) -> dict[tuple[int, ...], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for ids in texts:
        seq = len(ids)
        scores = 2 * torch.randn(1, 2, seq, seq, generator=generator)
        blocked = torch.ones(seq, seq, dtype=torch.bool).triu(1)
        made[tuple(ids)] = scores.masked_fill(blocked, -torch.inf).softmax(-1)
    return made


def measured(
    monkeypatch: pytest.MonkeyPatch, patterns: dict[tuple[int, ...], Tensor]
) -> list[HeadMeasure]:
    monkeypatch.setattr(head_measures, "attention_patterns", lambda _, ids: patterns[tuple(ids)])
    heads = next(iter(patterns.values())).shape[1]
    return measure_heads(model(1, heads), [list(ids) for ids in patterns], MARKS)


TEXTS = [
    [2, 6, 7, 5, 6, 8, 6, 7, 9, 5],
    [2, 7, 6, 6, 5, 8, 9],
    [2, 10, 6, 5, 5, 7, 10, 6, 11, 7, 6],
]


def test_shares_and_expectations_beside_plain_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    patterns = random_patterns(TEXTS)
    rarer = (~frequent_types(TEXTS, VOCAB)).tolist()
    heads = measured(monkeypatch, patterns)
    assert [(head.layer, head.head) for head in heads] == [(0, 0), (0, 1)]
    for head in heads:
        weights = [patterns[tuple(ids)][0, head.head].double() for ids in TEXTS]
        for place in PLACES:
            share = expected = 0.0
            queries = 0
            for number, (ids, own) in enumerate(zip(TEXTS, weights, strict=True)):
                for i in range(FIRST_QUERY, len(ids)):
                    keys = [j for j in range(i + 1) if is_key(place.name, ids, rarer, i, j)]
                    queries += bool(keys)
                    share += sum(float(own[i, j]) for j in keys)
                    others = [
                        w for n, w in enumerate(weights) if n != number and len(TEXTS[n]) > i
                    ] or [own]
                    expected += sum(
                        sum(float(w[i, j]) for w in others) / len(others)
                        if place.of_words
                        else 1 / (i + 1)
                        for j in keys
                    )
            measured_share = head.shares[place.name]
            assert measured_share.queries == queries
            assert measured_share.share == pytest.approx(share / queries, abs=1e-6)
            assert measured_share.expected == pytest.approx(expected / queries, abs=1e-6)


def test_distance_and_entropy_beside_plain_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    patterns = random_patterns(TEXTS)
    (head, _) = measured(monkeypatch, patterns)
    back = mass = even_back = even_mass = entropy = 0.0
    queries = 0
    for ids in TEXTS:
        own = patterns[tuple(ids)][0, 0].double()
        for i in range(FIRST_QUERY, len(ids)):
            queries += 1
            row = [float(w) for w in own[i, : i + 1]]
            entropy += -sum(w * math.log(w) for w in row) / math.log(i + 1)
            back += sum(row[j] * (i - j) for j in range(1, i + 1))
            mass += sum(row[1:])
            even_back += sum(i - j for j in range(1, i + 1)) / (i + 1)
            even_mass += i / (i + 1)
    assert head.distance == pytest.approx(back / mass, rel=1e-6)
    assert head.even_distance == pytest.approx(even_back / even_mass)
    assert head.entropy == pytest.approx(entropy / queries, rel=1e-6)


def texts_of(length: int = 40, number: int = 30) -> list[list[int]]:
    generator = torch.Generator().manual_seed(3)
    return [
        [2, *torch.randint(4, VOCAB, (length,), generator=generator).tolist()]
        for _ in range(number)
    ]


def archetype(place: str, ids: list[int], rarer: list[bool]) -> Tensor:
    """A head that gives four fifths of its weight evenly to a place, and the rest to everything."""
    seq = len(ids)
    even = torch.ones(seq, seq).tril() / torch.arange(1, seq + 1)[:, None]
    pattern = even.clone()
    for i in range(seq):
        keys = [j for j in range(i + 1) if is_key(place, ids, rarer, i, j)]
        if keys:
            pattern[i] *= 0.2
            pattern[i, keys] += 0.8 / len(keys)
    return pattern


@pytest.mark.parametrize("place", [place.name for place in PLACES])
def test_a_head_is_called_after_the_place_it_looks_at(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    texts = texts_of()
    rarer = (~frequent_types(texts, VOCAB)).tolist()
    patterns = {tuple(ids): archetype(place, ids, rarer)[None, None] for ids in texts}
    (head,) = measured(monkeypatch, patterns)
    assert role(head.shares).name == place
    assert head.shares[place].share > 0.8


def test_a_head_that_knows_no_words_gets_no_role_of_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Marks are a third of the tokens here, so that any head gives them much."""
    texts = [[2, *(MARK if i % 3 == n % 3 else 4 + i % 8 for i in range(40))] for n in range(30)]
    even = torch.ones(41, 41).tril() / torch.arange(1, 42)[:, None]
    (head,) = measured(monkeypatch, {tuple(ids): even[None, None] for ids in texts})
    share = head.shares["punctuation"]
    assert share.share > 0.3
    assert share.focus == pytest.approx(0, abs=0.02)
    head_role = role(head.shares)
    assert head_role.name == "mixed"


def test_favourites_are_types_that_get_more_than_their_positions_explain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = texts_of()
    patterns = {}
    for ids in texts:
        pattern = torch.ones(41, 41).tril()
        pattern[:, [j for j, token in enumerate(ids) if token == 7]] *= 6
        pattern = pattern.tril()
        patterns[tuple(ids)] = (pattern / pattern.sum(1, keepdim=True))[None, None]
    (head,) = measured(monkeypatch, patterns)
    assert [favourite.token for favourite in head.favourites] == [7]
    assert 2 < head.favourites[0].factor < 6
    even = torch.ones(41, 41).tril() / torch.arange(1, 42)[:, None]
    (head,) = measured(monkeypatch, {tuple(ids): even[None, None] for ids in texts})
    assert head.favourites == ()


def test_a_place_that_no_query_has_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [[2, 4, 6, 7, 8, 9, 10], [2, 4, 10, 9, 8, 7, 6]]
    (head, _) = measured(monkeypatch, random_patterns(texts))
    assert "punctuation" not in head.shares and "same word" not in head.shares
    assert "previous token" in head.shares


def test_frequent_types_make_up_half_of_the_text() -> None:
    texts = [[7, 7, 7, 7, 3], [3, 3, 1, 2, 4]]  # 4 sevens, 3 threes, one each of 1, 2, 4
    assert frequent_types(texts, 9).nonzero().flatten().tolist() == [3, 7]
    assert frequent_types([[1, 1, 2, 2]], 4).nonzero().flatten().tolist() == [1]


def test_patterns_are_those_of_the_model() -> None:
    """Without anything patched: shares lie between 0 and 1, and the model is left as it was."""
    decoder = model(2, 2).train()
    heads = measure_heads(decoder, texts_of(20, 4), MARKS)
    assert decoder.training
    assert [(head.layer, head.head) for head in heads] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for head in heads:
        for share in head.shares.values():
            assert 0 <= share.share <= 1 and 0 <= share.expected <= 1
        assert 0 < head.entropy <= 1


def test_too_little_text_is_refused() -> None:
    with pytest.raises(GenerationError, match="two or more texts of more than 4 tokens"):
        measure_heads(model(), [[2, 4, 5, 6, 7], [2, 4]], MARKS)


def test_is_punctuation() -> None:
    marks = [".", ",", '"', "...", "—", "$", "<", "<>"]
    assert all(is_punctuation(word) for word in marks)
    words = ["dog", "7", "don't", "'s", "<sos>", "<unk>", "é", "", "\n", " \n"]
    assert not any(is_punctuation(word) for word in words)
