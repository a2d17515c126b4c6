"""The command line called in this process."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tinylm.cli import main

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tinylm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """Run ``tinylm ARGS`` in this process and in an empty folder: exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*args: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tinylm", *map(str, args)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return run
