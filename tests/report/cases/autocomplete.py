"""What is said of what predicting the next token teaches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.telling import Phrase, table_of
from tinylm.experiments.autocomplete.section import share

Result = dict[str, Any]
TASKS = ("translation", "sum")


def shares(row: int = 0, **kinds: tuple[list[float], list[float]]) -> Callable[[Result], None]:
    """Two tasks, and what a training gets right of them, by kind and seed."""

    def change(result: Result) -> None:
        result["tasks"] = [
            task | {"guess": 0.1} for task in result["tasks"] if task["name"] in TASKS
        ]
        accuracy = result["trainings"][row]["accuracy"]
        for kind in ("trained", "new", "withheld"):
            values = kinds.get(kind, ([0.5, 0.5, 0.5], [0.1, 0.1, 0.1]))
            accuracy[kind] = dict(zip(TASKS, values, strict=True))

    return change


def only(*numbers: int) -> Callable[[Result], None]:
    """Some of the trainings, with two tasks."""

    def change(result: Result) -> None:
        for number in numbers:
            shares(number)(result)
        result["trainings"] = [result["trainings"][number] for number in numbers]

    return change


def smaller(first: float, second: float) -> Callable[[Result], None]:
    """One training with fewer items, which gets so much right of both tasks."""

    def change(result: Result) -> None:
        only(0, 1)(result)
        low = [first, first, first], [second, second, second]
        result["trainings"][1]["accuracy"]["withheld"] = dict(zip(TASKS, low, strict=True))

    return change


def reading(layer: int, own: list[float], other: list[float]) -> Callable[[Result], None]:
    """Readings of the holder, best after one layer."""

    def change(result: Result) -> None:
        for row in result["reading"]:
            row["unnamed"] = [0.0] * 3
            row["untrained_unnamed"] = other
        result["reading"][layer] |= {"unnamed": own, "all": [0.8] * 3, "control": [0.2] * 3}

    return change


def exchanged(*pairs: int) -> Callable[[Result], None]:
    """Pairs of each seed, and what follows an exchange."""

    def change(result: Result) -> None:
        result["exchange"]["pairs"] = list(pairs)
        for row in result["exchange"]["layers"]:
            later = row["layer"][0]
            row["last"] = [1.0 - later / 4] * 3
            row["kept_other"] = [0.9] * 3

    return change


def heads(**ways: list[float]) -> Callable[[Result], None]:
    """Accuracies of three ways on both kinds of stories."""

    def change(result: Result) -> None:
        for way, values in ways.items():
            result["heads"][way] = {"new": values, "withheld": values}

    return change


CASES = [
    *table_of(
        "autocomplete",
        (None, "Where the facts were withheld, the answers to 4 of 7 tasks are measurably better"),
        (None, "fig:autocomplete-steps follows the tasks"),
        # Guessing.
        (shares(withheld=([0.5, 0.5, 0.5], [0.1, 0.1, 0.1])),
         "the answers to 1 of 2 tasks are measurably better than guessing: translation at "
         "50\u202f% (50–50). Of the others, no gain can be told: sum at 10\u202f% (10–10)."),
        (shares(withheld=([0.5, 0.5, 0.5], [0.3, 0.3, 0.3])),
         "translation at 50\u202f% (50–50) and sum at 30\u202f% (30–30).", "Of the others"),
        (shares(withheld=([0.1, 0.1, 0.1], [0.0, 0.0, 0.0])),
         "the answers to 0 of 2 tasks are measurably better than guessing. Of the others, no gain"),
        # Withheld facts.
        (shares(new=([0.9, 0.9, 0.9], [0.1, 0.1, 0.1]), withheld=([0.5, 0.5, 0.5], [0.1] * 3)),
         "lower than on facts seen for translation at 50\u202f% (50–50) against 90\u202f% (90–90); "
         "no difference can be told for sum", "higher for"),
        (shares(new=([0.2, 0.2, 0.2], [0.1] * 3), withheld=([0.5, 0.5, 0.5], [0.0] * 3)),
         "lower than on facts seen for sum at 0\u202f% (0–0) against 10\u202f% (10–10); higher for "
         "translation"),
        # Sizes.
        (only(0), "Who has the ball", "Data and size"),
        (smaller(0.3, 0.1), "Data and size"),
        (smaller(0.3, 0.1), "The mean accuracy over the tasks, on withheld facts, is 30\u202f% "
         "(30–30) for the main model"),
        (smaller(0.3, 0.1), "2,000 training items (lower)."),
        (smaller(0.5, 0.1), "training items (not measurably different)."),
        (None, "fig:autocomplete-sizes shows each task."),
        # Reading.
        (reading(0, [0.5] * 3, [0.4] * 3), "From the embedding a linear probe reads"),
        (reading(2, [0.9] * 3, [0.4] * 3), "After layer 2 a linear probe reads who has the ball "
         "after 80\u202f% (80–80) of the sentences, and after 90\u202f% (90–90) of those that do "
         "not name that person; of a model with random weights the latter is 40\u202f% (40–40), so "
         "that what is read is higher in the trained one. The control task's labels are read in "
         "20\u202f% (20–20)."),
        # Exchanging.
        (exchanged(10, 11, 12), "Of 33 pairs that were answered right, the answer becomes that of "
         "the other story in 100\u202f% (100–100) when the embeddings of the last sentence are "
         "exchanged, in 75\u202f% (75–75) when its residual stream after layer 1 is"),
        (exchanged(10, 11, 12), "leaves the answer in 90\u202f% (90–90).", "no pair"),
        (exchanged(10, 0, 12), "With some seed the model answered no pair of stories right"),
        # Heads.
        (heads(head=[0.9] * 3, mixed=[0.5] * 3, alone=[0.9] * 3),
         "On new stories of known facts the head's accuracy is higher than that of the model of "
         "all tasks and not measurably different from that of the model of this task; on withheld "
         "facts the head's"),
        (lambda f: f["trainings"][0]["accuracy"]["new"].pop("sum"), "–"),
    ),
    *table_of("autocomplete", (None, "the answers to 4 of 7 tasks", "fig:"), drawn=False),
    *table_of(
        "autocomplete",
        (None, "One model with one loss, that of the next token, is trained on a text in which"),
        alone=True,
    ),
]  # fmt: skip
PHRASES = [
    Phrase("50\u202f%", lambda: share([0.5])),
    Phrase("50\u202f% (38–62)", lambda: share([0.45, 0.5, 0.55])),
    Phrase("50\u202f% (0–100)", lambda: share([0.0, 1.0])),
]
