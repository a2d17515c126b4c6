"""Every sentence that is computed, on both sides of each condition that chooses it."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

from tests.report import cases
from tests.report.branches import Branches
from tests.report.telling import Case, Phrase, blocks_without_results, text
from tinylm import report
from tinylm.registry import SECTIONS

MODULES = {
    name: importlib.import_module(f"tests.report.cases.{name}")
    for _, name, _ in pkgutil.iter_modules(cases.__path__)
}
ALL: list[Case] = [case for module in MODULES.values() for case in getattr(module, "CASES", ())]
PHRASES: list[Phrase] = [
    phrase for module in MODULES.values() for phrase in getattr(module, "PHRASES", ())
]
ALWAYS = ("task", "reproduction")
"""Sections that need no experiment."""
FOLDER = Path(report.__path__[0])
PRINTING = {
    "attention", "attention_html", "blocks", "build", "drawing", "html", "inputs", "layout",
    "record", "references", "sizes", "typst",
}  # fmt: skip
"""Modules that draw, arrange, write or keep what others say. Figures are looked at as figures."""
FILES = sorted(
    [path for path in FOLDER.glob("*.py") if path.stem not in PRINTING | {"__init__"}]
    + [path for path in FOLDER.glob("sections/*.py") if path.stem != "__init__"]
)
"""Modules that make sentences, whose conditions are watched."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_module_that_makes_sentences_has_a_table(path: Path) -> None:
    assert path.stem in MODULES, f"no table tests/report/cases/{path.stem}.py"
    module = MODULES[path.stem]
    assert getattr(module, "CASES", None) or getattr(module, "PHRASES", None)


@pytest.mark.parametrize("case", ALL, ids=str)
def test_a_sentence_follows_from_its_results(case: Case) -> None:
    said = text(case)
    assert case.said in said if case.said else said == ""
    if case.unsaid:
        assert case.unsaid not in said


@pytest.mark.parametrize("phrase", PHRASES, ids=str)
def test_a_phrase_follows_from_its_numbers(phrase: Phrase) -> None:
    assert phrase.make() == phrase.said


@pytest.mark.parametrize("section", [name for name in SECTIONS if name not in ALWAYS])
def test_without_results_a_section_is_empty(section: str) -> None:
    assert blocks_without_results(section) == []


def test_both_sides_of_every_condition_are_told() -> None:
    with Branches(FILES) as watched:
        for case in ALL:
            text(case)
        for phrase in PHRASES:
            phrase.make()
        for section in SECTIONS:
            blocks_without_results(section)
    assert watched.missing() == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_text_is_chosen_by_multiplication(path: Path) -> None:
    """Such a choice hides from the watcher of conditions, and from most readers."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            for side in (node.left, node.right):
                assert not isinstance(side, ast.JoinedStr), ast.unparse(node)
                if isinstance(side, ast.Constant) and isinstance(side.value, str):
                    # A letter a column of a table is no text.
                    assert len(side.value) == 1, ast.unparse(node)
