"""The derivations of ``docs/theory.md`` end in blocks that run and print what stands below them."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tests.theory.printed import Shown, is_printed, sections, shown
from tinylm.cli import app

ROOT = Path(__file__).parents[2]
THEORY = ROOT / "docs/theory.md"
SHOWN = shown(THEORY)


def run(block: Shown) -> str:
    """Return what a block prints, by itself, as if it were a new program."""
    if block.language == "sh":
        (line,) = block.code.splitlines()
        program, *arguments = shlex.split(line)
        assert program == "tinylm"
        result = CliRunner().invoke(app, arguments, env={"COLUMNS": "80"})
        assert result.exit_code == 0, result.output
        return result.stdout
    printed = io.StringIO()
    with torch.random.fork_rng(), contextlib.redirect_stdout(printed):
        exec(compile(block.code, str(THEORY), "exec"), {"__name__": "__main__"})
    return printed.getvalue()


@pytest.mark.parametrize("place", range(len(SHOWN)), ids=lambda i: f"{i}: {SHOWN[i].section}")
def test_it_prints_what_stands_below(place: int) -> None:
    block = SHOWN[place]
    assert block.output
    output = run(block)
    assert is_printed(output, block.output), output


def test_every_derivation_is_shown_and_held() -> None:
    for section, text in sections(THEORY).items():
        assert any(block.section == section for block in SHOWN), section
        files = re.findall(r"`(tests/theory/test_\w+\.py)`", text)
        assert files, section
        assert all((ROOT / name).is_file() for name in files), files


def test_another_number_would_be_seen() -> None:
    assert is_printed("a 1\nb 2\n", "a 1\nb 2\n")
    assert is_printed("a 1\nb 2\nc 3", "…\nb 2\n…")
    assert not is_printed("a 1\nb 2\n", "a 1\nb 3\n")
    assert not is_printed("a 1\nb 2\nc 3", "a 1\nc 3")
