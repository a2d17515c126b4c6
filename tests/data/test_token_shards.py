"""A split in several files is the same split: written by any number of processes, read as one."""

from __future__ import annotations

import dataclasses
import filecmp
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.test_token_files import Numbers
from tinylm.data import token_checks, token_files, token_shards, token_workers
from tinylm.data.joined import Joined
from tinylm.data.orders import ShuffledOrder
from tinylm.data.token_files import TokenFile, write_pair_file, write_token_file
from tinylm.data.token_headers import HEADER_BYTES, TokenFileHeader, header_bytes, index_bytes
from tinylm.data.token_shards import Split, write_split
from tinylm.data.token_workers import Pool
from tinylm.data.windows import PairRows, TokenWindows
from tinylm.errors import ConfigError, DataError
from tinylm.reading import signed
from tinylm.tokenizers.base import EOS_ID, SOS_ID
from tinylm.tokenizers.word import WordSettings, WordTokenizer

SENTENCE = "the cat sat on a mat and saw the dög run to Lily . Was it “red” ?"
TEXTS = [" ".join(SENTENCE.split()[i % 5 : i % 5 + i % 11]) for i in range(200)]
TOKENIZER = WordTokenizer.train(TEXTS, WordSettings(min_frequency=1))


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_shards, "SHARD_CHARACTERS", 800)
    monkeypatch.setattr(token_files, "_STORIES_AT_ONCE", 7)


def split_of(path: Path, tokenizer: Any = TOKENIZER, each: int = 1, corpus: str = "c") -> Split:
    return Split(path, each, tokenizer, corpus, "train")


def write(folder: Path, texts: Any = TEXTS, workers: int = 1, **split: Any) -> TokenFile:
    folder.mkdir(exist_ok=True)
    made = split_of(folder / "train.tokens", **split)
    with Pool(workers) as pool:
        write_split(made, ((text,) for text in texts), pool)
    return TokenFile(made.path, made.tokenizer, made.corpus)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def same_files(one: Path, other: Path) -> bool:
    names = files(one)
    return names == files(other) and not any(filecmp.cmpfiles(one, other, names, False)[1:])


# --- read as one ---


@settings(max_examples=25, deadline=None)
@given(
    characters=st.integers(1, 400),
    count=st.integers(1, 60),
    context_length=st.integers(1, 30),
    seed=st.integers(0, 9),
)
def test_shards_are_read_as_the_one_file_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory,
    characters: int,
    count: int,
    context_length: int,
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("s")
    write_token_file(folder / "one", TEXTS[:count], TOKENIZER, "c", "train")
    whole = TokenFile(folder / "one", TOKENIZER, "c")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_shards, "SHARD_CHARACTERS", characters)
        parts = write(folder / "parts", TEXTS[:count])
    expected = {**dataclasses.asdict(whole.header), "sha256": parts.header.sha256}
    assert dataclasses.asdict(parts.header) == expected
    assert parts.ids.tolist() == whole.ids.tolist()
    assert parts.starts.tolist() == whole.starts.tolist()
    assert parts.lengths().tolist() == whole.lengths().tolist()
    assert [s.tolist() for s in parts.stories()] == [s.tolist() for s in whole.stories()]
    size = TOKENIZER.vocab_size
    assert parts.counts(size).tolist() == np.bincount(whole.ids, minlength=size).tolist()
    left, right = (TokenWindows(file, context_length) for file in (parts, whole))
    assert len(left) == len(right)
    order = ShuffledOrder(len(left), 5, seed)
    while True:
        indices = order.next()
        batch, twin = left.batch(indices), right.batch(indices)
        assert torch.equal(batch.ids, twin.ids)
        assert torch.equal(batch.labels, twin.labels)
        assert (batch.real is None) == (twin.real is None)
        assert batch.real is None or torch.equal(batch.real, twin.real)
        if order.epoch_ended:
            break


def test_pairs_in_shards(tmp_path: Path) -> None:
    pairs = [(text, f"{text} .") for text in TEXTS]
    write_pair_file(tmp_path / "one", pairs, TOKENIZER, "c", "train")
    whole = TokenFile(tmp_path / "one")
    made = split_of(tmp_path / "train.tokens", each=2)
    write_split(made, pairs)
    parts = TokenFile(made.path, TOKENIZER, "c")
    assert isinstance(parts.pairs, Joined)
    assert parts.pairs.tolist() == whole.pairs.tolist()  # type: ignore[union-attr]
    left, right = PairRows(parts, 12), PairRows(whole, 12)
    assert left.texts.tolist() == right.texts.tolist()
    assert left.num_text_bytes == right.num_text_bytes
    chosen = np.arange(len(left))
    assert left.num_targets(chosen) == right.num_targets(chosen)
    assert torch.equal(left.batch(chosen).labels, right.batch(chosen).labels)
    assert parts.beginning(150, 9) == whole.beginning(150, 9)


