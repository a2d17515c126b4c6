"""Commands of tinylm in processes of their own, forked from one that has everything imported.

The interpreter has run every command once, on one thread, so that a forked process has nothing left
to load: a whole tiny training takes it a tenth of a second.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.robustness.disk import Recorder, Tree, watched, write_tree

ROOT = Path(__file__).parents[2]
TINY = (
    *("data.train_stories=40", "data.validation_stories=6", "vectors.source=none"),
    *("model.context_length=16", "model.num_layers=1", "model.num_heads=2", "model.hidden_size=16"),
    *("training.threads=1", "training.tensorboard=false", "training.batch_size=4"),
    *("training.max_steps=4", "training.validation_interval=2", "training.validation_windows=4"),
    *("training.log_interval=1", "training.device=cpu"),
)
TRAIN = ["train", "--name", "run", *(part for setting in TINY for part in ("-o", setting))]
TUNE = ["finetune", "runs/run", "--data", "text", "--steps", "3"]
CLASSIFY = ["finetune", "runs/run", "--method", "sequence-classification", "--data", "rows.jsonl"]
CLASSIFY += ["-o", "epochs=3", "--batch-size", "8"]
MERGE = ["merge", "runs/run", "lora", "--out", "merged"]


def write_texts(folder: Path) -> None:
    """Write the texts that the commands above take."""
    (folder / "text").mkdir()
    story = 'the dog said , " i see a big dog and a cat . "\n<|endoftext|>\n'
    (folder / "text/train.txt").write_text(story * 30)
    (folder / "text/valid.txt").write_text(story * 3)
    rows = [{"text": f"there was a {('girl', 'dog')[i % 2]} .", "label": i % 2} for i in range(20)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    status: int
    stderr: str


class Server:
    """The interpreter that commands are forked from."""

    def __init__(self) -> None:
        one = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.robustness.server"],
            cwd=ROOT,
            env=os.environ | one,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, folder: Path, command: Sequence[str], states: Path | None = None) -> Answer:
        """Run a command in a folder.

        Args:
            folder: its working directory.
            command: without ``tinylm``.
            states: folder that gets ``KIND/N``, each different state of the disk before the N-th
                change of the command, and ``changes.json``, what the changes are.
        """
        job = {"folder": str(folder), "command": list(command), "states": str(states or "")}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the forking interpreter has ended"
        answer = json.loads(line)
        return Answer(answer["status"], answer["stderr"])

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _main(command: list[str]) -> int:
    from tinylm.cli import main

    sys.argv = ["tinylm", *command]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - as an interpreter does with what nobody catches
        traceback.print_exc()
        return 1
    return 0


def _child(job: dict[str, Any], errors: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(errors, 2)
    os.chdir(job["folder"])
    status = 1
    try:
        status = _recorded(job) if job["states"] else _main(job["command"])
    finally:
        sys.stderr.flush()
        os._exit(status)


def _recorded(job: dict[str, Any]) -> int:
    root, states = Path(job["folder"]).resolve(), Path(job["states"])
    recorder = Recorder(root)
    recorder.start()
    with watched(root, recorder.before, recorder.sync):
        status = _main(job["command"])
    recorder.before("the end")
    seen: list[Tree] = []
    for kind, trees in recorder.states.items():
        for number, tree in enumerate(trees):
            # What the lock of a dead process says is of no account.
            told = {name: value for name, value in tree.items() if not name.endswith(".lock")}
            if told not in seen:
                seen.append(told)
                write_tree(states / kind / str(number), tree)
    (states / "changes.json").write_text(json.dumps(recorder.changes))
    recorder.close()
    return status


def _serve() -> None:
    out = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w") as null:
        errors, sys.stderr = sys.stderr, null
        os.chdir(folder)
        write_texts(Path(folder))
        for command in (TRAIN, TUNE, CLASSIFY, MERGE):
            assert _main(command) == 0, command
        sys.stderr = errors
        os.chdir(ROOT)
    for line in sys.stdin:
        with tempfile.TemporaryFile() as errors_file:
            pid = os.fork()
            if pid == 0:
                _child(json.loads(line), errors_file.fileno())
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            errors_file.seek(0)
            answer = {"status": status, "stderr": errors_file.read().decode()}
        os.write(out, (json.dumps(answer) + "\n").encode())


if __name__ == "__main__":
    _serve()
