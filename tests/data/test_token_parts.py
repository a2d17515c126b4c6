"""Files read in parts give the texts of the whole, once each, whatever the parts are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinylm.config import DataConfig, load_config
from tinylm.data import token_parts, token_workers
from tinylm.data.corpora import DivisibleCorpus, PairCorpus, open_corpus
from tinylm.data.corpora.pairs import Pair
from tinylm.data.token_files import TokenFile, write_pair_file, write_token_file
from tinylm.data.token_parts import write_parts
from tinylm.data.token_shards import Split
from tinylm.data.token_workers import Pool
from tinylm.errors import DataError
from tinylm.experiments import preparation
from tinylm.experiments.context import SilentConsole
from tinylm.experiments.preparation import prepare_data
from tinylm.tokenizers.word import WordSettings, WordTokenizer

TEXTS = [f"The cat number {i} sat{' on a mät' * (i % 5)}.\n\nIt was “red”." for i in range(150)]
TOKENIZER = WordTokenizer.train(TEXTS, WordSettings(min_frequency=1))
Kinds = st.sampled_from(["txt", "jsonl", "pairs"])


def marked(texts: list[str], last: bool = True) -> bytes:
    content = "<|endoftext|>".join(texts) + "<|endoftext|>\n" * last
    return content.encode("utf-8")


def corpus_of(folder: Path, kind: str, files: list[list[str]], **data: Any) -> DataConfig:
    """Write files of training texts, and return the settings that read them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, texts in enumerate(files):
        path = folder / f"train-{number}.{'txt' if kind == 'txt' else 'jsonl'}"
        if kind == "txt":
            path.write_bytes(marked(texts, last=number % 2 == 0))
        elif kind == "jsonl":
            path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
        else:
            rows = [{"source": text, "target": f"{text[:9]} ."} for text in texts]
            path.write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in rows), "utf-8")
    name = "pairs" if kind == "pairs" else "files"
    data = {"text_format": "endoftext", **data}
    return DataConfig(corpus=name, path=str(folder), cache_folder=str(folder / "cache"), **data)


def in_order(corpus: Any, split: str) -> list[tuple[str, ...]]:
    if isinstance(corpus, PairCorpus):
        pairs = corpus.train_pairs() if split == "train" else corpus.validation_pairs()
        return [(pair.source, pair.target) for pair in pairs]
    return [(text,) for text in (corpus.train() if split == "train" else corpus.validation())]


@settings(max_examples=60, deadline=None)
@given(
    kind=Kinds,
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=4).filter(any),
    size=st.integers(1, 3000),
    fraction=st.sampled_from([0.1, 0.5]),
)
def test_the_parts_together_are_the_whole(
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    sizes: list[int],
    size: int,
    fraction: float,
) -> None:
    files = [TEXTS[9 * i : 9 * i + count] for i, count in enumerate(sizes)]
    files = [texts or [" "] for texts in files] if kind == "txt" else files
    data = corpus_of(
        tmp_path_factory.mktemp("p") / "text", kind, files, validation_fraction=fraction
    )
    corpus = open_corpus(data)
    assert isinstance(corpus, DivisibleCorpus)
    for split in ("train", "validation"):
        parts = corpus.parts(split, size)
        assert parts is not None
        lengths = [last - first for first, last in parts]
        assert parts[0][0] == 0
        assert all(before[1] == after[0] for before, after in pairwise(parts))
        assert max(lengths) <= size
        assert max(lengths) - min(lengths) <= 1
        read = [story for part in parts for story in corpus.part(split, *part)]
        try:
            expected = in_order(corpus, split)
        except DataError:  # there is none
            expected = []
        assert read == expected


def test_a_part_begins_at_any_byte_of_a_marker(tmp_path: Path) -> None:
    content = marked(["a", "b<|endof", "|>c", "", "d"], last=False)
    (tmp_path / "train.txt").write_bytes(content)
    corpus = open_corpus(
        DataConfig(corpus="files", path=str(tmp_path), text_format="endoftext", seed=1)
    )
    assert isinstance(corpus, DivisibleCorpus)
    whole = list(corpus.part("train", 0, len(content)))
    for cut in range(1, len(content)):
        parts = [*corpus.part("train", 0, cut), *corpus.part("train", cut, len(content))]
        assert parts == whole