def test_a_short_split_is_one_file_under_its_own_name(tmp_path: Path) -> None:
    one = write(tmp_path / "a", TEXTS[:9])
    assert files(tmp_path / "a") == ["train.tokens"]
    header = write_token_file(tmp_path / "one", TEXTS[:9], TOKENIZER, "c", "train")
    assert one.header == header
    assert isinstance(one.ids, np.memmap)
    with pytest.raises(DataError, match="the train split of corpus c has no story"):
        write(tmp_path / "b", [])
    assert files(tmp_path / "b") == []


# --- 64 bits ---


def fake(path: Path, num_tokens: int, first: int = 0) -> TokenFileHeader:
    """Write a file of one story of 0s, whose pages are not on the disk, and whose end counts."""
    header = TokenFileHeader("t", "c", "train", "uint16", num_tokens, 1, 0, 5 * num_tokens, "0")
    header = dataclasses.replace(header, sha256=f"made up {first}")
    with path.open("wb") as file:
        file.write(header_bytes(header))
        file.write(np.array([SOS_ID], np.uint16).tobytes())
        file.seek(HEADER_BYTES + 2 * (num_tokens - 3_000))
        last = (np.arange(first + num_tokens - 3_000, first + num_tokens) % 9_973).astype(np.uint16)
        last[-1] = EOS_ID
        file.write(last.tobytes())
        file.write(bytes(-file.tell() % 8) + np.array([0], np.int64).tobytes())
    return header


@pytest.mark.parametrize("shards", [1, 3])
def test_a_split_of_ten_thousand_million_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards: int
) -> None:
    count, context_length = 10**10, 1000
    sizes = [count] if shards == 1 else [4 * 10**9 + 7, 5 * 10**9, 10**9 - 7]
    path = tmp_path / "train.tokens"
    firsts = np.cumsum([0, *sizes]).tolist()
    if shards == 1:
        fake(path, count)
    else:
        names = [f"train.{number:05}.tokens" for number in range(shards)]
        headers = [
            fake(tmp_path / name, size, first)
            for name, size, first in zip(names, sizes, firsts, strict=False)
        ]
        path.write_bytes(index_bytes(names, headers))
    assert sum(each.stat().st_blocks for each in tmp_path.iterdir()) * 512 < 1 << 20
    monkeypatch.setattr(token_checks, "_verify", lambda file: 9_999)  # 20 GB are not read
    tokens = TokenFile(path)
    assert (tokens.header.num_tokens, len(tokens.ids)) == (count, count)
    assert tokens.starts.tolist() == firsts[:-1]
    assert tokens.lengths().tolist() == sizes
    windows = TokenWindows(tokens, context_length)
    assert len(windows) == 10**7
    batch = windows.batch([10**7 - 1, 10**7 - 2])
    numbers = np.arange(count - 2000, count) % 9_973
    numbers[-1] = EOS_ID
    assert batch.ids[1].tolist() == numbers[:1000].tolist()
    assert batch.labels[1].tolist() == numbers[1:1001].tolist()
    assert batch.ids[0, :999].tolist() == numbers[1000:1999].tolist()
    assert batch.num_targets == windows.num_targets([10**7 - 1, 10**7 - 2]) == 1999
    assert windows.num_targets(range(len(windows))) == count - 1
    chosen = windows.fixed_subset(1001)
    assert chosen is not None
    assert (chosen[0], chosen[-1], len(set(chosen))) == (0, 10**7 - 1, 1001)
    for border in firsts[1:-1]:  # the last window that begins in a shard
        index = (border - 1) // context_length
        row = windows.batch([index]).ids[0].numpy()
        place = border - index * context_length
        before = (np.arange(border - place, border) % 9_973).astype(int)
        before[-1] = EOS_ID
        assert row[:place].tolist() == before.tolist()
        assert row[place] == SOS_ID
    short = TokenWindows(tokens, 10)  # 10^9 windows, of which none is listed
    order = ShuffledOrder(len(short), 32, 0)
    order.restore(order.state() | {"epoch": 3, "next_window": len(short) - 50})
    assert short.batch(order.next()).ids.shape == (32, 10)


