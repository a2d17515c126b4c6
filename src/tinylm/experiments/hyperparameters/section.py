"""Hyperparameters: short trainings that differ from the run in depth, heads or learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import mean
from typing import Any

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.measurement import Difference, Noise, Verdict
from tinylm.report.blocks import Block, Figure, Heading, Paragraph, Table
from tinylm.report.formatting import count, listed, plural, setting, significant

Row = Mapping[str, Any]

_NAMES = {"num_layers": "layers", "num_heads": "heads", "learning_rate": "learning rate"}
_SVG = "figures/hyperparameters.svg"


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``hyperparameters``."""
    result = results.results.get("hyperparameters")
    if result is None:
        return []
    made: list[Block] = [
        Heading(1, "Hyperparameters", "sec:hyperparameters"),
        Paragraph(_setting(result)),
        Paragraph(hyperparameters_comment(result)),
        _table(result),
    ]
    if results.has_figure(_SVG):
        made += [
            Paragraph("[[fig:hyperparameters]] draws the same."),
            Figure(
                "fig:hyperparameters",
                _SVG,
                "Validation perplexity after a short training, one setting changed at a time. "
                "Filled: the run's own settings, of which each training is a point.",
                "Perplexity against depth, number of heads and learning rate.",
            ),
        ]
    return made


def _setting(result: Row) -> str:
    own = result["own"]
    return (
        f"How much do depth, number of heads and learning rate matter? Models like that of this "
        f"run were trained for {plural(result['steps'], 'step')} each, on "
        f"{plural(result['tokens'], 'token')}, with the run's schedule shortened to that. One "
        f"setting at a time was changed from the run's own: {plural(own['num_layers'], 'layer')}, "
        f"{plural(own['num_heads'], 'head')} and a learning rate of "
        f"{setting(own['learning_rate'])}. The width of a head follows from their number, so that "
        "attention keeps its parameters. The run's own settings were trained "
        f"{count(len(result['repeats']))} times, with other random numbers each time. A change is "
        "said to make a difference if the interval of 95\u202f% of the difference, by the scatter "
        "of these trainings, leaves 0 out. So short a training shows what is learned soonest; a "
        "longer one may order the settings otherwise."
    )


def hyperparameters_comment(result: Row) -> str:
    """Return what each change makes of the perplexity, and whether any is for the better."""
    text = (
        f"With its own settings the model reaches a validation perplexity of "
        f"{_ppl(mean(result['repeats']))}, the mean of its trainings ([[tab:hyperparameters]]). "
    )
    for varied in _NAMES:
        rows = [row for row in result["changes"] if row["varied"] == varied]
        if rows:
            told = [
                f"{_ppl(row['validation_loss'])} with {_change(row)} "
                f"({difference(result, row).word})"
                for row in rows
            ]
            text += f"It is {listed(told)}. "
    better = [row for row in result["changes"] if difference(result, row).verdict is Verdict.LESS]
    if better:
        best = min(better, key=lambda row: float(row["validation_loss"]))
        text += f"In a training of this length {_change(best)} would be the best of these changes."
    else:
        text += "None of these changes is measurably better in a training of this length."
    return text


def difference(result: Row, row: Row) -> Difference:
    """Compare a changed training with the mean of the run's own, in nats a token."""
    repeats = result["repeats"]
    return Noise.of(repeats).difference(row["validation_loss"], mean(repeats), (1, len(repeats)))


def _change(row: Row) -> str:
    if row["varied"] == "learning_rate":
        return f"a learning rate of {setting(row['value'])}"
    return plural(row["value"], _NAMES[row["varied"]].removesuffix("s"))


def _table(result: Row) -> Table:
    own, repeats = result["own"], result["repeats"]
    around = f"{_ppl(min(repeats))} to {_ppl(max(repeats))}"
    rows = [("the run's own", count(own["parameters"]), _ppl(mean(repeats)), around)]
    rows += [
        (
            _change(row),
            count(row["parameters"]),
            _ppl(row["validation_loss"]),
            difference(result, row).word,
        )
        for row in result["changes"]
    ]
    return Table(
        "tab:hyperparameters",
        "Validation perplexity after short trainings that differ in one setting.",
        ("Changed", "Parameters", "Perplexity", "Beside the run's own"),
        tuple(rows),
        "lrrl",
        f"Perplexity on {_windows(result)} of the validation split, the same for all. First row: "
        "the mean of several trainings, and the range of them.",
    )


def _windows(result: Row) -> str:
    return plural(result["validation_windows"], "window")


def _ppl(loss: float) -> str:
    return significant(math.exp(min(loss, 700.0)))
