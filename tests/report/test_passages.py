"""The text files of the sections: how they are read, and that sections say nothing besides them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import tinylm.experiments
from tinylm.errors import DataError
from tinylm.report.blocks import Bullets, Equation, Paragraph
from tinylm.report.passages import FILE, Passages, passages, read

EXPERIMENTS = Path(tinylm.experiments.__file__).parent
FILES = sorted(EXPERIMENTS.glob(f"*/{FILE}"))
ASKED = re.compile(r"TEXT\.(?:line|blocks)(?:\(\s*|, )\"([^\"]+)\"")
"""A passage is asked for by its name, or the name bound to be asked for with values later."""
MADE_OF_TEXT = {"Paragraph", "Equation", "Bullets", "Figure", "Table"}


def written(folder: Path, text: str) -> Passages:
    path = folder / FILE
    path.write_text(text, "utf-8")
    return read(path)


def test_a_passage_is_paragraphs_equations_and_lists(tmp_path: Path) -> None:
    text = written(
        tmp_path,
        '# Title\nfor editors\n\n## first\n\nOne line\nand {what}.\n\n$$ a = "  if  " b,\n c $$\n'
        "\n- an item\n  goes on\n- {what} \\{x}\n\n## second\nmore\n",
    )
    assert text.blocks("first", what="*another*") == [
        Paragraph("One line and *another*."),
        Equation('a = "  if  " b, c'),
        Bullets(("an item goes on", "*another* {x}")),
    ]
    assert text.line("second") == "more"


def test_a_value_is_put_in_as_it_is(tmp_path: Path) -> None:
    text = written(tmp_path, "## first\n{a}{b}\n")
    assert text.line("first", a="{b}\n\n- x", b="$") == "{b}\n\n- x$"
    assert text.blocks("first", a="{b}\n\n- x", b="$") == [Paragraph("{b}\n\n- x$")]


def test_an_equation_holds_values(tmp_path: Path) -> None:
    text = written(tmp_path, "## first\n$$d = {size}, wide\n \\{x}$$\n")
    assert text.blocks("first", size="64") == [Equation("d = 64, wide {x}")]


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("## first\nx {valeu}\n", "first", r"text\.md, passage 'first': .*valeu.*mean value\?"),
        ("## first\nx\n", "frist", r"text\.md has no passage 'frist': put the line '## frist'"),
        ("## first\n\n## second\nx\n", "first", "has no passage 'first'"),
        ("## first\nx\n\n## first\ny\n", "first", "has the passage 'first' twice"),
    ],
)
def test_a_slip_of_the_editor_is_told(
    tmp_path: Path, content: str, name: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        written(tmp_path, content).line(name, value="1")


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.parent.name)
def test_every_passage_is_asked_for_and_every_one_asked_for_is_there(file: Path) -> None:
    asked = {
        name
        for module in file.parent.glob("*.py")
        for name in ASKED.findall(module.read_text("utf-8"))
    }
    assert asked == set(passages(str(file.with_name("section.py"))).texts)


def _static(module: Path) -> Iterator[str]:
    """Yield what a module writes into blocks with its own hand."""
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        if node.func.id not in MADE_OF_TEXT:
            continue
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        for part in given:
            for text in ast.walk(part) if isinstance(part, ast.JoinedStr) else [part]:
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    words = text.value.split()
                    if len(words) > 2:
                        yield f"{module.parent.name}/{module.name}:{text.lineno}: {text.value}"


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.parent.name)
def test_a_section_holds_no_text_that_does_not_depend_on_results(file: Path) -> None:
    assert not [text for module in file.parent.glob("*.py") for text in _static(module)]