# --- what is refused ---


def damage_index(path: Path, change: Any) -> None:
    content = path.read_bytes()
    values = json.loads(content[16:])
    del values["checksum"]
    change(values["shards"])
    path.write_bytes(content[:16] + json.dumps(signed(values)).encode())


def refused(path: Path, expected: str) -> None:
    with pytest.raises(DataError) as raised:
        TokenFile(path, TOKENIZER, "c")
    assert str(raised.value) == f"{expected}; encode the text again"
    assert "\n" not in str(raised.value)


def test_shards_that_are_not_those_of_the_index(tmp_path: Path) -> None:
    path = write(tmp_path / "a").path
    count = len(files(tmp_path / "a")) - 1
    assert count > 3
    second = path.with_name("train.00001.tokens")
    content = second.read_bytes()

    second.unlink()
    refused(path, f"{path}: train.00001.tokens, shard 2 of {count}, is missing")
    other = WordTokenizer.train(["another cat"], WordSettings(min_frequency=1))
    one, two = TOKENIZER.fingerprint(), other.fingerprint()
    write_token_file(second, TEXTS, other, "c", "train")
    refused(
        path,
        f"{path}: train.00001.tokens is of tokenizer {two}, the shards before it are of {one}",
    )
    write_token_file(second, TEXTS, TOKENIZER, "d", "train")
    refused(path, f"{path}: train.00001.tokens is of corpus d, the shards before it are of c")
    write_token_file(second, TEXTS[1:], TOKENIZER, "c", "train")
    refused(path, f"{path}: train.00001.tokens is not the file that was written as it")
    second.write_bytes(content[:-8])
    refused(
        path,
        f"{second} has {len(content) - 8} bytes and its header says {len(content)}: it was cut "
        "short or changed",
    )
    changed = bytearray(content)
    changed[5000] ^= 1
    second.write_bytes(changed)
    refused(path, f"{second} is damaged: it has changed since it was written")
    second.write_bytes(content)
    assert len(TokenFile(path, TOKENIZER, "c")) == len(TEXTS)
    with pytest.raises(DataError, match=f"{path} is stale: it was made with corpus c, this run"):
        TokenFile(path, TOKENIZER, "e")


def test_shards_that_do_not_follow_each_other(tmp_path: Path) -> None:
    path = write(tmp_path / "a").path
    first = TokenFile(path.with_name("train.00000.tokens")).header

    def exchange(shards: list[dict[str, Any]]) -> None:
        shards[0]["file"], shards[1]["file"] = shards[1]["file"], shards[0]["file"]
        shards[0]["sha256"], shards[1]["sha256"] = shards[1]["sha256"], shards[0]["sha256"]

    damage_index(path, exchange)
    with pytest.raises(DataError, match=r"do not follow each other: train\.00000\.tokens begins"):
        TokenFile(path, TOKENIZER, "c")
    write(tmp_path / "a")
    damage_index(path, lambda shards: shards.pop(1))
    story, token = starts_of(path)[1]
    refused(
        path,
        f"{path}: the shards do not follow each other: train.00002.tokens begins with story "
        f"{story:,} and token {token:,}, and those before it hold {first.num_stories:,} and "
        f"{first.num_tokens:,}",
    )


def starts_of(path: Path) -> list[tuple[int, int]]:
    shards = json.loads(path.read_bytes()[16:])["shards"]
    return [(shard["first_story"], shard["first_token"]) for shard in shards]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda shards: shards.clear(), "shards = []"),
        (lambda shards: shards[0].update(file="../x"), "shards.0.file = '../x'"),
        (lambda shards: shards[0].update(first_story=-1), "shards.0.first_story = -1"),
        (lambda shards: shards[0].pop("sha256"), "shards.0.sha256 is missing"),
    ],
)
def test_a_damaged_index(tmp_path: Path, change: Any, problem: str) -> None:
    path = write(tmp_path / "a").path
    damage_index(path, change)
    with pytest.raises(DataError) as raised:
        TokenFile(path)
    assert str(raised.value).startswith(f"{path} has a damaged index: {problem}")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="has a damaged index"):
        TokenFile(path)


