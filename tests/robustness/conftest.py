"""The table of what all mutations ended in."""

from __future__ import annotations

import pytest
from _pytest.terminal import TerminalReporter


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
