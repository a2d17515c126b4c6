"""Induction heads: how they form in a small model, and which the run has."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.experiments.induction.settings import FORMED
from tinylm.measurement import Difference
from tinylm.report.blocks import Block, Heading, Paragraph, Table
from tinylm.report.formatting import count, duration, head_name, listed, plural, significant
from tinylm.report.measurements import in_nats, signed
from tinylm.report.passages import passages

TEXT = passages(__file__)

Row = Mapping[str, Any]


def summary(result: Row) -> str:
    """Return the experiment in a paragraph, as inline markup."""
    own = [] if result["run"] is None else [run_comment(result["run"])]
    return " ".join([TEXT.line("summary"), forming_comment(result["curve"]), *own])


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``induction``."""
    result = results.results.get("induction")
    if result is None:
        return []
    formed, own = result["formed"], result["run"]
    section: list[Block] = [
        Heading(1, "Induction heads", "sec:induction"),
        *TEXT.blocks("technique"),
        Heading(2, "How they form", "sec:induction-forming"),
        *TEXT.blocks(
            "setting",
            heads=count(result["model"]["num_heads"]),
            parameters=count(result["model"]["parameters"]),
            steps=plural(result["training"]["steps"], "step"),
            seconds=duration(result["training"]["seconds"]),
        ),
        *results.told_figure(
            "induction-forming",
            TEXT.line("forming, before the figure"),
            TEXT.line("forming, figure"),
            TEXT.line("forming, figure, without seeing it"),
        ),
        Paragraph(forming_comment(result["curve"])),
        _heads_table("tab:induction-heads", "the two-layer model", formed),
        Paragraph(composition_comment(formed["composition"])),
        Heading(2, "Without these heads", "sec:induction-ablation"),
        *TEXT.blocks("ablation"),
        *results.told_figure(
            "induction-ablation",
            TEXT.line("ablation, before the figure"),
            TEXT.line("ablation, figure"),
            TEXT.line("ablation, figure, without seeing it"),
        ),
        Paragraph(ablation_comment("In the two-layer model", formed)),
        Heading(2, "The run's own heads", "sec:induction-run"),
    ]
    if own is None:
        return [*section, Paragraph(TEXT.line("too small"))]
    return [
        *section,
        Paragraph(run_comment(own) + " " + TEXT.line("run")),
        _heads_table("tab:induction-run", "the run's model", own),
        Paragraph(ablation_comment("In the run's model", own)),
        *([Paragraph(stories_comment(own["stories"]))] if own["stories"] else []),
    ]


def _heads_table(key: str, model: str, measured: Row) -> Table:
    columns = ("previous_token", "duplicate_token", "prefix_matching", "first_token", "copying",
               "eigenvalues")  # fmt: skip
    return Table(
        key,
        TEXT.line("heads, table", length=count(measured["length"]), model=model),
        ("Head", "Previous", "Duplicate", "Prefix", "First", "Copying", "Eigenvalues"),
        tuple(
            (head_name(row["layer"], row["head"]), *(signed(row[column], 2) for column in columns))
            for row in measured["heads"]
        ),
        "lrrrrrr",
        TEXT.line("heads, table's note", chance=significant(1 / measured["length"], 2)),
    )


def _best(row: Row) -> float:
    return float(max(max(layer) for layer in row["prefix_matching"]))


def forming_comment(curve: Sequence[Row]) -> str:
    """Return when induction heads formed, and what the loss and the other scores did then."""
    last = curve[-1]
    if _best(last) < FORMED:
        return (
            f"No induction head formed in {plural(last['step'], 'step')}: the highest "
            f"prefix-matching score is {_best(last):.2f}. A longer training "
            "(`experiments.induction.steps`) gives it time."
        )
    after = next(i for i, row in enumerate(curve) if _best(row) >= FORMED)
    here = curve[after]
    text = (
        f"By step {count(here['step'])} a head gives most of its weight to what followed the same "
        f"token before, with a prefix-matching score of {_best(here):.2f}"
    )
    if not after:
        return f"{text}."
    falls = [
        first["second_half"] - second["second_half"] for first, second in itertools.pairwise(curve)
    ]
    steepest = falls.index(max(falls))
    before, then = curve[steepest], curve[steepest + 1]
    text += (
        f". The loss on the second half falls most between steps {count(before['step'])} and "
        f"{count(then['step'])}, from {before['second_half']:.2f} to {then['second_half']:.2f} "
        f"nats a token. Over these steps the highest prefix-matching score goes from "
        f"{_best(before):.2f} to {_best(then):.2f}, the highest K-composition score above that of "
        f"random heads from {_composed(before):.3f} to {_composed(then):.3f}, and the in-context "
        f"learning score from {signed(before['in_context'], 2)} to "
        f"{signed(then['in_context'], 2)} nats. "
    )
    if steepest + 1 == after:
        return text + "It is the same stretch in which the first induction head appears."
    return text + "The first induction head does not appear in that same stretch."


def _composed(row: Row) -> float:
    return float(max(max(pair) for pair in row["key_composition"]))


