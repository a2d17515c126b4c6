"""Decoding with a key-value cache: what it saves in time and costs in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.measurement import CONFIDENCE, Verdict
from tinylm.report.blocks import Block, Figure, Heading, Table
from tinylm.report.formatting import count, keyed, listed, percent, plural, significant
from tinylm.report.measurements import (
    compared,
    disturbances,
    factor,
    hardware,
    measured,
    median,
    mib,
    rounds,
    seconds,
    spread,
    times,
)
from tinylm.report.passages import passages

TEXT = passages(__file__)
_MOST_ROWS = 8


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``kv-cache``."""
    result = results.results.get("kv-cache")
    if result is None:
        return []
    samples, growth = result["samples"], result["growth"]
    drawn = results.has_figure("figures/kv-cache.svg")
    section: list[Block] = [
        Heading(1, "Decoding with a key-value cache", "sec:kv-cache"),
        *TEXT.blocks("technique"),
        *TEXT.blocks(
            "samples",
            texts=plural(samples["batch"], "text"),
            tokens=plural(samples["max_new_tokens"], "token"),
            comment=samples_comment(samples),
        ),
        _samples_table(result),
        *TEXT.blocks(
            "growth", length=count(growth["length"]), comment=growth_comment(growth, drawn)
        ),
    ]
    if drawn:
        section.append(
            Figure(
                "fig:kv-cache",
                "figures/kv-cache.svg",
                TEXT.line(
                    "growth, figure",
                    texts=plural(growth["batch"], "text"),
                    fitted_from=count(growth["fitted_from"]),
                ),
                TEXT.line("growth, figure, without seeing it"),
            )
        )
    return [*section, _growth_table(result), *memory_blocks(result)]


def _samples_table(result: Mapping[str, Any]) -> Table:
    samples = result["samples"]
    ways = (("with cache", samples["cached"]), ("without", samples["uncached"]))
    rows = tuple(
        (
            name,
            median(timing),
            f"{seconds(timing['min_s'])} to {seconds(timing['max_s'])}",
            spread(timing),
            count(timing["tokens_per_second"]),
        )
        for name, timing in ways
    )
    return Table(
        "tab:kv-samples",
        TEXT.line(
            "samples, table",
            texts=plural(samples["batch"], "text"),
            tokens=plural(samples["tokens"], "token"),
        ),
        ("", "Time", "Range", "Spread", "Tokens per second"),
        rows,
        "lrrrr",
        TEXT.line(
            "samples, table's note",
            rounds=rounds(samples["cached"]),
            hardware=hardware(result),
            disturbances=disturbances(measured(timing) for _, timing in ways),
        ),
    )


def samples_comment(samples: Mapping[str, Any]) -> str:
    """Return whether the cache saves time, and whether the texts are the same without it."""
    cached = compared(samples["cached"], samples["uncached"])
    how = {
        Verdict.LESS: f"The cache makes generation faster, by a factor of "
        f"{factor(cached.inverse)}. ",
        Verdict.MORE: f"The cache makes generation *slower*, by a factor of {factor(cached)}. ",
        Verdict.ALIKE: "The two times are not measurably different (ratio "
        f"{factor(cached.inverse)}). ",
        Verdict.UNKNOWN: "Which of the two is faster could not be measured. ",
    }
    same = (
        "The generated tokens were identical."
        if samples["identical"]
        else "The generated tokens were *not* identical, so the times are not those of equal work."
    )
    return f"{how[cached.verdict]}{same}"


def growth_comment(growth: Mapping[str, Any], drawn: bool) -> str:
    """Return how time grows with length, compared with what theory expects."""
    lengths = growth["lengths"]
    ways = [(growth["cached"], "with the cache"), (growth["uncached"], "without it")]
    shown = "[[fig:kv-cache]] and [[tab:kv-growth]] show" if drawn else "[[tab:kv-growth]] shows"
    text = f"{shown} the result. "
    if len(lengths) > 1:
        steps = listed([f"{_step_growth(way['steps'])} {name}" for way, name in ways])
        text += f"From length {count(lengths[0])} to {count(lengths[-1])}, one step {steps}. "
    powers = [f"{_power(way['exponent'], i == 0)} {name}" for i, (way, name) in enumerate(ways)]
    text += (
        f"From {count(growth['fitted_from'])} tokens on, the total time for $T$ tokens grows as "
        f"{listed(powers)}. "
    )
    _, _, high = growth["uncached"]["exponent"]
    if high is not None and high < 2:
        text += (
            "Without the cache an exponent of at least 2 is expected, but for long texts only: "
            "part of every step does not depend on the length (reading the weights, starting each "
            "operation). "
        )
    return text + _speedups(growth)


