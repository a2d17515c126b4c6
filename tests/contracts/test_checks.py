"""What every check must hold."""

import inspect
from pathlib import Path

import pytest

from tests.experiments.checks.breakers import BREAKERS
from tests.experiments.checks.conftest import other_context  # noqa: F401
from tests.experiments.checks.subjects import nothing_changes
from tinylm.experiments.checks import Finding
from tinylm.experiments.context import Context
from tinylm.experiments.precision.measure import ERROR_TOLERANCE
from tinylm.experiments.verification.measure import open_subject
from tinylm.registry import CHECKS

RUNS = ("tiny_context", "other_context")


def test_every_check_is_broken_by_a_test() -> None:
    assert BREAKERS.keys() == set(CHECKS)
    assert all(BREAKERS.values())


@pytest.mark.parametrize("name", CHECKS)
def test_it_says_what_it_is_for(name: str) -> None:
    run = CHECKS.load(name)
    assert list(inspect.signature(run).parameters) == ["subject"]
    module = inspect.getmodule(run)
    assert module is not None
    assert module.__doc__
    assert run.__doc__


@pytest.mark.parametrize("training", [False, True], ids=["eval mode", "training mode"])
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("name", CHECKS)
def test_it_passes_and_changes_nothing(
    name: str, run: str, training: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    context: Context = request.getfixturevalue(run)
    subject = open_subject(context, tmp_path)
    subject.lm.model.train(training)
    files = sorted(context.folder.rglob("*"))
    with nothing_changes(subject.lm):
        finding: Finding = CHECKS.load(name)(subject)
        again: Finding = CHECKS.load(name)(subject)
    assert finding.passed, finding
    assert finding.cases > 0
    # Only bfloat16 is allowed more than the rounding of float32.
    largest = ERROR_TOLERANCE if name == "precision" else 1e-5
    assert 0 <= finding.difference <= finding.bound <= largest
    assert finding.unit.endswith("s")
    assert 20 < len(finding.compared) < 200
    assert again == finding
    assert sorted(context.folder.rglob("*")) == files
