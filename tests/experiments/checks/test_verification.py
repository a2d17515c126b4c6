"""The experiment: a row a check, whatever way it ends, and nothing else changed."""

import json
import math
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.experiments.checks.subjects import nothing_changes
from tinylm.config.quantization import SmoothQuantConfig
from tinylm.errors import CheckpointError
from tinylm.experiments.checks import Finding
from tinylm.experiments.context import Context, SilentConsole, open_run
from tinylm.experiments.quantizing import quantize_run
from tinylm.experiments.verification import measure as verification
from tinylm.language_model import LanguageModel
from tinylm.registry import CHECKS, Registry

Use = Callable[..., None]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Put example checks in the place of the registry's."""

    def put(*names: str) -> None:
        entries = {name: f"tests.experiments.checks.examples:{name}" for name in names}
        monkeypatch.setattr(verification, "CHECKS", Registry("check", entries))

    return put


@pytest.mark.parametrize(
    ("difference", "cases", "passed"),
    [
        (0.0, 1, True),
        (1e-3, 1, True),
        (1.1e-3, 1, False),
        (math.inf, 1, False),
        (math.nan, 1, False),
        (0.0, 0, False),
    ],
)
def test_what_passes(difference: float, cases: int, passed: bool) -> None:
    assert Finding("", cases, "cases", difference, 1e-3).passed is passed


def test_every_check_of_the_registry_runs(tiny_context: Context, tiny_lm: LanguageModel) -> None:
    class Counting(SilentConsole):
        shown: list[float]

        def task(
            self, description: str, total: float | None = None
        ) -> AbstractContextManager[Callable[[float], None]]:
            assert total == len(CHECKS)
            self.shown = []
            return nullcontext(self.shown.append)

    console = Counting()
    with nothing_changes(tiny_lm):
        result = verification.run(replace(tiny_context, console=console))
    assert [row["name"] for row in result["rows"]] == list(CHECKS)
    assert result["passed"] == len(CHECKS)
    assert result["failed"] == []
    assert console.shown == list(range(1, len(CHECKS) + 1))
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_rows_of_checks_that_fail(tiny_context: Context, use: Use) -> None:
    failing = (
        *("fails", "is_not_finite", "is_no_number", "compares_nothing", "is_refused"),
        *("raises_in_torch", "asserts"),
    )
    use("passes", *failing)
    result = verification.run(tiny_context)
    rows = {row["name"]: row for row in result["rows"]}
    assert result["failed"] == list(failing)
    assert result["passed"] == 1
    assert [name for name, row in rows.items() if row["passed"]] == ["passes"]
    assert rows["fails"]["difference"] == 2e-3
    assert rows["compares_nothing"]["difference"] == 0
    for name, note in (
        ("is_not_finite", "the difference is inf"),
        ("is_no_number", "the difference is nan"),
        ("is_refused", "GenerationError: position 9 does not fit"),
        ("raises_in_torch", "RuntimeError: "),
        ("asserts", "AssertionError: no message"),
    ):
        assert rows[name]["difference"] is None
        assert rows[name]["note"].startswith(note)
        assert "\n" not in rows[name]["note"]
    assert json.dumps(result, allow_nan=False)
    assert all(row["seconds"] >= 0 for row in rows.values())


@pytest.mark.parametrize(
    ("name", "error"), [("is_wrong", TypeError), ("is_interrupted", KeyboardInterrupt)]
)
def test_a_mistake_of_a_check_and_ctrl_c_are_no_row(
    name: str,
    error: type[BaseException],
    tiny_context: Context,
    use: Use,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    use("passes", name)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    with pytest.raises(error):
        verification.run(tiny_context)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert list(tmp_path.iterdir()) == []


def test_no_file_is_left(
    tiny_context: Context, use: Use, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    use("passes")
    files = sorted(tiny_context.folder.rglob("*"))
    before = torch.get_rng_state()
    assert verification.run(tiny_context)["passed"] == 1
    assert torch.equal(torch.get_rng_state(), before)
    assert list(tmp_path.iterdir()) == []
    assert sorted(tiny_context.folder.rglob("*")) == files


def test_a_run_without_a_checkpoint_is_refused(tiny_context: Context, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint; `tinylm train` makes a run"):
        verification.run(replace(tiny_context, folder=tmp_path))


@pytest.mark.parametrize("name", ["kv-cache", "compiled-loops"])
def test_rounded_inputs_are_no_mistake_of_a_path(name: str, tiny_run: Path, tmp_path: Path) -> None:
    """A sum in another order moves some inputs by a whole step of 8 bits, which is no mistake."""
    context = open_run(tiny_run, SilentConsole())
    settings = SmoothQuantConfig(windows=4)
    quantize_run(context, tmp_path / "small", "smoothquant", settings)
    small = open_run(tmp_path / "small", SilentConsole())
    row = verification.check(name, verification.open_subject(small, small.folder))
    assert row["passed"], row
