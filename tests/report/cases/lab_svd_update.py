"""What is said of the rank of an update, and of what a part of it keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.telling import table_of

Result = dict[str, Any]
LESS, MORE, ALIKE, UNKNOWN = [-0.1, -0.2, -0.05], [0.1, 0.05, 0.2], [0, -0.1, 0.1], [1, None, None]


def moved(**changes: list[Any]) -> Callable[[Result], None]:
    """Fine-tuning changed the losses on these kinds of stories like this."""
    return lambda result: result["update"]["change"].update(changes)


def shares(weight: float, update: float) -> Callable[[Result], None]:
    """Effective ranks of weights and update, as shares of that of random numbers."""

    def change(result: Result) -> None:
        for row in result["matrices"]:
            row["weight"]["effective_rank"] = weight * row["random_effective_rank"]
            row["update"]["effective_rank"] = update * row["random_effective_rank"]

    return change


def kept(*shares: float) -> Callable[[Result], None]:
    """Ranks 0, 1, 2, 4 and 8 keep these shares of the gain of 0.1 nats."""

    def change(result: Result) -> None:
        for row, share in zip(result["update"]["ranks"], shares, strict=True):
            row["losses"]["chosen"] = 2.111 - 0.1 * share

    return change


def beside_whole(*intervals: list[Any]) -> Callable[[Result], None]:
    """The losses of ranks 4 and 8 differ like this from that of the whole update."""

    def change(result: Result) -> None:
        for row, interval in zip(result["update"]["ranks"][-2:], intervals, strict=True):
            row["whole"]["chosen"] = interval

    return change


def others(rank_2: float) -> Callable[[Result], None]:
    """Rank 2 raises the loss on the other stories so much, the whole update by 0.04."""

    def change(result: Result) -> None:
        result["update"]["ranks"][2]["losses"]["others"] = 2.034 + rank_2

    return change


def before_intervals(result: Result) -> None:
    result["update"].pop("change")
    for row in result["update"]["ranks"]:
        row.pop("whole")


def batches_of_one(result: Result) -> None:
    result["update"].update(batch_size=1, steps=1, train_stories=1)


CASES = [
    *table_of(
        "lab-svd",
        # What changed.
        (None, "fine-tuned for 150 steps of 32 stories at a learning rate of 6·10⁻⁵ on the 5,000 "),
        (batches_of_one, "for 1 step of 1 story at a learning rate of 6·10⁻⁵ on the 1 training st"),
        (moved(chosen=LESS), "from 2.1110 to 2.0110 nats per token (lower), on those with the l"),
        (moved(chosen=MORE), "to 2.0110 nats per token (higher), on those"),
        (moved(chosen=ALIKE), "to 2.0110 nats per token (not measurably different), on those"),
        (moved(others=MORE), "from 2.0340 to 2.0740 (higher, forgetting). The update"),
        (moved(others=ALIKE), "2.0740 (not measurably different). The update", "forgetting"),
        (moved(others=LESS), "to 2.0740 (lower). The update", "forgetting"),
        (shares(0.95, 0.94), "effective rank of the updates is lower than that of the weights (94"),
        (shares(0.95, 0.949), "is no lower than that of the weights (95\u202f% of that of random "),
        # What a cut keeps.
        (None, "Cut to rank 2, 25.0\u202f% of its numbers, the update keeps 93\u202f% of the gain"),
        (kept(0, 0.5, 0.91, 1, 1), "Cut to rank 2, 25.0\u202f% of its numbers, the update keeps 9"),
        (kept(0, 0.5, 0.89, 1, 1), "Cut to rank 4, 50.0\u202f% of its numbers, the update keeps 1"),
        (kept(0, 0.2, 0.3, 0.4, 0.5), "No rank tried keeps 90\u202f% of the fine-tuning's gain."),
        (kept(0, 0.2, 0.3, 0.4, 0.5), "No rank tried keeps", "On the other stories"),
        (kept(-0.04, 0.5, 0.91, 1, 1), "\n0\n2.1150\n−4\u202f%\n"),
        (moved(chosen=ALIKE), "The fine-tuning did not measurably lower the loss on its own stor"),
        (moved(chosen=MORE), "so that there is no gain to keep.", "Cut to rank"),
        (moved(chosen=ALIKE), "\n0\n2.1090\n–\n"),
        (moved(chosen=UNKNOWN), "Whether the fine-tuning lowered the loss on its own stories coul"),
        (before_intervals, "Whether the fine-tuning lowered the loss on its own stories could not"),
        (beside_whole(LESS, ALIKE), "With rank 4 the loss, 2.0130, is lower than with the whole u"),
        (beside_whole(LESS, LESS), "With rank 4 the loss"),  # rank 8 is the whole update
        (beside_whole(ALIKE, LESS), "Cut to rank 2", "is lower than with the whole"),
        (beside_whole(MORE, ALIKE), "Cut to rank 2", "is lower than with the whole"),
        # The other stories.
        (others(0.02), "On the other stories, rank 2 takes 50\u202f% of the whole update's rise i"),
        (others(0.0), "On the other stories, rank 2 takes none of the whole update's rise in loss"),
        (others(-0.01), "rank 2 takes none of the whole update's rise in loss."),
        (moved(others=ALIKE), "Cut to rank 2", "On the other stories"),
        # Figures.
        (None, "cut to each rank (tab:lab-svd-update, fig:lab-svd-update); the updates of"),
    ),
    *table_of("lab-svd", (None, "rank (tab:lab-svd-update); the updates", "fig:"), drawn=False),
]  # fmt: skip
