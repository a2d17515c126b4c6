"""Efficiency: plans compared with measurements, and how cost grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.measurement import Measurement
from tinylm.report.blocks import Block, Figure, Heading, Table, literal
from tinylm.report.formatting import count, listed, percent, plural
from tinylm.report.measurements import (
    dagger,
    disturbances,
    hardware,
    median,
    mib,
    rounds,
    seconds,
    spread,
)
from tinylm.report.passages import passages

TEXT = passages(__file__)
_NEAR = 0.15
"""Difference of two exponents up to which they are said to agree. A fixed bound: a plan counts the
large operations alone, and is not meant to be right to the last percent."""
SIZES = {
    "batch_size": "batch",
    "context_length": "context",
    "num_layers": "layers",
    "vocab_size": "vocabulary",
}
"""Setting -> how the report calls it."""
_COSTS = {"step": "Step", "generation": "Generation", "saved_bytes": "Kept", "peak_bytes": "Peak"}

Row = Mapping[str, Any]


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``efficiency``."""
    result = results.results.get("efficiency")
    if result is None:
        return []
    drawn = results.has_figure("figures/efficiency.svg")
    section: list[Block] = [
        Heading(1, "Efficiency, planned and measured", "sec:efficiency"),
        *_technique(result),
        _own_table(result),
        *TEXT.blocks("own sizes", comment=own_comment(result)),
        Heading(2, "How cost grows", "sec:growth"),
        *TEXT.blocks(
            "growth",
            figure=TEXT.line("growth, before the figure") + " " if drawn else "",
            comment=growth_comment(result["growth"]),
        ),
        _exponents(result),
    ]
    if drawn:
        section.append(
            Figure(
                "fig:efficiency",
                "figures/efficiency.svg",
                TEXT.line("growth, figure"),
                TEXT.line("growth, figure, without seeing it"),
            )
        )
    return [*section, _points(result)]


def _technique(result: Mapping[str, Any]) -> list[Block]:
    how = (
        "the greatest number of bytes of tensors alive at once"
        if result["measure"] == "live tensor bytes"
        else f"that of `{literal(str(result['measure']))}`"
    )
    return TEXT.blocks("technique", peak=how)


def _own_table(result: Mapping[str, Any]) -> Table:
    own = result["own"]
    planned, measured = own["planned"], own["measured"]

    def both(name: str, key: str, show: Any) -> tuple[str, str, str, str]:
        return name, show(planned[key]), show(measured[key]), gap(planned[key], measured[key])

    step = own["step"]
    rate = result["product_flops_per_second"]
    return Table(
        "tab:efficiency",
        TEXT.line(
            "own sizes, table",
            windows=plural(own["batch_size"], "window"),
            context=count(own["context_length"]),
            precision=literal(str(result["precision"])),
        ),
        ("", "Planned", "Measured", "Difference"),
        (
            both("Parameters", "parameters", count),
            both("FLOPs per token, forward and backward", "flops_per_token", count),
            both("Activations kept, MiB", "saved_bytes", mib),
            both("Peak memory of a step, MiB", "peak_bytes", mib),
            both("Key-value cache of a context, MiB", "kv_bytes", mib),
            (
                f"Step at {count(rate / 1e9)} GFLOP/s",
                seconds(own["least_seconds"]),
                median(step),
                f"{percent(own['utilisation'])} utilisation",
            ),
        ),
        "lrrr",
        TEXT.line(
            "own sizes, table's note",
            rounds=rounds(step),
            spread=spread(step),
            hardware=hardware(result),
            disturbances=disturbances([Measurement.from_result(step)]),
        ),
    )


def gap(planned: float, measured: float) -> str:
    """Return by how much the measurement differs from the plan."""
    if planned == measured:
        return "none"
    share = measured / planned - 1
    return f"{'+' if share > 0 else '−'}{percent(abs(share))}"


def own_comment(result: Mapping[str, Any]) -> str:
    """Return which plans hold exactly, how far the others are off, and what utilisation means."""
    own = result["own"]
    names = {
        "parameters": "parameters",
        "flops_per_token": "FLOPs",
        "saved_bytes": "activations",
        "kv_bytes": "the cache",
    }
    planned, measured = own["planned"], own["measured"]
    exact = [name for key, name in names.items() if planned[key] == measured[key]]
    other = [
        f"{name} ({gap(planned[key], measured[key])})"
        for key, name in names.items()
        if planned[key] != measured[key]
    ]
    text = ""
    if exact:
        text += f"The plans of {listed(exact)} hold exactly. "
    if len(other) == 1:
        text += f"The measurement of {other[0]} differs from the plan. "
    elif other:
        text += f"The measurements of {listed(other)} differ from the plans. "
    parts = own["peak_parts"]
    most = max(("weights", "moments", "gradients", "activations", "temporary"), key=parts.get)
    takes = "takes" if most == "moments" else "take"
    shown = {"moments": "optimizer state", "temporary": "temporary arrays"}.get(most, most)
    text += (
        f"Memory is planned to peak during the {_at(parts['time'])}, where {shown} {takes} the "
        f"largest part, {mib(parts[most])} MiB; the measured peak differs from the estimate by "
        f"{gap(planned['peak_bytes'], measured['peak_bytes'])}. "
    )
    tokens = own["tokens"] / own["step"]["median_s"]
    text += f"A step of {count(own['tokens'])} tokens takes {median(own['step'])}"
    if Measurement.from_result(own["step"]).disturbed or own["utilisation"] > 1:
        return (
            f"{text}. The machine was disturbed while its steps or its matrix products were "
            "measured, so its utilisation is not given."
        )
    return (
        f"{text}, which is {count(tokens)} tokens per second and a utilisation of "
        f"{percent(own['utilisation'])}. The FLOPs leave out norms, softmax, dropout, the "
        "optimizer, memory traffic, and the fact that small products do not use the whole machine."
    )


