"""Several processes that encode shards of one text: this process reads it and deals it out.

Each process is started when there is a shard for it, and gets whole shards, the text of the next
one while it encodes: 128 MB of text a process wait in memory at most. Text costs little to send
(1 GB a second) beside what it costs to read and to encode (300 and 50 to 100 MB a second), so that
reading bounds how many processes are of use: four to six.

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
from typing import TYPE_CHECKING, BinaryIO

import tinylm
from tinylm.data.token_files import pieces
from tinylm.data.token_headers import TokenFileHeader
from tinylm.data.token_worker import BEGIN, END, FRAME, TEXTS, pack_texts
from tinylm.errors import DataError

if TYPE_CHECKING:
    from tinylm.data.token_shards import Split, Story

_AHEAD = 2
"""Shards that a process has at once: the one that it encodes and the next."""
_SECONDS_TO_END = 5.0
_LONGEST_PROBLEM = 200


class _Worker:
    """One process; two threads send it its texts and read its answers."""

    def __init__(self, split: Split, tokenizer: Path, changed: threading.Condition) -> None:
        self.split = split
        self.changed = changed
        self.shards: list[int] = []
        """Numbers of the shards that it was given and has not finished."""
        self.headers: dict[int, TokenFileHeader] = {}
        self.stories: dict[int, int] = {}
        """Stories encoded, by shard."""
        self.problem: str | None = None
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
        settings = {
            "tokenizer": str(tokenizer),
            "corpus": split.corpus,
            "split": split.name,
            "each": split.each,
        }
        self._frames.put(json.dumps(settings).encode() + b"\n")
        self._threads = [
            threading.Thread(target=each, daemon=True) for each in (self._send, self._receive)
        ]
        for thread in self._threads:
            thread.start()

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
                    self.problem = answer["error"]
                elif "header" in answer:
                    number = self.shards.pop(0)
                    header = TokenFileHeader(**answer["header"])
                    self.headers[number] = header
                    self.stories[number] = header.num_stories
                else:
                    self.stories[self.shards[0]] = answer["stories"]
                self.changed.notify_all()
        status = self.process.wait()
        with self.changed:
            if self.problem is None and (self.shards or status):
                self.problem = self._death(status)
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
        where = f" encoded {self.split.shard(self.shards[0]).name} and" if self.shards else ""
        return (
            f"a process that{where} worked on the {self.split.name} split {how}"
            + (f" ({said[:_LONGEST_PROBLEM]})" if said else "")
            + "; give the command again: it goes on behind the shards that are whole"
        )

    def finish(self) -> None:
        """Let the process end when it has done what it was sent."""
        self._frames.put(None)

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
        for path in self.split.path.parent.glob(f".*.{self.process.pid}.tmp"):
            path.unlink(missing_ok=True)


def write_shards(
    split: Split,
    shards: Iterable[Iterator[Story]],
    first: int,
    workers: int,
    progress: Callable[[int], None],
) -> list[TokenFileHeader]:
    """Encode shards in several processes.

    Args:
        split: what they are of.
        shards: the stories of each, to be read one after the other.
        first: number of the first.
        workers: processes at most.
        progress: called with the number of stories encoded so far.

    Returns:
        The headers of the shards.

    Raises:
        DataError: if one cannot be written, or a process ended before its work did.
    """
    changed = threading.Condition()
    pool: list[_Worker] = []
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = Path(folder) / "tokenizer.json"
        split.tokenizer.save(tokenizer)
        try:
            number = first
            for stories in shards:
                worker = _free(pool, workers, lambda: _Worker(split, tokenizer, changed), changed)
                with changed:
                    worker.shards.append(number)
                worker.send(BEGIN, str(split.shard(number)).encode("utf-8"))
                for piece in pieces(stories):
                    worker.send(TEXTS, pack_texts([text for story in piece for text in story]))
                    with changed:
                        _refuse_ended(pool)
                        done = _done(pool)
                    progress(done)
                worker.send(END)
                number += 1
            for worker in pool:
                worker.finish()
            while not all(worker.ended for worker in pool):
                with changed:
                    changed.wait(1.0)
                    _refuse_ended(pool)
                    done = _done(pool)
                progress(done)
            _refuse_ended(pool)
        finally:
            for worker in pool:
                worker.end()
    headers = {number: header for worker in pool for number, header in worker.headers.items()}
    return [headers[each] for each in range(first, number)]


def _free(
    pool: list[_Worker], workers: int, start: Callable[[], _Worker], changed: threading.Condition
) -> _Worker:
    """Return the process that has least to do, a new one if there may be more; wait for one."""
    with changed:
        while True:
            _refuse_ended(pool)
            if all(worker.shards for worker in pool) and len(pool) < workers:
                pool.append(start())
            least = min(pool, key=lambda worker: len(worker.shards))
            if len(least.shards) < _AHEAD:
                return least
            changed.wait()


def _refuse_ended(pool: list[_Worker]) -> None:
    """Raise the problem of a process that has one."""
    for worker in pool:
        if worker.problem is not None:
            raise DataError(worker.problem)


def _done(pool: list[_Worker]) -> int:
    return sum(sum(worker.stories.values()) for worker in pool)
