"""What every corpus that needs no network must hold."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tinylm.config import DataConfig
from tinylm.data.corpora import Corpus, PairCorpus, open_corpus
from tinylm.registry import CORPORA

OFFLINE = [name for name in CORPORA if name != "tinystories"]  # its own tests stand in for the Hub


@pytest.fixture(params=OFFLINE)
def config(request: pytest.FixtureRequest, tmp_path: Path) -> DataConfig:
    values = DataConfig(corpus=request.param, train_stories=40, validation_stories=8)
    if request.param == "files":
        stories = [f"The dog saw cat number {i}.\n<|endoftext|>\n" for i in range(60)]
        (tmp_path / "stories.txt").write_text("".join(stories))
        values = replace(values, path=str(tmp_path))
    if request.param == "pairs":
        pairs = [{"source": f"Dog {i}.", "target": f"Talo {i}."} for i in range(60)]
        (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
        values = replace(values, path=str(tmp_path))
    return values


@pytest.fixture
def corpus(config: DataConfig) -> Corpus:
    return open_corpus(config)


def test_both_splits_hold_stories_and_no_more_than_asked(corpus: Corpus) -> None:
    train, validation = list(corpus.train()), list(corpus.validation())
    each = 2 if isinstance(corpus, PairCorpus) else 1  # texts of what is counted
    assert len(train) == 40 * each
    assert 0 < len(validation) <= 8 * each
    for story in (*train, *validation):
        assert story.strip()
        assert "<|endoftext|>" not in story
        assert "<sos>" not in story


def test_splits_are_disjoint(corpus: Corpus) -> None:
    assert not set(corpus.train()) & set(corpus.validation())


def test_iterators_restart_and_do_not_disturb_each_other(
    corpus: Corpus, config: DataConfig
) -> None:
    expected = list(corpus.train())
    first, second = corpus.train(), corpus.train()
    assert [next(first) for _ in range(5)] == expected[:5]
    validation = list(corpus.validation())
    assert [next(second) for _ in range(3)] == expected[:3]
    assert list(first) == expected[5:]
    assert list(corpus.train()) == expected
    assert list(corpus.validation()) == validation
    again = open_corpus(config)
    assert list(again.train()) == expected
    assert list(again.validation()) == validation


def test_the_fingerprint_is_stable_and_names_the_text(corpus: Corpus, config: DataConfig) -> None:
    name = corpus.fingerprint()
    list(corpus.train())
    assert corpus.fingerprint() == name
    assert open_corpus(config).fingerprint() == name
    assert 0 < len(name) <= 200
    assert "/" not in name
    assert "\n" not in name
    # Where the cache is does not matter; which stories there are does.
    assert open_corpus(replace(config, cache_folder="elsewhere")).fingerprint() == name
    assert open_corpus(replace(config, train_stories=39)).fingerprint() != name


def test_describe_is_one_sentence(corpus: Corpus) -> None:
    text = corpus.describe()
    assert text[0].isupper() or text[0].isdigit()
    assert text.endswith(".")
    assert "\n" not in text
    assert text.count(". ") == 0
    assert len(text) < 400