def test_more_shards_than_files_may_be_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit of open files is raised, as far as it may be, and the rest is refused."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    path = write(tmp_path / "a").path
    few = len(list(Path("/proc/self/fd").iterdir())) + 2  # this process has some open already
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, before[1]))
        assert len(TokenFile(path)) == len(TEXTS)
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, before[1]))
        monkeypatch.setattr(token_files, "allow_open", lambda number: None)
        with pytest.raises(ConfigError, match="cannot be opened beside the other shards"):
            TokenFile(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# --- what was verified is not read again ---


def test_large_files_are_read_through_once_and_again_when_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a").path
    read: list[str] = []
    verify = token_checks._verify

    def watched(file: token_checks.Mapped) -> int:
        read.append(file.path.name)
        return verify(file)

    monkeypatch.setattr(token_checks, "_verify", watched)
    shards = [name for name in files(tmp_path / "a") if name != "train.tokens"]

    def opened() -> list[str]:
        read.clear()
        TokenFile(path, TOKENIZER, "c")
        return sorted(read)

    assert opened() == opened() == shards  # small: always, and nothing is noted
    assert "train.tokens.verified" not in files(tmp_path / "a")
    monkeypatch.setattr(token_checks, "_NOTED_BYTES", 1)
    assert opened() == opened() == shards  # just written: a change could keep the time
    monkeypatch.setattr(token_checks, "SECONDS_UNTIL_SURE", -1.0)
    assert opened() == shards
    assert opened() == []
    second = path.with_name(shards[1])
    content = second.read_bytes()
    stamp = second.stat()
    second.write_bytes(content)
    os.utime(second, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # as a copy keeps it
    assert opened() == [shards[1]]
    assert opened() == []
    changed = bytearray(content)
    changed[5000] ^= 1
    second.write_bytes(changed)
    os.utime(second, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with pytest.raises(DataError, match="it has changed since it was written"):
        opened()
    second.write_bytes(content)
    (tmp_path / "a/train.tokens.verified").write_text("{")
    assert opened() == shards
    assert opened() == []
    smaller = Numbers(TOKENIZER.vocab_size - 1)
    smaller.fingerprint = TOKENIZER.fingerprint  # type: ignore[method-assign]
    with pytest.raises(DataError, match="is damaged: it holds the id"):
        TokenFile(path, smaller, "c")  # type: ignore[arg-type]


# --- written by several processes ---


def test_any_number_of_processes_write_the_same_files(tmp_path: Path) -> None:
    pairs = [(text, f"“{text}”") for text in TEXTS]
    told: list[int] = []
    for workers in (1, 2, 3):
        write(tmp_path / f"texts-{workers}", workers=workers)
        made = split_of(tmp_path / f"pairs-{workers}.tokens", each=2)
        with Pool(workers) as pool:
            write_split(made, pairs, pool, told.append)
    assert max(told) == len(pairs)
    assert len(files(tmp_path / "texts-1")) > 4
    assert same_files(tmp_path / "texts-1", tmp_path / "texts-2")
    assert same_files(tmp_path / "texts-1", tmp_path / "texts-3")
    first, *others = (TokenFile(tmp_path / f"pairs-{n}.tokens") for n in (1, 2, 3))
    assert all(each.header == first.header for each in others)


def test_more_processes_than_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more are started than there is work for; of one shard none."""
    started: list[Any] = []
    plain = token_workers._Worker
    monkeypatch.setattr(
        token_workers, "_Worker", lambda *a: started.append(plain(*a)) or started[-1]
    )
    write(tmp_path / "one", TEXTS[:9], workers=64)
    assert not started
    write(tmp_path / "two", TEXTS[:100], workers=64)
    assert 1 <= len(started) <= len(files(tmp_path / "two")) - 1
    assert all(worker.process.poll() is not None for worker in started)
    write(tmp_path / "plain", TEXTS[:100])
    assert same_files(tmp_path / "two", tmp_path / "plain")


def test_a_worker_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says so, the others are ended, half files deleted; then it goes on."""
    before = threading.active_count()
    started: list[Any] = []
    plain = token_workers._Worker
    monkeypatch.setattr(
        token_workers, "_Worker", lambda *a: started.append(plain(*a)) or started[-1]
    )
    folder = tmp_path / "a"

    def texts() -> Iterator[str]:
        for number, text in enumerate(TEXTS * 3):
            if number == 400:
                while not all((folder / f"train.0000{i}.tokens").exists() for i in (0, 1)):
                    time.sleep(0.01)
                os.kill(started[-1].process.pid, signal.SIGKILL)
            yield text

    with pytest.raises(DataError) as raised:
        write(folder, texts(), workers=2)
    message = str(raised.value)
    assert "worked on the train split was ended by SIGKILL; give the command again" in message
    assert "\n" not in message
    assert all(worker.process.poll() is not None for worker in started)
    assert threading.active_count() == before
    assert all(name.startswith("train.0") for name in files(folder))
    kept = len(files(folder))
    assert kept >= 2
    encoded: list[str] = []
    plain_encode = WordTokenizer.encode_flat

    def watched(self: WordTokenizer, texts: Any) -> Any:
        encoded.extend(texts)
        return plain_encode(self, texts)

    monkeypatch.setattr(WordTokenizer, "encode_flat", watched)
    write(folder, TEXTS * 3)
    assert len(encoded) < len(TEXTS) * 3
    write(tmp_path / "b", TEXTS * 3)
    assert same_files(folder, tmp_path / "b")


KILLED = """
import sys, time
from pathlib import Path
from tinylm.data import token_files, token_shards
from tinylm.data.token_workers import Pool
from tinylm.tokenizers.files import load

def stories():
    for number in range(10_000):
        yield ("the cat sat",)
        time.sleep(0.01 * (number > 300))

token_shards.SHARD_CHARACTERS, token_files._STORIES_AT_ONCE = 800, 7
folder = Path(sys.argv[1])
split = token_shards.Split(folder / "train.tokens", 1, load(folder / "t.json"), "c", "train")
with Pool(2) as pool:
    token_shards.write_split(split, stories(), pool)
"""


def children(pid: int) -> list[int]:
    return [int(number) for number in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_no_process_outlives_the_command(tmp_path: Path) -> None:
    """Killed without a chance to say so: its processes end, and their half files go."""
    TOKENIZER.save(tmp_path / "t.json")
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)]) as process:
        try:
            end = time.monotonic() + 60
            while not (list(tmp_path.glob(".train.*.tmp")) and list(tmp_path.glob("train.0*"))):
                assert time.monotonic() < end
                time.sleep(0.01)
            started = children(process.pid)
            assert len(started) == 2
        finally:
            process.kill()
    while any(map(is_running, started)):
        assert time.monotonic() < end
        time.sleep(0.01)
    assert not list(tmp_path.glob(".train.*.tmp"))
    whole = [TokenFile(path, TOKENIZER, "c") for path in tmp_path.glob("train.0*")]
    assert whole


def test_a_worker_that_cannot_write_says_why(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/train.00001.tokens").mkdir()
    with pytest.raises(DataError, match=r"train\.00001\.tokens"):
        write(tmp_path / "a", workers=2)


def test_an_error_in_the_text_ends_the_workers(tmp_path: Path) -> None:
    def texts() -> Iterator[str]:
        yield from TEXTS
        raise DataError("the corpus is malformed further down")

    before = threading.active_count()
    with pytest.raises(DataError, match="further down"):
        write(tmp_path / "a", texts(), workers=2)
    assert threading.active_count() == before
    assert all(name.startswith("train.0") for name in files(tmp_path / "a"))


@pytest.mark.parametrize("kept", [[0], [0, 1], [0, 2], [1], [0, 1, 2, 3]])
def test_what_was_interrupted_goes_on(tmp_path: Path, kept: list[int]) -> None:
    write(tmp_path / "whole")
    folder = tmp_path / "a"
    folder.mkdir()
    for number in kept:
        name = f"train.{number:05}.tokens"
        (folder / name).write_bytes((tmp_path / "whole" / name).read_bytes())
    write(folder)
    assert same_files(folder, tmp_path / "whole")


def test_shards_of_another_tokenizer_or_damaged_ones_are_not_gone_on_from(tmp_path: Path) -> None:
    write(tmp_path / "whole")
    folder = tmp_path / "a"
    folder.mkdir()
    other = WordTokenizer.train(["another cat"], WordSettings(min_frequency=1))
    write_token_file(folder / "train.00000.tokens", TEXTS[:3], other, "c", "train")
    write(folder)
    assert same_files(folder, tmp_path / "whole")
    first = folder / "train.00000.tokens"
    content = bytearray(first.read_bytes())
    content[4097] ^= 1
    first.write_bytes(content)
    (folder / "train.tokens").unlink()
    write(folder)
    assert same_files(folder, tmp_path / "whole")
