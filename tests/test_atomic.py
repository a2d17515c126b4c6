"""A file is whole or not there."""

import os
import stat
from pathlib import Path

import pytest

from tinylm.atomic import atomic_write, write_bytes, write_text


def test_whole_content_takes_the_name_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "deep/er/file.bin"
    with atomic_write(path) as file:
        file.write(b"one ")
        assert not path.exists()
        file.write(b"two")
    assert path.read_bytes() == b"one two"
    assert [file.name for file in path.parent.iterdir()] == ["file.bin"]
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    write_text(path, "Zwölf\n“é”")
    assert path.read_bytes() == "Zwölf\n“é”".encode()


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), OSError(28, "full")])
def test_an_error_leaves_what_was_there_and_no_half_file(
    tmp_path: Path, error: BaseException
) -> None:
    path = tmp_path / "file"
    write_text(path, "before")
    with pytest.raises(type(error)), atomic_write(path) as file:
        file.write(b"half")
        file.flush()
        raise error
    assert path.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_says_which_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_text(tmp_path / "file", "x")
    assert caught.value.filename == str(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_keeps_its_own_name(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "x")
    with pytest.raises(OSError) as caught:
        write_text(tmp_path / "file/inside", "x")
    assert caught.value.filename == str(tmp_path / "file")


def test_what_is_no_file_is_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "link", "folder"):
        with pytest.raises(FileExistsError, match="is a folder or a device") as caught:
            write_text(tmp_path / name, "x")
        assert caught.value.filename == str(tmp_path / name)
    assert stat.S_ISFIFO(pipe.lstat().st_mode) and (tmp_path / "link").is_symlink()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder", "link", "pipe"]


def test_content_is_synced_before_it_takes_the_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    seen = []
    plain = os.fsync

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        is_folder = stat.S_ISDIR(status.st_mode)
        seen.append((path.exists(), "folder" if is_folder else status.st_size))
        plain(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(path, "12345")
    assert seen == [(False, 5), (True, "folder")]


def test_a_link_stays_a_link_to_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there/file", tmp_path / "link"
    link.symlink_to("there/file")
    for text in ("first", "second"):  # the first time it leads nowhere
        write_text(link, text)
        assert str(link.readlink()) == "there/file"
        assert target.read_text("utf-8") == text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "there"]
