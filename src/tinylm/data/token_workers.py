"""Several processes that encode shards of one text, which they read themselves or are sent.

Each process is started when there is a shard for it, and gets whole shards, the next one while it
encodes. Text that this process reads and sends waits in memory, 128 MB a process at most; reading
and sending it takes a quarter of the time that encoding it takes, so that four to six processes are
of use. Of parts that they read themselves as many are of use as the disk can serve.

If one ends before its work does, or this process stops for any reason, all are ended and what they
had half written is deleted. If this process is killed their input ends, and they end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, BinaryIO

import tinylm
from tinylm.data.token_files import pieces
from tinylm.data.token_headers import TokenFileHeader
from tinylm.data.token_worker import (
    BEGIN,
    END,
    FRAME,
    SETTINGS,
    TEXTS,
    UnreadableError,
    pack_texts,
)
from tinylm.errors import DataError

if TYPE_CHECKING:
    from tinylm.data.token_shards import Split, Story
    from tinylm.tokenizers.base import Tokenizer

_AHEAD = 2
"""Shards that a process has at once: the one that it encodes and the next."""
_SECONDS_TO_END = 5.0
_LONGEST_PROBLEM = 200


class _Worker:
    """One process; two threads send it its texts and read its answers."""

    def __init__(self, changed: threading.Condition) -> None:
        self.split = ""
        self.changed = changed
        self.shards: list[tuple[int, Path | None]] = []
        """Numbers and files of the shards that it was given and has not finished."""
        self.results: dict[int, Any] = {}
        """Of the shards that it has finished: a header, or None if there is no story and no file;
        or counts."""
        self.folders: set[Path] = set()
        """That it writes into."""
        self.stories: dict[int, int] = {}
        """Stories encoded, by shard."""
        self.problem: DataError | None = None
        self.ended = False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        root = str(Path(tinylm.__file__).parents[1])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tinylm.data.token_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        self._frames: SimpleQueue[bytes | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=each, daemon=True) for each in (self._send, self._receive)
        ]
        for thread in self._threads:
            thread.start()

    def begin(self, settings: dict[str, Any]) -> None:
        """Tell it what the next shards are of; it has none now."""
        self.split = settings["split"]
        self.results, self.stories = {}, {}
        self.send(SETTINGS, json.dumps(settings).encode())

    def send(self, kind: bytes, content: bytes = b"") -> None:
        """Send a frame, some time."""
        self._frames.put(FRAME.pack(kind, len(content)) + content)

    def _send(self) -> None:
        stream = self.process.stdin
        assert stream is not None
        try:
            while (frame := self._frames.get()) is not None:
                stream.write(frame)
                stream.flush()
            stream.close()
        except OSError:  # the process has ended, which its answers tell
            return

    def _receive(self) -> None:
        stream: BinaryIO | None = self.process.stdout  # type: ignore[assignment]
        assert stream is not None
        for line in stream:
            try:
                answer = json.loads(line)
            except ValueError:  # cut short by its death
                break
            with self.changed:
                if "error" in answer:
                    kind = UnreadableError if answer.get("unreadable") else DataError
                    self.problem = kind(answer["error"])
                elif "stories" not in answer:
                    number, _ = self.shards.pop(0)
                    result = answer.get("header", answer.get("counts"))
                    if "header" in answer:
                        self.stories[number] = result["num_stories"] if result else 0
                        result = result and TokenFileHeader(**result)
                    self.results[number] = result
                else:
                    self.stories[self.shards[0][0]] = answer["stories"]
                self.changed.notify_all()
        status = self.process.wait()
        with self.changed:
            if self.problem is None and (self.shards or status):
                self.problem = DataError(self._death(status))
            self.ended = True
            self.changed.notify_all()

    def _death(self, status: int) -> str:
        """Say how the process ended."""
        how = f"ended with status {status}"
        if status < 0:
            how = f"was ended by {signal.Signals(-status).name}"
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "")
        path = self.shards[0][1] if self.shards else None
        where = "" if path is None else f" encoded {path.name} and"
        return (
            f"a process that{where} worked on the {self.split} split {how}"
            + (f" ({said[:_LONGEST_PROBLEM]})" if said else "")
            + "; give the command again: it goes on behind the shards that are whole"
        )

    def end(self) -> None:
        """End the process now, if it has not ended, and delete what it had half written."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(_SECONDS_TO_END)
        self._frames.put(None)
        for thread in self._threads:
            thread.join(_SECONDS_TO_END)
        for stream in (self.process.stdin, self.process.stdout, self._errors):
            if stream is not None and not stream.closed:
                try:
                    stream.close()
                except OSError:  # what was not sent any more
                    continue
        for folder in self.folders:
            for path in folder.glob(f".*.{self.process.pid}.tmp"):
                path.unlink(missing_ok=True)


