"""What training keeps of its speed when the machine is shared, beside another package.

Each competitor trains in processes of its own: alone, beside a program that keeps one core busy,
and twice at once. All of it is done with threads that sleep while they wait, as tinylm sets them
(``tinylm.native``) and as its peer is given them here, and with torch's own setting.

    python benchmarks/busy.py [--shape first] [--rounds 7] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tables import hardware_line, print_table, table

from tinylm.measurement import Measurement
from tinylm.native import SET_BY_USERS, SLEEPING

COMPETITORS = ("tinylm", "transformers GPT-2")
SETTINGS = {"sleeping": SLEEPING, "spinning": {"GOMP_SPINCOUNT": "300000"}}  # the library's own
_SECONDS = 1.0  # a timed call takes about so long alone


class Worker:
    """A process that takes training steps on request."""

    def __init__(self, competitor: str, setting: str, shape: str) -> None:
        inherited = {k: v for k, v in os.environ.items() if k not in SET_BY_USERS}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--work", competitor, "--shape", shape],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=inherited | SETTINGS[setting],
        )

    def start(self, steps: int) -> None:
        """Let it take steps."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()

    def wait(self) -> float:
        """Return the seconds that it took."""
        assert self.process.stdout is not None
        return float(self.process.stdout.readline())


def work(competitor: str, shape_name: str) -> None:
    """Take as many steps as each line of standard input says, and print the seconds."""
    from peers import SHAPES, gpt2
    from training import ours, theirs

    from tinylm.training.allocator import keep_freed_memory

    keep_freed_memory()
    shape = SHAPES[shape_name]
    own = competitor == "tinylm"
    step = (ours(shape, "bf16", False) if own else theirs(gpt2, shape, "bf16", False))[0]
    for line in sys.stdin:
        started = time.perf_counter()
        for _ in range(int(line)):
            step()
        print(time.perf_counter() - started, flush=True)


@contextmanager
def one_core_busy() -> Iterator[None]:
    """Keep one core busy inside the block."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


def measure(pair: tuple[Worker, Worker], steps: int) -> dict[str, float]:
    """Return the seconds of so many steps alone, beside a busy core, and of two trainings."""
    first, second = pair
    first.start(steps)
    alone = first.wait()
    with one_core_busy():
        first.start(steps)
        beside = first.wait()
    for worker in pair:
        worker.start(steps)
    return {"alone": alone, "busy": beside, "two": max(first.wait(), second.wait())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="first")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the result here too")
    parser.add_argument("--work", choices=COMPETITORS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work, arguments.shape)
        return
    print(hardware_line())
    rounds: dict[tuple[str, str], list[dict[str, float]]] = {}
    with ExitStack() as stack:
        pairs = {}
        for name in COMPETITORS:
            for setting in SETTINGS:
                pair = (
                    Worker(name, setting, arguments.shape),
                    Worker(name, setting, arguments.shape),
                )
                for worker in pair:
                    stack.callback(worker.process.wait)
                    stack.callback(worker.process.kill)
                    worker.start(3)
                    worker.wait()
                pairs[name, setting] = pair
        steps = {}
        for key, (first, _) in pairs.items():
            first.start(5)
            steps[key] = max(1, round(_SECONDS / (first.wait() / 5)))
        for _ in range(arguments.rounds):
            for key, pair in pairs.items():
                seconds = measure(pair, steps[key])
                each = {name: value / steps[key] for name, value in seconds.items()}
                rounds.setdefault(key, []).append(each)

    rows: list[dict[str, Any]] = []
    for place in ("alone", "busy", "two"):
        times = {
            f"{name}, {setting}, {place}": Measurement.of(
                [by_place[place] for by_place in measured]
            )
            for (name, setting), measured in rounds.items()
        }
        print_table(table(times, next(iter(times))), next(iter(times)))
        print()
        rows += table(times)
    shares = []
    for (name, setting), measured in rounds.items():
        kept = Measurement.of([by_place["alone"] / by_place["busy"] for by_place in measured])
        twice = Measurement.of([by_place["two"] / by_place["alone"] for by_place in measured])
        shares.append({"name": name, "setting": setting, "kept": kept.median, "two": twice.median})
        print(
            f"{name}, {setting}: keeps {kept.median:.0%} of its speed beside a busy core "
            f"(spread {kept.spread:.0%}); two at once take {twice.median:.2f} times as long as one "
            f"(spread {twice.spread:.0%})"
        )
    if arguments.json:
        result = {"hardware": hardware_line(), "rows": rows, "shares": shares}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
