"""Two processes that start at once on the same folder: one goes on, the other says who has it."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_classify import labelled
from tests.robustness.race import Ended
from tests.robustness.server import Server, short_tasks
from tests.robustness.test_crashes import comparable
from tinylm.config import RunConfig, dump_yaml
from tinylm.locks import LOCK, locked

ADAPTER = "runs/tiny/adapters/small"
MAKE_ADAPTER = shlex.split("finetune runs/tiny --data letters --steps 2 --name small -o rank=2")
COMMANDS = {
    "runs/new": "train --config new.yaml -o training.max_steps=4",
    "runs/tiny": "train --resume runs/tiny -o training.max_steps=32",
    "runs/tiny/.": "report --run runs/tiny/. --experiments data",
    "runs/tiny/adapters/lora": "finetune runs/tiny --data letters --steps 2 -o rank=2",
    "runs/tiny/adapters/who": "finetune runs/tiny --name who --steps 2 --data rows.jsonl "
    "--method sequence-classification",
    "merged": f"merge runs/tiny {ADAPTER} --out merged",
    "pruned": "prune runs/tiny --share 0.5 --retrain-steps 2 --out pruned",
    "quantized": "quantize runs/tiny --method gptq -o windows=4 --out quantized",
    "small": "compress runs/tiny --max-loss 900% -o steps=2 -o 'shares=[0.5]' -o 'widths=[[4,4]]' "
    "-o calibration=4 -o windows=2 --out small",
    "tuned": "instruct runs/tiny --tasks tasks.jsonl --steps 2 --out tuned",
    "rewards": "reward runs/tiny --rule no-repetition --steps 2 -o rule.length=1 "
    "-o rule.least_words=0 -o ranked_prompts=8 -o max_new_tokens=12 --out rewards",
    "student": "distill runs/tiny --out student --steps 2 -o model.hidden_size=8",
}
"""The folder that a command writes to, as the command names it -> the command."""


def made(folder: Path) -> dict[str, Any]:
    """All files but pages, which print how long work took, and the checksums of these."""
    pages = (".pdf", ".html", ".typ", "/report.json")
    return {name: file for name, file in comparable(folder).items() if not name.endswith(pages)}


def check_refused(loser: Ended, folder: str, command: str, winner: Ended) -> None:
    assert loser.status == 1
    line = re.fullmatch(
        r"tinylm: (\S+) is being written to by process (\d+) \(tinylm (.*), "
        r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d\): "
        r"wait until it ends, or stop it: kill (\d+)\n",
        loser.errors,
    )
    assert line is not None, loser.errors
    assert Path(line[1]) == Path(folder)
    assert line[2] == line[4] == str(winner.pid)
    assert command.startswith(line[3].removesuffix("…"))


def prepare(server: Server, place: Path, tiny_run: Path, words: list[str]) -> None:
    """Make the folder in which a command runs, with the run that it takes."""
    shutil.copytree(tiny_run, place / "runs/tiny", symlinks=True)
    labelled(place / "rows.jsonl")
    short_tasks(place / "tasks.jsonl")
    if ADAPTER in words:
        assert server.run(place, MAKE_ADAPTER).status == 0


@pytest.mark.parametrize("folder", COMMANDS)
def test_one_goes_on_and_the_other_says_who_has_the_folder(
    server: Server, tmp_path: Path, tiny_run: Path, tiny_config: RunConfig, folder: str
) -> None:
    command = COMMANDS[folder]
    words = shlex.split(command)
    place = tmp_path / "place"

    def begin() -> None:
        prepare(server, place, tiny_run, words)
        (place / "new.yaml").write_text(dump_yaml(tiny_config), "utf-8")

    begin()
    (alone,) = server.race(place, words, "alone")
    assert alone.status == 0, alone.errors
    expected = made(place)
    shutil.rmtree(place)
    begin()

    loser, winner = server.race(place, words, "killed")
    assert winner.status == -signal.SIGKILL
    check_refused(loser, folder, command, winner)
    assert (place / folder / LOCK).exists()  # of a dead process, which is none

    loser, winner = server.race(place, words, "let go")
    check_refused(loser, folder, command, winner)
    assert winner.status == 0, winner.errors
    assert not (place / folder / LOCK).exists()
    assert made(place) == expected


@pytest.mark.parametrize("folder", [name for name in COMMANDS if "/" not in name])
def test_a_run_is_made_of_one_that_another_process_writes_to(
    server: Server, tmp_path: Path, tiny_run: Path, folder: str
) -> None:
    """What is read of it is whole at any time, so that nobody waits for its training."""
    place, words = tmp_path / "place", shlex.split(COMMANDS[folder])
    prepare(server, place, tiny_run, words)
    answer = server.run(place, words)
    assert answer.status == 0, answer.stderr
    expected = made(place)
    shutil.rmtree(place / folder)
    with locked(place / "runs/tiny", print):  # by this process, which is another
        answer = server.run(place, words)
    assert answer.status == 0, answer.stderr
    assert made(place) == expected
