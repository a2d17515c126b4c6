"""Pairs from the user's own files: splits, hold-out by source, every refusal, and token files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinylm.config import DataConfig
from tinylm.data.corpora import open_corpus
from tinylm.data.corpora.pairs import Pair, PairsCorpus
from tinylm.data.token_files import TokenFile, read_header, write_pair_file
from tinylm.errors import DataError
from tinylm.reading import signed
from tinylm.tokenizers.base import EOS_ID, SOS_ID
from tinylm.tokenizers.bytes import BytesSettings, BytesTokenizer
from tinylm.tokenizers.word import WordSettings, WordTokenizer

PAIRS = [("the dog runs", "talo ra"), ("a cat", "mire  é"), ("the dog", "talo\nra")]


def write(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def line(source: str, target: str) -> dict[str, str]:
    return {"source": source, "target": target}


def corpus(path: Path, **settings: Any) -> PairsCorpus:
    opened = open_corpus(DataConfig(corpus="pairs", path=str(path), **settings))
    assert isinstance(opened, PairsCorpus)
    return opened


def test_pairs_stand_as_they_are_in_the_files_of_their_split(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", *(line(*pair) for pair in PAIRS))
    write(tmp_path / "valid.jsonl", {"target": " b\r\nc ", "source": " a"}, line("a cat", "x"))
    opened = corpus(tmp_path)
    assert list(opened.train_pairs()) == [Pair(*pair) for pair in PAIRS]
    assert list(opened.validation_pairs()) == [Pair(" a", " b\nc "), Pair("a cat", "x")]
    assert list(opened.train()) == [text for pair in PAIRS for text in pair]
    assert opened.describe() == (
        "3 training pairs from train.jsonl and 2 validation pairs from valid.jsonl (the sources of "
        f"1 validation pairs also occur in the training split); folder {tmp_path}."
    )


def test_all_pairs_of_a_source_are_held_out_together(tmp_path: Path) -> None:
    rows = [line(f"source {i % 50}", f"target {i}") for i in range(200)]
    opened = corpus(write(tmp_path / "a.jsonl", *rows), validation_fraction=0.3)
    train = {pair.source for pair in opened.train_pairs()}
    held = {pair.source for pair in opened.validation_pairs()}
    assert not train & held
    assert len(train | held) == 50
    assert 5 < len(held) < 25
    assert sum(1 for _ in opened.train_pairs()) == 4 * len(train)
    assert ", by a hash of the source with seed 0) are held out" in opened.describe()
    other = corpus(tmp_path / "a.jsonl", validation_fraction=0.3, seed=1)
    assert {pair.source for pair in other.validation_pairs()} != held


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"source": "a"}, "target is missing"),
        ({"target": "a"}, "source is missing"),
        ({}, "source is missing"),
        (line(" \n", "b"), "source is empty"),
        (line("a", ""), "target is empty"),
        ({"source": "a", "target": None}, "target is null, not text"),
        ({"source": ["a"], "target": "b"}, r"source is \['a'\], not text"),
        ({"source": "a", "target": 3}, "target is 3, not text"),
        (line("a", "b") | {"sorce": "c"}, r"unknown key 'sorce'; did you mean source\?"),
        (["a", "b"], "expected keys with values"),
        ("a", "expected keys with values"),
    ],
)
def test_what_is_no_pair_is_refused_in_a_line_with_file_line_and_advice(
    tmp_path: Path, row: Any, problem: str
) -> None:
    path = write(tmp_path / "a.jsonl", line("a", "b"), row)
    with pytest.raises(DataError, match=problem) as caught:
        list(corpus(path).train_pairs())
    message = str(caught.value)
    assert message.startswith(f"{path}, line 2: ")
    assert message.endswith('give {"source": "…", "target": "…"}, or take the line out')
    assert "\n" not in message


def test_files_of_another_kind_and_a_missing_path_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a story")
    with pytest.raises(DataError, match=r"no \.jsonl files"):
        corpus(tmp_path)
    with pytest.raises(DataError, match=r"corpus `pairs` needs data\.path: give a folder or file"):
        open_corpus(DataConfig(corpus="pairs"))
    path = write(tmp_path / "b.jsonl", line("a", "b"))
    with pytest.raises(DataError, match=r"no pair was held out at .* give more pairs"):
        list(corpus(path, validation_fraction=1e-9).validation_pairs())
    stories = open_corpus(DataConfig(corpus="files", path=str(path)))
    with pytest.raises(DataError, match=r"data\.corpus=pairs for sources with targets"):
        list(stories.train())


@pytest.mark.parametrize("kind", ["word", "bytes"])
def test_rows_hold_source_and_target_each_encoded_alone(tmp_path: Path, kind: str) -> None:
    words = WordTokenizer.train(
        [text for pair in PAIRS for text in pair], WordSettings(min_frequency=1)
    )
    tokenizer = words if kind == "word" else BytesTokenizer.train([], BytesSettings())
    path = tmp_path / "a.tokens"
    header = write_pair_file(path, PAIRS, tokenizer, "corpus", "train")
    file = TokenFile(path, tokenizer, "corpus")
    assert header == read_header(path)
    assert (header.pairs, header.noun, header.nouns, len(file)) == (True, "pair", "pairs", 3)
    assert header.num_text_bytes == sum(len(text.encode()) for pair in PAIRS for text in pair)
    assert file.pairs is not None
    for index, (source, target) in enumerate(PAIRS):
        first = [SOS_ID, *tokenizer.encode(source)]
        assert file.story(index).tolist() == [*first, *tokenizer.encode(target), EOS_ID]
        assert file.pairs[index].tolist() == [len(first), len(target.encode())]
        assert file.beginning(index, 1) == first
    lengths = [len(file.story(index)) for index in range(3)]
    assert file.lengths().tolist() == lengths


def test_a_pair_file_whose_sources_do_not_fit_is_damaged(tmp_path: Path) -> None:
    words = WordTokenizer.train(
        [text for pair in PAIRS for text in pair], WordSettings(min_frequency=1)
    )
    path = tmp_path / "a.tokens"
    write_pair_file(path, PAIRS, words, "corpus", "train")
    whole = path.read_bytes()
    for given in (0, len(TokenFile(path).story(2)), -3):
        content = bytearray(whole)
        content[-16:-8] = np.int64(given).tobytes()
        path.write_bytes(_signed_again(bytes(content)))
        with pytest.raises(DataError, match="the sources of its pairs do not fit into their rows"):
            TokenFile(path)
    path.write_bytes(whole[:-16])
    with pytest.raises(DataError, match="cut short or changed"):
        TokenFile(path)


def _signed_again(content: bytes) -> bytes:
    """Give a file that was changed the header that it would have."""
    import hashlib

    magic, _, text = content[:4096].partition(b"\n")
    header = json.loads(text)
    header = {key: value for key, value in header.items() if key != "checksum"}
    header["sha256"] = hashlib.sha256(content[4096:]).hexdigest()
    again = magic + b"\n" + json.dumps(signed(header)).encode()
    return again.ljust(4096) + content[4096:]
