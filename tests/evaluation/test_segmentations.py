"""Probabilities of texts over all their segmentations, beside sums over all token sequences."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tinylm.config import ModelConfig
from tinylm.errors import DataError
from tinylm.evaluation import segmentations
from tinylm.evaluation.segmentations import count, edges_of, segmentable, text_probability
from tinylm.generation.scoring import token_log_probabilities
from tinylm.model.base import GenerativeModel, build
from tinylm.registry import MODELS, TOKENIZERS
from tinylm.tokenizers.bpe import BPESettings, BPETokenizer

KINDS = [kind for kind in MODELS if MODELS.load(kind).scores_texts]


class Letters:
    """A tokenizer over a and b, two tokens of which spell alike; the longest is taken first."""

    label = "letters"
    spellings = (b"", b"", b"", b"", b"a", b"b", b"ab", b"aba", b"a")
    vocab_size = len(spellings)

    def encode(self, text: str) -> list[int]:
        ids = []
        while text:
            token = next(t for t in (7, 6, 4, 5) if text.startswith(self.spellings[t].decode()))
            ids.append(token)
            text = text[len(self.spellings[token]) :]
        return ids


LETTERS: Any = Letters()


def model_of(
    kind: str = "decoder", vocab_size: int = Letters.vocab_size, context: int = 12
) -> GenerativeModel:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        torch.manual_seed(3)
        sizes = {"num_layers": 2, "hidden_size": 8, "dropout": 0.0, "context_length": context}
        heads = {"num_heads": 2} if "num_heads" in MODELS.load(kind).settings else {}
        made = build(ModelConfig(kind=kind, vocab_size=vocab_size, **sizes, **heads))
    finally:
        torch.set_default_dtype(before)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return made.eval()


@torch.no_grad()
def joint(model: GenerativeModel, ids: tuple[int, ...]) -> float:
    """The log-probability of tokens after ``<sos>``, one forward pass a token."""
    row = [2, *ids]
    return sum(
        float(model(torch.tensor([row[: i + 1]]))[0, -1].log_softmax(-1)[row[i + 1]])
        for i in range(len(ids))
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ended", [True, False])
def test_it_is_the_sum_over_all_token_sequences(kind: str, ended: bool) -> None:
    """Every sequence of tokens is tried, not only those that the tree has."""
    model = model_of(kind)
    text = "abaab"
    result = text_probability(model, LETTERS, text, ended)
    total, found = 0.0, {}
    end = (3,) if ended else ()
    for length in range(1, 6):
        for ids in itertools.product(range(4, Letters.vocab_size), repeat=length):
            if b"".join(Letters.spellings[i] for i in ids) == text.encode():
                found[ids] = joint(model, (*ids, *end))
                total += math.exp(found[ids])
    assert dict(result.paths).keys() == found.keys()
    for ids, value in result.paths:
        assert value == pytest.approx(found[ids], abs=1e-11)
    assert result.total == pytest.approx(math.log(total), abs=1e-11)
    assert result.canonical == (7, 6)
    assert result.usual == pytest.approx(found[7, 6], abs=1e-11)
    missed = (math.log(total) - found[7, 6]) / math.log(2)
    assert result.missed_bits == pytest.approx(missed, abs=1e-10)
    assert result.share == pytest.approx(2**-missed, abs=1e-11)


def test_texts_of_all_lengths_add_up_to_what_sequences_of_tokens_do() -> None:
    """No text is missed or counted twice: the sum over texts is that over ended sequences.

    Sequences of at most 3 tokens write texts of at most 9 bytes; each text's paths are sorted by
    their number of tokens, so that both sums are over the same sequences.
    """
    model = model_of()
    of_sequences = 0.0
    for length in range(1, 4):
        for ids in itertools.product(range(4, Letters.vocab_size), repeat=length):
            of_sequences += math.exp(joint(model, (*ids, 3)))
    of_texts = 0.0
    for size in range(1, 10):
        for letters in itertools.product("ab", repeat=size):
            result = text_probability(model, LETTERS, "".join(letters), most=10**6)
            of_texts += sum(math.exp(value) for ids, value in result.paths if len(ids) <= 3)
    assert of_texts == pytest.approx(of_sequences, abs=1e-12)


def test_the_texts_of_one_length_divide_the_beginnings() -> None:
    """With tokens of one byte each, the texts of a length are all that can be: they sum to 1.

    Special tokens are what is missing.
    """
    tokenizer = TOKENIZERS.load("bytes")()
    model = model_of(vocab_size=260)
    after = torch.tensor([[2]])
    with torch.no_grad():
        first = model(after)[0, -1].softmax(-1)
    total = sum(
        math.exp(text_probability(model, tokenizer, chr(byte), ended=False).total)
        for byte in range(128)
    )
    assert total == pytest.approx(float(first[4 : 4 + 128].sum()), abs=1e-12)


@given(st.text("ab", min_size=1, max_size=9))
def test_counts_are_those_of_what_is_listed(text: str) -> None:
    edges = edges_of(text.encode(), Letters.spellings)

    def listed(place: int) -> list[tuple[int, ...]]:
        if place == len(text):
            return [()]
        return [(token, *rest) for end, token in edges[place] for rest in listed(end)]

    paths = listed(0)
    assert len(set(paths)) == len(paths)
    prefixes = {path[:length] for path in paths for length in range(len(path) + 1)}
    assert count(edges) == (len(paths), len(prefixes))


def test_dead_ends_are_not_read() -> None:
    edges = edges_of(b"abc", [b"a", b"ab", b"c"])
    assert edges == [[(2, 1)], [], [(3, 2)], []]
    assert count(edges) == (1, 3)
    assert count(edges_of(b"abd", [b"a", b"ab", b"c"]))[0] == 0


def test_each_prefix_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(context=16)
    read = 0
    plain = type(model).next_logits

    def counted(self: Any, tokens: Any, *rest: Any, **named: Any) -> Any:
        nonlocal read
        read += len(tokens)
        return plain(self, tokens, *rest, **named)

    monkeypatch.setattr(type(model), "next_logits", counted)
    result = text_probability(model, LETTERS, "abaabab" * 2)
    assert read == result.prefixes > 3 * segmentations._ROWS  # several batches of one length
    rows = [[2, *ids, 3] for ids, _ in result.paths]
    scores = map(sum, token_log_probabilities(model, rows))
    assert [value for _, value in result.paths] == pytest.approx(list(scores), abs=1e-10)


def test_a_trained_tokenizer_has_its_own_segmentation_among_them() -> None:
    texts = ["the cat saw the other cat in the hat, naïve café"] * 9
    tokenizer = BPETokenizer.train(texts, BPESettings(vocab_size=290))
    model = model_of(vocab_size=tokenizer.vocab_size)
    result = text_probability(model, tokenizer, "the é")
    assert list(result.canonical) == tokenizer.encode("the é")
    assert {tokenizer.decode(ids) for ids, _ in result.paths} == {"the é"}
    assert result.num_bytes == 6
    assert 0 < result.share < 1


def test_bytes_have_one_segmentation() -> None:
    model = model_of(vocab_size=260)
    result = text_probability(model, TOKENIZERS.load("bytes")(), "cat")
    assert len(result.paths) == 1
    assert result.missed_bits == 0
    assert result.share == 1


def test_more_work_than_is_allowed_is_refused_before_it_is_done() -> None:
    model = model_of(context=64)
    with pytest.raises(DataError, match=r"has [\d,]{7,} segmentations with [\d,]{8,} prefixes.* at most 20,000 are: give a shorter text"):  # fmt: skip  # noqa: E501
        text_probability(model, LETTERS, "aba" * 15)
    assert segmentable(LETTERS, "aba" * 15, 64) == 0
    assert segmentable(LETTERS, "aba", 64) == len(text_probability(model, LETTERS, "aba").paths)
    assert segmentable(LETTERS, "aba", 3) == 0
    assert segmentable(LETTERS, "", 64) == segmentable(LETTERS, "c", 64) == 0
    with pytest.raises(DataError, match=r"segmentations of 9 tokens.*model\.context_length = 6"):
        text_probability(model_of(context=6), LETTERS, "aba" * 3)
    with pytest.raises(DataError, match="give a text"):
        text_probability(model, LETTERS, "")


@pytest.mark.parametrize("kind", ["word", "wordpiece"])
def test_tokens_that_write_by_their_neighbours_are_refused(kind: str) -> None:
    made = TOKENIZERS.load(kind)
    tokenizer = made.train(["a cat"] * 3, made.Settings(kind=kind))
    with pytest.raises(DataError, match=f"a tokenizer of {made.label} has no segmentations"):
        text_probability(model_of(), tokenizer, "a cat")
    assert segmentable(tokenizer, "a cat", 64) == 0


def test_what_is_read_as_unknown_is_refused() -> None:
    made = TOKENIZERS.load("unigram")
    settings = made.Settings(byte_fallback=False, vocab_size=20)
    tokenizer = made.train(["a cat sat"] * 9, settings)
    with pytest.raises(DataError, match="reads a part of 'a dog' as <unk>"):
        text_probability(model_of(vocab_size=20), tokenizer, "a dog")
