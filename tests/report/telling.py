"""What a section says of results: changes to a made-up run, and the sentence each makes.

``cases/`` holds the tables, one a section. ``test_sentences`` runs them, and ``branches`` sees to
it that they reach both sides of every condition.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from tests.report import fixtures
from tinylm.config import from_dict, to_dict
from tinylm.config.settings import RunConfig
from tinylm.registry import SECTIONS
from tinylm.report.abstract import abstract
from tinylm.report.blocks import Sample, inline_texts, plain_text
from tinylm.report.inputs import ReportInputs

Results = dict[str, dict[str, Any]]
Change = Callable[[Any], object]


@dataclass(frozen=True)
class Case:
    """A change to the results, and what is said then."""

    section: str
    """In the registry SECTIONS, or ``abstract``."""
    said: str
    """Empty: the section is."""
    change: Change = lambda result: None
    """Changes the result of the experiment ``about`` in place."""
    about: str = ""
    """An experiment; empty: the section's own. ``*``: all results are given to ``change``."""
    unsaid: str = ""
    """What must not be said."""
    settings: dict[str, dict[str, Any]] | None = None
    """Settings of the run, section -> key -> value."""
    drawn: bool = True
    """Whether the figures are there."""

    def __str__(self) -> str:
        return f"{self.section}: {self.said[:60]}"


class _Inputs(ReportInputs):
    """Inputs whose figures are all there."""

    def has_figure(self, path: str) -> bool:
        return True


def all_of(*changes: Change) -> Change:
    """Return the change that makes these, one after the other."""

    def change(result: Any) -> None:
        for one in changes:
            one(result)

    return change


def text(case: Case) -> str:
    """Return everything that the section says, as plain text."""
    results = copy.deepcopy(_results())
    about = case.about or ("*" if case.section == "abstract" else case.section)
    case.change(results if about == "*" else results[about])
    kind = _Inputs if case.drawn else ReportInputs
    inputs = kind(_config(case.settings), results, Path("none"), dict(fixtures.ENVIRONMENT))
    if case.section == "abstract":
        return plain_text(abstract(inputs))
    return "\n".join(_words(SECTIONS.load(case.section)(inputs)))


def blocks_without_results(section: str) -> list[Any]:
    """Return what a section says if no experiment has run."""
    inputs = ReportInputs(fixtures.config(), {}, Path("none"))
    made: list[Any] = SECTIONS.load(section)(inputs)
    return made


def table_of(section: str, *rows: tuple[Any, ...], **common: Any) -> list[Case]:
    """Return the cases of a section: rows of ``(change, said)`` or ``(change, said, unsaid)``."""
    made = []
    for change, said, *unsaid in rows:
        case = Case(section, said, change or (lambda result: None), **common)
        made.append(replace(case, unsaid=unsaid[0]) if unsaid else case)
    return made


def _words(blocks: list[Any]) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, Sample):
            yield f"{block.label}: {block.prompt}{block.joint}{block.text} ({block.note})"
        for markup in inline_texts(block):
            yield plain_text(markup)


@cache
def _results() -> Results:
    return fixtures.results()


def _config(settings: dict[str, dict[str, Any]] | None) -> RunConfig:
    values = to_dict(fixtures.config())
    for section, changes in (settings or {}).items():
        values[section].update(changes)
    return from_dict(RunConfig, values, "test")
