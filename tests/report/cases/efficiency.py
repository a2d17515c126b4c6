"""What is said of cost, planned and measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.made_up import timing
from tests.report.telling import table_of

Result = dict[str, Any]
Change = Callable[[Result], None]


def own(part: str, **values: Any) -> Change:
    return lambda result: result["own"][part].update(values)


def measured(*keys: str, factor: float = 1.1) -> Change:
    """These measurements of the run's own sizes differ from the plan."""

    def change(result: Result) -> None:
        sizes = result["own"]
        for key in sizes["measured"]:
            if key in sizes["planned"]:
                sizes["measured"][key] = sizes["planned"][key] * (factor if key in keys else 1)

    return change


def step(spread: float, utilisation: float) -> Change:
    return lambda result: result["own"].update(step=timing(0.1, spread, 8), utilisation=utilisation)


def growing(cost: str, over: float | None, spread: float = 0.01) -> Change:
    """The batch alone is varied, and a cost grows with this much more than the planned power."""

    def change(result: Result) -> None:
        result["growth"] = result["growth"][:1]
        for other, fitted in result["growth"][0]["exponents"].items():
            more = over if other == cost else 0.0
            fitted.update(planned=1.0, measured=None if more is None else 1.0 + more)
        for row in result["growth"][0]["rows"]:
            row[cost] = timing(0.1, spread, 8)

    return change


def unplanned(result: Result) -> None:
    growing("step", 0.0)(result)
    result["growth"][0]["exponents"]["step"]["planned"] = None


ALL = ("parameters", "flops_per_token", "saved_bytes", "kv_bytes")
CASES = [
    *table_of(
        "efficiency",
        (None, "the greatest number of bytes of tensors alive at once."),
        (lambda f: f.update(measure="a meter"), "peak memory measured is that of a meter"),
        (None, "fig:efficiency shows time and memory of a step."),
        # The run's own sizes.
        (measured(), "The plans of parameters, FLOPs, activations and the cache hold exactly."),
        (measured(), "hold exactly. Memory is planned", "differ from the plan"),
        (measured("saved_bytes"), "The measurement of activations (+10.0\u202f%) differs from the"),
        (measured("saved_bytes", "kv_bytes", factor=0.9),
         "The measurements of activations (−10.0\u202f%) and the cache (−10.0\u202f%) differ from"),
        (measured(*ALL), "The measurements of parameters (+10.0", "hold exactly"),
        (own("peak_parts", time="last layer, backward"), "the backward pass of the last layer, wh"),
        (own("peak_parts", time="update"), "planned to peak during the update"),
        (own("peak_parts", moments=1e12), "where optimizer state takes the largest part"),
        (own("peak_parts", weights=1e12), "where weights take the largest part"),
        (own("peak_parts", temporary=1e12), "where temporary arrays take the largest part"),
        (step(0.19, 0.99), "20,480 tokens per second and a utilisation of 99.0\u202f%.", "†"),
        (step(0.19, 1.01), "so its utilisation is not given."),
        (step(0.9, 0.5), "so its utilisation is not given.", "a utilisation of"),
        (step(0.9, 0.5), "†: disturbed"),
        # Growth.
        (growing("step", 0.149), "The time of a step grows as its FLOPs do with batch (1.15 again"),
        (growing("step", 0.151), "The time of a step grows faster than its FLOPs with batch"),
        (growing("step", -0.149), "The time of a step grows as its FLOPs do with batch (0.85 agai"),
        (growing("step", -0.151), "The time of a step grows more slowly than its FLOPs with batch"),
        (growing("step", 0.0, 0.9), "The time of a step was disturbed while it was measured again"),
        (growing("generation", -0.2), "with one token at a time the products are small"),
        (growing("step", None), "The time of generation", "The time of a step grows"),
        (unplanned, "The time of generation", "The time of a step grows"),
        (unplanned, "–"),
        (growing("generation", 0.0), "a quarter of the context. The time of a step"),
    ),
    *table_of("efficiency", (None, "Generation is greedy", "fig:"), drawn=False),
]  # fmt: skip
