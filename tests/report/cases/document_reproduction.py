"""What is said of how to repeat a run."""

from __future__ import annotations

from tests.report.telling import Case, table_of

CASES = [
    *table_of(
        "reproduction",
        (None, "tab:environment describes the machine of the run."),
        (None, "Memory\n15.6 GiB"),
        (None, "sec:configuration gives the complete configuration", "commands repeat"),
    ),
    Case("reproduction", "Reproduction", unsaid="describes the machine", environment={}),
    Case("reproduction", "odd\nvalue", environment={"odd": "value"}),
    Case("reproduction", "odd\nvalue", environment={"odd": "value", "cpu": None}, unsaid="Proc"),
    Case("reproduction", "Every random choice depends on a seed: 0 for the data, 0 for init",
         commands=("tinylm train",)),
    Case("reproduction", "7 for the continuations, 8 for the samples", commands=("tinylm train",),
         settings={"evaluation": {"seed": 7}, "generation": {"seed": 8}}),
]  # fmt: skip