def _at(time: str) -> str:
    layer, backward, _ = time.partition(", backward")
    return f"backward pass of the {layer}" if backward else layer


def growth_comment(growth: Sequence[Mapping[str, Any]]) -> str:
    """Return where times grow as the FLOPs do, where more slowly and where faster."""
    step = _compared(
        growth,
        "step",
        "The time of a step",
        "larger products may use the machine better, or a part of the step may not depend on this "
        "size",
    )
    generation = _compared(
        growth,
        "generation",
        "The time of generation",
        "with one token at a time the products are small, and the time to start them and to read "
        "the weights does not depend on the size",
    )
    return " ".join([*step, *generation])


def _compared(
    growth: Sequence[Mapping[str, Any]], cost: str, subject: str, reason: str
) -> list[str]:
    """Return sentences on one cost; ``reason`` is why it may grow more slowly than planned."""
    ways: dict[str, list[str]] = {"as": [], "slower": [], "faster": [], "unknown": []}
    for series in growth:
        fitted = series["exponents"][cost]
        if fitted["measured"] is None or fitted["planned"] is None:
            continue
        name = SIZES[series["varied"]]
        if any(Measurement.from_result(row[cost]).disturbed for row in series["rows"]):
            ways["unknown"].append(name)
            continue
        over = fitted["measured"] - fitted["planned"]
        way = "as" if abs(over) <= _NEAR else "faster" if over > 0 else "slower"
        ways[way].append(f"{name} ({fitted['measured']:.2f} against {fitted['planned']:.2f})")
    sentences = {
        "as": "grows as its FLOPs do with {}.",
        "slower": f"grows more slowly than its FLOPs with {{}}: {reason}.",
        "faster": "grows faster than its FLOPs with {}. Possible reasons are operations that are "
        "not counted and arrays that no longer fit into the processor's caches.",
        "unknown": "was disturbed while it was measured against {}, so its growth is not judged.",
    }
    return [f"{subject} {sentences[way].format(listed(on))}" for way, on in ways.items() if on]


def _exponents(result: Mapping[str, Any]) -> Table:
    rows = []
    for series in result["growth"]:
        sizes = [row[series["varied"]] for row in series["rows"]]
        cells = [f"{SIZES[series['varied']]}, {count(sizes[0])}–{count(sizes[-1])}"]
        for cost in _COSTS:
            fitted = series["exponents"][cost]
            cells += [_exponent(fitted["measured"]), _exponent(fitted["planned"])]
        rows.append(tuple(cells))
    timing = result["own"]["step"]
    return Table(
        "tab:growth",
        TEXT.line("exponents, table"),
        ("Size", *(cell for name in _COSTS.values() for cell in (name, "*p.*"))),
        tuple(rows),
        "lrrrrrrrr",
        TEXT.line("exponents, table's note", rounds=rounds(timing), hardware=hardware(result)),
    )


def _exponent(value: float | None) -> str:
    return "–" if value is None else f"{value + 0:.2f}".replace("-0.00", "0.00")


def _points(result: Mapping[str, Any]) -> Table:
    rate = result["product_flops_per_second"]
    rows, timings = [], []
    for series in result["growth"]:
        for number, row in enumerate(series["rows"]):
            name = SIZES[series["varied"]] if number == 0 else ""
            measured, planned = row["measured"], row["planned"]
            timings += [Measurement.from_result(row[cost]) for cost in ("step", "generation")]
            rows.append(
                (
                    name,
                    count(row[series["varied"]]),
                    median(row["step"]),
                    spread(row["step"]),
                    percent(planned["step"] / rate / measured["step"], 0),
                    seconds(row["generation"]["median_s"] / row["new_tokens"])
                    + dagger(Measurement.from_result(row["generation"])),
                    spread(row["generation"]),
                    mib(measured["saved_bytes"]),
                    mib(measured["peak_bytes"]),
                    mib(planned["peak_bytes"]),
                )
            )
    return Table(
        "tab:growth-points",
        TEXT.line("points, table"),
        ("", "Size", "Step", "Spread", "MFU", "A token", "Spread", "Kept", "Peak", "Planned"),
        tuple(rows),
        "lrrrrrrrrr",
        TEXT.line(
            "points, table's note",
            rounds=rounds(result["own"]["step"]),
            hardware=hardware(result),
            disturbances=disturbances(timings),
        ),
    )
