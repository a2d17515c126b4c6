"""What is said of alignment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.telling import Case, all_of, table_of

Result = dict[str, Any]
Change = Callable[[Result], None]
TEXTS = (-0.1, -0.05, 0.05, 0.1)
"""Added to the rewards of the texts of a validation."""
OFFSETS = (0.01, -0.02, 0.01)
"""Of the seeds, around their mean."""


def start(result: Result) -> None:
    two = ("reinforce", "dpo")
    result["methods"] = [each for each in result["methods"] if each["name"] in two]
    result["start"] |= {"reward": 0.2, "best": 1.0, "perfect": 0.19, "loss": 0.5, "learned": -0.1}
    result["frontier"] = [[0.0, 0.2], [1.0, 0.7], [1.7, 1.0]]


def policies(name: str, reward: float, kl: float = 1.0, loss: float = 0.6) -> Change:
    """Let a method's policies, one a seed, have values around these."""

    def change(result: Result) -> None:
        (method,) = (each for each in result["methods"] if each["name"] == name)
        method["policies"] = [
            method["policies"][0]
            | {"reward": reward + offset, "start_reward": 0.2, "kl": kl, "loss": loss, "seed": i}
            for i, offset in enumerate(OFFSETS)
        ]

    return change


def learned(
    true: list[float],
    rewards: list[float],
    seeds: int = 3,
    ends: tuple[float, ...] = (0.0, 0.02, 0.04),
) -> Change:
    """Let policies by the learned reward have these true and learned rewards on the way.

    Args:
        true: at each validation.
        rewards: learned, likewise.
        seeds: policies.
        ends: added to the last true and learned reward of each.
    """

    def change(result: Result) -> None:
        policy = result["learned"]["policies"][0]
        result["learned"]["policies"] = []
        for seed in range(seeds):
            curve = [
                {"step": 10 * i, "kl": 2.0 * i, "learned": b, "true": a, "variety": 0.4}
                for i, (a, b) in enumerate(zip(true, rewards, strict=True))
            ]
            for key in ("true", "learned"):
                curve[-1][key] += ends[seed]
            for point in curve:
                point["texts"] = {
                    key: [point[key] + offset for offset in TEXTS] for key in ("true", "learned")
                }
                if point is curve[-1]:  # no two texts change by the same
                    for values in point["texts"].values():
                        values[:2] = [values[0] + 0.01, values[1] - 0.01]
            result["learned"]["policies"].append(
                policy
                | {"seed": seed, "reward_model": {"accuracy": [0.7, 0.6, 0.8]}, "curve": curve}
            )

    return change


BOTH = all_of(start, policies("reinforce", 0.6), policies("dpo", 0.2))


def single(result: Result) -> None:
    for method in result["methods"]:
        del method["policies"][1:]


def turned(share: float) -> Change:
    def change(result: Result) -> None:
        result["learned"]["wrong"] = share

    return change


def says(text: str) -> Change:
    def change(result: Result) -> None:
        result["sample"]["texts"]["start"] = text

    return change


LONG = "One " + "two " * 100 + "three."

CASES: list[Case] = [
    *table_of(
        "alignment",
        (None, "stories that end happily are wanted"),
        (BOTH, "The start earns 0.20 of 1: 19 % of its responses earn the most. The policies earn "
               "0.60 by REINFORCE (+0.40, +0.36 to +0.44: higher) and 0.20 by direct preference op"
               "timisation (0.00, −0.04 to +0.04: not measurably different)."),
        (all_of(BOTH, single), "The policies earn 0.61 by REINFORCE (+0.41) and 0.21", "higher"),
        (BOTH, "The start's perplexity is 1.65; REINFORCE is 1.0 nats from it and has gained 80 %"
               " of what that allows, with a perplexity of 1.82"),
        (BOTH, "direct preference optimisation is 1.0 nats from it, with a perplexity of 1.82. To e"
               "arn nothing but the best reward need not cost more than 1.7 nats.") ,
        (BOTH, "What is called measurable has a 95 % interval over the seeds that leaves 0 out."),
        (all_of(BOTH, single), "From one seed there is no interval", "leaves 0 out"),
        (turned(0.1), "ranked by the rule, of which 10 % are turned round, and a policy"),
        (turned(0.0), "ranked by the rule, all of them right, and a policy"),
        (learned([0.2, 0.5, 0.6], [0.0, 1.0, 2.0]), "By the learned reward the true one rises to 0."
         "62, and is highest at the end, 4.0 nats from the start, by the mean of all. In none of 3 "
         "trainings does the true reward fall measurably, text by text, from its best to the end wh"
         "ile the learned one rises: over-optimisation is not shown."),
        (learned([0.2, 0.6, 0.3], [0.0, 1.0, 2.0]), "By the learned reward the true one rises to 0."
         "60 at 2.0 nats from the start, and is 0.32 in the end, by the mean of all: from there on "
         "the learned reward is higher (+1.02, +0.97 to +1.07) and the true one lower (−0.28, −0.33"
         " to −0.23). In 3 of 3 trainings the true reward falls measurably, text by text, from its "
         "best to the end: that of seed 0 from 0.60 at 2.0 nats to 0.30 at 4.0, while the learned r"
         "eward rises from +1.00 to +2.00, that of seed 1"),
        (learned([0.2, 0.6, 0.3], [0.0, 1.0, 0.5]), "over-optimisation is not shown."),
        (learned([0.2, 0.8, 0.5], [0.0, 1.0, 2.0], ends=(-0.3, 0.0, 0.3)), "higher (+1.00, +0.25 t"
         "o +1.75) and the true one not measurably different (−0.30, −1.05 to +0.45). In 2 of 3 tra"
         "inings the true reward falls measurably, text by text, from its best to the end: that of "
         "seed 0 from 0.80 at 2.0 nats to 0.20 at 4.0"),
        (learned([0.2, 0.6, 0.3], [0.0, 1.0, 2.0], seeds=1), "and is 0.30 in the end. In 1 of 1 tra"
         "ining the true reward falls measurably", "by the mean of all"),
        (learned([0.2, 0.6, 0.3], [0.0, 1.0, 2.0]), "such a model is right in 70 %, 70"),
        (says(""), "nothing: it ends at once"),
        (says(LONG), "One two two"),
        (says(LONG), "two two three."),
        (says("They all smiled."), "They all smiled."),
    ),
    *table_of("alignment", (None, "gives the results.", "Left: true reward"), drawn=False),
    *table_of("alignment", (None, "Left: true reward against the KL from the start.")),
]  # fmt: skip
