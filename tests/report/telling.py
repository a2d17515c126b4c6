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
from tinylm.experiments.document import reproduction, task
from tinylm.experiments.document.abstract import abstract
from tinylm.experiments.document.alone import document
from tinylm.experiments.document.inputs import ReportInputs
from tinylm.experiments.training.architecture import blocks as architecture
from tinylm.experiments.training.section import training_blocks
from tinylm.registry import EXPERIMENTS
from tinylm.report.blocks import Block, Sample, inline_texts, plain_text

SECTIONS: dict[str, Callable[[ReportInputs], list[Block]]] = {
    "task": task.blocks,
    **{name: EXPERIMENTS.load(name).blocks for name in EXPERIMENTS},
    "architecture": architecture,
    "training": training_blocks,
    "reproduction": reproduction.blocks,
}
"""Name -> what makes a section of the report."""
Results = dict[str, dict[str, Any]]
Change = Callable[[Any], object]


@dataclass(frozen=True)
class Case:
    """A change to the results, and what is said then."""

    section: str
    """In ``SECTIONS``, or ``abstract``."""
    said: str
    """Empty: the section is."""
    change: Change = lambda result: None
    """Changes the result of the experiment ``about`` in place."""
    about: str = ""
    """An experiment; empty: the section's own. ``*``: all results are given to ``change``, as they
    are where the section has none of its own."""
    unsaid: str = ""
    """What must not be said."""
    settings: dict[str, dict[str, Any]] | None = None
    """Settings of the run, section -> key -> value."""
    drawn: bool = True
    """Whether the figures are there."""
    environment: dict[str, Any] | None = None
    """Of the run; None: the usual one."""
    commands: tuple[str, ...] = ()
    """That repeat the run."""
    alone: bool = False
    """Whether it is said in the document of a lab, which has a summary besides its section."""

    def __str__(self) -> str:
        return f"{self.section}: {self.said[:60]}"


@dataclass(frozen=True)
class Phrase:
    """What a helper of the sections makes of numbers, as a whole."""

    said: str
    make: Callable[[], object]

    def __str__(self) -> str:
        return self.said[:60]


class _Inputs(ReportInputs):
    """Inputs whose figures are all there."""

    def has_figure(self, path: str) -> bool:
        return True


def all_of(*changes: Change) -> Change:
    """Return the change that makes these, one after the other."""

    def change(result: Any) -> None:
        for step in changes:
            step(result)

    return change


def text(case: Case) -> str:
    """Return everything that the section says, as plain text."""
    results = dict(_results())
    about = case.about or (case.section if case.section in results else "*")
    if about == "*":
        results = copy.deepcopy(results)
        case.change(results)
    else:
        results[about] = copy.deepcopy(results[about])
        case.change(results[about])
    kind = _Inputs if case.drawn else ReportInputs
    environment = fixtures.ENVIRONMENT if case.environment is None else case.environment
    inputs = kind(
        _config(case.settings), results, Path("none"), dict(environment), list(case.commands)
    )
    if case.section == "abstract":
        return plain_text(abstract(inputs))
    if case.alone:
        page = document(inputs, case.section)
        return "\n".join([plain_text(page.abstract), *_words(list(page.blocks))])
    return "\n".join(_words(SECTIONS[case.section](inputs)))


def blocks_without_results(section: str) -> list[Any]:
    """Return what a section says if no experiment has run."""
    inputs = ReportInputs(fixtures.config(), {}, Path("none"))
    blocks: list[Any] = SECTIONS[section](inputs)
    return blocks


def table_of(section: str, *rows: tuple[Any, ...], **common: Any) -> list[Case]:
    """Return the cases of a section: rows of ``(change, said)`` or ``(change, said, unsaid)``."""
    cases = []
    for change, said, *unsaid in rows:
        case = Case(section, said, change or (lambda result: None), **common)
        cases.append(replace(case, unsaid=unsaid[0]) if unsaid else case)
    return cases


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
        if "kind" in changes:  # each kind has settings of its own
            values[section] = dict(changes)
        else:
            values[section].update(changes)
    return from_dict(RunConfig, values, "test")
