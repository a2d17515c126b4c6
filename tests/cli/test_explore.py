"""``tinylm explore``: the page of a run, and what is told of it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.test_locks import holder, release
from tests.training.tiny import tiny_run
from tinylm.experiments.context import run_experiment

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that kept no snapshots."""
    folder = tmp_path_factory.mktemp("explore")
    run_experiment("training", tiny_run(folder / "run", folder / "cache"))
    return folder / "run"


def test_a_run_without_snapshots_is_shown_and_told(tinylm: Command, run: Path) -> None:
    status, output, error = tinylm("explore", run, "the dog's hat", "--out", "page.html")
    assert (status, output) == (0, "page.html\n")
    (told,) = [line for line in error.splitlines() if "has no snapshots" in line]
    assert told.endswith("train with -o training.snapshots=12 for a slider over its training")
    page = Path("page.html").read_text("utf-8")
    command = f"tinylm explore --out page.html {run} 'the dog'\"'\"'s hat'"
    assert command.replace('"', '\\"') in page  # to which the page adds a sentence


def test_a_run_that_is_written_to_is_told_before_anything_is_measured(
    tinylm: Command, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinylm.experiments.exploring.measure.explored", None)
    process = holder(run)
    status, output, error = tinylm("explore", run)
    release(process)
    assert (status, output) == (1, "")
    assert f"{run} is being written to by process {process.pid}" in error
    assert not (run / "explore.html").exists()


def test_the_page_is_in_the_run_by_default(tinylm: Command, run: Path) -> None:
    assert tinylm("explore", run)[:2] == (0, f"{run / 'explore.html'}\n")
    assert (run / "explore.html").stat().st_size < 5_000_000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["{run}", "--out", "."], "--out . is a folder: give the name of a file"),
        (["{run}", "the " * 99], "has 100 tokens, <sos> included: give a sentence of at most 16"),
        (["{run}", "--pairs", "gone.jsonl"], "gone.jsonl: cannot be read"),
        (["{run}", "--out", "{run}/config.yaml/page.html"], "config.yaml is a file, not a folder"),
        (["{run}", ""], "'' has no word: give a sentence of one at least"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(
    tinylm: Command, run: Path, arguments: list[str], said: str
) -> None:
    given = [argument.format(run=run) for argument in arguments]
    status, output, error = tinylm("explore", *given)
    assert (status, output) == (1, "")
    assert said in error.splitlines()[-1] and "Traceback" not in error
    assert not Path("page.html").exists()
