"""Token files: header, types, stories, what is refused by name, and memory while writing."""

import hashlib
import json
import tracemalloc
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tinylm.data import token_files
from tinylm.data.token_files import TokenFile, TokenFileHeader, read_header, write_token_file
from tinylm.errors import DataError
from tinylm.reading import signed
from tinylm.tokenizers.base import EOS_ID, SOS_ID, UNK_ID, Tokenizer
from tinylm.tokenizers.word import WordSettings, WordTokenizer

TEXTS = ["the cat sat .", "", "the dög ran !", "cat"]


def tokenizer(texts: Sequence[str] = ("the cat sat .", "the dog ran !")) -> WordTokenizer:
    return WordTokenizer.train(texts, WordSettings(min_frequency=1))


class Numbers:
    """A tokenizer of texts that are numbers already, with as many types as wanted."""

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def encode_flat(
        self, texts: Sequence[str]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        rows = [[int(word) for word in text.split()] for text in texts]
        bounds = np.cumsum([0, *(len(row) for row in rows)])
        return np.array(list(chain(*rows)), dtype=np.int32), bounds

    def fingerprint(self) -> str:
        return f"numbers-{self.vocab_size}"


def write(path: Path, texts: Any = TEXTS, made_by: Any = None) -> TokenFileHeader:
    chosen: Tokenizer = made_by or tokenizer()
    return write_token_file(path, texts, chosen, "corpus-1", "train")


def test_stories_come_back_framed_and_in_order(tmp_path: Path) -> None:
    words = tokenizer()
    header = write(tmp_path / "a.tokens")
    file = TokenFile(tmp_path / "a.tokens", words, "corpus-1")
    expected = [[SOS_ID, *words.encode(text), EOS_ID] for text in TEXTS]
    assert [story.tolist() for story in file.stories()] == expected
    assert file.story(2).tolist() == expected[2]
    assert file.story(3).dtype == np.int64
    assert len(file) == 4
    joined = list(chain(*expected))
    assert file.ids.tolist() == joined
    assert [joined[start] for start in file.starts] == [SOS_ID] * 4
    assert UNK_ID in joined
    assert header == file.header == read_header(tmp_path / "a.tokens")
    assert header == TokenFileHeader(
        tokenizer=words.fingerprint(),
        corpus="corpus-1",
        split="train",
        dtype="uint16",
        num_tokens=len(joined),
        num_stories=4,
        num_unknown=1,
        num_text_bytes=len("".join(TEXTS).encode()),
        sha256=hashlib.sha256((tmp_path / "a.tokens").read_bytes()[4096:]).hexdigest(),
    )
    assert header.unknown_rate == 1 / (len(joined) - 8)


def test_what_is_read_is_mapped_not_loaded(tmp_path: Path) -> None:
    write(tmp_path / "a.tokens")
    file = TokenFile(tmp_path / "a.tokens")
    assert isinstance(file.ids, np.memmap)
    assert isinstance(file.starts, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        file.ids[0] = 1


@pytest.mark.parametrize(
    ("types", "dtype", "size"),
    [(65_535, "uint16", 2), (65_536, "uint16", 2), (65_537, "uint32", 4)],
)
def test_ids_take_two_bytes_up_to_65536_types(
    tmp_path: Path, types: int, dtype: str, size: int
) -> None:
    texts = [f"{types - 1} 7", "4", f"5 {types - 1} {types - 2}"]
    header = write(tmp_path / "a.tokens", texts, Numbers(types))
    assert header.dtype == dtype
    file = TokenFile(tmp_path / "a.tokens")
    assert file.ids.itemsize == size
    assert file.story(0).tolist() == [SOS_ID, types - 1, 7, EOS_ID]
    assert file.story(2).tolist() == [SOS_ID, 5, types - 1, types - 2, EOS_ID]
    assert file.starts.tolist() == [0, 4, 7]


def test_more_stories_than_are_encoded_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_files, "_STORIES_AT_ONCE", 7)
    progress: list[int] = []
    texts = [" ".join(str(4 + i) for i in range(n % 5)) for n in range(30)]
    write_token_file(tmp_path / "a", texts, Numbers(50), "c", "train", progress.append)  # type: ignore[arg-type]
    assert progress == [7, 14, 21, 28, 30]
    stories = [story[1:-1].tolist() for story in TokenFile(tmp_path / "a").stories()]
    assert stories == [list(range(4, 4 + n % 5)) for n in range(30)]


def test_the_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    def stories() -> Iterator[str]:
        for text in TEXTS * 600:
            assert not (tmp_path / "a.tokens").exists()
            yield text
        raise DataError("the corpus is malformed further down")

    with pytest.raises(DataError, match="further down"):
        write(tmp_path / "a.tokens", stories())
    assert list(tmp_path.iterdir()) == []


def test_a_split_without_a_story_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the train split of corpus corpus-1 has no story"):
        write(tmp_path / "a.tokens", [])
    assert list(tmp_path.iterdir()) == []


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    words = tokenizer()

    def stories(count: int) -> Iterator[str]:
        for _ in range(count):
            yield "the cat sat . the dog ran ! " * 12

    def peak(count: int) -> int:
        tracemalloc.start()
        write(tmp_path / "a.tokens", stories(count), words)
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak_bytes

    peak(10)
    small, large = peak(4_000), peak(16_000)
    size = (tmp_path / "a.tokens").stat().st_size
    assert size > 3_000_000
    # 8 bytes a story are kept (twice while they are written), and nothing of its text.
    assert large - small < 12_000 * 8 * 4


# --- what is refused ---


def test_a_stale_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.tokens"
    write(path)
    made, other = tokenizer(), tokenizer(["another cat"])
    TokenFile(path, made, "corpus-1")
    with pytest.raises(DataError) as caught:
        TokenFile(path, other, "corpus-1")
    assert str(caught.value) == (
        f"{path} is stale: it was made with tokenizer {made.fingerprint()}, this run uses "
        f"{other.fingerprint()}; encode the text again"
    )
    with pytest.raises(DataError) as caught:
        TokenFile(path, made, "corpus-2")
    assert str(caught.value) == (
        f"{path} is stale: it was made with corpus corpus-1, this run uses corpus-2; "
        "encode the text again"
    )


@pytest.mark.parametrize("change", [-1, -9, -200, 1, 8])
def test_a_file_cut_short_or_grown_is_refused(tmp_path: Path, change: int) -> None:
    path = tmp_path / "a.tokens"
    write(path, TEXTS * 20)
    content = path.read_bytes()
    path.write_bytes(content[:change] if change < 0 else content + bytes(change))
    message = rf"a\.tokens has {len(content) + change} bytes and its header says {len(content)}"
    with pytest.raises(DataError, match=message):
        TokenFile(path)


def test_a_file_of_another_kind_or_cut_in_its_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tokens"
    write(path)
    content = path.read_bytes()
    for wrong in (b"", content[:100], content[:4095], b"tinylm tokens 1\n" + content[16:]):
        path.write_bytes(wrong)
        with pytest.raises(DataError, match=r"a\.tokens is no token file of this version; encode"):
            TokenFile(path)
    with pytest.raises(DataError, match=r"cannot read token file .*nowhere: No such file"):
        TokenFile(tmp_path / "nowhere")


def parts(path: Path) -> tuple[dict[str, Any], bytes]:
    """Return the header, without its checksum, and the content."""
    content = path.read_bytes()
    header = json.loads(content[16:4096])
    del header["checksum"]
    return header, content[4096:]


def write_parts(path: Path, header: dict[str, Any], content: bytes) -> None:
    """Write a file whose checksums are right."""
    header = {**header, "sha256": hashlib.sha256(content).hexdigest()}
    text = b"tinylm tokens 2\n" + json.dumps(signed(header)).encode()
    path.write_bytes(text.ljust(4096) + content)


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "float64"},
        {"dtype": "uint17"},
        {"num_tokens": -3},
        {"num_tokens": "many"},
        {"num_tokens": 3.0},
        {"num_unknown": -1},
        {"num_stories": 0},
        {"colour": "red"},
        {"split": None, "tokenizer": None, "num_tokens": None},
    ],
)
def test_a_damaged_header_is_refused_by_name(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "a.tokens"
    write(path)
    header, content = parts(path)
    write_parts(path, {**header, **change}, content)
    with pytest.raises(DataError, match=r"a\.tokens has a damaged header: .*; encode the text"):
        TokenFile(path)
    for text in (b"{" + b"\xff" * 30, b"[1]", b"[" * 3000, json.dumps(header).encode()):
        path.write_bytes((b"tinylm tokens 2\n" + text).ljust(4096) + content)
        with pytest.raises(DataError, match=r"a\.tokens has a damaged header"):
            TokenFile(path)


def test_every_flipped_bit_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.tokens"
    write(path)
    content = path.read_bytes()
    end = content.index(b"}") + 1
    for place in (*range(end), *range(4096, len(content))):
        for bit in range(8):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            path.write_bytes(changed)
            with pytest.raises(DataError) as error:
                TokenFile(path)
            assert str(path) in str(error.value)


def test_content_that_no_writer_writes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tokens"
    words = tokenizer()
    write(path)
    header, content = parts(path)
    count, stories = header["num_tokens"], header["num_stories"]
    ids = np.frombuffer(content[: 2 * count], np.uint16)
    starts = np.frombuffer(content[-8 * stories :], np.int64)
    padding = bytes(len(content) - ids.nbytes - starts.nbytes)

    def refused(ids: npt.NDArray[Any], starts: npt.NDArray[Any], problem: str) -> None:
        content = ids.astype(np.uint16).tobytes() + padding + starts.astype(np.int64).tobytes()
        write_parts(path, header, content)
        with pytest.raises(DataError, match=rf"a\.tokens is damaged: {problem}"):
            TokenFile(path, words, "corpus-1")

    for place, number in ((1, 0xFFFF), (3, words.vocab_size)):
        changed = ids.copy()
        changed[place] = number
        problem = f"it holds the id {number}, the tokenizer has {words.vocab_size}"
        refused(changed, starts, problem)
    for order in ([1, 0, 2, 3], [0, 0, 2, 3], [0, 1, 3, 2]):
        refused(ids, starts[order], "its stories do not follow each other")
    for shift in ([1, 0, 0, 0], [0, 0, 0, 10**12], [0, 0, 0, -(10**12)], [0, 1, 0, 0]):
        refused(ids, starts + shift, "(its stories do not|a story does not stand)")
    for place in (0, int(starts[1]), int(starts[1]) - 1, count - 1):
        changed = ids.copy()
        changed[place] = 5
        refused(changed, starts, "a story does not stand between <sos> and <eos>")
    write_parts(path, header, content)
    assert len(TokenFile(path, words, "corpus-1")) == len(TEXTS)
