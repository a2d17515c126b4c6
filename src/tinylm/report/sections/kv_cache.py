"""Decoding with a key-value cache: what it saves in time and costs in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.report.blocks import Block, Equation, Figure, Heading, Paragraph, Table
from tinylm.report.formatting import count, listed, percent, plural, significant
from tinylm.report.inputs import ReportInputs
from tinylm.report.measurements import hardware, median, mib, order, rounds, seconds, spread, times

_MOST_ROWS = 8
_NEAR_LINEAR, _NEAR_QUADRATIC = 1.25, 1.75
"""Exponents up to and from which growth is called near to linear and to quadratic."""
_FLAT = 1.2
"""A step whose time changes by less than this factor is called nearly constant."""


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
        _samples_table(found),
        Paragraph(samples_comment(found)),
        Paragraph(
            "The cost was then followed token by token, in a model of the same sizes whose "
            f"context holds {count(growth['length'])} tokens; its weights are untrained, since "
            f"the cost does not depend on them. {growth_comment(growth, drawn)}"
        ),
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
    made += [_growth_table(found), Paragraph(memory_comment(found))]
    return made


def _technique() -> list[Block]:
    return [
        Paragraph(
            "In masked attention nothing before a token depends on it. The keys and values of the "
            "earlier tokens therefore stay the same when a token is appended, in every layer, and "
            "need not be computed again. With a *cache* only the newest token passes through the "
            "model; in each layer its key and value are written behind the others, and its query "
            "attends to all of them:"
        ),
        Equation(
            'K_t = vec(K_(t-1), k_t, delim: "["), wide V_t = vec(V_(t-1), v_t, delim: "["), '
            'wide o_t = "softmax"((q_t K_t^top) / sqrt(d_h)) V_t'
        ),
        Paragraph(
            "For hidden size $d$, the step to token $t$ then costs of the order of $d^2 + t d$ "
            "operations a layer. Without a cache all $t$ tokens are run through the model at "
            "every step, at $t d^2 + t^2 d$. Summed over a text of $T$ tokens, the total work "
            "with the cache is linear in $T$ as long as attention to the earlier tokens is small "
            "beside the matrix products, and slowly becomes quadratic; without it, it is "
            "quadratic at least. The price is memory for keys and values [[pope2022]]: for $B$ "
            "texts, $L$ layers, $H$ heads of width $d_h$ and $s$ bytes a number,"
        ),
        Equation("M = B dot T dot L dot 2 dot H dot d_h dot s."),
    ]


def _samples_table(found: Mapping[str, Any]) -> Table:
    samples = found["samples"]
    rows = tuple(
        (name, median(one), f"{seconds(one['min_s'])} to {seconds(one['max_s'])}", spread(one),
         count(one["tokens_per_second"]))
        for name, one in (("with cache", samples["cached"]), ("without", samples["uncached"]))
    )  # fmt: skip
    return Table(
        "tab:kv-samples",
        f"Generating {plural(samples['batch'], 'text')} as one batch, "
        f"{plural(samples['tokens'], 'token')} in all, with and without the cache.",
        ("", "Time", "Range", "Spread", "Tokens a second"),
        rows,
        "lrrrr",
        f"Time: {rounds(samples['cached'])}, both ways taking turns; spread: range over median. "
        f"Measured on {hardware(found)}.",
    )


def samples_comment(found: Mapping[str, Any]) -> str:
    """Return which way was quicker, and whether both gave the same texts."""
    samples = found["samples"]
    ratio = samples["ratio"]
    text = (
        f"Both ways were given {plural(samples['batch'], 'text')} to generate, of at most "
        f"{plural(samples['max_new_tokens'], 'token')} each, within the context "
        "([[tab:kv-samples]]). Beyond it the window moves with every token, and since cached keys "
        "hold absolute positions, both ways would read it anew. "
    )
    which = order(samples["cached"], samples["uncached"])
    if which == 0:
        text += (
            f"The ranges of the two overlap (median ratio {significant(ratio)}): at this length "
            "the measurement shows no difference. "
        )
    elif which < 0:
        text += f"The cache is quicker by a factor of {significant(ratio)} (median of the rounds). "
    else:
        text += (
            f"The cache is *slower*, by a factor of {significant(1 / ratio)}: at this length its "
            "bookkeeping costs more than it saves. "
        )
    text += (
        "Both ways gave the same tokens."
        if samples["identical"]
        else "The two ways did *not* give the same tokens, so that the times are not those of "
        "equal work."
    )
    return text


def growth_comment(growth: Mapping[str, Any], drawn: bool) -> str:
    """Return how time grows with length, against what theory expects."""
    lengths, cached, uncached = growth["lengths"], growth["cached"], growth["uncached"]
    seen = "[[fig:kv-cache]] and [[tab:kv-growth]] show it. " if drawn else ""
    span = f"Between lengths {count(lengths[0])} and {count(lengths[-1])}"
    ways = ((cached, "with"), (uncached, "without"))
    steps = [f"{_step_growth(one['step_ms'])} {name} the cache" for one, name in ways]
    return (
        f"{seen}{span} one step {listed(steps)}. From {count(growth['fitted_from'])} tokens on "
        f"the total time grows as length to the power of {cached['exponent']:.2f} with the cache, "
        f"{_exponent(cached['exponent'])}, and of {uncached['exponent']:.2f} without it, "
        f"{_exponent(uncached['exponent'])}. {_short_texts(growth)}{_speedups(growth)}"
    )


def _step_growth(step_ms: Sequence[float]) -> str:
    factor = step_ms[-1] / step_ms[0]
    ends = f"({significant(step_ms[0])} to {significant(step_ms[-1])} ms)"
    if 1 / _FLAT < factor < _FLAT:
        return f"takes nearly the same time {ends}"
    if factor > 1:
        return f"becomes {significant(factor, 2)} times as long {ends}"
    return f"becomes shorter {ends}"


def _exponent(value: float) -> str:
    if value < 1 - (_NEAR_LINEAR - 1):
        return "below linear"
    if value <= _NEAR_LINEAR:
        return "near to linear"
    if value < _NEAR_QUADRATIC:
        return "between linear and quadratic"
    if value <= 2 + (2 - _NEAR_QUADRATIC):
        return "near to quadratic"
    return "above quadratic"


def _short_texts(growth: Mapping[str, Any]) -> str:
    if growth["uncached"]["exponent"] >= _NEAR_QUADRATIC:
        return ""
    return (
        "Theory gives two at least without the cache, but only in the long run: a part of every "
        "step does not depend on the length (reading the weights, starting each operation), and "
        "at such lengths it still counts. "
    )


def _speedups(growth: Mapping[str, Any]) -> str:
    lengths, speedup = growth["lengths"], growth["speedup"]
    gains = [length for length, gain in zip(lengths, speedup, strict=True) if gain > 1]
    if not gains:
        return (
            "At none of these lengths is the cache quicker in total; at the last one the ratio "
            f"is {significant(speedup[-1])}."
        )
    end = (
        f"at {count(lengths[-1])} tokens the whole text is generated "
        f"{significant(speedup[-1])} times as fast"
    )
    if len(gains) == len(lengths):
        return f"The cache pays at every length measured; {end}."
    if gains == lengths[-len(gains) :]:
        return f"It pays from a length of {count(gains[0])} on; {end}."
    return f"It pays at {len(gains)} of {len(lengths)} lengths measured; {end}."


def _growth_table(found: Mapping[str, Any]) -> Table:
    growth = found["growth"]
    memory = {one["tokens"]: one for one in found["memory"]}
    lengths = growth["lengths"]
    # Lengths at which memory was measured, else an even choice that ends with the last one.
    wanted = [i for i, length in enumerate(lengths) if length in memory] or [*range(len(lengths))]
    stride = max(1, -(-len(wanted) // _MOST_ROWS))
    kept = sorted(wanted[::-1][::stride])
    with_memory = bool(memory.keys() & {lengths[i] for i in kept})
    rows = []
    for i in kept:
        row = [
            count(lengths[i]),
            seconds(growth["cached"]["total_s"][i]),
            seconds(growth["uncached"]["total_s"][i]),
            times(growth["speedup"][i]),
        ]
        if with_memory:
            one = memory[lengths[i]]
            row += [count(one["batch"]), mib(one["measured_bytes"]), mib(one["formula_bytes"])]
        rows.append(tuple(row))
    columns = ["Length", "With cache", "Without", "Speed-up"]
    if with_memory:
        columns += ["Texts", "Cache, measured", "Formula"]
    return Table(
        "tab:kv-growth",
        f"Time for all tokens up to a length ({plural(growth['batch'], 'text')} as one batch)"
        + (", and size of the cache in MiB, measured and by the formula." * with_memory or "."),
        tuple(columns),
        tuple(rows),
        "r" * len(columns),
        f"{_rounds(found)}. Measured on {hardware(found)}.",
    )


def _rounds(found: Mapping[str, Any]) -> str:
    whole = found["growth"].get("times")
    text = f"Median of {plural(found['repeats'], 'round')}, both ways taking turns"
    if not whole:
        return text
    return (
        f"{text}; spread (range over median) of the whole text {spread(whole['cached'])} with the "
        f"cache and {spread(whole['uncached'])} without"
    )


def memory_comment(found: Mapping[str, Any]) -> str:
    """Return what a token costs in the cache, and whether the measurement agrees."""
    formula, memory = found["formula"], found["memory"]
    text = (
        f"Here {formula['num_layers']} layers, {formula['num_heads']} heads of width "
        f"{formula['head_dim']} and {plural(formula['bytes_per_number'], 'byte')} a number make "
        f"{count(formula['kv_bytes_per_token'])} bytes for each token of each text"
    )
    if not memory:
        return f"{text}."
    largest = max(memory, key=lambda one: one["formula_bytes"])
    text += (
        f", or {mib(largest['formula_bytes'])} MiB for {plural(largest['batch'], 'text')} of "
        f"{plural(largest['tokens'], 'token')}. "
    )
    gaps = [one["measured_bytes"] / one["formula_bytes"] - 1 for one in memory]
    worst = max(gaps, key=abs)
    if worst == 0:
        return f"{text}The keys and values measured have exactly that size at every length."
    way = "more" if worst > 0 else "less"
    return (
        f"{text}The memory measured differs from the formula by at most "
        f"{percent(abs(worst), 2)} ({way})."
    )
