"""Images of handwritten digits: IDX files, MNIST's splits and address, and an embedded set.

An IDX file is two zero bytes, a byte for the number format (8: unsigned bytes), a byte for the
number of dimensions, each dimension as a big-endian 32-bit number, then the data, last dimension
fastest (LeCun, Cortes and Burges, "The MNIST database"). Files are read as they are or packed by
gzip, whatever they are called.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import numpy.typing as npt

from tinylm.atomic import atomic_write
from tinylm.errors import DataError

Bytes = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]

NUM_CLASSES = 10
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)
"""Public addresses of MNIST's four files."""
SHA256 = {
    "train-images-idx3-ubyte.gz": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
    ),
    "train-labels-idx1-ubyte.gz": (
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
    ),
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
"""SHA-256 of the files as they have been served since 1998."""

_UNSIGNED_BYTE = 8
_GZIP = b"\x1f\x8b"
_CHUNK = 2**16
_MOST_BYTES = 2**30
"""Of an unpacked file; MNIST's largest has 47 million."""
_TIMEOUT_S = 30


@dataclass(frozen=True)
class ImageSet:
    """Images and what they show."""

    images: Bytes
    """(count, rows, columns), 0 for the background."""
    labels: Bytes
    """Class of each image, 0 to 9, (count,)."""

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Indices) -> ImageSet:
        """Return the images with these indices."""
        return ImageSet(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class DigitData:
    """Digits to learn from and digits to be tested on."""

    name: str
    train: ImageSet
    test: ImageSet
    levels: int
    """The largest value that a pixel can have."""
    description: str
    """One sentence: what it is and how it was split, to stand wherever a number is reported."""

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits of all images, labels and the split."""
        digest = hashlib.sha256()
        for part in (self.train, self.test):
            digest.update(repr(part.images.shape).encode())
            digest.update(part.images.tobytes())
            digest.update(part.labels.tobytes())
        return digest.hexdigest()[:16]


def read_idx(path: str | Path, num_dimensions: int) -> Bytes:
    """Read an IDX file of unsigned bytes, plain or packed by gzip.

    Args:
        path: the file.
        num_dimensions: that it must have: 3 for images, 1 for labels.

    Raises:
        DataError: if it cannot be read, is of another kind, or its length does not fit its header.
    """
    path = Path(path)
    start = 4 + 4 * num_dimensions
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP
        with gzip.open(path) if packed else path.open("rb") as file:
            head = file.read(start)
            sizes = _idx_sizes(path, head, num_dimensions)
            # What the header announces and one byte more, however much there is to unpack.
            content = file.read(math.prod(sizes) + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from (
            error
        )
    expected = math.prod(sizes)
    if len(content) != expected:
        actual = f"more than {expected:,}" if len(content) > expected else f"{len(content):,}"
        raise DataError(
            f"{path} has {actual} bytes behind its header, which says {expected:,}: it was cut "
            "short or changed; fetch it again"
        )
    return np.frombuffer(content, np.uint8).reshape(sizes)


def _idx_sizes(path: Path, head: bytes, num_dimensions: int) -> list[int]:
    """Return the dimensions that a header announces."""
    if len(head) < 4 or head[:2] != b"\0\0":
        raise DataError(f"{path} is no IDX file: it does not start with two zero bytes")
    kind, actual = head[2], head[3]
    if kind != _UNSIGNED_BYTE:
        raise DataError(f"{path} holds numbers of IDX type 0x{kind:02x}; 0x08, bytes, is read here")
    if actual != num_dimensions:
        raise DataError(
            f"{path} has {actual} dimensions, not {num_dimensions}: images have three (count, "
            "rows, columns), labels one"
        )
    if len(head) < 4 + 4 * num_dimensions:
        raise DataError(f"{path} ends within its header: it was cut short; fetch it again")
    sizes: list[int] = np.frombuffer(head[4:], ">u4").tolist()
    if math.prod(sizes) > _MOST_BYTES:
        raise DataError(
            f"{path} announces {math.prod(sizes):,} bytes ({' x '.join(map(str, sizes))}); "
            f"at most {_MOST_BYTES:,} are read"
        )
    return sizes


def read_digits(images: Path, labels: Path) -> ImageSet:
    """Read a pair of IDX files.

    Raises:
        DataError: if one cannot be used, or they do not belong together.
    """
    pictures, classes = read_idx(images, 3), read_idx(labels, 1)
    if len(pictures) != len(classes):
        raise DataError(
            f"{images} has {len(pictures):,} images and {labels} {len(classes):,} labels: give "
            "files that belong together"
        )
    if not pictures.size:
        raise DataError(f"{images} holds no image")
    if int(classes.max()) >= NUM_CLASSES:
        raise DataError(f"{labels} has the label {int(classes.max())}; digits are 0 to 9")
    return ImageSet(pictures, classes)


def load_digits(folder: str | Path | None, test_share: float, seed: int) -> DigitData:
    """Return MNIST from a folder of IDX files, or the digits that come with scikit-learn.

    Both of MNIST's own splits are used where the folder has them; else what is there is split.

    Args:
        folder: holds ``train-…`` and ``t10k-…`` files, plain or ``.gz``; None: the embedded digits.
        test_share: of the images held out where there is no split of their own.
        seed: of that split.

    Raises:
        DataError: if a file is missing or cannot be used.
    """
    if folder is None:
        return _embedded(test_share, seed)
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(
            f"{folder} is no folder: give one with MNIST's IDX files, or leave it out to use the "
            "embedded digits"
        )
    pairs = {part: _pair(folder, part) for part in ("train", "t10k")}
    sets = {part: read_digits(*pair) for part, pair in pairs.items() if pair is not None}
    if not sets:
        raise DataError(
            f"{folder} has no IDX files: expected t10k-images-idx3-ubyte(.gz) and "
            "t10k-labels-idx1-ubyte(.gz), or train-… as well"
        )
    if len(sets) == 1:
        (part, whole), *_ = sets.items()
        kept, held_out = stratified_split(whole.labels, test_share, seed)
        data = DigitData(
            "MNIST", whole.subset(kept), whole.subset(held_out), 255,
            f"Only MNIST's {len(whole):,} {'test' if part == 't10k' else 'training'} images "
            f"({part}) were there: {len(kept):,} of them, every class in its share, are trained on "
            f"and {len(held_out):,} tested on, so that no number here compares with those "
            "published for MNIST",
        )  # fmt: skip
    else:
        train, test = sets["train"], sets["t10k"]
        data = DigitData(
            "MNIST", train, test, 255,
            f"MNIST's own splits: {len(train):,} training and {len(test):,} test images",
        )  # fmt: skip
    if data.train.images.shape[1:] != data.test.images.shape[1:]:
        raise DataError(
            f"{folder}: training images of {data.train.images.shape[1:]} pixels and test images of "
            f"{data.test.images.shape[1:]}: give files that belong together"
        )
    return data


def _pair(folder: Path, part: str) -> tuple[Path, Path] | None:
    """Return the image and the label file of a split, or None if there is neither."""
    files = []
    for name in (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"):
        # Some mirrors write a dot before idx.
        names = [
            name,
            f"{name}.gz",
            name.replace("-idx", ".idx"),
            name.replace("-idx", ".idx") + ".gz",
        ]
        files.append(
            (
                name,
                next((folder / variant for variant in names if (folder / variant).exists()), None),
            )
        )
    (first, images), (second, labels) = files
    if images is None and labels is None:
        return None
    if images is None or labels is None:
        raise DataError(f"{folder} has no {first if images is None else second}(.gz)")
    return images, labels


def _embedded(test_share: float, seed: int) -> DigitData:
    """Return scikit-learn's 1,797 digits of 8 x 8 pixels (Alpaydin and Kaynak 1998, UCI)."""
    from sklearn.datasets import load_digits as load_bundled  # type: ignore[import-untyped]

    bundle = load_bundled()
    whole = ImageSet(bundle.images.astype(np.uint8), bundle.target.astype(np.uint8))
    kept, held_out = stratified_split(whole.labels, test_share, seed)
    return DigitData(
        "digits", whole.subset(kept), whole.subset(held_out), 16,
        f"The {len(whole):,} digits of 8 x 8 pixels that come with scikit-learn, every class in "
        f"its share: {len(kept):,} are trained on and {len(held_out):,} tested on",
    )  # fmt: skip


def stratified_split(labels: Bytes, share: float, seed: int) -> tuple[Indices, Indices]:
    """Hold out a share of the images, every class in the share that it has of all.

    Classes get whole images by the largest remainder, so that the sizes are exact.

    Args:
        labels: (count,).
        share: held out, between 0 and 1.
        seed: of the choice.

    Returns:
        Indices that are kept and that are held out, each in rising order.

    Raises:
        DataError: if a class has too few images to be in both parts.
    """
    counts = np.bincount(labels, minlength=NUM_CLASSES)
    exact = counts * share
    taken = np.floor(exact).astype(np.int64)
    rest = round(len(labels) * share) - int(taken.sum())
    taken[np.argsort(taken - exact, kind="stable")[:rest]] += 1
    poor = np.flatnonzero((taken < 1) | (taken >= counts))
    if len(poor):
        raise DataError(
            f"class {poor[0]} has {counts[poor[0]]} images, too few to hold out {share:g} of them: "
            "give more images of it"
        )
    random = np.random.default_rng(seed)
    held_out = np.sort(
        np.concatenate(
            [
                random.permutation(np.flatnonzero(labels == digit))[:number]
                for digit, number in enumerate(taken)
            ]
        )
    )
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def download_mnist(
    folder: str | Path,
    progress: Callable[[float], None] | None = None,
    mirrors: Sequence[str] = MIRRORS,
    sums: dict[str, str] = SHA256,
) -> list[Path]:
    """Fetch MNIST's four files, each from the first mirror that serves it whole.

    A file that is there with the right sum is not fetched again.

    Args:
        folder: where they go; made if need be.
        progress: called with the number of files done.
        mirrors: addresses of folders.
        sums: file name -> SHA-256.

    Raises:
        DataError: if no mirror can be reached, or what came is not the file.
    """
    paths = []
    for count, (name, wanted) in enumerate(sums.items(), 1):
        path = Path(folder) / name
        if not path.exists() or _sha256(path) != wanted:
            _fetch(path, [f"{mirror.rstrip('/')}/{name}" for mirror in mirrors], wanted)
        paths.append(path)
        if progress is not None:
            progress(count)
    return paths


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(path: Path, addresses: Sequence[str], wanted: str) -> None:
    problems = []
    for address in addresses:
        try:
            with urlopen(address, timeout=_TIMEOUT_S) as answer, atomic_write(path) as file:
                digest = hashlib.sha256()
                while chunk := answer.read(_CHUNK):
                    if file.tell() > _MOST_BYTES:
                        raise DataError(f"more than {_MOST_BYTES:,} bytes")
                    digest.update(chunk)
                    file.write(chunk)
                if digest.hexdigest() != wanted:
                    raise DataError(f"SHA-256 {digest.hexdigest()[:12]}…, not {wanted[:12]}…")
            return
        except DataError as error:
            problems.append(f"{address}: {error}")
        except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
            problems.append(f"{address}: {' '.join(str(error).split())}")
    raise DataError(
        f"cannot download {path.name} ({'; '.join(problems)}): fetch MNIST's four files by hand "
        "and name their folder, -o experiments.lab_mnist.data=FOLDER, or use the embedded digits"
    )
