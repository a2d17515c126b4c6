"""Commands of tinylm in processes of their own, forked from one that has everything imported.

The interpreter has run every command once, on one thread, so that a forked process has nothing left
to load: a whole tiny training takes it a tenth of a second.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tests.robustness.disk import PLAIN, Recorder, Tree, watched, write_tree
from tests.robustness.race import Ended, race

if TYPE_CHECKING:
    from tinylm.experiments.document.inputs import ReportInputs
    from tinylm.report.blocks import Document

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
PRUNE = ["prune", "runs/run", "--share", "0.5", "--out", "pruned"]
PRUNE += ["--retrain-steps", "2", "--gradual"]
QUANTIZE = ["quantize", "runs/run", "--method", "gptq", "-o", "windows=4", "--out", "quantized"]
COMPRESS = ["compress", "runs/run", "--out", "small", "--max-loss", "900%"]
COMPRESS += [
    *("-o", "shares=[0.5]", "-o", "steps=2", "-o", "widths=[[4,4]]"),
    *("-o", "calibration=4", "-o", "windows=2"),
]
DISTILL = ["distill", "runs/run", "--out", "student", "--method", "both", "--steps", "2"]
DISTILL += [
    *("-o", "model.hidden_size=8", "-o", "texts=3", "-o", "prompt_tokens=3"),
    # So many hypotheses that an end is among them, and so short ones preferred that it wins.
    *("-o", "num_beams=200", "-o", "max_new_tokens=2", "-o", "length_penalty=-9"),
]
INSTRUCT = ["instruct", "runs/run", "--tasks", "tasks.jsonl", "--steps", "1", "--out", "tuned"]
REWARD = ["reward", "runs/run", "--preferences", "ranked.jsonl", "--out", "rewards"]
REWARD += ["--steps", "1", "-o", "body=frozen"]
HALVED = ["prune", "runs/run", "--method", "neurons", "--share", "0.5", "--out", "pruned"]
STARTED = ["distill", "runs/run", "--out", "student", "--start", "pruned", "--steps", "2"]
REPORT = ["report", "--run", "runs/run", "--experiments", "data,evaluation"]
REPORT += ["-o", "evaluation.num_stories=3"]


def write_texts(folder: Path) -> None:
    """Write the texts that the commands above take."""
    (folder / "text").mkdir()
    story = 'the dog said , " i see a big dog and a cat . "\n<|endoftext|>\n'
    (folder / "text/train.txt").write_text(story * 30)
    (folder / "text/valid.txt").write_text(story * 3)
    rows = [{"text": f"there was a {('girl', 'dog')[i % 2]} .", "label": i % 2} for i in range(20)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ranked = [
        {"prompt": f"there was a {who}", "chosen": "and a dog .", "rejected": "."}
        for who in ("girl", "boy", "dog", "cat")
    ]
    (folder / "ranked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ranked))
    short_tasks(folder / "tasks.jsonl")


def short_tasks(path: Path) -> None:
    """Write tasks so short that a context of 16 tokens holds one with its response."""
    rows = [{"instruction": f"{who}.", "output": "it ran."} for who in ("dog", "cat", "girl")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    status: int
    stderr: str


class Server:
    """The interpreter that commands are forked from."""

    def __init__(self) -> None:
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.robustness.server"],
            cwd=ROOT,
            env=os.environ | one_thread | {"SOURCE_DATE_EPOCH": "0"},
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
                change of the command that no kind before it had, and ``changes.json``: what the
                changes are, and the number of states of each kind.
        """
        (answer,) = self._ask(folder, command, states=str(states or ""))
        return Answer(answer["status"], answer["stderr"])

    def race(self, folder: Path, command: Sequence[str], ending: str) -> list[Ended]:
        """Start a command twice at once, as ``race.race`` says."""
        return [Ended(**ended) for ended in self._ask(folder, command, race=ending)]

    def _ask(self, folder: Path, command: Sequence[str], **more: str) -> list[dict[str, Any]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        job = {"folder": str(folder), "command": list(command), **more}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the forking interpreter has ended"
        answers: list[dict[str, Any]] = json.loads(line)
        return answers

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def run_main(command: list[str]) -> int:
    """Run a command as an interpreter of its own would, and return its exit status."""
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
    if job["command"][0] == "report":
        _stop_the_clock()
    status = 1
    try:
        status = _recorded(job) if job["states"] else run_main(job["command"])
    finally:
        sys.stderr.flush()
        os._exit(status)


def _stop_the_clock() -> None:
    """Let nothing take time or memory, both of which a report prints."""
    from tinylm.experiments import context

    @contextmanager
    def resident_peak() -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(bytes=1)

    context.resident_peak = resident_peak  # type: ignore[assignment]
    time.perf_counter = lambda: 0.0


def _recorded(job: dict[str, Any]) -> int:
    root, states = Path(job["folder"]).resolve(), Path(job["states"])
    recorder = Recorder(root)
    recorder.start()
    with watched(root, recorder.before, recorder.sync):
        status = run_main(job["command"])
    recorder.before("the end")
    seen: list[Tree] = []
    for kind, trees in recorder.states.items():
        for number, tree in enumerate(trees):
            # What the lock of a dead process says is of no account.
            state = {name: value for name, value in tree.items() if not name.endswith(".lock")}
            if state not in seen:
                seen.append(state)
                write_tree(states / kind / str(number), tree)
    counts = {kind: len(trees) for kind, trees in recorder.states.items()}
    (states / "changes.json").write_text(json.dumps([recorder.changes, counts]))
    recorder.close()
    return status


def _all_but_typst(report: list[str]) -> None:
    """Draw and assemble a report. Typst's threads would be missing in a forked process."""
    from tinylm.experiments.document import build

    def unprinted(document: Document, inputs: ReportInputs, stem: str) -> dict[str, Path]:
        (inputs.folder / f"{stem}.pdf").touch()
        return {}

    write_document, build.write_document = build.write_document, unprinted
    assert run_main(report) == 0
    build.write_document = write_document


def _serve() -> None:
    out = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w") as null:
        errors, sys.stderr = sys.stderr, null
        os.chdir(folder)
        write_texts(Path(folder))
        for command in (TRAIN, TUNE, CLASSIFY, MERGE, PRUNE, QUANTIZE, DISTILL, INSTRUCT):
            assert run_main(command) == 0, command
        _all_but_typst(REPORT)
        sys.stderr = errors
        os.chdir(ROOT)
    gc.collect()
    gc.freeze()  # what is imported is not searched again, by a process that shares it
    # No power is lost here: that a file is synced is known from the call.
    os.fsync = PLAIN.fsync = staticmethod(lambda descriptor: None)  # type: ignore[assignment]
    for line in sys.stdin:
        job = json.loads(line)
        if "race" in job:
            ended = race(Path(job["folder"]), job["command"], run_main, job["race"])
            answers = [process._asdict() for process in ended]
        else:
            answers = [_run(job)]
        os.write(out, (json.dumps(answers) + "\n").encode())


def _run(job: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryFile() as errors_file:
        pid = os.fork()
        if pid == 0:
            _child(job, errors_file.fileno())
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        errors_file.seek(0)
        return {"status": status, "stderr": errors_file.read().decode()}


if __name__ == "__main__":
    _serve()
