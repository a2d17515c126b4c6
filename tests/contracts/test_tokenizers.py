"""What every tokenizer must hold."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinylm.config import TokenizerConfig
from tinylm.errors import DataError
from tinylm.registry import TOKENIZERS
from tinylm.tokenizers.base import EOS_ID, PAD_ID, SOS_ID, SPECIAL_TOKENS, UNK_ID, Tokenizer

TEXTS = [
    "Once upon a time there was a little girl named Lily. She loved her red ball.",
    'Tom said, "I don\'t know, Lily!" The dog saw the cat and the cat saw the dog.',
    "The ball was red. Lily and Tom were happy. The end? No: 12 more days...",
] * 3
TRICKY = ["", " \n\t", "zyxwv Qqq", "<pad> <eos>", "Ünïcödé — “quotes”", "a" * 300, "I'm 3.5% !?"]


@pytest.fixture(scope="module", params=list(TOKENIZERS))
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    kind = TOKENIZERS.load(request.param)
    made: Tokenizer = kind.train(iter(TEXTS), TokenizerConfig(kind=request.param, min_frequency=1))
    return made


def test_special_tokens_come_first(tokenizer: Tokenizer) -> None:
    assert [tokenizer.token(i) for i in (PAD_ID, UNK_ID, SOS_ID, EOS_ID)] == list(SPECIAL_TOKENS)
    assert tokenizer.vocab_size > len(SPECIAL_TOKENS)
    types = [tokenizer.token(i) for i in range(tokenizer.vocab_size)]
    assert len(set(types)) == len(types)
    for wrong in (-1, tokenizer.vocab_size):
        with pytest.raises(DataError):
            tokenizer.token(wrong)


@pytest.mark.parametrize("text", [*TEXTS[:3], *TRICKY])
def test_text_never_becomes_a_framing_token(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert all(type(i) is int and 0 <= i < tokenizer.vocab_size for i in ids)
    assert not {PAD_ID, SOS_ID, EOS_ID} & set(ids)


def test_training_text_has_no_unknown_word_and_comes_back(tokenizer: Tokenizer) -> None:
    for text in TEXTS[:3]:
        ids = tokenizer.encode(text)
        assert UNK_ID not in ids
        assert tokenizer.encode(tokenizer.decode(ids)) == ids
        assert tokenizer.decode(ids).lower() == text.lower()


def test_encode_batch_and_encode_flat_equal_encode(tokenizer: Tokenizer) -> None:
    for texts in (TEXTS + TRICKY, (TEXTS + TRICKY) * 40, [""], []):  # short and long paths
        expected = [tokenizer.encode(text) for text in texts]
        assert tokenizer.encode_batch(texts) == expected
        ids, bounds = tokenizer.encode_flat(texts)
        assert ids.dtype == np.int32
        assert bounds.dtype == np.int64
        assert len(bounds) == len(texts) + 1
        assert [ids[a:b].tolist() for a, b in pairwise(bounds)] == expected
        assert bounds[0] == 0
        assert bounds[-1] == len(ids)


def test_decode_leaves_framing_out_and_batches(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(TEXTS[0])
    framed = [SOS_ID, *ids, EOS_ID, PAD_ID, PAD_ID]
    assert tokenizer.decode(framed) == tokenizer.decode(ids)
    rows = [ids, framed, [], [UNK_ID]]
    assert tokenizer.decode_batch(rows) == [tokenizer.decode(row) for row in rows]
    assert tokenizer.decode([UNK_ID]) == "<unk>"
    assert tokenizer.decode([]) == ""


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_the_text_of_a_prefix_is_a_prefix_of_the_text(
    tokenizer: Tokenizer, data: st.DataObject
) -> None:
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=30))
    text = tokenizer.decode(ids)
    for length in range(len(ids)):
        assert text.startswith(tokenizer.decode(ids[:length]))


def test_save_and_load(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    again = type(tokenizer).load(path)
    assert again.fingerprint() == tokenizer.fingerprint()
    assert again.vocab_size == tokenizer.vocab_size
    texts = TEXTS + TRICKY
    assert again.encode_batch(texts) == tokenizer.encode_batch(texts)
    ids = [tokenizer.encode(text) for text in texts]
    assert again.decode_batch(ids) == tokenizer.decode_batch(ids)
    assert [file.name for file in tmp_path.iterdir()] == ["tokenizer.json"]
    before = path.read_bytes()
    again.save(path)
    assert path.read_bytes() == before


def test_the_fingerprint_names_the_ids(tokenizer: Tokenizer) -> None:
    kind = type(tokenizer)
    config = TokenizerConfig(min_frequency=1)
    assert kind.train(TEXTS, config).fingerprint() == tokenizer.fingerprint()
    assert kind.train(TEXTS[::-1], config).fingerprint() == tokenizer.fingerprint()
    other = kind.train([*TEXTS, "giraffe"], config)
    assert other.fingerprint() != tokenizer.fingerprint()


def test_max_size_and_min_frequency_hold(tokenizer: Tokenizer) -> None:
    kind = type(tokenizer)
    small = kind.train(TEXTS, TokenizerConfig(min_frequency=1, max_size=12))
    assert small.vocab_size <= 12
    with pytest.raises(DataError):
        kind.train(["one two three"], TokenizerConfig(min_frequency=9))


@pytest.mark.parametrize("content", [None, "", "{}", "[]", '{"format": "other"}', "\ufeff{"])
def test_a_bad_file_is_refused_by_name(
    tokenizer: Tokenizer, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content, "utf-8")
    with pytest.raises(DataError) as error:
        type(tokenizer).load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