def composition_comment(compositions: Mapping[str, Row]) -> str:
    """Return which pair of heads composes most by keys, and how far queries and values do."""
    key = compositions["key"]
    score, first, second = _highest(key)
    text = (
        f"By keys, head {head_name(1, second)} reads head {head_name(0, first)} most: their score "
        f"is {score:.3f}, and those of random heads have a mean of {key['baseline']:.3f}, which it "
        f"exceeds by {_deviations(score, key)}. "
    )
    others = [
        f"{score:.3f} by {reads} ({_deviations(score, compositions[reading])})"
        for reading, reads in (("query", "queries"), ("value", "values"))
        for score, _, _ in [_highest(compositions[reading])]
    ]
    return text + f"The highest score of any pair is {listed(others)}."


def _highest(composition: Row) -> tuple[float, int, int]:
    return max(
        (score, first, second)
        for first, row in enumerate(composition["scores"])
        for second, score in enumerate(row)
    )


def _deviations(score: float, composition: Row) -> str:
    distance = (score - composition["baseline"]) / composition["spread"]
    return f"{signed(distance, 1)} standard deviations"


def ablation_comment(where: str, measured: Row) -> str:
    """Return what heads with high prefix-matching scores are worth beside as many others."""
    rows, previous = measured["ablation"], measured["previous"] or ()
    if not rows:
        return f"{where} there are too few heads to compare them with others."
    # The most heads beside which others can be drawn that have the previous-token head not.
    most = [row for row in rows if split(row["random"], previous)[1]]
    chosen = [rows[0], *most[-1:]] if len(most[1:]) else rows[:1]
    starts = (f"{where}, without", "Without")
    return " ".join(
        _ablated(start, row, previous) for start, row in zip(starts, chosen, strict=False)
    )


def _ablated(start: str, row: Row, previous: Sequence[int]) -> str:
    heads = [head_name(*head) for head in row["heads"]]
    which = f"head {heads[0]}" if len(heads) == 1 else f"heads {listed(heads)}"
    changes = in_nats(Difference.from_result(row["more"]))
    text = (
        f"{start} {which} the loss on the second half changes by {changes}. Others in the same "
        "number, drawn at random, change it by "
    )
    holding, without = split(row["random"], previous)
    if not holding:
        return f"{text}{_spanned(without)}."
    which = f"the previous-token head, {head_name(*previous)}, is among them"
    if not without:
        return f"{text}{_spanned(holding)}; {which}."
    return f"{text}{_spanned(without)}, and where {which} by {_spanned(holding)}."


def split(random: Sequence[Row], previous: Sequence[int]) -> tuple[list[float], list[float]]:
    """Return what random sets change that hold a head, and what the others do.

    Args:
        random: of a row of ``ablation``.
        previous: layer and head of the previous-token head; empty: there is none.
    """
    holding = [row["more"] for row in random if previous in row["heads"]]
    return holding, [row["more"] for row in random if previous not in row["heads"]]


def _spanned(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{signed(values[0], 3)} nats (1 set)"
    median, low, high = (
        signed(value, 3) for value in (statistics.median(values), min(values), max(values))
    )
    return f"{median} nats in the median of {plural(len(values), 'set')} ({low} to {high})"


def run_comment(own: Row) -> str:
    """Return whether the run has induction heads."""
    rows = sorted(own["heads"], key=lambda row: -row["prefix_matching"])
    above = [
        head_name(row["layer"], row["head"]) for row in rows if row["prefix_matching"] >= FORMED
    ]
    if above:
        which = "head" if len(above) == 1 else "heads"
        verb = "gives" if len(above) == 1 else "give"
        text = (
            f"Of the run's model, {which} {listed(above)} {verb} most of the weight to what "
            "followed the same token before. "
        )
    else:
        best = rows[0]
        text = (
            "No head of the run's model gives most of its weight to what followed the same token "
            f"before; the highest prefix-matching score is {best['prefix_matching']:.2f}, of head "
            f"{head_name(best['layer'], best['head'])}. "
        )
    return text + (
        f"Its loss on repeated random tokens is {own['first_half']:.2f} nats a token on the first "
        f"half and {own['second_half']:.2f} on the second."
    )


def stories_comment(stories: Row) -> str:
    """Return how much the model learns within its own stories, and which heads that rests on."""
    whole, without = (Difference.from_result(stories[key]) for key in ("whole", "without"))
    heads = [head_name(*head) for head in stories["heads"]]
    random = stories["random"]
    text = (
        f"On {plural(stories['stories'], 'validation story', 'validation stories')} the loss at "
        f"token {count(stories['late'])} less that at token {count(stories['early'])}, the "
        f"in-context learning score, is {in_nats(whole)}, over the stories that are so long. "
    )
    which = f"head {heads[0]}" if len(heads) == 1 else f"heads {listed(heads)}"
    return text + (
        f"Without {which}, of the highest prefix-matching "
        f"{'score' if len(heads) == 1 else 'scores'}, it is {in_nats(without)}, and "
        f"{signed(min(random), 3)} to {signed(max(random), 3)} nats without as many others."
    )
