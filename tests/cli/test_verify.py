"""``tinylm verify``: a table and exit status 0, or 1 with the names of what failed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tinylm.experiments.verification import measure as verification
from tinylm.registry import CHECKS, Registry

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def verify(tinylm: Command) -> Command:
    """Run ``tinylm verify ARGS``: exit status, stdout, stderr."""
    return lambda *args: tinylm("verify", *args)


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the tiny run, since the command writes a result."""
    return shutil.copytree(tiny_run, tmp_path / "run", symlinks=True)


def test_a_sound_run(verify: Command, run: Path) -> None:
    status, out, err = verify(run)
    assert status == 0, out
    assert all(name in out for name in CHECKS)
    assert out.count("pass ") == len(CHECKS)
    assert f"{len(CHECKS)} of {len(CHECKS)} checks passed in" in out
    assert max(map(len, out.splitlines())) <= 100
    assert "Verifying: done" in err
    kept = json.loads((run / "results/verification.json").read_text("utf-8"))
    assert kept["experiment"] == "verification"
    assert kept["passed"] == len(CHECKS)


def test_a_broken_part(verify: Command, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert verify(run)[0] == 0  # what is kept of it must not be believed afterwards
    monkeypatch.setattr("tinylm.training.state.restore_optimizer", lambda *arguments: None)
    status, out, _ = verify(run)
    assert status == 1
    assert out.count("FAIL") == 1
    *_, said, failures = out.splitlines()
    assert said.startswith(f"{len(CHECKS) - 1} of {len(CHECKS)} checks passed")
    assert failures.startswith("failed: resume; ")
    assert f"run `tinylm verify {run}` again" in failures
    assert json.loads((run / "results/verification.json").read_text("utf-8"))["failed"] == [
        "resume"
    ]


def test_json(verify: Command, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {
        name: f"tests.experiments.checks.examples:{name}" for name in ("passes", "is_refused")
    }
    monkeypatch.setattr(verification, "CHECKS", Registry("check", entries))
    status, out, _ = verify(run, "--json")
    assert status == 1
    result = json.loads(out)
    assert result["failed"] == ["is_refused"]
    assert [row["difference"] for row in result["rows"]] == [1e-4, None]
    del entries["is_refused"]
    monkeypatch.setattr(verification, "CHECKS", Registry("check", entries))
    status, out, _ = verify(run, "--json")
    assert (status, json.loads(out)["failed"]) == (0, [])


@pytest.mark.parametrize("columns", ["40", "80", "100", "200"])
def test_failures_are_told_in_the_table(
    verify: Command, run: Path, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    names = ("passes", "fails", "is_not_finite", "is_refused", "raises_in_torch")
    entries = {name: f"tests.experiments.checks.examples:{name}" for name in names}
    monkeypatch.setattr(verification, "CHECKS", Registry("check", entries))
    monkeypatch.setenv("COLUMNS", columns)
    status, out, _ = verify(run)
    assert status == 1
    table = out.splitlines()[:-2]
    assert max(map(len, table)) <= min(int(columns), 100)
    if int(columns) >= 80:
        assert "[b]two[/b] of" in out  # a note is no markup
        assert "GenerationError" in out
        assert out.count("FAIL") == 4
    assert "failed: fails, is_not_finite, is_refused, raises_in_torch; " in out.splitlines()[-1]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["no"], "no does not exist; `tinylm train` makes a run"),
        ([], "missing argument 'RUN'"),
        (["no", "--jsn"], "no such option: --jsn"),
    ],
)
def test_errors(verify: Command, args: list[str], message: str) -> None:
    status, out, err = verify(*args)
    assert status in (1, 2)
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_setting_that_is_fixed_is_refused(verify: Command, run: Path) -> None:
    status, _, err = verify(run, "-o", "model.num_layers=2")
    assert status == 1
    assert "model is fixed once a run exists" in err