def _step_growth(steps: Sequence[Mapping[str, Any]]) -> str:
    change = compared(steps[-1], steps[0])
    ends = f"(medians: {seconds(steps[0]['median_s'])} and {seconds(steps[-1]['median_s'])})"
    return {
        Verdict.MORE: f"becomes {significant(change.ratio, 2)} times as long {ends}",
        Verdict.LESS: f"becomes shorter {ends}",
        Verdict.ALIKE: f"takes a time that is not measurably different {ends}",
        Verdict.UNKNOWN: f"takes a time whose change could not be measured {ends}",
    }[change.verdict]


def _power(fitted: Sequence[float | None], named: bool) -> str:
    """Return a fitted power of T with its interval, called so where ``named``."""
    value, low, high = fitted
    name = f"{percent(CONFIDENCE, 0)} interval: " if named else ""
    between = "" if low is None or high is None else f" ({name}{low:.2f} to {high:.2f})"
    return f"$T^{value:.2f}${between}"


def _speedups(growth: Mapping[str, Any]) -> str:
    """Return at which lengths the whole text is generated faster with the cache."""
    lengths = growth["lengths"]
    totals = list(zip(growth["cached"]["totals"], growth["uncached"]["totals"], strict=True))
    verdicts = [compared(cached, uncached).verdict for cached, uncached in totals]
    faster = [length for length, verdict in zip(lengths, verdicts, strict=True)
               if verdict is Verdict.LESS]  # fmt: skip
    last = compared(totals[-1][1], totals[-1][0])
    if not faster:
        return (
            "At none of these lengths is the whole text generated measurably faster with "
            f"the cache; at the last one the ratio is {factor(last)}."
        )
    if len(faster) == len(lengths):
        where = "at every length measured"
    elif faster == lengths[-len(faster) :]:
        where = f"from a length of {count(faster[0])} on"
    else:
        where = f"at {len(faster)} of {len(lengths)} lengths measured"
    return (
        f"The whole text is generated faster with the cache {where}; at "
        f"{count(lengths[-1])} tokens the ratio is {factor(last)}."
    )


def _growth_table(result: Mapping[str, Any]) -> Table:
    growth = result["growth"]
    memory = keyed(result["memory"], "tokens")
    lengths = growth["lengths"]
    # Lengths at which memory was measured, else an even choice that ends with the last one.
    wanted = [i for i, length in enumerate(lengths) if length in memory] or [*range(len(lengths))]
    stride = max(1, -(-len(wanted) // _MOST_ROWS))
    kept = sorted(wanted[::-1][::stride])
    with_memory = bool(memory.keys() & {lengths[i] for i in kept})
    rows = []
    shown = []
    for i in kept:
        cached, uncached = growth["cached"]["totals"][i], growth["uncached"]["totals"][i]
        shown += [cached, uncached]
        row = [
            count(lengths[i]),
            median(cached),
            median(uncached),
            times(compared(uncached, cached).ratio),
        ]
        if with_memory:
            size = memory[lengths[i]]
            row += [count(size["batch"]), mib(size["measured_bytes"]), mib(size["formula_bytes"])]
        rows.append(tuple(row))
    columns = ["Length", "With cache", "Without", "Speed-up"]
    if with_memory:
        columns += ["Texts", "Cache, measured", "Formula"]
    sizes = ", and size of the cache in MiB, measured and by the formula" if with_memory else ""
    ends = growth["cached"]["totals"][-1], growth["uncached"]["totals"][-1]
    return Table(
        "tab:kv-growth",
        TEXT.line("growth, table", texts=plural(growth["batch"], "text"), sizes=sizes),
        tuple(columns),
        tuple(rows),
        "r" * len(columns),
        TEXT.line(
            "growth, table's note",
            rounds=rounds(*shown),
            cached=spread(ends[0]),
            uncached=spread(ends[1]),
            hardware=hardware(result),
            disturbances=disturbances(map(measured, shown)),
        ),
    )


def memory_blocks(result: Mapping[str, Any]) -> list[Block]:
    """Return what a token costs in the cache, and whether the measurement agrees."""
    formula = result["formula"]
    return TEXT.blocks(
        "memory",
        layers=plural(formula["num_layers"], "layer"),
        heads=plural(formula["num_heads"], "head"),
        width=str(formula["head_dim"]),
        bytes=plural(formula["bytes_per_number"], "byte"),
        bytes_per_token=count(formula["kv_bytes_per_token"]),
        comment=_memory_comment(result["memory"]),
    )


def _memory_comment(memory: Sequence[Mapping[str, Any]]) -> str:
    if not memory:
        return "."
    largest = max(memory, key=lambda size: size["formula_bytes"])
    text = (
        f", or {mib(largest['formula_bytes'])} MiB for {plural(largest['batch'], 'text')} of "
        f"{plural(largest['tokens'], 'token')}. "
    )
    gaps = [size["measured_bytes"] / size["formula_bytes"] - 1 for size in memory]
    worst = max(gaps, key=abs)
    if worst == 0:
        return f"{text}The keys and values measured have exactly that size at every length."
    way = "more" if worst > 0 else "less"
    return (
        f"{text}The memory measured differs from the formula by at most "
        f"{percent(abs(worst), 2)} ({way})."
    )
