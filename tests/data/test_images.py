"""IDX files, the splits made of them, and the download: what is right is read, the rest is told."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import struct
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylm.data import images as module
from tinylm.data.images import (
    SHA256,
    Bytes,
    DigitData,
    download_mnist,
    load_digits,
    read_idx,
    stratified_split,
)
from tinylm.errors import DataError


def idx(values: Bytes, magic: bytes = b"\0\0\x08") -> bytes:
    """The format, written by its description and not by the reader's code."""
    sizes = struct.pack(f">{values.ndim}I", *values.shape)
    return magic + bytes([values.ndim]) + sizes + values.tobytes()


def digits(count: int, seed: int = 0, size: int = 5) -> tuple[Bytes, Bytes]:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, size, size)).astype(np.uint8)
    return images, (np.arange(count) % 10).astype(np.uint8)


def write_split(folder: Path, part: str, count: int, seed: int = 0, size: int = 5) -> None:
    images, labels = digits(count, seed, size)
    (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
    (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))


def message_of(error: pytest.ExceptionInfo[DataError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


# --- files ---


@given(st.lists(st.integers(0, 6), min_size=1, max_size=3), st.booleans(), st.integers(0, 99))
def test_a_file_is_read_as_it_was_written(sizes: list[int], packed: bool, seed: int) -> None:
    import tempfile

    values = np.random.default_rng(seed).integers(0, 256, sizes).astype(np.uint8)
    content = gzip.compress(idx(values)) if packed else idx(values)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any-name"
        path.write_bytes(content)
        np.testing.assert_array_equal(read_idx(path, len(sizes)), values)


def test_sizes_are_big_endian(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"\0\0\x08\x01\0\0\x01\x02" + bytes(258))
    assert read_idx(path, 1).shape == (258,)


IMAGES = idx(digits(4)[0])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no IDX file"),
        (b"\0\0", "no IDX file"),
        (b"PK\x03\x04....", "does not start with two zero bytes"),
        (b"\0\0\x0d\x03" + IMAGES[4:], "IDX type 0x0d"),
        (idx(digits(4)[1]), "has 1 dimensions, not 3"),
        (IMAGES[:10], "ends within its header"),
        (IMAGES[:-1], "has 99 bytes behind its header, which says 100"),
        (IMAGES + b"\0", "has more than 100 bytes behind its header, which says 100"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "announces 79,228,162,458,924,105,385,300,197,375 bytes"),
        (gzip.compress(IMAGES)[:-4], "cannot read"),
        (gzip.compress(IMAGES)[:-8] + b"12345678", "cannot read"),  # another checksum
        (b"\x1f\x8b\x08 not gzip at all", "cannot read"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "t10k-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_idx(path, 3)
    assert said in message_of(error)
    assert str(path) in message_of(error)


def test_a_damaged_checksum_inside_gzip_is_refused(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(IMAGES, compresslevel=0))
    packed[60] ^= 1  # a pixel; its CRC no longer fits
    (tmp_path / "x.gz").write_bytes(packed)
    with pytest.raises(DataError, match="CRC"):
        read_idx(tmp_path / "x.gz", 3)


def test_what_a_header_does_not_announce_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(IMAGES + bytes(1 << 26)))
    assert path.stat().st_size < 1 << 17
    tracemalloc.start()
    with pytest.raises(DataError, match="has more than 100 bytes behind its header"):
        read_idx(path, 3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*No such file"):
        read_idx(tmp_path / "none", 3)


# --- folders ---


def test_both_splits_are_used_where_they_are_there(tmp_path: Path) -> None:
    write_split(tmp_path, "train", 60, seed=1)
    write_split(tmp_path, "t10k", 20, seed=2)
    data = load_digits(tmp_path, 0.2, 0)
    np.testing.assert_array_equal(data.train.images, digits(60, 1)[0])
    np.testing.assert_array_equal(data.test.images, digits(20, 2)[0])
    assert data.description == "MNIST's own splits: 60 training and 20 test images"
    assert (data.levels, len(data.train)) == (255, 60)


@pytest.mark.parametrize("part", ["t10k", "train"])
def test_one_split_is_divided_and_that_is_said(tmp_path: Path, part: str) -> None:
    write_split(tmp_path, part, 100)
    data = load_digits(tmp_path, 0.2, 0)
    assert (len(data.train), len(data.test)) == (80, 20)
    assert f"({part})" in data.description
    assert "80 of them" in data.description and "20 tested on" in data.description
    assert np.bincount(data.test.labels).tolist() == [2] * 10
    # Labels stay with their images, and together the parts are the whole.
    images, labels = digits(100)
    whole = {image.tobytes(): int(label) for image, label in zip(images, labels, strict=True)}
    for split in (data.train, data.test):
        for image, label in zip(split.images, split.labels, strict=True):
            assert whole.pop(image.tobytes()) == label
    assert not whole


def test_names_with_a_dot_are_found(tmp_path: Path) -> None:
    images, labels = digits(50)
    (tmp_path / "t10k-images.idx3-ubyte").write_bytes(idx(images))
    (tmp_path / "t10k-labels.idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    assert len(load_digits(tmp_path, 0.2, 0).test) == 10


def test_the_fingerprint_names_content_and_split(tmp_path: Path) -> None:
    write_split(tmp_path, "t10k", 100)
    names = {load_digits(tmp_path, 0.2, seed).fingerprint() for seed in (0, 0, 1)}
    names.add(load_digits(tmp_path, 0.3, 0).fingerprint())
    write_split(tmp_path, "t10k", 100, seed=9)
    names.add(load_digits(tmp_path, 0.2, 0).fingerprint())
    assert len(names) == 4


def bad_folders(folder: Path, kind: str) -> None:
    write_split(folder, "t10k", 100)
    images, labels = folder / "t10k-images-idx3-ubyte.gz", folder / "t10k-labels-idx1-ubyte"
    if kind == "no labels":
        labels.unlink()
    elif kind == "no images":
        images.unlink()
    elif kind == "other count":
        labels.write_bytes(idx(digits(99)[1]))
    elif kind == "label 10":
        labels.write_bytes(idx(np.full(100, 10, np.uint8)))
    elif kind == "no image":
        images.write_bytes(idx(digits(0)[0]))
        labels.write_bytes(idx(digits(0)[1]))
    elif kind == "one class":
        labels.write_bytes(idx(np.full(100, 3, np.uint8)))
    elif kind == "other size":
        write_split(folder, "train", 50, size=6)
    elif kind == "swapped":
        content = images.read_bytes(), labels.read_bytes()
        labels.write_bytes(content[0])
        images.write_bytes(content[1])


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("no labels", "has no t10k-labels-idx1-ubyte(.gz)"),
        ("no images", "has no t10k-images-idx3-ubyte(.gz)"),
        ("other count", "100 images and"),
        ("label 10", "has the label 10; digits are 0 to 9"),
        ("no image", "holds no image"),
        ("one class", "class 0 has 0 images"),
        ("other size", "training images of (6, 6) pixels and test images of (5, 5)"),
        ("swapped", "has 1 dimensions, not 3"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path: Path, kind: str, said: str) -> None:
    bad_folders(tmp_path, kind)
    with pytest.raises(DataError) as error:
        load_digits(tmp_path, 0.2, 0)
    assert said in message_of(error)


def test_a_folder_that_is_empty_or_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no IDX files"):
        load_digits(tmp_path, 0.2, 0)
    with pytest.raises(DataError, match="is no folder"):
        load_digits(tmp_path / "none", 0.2, 0)


def test_the_embedded_digits() -> None:
    data = load_digits(None, 0.2, 0)
    assert data.train.images.shape[1:] == (8, 8)
    assert (len(data.train), len(data.test)) == (1438, 359)
    assert int(data.train.images.max()) == data.levels == 16
    assert "1,438" in data.description and "359" in data.description
    assert isinstance(data, DigitData)


# --- splits ---


@given(st.lists(st.integers(4, 40), min_size=10, max_size=10), st.floats(0.3, 0.7),
       st.integers(0, 99))  # fmt: skip
def test_every_class_keeps_its_share(counts: list[int], share: float, seed: int) -> None:
    labels = np.repeat(np.arange(10), counts).astype(np.uint8)
    labels = np.random.default_rng(seed).permutation(labels)
    kept, held_out = stratified_split(labels, share, seed)
    assert sorted([*kept, *held_out]) == list(range(len(labels)))
    assert len(held_out) == round(share * len(labels))
    taken = np.bincount(labels[held_out], minlength=10)
    assert (np.abs(taken - share * np.array(counts)) <= 1).all()


def test_the_split_is_seeded_and_not_the_beginning() -> None:
    labels = (np.arange(200) % 10).astype(np.uint8)
    first, same, third = (stratified_split(labels, 0.2, seed)[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    assert first.tolist() != third.tolist()
    assert first.max() > 100


# --- download ---


class Server:
    """Serves a folder on loopback and counts what is asked for."""

    def __init__(self, folder: Path) -> None:
        asked = self.asked = []  # type: ignore[var-annotated]

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *args: object) -> None:
                super().__init__(*args, directory=str(folder))  # type: ignore[arg-type]

            def do_GET(self) -> None:
                asked.append(self.path)
                if "cut" in self.path:  # says more bytes than it sends
                    self.send_response(200)
                    self.send_header("Content-Length", "100")
                    self.end_headers()
                    self.wfile.write(b"x" * 10)
                else:
                    super().do_GET()

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Server, dict[str, str]]]:
    folder = tmp_path / "served"
    (folder / "good").mkdir(parents=True)
    (folder / "bad").mkdir()
    sums = {}
    for name in SHA256:
        content = gzip.compress(name.encode() * 1000)
        (folder / "good" / name).write_bytes(content)
        (folder / "bad" / name).write_bytes(content[:-1])
        sums[name] = hashlib.sha256(content).hexdigest()
    server = Server(folder)
    yield server, sums
    server.server.shutdown()
    server.server.server_close()


def test_files_are_fetched_once_and_checked(
    served: tuple[Server, dict[str, str]], tmp_path: Path
) -> None:
    server, sums = served
    done: list[float] = []
    mirrors = [f"{server.address}/{place}" for place in ("missing", "bad", "cut", "good/")]
    paths = download_mnist(tmp_path / "new", done.append, mirrors, sums)
    assert [path.name for path in paths] == list(SHA256)
    assert done == [1, 2, 3, 4]
    for path in paths:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == sums[path.name]
    assert len(server.asked) == 16
    paths[0].write_bytes(b"damaged")
    download_mnist(tmp_path / "new", None, mirrors[3:], sums)
    assert server.asked[16:] == [f"/good/{paths[0].name}"]  # the others were kept
    assert len(list((tmp_path / "new").iterdir())) == 4


@pytest.mark.parametrize(
    ("place", "said"), [("bad", "SHA-256"), ("missing", "404"), ("cut", "SHA-256")]
)
def test_what_is_not_the_file_is_refused(
    served: tuple[Server, dict[str, str]], tmp_path: Path, place: str, said: str
) -> None:
    server, sums = served
    with pytest.raises(DataError) as error:
        download_mnist(tmp_path / "new", None, [f"{server.address}/{place}"], sums)
    assert said in message_of(error)
    assert "by hand" in message_of(error)
    assert not list((tmp_path / "new").glob("*")) and not list((tmp_path / "new").glob(".*"))


def test_without_a_network_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **named: object) -> object:
        raise module.URLError("no route to host")

    monkeypatch.setattr(module, "urlopen", refuse)
    with pytest.raises(DataError) as error:
        download_mnist(tmp_path)
    assert message_of(error).startswith("cannot download train-images-idx3-ubyte.gz (https://ossci")
    assert "no route to host" in message_of(error) and "use the embedded digits" in message_of(
        error
    )
    assert not list(tmp_path.iterdir())
