"""What every tokenizer must hold, and what those hold that are trained on texts."""

import dataclasses
import json
import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinylm.config import RunConfig, field_help, from_dict, load_config, to_dict
from tinylm.errors import ConfigError, DataError
from tinylm.reading import signed
from tinylm.registry import TOKENIZERS
from tinylm.report.references import REFERENCES
from tinylm.tokenizers import files, hugging_face
from tinylm.tokenizers.base import (
    EOS_ID,
    PAD_ID,
    SOS_ID,
    SPECIAL_TOKENS,
    UNK_ID,
    Tokenizer,
    TokenizerSettings,
)

TEXTS = [
    "Once upon a time there was a little girl named Lily. She loved her red ball.",
    'Tom said, "I don\'t know, Lily!" The dog saw the cat and the cat saw the dog.',
    "The ball was red. Lily and Tom were happy. The end? No: 12 more days...",
] * 3
TRICKY = ["", " \n\t", "zyxwv Qqq", "<pad> <eos>", "Ünïcödé — “quotes”", "a" * 300, "I'm 3.5% !?"]


SETTINGS: dict[str, Any] = {"word": {"min_frequency": 1}}
"""Settings with which the training texts hold nothing unknown, where they are not the default."""
SMALLEST = {"word": 4 + 1, "bpe": 4 + 256, "unigram": 4 + 256 + 37, "wordpiece": 4 + 55}
"""Size of the smallest vocabulary of those that are trained."""
TRAINED = [name for name in TOKENIZERS if TOKENIZERS.load(name).trained]
EXTRA = ("<user>", "<assistant>")


def made(name: str, texts: Iterable[str] = TEXTS, **settings: Any) -> Tokenizer:
    kind = TOKENIZERS.load(name)
    tokenizer: Tokenizer = kind.train(
        iter(texts), kind.Settings(**SETTINGS.get(name, {}) | settings)
    )
    return tokenizer


@pytest.fixture(scope="module", params=list(TOKENIZERS))
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return made(request.param)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_it_has_settings_of_its_own_and_says_what_the_report_tells_of_it(name: str) -> None:
    kind = TOKENIZERS.load(name)
    assert issubclass(kind.Settings, TokenizerSettings)
    assert kind.Settings().kind == name
    assert kind.label
    assert kind.explanation.endswith(".")
    assert set(re.findall(r"\[\[(\w+)\]\]", kind.explanation)) <= REFERENCES.keys()
    config = load_config(overrides=[f"tokenizer.kind={name}"])
    assert config.tokenizer == kind.Settings()
    assert from_dict(RunConfig, to_dict(config), "it") == config
    help_of = dict(field_help())
    for field in dataclasses.fields(kind.Settings):
        assert help_of[f"tokenizer.{field.name}"]
    wanted = {**SETTINGS.get(name, {}), "special_tokens": EXTRA}
    assert made(name, **wanted).vocab_size <= kind.largest_vocabulary(kind.Settings(**wanted))


