"""One writer at a time, who says who it is; the lock of a dead process is none."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import filelock._unix
import pytest

from tinylm.atomic import write_text
from tinylm.locks import LOCK, LockedError, LostFolderError, locked

HOLD = """
import select, signal, sys
from tinylm.locks import locked
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell runs behind
with locked(sys.argv[1], print):
    print("held", flush=True)
    # A signal that comes just before a read that never ends would not be seen.
    while not select.select([sys.stdin], [], [], 0.05)[0]:
        pass
"""
COUNT = """
import sys
from pathlib import Path
from tinylm.locks import locked
for _ in range(int(sys.argv[2])):
    with locked(sys.argv[1], lambda line: None, wait=True):
        path = Path(sys.argv[1], "number")
        path.write_text(str(int(path.read_text()) + 1))
"""


def silent(line: str) -> None:
    raise AssertionError(line)


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def holder(folder: Path) -> subprocess.Popen[str]:
    process = start(HOLD, folder)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def release(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait() == 0


def test_a_second_process_is_told_who_holds_it_and_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = holder(folder)
    written = json.loads((folder / LOCK).read_text())
    with pytest.raises(LockedError) as error, locked(folder, silent):
        raise AssertionError
    since = written["since"].replace("T", " ")
    assert str(error.value).startswith(f"{folder} is being written to by process {process.pid} (")
    assert str(error.value).endswith(
        f", since {since}): wait until it ends, or stop it: kill {process.pid}"
    )
    assert "\n" not in str(error.value)
    assert json.loads((folder / LOCK).read_text()) == written
    release(process)
    with locked(folder, silent):
        assert json.loads((folder / LOCK).read_text())["pid"] == os.getpid()


def test_who_waits_says_so_once_and_goes_on(tmp_path: Path) -> None:
    process = holder(tmp_path)
    messages: list[str] = []

    def tell(line: str) -> None:
        messages.append(line)
        release(process)

    with locked(tmp_path, tell, wait=True):
        assert process.poll() == 0
    (line,) = messages
    assert line.startswith(f"{tmp_path} is being written to by process {process.pid} (")
    assert line.endswith("): waiting until it ends")


def test_the_lock_of_a_dead_process_is_none(tmp_path: Path) -> None:
    process = holder(tmp_path)
    process.kill()
    process.wait()
    assert json.loads((tmp_path / LOCK).read_text())["pid"] == process.pid
    with locked(tmp_path, silent):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert not (tmp_path / LOCK).exists()


def test_no_two_processes_hold_it_however_often_it_changes_hands(tmp_path: Path) -> None:
    """The file is deleted by each that lets go, while others are opening it."""
    (tmp_path / "number").write_text("0")
    processes = [start(COUNT, tmp_path, 60) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert (tmp_path / "number").read_text() == "180"
    assert [path.name for path in tmp_path.iterdir()] == ["number"]


def test_a_folder_that_was_made_for_the_lock_goes_under_those_who_wait(tmp_path: Path) -> None:
    code = COUNT.replace(
        "path.write_text(str(int(path.read_text()) + 1))", "assert not path.exists()"
    )
    processes = [start(code, tmp_path / "a", 60) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert list((tmp_path / "a").glob("*")) == list((tmp_path / "a").glob(".*")) == []


def test_a_lock_file_in_an_exchanged_folder_is_another_s(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with locked(folder, silent):
        folder.rename(tmp_path / "elsewhere")
        process = holder(folder)
    assert (folder / LOCK).exists()
    release(process)


def test_it_nests_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with locked("a/b", silent):
        with locked(tmp_path / "a/../a/b", silent), locked(tmp_path / "a", silent):
            assert (tmp_path / "a" / LOCK).exists()
        assert (tmp_path / "a/b" / LOCK).exists()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyError), locked("a/b", silent):
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with locked("a/b", silent):
        (tmp_path / "a/b/file").touch()
    assert [path.name for path in (tmp_path / "a/b").iterdir()] == ["file"]


def test_a_forked_process_does_not_hold_what_its_parent_holds(tmp_path: Path) -> None:
    with locked(tmp_path, silent):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with locked(tmp_path, silent):
                    status = 2
            except LockedError:
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(filelock._unix.fcntl, "flock", flock)
    (tmp_path / ".left.1.tmp").touch()  # which may be another's that is alive
    messages: list[str] = []
    with locked(tmp_path, messages.append):
        write_text(tmp_path / "file", "x")
    assert messages == [
        f"the file system of {tmp_path} has no locks ({os.strerror(number)}): see to it that no "
        "other process writes there"
    ]
    assert (tmp_path / "file").exists()
    assert (tmp_path / ".left.1.tmp").exists()


def test_a_folder_that_cannot_be_written_to_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError) as error, locked(tmp_path / "file/run", silent):
        raise AssertionError
    assert error.value.filename == str(tmp_path / "file")


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"pid": "1"}', json.dumps({"pid": 1, "host": "h", "command": 3})],
)
def test_a_lock_file_that_says_nothing_is_still_a_lock(tmp_path: Path, content: str) -> None:
    process = holder(tmp_path)
    (tmp_path / LOCK).write_text(content)
    with pytest.raises(LockedError) as error, locked(tmp_path, silent):
        raise AssertionError
    assert str(error.value) == (
        f"{tmp_path} is being written to by another process: wait until it ends"
    )
    release(process)


def test_a_dead_process_is_not_named(tmp_path: Path) -> None:
    """Whoever takes the lock of a dead one has not yet written down who it is."""
    dead = start("")
    assert dead.wait() == 0
    process = holder(tmp_path)
    written = json.loads((tmp_path / LOCK).read_text())
    for pid in (dead.pid, 10**30):
        (tmp_path / LOCK).write_text(json.dumps(written | {"pid": pid}))
        with pytest.raises(LockedError) as error, locked(tmp_path, silent):
            raise AssertionError
        assert str(error.value).endswith("by another process: wait until it ends")
    release(process)


def test_what_a_lock_file_says_is_no_command_to_the_terminal(tmp_path: Path) -> None:
    process = holder(tmp_path)
    written = json.loads((tmp_path / LOCK).read_text())
    changed = {"host": "other\x1b[31m", "command": "a\nb\x1b]0;x\x07" * 99, "since": "\x1b1\u202e"}
    (tmp_path / LOCK).write_text(json.dumps(written | changed))
    with pytest.raises(LockedError) as error, locked(tmp_path, silent):
        raise AssertionError
    message = str(error.value)
    assert message.isprintable()
    assert "kill" not in message  # it runs on another machine
    assert len(message) < len(str(tmp_path)) + 250
    release(process)


def test_what_killed_processes_left_is_deleted_where_it_is_theirs(tmp_path: Path) -> None:
    left = [".a.json.7.tmp", "results/.b.json.7.tmp", "adapters/x/.c.7.tmp"]
    for name in left:
        write_text(tmp_path / name, "half")
    write_text(tmp_path / ".checkpoints.7.tmp/step-1/file", "x")
    (tmp_path / ".last.7.tmp").symlink_to("results")
    kept = [".hidden", "a.tmp", "results/b.json"]
    for name in kept:
        write_text(tmp_path / name, "whole")
    with locked(tmp_path, silent, clear=("", "results", "nowhere")):
        files = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if not p.is_dir()}
        assert files == {*kept, left[2], LOCK}


@pytest.mark.parametrize(
    "change",
    [
        shutil.rmtree,
        lambda folder: folder.rename(folder.with_name("elsewhere")),
        lambda folder: (shutil.rmtree(folder), folder.mkdir()),
    ],
)
def test_a_folder_that_goes_is_not_made_again(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    folder = tmp_path / "run"
    with locked(folder, silent):
        write_text(folder / "results/a.json", "{}")
        with pytest.raises(LostFolderError) as error:
            change(folder)
            write_text(folder / "results/b.json", "{}")
    assert str(error.value).startswith(f"{folder} was removed, renamed or exchanged while it was")
    assert not list(tmp_path.rglob("b.json"))


def test_a_removed_lock_file_stops_nobody_who_holds_it(tmp_path: Path) -> None:
    with locked(tmp_path, silent):
        (tmp_path / LOCK).unlink()
        write_text(tmp_path / "file", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_ctrl_c_lets_go(tmp_path: Path) -> None:
    process = holder(tmp_path)
    process.send_signal(signal.SIGINT)
    assert process.wait() != 0
    assert not (tmp_path / LOCK).exists()
