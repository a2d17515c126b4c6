"""Circuit: the fewest connections that answer a question as the whole model does."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean
from typing import Any

from tinylm.experiments.document.answered import right_comment, right_share
from tinylm.experiments.document.inputs import ReportInputs
from tinylm.report.blocks import Block, Figure, Heading, Table, literal
from tinylm.report.formatting import count, listed, percent, plural
from tinylm.report.passages import passages

Row = Mapping[str, Any]

TEXT = passages(__file__)
_SVG = "figures/circuit.svg"
_KEPT = 0.5
"""Share of the faithfulness wanted below which a circuit does not hold on other pairs."""


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``circuit``."""
    result = results.results.get("circuit")
    if result is None:
        return []
    comment = " ".join([*map(_comment, result["behaviours"]), *map(_left_out, result["left_out"])])
    drawn = results.has_figure(_SVG)
    blocks: list[Block] = [
        Heading(1, "Circuits", "sec:circuit"),
        *TEXT.blocks(
            "method",
            steps=plural(result["steps"], "point"),
            wanted=percent(result["wanted"], 0),
            pairs=plural(result["pairs"], "pair"),
        ),
        *(
            TEXT.blocks("exactness, pre-norm")
            if result["norm_placement"] == "pre"
            else TEXT.blocks("exactness, post-norm")
        ),
        *TEXT.blocks("examples", examples=_examples(result)),
        *(
            TEXT.blocks("results, with the figure", comment=comment)
            if drawn
            else TEXT.blocks("results", comment=comment)
        ),
        _table(result),
    ]
    if drawn:
        blocks.append(
            Figure("fig:circuit", _SVG, TEXT.line("figure"), TEXT.line("figure, without seeing it"))
        )
    return blocks


def _examples(result: Row) -> str:
    texts = []
    for row in result["behaviours"]:
        example = row["example"]
        texts.append(
            f"{row['asks']} (“{literal(example['clean'])}” goes on with "
            f"“{literal(example['answer'])}”, its corrupted form with "
            f"“{literal(example['wrong'])}”)"
        )
    return listed(texts) + "."


def _comment(row: Row) -> str:
    """Return what the circuit of a question reaches, and how often the model answers it right."""
    return f"{_reached(row)} {right_comment(row['right_by_pair'])}"


def _reached(row: Row) -> str:
    edges = plural(len(row["edges"]), "connection")
    asked = f"For the question {row['asks']}"
    if not row["reached"]:
        return f"{asked} no part of the {count(row['num_edges'])} connections is enough."
    other = row["judged_on"]["faithfulness"]
    random = mean(judgement["faithfulness"] for judgement in row["random"])
    text = (
        f"{asked} {edges} of {count(row['num_edges'])} reach "
        f"{_share(row['found_on']['faithfulness'])} of the difference"
    )
    if other >= _KEPT:
        text += f", and {_share(other)} on pairs that they were not found on"
    else:
        text += f", but on pairs that they were not found on only {_share(other)}"
    if max(judgement["faithfulness"] for judgement in row["random"]) < other:
        text += f"; {_random(row)} reaches as much (mean {_share(random)})."
    else:
        text += f"; random subgraphs of as many reach {_share(random)} in the mean."
    return text


def _random(row: Row) -> str:
    return f"none of {len(row['random'])} random subgraphs of as many"


def _share(value: float) -> str:
    """Return a share in whole per cent, which may be below 0 or above 1."""
    return percent(round(value, 2) + 0.0, 0)  # no "-0"


def abstract(result: Row) -> str:
    """Return what the experiment's own document says in short."""
    return " ".join(map(_comment, result["behaviours"]))


def _left_out(row: Row) -> str:
    return f"The question {literal(row['name'])} was left out: {literal(row['reason'])}."


def _table(result: Row) -> Table:
    rows = []
    for row in result["behaviours"]:
        random = row["random"]
        rows.append(
            (
                row["asks"],
                percent(right_share(row["right_by_pair"]), 0),
                f"{len(row['edges'])} of {count(row['num_edges'])}",
                _share(row["judged_on"]["faithfulness"]),
                _share(row["judged_on"]["completeness"]),
                _share(mean(judgement["faithfulness"] for judgement in random)),
                _share(mean(judgement["completeness"] for judgement in random)),
            )
        )
    return Table(
        "tab:circuit",
        TEXT.line("table"),
        (
            *("Question", "Right", "Connections", "Faithfulness", "Completeness"),
            *("Random: faithfulness", "Random: completeness"),
        ),
        tuple(rows),
        "lrrrrrr",
        TEXT.line(
            "table's note", random=plural(len(result["behaviours"][0]["random"]), "subgraph")
        ),
    )