def test_what_is_read_in_order_alone(tmp_path: Path) -> None:
    data = corpus_of(tmp_path, "txt", [TEXTS])
    for change in (
        {"train_stories": 9},
        {"text_format": "blank-line"},
        {"text_format": "file"},
    ):
        corpus = open_corpus(replace(data, **change))  # type: ignore[arg-type]
        assert isinstance(corpus, DivisibleCorpus)
        assert corpus.parts("train", 100) is None
    assert not isinstance(open_corpus(DataConfig()), DivisibleCorpus)


# --- written ---


def split_of(folder: Path, each: int = 1, name: str = "train") -> Split:
    folder.mkdir(exist_ok=True)
    return Split(folder / f"{name}.tokens", each, TOKENIZER, "c", name)


def written(split: Split, data: DataConfig, size: int = 2000) -> TokenFile:
    corpus = open_corpus(data)
    assert isinstance(corpus, DivisibleCorpus)
    parts = corpus.parts(split.name, size)
    assert parts is not None
    told: list[int] = []
    with Pool(data.workers) as pool:
        read = (corpus, data, lambda: in_order(corpus, split.name))
        header = write_parts(split, *read, parts, pool, told.append)
    assert told == sorted(told)
    file = TokenFile(split.path, TOKENIZER, "c")
    assert file.header == header
    return file


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["txt", "jsonl", "pairs"])
def test_any_number_of_processes_write_the_same(tmp_path: Path, kind: str) -> None:
    data = corpus_of(tmp_path / "text", kind, [TEXTS[:90], TEXTS[90:]])
    each = 1 + (kind == "pairs")
    corpus: Any = open_corpus(data)
    one = tmp_path / "one.tokens"
    if kind == "pairs":
        pairs = [(pair.source, pair.target) for pair in corpus.train_pairs()]
        assert isinstance(next(corpus.train_pairs()), Pair)
        write_pair_file(one, pairs, TOKENIZER, "c", "train")
    else:
        write_token_file(one, corpus.train(), TOKENIZER, "c", "train")
    whole = TokenFile(one)
    for workers in (1, 3):
        folder = tmp_path / f"{workers}"
        file = written(split_of(folder, each), replace(data, workers=workers))
        assert file.ids.tolist() == whole.ids.tolist()
        assert file.starts.tolist() == whole.starts.tolist()
        assert whole.pairs is None or file.pairs.tolist() == whole.pairs.tolist()  # type: ignore[union-attr]
    assert content(tmp_path / "1") == content(tmp_path / "3")
    assert len(content(tmp_path / "1")) > 4


def test_a_part_without_a_text_has_no_file(tmp_path: Path) -> None:
    """A text that is longer than parts are, and a held-out split of hardly any."""
    data = corpus_of(tmp_path / "text", "txt", [["a", "long " * 600, "b", "c " * 300]])
    for workers in (1, 2):
        folder = tmp_path / f"{workers}"
        file = written(split_of(folder), replace(data, workers=workers), 500)
        assert len(file) == len(in_order(open_corpus(data), "train"))
    assert content(tmp_path / "1") == content(tmp_path / "2")
    assert len(content(tmp_path / "1")) <= 4
    one = written(split_of(tmp_path / "one"), data, 10**6)
    assert list(content(tmp_path / "one")) == ["train.tokens"]
    assert one.ids.tolist() == file.ids.tolist()