class Pool:
    """Processes that work on one split after the other; as a context manager it ends them all."""

    def __init__(self, workers: int) -> None:
        """Start none yet.

        Args:
            workers: processes at most; of 1 none is ever started.
        """
        self.workers = workers
        self._settings: dict[str, Any] = {}
        self._changed = threading.Condition()
        self._pool: list[_Worker] = []
        self._folders: list[tempfile.TemporaryDirectory[str]] = []

    def __enter__(self) -> Pool:
        """Return the pool."""
        return self

    def __exit__(self, *error: object) -> None:
        """End the processes."""
        for worker in self._pool:
            worker.end()
        for folder in self._folders:
            folder.cleanup()

    def begin(self, settings: dict[str, Any], tokenizer: Tokenizer | None = None) -> None:
        """Tell what the next shards are of, when those before them are finished.

        Args:
            settings: as JSON values: ``split`` and what else the processes need.
            tokenizer: to encode by.
        """
        self._settings = settings
        if tokenizer is not None:
            self._folders.append(tempfile.TemporaryDirectory())
            path = Path(self._folders[-1].name) / "tokenizer.json"
            tokenizer.save(path)
            self._settings = {**settings, "tokenizer": str(path)}
        with self._changed:
            for worker in self._pool:
                worker.begin(self._settings)

    def give(self, number: int, path: Path | None, kind: bytes, content: bytes) -> _Worker:
        """Send a frame that begins a shard to the process that has least to do; wait for one.

        Args:
            number: of the shard.
            path: of its file, if one is written.
            kind: of the frame.
            content: of the frame.

        Raises:
            DataError: if a process ended before its work did.
        """
        with self._changed:
            while True:
                self._refuse_ended()
                if all(worker.shards for worker in self._pool) and len(self._pool) < self.workers:
                    self._pool.append(_Worker(self._changed))
                    self._pool[-1].begin(self._settings)
                worker = min(self._pool, key=lambda worker: len(worker.shards))
                if len(worker.shards) < _AHEAD:
                    break
                self._changed.wait()
            worker.shards.append((number, path))
            if path is not None:
                worker.folders.add(path.parent)
        worker.send(kind, content)
        return worker

    def take(self, number: int, wait: bool = True) -> list[Any]:
        """Return the result of a shard in a list, which is empty while there is none.

        Raises:
            DataError: if a process ended before its work did.
        """
        with self._changed:
            while True:
                self._refuse_ended()
                for worker in self._pool:
                    if number in worker.results:
                        return [worker.results.pop(number)]
                if not wait:
                    return []
                self._changed.wait()

    def done(self) -> int:
        """Return how many stories are encoded.

        Raises:
            DataError: if a process ended before its work did.
        """
        with self._changed:
            self._refuse_ended()
            return sum(sum(worker.stories.values()) for worker in self._pool)

    def finish(self, progress: Callable[[int], None]) -> dict[int, Any]:
        """Wait until all is done; return the results by the shards' numbers.

        Raises:
            DataError: if a process ended before its work did.
        """
        while True:
            progress(self.done())
            with self._changed:
                self._refuse_ended()
                if not any(worker.shards for worker in self._pool):
                    break
                self._changed.wait(1.0)
        progress(self.done())
        return {n: result for worker in self._pool for n, result in worker.results.items()}

    def _refuse_ended(self) -> None:
        for worker in self._pool:
            if worker.problem is not None:
                raise worker.problem


def write_shards(
    split: Split,
    shards: Iterable[Iterator[Story]],
    first: int,
    pool: Pool,
    progress: Callable[[int], None],
) -> list[TokenFileHeader]:
    """Encode shards that this process reads in several others.

    Args:
        split: what they are of.
        shards: the stories of each, to be read one after the other.
        first: number of the first.
        pool: of the processes.
        progress: called with the number of stories encoded so far.

    Returns:
        The headers of the shards.

    Raises:
        DataError: if one cannot be written, or a process ended before its work did.
    """
    pool.begin(split.settings(), split.tokenizer)
    for number, stories in enumerate(shards, first):
        path = split.shard(number)
        worker = pool.give(number, path, BEGIN, str(path).encode("utf-8"))
        for piece in pieces(stories):
            worker.send(TEXTS, pack_texts([text for story in piece for text in story]))
            progress(pool.done())
        worker.send(END)
    headers = pool.finish(progress)
    return [header for _, header in sorted(headers.items()) if header is not None]
