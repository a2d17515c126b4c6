"""What is shown of families of models: tables, and what is left out where there is nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.encoders_made_up import result
from tests.report.telling import table_of

Result = dict[str, Any]


def made(**named: Any) -> Callable[[Result], None]:
    """A made-up result in place of the example."""

    def change(values: Result) -> None:
        values.update(result(**named))

    return change


def one_seed(values: Result) -> None:
    """A result of one seed, which has no interval."""
    values.update(result())
    values["seeds"] = [0]
    for text in values["texts"]:
        for row in text["trainings"]:
            for point in row["curve"]:
                point.update({key: point[key][:1] for key in point if key != "step"})
    for form in values["questions"]["forms"]:
        form["right"] = {name: [0.5] for name in form["right"]}
    contexts = values["contexts"]["losses"]
    values["contexts"]["losses"] = {
        name: [seeds[:1] for seeds in losses] for name, losses in contexts.items()
    }


CASES = [
    *table_of(
        "encoders",
        (None, "Why encoders went out of use"),
        (None, "fig:encoders-curves follows the trainings."),
        # At the end the loss is the seeds' own, after 200 steps 1 more, after 100 steps 2.
        (made(), "3.000 ± 0.248"),
        (made(), "2.000 ± 0.248"),
        # Where the rest is predicted 200 steps have as many targets as 100 of the others.
        (made(), "4.000 ± 0.248"),
        (made(steps={"lstm": 150}), "–"),
        (made(accuracies={"lstm": [0.9, 0.9, 0.9]}), "90.0\u202f% (90–90)"),
        (made(), "50.0\u202f% (25–75)"),
        (one_seed, "2.000", "±"),
        (one_seed, "50.0\u202f%", "(25–75)"),
        (made(), "3.00 (planned)"),
        # 1,024 tokens in 10 ms and in 20.
        (made(), "102,400"),
        (made(), "51,200"),
        (made(), "the loss on stories, beside decoder, is"),
        (made(names=("decoder",)), "What holds at this size", "beside decoder"),
        (made(names=("decoder", "lstm")), "What holds at this size", "Dense signal: that"),
    ),
    *table_of("encoders", (None, "Why encoders went out of use", "fig:"), drawn=False),
    *table_of("encoders", (None, "Kinds of models of equal size are trained"), alone=True),
]
