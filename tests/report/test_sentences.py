"""Every sentence that is computed, on both sides of each condition that chooses it."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

from tests.report import cases
from tests.report.branches import Branches
from tests.report.telling import SECTIONS, Case, Phrase, blocks_without_results, text
from tinylm import experiments, report

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
REPORT, EXPERIMENTS = Path(report.__path__[0]), Path(experiments.__path__[0])
MADE_OF_BLOCKS = "from tinylm.report.blocks import"
WRITING = {"build", "figures", "inputs", "record"}
"""Modules of ``document`` that draw, arrange, write or keep what others say."""
FILES = sorted(
    [REPORT / "measurements.py", REPORT / "formatting.py"]
    + [path for path in EXPERIMENTS.glob("*/*.py")
       if path.stem == "sentence" or (path.parent.name == "document" and path.stem != "__init__")
       or MADE_OF_BLOCKS in path.read_text("utf-8")]
)  # fmt: skip
FILES = [path for path in FILES if path.parent.name != "document" or path.stem not in WRITING]
"""Modules that make sentences, whose conditions are watched."""


def table(path: Path) -> str:
    """Return the name of the table of cases of a module."""
    folder, stem = path.parent.name, path.stem
    if stem == "sentence":
        return "document_abstract"
    if path.parent == REPORT:
        return stem
    return folder if stem == "section" else f"{folder}_{stem}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_module_that_makes_sentences_has_a_table(path: Path) -> None:
    assert table(path) in MODULES, f"no table tests/report/cases/{table(path)}.py"
    module = MODULES[table(path)]
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


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_text_is_chosen_by_multiplication(path: Path) -> None:
    """Such a choice hides from the watcher of conditions, and from most readers."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            for side in (node.left, node.right):
                assert not isinstance(side, ast.JoinedStr), ast.unparse(node)
                if isinstance(side, ast.Constant) and isinstance(side.value, str):
                    # A letter a column of a table is no text.
                    assert len(side.value) == 1, ast.unparse(node)
