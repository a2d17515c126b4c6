"""What is said of LoRA on digits beside other ways of fine-tuning."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from tests.report.telling import table_of

Result = dict[str, Any]
Change = Callable[[Result], object]
EVERY = range(10)


def row_of(result: Result, name: str) -> Result:
    (row,) = (row for row in result["methods"] if row["name"] == name)
    return row  # type: ignore[no-any-return]


def by_seed(
    name: str, *more: float, beside: str = "", digits: tuple[int, ...] | range = EVERY
) -> Change:
    """A method's accuracies lie so much above those of another, or of the baseline, by seed."""

    def change(result: Result) -> None:
        other = row_of(result, beside)["test"] if beside else result["baseline"]["test"]
        tests = row_of(result, name)["test"] = copy.deepcopy(other)
        for test, gap in zip(tests, more, strict=True):
            test["classes"] = [share + gap * (digit in digits)
                               for digit, share in enumerate(test["classes"])]  # fmt: skip
            test["mean"] += gap * len(digits) / 10

    return change


def one_seed(result: Result) -> None:
    result["seeds"] = result["seeds"][:1]
    for part in (result["baseline"], *result["methods"]):
        part["test"] = part["test"][:1]
        part["seconds"] = part.get("seconds", [0.3])[:1]


def times(lora: list[float], full: list[float], rate: float = 0.01) -> Change:
    """Seconds by seed; training all layers has a learning rate of 0.01."""

    def change(result: Result) -> None:
        row_of(result, "lora-4").update(seconds=lora, learning_rate=rate)
        row_of(result, "full")["seconds"] = full

    return change


def hard_class(result: Result) -> None:
    result["baseline"]["hard"] = [5]


def one_rank(result: Result) -> None:
    others = {f"lora-{rank}" for rank in (1, 2, 8)}
    result["methods"] = [row for row in result["methods"] if row["name"] not in others]


def check(**values: bool) -> Change:
    return lambda result: result["check"].update(values)


