"""Subsets of heads: exact values, and what cheaper methods say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinylm.experiments.document.answered import right_comment
from tinylm.experiments.document.inputs import ReportInputs
from tinylm.measurement import CONFIDENCE, Verdict, mean
from tinylm.report.blocks import Block, Figure, Heading, Table, literal
from tinylm.report.formatting import count, head_name, listed, percent, plural, significant
from tinylm.report.measurements import signed
from tinylm.report.passages import passages

Row = Mapping[str, Any]

TEXT = passages(__file__)
_SVG = "figures/head-subsets.svg"
_LABELS = {
    "ablation": "ablation of each head",
    "alone": "each head alone",
    "attribution patching": "attribution patching",
    "Taylor": "Taylor importance",
}
_ENOUGH = 0.9
"""Share of what all heads add that the smallest best subset is named for."""


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``head-subsets``."""
    result = results.results.get("head-subsets")
    if result is None:
        return []
    comment = abstract(result)
    heads = len(result["heads"])
    drawn = results.has_figure(_SVG)
    blocks: list[Block] = [
        Heading(1, "Subsets of heads", "sec:head-subsets"),
        *TEXT.blocks(
            "method",
            asks=result["asks"],
            clean=literal(result["example"]["clean"]),
            answer=literal(result["example"]["answer"]),
            wrong=literal(result["example"]["wrong"]),
            subsets=plural(2**heads, "subset"),
            heads=plural(heads, "head"),
            pairs=plural(result["pairs"], "pair"),
        ),
        *(
            TEXT.blocks("results, with the figure", comment=comment)
            if drawn
            else TEXT.blocks("results", comment=comment)
        ),
        _table(result),
    ]
    if drawn:
        blocks.append(
            Figure(
                "fig:head-subsets",
                _SVG,
                TEXT.line("figure"),
                TEXT.line("figure, without seeing it"),
            )
        )
    return blocks


def abstract(result: Row) -> str:
    """Return what the heads are worth, how often the answer is right, and which methods see it."""
    sentences = (_worth, _right, _enough, _together, _ranking, _greedy)
    return " ".join(filter(None, (sentence(result) for sentence in sentences)))


def _worth(result: Row) -> str:
    values = [mean(head["by_pair"]) for head in result["heads"]]
    above = [i for i, value in enumerate(values) if value.verdict is Verdict.MORE]
    below = [i for i, value in enumerate(values) if value.verdict is Verdict.LESS]
    total = result["whole"] - result["none"]
    text = (
        f"All heads together change the logit difference by {_number(total)}, from "
        f"{_number(result['none'])} to {_number(result['whole'])}."
    )
    if not above:
        text += " No head's value is measurably above 0."
    else:
        first = max(above, key=lambda i: float(result["heads"][i]["value"]))
        which = f"head {_name(result, first)}, {_number(result['heads'][first]['value'])}"
        if len(above) == 1:
            text += f" The value of one head alone is measurably above 0: {which}."
        else:
            text += (
                f" The values of {plural(len(above), 'head')} are measurably above 0; the greatest "
                f"is that of {which}."
            )
    if below:
        names = listed([_name(result, i) for i in below])
        heads = "head" if len(below) == 1 else "heads"
        text += f" Below 0, against the right answer, {heads} {names}."
    return text


def _right(result: Row) -> str:
    return right_comment(result["right_by_pair"])


def _enough(result: Row) -> str:
    """Return how few heads together reach nearly all, if it is fewer than all."""
    total, best = result["whole"] - result["none"], result["subsets"]["best"]
    if total <= 0:
        return ""
    wanted = result["none"] + _ENOUGH * total
    size = next(i for i, reached in enumerate(best) if reached >= wanted)
    if size == len(result["heads"]):
        return "No fewer than all heads reach nine tenths of that."
    names = listed([_name(result, i) for i in result["subsets"]["members"][size]])
    return f"Of all subsets the smallest that reaches nine tenths of that has {names}."


def _greedy(result: Row) -> str:
    """Return at how many sizes a greedy search misses the best subset."""
    best, greedy = result["subsets"]["best"], result["subsets"]["greedy"]
    missed = [i for i, (most, value) in enumerate(zip(best, greedy, strict=True)) if value < most]
    if not missed:
        return "Leaving out one head after another finds the best subset of every size."
    worst = max(best[i] - greedy[i] for i in missed)
    sizes = "size" if len(missed) == 1 else "sizes"
    return (
        f"Leaving out one head after another misses the best subset at {len(missed)} {sizes} of "
        f"{len(best)}, by no more than {_number(worst)}."
    )


def _together(result: Row) -> str:
    """Return which two heads do most, or least, together beyond what they do apart."""
    first = result["interactions"][0] if result["interactions"] else None
    if first is None:
        return ""
    names = " and ".join(_name(result, head) for head in first["heads"])
    interaction = mean(first["by_pair"])
    low, high = (_number(end) for end in interaction.ends)
    what = {
        Verdict.MORE: "which reach more together than apart",
        Verdict.LESS: "which can stand in for each other",
    }.get(interaction.verdict, "and not measurably different from 0")
    return (
        f"The greatest interaction, {_number(first['value'])} ({percent(CONFIDENCE, 0)} interval: "
        f"{low} to {high}), is that of heads {names}, {what}."
    )


def _number(value: float) -> str:
    return significant(value).replace("-", "−")


def _ranking(result: Row) -> str:
    known = {
        name: method["rank_correlation"]
        for name, method in result["methods"].items()
        if method["rank_correlation"] is not None
    }
    if not known:
        return ""
    best, worst = max(known, key=lambda name: known[name]), min(known, key=lambda name: known[name])
    text = f"The order of the heads by {_LABELS[best]} is nearest to the exact"
    text += f" (rank correlation {signed(known[best], 2)})"
    if worst != best:
        text += f", that by {_LABELS[worst]} the farthest from it ({signed(known[worst], 2)})"
    return text + "."


def _name(result: Row, head: int) -> str:
    return head_name(*divmod(head, result["num_heads"]))


def _table(result: Row) -> Table:
    half = len(result["heads"]) // 2
    rows = []
    for name, method in result["methods"].items():
        correlation = method["rank_correlation"]
        rows.append(
            (
                _LABELS[name],
                "–" if correlation is None else signed(correlation, 2),
                _number(result["subsets"][name][half]),
            )
        )
    rows.append(("greedy search", "–", _number(result["subsets"]["greedy"][half])))
    return Table(
        "tab:head-subsets",
        TEXT.line("table"),
        ("Method", "Rank correlation", "Half"),
        tuple(rows),
        "lrr",
        TEXT.line(
            "table's note",
            half=count(half),
            best=_number(result["subsets"]["best"][half]),
        ),
    )
