"""The watcher of conditions sees both ways of every kind of condition that chooses words."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.report.branches import Branches

SOURCE = """
def choose(x, names=()):
    text = "more" if x > 0 else "less"
    if x == 7 and names:
        text += "!"
    return text + ", ".join(name for name in names if name)
"""


@pytest.fixture
def module(tmp_path: Path) -> ModuleType:
    path = tmp_path / "chooser.py"
    path.write_text(SOURCE, "utf-8")
    spec = importlib.util.spec_from_file_location("chooser", path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def watch(module: ModuleType, *calls: tuple[object, ...]) -> list[str]:
    assert module.__file__ is not None
    with Branches([Path(module.__file__)]) as watched:
        for arguments in calls:
            module.choose(*arguments)
    return watched.missing()


def test_each_way_that_was_not_gone_is_named(module: ModuleType) -> None:
    assert len(watch(module)) == 4
    missing = watch(module, (1,), (7, ("a",)))
    assert any("chooser.py:3 (one way only): text =" in line for line in missing)
    assert any("if name" in line for line in missing)
    missing = watch(module, (0,), (1,), (7,), (7, ("a", "")))
    assert missing == []


def test_other_files_and_what_watched_before_are_left_alone(module: ModuleType) -> None:
    before = sys.gettrace()
    with Branches([Path("elsewhere.py")]) as watched:
        module.choose(1)
    assert not watched.left
    assert sys.gettrace() is before
