"""A check that cannot fail is worth nothing: each sees what it is there for, broken on purpose."""

from pathlib import Path

import pytest

from tests.experiments.checks.breakers import BREAKERS, HARMLESS, Breaker
from tests.experiments.checks.subjects import nothing_changes
from tinylm.experiments.verification.measure import check, open_subject

CASES = [
    pytest.param(run, name, breaker, id=f"{name}: {breaker.__name__} in {run}")
    for run in ("tiny_context", "other_context")
    for name, breakers in BREAKERS.items()
    for breaker in breakers
    if (run, breaker) not in HARMLESS
]


@pytest.mark.parametrize(("run", "name", "breaker"), CASES)
def test_it_sees_the_mistake(
    run: str,
    name: str,
    breaker: Breaker,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject = open_subject(request.getfixturevalue(run), tmp_path)
    with nothing_changes(subject.lm):
        before = check(name, subject)
        with monkeypatch.context() as patch:
            breaker(patch)
            broken = check(name, subject)
        after = check(name, subject)
    assert before["passed"], before
    assert not broken["passed"], broken
    # Not by a hair, so that no rounding of another machine hides it.
    assert broken["difference"] is None or broken["difference"] > 10 * broken["bound"]
    assert after["passed"], after


def test_every_mistake_is_seen_in_a_run() -> None:
    tried = {(case.values[1], case.values[2]) for case in CASES}
    assert tried == {(name, breaker) for name, breakers in BREAKERS.items() for breaker in breakers}
