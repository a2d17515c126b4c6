"""``docs/scaling.md``: every command prints what stands below it; every section has one."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.theory.printed import is_printed, sections, shown
from tinylm.cli import app

SCALING = Path(__file__).parents[3] / "docs/scaling.md"
SHOWN = shown(SCALING)


@pytest.mark.parametrize("place", range(len(SHOWN)), ids=lambda i: f"{i}: {SHOWN[i].section}")
def test_it_prints_what_stands_below(place: int) -> None:
    block = SHOWN[place]
    program, *arguments = shlex.split(block.code)
    assert program == "tinylm"
    assert arguments[:2] == ["plan", "cluster"]
    assert block.output
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    assert is_printed(result.stdout, block.output), result.stdout


def test_every_section_ends_in_a_command_and_what_it_prints() -> None:
    for section, text in sections(SCALING).items():
        assert any(block.section == section for block in SHOWN), section
        if section != "How far to believe it":
            assert text.rstrip().endswith("```"), section
