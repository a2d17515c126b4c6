"""What is said of induction heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.telling import table_of

Result = dict[str, Any]


def scores(*values: float) -> Callable[[Result], None]:
    """The highest prefix-matching scores over the training, a measurement each."""

    def change(result: Result) -> None:
        result["curve"] = result["curve"][: len(values)]
        for row, value in zip(result["curve"], values, strict=True):
            row["prefix_matching"] = [[0.01, 0.02], [0.0, value]]

    return change


def falling(*losses: float) -> Callable[[Result], None]:
    """Prefix matching comes between the second and third of so many losses on the second half."""

    def change(result: Result) -> None:
        scores(*[0.1, 0.4, 0.9, 0.95][: len(losses)])(result)
        for row, loss in zip(result["curve"], losses, strict=True):
            row["second_half"] = loss

    return change


def sets(*kinds: str) -> Callable[[Result], None]:
    """Random sets of the two-layer model, a row of sizes 1, 2, …: w(ith the head) or o(thers)."""

    def change(result: Result) -> None:
        formed = result["formed"]
        formed["previous"] = [0, 1]
        formed["ablation"] = [
            {
                "heads": [[1, head] for head in range(size)],
                "more": [2.0, 1.5, 2.5],
                "random": [
                    {"heads": [[0, 1 if letter == "w" else 0]], "more": 0.25 - 0.5 * place}
                    for place, letter in enumerate(letters)
                ],
            }
            for size, letters in enumerate(kinds, 1)
        ]

    return change


def own(*values: float) -> Callable[[Result], None]:
    """Prefix-matching scores of the run's first heads; none of the others has any."""

    def change(result: Result) -> None:
        for place, row in enumerate(result["run"]["heads"]):
            row["prefix_matching"] = values[place] if place < len(values) else 0.0

    return change


def without_previous(result: Result) -> None:
    result["formed"]["previous"] = None


CASES = [
    *table_of(
        "induction",
        # Forming.
        (None, "with 4 heads each and 59,332 parameters was trained for 600 steps on texts"),
        (None, "fig:induction-forming follows the scores"),
        (scores(0.1, 0.499), "No induction head formed in 30 steps: the highest prefix-matching "
         "score is 0.50. A longer", "By step"),
        (scores(0.1, 0.5), "By step 30 a head gives most of its weight to what followed the same "
         "token before, with a prefix-matching score of 0.50. The loss", "No induction head"),
        (scores(0.7, 0.8), "By step 0 a head gives most of its weight to what followed the same "
         "token before, with a prefix-matching score of 0.70.", "falls most"),
        (falling(4.0, 3.9, 1.0, 0.9), "falls most between steps 30 and 60, from 3.90 to 1.00 nats "
         "a token. Over these steps the highest prefix-matching score goes from 0.40 to 0.90, the"),
        (falling(4.0, 3.9, 1.0, 0.9), "It is the same stretch in which the first", "not appear"),
        (falling(4.0, 3.9, 3.8, 0.9), "does not appear in that same stretch.", "It is the same"),
        # Composition.
        (None, "By keys, head 2.3 reads head 1.2 most: their score is 0.263, and those of random "
         "heads have a mean of 0.124, which it exceeds by 20.9 standard deviations."),
        (None, "The highest score of any pair is 0.122 by queries (−0.5 standard deviations) and"),
        # Without them.
        (None, "fig:induction-ablation compares what that costs."),
        (None, "In the two-layer model, without head 2.2 the loss on the second half changes by "
         "0.220 nats (95\u202f% interval: 0.192 to 0.249). Others in the same number"),
        (sets("o", "oow", "www"), "change it by 0.250 nats (1 set). Without heads 2.1 and 2.2 the"),
        (sets("o", "oow", "www"), "0.000 nats in the median of 2 sets (−0.250 to 0.250), and "
         "where the previous-token head, 1.2, is among them by −0.750 nats (1 set).",
         "2.1, 2.2 and 2.3"),
        (sets("o", "w"), "change it by 0.250 nats (1 set).", "Without heads 2"),
        (sets("w", "w"), "change it by 0.250 nats (1 set); the previous-token head, 1.2, is among"),
        (sets(), "In the two-layer model there are too few heads to compare them with others."),
        (without_previous, "drawn at random, change it by 0.", "1.2, is among"),
        # The run's own.
        (own(0.499), "No head of the run's model gives most of its weight to what followed the "
         "same token before; the highest prefix-matching score is 0.50, of head 1.1. Its loss"),
        (own(0.5), "Of the run's model, head 1.1 gives most of the weight", "No head of"),
        (own(0.5, 0.6), "Of the run's model, heads 1.2 and 1.1 give most of the weight"),
        (None, "tab:induction-run has the scores of all its heads."),
        (lambda f: f.update(run=None), "has too short a context or too few tokens", "tab:inductio"
         "n-run"),
        (None, "On 64 validation stories the loss at token 231 less that at token 28, the in-"),
        (lambda f: f["run"].update(stories=None), "In the run's model, without", "On 64 validati"),
        (lambda f: f["run"]["stories"].update(stories=1), "On 1 validation story the loss"),
        (None, "Without head 3.3, of the highest prefix-matching score, it is −0.552 nats"),
        (lambda f: f["run"]["stories"].update(heads=[[2, 2], [0, 0]]),
         "Without heads 3.3 and 1.1, of the highest prefix-matching scores, it is"),
    ),
    *table_of("induction", (None, "By step 300", "fig:"), drawn=False),
    *table_of(
        "induction",
        (None, "its attention heads are followed. By step 300 a head gives"),
        (lambda f: f.update(run=None), "in which the first induction head appears.", "No head of"),
        alone=True,
    ),
]  # fmt: skip
