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
from tinylm.report.passages import passages

Row = Mapping[str, Any]

TEXT = passages(__file__)
_NAMES = {"num_layers": "layers", "num_heads": "heads", "learning_rate": "learning rate"}
_SVG = "figures/hyperparameters.svg"


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``hyperparameters``."""
    result = results.results.get("hyperparameters")
    if result is None:
        return []
    blocks: list[Block] = [
        Heading(1, "Hyperparameters", "sec:hyperparameters"),
        *_method(result),
        Paragraph(hyperparameters_comment(result)),
        _table(result),
    ]
    if results.has_figure(_SVG):
        comment = " ".join([hyperparameters_comment(result), TEXT.line("before the figure")])
        blocks[-2] = Paragraph(comment)
        blocks.append(
            Figure(
                "fig:hyperparameters",
                _SVG,
                TEXT.line("figure"),
                TEXT.line("figure, without seeing it"),
            )
        )
    return blocks


def _method(result: Row) -> list[Block]:
    own = result["own"]
    return TEXT.blocks(
        "method",
        steps=plural(result["steps"], "step"),
        tokens=plural(result["tokens"], "token"),
        layers=plural(own["num_layers"], "layer"),
        heads=plural(own["num_heads"], "head"),
        rate=setting(own["learning_rate"]),
        repeats=count(len(result["repeats"])),
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
            perplexities = [
                f"{_ppl(row['validation_loss'])} with {_change(row)} "
                f"({difference(result, row).word})"
                for row in rows
            ]
            text += f"It is {listed(perplexities)}. "
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
    rows = [("the run's own", count(own["parameters"]), _ppl(mean(repeats)), "–")]
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
        TEXT.line("table"),
        ("Changed", "Parameters", "Perplexity", "Beside the run's own"),
        tuple(rows),
        "lrrl",
        TEXT.line(
            "table's note",
            windows=plural(result["validation_windows"], "window"),
            repeats=plural(len(repeats), "training"),
            lowest=_ppl(min(repeats)),
            highest=_ppl(max(repeats)),
        ),
    )


def _ppl(loss: float) -> str:
    return significant(math.exp(min(loss, 700.0)))
