"""`tinylm prune`: a run that the other commands take, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.cli.test_finetune import files
from tinylm.experiments.records import read_compression

GREEDY = ("--strategy", "greedy", "--max-new-tokens", "8")


@pytest.fixture
def run(tmp_path: Path, tiny_run: Path) -> Path:
    """A copy of the tiny run."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run", symlinks=True))


@pytest.mark.parametrize(
    "options",
    [
        ("--method", "wanda", "-o", "windows=4", "-o", "pattern=2:4"),
        ("--method", "neurons", "--retrain-steps", "2", "-o", "importance=random"),
    ],
    ids=["masked", "removed"],
)
def test_a_pruned_run_is_taken_as_any_other(
    tinylm: Command, run: Path, options: tuple[str, ...]
) -> None:
    before = files(run)
    status, out, err = tinylm("prune", run, "--share", 0.5, "--out", "pruned", *options)
    assert (status, out) == (0, "pruned\n"), err
    assert files(run) == before
    written = read_compression(Path("pruned"))
    assert written is not None
    assert f"{written['after']['nonzero']:,} now" in err
    trained = "retraining" in written
    assert ("after 2 steps" in err) == trained == ("--retrain-steps" in options)
    for command in (
        ("generate", "pruned", "The dog", *GREEDY),
        ("evaluate", "pruned", "--json"),
        ("finetune", "pruned", "--data", "letters", "--steps", 2),
        ("finetune", "pruned", "--method", "full", "--steps", 2),
        ("generate", "pruned/adapters/full", "The dog", *GREEDY),
        ("merge", "pruned", "lora", "--out", "merged"),
        ("generate", "merged", "The dog", *GREEDY),
        ("explore", "pruned"),
        ("prune", "pruned", "--method", "magnitude", "--share", 0.7, "--out", "again"),
    ):
        status, out, err = tinylm(*command)
        assert status == 0, (command, err)
        assert out.strip()
    again = read_compression(Path("again"))
    assert again is not None and again["earlier"] == [
        {k: v for k, v in written.items() if k != "earlier"}
    ]
    status, out, err = tinylm("train", "--resume", "pruned")
    if trained:  # it goes on, and there is nothing left to do
        assert (status, out) == (0, "pruned\n"), err
        return
    assert (status, out) == (1, "")
    assert err.endswith("tinylm finetune pruned --method full\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--share", "0"), "share = 0: it must be above 0 and at most 1"),
        (("--share", "101"), "share = 101: it must be above 0 and at most 1"),
        (("--method", "magnitud", "--share", "0.5"), "did you mean magnitude?"),
        (("--method", "heads", "-o", "count=9"), "count = 9: that is 9 of 2 heads; at least one"),
        (
            ("--method", "layers", "--share", "0.5"),
            "0 of 1 layers; at least one goes and one stays",
        ),
        ((), "say how much goes: give --share, such as 0.5"),
        (("--share", "0.5", "-o", "rank=2"), "unknown key rank; allowed: targets, scope, pattern"),
        (("--share", "0.5", "-o", "pattern=4:2"), "expected N:M with N below M"),
        (("--share", "0.5", "-o", "targets=[nothing]"), "target 'nothing' matches nothing"),
        (("--method", "wanda", "--share", "0.5", "-o", "windows=99999"), "give 1 to "),
        (("--share", "0.5", "--gradual"), "--gradual is about training: give --retrain-steps"),
        (
            ("--method", "heads", "-o", "count=1", "-o", "importance=random", "-o", "windows=4"),
            "windows has no effect with importance = random: give importance=loss, or leave it out",
        ),
        (("--share", "0.5", "-o", "count"), "-o 'count': expected key=value"),
    ],
)
def test_what_cannot_be_is_one_line_and_writes_nothing(
    tinylm: Command, run: Path, arguments: tuple[str, ...], message: str
) -> None:
    before = files(run)
    status, out, err = tinylm("prune", run, "--out", "pruned", *arguments)
    assert (status, out) == (1, "")
    assert err.startswith("tinylm: ")
    assert message in err
    assert err.count("\n") == 1
    assert not Path("pruned").exists()
    assert files(run) == before


def test_a_folder_that_is_not_empty_and_what_is_no_run_are_refused(
    tinylm: Command, run: Path
) -> None:
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine")
    for given, out, message in (
        (run, "full", "full is not empty: give --out a new folder"),
        (run, run, "run is not empty: give --out a new folder"),
        (run, "full/notes.txt", "notes.txt"),
        (run / "checkpoints/last", "new", "the settings and data of a run"),
        ("nothing", "new", "nothing does not exist"),
    ):
        status, shown, err = tinylm("prune", given, "--share", 0.5, "--out", out)
        assert (status, shown) == (1, "")
        assert message in err
        assert err.count("\n") == 1
    assert [path.name for path in Path("full").iterdir()] == ["notes.txt"]
    assert not Path("new").exists()


def test_a_damaged_record_is_refused_in_one_line(tinylm: Command, run: Path) -> None:
    status, _, err = tinylm("prune", run, "--share", 0.5, "--out", "pruned")
    assert status == 0, err
    path = Path("pruned/compression.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"method": "heads"}))
    status, _, err = tinylm("prune", "pruned", "--share", 0.6, "--out", "new")
    assert status == 1
    assert "compression.json: has changed since it was written" in err
    assert err.count("\n") == 1
    assert not Path("new").exists()
