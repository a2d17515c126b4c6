"""Without a terminal, work in progress is told by lines: how far, how fast, how long yet."""

from __future__ import annotations

import time

import pytest

from tinylm.cli import console
from tinylm.cli.console import Lines, TerminalConsole


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_lines_tell_how_far_how_fast_and_how_long_yet() -> None:
    clock, written = Clock(), list[str]()
    lines = Lines(written.append, "Training twice", 200, clock)
    clock.now += 30
    lines.write()  # nothing is done yet
    lines.reached(50)
    clock.now += 70
    lines.write()
    assert written == [
        "Training twice: 0:00:30 so far",
        # 50 in 100 s: another 150 take 300 s
        "Training twice: 50 of 200 (25%), 0:01:40 so far, 0.5 a second, about 0:05:00 left",
    ]


def test_lines_of_a_share_and_of_an_unknown_total() -> None:
    clock, written = Clock(), list[str]()
    share, count = (Lines(written.append, "Work", total, clock) for total in (1.0, None))
    clock.now += 60
    share.reached(0.25)
    count.reached(120_000)
    share.write()
    count.write()
    assert written == [
        "Work: 25%, 0:01:00 so far, about 0:03:00 left",
        "Work: 120,000, 0:01:00 so far, 2,000 a second",
    ]


def test_work_that_goes_on_is_not_credited_with_what_was_done_before() -> None:
    clock, written = Clock(), list[str]()
    lines = Lines(written.append, "Training", 100, clock)
    lines.begin(80)
    clock.now += 10
    lines.reached(90, "loss 2.000")
    lines.write()
    assert written == [
        "Training: 90 of 100 (90%), 0:00:10 so far, 1 a second, about 0:00:10 left, loss 2.000"
    ]


@pytest.mark.parametrize("way", ["task", "training"])
def test_lines_come_though_the_work_says_nothing(
    way: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0.01)
    terminal = TerminalConsole()
    if way == "task":
        with terminal.task("Slow work", 10):
            time.sleep(0.2)
    else:
        with terminal.training() as listener:
            listener.on_start(3, 10)
            time.sleep(0.2)
    err = capsys.readouterr().err
    assert err.count("so far") >= 2
    with terminal.task("Quick work", 10):
        pass
    before = len(capsys.readouterr().err)
    time.sleep(0.05)  # and no more of them once it is over
    assert before and not capsys.readouterr().err


def test_a_terminal_has_bars_and_no_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0.01)
    terminal = TerminalConsole()
    terminal.terminal._force_terminal = True
    with terminal.task("Slow work", 10):
        time.sleep(0.1)
    assert "so far" not in capsys.readouterr().err
