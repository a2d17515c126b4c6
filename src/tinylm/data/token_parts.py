"""A split of files that can be read in parts, each encoded by a process that reads it itself.

Where files are read from any byte on (``data.corpora.DivisibleCorpus``), a shard is what begins in
64 MB of them or less, all being as long, and is named by its number and theirs,
``train-….00003-of-00032.tokens``. So nothing is read twice or sent between processes, and what was
interrupted needs no text of whole shards.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tinylm.config import DataConfig, to_dict
from tinylm.data.corpora import DivisibleCorpus
from tinylm.data.token_files import write_some
from tinylm.data.token_headers import TokenFileHeader
from tinylm.data.token_shards import Split, Story, finish_split, kept_shard
from tinylm.data.token_worker import COUNT, READ, UnreadableError, read_part
from tinylm.data.token_workers import Pool
from tinylm.tokenizers.base import Counts, TokenizerSettings

PART_BYTES = 1 << 26


def write_parts(
    split: Split,
    corpus: DivisibleCorpus,
    config: DataConfig,
    in_order: Callable[[], Iterable[Story]],
    parts: Sequence[tuple[int, int]],
    pool: Pool,
    progress: Callable[[int], None],
) -> TokenFileHeader:
    """Encode a split into token files, going on from those that are there already.

    Args:
        split: what it is, and where the files go. Only one process may write there.
        corpus: that it is of.
        config: its settings.
        in_order: reads the whole split, for the message of what is wrong with it.
        parts: of the split, from ``DivisibleCorpus.parts``.
        pool: of the processes that encode, if there are several, and several parts.
        progress: called with the number of stories encoded so far.

    Returns:
        The header of the file, or of its shards together.

    Raises:
        DataError: if the corpus cannot be read or has no story, or a process ended before its work
            did.
    """
    files = [_name(split, number, len(parts)) for number in range(len(parts))]
    headers: dict[int, TokenFileHeader | None] = {}
    for number, path in enumerate(files):
        if len(files) > 1 and (header := kept_shard(split, path)) is not None:
            headers[number] = header
    left = [number for number in range(len(parts)) if number not in headers]
    before = sum(header.num_stories for header in headers.values() if header is not None)

    def tell(stories: int) -> None:
        progress(before + stories)

    try:
        if pool.workers > 1 and len(left) > 1:
            headers |= _in_processes(split, config, parts, files, left, pool, tell)
        else:
            for number in left:
                header = _write_part(split, corpus, files[number], parts[number], tell)
                headers[number] = header
                before += header.num_stories if header is not None else 0
    except UnreadableError:
        _name_the_place(in_order)
        raise
    written = [(files[number], header) for number, header in sorted(headers.items()) if header]
    if not written:
        return split.write(split.path, in_order())  # which says why there is none
    return finish_split(split, *zip(*written, strict=True))


def count_parts(
    counts: Counts,
    learned: TokenizerSettings,
    config: DataConfig,
    in_order: Callable[[], Iterable[Story]],
    parts: Sequence[tuple[int, int]],
    pool: Pool,
    progress: Callable[[int], None],
) -> None:
    """Count the train split of a divisible corpus for a tokenizer, in several processes.

    Args:
        counts: of no text, to which those of the parts are added in their order.
        learned: settings of the tokenizer.
        config: those of the corpus.
        in_order: reads the whole split, for the message of what is wrong with it.
        parts: of the split, from ``DivisibleCorpus.parts``.
        pool: of the processes.
        progress: called with the number of bytes counted so far.

    Raises:
        DataError: if the corpus cannot be read, or a process ended before its work did.
    """
    pool.begin({"split": "train", "data": to_dict(config), "learned": to_dict(learned)})
    added = 0
    try:
        for number, (first, last) in enumerate(parts):
            asked = {"first": first, "last": last}
            pool.give(number, None, COUNT, json.dumps(asked).encode())
            while added <= number and (packed := pool.take(added, wait=False)):
                counts.add_packed(packed[0])
                progress(parts[added][1])
                added += 1
        for _, last in parts[added:]:
            counts.add_packed(pool.take(added)[0])
            progress(last)
            added += 1
    except UnreadableError:
        _name_the_place(in_order)
        raise


def _name_the_place(in_order: Callable[[], Iterable[Story]]) -> None:
    """Read what cannot be read, so that its place is counted from the beginning of its file.

    Raises:
        DataError: naming it.
    """
    for _ in in_order():
        pass


def _write_part(
    split: Split,
    corpus: DivisibleCorpus,
    path: Path,
    part: tuple[int, int],
    tell: Callable[[int], None],
) -> TokenFileHeader | None:
    stories = read_part(corpus, split.name, *part)
    made_of = (split.tokenizer, split.corpus, split.name)
    return write_some(path, stories, split.each, *made_of, tell)


def _in_processes(
    split: Split,
    config: DataConfig,
    parts: Sequence[tuple[int, int]],
    files: Sequence[Path],
    left: Sequence[int],
    pool: Pool,
    tell: Callable[[int], None],
) -> dict[int, TokenFileHeader | None]:
    pool.begin({**split.settings(), "data": to_dict(config)}, split.tokenizer)
    for number in left:
        first, last = parts[number]
        asked = {"path": str(files[number]), "first": first, "last": last}
        pool.give(number, files[number], READ, json.dumps(asked).encode())
        tell(pool.done())
    return pool.finish(tell)


def _name(split: Split, number: int, count: int) -> Path:
    """Return the path of a shard; of the only one it is that of the split."""
    if count == 1:
        return split.path
    return split.path.with_name(f"{split.path.stem}.{number:05}-of-{count:05}{split.path.suffix}")
