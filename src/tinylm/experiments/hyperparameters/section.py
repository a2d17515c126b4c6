"""Hyperparameters: short trainings that differ from the run in depth, heads or learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import mean
from typing import Any

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.measurement import Difference, Noise, Verdict
from tinylm.report.blocks import Block, Figure, Heading, Table
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
    comment = hyperparameters_comment(result)
    drawn = results.has_figure(_SVG)
    blocks: list[Block] = [
        Heading(1, "Hyperparameters", "sec:hyperparameters"),
        *_method(result),
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
    """Return which changes lower or raise the perplexity measurably."""
    own = mean(result["repeats"])
    rows = result["changes"]
    if not rows:
        return "No other settings were trained."
    by_verdict: dict[Verdict, list[Row]] = {verdict: [] for verdict in Verdict}
    for row in rows:
        by_verdict[difference(result, row).verdict].append(row)
    lower, higher = by_verdict[Verdict.LESS], by_verdict[Verdict.MORE]
    start = "In a training of this length"
    if lower:
        best = min(lower, key=lambda row: float(row["validation_loss"]))
        lowest = f"; it is lowest with {_change(best)}" if len(lower) > 1 else ""
        text = (
            f"{start} the perplexity is measurably lower with {listed(list(map(_change, lower)))}"
            f"{lowest}, {_ppl(best['validation_loss'])} against {_ppl(own)} with the run's own "
            "settings."
        )
    elif higher:
        text = f"{start} no change lowers the perplexity of {_ppl(own)} measurably."
    elif by_verdict[Verdict.UNKNOWN]:
        return "Whether the changes make a difference could not be measured."
    else:
        farthest = max(rows, key=lambda row: abs(float(row["validation_loss"]) - own))
        return (
            f"{start} no change makes a measurable difference: with "
            f"{plural(len(result['repeats']), 'seed')} even a perplexity of "
            f"{_ppl(farthest['validation_loss'])} is not measurably different from {_ppl(own)}."
        )
    if higher:
        text += f" It is measurably higher with {listed(list(map(_change, higher)))}."
    return text


def difference(result: Row, row: Row) -> Difference:
    """Compare a changed training with the mean of the run's own, in nats per token."""
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
        ("Changed", "Parameters", "Perplexity", "Compared with the run's own"),
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