UP, DOWN, MIXED = (0.01, 0.011, 0.012), (-0.01, -0.011, -0.012), (0.02, -0.02, 0.001)
HARD, REST = (2, 4, 5), (0, 1, 3, 6, 7, 8, 9)
CASES = [
    *table_of(
        "lab-mnist",
        # How they were compared.
        (None, "on the same batches, 40\u202f% of which are images of the hard classes and the re"),
        (hard_class, "40\u202f% of which are images of the hard class and the rest of the others"),
        (None, "Each uses the learning rate 0.003, 0.01 or 0.03, whichever is best for it on val"),
        (lambda f: f["settings"].update(learning_rates=[0.01]), "the learning rate 0.01. LoRA"),
        (None, "tab:lab-mnist-classes, fig:lab-mnist-methods and fig:lab-mnist-confusion show t"),
        # LoRA beside the baseline.
        (None, "LoRA, rank 4, raises the test accuracy on the hard classes, from 77.0\u202f%"),
        (None, "(+14.0 points)."),
        (hard_class, "raises the test accuracy on the hard class, from 69.0\u202f% to 83.0"),
        (by_seed("lora-4", *UP, digits=HARD), "raises the test accuracy on the hard"),
        (by_seed("lora-4", *DOWN, digits=HARD), "lowers the test accuracy on the hard"),
        (by_seed("lora-4", *DOWN, digits=HARD), "(−1.1 points). On the other"),
        (by_seed("lora-4", *MIXED, digits=HARD), "does not measurably raise the test acc"),
        (by_seed("lora-4", *MIXED, digits=HARD), "(±0.0 points). On the other"),
        (one_seed, "changes the test accuracy on the hard classes, from 76.6\u202f% to 90.6"),
        (by_seed("lora-4", *UP, digits=REST), "classes accuracy rises, from 90.0\u202f% to 91.1"),
        (by_seed("lora-4", *DOWN, digits=REST), "accuracy falls, from 90.0\u202f% to 88.9"),
        (by_seed("lora-4", *MIXED, digits=REST), "accuracy does not measurably change"),
        (one_seed, "On the other classes accuracy changes, from"),
        (by_seed("lora-4", *DOWN, digits=(1,)), "Among them class 1 (−1.1 points) loses."),
        (by_seed("lora-4", *DOWN, digits=(1, 3)), "Among them the classes 1 (−1.1 points) and 3 ("),
        (by_seed("lora-4", *MIXED), "None of them loses measurably."),
        (by_seed("lora-4", *UP), "None of them loses measurably."),
        (one_seed, "On the other classes accuracy changes, from", "loses"),
        (None, "Of 10,000 test images 172.3 become right and 59.0 wrong on average."),
        # LoRA beside its bounds.
        (by_seed("lora-4", *UP, beside="full"), "it is better than training all layers, "),
        (by_seed("lora-4", *DOWN, beside="full"), "it is worse than training all layers, "),
        (by_seed("lora-4", *MIXED, beside="full"), "it is not measurably different from training "),
        (one_seed, "Over all classes it reaches 91.0\u202f%, training all layers 92.6\u202f%."),
        (by_seed("lora-4", *UP, beside="head"), "it is better than training the output layer alon"),
        (None, "It trains 7.6\u202f% as many parameters, and its file has 17,440 bytes, that"),
        # Ranks.
        (by_seed("lora-8", *UP, beside="lora-1"), "over all classes is higher with the largest ra"),
        (by_seed("lora-8", *DOWN, beside="lora-1"), "is lower with the largest rank than with the"),
        (by_seed("lora-8", *MIXED, beside="lora-1"), "is not measurably different between the sma"),
        (one_seed, "LoRA's accuracy over all classes is 88.7\u202f% at rank 1, "),
        (one_rank, "the output layer alone", "LoRA's accuracy over all"),
        # Time.
        (times([0.5, 0.51, 0.52], [0.4, 0.41, 0.42]), "LoRA does not save time here: 510\u00a0m"
         "s against 410\u00a0ms, slower by a factor of 1.24"),
        (times([0.4, 0.41, 0.42], [0.5, 0.51, 0.52]), "LoRA is faster, 410\u00a0ms against 510"
         "\u00a0ms, by a factor of 1.24"),
        (times([0.4, 0.41, 0.42], [0.405, 0.405, 0.42]), "The times of LoRA and of training all l"),
        (times([0.4, 0.8, 0.42], [0.5, 0.51, 0.52]), "Whether LoRA or training all layers is fast"),
        (times([0.4, 0.8, 0.42], [0.5, 0.51, 0.52]), "(420\u00a0ms† against 510\u00a0ms)"),
        (times([0.4, 0.8, 0.42], [0.5, 0.51, 0.52]), "†: disturbed"),
        # By turns the same ratio each time; one after the other it drowns in what is common.
        (times([0.1, 0.11, 0.12], [0.105, 0.1155, 0.126]), "LoRA is faster, 110\u00a0ms against "),
        (times([0.1, 0.11, 0.12], [0.105, 0.1155, 0.126], 0.03), "training all layers are not me"),
        (one_seed, "is faster could not be measured (540\u00a0ms against 470"),
        (one_seed, "Accuracy: a single seed. Time: one training. Measured on"),
        (None, "Accuracy: means over 3 seeds. Time: median over the seeds. Measured on", "†"),
        # The control.
        (by_seed("full", *UP, beside="full-ordinary"), "choice of batches raises accuracy beyond"),
        (by_seed("full", *DOWN, beside="full-ordinary"), "the choice of batches lowers accuracy."),
        (by_seed("full", *MIXED, beside="full-ordinary"), "the choice of batches makes no measura"),
        (one_seed, "what the choice of batches adds could not be measured."),
        (hard_class, "on ordinary batches brings the hard class to 82.0"),
        # The check.
        (None, "and predictions are the same. They are identical bit for bit when the adapter is "
         "unmerged again, loaded from its file and switched off", "not identical"),
        (check(same_predictions=False), "and predictions are not the same."),
        (check(reloaded_identical=False), "They are not identical bit for bit when it is loaded f"),
        (check(reloaded_identical=False, unmerged_identical=False, inactive_identical=False),
         "are the same. They are not identical bit for bit", "They are identical"),
        # Tables.
        (None, "on the hard classes 2, 4 and 5, on the other ones"),
        (hard_class, "on the hard class 5, on the other ones"),
        (lambda f: f["methods"].append(dict(row_of(f, "head"), name="other*")), "\nother*\n"),
        (None, "\nall layers, ordinary batches\n55,050\n"),
    ),
    *table_of("lab-mnist", (None, "tab:lab-mnist-methods and tab:lab-mnist-classes show the outco",
                            "fig:"), drawn=False),
]  # fmt: skip
