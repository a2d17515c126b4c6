"""Every kind of file, damaged at random by a seed: what comes of it is one clear line, nothing, or
the state before.

``pytest tests/robustness --mutations 20000`` tries as many as wanted; each is repeated by its name.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.robustness.subjects import SUBJECTS, Base, Subject, make_base
from tests.robustness.worker import run_cases


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return make_base(tmp_path_factory.mktemp("fuzz"))


@pytest.fixture(scope="session")
def pristine(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Subject], Path]:
    folders: dict[str, Path] = {}

    def folder_of(subject: Subject) -> Path:
        if subject.name not in folders:
            folder = tmp_path_factory.mktemp("pristine")
            subject.make(base, folder)
            folders[subject.name] = folder
        return folders[subject.name]

    return folder_of


def share_of(subject: Subject, mutations: int) -> int:
    """Return how many of all mutations a subject gets."""
    return -(-mutations * subject.weight // sum(each.weight for each in SUBJECTS))


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_damage_is_told_or_harmless(
    subject: Subject,
    base: Base,
    pristine: Callable[[Subject], Path],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    only = request.config.getoption("--case")
    count = share_of(subject, request.config.getoption("--mutations"))
    cases = [f"{subject.name}/{number}" for number in range(count)]
    if only:
        cases = [case for case in cases if case == only] or [only] * only.startswith(
            f"{subject.name}/"
        )
    done = tmp_path / "done"  # what was done in each case, for the child alone knows it
    done.mkdir()

    def use(case: str) -> str:
        folder = tmp_path / "case"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(pristine(subject), folder, symlinks=True)
        what, signed = subject.damage(folder, Random(case))
        (done / case.replace("/", "-")).write_text(f"{what}{', signed again' * signed}")
        return subject.use(base, folder)

    # In the same folder, whose name may be part of what comes of it.
    shutil.copytree(pristine(subject), tmp_path / "case", symlinks=True)
    unchanged = subject.use(base, tmp_path / "case")
    endings = {"refused": 0, "same": 0, "other": 0, "failure": 0}
    failures = []
    for outcome in run_cases(cases, use, unchanged):
        what = done / outcome.case.replace("/", "-")
        damage = what.read_text() if what.exists() else "not damaged yet"
        ending = outcome.ending
        wrong = subject.guarded and "signed again" not in damage and "deleted" not in damage
        if ending == "other" and wrong:
            ending = "failure"
        endings[ending] += 1
        if ending == "failure":
            failures.append(
                f"{outcome.case} ({damage}): {outcome.message or 'another result, silently'}"
            )
    record_property("fuzz", {"subject": subject.name, "count": len(cases), **endings})
    assert not failures, f"{len(failures)} of {len(cases)}:\n" + "\n".join(failures[:20])
