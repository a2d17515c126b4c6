"""Comparison of beam search, greedy decoding and sampling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from tinylm.measurement import Difference, Verdict
from tinylm.report.formatting import listed, percent, plural, significant
from tinylm.report.measurements import compared, difference, leaders, named, signed, times

Row = Mapping[str, Any]
Comparison = Mapping[str, Any]
_TRUE = "true"

_NOT_APART = "BLEU therefore does not separate the strategies."


def judgement(comparisons: Sequence[Comparison]) -> list[str]:
    """Return paragraphs that compare the strategies: quality in the largest comparison alone."""
    largest = max(comparisons, key=lambda comparison: comparison["num_prompts"])
    return [likelihood(largest), variety(largest), cost(comparisons), agreement(comparisons)]


def _ladder(comparison: Comparison) -> list[Row]:
    """Return greedy decoding and the beams, from narrow to wide."""
    rows = comparison["rows"]
    beams = sorted((row for row in rows if row["num_beams"]), key=lambda row: row["num_beams"])
    return [*(row for row in rows if row["name"] == "greedy"), *beams]


def likelihood(comparison: Comparison) -> str:
    """Return whether a wider beam finds more likely text, in sum and per token."""
    ladder = _ladder(comparison)
    first, widest = ladder[0], ladder[-1]
    whole, each = (
        _widening(comparison, measure)
        for measure in ("log_probability", "log_probability_per_token")
    )
    text = (
        f"*Likelihood.* With {plural(comparison['num_prompts'], 'prompt')} the mean "
        f"log-probability of a text in nats is {_each(ladder, 'log_probability', 1)}: {whole}. "
    )
    if len({row["mean_length"] for row in ladder}) > 1:
        text += (
            f"Per token it is {_each(ladder, 'log_probability_per_token', 3)}"
            f"{'' if each == whole else f': {each}'}. "
        )
    longer = difference(comparison, "length", widest["name"], first["name"])
    change = widest["mean_length"] / first["mean_length"] - 1
    if longer.verdict is Verdict.MORE:
        text += (
            f"The texts of {_name(widest)} are {percent(change, 0)} longer than those of "
            f"{_name(first)}, which by itself lowers their sum. "
        )
    elif longer.verdict is Verdict.LESS:
        text += (
            f"The texts of {_name(widest)} are {percent(-change, 0)} shorter than those of "
            f"{_name(first)}, which by itself raises their sum. "
        )
    true = difference(comparison, "log_probability_per_token", _TRUE, widest["name"])
    size = significant(abs(true.value), 2)
    return text + {
        Verdict.MORE: f"Per token the true continuations are {size} nats more likely than what "
        f"{_name(widest)} writes.",
        Verdict.LESS: f"Per token the true continuations are {size} nats less likely than what "
        f"{_name(widest)} writes.",
        Verdict.ALIKE: "Per token the true continuations are not measurably more or less likely "
        f"than what {_name(widest)} writes.",
        Verdict.UNKNOWN: "Whether the true continuations are more likely could not be measured.",
    }[true.verdict]  # fmt: skip


def _widening(comparison: Comparison, measure: str) -> str:
    ladder = _ladder(comparison)
    steps = [
        difference(comparison, measure, wide["name"], narrow["name"]).verdict
        for narrow, wide in pairwise(ladder)
    ]
    if all(step is Verdict.MORE for step in steps):
        return "every widening finds more likely text"
    if all(step is Verdict.LESS for step in steps):
        return "every widening finds *less* likely text"
    first = _name(ladder[0])
    return {
        Verdict.MORE: f"the widest beam finds more likely text than {first}, though not every "
        "widening makes a measurable difference",
        Verdict.LESS: f"the widest beam finds *less* likely text than {first}",
        Verdict.ALIKE: f"the text of the widest beam is not measurably more or less likely than "
        f"that of {first}",
        Verdict.UNKNOWN: "with a single prompt no difference can be measured",
    }[difference(comparison, measure, ladder[-1]["name"], ladder[0]["name"]).verdict]


def variety(comparison: Comparison) -> str:
    """Return how far repetition and distinct-n are from those of true texts."""
    rows, true = comparison["rows"], comparison["true"]
    ladder = _ladder(comparison)
    first, widest = ladder[0], ladder[-1]
    repeated = difference(comparison, "repetition", widest["name"], _TRUE)
    than = difference(comparison, "repetition", widest["name"], first["name"])
    text = (
        f"*Repetition and variety.* The texts of {_name(widest)} {_repeats(repeated)} the true "
        f"ones ({percent(widest['repetition'])} of the 4-grams, against "
        f"{percent(true['repetition'])}) and {_repeats(than)} those of {_name(first)} "
        f"({percent(first['repetition'])})"
    )
    distinct = difference(comparison, "distinct_2", widest["name"], _TRUE)
    own, wanted = widest["distinct"]["2"], true["distinct"]["2"]
    text += f". Their distinct-2 of {own:.3f} {_is(distinct)} that of the true ones ({wanted:.3f})."
    names = [row["name"] for row in rows]
    nearest, others = leaders(
        comparison, "distance", {row["name"]: -_distance(row, true) for row in rows}
    )
    text += (
        " Nearest to the true texts in distinct-2 and repetition together is "
        f"{named([nearest])[0]}{_unless_alike(others, len(names), 'farther')}."
    )
    likelier = difference(comparison, "log_probability_per_token", widest["name"], _TRUE)
    if likelier.verdict is Verdict.MORE and (
        distinct.verdict is Verdict.LESS or repeated.verdict is Verdict.MORE
    ):
        text += (
            " The search thus finds text that is more likely under the model than the true "
            "continuations, and less varied or more repetitive; Holtzman et al. [[holtzman2020]] "
            "report the same for human text."
        )
    return text


def _repeats(change: Difference) -> str:
    return {
        Verdict.MORE: "repeat themselves more than",
        Verdict.LESS: "repeat themselves less than",
        Verdict.ALIKE: "do not repeat themselves measurably more or less than",
        Verdict.UNKNOWN: "cannot be compared in repetition with",
    }[change.verdict]


def _is(change: Difference) -> str:
    return {
        Verdict.MORE: "is above",
        Verdict.LESS: "is below",
        Verdict.ALIKE: "is not measurably different from",
        Verdict.UNKNOWN: "cannot be compared with",
    }[change.verdict]


def _distance(row: Row, true: Row) -> float:
    return float(
        abs(row["distinct"]["2"] - true["distinct"]["2"])
        + abs(row["repetition"] - true["repetition"])
    )


def _unless_alike(alike: Sequence[str], among: int, word: str) -> str:
    """Return which others are no worse measurably than the best of ``among``."""
    if not alike:
        return ""
    if len(alike) == among - 1:
        return f", but none of the others is measurably {word}"
    are = "is" if len(alike) == 1 else "are"
    return f", but {listed(named(alike))} {are} not measurably {word}"


def cost(comparisons: Sequence[Comparison]) -> str:
    """Return the time of each beam relative to greedy decoding, by number of prompts."""
    largest_first = sorted(comparisons, key=lambda comparison: -comparison["num_prompts"])
    text = "*Cost.* For every prompt a step computes as many rows as there are beams. "
    return text + " ".join(_cost(comparison) for comparison in largest_first)


def _cost(comparison: Comparison) -> str:
    greedy, *beams = _ladder(comparison)
    parts: list[str] = []
    below: list[str] = []
    above: list[str] = []
    for row in beams:
        ratio = compared(row["seconds"], greedy["seconds"])
        parts.append(
            {
                Verdict.MORE: f"{_name(row)} takes {times(ratio.ratio)} the time",
                Verdict.LESS: f"{_name(row)} is faster ({times(ratio.ratio)} the time)",
                Verdict.ALIKE: f"the time of {_name(row)} is not measurably different",
                Verdict.UNKNOWN: f"the time of {_name(row)} could not be measured",
            }[ratio.verdict]
        )
        if ratio.high < row["num_beams"]:
            below.append(_name(row))
        elif ratio.low > row["num_beams"]:
            above.append(_name(row))
    prompts = plural(comparison["num_prompts"], "prompt")
    text = f"With {prompts}, compared with {_name(greedy)} decoding, {listed(parts)}"
    sides = [(below, "less"), (above, "more")]
    judged = [
        f"measurably {word} than the number of beams{_for(names, len(beams))}"
        for names, word in sides
        if names
    ]
    return f"{text}; this is {listed(judged)}." if judged else f"{text}."


def _for(names: Sequence[str], among: int) -> str:
    """Return of which of so many strategies something is said; nothing if of all."""
    return "" if len(names) == among else f" for {listed(names)}"


def agreement(comparisons: Sequence[Comparison]) -> str:
    """Return what BLEU says of the strategies, and whether it agrees with likelihood."""
    smallest, largest = (
        choose(comparisons, key=lambda comparison: comparison["num_prompts"])
        for choose in (min, max)
    )
    text = _bleu(largest)
    if smallest is not largest:
        second = _bleu(smallest)
        if second.endswith(_NOT_APART):  # which is not said twice
            text = text.removesuffix(f" {_NOT_APART}")
        text += f" {second}"
    return f"*BLEU.* {text}"


def _bleu(comparison: Comparison) -> str:
    rows = {row["name"]: row for row in comparison["rows"]}
    best, alike = leaders(
        comparison, "bleu", {name: row["bleu_corpus"] for name, row in rows.items()}
    )
    text = (
        f"With {plural(comparison['num_prompts'], 'prompt')} {named([best])[0]} has the highest "
        f"corpus BLEU ({rows[best]['bleu_corpus']:.2f})"
        f"{_unless_alike(alike, len(rows), 'lower')}."
    )
    if len(alike) == len(rows) - 1:
        return f"{text} {_NOT_APART}"
    likeliest, _ = leaders(
        comparison,
        "log_probability_per_token",
        {name: row["log_probability_per_token"] for name, row in rows.items()},
    )
    if likeliest == best:
        return f"{text} Its text is also the most likely per token: the two measures agree."
    if likeliest in alike:
        return (
            f"{text} The most likely text per token is that of {named([likeliest])[0]}: the two "
            "measures do not contradict each other."
        )
    behind = difference(comparison, "bleu", likeliest, best)
    return (
        f"{text} The most likely text per token is that of {named([likeliest])[0]}, whose BLEU is "
        f"{-behind.value:.2f} points lower: the two measures do not agree."
    )


def _each(ladder: Sequence[Row], key: str, digits: int) -> str:
    return listed([f"{signed(row[key], digits)} with {_name(row)}" for row in ladder])


def _name(row: Row) -> str:
    return named([row["name"]])[0]