@pytest.mark.parametrize("workers", [1, 2])
def test_what_was_interrupted_goes_on_with_the_shards_that_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    data = corpus_of(tmp_path / "text", "txt", [TEXTS])
    written(split_of(tmp_path / "whole"), data)
    expected = content(tmp_path / "whole")
    folder = tmp_path / "a"
    shutil.copytree(tmp_path / "whole", folder)
    (folder / "train.tokens").unlink()
    (folder / "train.00001-of-00006.tokens").unlink()
    damaged = folder / "train.00003-of-00006.tokens"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    read: list[int] = []
    plain = type(open_corpus(data)).part  # type: ignore[attr-defined]

    def watched(self: Any, split: str, first: int, last: int) -> Iterator[tuple[str, ...]]:
        read.append(first)
        return plain(self, split, first, last)  # type: ignore[no-any-return]

    monkeypatch.setattr(type(open_corpus(data)), "part", watched)
    written(split_of(folder), replace(data, workers=workers))
    assert content(folder) == expected
    parts = open_corpus(data).parts("train", 2000)  # type: ignore[attr-defined]
    assert read == ([parts[1][0], parts[3][0]] if workers == 1 else [])


def test_a_text_that_cannot_be_read_is_named_as_in_order(tmp_path: Path) -> None:
    """A line has the number that it has in its file, whichever process met it."""
    data = corpus_of(tmp_path / "text", "jsonl", [TEXTS])
    path = tmp_path / "text/train-0.jsonl"
    rows = path.read_text("utf-8").split("\n")
    rows[120] = '{"text": 7}'
    path.write_text("\n".join(rows), "utf-8")
    for workers in (1, 2):
        with pytest.raises(DataError, match=r"train-0\.jsonl, line 121: "):
            written(split_of(tmp_path / f"{workers}"), replace(data, workers=workers))
        assert all("-of-" in name for name in content(tmp_path / f"{workers}"))


def test_a_split_without_a_text_is_refused_as_in_order(tmp_path: Path) -> None:
    data = corpus_of(tmp_path / "text", "txt", [[" ", "\n"] * 200])
    for workers in (1, 2):
        with pytest.raises(DataError, match=r"no training stories in train-0\.txt: give more text"):
            written(split_of(tmp_path / f"{workers}"), replace(data, workers=workers), 300)


@pytest.mark.parametrize("kind", ["word", "bpe", "bytes"])
def test_a_prepared_corpus_hangs_on_no_number_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Vocabulary, ids and files: those of one process, and those of the texts read in order."""
    data = corpus_of(tmp_path / "text", "txt", [TEXTS])
    started: list[Any] = []
    plain = token_workers._Worker
    monkeypatch.setattr(
        token_workers, "_Worker", lambda *a: started.append(plain(*a)) or started[-1]
    )
    made = []
    for workers, size in ((1, 10**9), (1, 4000), (2, 4000)):
        monkeypatch.setattr(preparation, "PART_BYTES", size)
        config = load_config(
            overrides=[
                *("data.corpus=files", f"data.path={data.path}", "data.text_format=endoftext"),
                *(f"data.cache_folder={tmp_path}/{workers}-{size}", f"data.workers={workers}"),
                f"tokenizer.kind={kind}",
            ]
        )
        made.append(prepare_data(config, SilentConsole()))
        assert len(started) == (0 if workers == 1 else 2)  # for all that they do
    one, parts, others = made
    assert content(parts.folder) == content(others.folder)
    assert len(content(parts.folder)) > 4
    assert one.tokenizer.fingerprint() == others.tokenizer.fingerprint()
    for each in (parts, others):
        described = each.corpus.describe()  # of what was encoded, not read again
        assert described == open_corpus(data).describe()
        assert each.train.ids.tolist() == one.train.ids.tolist()
        assert each.validation.ids.tolist() == one.validation.ids.tolist()
    assert all(worker.process.poll() is not None for worker in started)
    assert token_parts.PART_BYTES == 1 << 26


def test_a_text_that_cannot_be_counted_is_named_as_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "PART_BYTES", 2000)
    data = corpus_of(tmp_path / "text", "jsonl", [TEXTS])
    path = tmp_path / "text/train-0.jsonl"
    rows = path.read_text("utf-8").split("\n")
    rows[120] = '{"text": 7}'
    path.write_text("\n".join(rows), "utf-8")
    overrides = [f"data.path={data.path}", "data.corpus=files", "data.workers=2"]
    config = load_config(overrides=[*overrides, f"data.cache_folder={tmp_path}/cache"])
    with pytest.raises(DataError, match=r"train-0\.jsonl, line 121: "):
        prepare_data(config, SilentConsole())
