"""Names stay in their folder and can be shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylm.errors import ConfigError
from tinylm.names import checked_file, checked_name, checked_path, nearest_folder


@given(st.text(max_size=12))
def test_a_name_that_is_accepted_is_one_visible_file_of_its_folder(name: str) -> None:
    try:
        accepted = checked_name(name, "--name")
    except ConfigError as error:
        assert str(error).isprintable()
        return
    assert accepted == name
    path = Path("runs") / name
    assert path.parent == Path("runs")
    assert path.name == name
    assert name.isprintable()
    assert not name.startswith(("-", "."))


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("../../x", "is a path"),
        ("a/b", "is a path"),
        ("a\\b", "is a path"),
        ("..", "starts with a dot"),
        (".cache", "starts with a dot"),
        ("--steps", "starts with a dot or a dash"),
        ("", "is empty"),
        ("  ", "is empty"),
        ("a\nb", "holds a control character or a line end"),
        ("a\x1b[31m", "holds a control character"),
        ("a\u202eb", "holds a control character"),
        ("a\u2028b", "holds a control character"),
        ("a\x85b", "holds a control character"),
        ("a\ud800", "holds a control character"),
        (" a", "has white space at an end"),
        ("x" * 151, "has more than 150 bytes"),
        ("ü" * 76, "has more than 150 bytes"),
    ],
)
def test_what_is_refused(name: str, problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        checked_name(name, "--name")
    assert problem in str(error.value)
    assert str(error.value).startswith("--name '")
    assert str(error.value).isascii()
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("name", ["quick", "a b", "größe-2", "x.y", "x" * 150, "🐶"])
def test_ordinary_names_stay_as_they_are(name: str) -> None:
    assert checked_name(name, "--name") == name


def test_a_path_may_lead_anywhere_but_can_be_shown() -> None:
    assert checked_path(Path("/tmp/../x"), "--out") == Path("/tmp/../x")
    with pytest.raises(ConfigError, match=r"--out 'a\\nb' holds a control character"):
        checked_path(Path("a\nb"), "--out")


def test_a_folder_that_does_not_exist_gets_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("quick", "baseline", ".cache"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    (tmp_path / "runs/quack").touch()  # no folder
    assert nearest_folder(Path("runs/quik")) == "; did you mean runs/quick?"
    assert nearest_folder(Path("quik")) == "; did you mean runs/quick?"
    assert nearest_folder(Path("run")) == "; did you mean runs?"
    assert nearest_folder(tmp_path / "runs/basline") == f"; did you mean {tmp_path}/runs/baseline?"
    assert nearest_folder(Path("runs/zzz")) == nearest_folder(Path("none/zzz")) == ""
    assert nearest_folder(Path("runs/cache")) == ""


def test_a_file_can_be_written_or_it_is_told_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (tmp_path / "page.html", tmp_path / "new/folder/page.html"):
        assert checked_file(path, "--out") == path
        assert not path.parent.exists() or path.parent == tmp_path
    file, pipe = tmp_path / "file", tmp_path / "pipe"
    file.write_text("x")
    os.mkfifo(pipe)
    assert checked_file(file, "--out") == file
    for path, said in (
        (Path(), "--out . is a folder: give the name of a file"),
        (tmp_path, f"--out {tmp_path} is a folder: give the name of a file"),
        (pipe, f"--out {pipe} is a device or a pipe: give the name of a file"),
        (file / "a/b", f"--out {file}/a/b cannot be written: {file} is a file, not a folder"),
        (tmp_path / "a\nb", f"--out '{tmp_path}/a\\nb' holds a control character or a line end"),
    ):
        with pytest.raises(ConfigError) as caught:
            checked_file(path, "--out")
        assert str(caught.value) == said
    monkeypatch.setattr(os, "access", lambda folder, mode: folder != tmp_path)
    with pytest.raises(ConfigError, match=f"written: the folder {tmp_path} is read-only"):
        checked_file(tmp_path / "deep/page.html", "--out")
