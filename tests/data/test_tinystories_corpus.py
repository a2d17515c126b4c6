"""The Hub dataset's real loader, on local files of the real form and on a Hub that is away."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tinylm.config import DataConfig
from tinylm.data import token_shards
from tinylm.data.corpora import Corpus, open_corpus, tinystories
from tinylm.data.corpora.tinystories import DATASET, REVISION, TinyStoriesCorpus
from tinylm.data.orders import ShuffledOrder
from tinylm.data.token_files import TokenFile, write_token_file
from tinylm.data.token_workers import Pool
from tinylm.data.windows import TokenWindows
from tinylm.errors import DataError
from tinylm.tokenizers.word import WordSettings, WordTokenizer

TRAIN = [f"Story {number}.\n\nIt was “good”." for number in range(25)]
VALIDATION = ["One day.", "", " Two days. "]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "TinyStories/data"
    data.mkdir(parents=True)
    for split, texts in (
        ("train-00000-of-00002", TRAIN[:15]),
        ("train-00001-of-00002", TRAIN[15:]),
        ("validation-00000-of-00001", VALIDATION),
    ):
        pq.write_table(pa.table({"text": texts}), data / f"{split}.parquet")
    return tmp_path / "TinyStories"


def corpus(folder: Path, **settings: Any) -> TinyStoriesCorpus:
    return TinyStoriesCorpus(DataConfig(corpus="tinystories", **settings), str(folder), None)


def test_splits_of_local_parquet_files(folder: Path) -> None:
    opened: Corpus = corpus(folder)
    assert list(opened.train()) == TRAIN
    assert list(opened.train()) == TRAIN
    assert list(opened.validation()) == ["One day.", "Two days."]


def test_caps_and_fingerprint(folder: Path) -> None:
    opened = corpus(folder, train_stories=17, validation_stories=1)
    assert list(opened.train()) == TRAIN[:17]
    assert list(opened.validation()) == ["One day."]
    config = DataConfig(corpus="tinystories")
    prints = {
        opened.fingerprint(),
        corpus(folder).fingerprint(),
        corpus(folder, train_stories=17).fingerprint(),
        TinyStoriesCorpus(config).fingerprint(),
        TinyStoriesCorpus(config, revision="main").fingerprint(),
    }
    assert len(prints) == 5
    assert corpus(folder).fingerprint() == corpus(folder, seed=5).fingerprint()


def test_description_and_default(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_corpus(DataConfig(corpus="tinystories", train_stories=5000))
    assert isinstance(opened, TinyStoriesCorpus)
    text = opened.describe()
    assert text.startswith("the first 5,000 training stories and all validation stories")
    assert DATASET in text
    assert REVISION[:12] in text
    assert len(opened.fingerprint()) == 16


def test_datasets_of_another_form(folder: Path, tmp_path: Path) -> None:
    data = folder / "data"
    pq.write_table(pa.table({"story": ["x"]}), data / "validation-00000-of-00001.parquet")
    for file in data.glob("train-*"):
        file.unlink()
    with pytest.raises(DataError, match=r"validation row 1: no text in field 'text' among 'story'"):
        list(corpus(folder).validation())
    with pytest.raises(DataError, match="not a dataset with a train split"):
        list(corpus(folder).train())
    pq.write_table(pa.table({"text": [" "]}), data / "validation-00000-of-00001.parquet")
    with pytest.raises(DataError, match="the validation split holds no stories"):
        list(corpus(folder).validation())


def run_without_hub(tmp_path: Path, **environment: str) -> str:
    code = (
        "from tinylm.config import DataConfig\n"
        "from tinylm.data.corpora import open_corpus\n"
        "from tinylm.errors import DataError\n"
        "try:\n"
        "    print(list(open_corpus(DataConfig(corpus='tinystories')).train())[:1])\n"
        "except DataError as error:\n"
        "    print(error)\n"
    )
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, "HF_HOME": str(tmp_path / "home"), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def check_message(text: str) -> None:
    assert text.startswith(f"{DATASET}: the Hugging Face Hub cannot be reached (ConnectionError: ")
    assert text.endswith("`--data PATH` (corpus files) and corpus stories work offline\n")
    assert text.count("\n") == 1


def test_offline(tmp_path: Path) -> None:
    check_message(run_without_hub(tmp_path, HF_HUB_OFFLINE="1"))


@pytest.mark.slow
def test_closed_endpoint(tmp_path: Path) -> None:
    """The Hub's client tries six times over some 25 s before it gives up."""
    check_message(run_without_hub(tmp_path, HF_ENDPOINT="http://127.0.0.1:9"))


def test_connection_lost_on_the_way(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    from huggingface_hub.errors import HfHubHTTPError

    http_error = HfHubHTTPError.__bases__[0]  # of the HTTP library in use
    for failure in (http_error("slow\nnet"), ConnectionError("Server Disconnected")):

        def rows(*_: object, failure: Exception = failure, **__: object) -> Any:
            yield {"text": "first"}
            raise failure

        monkeypatch.setattr(datasets, "load_dataset", rows)
        stories = corpus(folder).train()
        assert next(stories) == "first"
        with pytest.raises(DataError, match="cannot be reached") as caught:
            next(stories)
        assert "\n" not in str(caught.value)


def test_the_loader_is_imported_when_used() -> None:
    code = (
        "import sys; from tinylm.config import DataConfig\n"
        "from tinylm.data.corpora import open_corpus\n"
        "open_corpus(DataConfig(corpus='tinystories')).describe()\n"
        "assert 'datasets' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert tinystories.DATASET == "roneneldan/TinyStories"


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_streamed_is_written_to_shards_and_drawn_in_the_same_order(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """As any other text: token files as it comes, windows across their borders, one order."""
    monkeypatch.setattr(token_shards, "SHARD_CHARACTERS", 200)
    tokenizer = WordTokenizer.train(TRAIN, WordSettings(min_frequency=1))
    streamed = corpus(folder)
    with Pool(workers) as pool:
        split = token_shards.Split(
            tmp_path / "train.tokens", 1, tokenizer, streamed.fingerprint(), "train"
        )
        token_shards.write_split(split, ((text,) for text in streamed.train()), pool)
    assert len(list(tmp_path.glob("train.0*.tokens"))) > 2
    write_token_file(tmp_path / "one", TRAIN, tokenizer, streamed.fingerprint(), "train")
    shards = TokenWindows(TokenFile(split.path, tokenizer, streamed.fingerprint()), 8)
    one = TokenWindows(TokenFile(tmp_path / "one", tokenizer, streamed.fingerprint()), 8)
    orders = [ShuffledOrder(len(windows), 4, 5) for windows in (shards, one)]
    while True:
        left, right = (order.next() for order in orders)
        assert left.tolist() == right.tolist()
        assert torch.equal(shards.batch(left).ids, one.batch(right).ids)
        if orders[0].epoch_ended:
            break