@pytest.mark.parametrize("name", TOKENIZERS)
def test_further_special_tokens_have_the_ids_after_the_standard_ones(
    name: str, tmp_path: Path
) -> None:
    plain, tokenizer = made(name), made(name, special_tokens=EXTRA)
    assert plain.special_tokens == SPECIAL_TOKENS
    assert tokenizer.special_tokens == (*SPECIAL_TOKENS, *EXTRA)
    assert [tokenizer.token(i) for i in range(6)] == [*SPECIAL_TOKENS, *EXTRA]
    assert tokenizer.fingerprint() != plain.fingerprint()
    for text in (*TEXTS[:3], *TRICKY, "<user> hello <assistant>", "<user>"):
        ids = tokenizer.encode(text)
        assert not {4, 5} & set(ids)  # no text becomes one
        assert [i if i < 4 else i - 2 for i in ids] == plain.encode(text)
        assert (
            tokenizer.decode([4, *ids, 5])
            == tokenizer.decode(ids)
            == plain.decode(plain.encode(text))
        )
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    again = type(tokenizer).load(path)
    assert again.special_tokens == tokenizer.special_tokens
    assert again.fingerprint() == tokenizer.fingerprint()
    assert again.encode(TEXTS[1]) == tokenizer.encode(TEXTS[1])


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize(
    "names", [("user",), ("<a b>",), ("<pad>",), ("<a>", "<a>"), ("<>",), ("<" + "a" * 80 + ">",)]
)
def test_names_that_no_special_token_can_have_are_refused(name: str, names: Any) -> None:
    written = json.dumps(list(names))
    with pytest.raises(ConfigError, match=r"tokenizer\.special_tokens") as raised:
        load_config(overrides=[f"tokenizer.kind={name}", f"tokenizer.special_tokens={written}"])
    assert "\n" not in str(raised.value)


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


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("text", [*TEXTS[:3], *TRICKY])
def test_spellings_are_what_tokens_write(name: str, text: str) -> None:
    """With further special tokens, whose ids write nothing."""
    tokenizer = made(name, special_tokens=EXTRA)
    spellings = tokenizer.spellings
    assert (spellings is not None) == TOKENIZERS.load(name).lossless
    if spellings is not None:
        assert len(spellings) == tokenizer.vocab_size
        written = [spellings[token] for token in tokenizer.encode(text)]
        assert b"".join(written) == text.encode()
        assert all(written)
        assert [bool(each) for each in spellings].index(True) == len(SPECIAL_TOKENS) + len(EXTRA)


def test_training_text_has_no_unknown_word_and_comes_back(tokenizer: Tokenizer) -> None:
    for text in TEXTS[:3]:
        ids = tokenizer.encode(text)
        assert UNK_ID not in ids
        assert tokenizer.encode(tokenizer.decode(ids)) == ids
        assert tokenizer.decode(ids).lower() == text.lower()


@pytest.mark.parametrize("name", [name for name in TOKENIZERS if TOKENIZERS.load(name).lossless])
@given(text=st.text())
def test_a_lossless_one_gives_every_text_back(name: str, text: str) -> None:
    tokenizer = made(name)
    ids = tokenizer.encode(text)
    assert UNK_ID not in ids
    assert tokenizer.decode(ids) == text


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


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_order_of_the_texts_decides_nothing(name: str) -> None:
    assert made(name, TEXTS[::-1]).fingerprint() == made(name).fingerprint()


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_texts_decide_the_ids_of_those_that_are_trained(name: str) -> None:
    other = made(name, [*TEXTS, "giraffe"])
    assert (other.fingerprint() != made(name).fingerprint()) == (name in TRAINED)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_setting_that_bounds_the_vocabulary_is_named_and_holds(name: str) -> None:
    kind = TOKENIZERS.load(name)
    if not kind.trained:
        assert kind.size_setting == ""
        return
    smallest = SMALLEST[name]
    for size in (smallest, smallest + 5):
        limit = {kind.size_setting: size}
        assert made(name, **limit).vocab_size == size
        assert kind.largest_vocabulary(kind.Settings(**limit)) == size
        limit = {kind.size_setting: size + len(EXTRA)}
        assert made(name, special_tokens=EXTRA, **limit).vocab_size == size + len(EXTRA)
    short = smallest + len(EXTRA) - 1
    expected = rf"tokenizer\.{kind.size_setting} = {short} .* set it to {short + 1} or more"
    with pytest.raises(ConfigError, match=expected) as error:
        made(name, special_tokens=EXTRA, **{kind.size_setting: short})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", TRAINED)
