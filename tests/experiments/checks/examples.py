"""Checks that end in one way each, for a registry of their own."""

import math

import torch

from tinylm.errors import GenerationError
from tinylm.experiments.checks import Finding, Subject


def _finding(difference: float, cases: int = 3, note: str = "") -> Finding:
    return Finding("one side; the other", cases, "cases", difference, 1e-3, note)


def passes(subject: Subject) -> Finding:
    torch.rand(3)  # a check that is careless with the random state
    (subject.folder / "file").write_text("left behind", "utf-8")
    return _finding(1e-4)


def fails(subject: Subject) -> Finding:
    return _finding(2e-3, note="[b]two[/b] of three")


def is_not_finite(subject: Subject) -> Finding:
    return _finding(math.inf)


def is_no_number(subject: Subject) -> Finding:
    return _finding(math.nan)


def compares_nothing(subject: Subject) -> Finding:
    return _finding(0.0, cases=0)


def is_refused(subject: Subject) -> Finding:
    raise GenerationError("position 9 does\nnot fit")


def raises_in_torch(subject: Subject) -> Finding:
    return _finding(float(torch.zeros(2) @ torch.zeros(3)))


def asserts(subject: Subject) -> Finding:
    raise AssertionError


def is_wrong(subject: Subject) -> Finding:
    raise TypeError("a mistake of the check")


def is_interrupted(subject: Subject) -> Finding:
    raise KeyboardInterrupt
