"""Decoding with a key-value cache: what it saves in time and costs in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.measurement import Verdict
from tinylm.report.blocks import Block, Equation, Figure, Heading, Paragraph, Table
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

_MOST_ROWS = 8
_NEAR_LINEAR, _NEAR_QUADRATIC = 1.25, 1.75
"""Exponents up to and from which growth is called close to linear and to quadratic: names of
ranges, beside which the exponent stands with its interval."""


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``kv-cache``."""
    found = results.results.get("kv-cache")
    if found is None:
        return []
    growth = found["growth"]
    drawn = results.has_figure("figures/kv-cache.svg")
    made: list[Block] = [
        Heading(1, "Decoding with a key-value cache", "sec:kv-cache"),
        *_technique(),
        Paragraph(samples_comment(found)),
        _samples_table(found),
        Paragraph(growth_comment(growth, drawn)),
    ]
    if drawn:
        made.append(
            Figure(
                "fig:kv-cache",
                "figures/kv-cache.svg",
                f"Generating {plural(growth['batch'], 'text')} as one batch, with and without the "
                "cache. Left: time of one step for the whole batch. Right: time for all tokens up "
                "to a length, on logarithmic axes; the slopes are fitted from "
                f"{count(growth['fitted_from'])} tokens on.",
                "Time of a step, and total time, against the length of the text, each with and "
                "without the key-value cache.",
            )
        )
    return [*made, _growth_table(found), Paragraph(memory_comment(found))]


def _technique() -> list[Block]:
    return [
        Paragraph(
            "In masked attention nothing before a token depends on it. The keys and values of the "
            "earlier tokens therefore stay the same when a token is appended, in every layer, and "
            "need not be computed again. With a *cache* only the newest token passes through the "
            "model; in each layer its key and value are appended to the others, and its query "
            "attends to all of them:"
        ),
        Equation(
            'K_t = vec(K_(t-1), k_t, delim: "["), wide V_t = vec(V_(t-1), v_t, delim: "["), '
            'wide o_t = "softmax"((q_t K_t^top) / sqrt(d_h)) V_t'
        ),
        Paragraph(
            "For hidden size $d$, the step to token $t$ then costs on the order of $d^2 + t d$ "
            "operations per layer. Without a cache all $t$ tokens are run through the model at "
            "every step, which costs $t d^2 + t^2 d$. Summed over a text of $T$ tokens, the total "
            "work with the cache is linear in $T$ as long as attention to the earlier tokens costs "
            "little beside the matrix products, and slowly becomes quadratic; without the cache it "
            "is at least quadratic. The price is memory for keys and values [[pope2022]]: for $B$ "
            "texts, $L$ layers, $H$ heads of width $d_h$ and $s$ bytes per number,"
        ),
        Equation("M = B dot T dot L dot 2 dot H dot d_h dot s."),
    ]


def _samples_table(found: Mapping[str, Any]) -> Table:
    samples = found["samples"]
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
        f"Generating {plural(samples['batch'], 'text')} as one batch, "
        f"{plural(samples['tokens'], 'token')} in all, with and without the cache.",
        ("", "Time", "Range", "Spread", "Tokens per second"),
        rows,
        "lrrrr",
        f"Time: {rounds(samples['cached'])}, taken in turns; spread: distance between the "
        f"quartiles, relative to the median. Measured on {hardware(found)}."
        f"{disturbances(measured(timing) for _, timing in ways)}",
    )


def samples_comment(found: Mapping[str, Any]) -> str:
    """Return which way was quicker, and whether both gave the same texts."""
    samples = found["samples"]
    text = (
        f"With and without the cache, {plural(samples['batch'], 'text')} of at most "
        f"{plural(samples['max_new_tokens'], 'token')} each were generated within the context "
        "([[tab:kv-samples]]). Beyond the context the window moves with every token; since cached "
        "keys hold absolute positions, the whole window would have to be read again either way. "
    )
    cached = compared(samples["cached"], samples["uncached"])
    how = {
        Verdict.LESS: f"The cache makes generation quicker, by a factor of "
        f"{factor(cached.inverse)}. ",
        Verdict.MORE: f"The cache makes generation *slower*, by a factor of {factor(cached)}: at "
        "this length managing it costs more than it saves. ",
        Verdict.ALIKE: "The two times are not measurably different (ratio "
        f"{factor(cached.inverse)}). ",
        Verdict.UNKNOWN: "Which of the two is quicker could not be measured. ",
    }
    same = (
        "Both generated the same tokens."
        if samples["identical"]
        else "The two did *not* generate the same tokens, so the times are not those of equal work."
    )
    return f"{text}{how[cached.verdict]}{same}"