def test_what_is_rarer_than_min_frequency_is_no_token(name: str) -> None:
    texts = ["zebra"] * 2 + ["giraffe"] * 3
    tokens = {
        least: {tokenizer.token(i) for i in range(tokenizer.vocab_size)}
        for least in (2, 3)
        for tokenizer in [made(name, texts, min_frequency=least)]
    }
    assert len(tokens[3]) < len(tokens[2])
    assert "zebra" in tokens[2] - tokens[3]
    assert "giraffe" in tokens[3]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_file_of_another_kind_is_refused_and_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    made(name).save(path)
    assert type(files.load(path)) is TOKENIZERS.load(name)
    for other in TOKENIZERS:
        if other != name:
            with pytest.raises(DataError, match=f"kind is '{name}', but '{other}' is needed") as e:
                TOKENIZERS.load(other).load(path)
            assert str(path) in str(e.value)
            assert "\n" not in str(e.value)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_what_is_exported_gives_the_same_ids_in_the_library_and_comes_back(
    name: str, tmp_path: Path
) -> None:
    tokenizer = made(name, special_tokens=EXTRA)
    path = tmp_path / "hugging-face.json"
    try:
        path.write_text(json.dumps(tokenizer.to_hugging_face()), "utf-8")
    except DataError as error:
        assert not tokenizer.lossless
        assert "\n" not in str(error)
        assert type(tokenizer).foreign_model == ""
        return
    theirs = tokenizers.Tokenizer.from_file(str(path))
    theirs.encode_special_tokens = True  # else names of special tokens in a text become them
    texts = [*TEXTS, *TRICKY, "<user>x<pad> <assistant>"]
    assert [theirs.encode(text).ids for text in texts] == tokenizer.encode_batch(texts)
    assert theirs.get_vocab_size() == tokenizer.vocab_size
    for text in texts if tokenizer.lossless else []:  # what is lost is not guessed alike
        ids = [SOS_ID, *tokenizer.encode(text), EOS_ID]
        assert theirs.decode(ids, skip_special_tokens=True) == tokenizer.decode(ids)
    if type(tokenizer).foreign_model:
        again = hugging_face.read(path)
        assert type(again) is type(tokenizer)
        assert again.fingerprint() == tokenizer.fingerprint()
        assert not hugging_face.ids_shift(path, again)


@pytest.mark.parametrize("names", [["<pad>"], ["<a>", "<a>"], ["user"], "<a>", [1], {}])
def test_special_tokens_of_a_file_are_held_to_the_rules(
    tokenizer: Tokenizer, tmp_path: Path, names: Any
) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    values = json.loads(path.read_text("utf-8")) | {"special_tokens": names}
    values.pop("checksum")
    path.write_text(json.dumps(signed(values)), "utf-8")
    with pytest.raises(DataError, match=r"special[_ ]tokens") as error:
        type(tokenizer).load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


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


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(name=st.sampled_from(list(TOKENIZERS)), cuts=st.lists(st.integers(0, 15), max_size=4))
def test_texts_that_are_counted_in_parts_make_the_same_tokenizer(
    name: str, cuts: list[int]
) -> None:
    """Packed as one process sends them to another, in the order of the texts."""
    kind = TOKENIZERS.load(name)
    chosen = kind.Settings(**SETTINGS.get(name, {}))
    texts = [*TEXTS, *TRICKY]
    whole = kind.train(iter(texts), chosen)
    together = kind.counts(chosen)
    bounds = [0, *sorted(cuts), len(texts)]
    for first, last in pairwise(bounds):
        part = kind.counts(chosen)
        part.add(iter(texts[first:last]))
        together.add_packed(json.loads(json.dumps(part.packed())))
    learned = kind.learn(together, chosen)
    assert learned.fingerprint() == whole.fingerprint()
    assert [learned.encode(text) for text in texts] == [whole.encode(text) for text in texts]
    begun = kind.counts(chosen)
    begun.add(texts[: bounds[1]])
    for first, last in pairwise(bounds[1:]):
        part = kind.counts(chosen)
        part.add(texts[first:last])
        begun.add_packed(part.packed())
    assert kind.learn(begun, chosen).fingerprint() == whole.fingerprint()
