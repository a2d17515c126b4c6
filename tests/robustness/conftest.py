"""The interpreter that commands are forked from, and the table of what all mutations ended in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from _pytest.terminal import TerminalReporter

from tests.robustness.server import Server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.close()


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    if not config.getoption("--table"):
        return
    rows = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", [])
        if name == "fuzz" and getattr(report, "when", "") == "call"
    ]
    columns = ("count", "refused", "same", "other", "failure")
    line = "{:32}" + "{:>10}" * len(columns)
    terminalreporter.write_line(line.format("kind of file", *columns))
    total = {"subject": "all", **{key: sum(row[key] for row in rows) for key in columns}}
    for row in [*rows, total]:
        terminalreporter.write_line(line.format(row["subject"], *(row[key] for key in columns)))