def growth_comment(growth: Mapping[str, Any], drawn: bool) -> str:
    """Return how time grows with length, beside what theory expects."""
    lengths = growth["lengths"]
    ways = [(growth["cached"], "with the cache"), (growth["uncached"], "without it")]
    shown = "[[fig:kv-cache]] and [[tab:kv-growth]] show" if drawn else "[[tab:kv-growth]] shows"
    text = (
        "The cost was then followed token by token, in a model of the same sizes whose context "
        f"holds {count(growth['length'])} tokens; its weights are untrained, since the cost does "
        f"not depend on them. {shown} the result. "
    )
    if len(lengths) > 1:
        steps = listed([f"{_step_growth(way['steps'])} {name}" for way, name in ways])
        text += f"From length {count(lengths[0])} to {count(lengths[-1])}, one step {steps}. "
    powers = [f"{_exponent(way['exponent'])} {name}" for way, name in ways]
    text += (
        f"From {count(growth['fitted_from'])} tokens on, the total time grows as the length to the "
        f"power of {listed(powers)}. "
    )
    if growth["uncached"]["exponent"][0] < _NEAR_QUADRATIC:
        text += (
            "Theory expects a power of at least 2 without the cache, but only for long texts: a "
            "part of every step does not depend on the length (reading the weights, starting each "
            "operation), and at such lengths it still counts. "
        )
    return text + _speedups(growth)


def _step_growth(steps: Sequence[Mapping[str, Any]]) -> str:
    change = compared(steps[-1], steps[0])
    ends = f"({seconds(steps[0]['median_s'])} to {seconds(steps[-1]['median_s'])})"
    return {
        Verdict.MORE: f"becomes {significant(change.ratio, 2)} times as long {ends}",
        Verdict.LESS: f"becomes shorter {ends}",
        Verdict.ALIKE: f"takes a time that is not measurably different {ends}",
        Verdict.UNKNOWN: f"takes a time whose change could not be measured {ends}",
    }[change.verdict]


def _exponent(fitted: Sequence[float | None]) -> str:
    value, low, high = (0.0 if part is None else part for part in fitted)
    between = "" if low == high else f" ({low:.2f} to {high:.2f})"
    return f"{value:.2f}{between}, {_growth_name(value)},"


def _growth_name(exponent: float) -> str:
    if exponent < 1 - (_NEAR_LINEAR - 1):
        return "below linear"
    if exponent <= _NEAR_LINEAR:
        return "close to linear"
    if exponent < _NEAR_QUADRATIC:
        return "between linear and quadratic"
    if exponent <= 2 + (2 - _NEAR_QUADRATIC):
        return "close to quadratic"
    return "above quadratic"


def _speedups(growth: Mapping[str, Any]) -> str:
    """Return at which lengths the whole text is generated more quickly with the cache."""
    lengths = growth["lengths"]
    totals = list(zip(growth["cached"]["totals"], growth["uncached"]["totals"], strict=True))
    verdicts = [compared(cached, uncached).verdict for cached, uncached in totals]
    quicker = [length for length, verdict in zip(lengths, verdicts, strict=True)
               if verdict is Verdict.LESS]  # fmt: skip
    last = compared(totals[-1][1], totals[-1][0])
    if not quicker:
        return (
            "At none of these lengths is the whole text generated measurably more quickly with "
            f"the cache; at the last one the ratio is {factor(last)}."
        )
    if len(quicker) == len(lengths):
        where = "at every length measured"
    elif quicker == lengths[-len(quicker) :]:
        where = f"from a length of {count(quicker[0])} on"
    else:
        where = f"at {len(quicker)} of {len(lengths)} lengths measured"
    return (
        f"The whole text is generated more quickly with the cache {where}; at "
        f"{count(lengths[-1])} tokens the ratio is {factor(last)}."
    )


def _growth_table(found: Mapping[str, Any]) -> Table:
    growth = found["growth"]
    memory = keyed(found["memory"], "tokens")
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
        f"Time for all tokens up to a length ({plural(growth['batch'], 'text')} as one "
        f"batch){sizes}.",
        tuple(columns),
        tuple(rows),
        "r" * len(columns),
        f"Times: {rounds(*shown)}, taken in turns; spread (distance between the quartiles, "
        f"relative to the median) of the whole text: {spread(ends[0])} with the cache and "
        f"{spread(ends[1])} without. Measured on {hardware(found)}."
        f"{disturbances(map(measured, shown))}",
    )


def memory_comment(found: Mapping[str, Any]) -> str:
    """Return what a token costs in the cache, and whether the measurement agrees."""
    formula, memory = found["formula"], found["memory"]
    text = (
        f"Here {plural(formula['num_layers'], 'layer')}, {plural(formula['num_heads'], 'head')} of "
        f"width {formula['head_dim']} and {plural(formula['bytes_per_number'], 'byte')} per number "
        f"make {count(formula['kv_bytes_per_token'])} bytes for each token of each text"
    )
    if not memory:
        return f"{text}."
    largest = max(memory, key=lambda size: size["formula_bytes"])
    text += (
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
