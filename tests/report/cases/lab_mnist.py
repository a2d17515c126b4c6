"""What is said of a network of digits and of its weak classes."""

from __future__ import annotations

from collections.abc import Callable

from tests.report.cases.lab_mnist_methods import Result, by_seed, one_seed
from tests.report.telling import table_of


def hard(*digits: int) -> Callable[[Result], None]:
    return lambda result: result["baseline"].update(hard=list(digits))


def confusions(*pairs: tuple[int, int]) -> Callable[[Result], None]:
    """These classes are taken for these, in 21 % of their images."""

    def change(result: Result) -> None:
        result["baseline"]["confusions"] = [
            {"true": true, "predicted": predicted, "count": 126, "share": 0.21}
            for true, predicted in pairs
        ]

    return change


def narrow(result: Result) -> None:
    result["network"].update(sizes=[784, 1, 10], batch_size=1, steps=1)


CASES = [
    *table_of(
        "lab-mnist",
        (None, "here it is applied to images of digits lecun1998. MNIST's own splits"),
        (lambda f: f["data"].update(name="mine"), "applied to images of digits. MNIST's own"),
        (None, "through 2 hidden layers of 64 units with ReLU to 10 classes, 55,050 parameters."),
        (None, "It is trained by Adam for 150 steps of 64 images only"),
        (narrow, "through 1 hidden layer of 1 unit with ReLU to 10 classes, 55,050 parameters. It "
         "is trained by Adam for 1 step of 1 image only"),
        (None, "All numbers are means over 3 seeds, each with its own initial weights and batches"),
        (one_seed, "All numbers are of one seed, whose spread is not", "All numbers are means"),
        # Weak classes.
        (None, "The 3 classes with the lowest accuracy are 2 (82.0\u202f%), 4 (78.0\u202f%) and 5"),
        (None, "for the rest: these are the hard classes."),
        (hard(5), "The class with the lowest accuracy is 5 (68.0\u202f%), against"),
        (hard(5), "for the rest: this is the hard class."),
        (None, "Most often 4 is taken for 9 (21.0\u202f% of its images) and 5 for 3 (10.0\u202f%)"),
        (confusions((4, 9)), "Most often 4 is taken for 9 (21.0\u202f% of its images) (fig:lab-mn"),
        (confusions(), "these are the hard classes.", "Most often"),
        (confusions((4, 9)), "the accuracy on the hard classes can lower that on class 9, for"),
        (confusions((4, 9), (5, 3)), "can lower that on classes 3 and 9, for which"),
        (confusions((4, 5)), "Most often 4 is taken for 5", "can lower that"),
        (confusions((9, 7)), "Most often 9 is taken for 7", "can lower that"),
    ),
    *table_of("lab-mnist", (None, "for 3 (10.0\u202f%).", "fig:"), drawn=False),
    *table_of(
        "lab-mnist",
        (None, "is worst on classes 2, 4 and 5. LoRA, rank 4, on the frozen network raises the t"),
        (hard(5), "is worst on class 5. LoRA"),
        (by_seed("lora-4", 0.01, 0.01, 0.011), "raises the test accuracy there from 77.0\u202f%"),
        (by_seed("lora-4", -0.01, -0.01, -0.011), "lowers the test accuracy there from"),
        (by_seed("lora-4", 0.01, -0.01, 0), "does not measurably change the test accuracy there"),
        (one_seed, "takes the test accuracy there from"),
        (None, "with 4,200 trained parameters; on the other classes accuracy goes from 90.0\u202f"),
        (None, "(means over 3 seeds)."),
        (one_seed, "(a single seed)."),
        alone=True,
    ),
]  # fmt: skip
