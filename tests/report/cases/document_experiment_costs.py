"""What is said of the time and memory of the experiments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.telling import table_of

Results = dict[str, dict[str, Any]]


def only(**costs: tuple[float, float | None]) -> Callable[[Results], None]:
    """Leave the seconds and bytes of these experiments alone."""

    def change(results: Results) -> None:
        for name, result in results.items():
            result.pop("seconds")
            if name in costs:
                result["seconds"], result["peak_resident_bytes"] = costs[name]

    return change


def without_memory(results: Results) -> None:
    only(data=(61, None))(results)
    del results["data"]["peak_resident_bytes"]


CASES = table_of(
    "reproduction",
    (only(), "describes the machine", "experiment took"),
    (
        only(data=(61, 4e8), training=(120, 1.25e9)),
        "The peak memory of the process was 1.16\u00a0GiB, in training, including",
    ),
    (only(data=(61, 4e8), training=(120, None)), "In all, 2 experiments took 3\u00a0min 1\u00a0s"),
    (only(data=(61, 4e8), training=(120, None)), "the process was 0.373\u00a0GiB, in data"),
    (without_memory, "In all, 1 experiment took 1\u00a0min 1\u00a0s", "The peak memory"),
    about="*",
)
