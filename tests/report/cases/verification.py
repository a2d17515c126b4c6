"""What is said of the checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.telling import table_of

Result = dict[str, Any]


def failing(*places: int, of: int = 12) -> Callable[[Result], None]:
    """Of so many checks these failed."""

    def change(result: Result) -> None:
        result["rows"] = result["rows"][:of]
        for place in places:
            result["rows"][place].update(passed=False, difference=None, note="RuntimeError: no")

    return change


CASES = table_of(
    "verification",
    (None, "All 12 checks passed, in 14\u00a0s."),
    (failing(of=1), "The one check passed, in 1.2\u00a0s."),
    (failing(of=0), ""),
    (failing(4), "1 of 12 checks FAILED: accumulation. The numbers in this report that depend on "
     "this part must not be trusted until it passes.", "passed, in"),
    (failing(4, 5), "2 of 12 checks FAILED: accumulation and gradient-checkpointing. The numbers "
     "in this report that depend on these parts must not be trusted until they pass."),
    (failing(0, of=1), "The one check FAILED: teacher-forcing."),
    (failing(4), "Note: RuntimeError: no\n4,210,022\n–\n10⁻¹⁰\n"),
    (None, "(float64, mean nats)\n511\n8.9·10⁻¹⁶\n10⁻⁹\n"),
    (None, "\n0\nexact\n"),
    (failing(4), "accumulation FAILED\n"),
)  # fmt: skip
