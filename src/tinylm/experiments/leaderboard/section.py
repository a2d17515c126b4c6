"""The leaderboard: kinds of models and tokenizers by bits a byte at one budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.measurement import CONFIDENCE, Verdict, mean
from tinylm.report.blocks import Block, Heading, Paragraph, Table
from tinylm.report.formatting import count, listed, millions, percent, plural, significant
from tinylm.report.measurements import hardware, over_seeds
from tinylm.report.passages import passages

TEXT = passages(__file__)

Row = Mapping[str, Any]
_DIGITS = 3
"""Decimals of bits a byte."""


def summary(result: Row) -> str:
    """Return the experiment in a paragraph, as inline markup."""
    beginning = TEXT.line("summary")
    return f"{beginning} {first_comment(result)}"


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``leaderboard``."""
    result = results.results.get("leaderboard")
    if result is None:
        return []
    return [
        Heading(1, "Models and tokenizers at one budget", "sec:leaderboard"),
        *TEXT.blocks(
            "technique",
            flops=millions(result["flops"]),
            reference=str(result["reference"]),
            layers=plural(result["num_layers"], "layer"),
            width=count(result["hidden_size"]),
            context=plural(result["context_length"], "token"),
            vocabulary=count(result["vocab_size"]),
            seeds=plural(len(result["seeds"]), "seed"),
            texts=plural(result["texts"], "validation text"),
            bytes=count(result["bytes"]),
            confidence=percent(CONFIDENCE, 0),
        ),
        Paragraph(first_comment(result)),
        Paragraph(f"{average_comment(result, 'model')} {average_comment(result, 'tokenizer')}"),
        Paragraph(agreement_comment(result)),
        *results.told_figure(
            "leaderboard",
            TEXT.line("before the figure"),
            TEXT.line("figure"),
            TEXT.line("figure, without seeing it"),
        ),
        _table(result),
    ]


def ordered(rows: Sequence[Row]) -> list[Row]:
    """Return rows by their mean bits a byte, the fewest first."""
    return sorted(rows, key=lambda row: fmean(row["bits_per_byte"]))


def verdict(row: Row, other: Row) -> Verdict:
    """Return whether one needs more bits than another, seed by seed."""
    pairs = zip(row["bits_per_byte"], other["bits_per_byte"], strict=True)
    return mean([first - second for first, second in pairs]).verdict


def averages(result: Row, key: str) -> list[Row]:
    """Return the mean bits a byte of each seed over all rows of a model or tokenizer.

    Args:
        result: of the experiment.
        key: ``model`` or ``tokenizer``.
    """
    names = dict.fromkeys(row[key] for row in result["rows"])
    made: list[Row] = []
    for name in names:
        own = [row["bits_per_byte"] for row in result["rows"] if row[key] == name]
        made.append(
            {"name": name, "bits_per_byte": [fmean(seed) for seed in zip(*own, strict=True)]}
        )
    return made


def _named(row: Row) -> str:
    return f"{row['model']} with {row['tokenizer']}"


def _bits(row: Row) -> str:
    return over_seeds(row["bits_per_byte"], _DIGITS)


def first_comment(result: Row) -> str:
    """Return which pair needs the fewest bits, which cannot be told from it, and which the most."""
    best, *others = ordered(result["rows"])
    alike = [row for row in others if verdict(row, best) is not Verdict.MORE]
    text = f"The fewest bits a byte are those of {_named(best)}, {_bits(best)}"
    if alike:
        text += f"; no difference from it can be told for {listed(list(map(_named, alike)))}"
    last = others[-1]
    return f"{text}. The most are those of {_named(last)}, {_bits(last)}."


def average_comment(result: Row, key: str) -> str:
    """Return how models compare over all tokenizers, or tokenizers over all models."""
    best, *others = ordered(averages(result, key))
    over = {"model": "tokenizers", "tokenizer": "models"}[key]
    more = [row for row in others if verdict(row, best) is Verdict.MORE]
    rest = [row for row in others if row not in more]
    text = f"On average over all {over} {best['name']} needs the fewest, {_bits(best)}"
    if more:
        text += f"; measurably more {listed([_short(row) for row in more])}"
    if rest:
        text += f"; no difference can be told for {listed([_short(row) for row in rest])}"
    return f"{text}."


def _short(row: Row) -> str:
    return f"{row['name']} ({fmean(row['bits_per_byte']):.2f})"


def agreement_comment(result: Row) -> str:
    """Return for how many models the tokenizer that is best on average is also the best."""
    models = list(dict.fromkeys(row["model"] for row in result["rows"]))
    best = ordered(averages(result, "tokenizer"))[0]["name"]
    first = [
        ordered([row for row in result["rows"] if row["model"] == model])[0]["tokenizer"]
        for model in models
    ]
    return (
        f"That tokenizer, {best}, has the lowest mean with {first.count(best)} of "
        f"{plural(len(models), 'kind')} of models."
    )


def _table(result: Row) -> Table:
    rows = ordered(result["rows"])
    verdicts = [verdict(row, rows[0]) for row in rows]
    return Table(
        "tab:leaderboard",
        TEXT.line("table"),
        ("", "Model", "Tokenizer", "Bits a byte", "Width", "Parameters", "Tokens", "Tokens/s"),
        tuple(
            (
                str(place),
                row["model"],
                row["tokenizer"],
                _bits(row),
                count(row["hidden_size"]),
                count(row["parameters"]),
                count(row["tokens"]),
                significant(fmean(row["tokens_per_second"])),
            )
            for place, row in enumerate(rows, 1)
        ),
        "rllrrrrr",
        TEXT.line("table's note", confidence=percent(CONFIDENCE, 0), machine=hardware(result)),
        emphasised=tuple(
            place for place, each in enumerate(verdicts) if place == 0 or each is Verdict.ALIKE
        ),
    )
