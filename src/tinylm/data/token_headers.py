"""What a token file, and an index of several, says of what it holds and of what made it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass
from typing_extensions import TypedDict

from tinylm.errors import DataError
from tinylm.reading import checked, parse_json, problem, refusal, signed, verified

MAGIC = b"tinylm tokens 2\n"
INDEX_MAGIC = b"tinylm shards 1\n"
HEADER_BYTES = 4096
MOST_INDEX_BYTES = 1 << 24
AGAIN = "encode the text again"

Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class TokenFileHeader:
    """What a token file holds and what made it."""

    tokenizer: str
    """Fingerprint of the tokenizer."""
    corpus: str
    """Fingerprint of the corpus."""
    split: str
    """train or validation."""
    dtype: Literal["uint16", "uint32"]
    """NumPy name of the ids' type."""
    num_tokens: Count
    """Ids in the file, ``<sos>`` and ``<eos>`` of every story included."""
    num_stories: Annotated[int, Field(ge=1)]
    """Stories in the file."""
    num_unknown: Count
    """``<unk>`` ids in the file."""
    num_text_bytes: Count
    """UTF-8 bytes of the stories' text, for bits per byte."""
    sha256: str
    """Of all that follows the header; of several files, of their digests one after the other."""
    pairs: bool = False
    """Whether the stories are pairs, a source with its target each."""

    @property
    def content_bytes(self) -> int:
        """Bytes of all that follows the header in its file."""
        return self.pairs_at + 16 * self.num_stories * self.pairs - HEADER_BYTES

    @property
    def starts_at(self) -> int:
        """Where in the file the starts of stories stand."""
        end = HEADER_BYTES + self.num_tokens * np.dtype(self.dtype).itemsize
        return end + -end % 8

    @property
    def pairs_at(self) -> int:
        """Where in the file the sizes of pairs stand, or it ends."""
        return self.starts_at + 8 * self.num_stories

    @property
    def noun(self) -> str:
        """What a story is called, such as ``pair``."""
        return "pair" if self.pairs else "story"

    @property
    def nouns(self) -> str:
        """What several are called."""
        return "pairs" if self.pairs else "stories"

    @property
    def unknown_rate(self) -> float:
        """``<unk>`` as a share of the text's tokens, framing tokens left out."""
        return self.num_unknown / max(1, self.num_tokens - 2 * self.num_stories)


class Shard(TypedDict):
    """One of the files that hold a split, as the index has it."""

    file: Annotated[str, Field(pattern=r"^[^/\\]+$")]
    """Its name, beside the index."""
    sha256: str
    """Of its content: which file it is."""
    first_story: Count
    """Stories in those before it."""
    first_token: Count
    """Ids in those before it."""


class _Index(TypedDict):
    shards: Annotated[list[Shard], Field(min_length=1)]


def header_bytes(header: TokenFileHeader) -> bytes:
    """Return what a token file begins with."""
    text = MAGIC + json.dumps(signed(asdict(header))).encode()
    return text.ljust(HEADER_BYTES)


def read_header(path: Path) -> TokenFileHeader:
    """Read the header of a token file.

    Raises:
        DataError: if the file is missing or is no token file of this version.
    """
    block = _beginning(path, HEADER_BYTES)
    if len(block) < HEADER_BYTES or not block.startswith(MAGIC):
        raise DataError(f"{path} is no token file of this version; {AGAIN}")
    refuse = refusal(f"{path} has a damaged header", DataError, AGAIN)
    values = verified(parse_json(block[len(MAGIC) :], refuse), refuse)
    try:
        return TokenFileHeader(**values)
    except ValidationError as error:
        raise refuse(problem(error)) from None


def index_bytes(names: Sequence[str], headers: Sequence[TokenFileHeader]) -> bytes:
    """Return the index of shards, whose names and headers are given in the order of their text."""
    shards, stories, tokens = [], 0, 0
    for name, header in zip(names, headers, strict=True):
        shards.append(
            Shard(file=name, sha256=header.sha256, first_story=stories, first_token=tokens)
        )
        stories += header.num_stories
        tokens += header.num_tokens
    return INDEX_MAGIC + json.dumps(signed({"shards": shards}), indent=0).encode() + b"\n"


def is_index(path: Path) -> bool:
    """Whether a file begins as an index does.

    Raises:
        DataError: if it cannot be read.
    """
    return _beginning(path, len(INDEX_MAGIC)) == INDEX_MAGIC


def read_index(path: Path) -> tuple[list[Path], list[TokenFileHeader]]:
    """Read an index and the headers of the files that it names.

    Raises:
        DataError: if one is missing, is not the one that the index names, was made by another
            tokenizer or from another corpus than the first, or if they do not follow each other.
    """
    refuse = refusal(f"{path} has a damaged index", DataError, AGAIN)
    content = _beginning(path, MOST_INDEX_BYTES)[len(INDEX_MAGIC) :]
    shards = checked(_Index, verified(parse_json(content, refuse), refuse), refuse)["shards"]
    paths = [path.parent / shard["file"] for shard in shards]
    headers: list[TokenFileHeader] = []
    stories = tokens = 0
    for number, (shard, file) in enumerate(zip(shards, paths, strict=True), 1):
        if not file.exists():
            raise DataError(
                f"{path}: {file.name}, shard {number} of {len(shards)}, is missing; {AGAIN}"
            )
        header = read_header(file)
        for what in ("tokenizer", "corpus", "split", "dtype", "pairs"):
            own, first = getattr(header, what), getattr(headers[0] if headers else header, what)
            if own != first:
                raise DataError(
                    f"{path}: {file.name} is of {what} {own}, the shards before it are of {first}; "
                    f"{AGAIN}"
                )
        if header.sha256 != shard["sha256"]:
            raise DataError(f"{path}: {file.name} is not the file that was written as it; {AGAIN}")
        if (shard["first_story"], shard["first_token"]) != (stories, tokens):
            raise DataError(
                f"{path}: the shards do not follow each other: {file.name} begins with story "
                f"{shard['first_story']:,} and token {shard['first_token']:,}, and those before it "
                f"hold {stories:,} and {tokens:,}; {AGAIN}"
            )
        headers.append(header)
        stories += header.num_stories
        tokens += header.num_tokens
    return paths, headers


def together(headers: Sequence[TokenFileHeader]) -> TokenFileHeader:
    """Return what several files hold together."""
    if len(headers) == 1:
        return headers[0]
    counts = ("num_tokens", "num_stories", "num_unknown", "num_text_bytes")
    sums = {name: sum(getattr(header, name) for header in headers) for name in counts}
    digest = sha256("".join(header.sha256 for header in headers).encode()).hexdigest()
    return replace(headers[0], sha256=digest, **sums)


def _beginning(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise DataError(f"cannot read token file {path}: {error.strerror}") from error
