"""What is said of what was asked: the parts that the report contains, and no others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.telling import Case, table_of

Results = dict[str, dict[str, Any]]


def without(name: str) -> Callable[[Results], object]:
    return lambda results: results.pop(name)


SMALL = {"model": {"num_layers": 1, "num_heads": 1}}
CASES = [
    *table_of(
        "task",
        (None, "word vectors where they help (sec:data)"),
        (without("data"), "The task", "sec:data"),
        (None, "of 3 layers with 8 attention heads each, from linear maps"),
        (without("training"), "The task", "sec:architecture"),
        (without("training"), "The task", "sec:training"),
        (without("evaluation"), "The task", "sec:evaluation"),
        (without("samples"), "The task", "sec:samples"),
        (without("attention"), "The task", "sec:attention"),
        (without("attention"), "needed to repeat the work (sec:reproduction)"),
        about="*",
    ),
    Case(
        "task",
        "Build a language model of 3 LSTM layers from linear maps",
        about="*",
        unsaid="Transformer vaswani",
        settings={"model": {"kind": "lstm"}},
    ),
    Case("task", "of 1 layer with 1 attention head each,", about="*", settings=SMALL),
]
