"""LoRA on handwritten digits: what each method makes of the hard classes, and at what cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.experiments.lab_digits import METHODS
from tinylm.report.blocks import Block, Figure, Paragraph, Table, literal
from tinylm.report.formatting import count, listed, percent, plural, setting, significant
from tinylm.report.inputs import ReportInputs
from tinylm.report.measurements import hardware, seconds

_A_TENTH = 0.0005
"""Of a point of accuracy, as far as it is printed."""

Row = Mapping[str, Any]
Tests = Sequence[Mapping[str, Any]]
"""Accuracies of the same network, one a seed."""


def comparison_blocks(results: ReportInputs, found: Mapping[str, Any]) -> list[Block]:
    """Return how the methods were compared, and the outcome in words, figures and tables."""
    settings = found["settings"]
    methods, confusion = drawn(results, "methods"), drawn(results, "confusion")
    rates = listed([setting(rate) for rate in settings["learning_rates"]], "or")
    made: list[Block] = [
        Paragraph(
            f"Every method continues from the same network for {plural(settings['steps'], 'step')} "
            f"on the same batches, {percent(settings['hard_share'], 0)} of which are images of the "
            "hard classes and the rest of the others, which are rehearsed so that they are not "
            f"forgotten. Each uses the learning rate, {rates}, that is best for it on validation. "
            "LoRA adapts all three layers. Two methods bound it: training the output layer alone, "
            "and training everything. A control trains everything on ordinary batches, to separate "
            "the gain from choosing hard classes from that of training longer. "
            f"[[tab:lab-mnist-methods]] and [[tab:lab-mnist-classes]]"
            f"{', [[fig:lab-mnist-methods]] and [[fig:lab-mnist-confusion]]' * (methods and confusion)} "  # noqa: E501
            "show the outcome."
        ),
        Paragraph(lora_comment(found)),
        Paragraph(methods_comment(found)),
    ]
    if methods:
        made.append(
            Figure(
                "fig:lab-mnist-methods",
                "figures/lab-mnist-methods.svg",
                "Test accuracy. Left: by class, hard ones in bold. Right: mean over the classes "
                "against the parameters trained, LoRA with its rank *r*. Bars and points are means "
                "over the seeds, lines their range.",
                "Bars of accuracy by class before and after LoRA; accuracy against parameters.",
            )
        )
    made += [_methods_table(found), _classes_table(found)]
    if confusion:
        made.append(
            Figure(
                "fig:lab-mnist-confusion",
                "figures/lab-mnist-confusion.svg",
                "Test images of each class by predicted class, in percent of the class, the "
                "networks of all seeds together; hard classes in bold. A dot: less than a half.",
                "Two confusion matrices, of the baseline and with LoRA.",
                width=0.92,
            )
        )
    return [*made, Paragraph(check_comment(found["check"]))]


def lora_comment(found: Mapping[str, Any]) -> str:
    """Return what LoRA did to hard and other classes, and to single images."""
    lora, base = method(found, chosen(found)), found["baseline"]
    hard, rest = base["hard"], others(base["hard"])
    changes = {
        digit: on(lora["test"], [digit]) - on(base["test"], [digit]) for digit in (*hard, *rest)
    }
    on_hard = on(lora["test"], hard) - on(base["test"], hard)
    on_rest = on(lora["test"], rest) - on(base["test"], rest)
    text = (
        f"{name_of(lora['name'])}, {'lifts' if on_hard > 0 else '*does not lift*'} the hard "
        f"classes: {_from_to(base['test'], lora['test'], hard)} of their test images are right, "
        f"{_points(on_hard)}. The other classes "
        f"{'lose' if on_rest < 0 else 'do not lose'} on the whole: "
        f"{_from_to(base['test'], lora['test'], rest)}, {_points(on_rest)}. "
    )
    lost = sorted((changes[digit], digit) for digit in rest if changes[digit] < 0)
    if lost:
        told = [f"{digit} ({_points(change)})" for change, digit in lost]
        several = len(lost) > 1
        text += (
            f"Among them {'the classes' if several else 'class'} {listed(told)} "
            f"{'lose' if several else 'loses'}. "
        )
    else:
        text += "None of them loses. "
    gained, wrong = (_average(found["flips"][key]) for key in ("gained", "lost"))
    return text + (
        f"Of {count(found['data']['images']['test'])} test images {gained:,.1f} become "
        f"right and {wrong:,.1f} wrong on average."
    )


def methods_comment(found: Mapping[str, Any]) -> str:
    """Return how LoRA compares with its bounds and with the control."""
    lora, head, full, plain = (
        method(found, name)
        for name in (chosen(found), METHODS.head, METHODS.full, METHODS.ordinary)
    )
    hard = found["baseline"]["hard"]
    share = lora["parameters"] / full["parameters"]
    text = (
        f"{_against(lora, full, 'training everything')} It trains {percent(share)} of the "
        f"parameters and its file has {count(lora['bytes'])} bytes in place of "
        f"{count(full['bytes'])}. {_against(lora, head, 'the output layer alone')} "
    )
    several = [row for row in found["methods"] if row["name"].startswith(METHODS.lora)]
    if len(several) > 1:
        means = [mean(row["test"], "mean") for row in several]
        told = listed([f"{percent(mean)} at rank {_rank(row['name'])}" for row, mean in
                       zip(several, means, strict=True)])  # fmt: skip
        rising = means == sorted(means)
        text += (
            f"Accuracy over all classes {'rises' if rising else 'does not rise steadily'} with the "
            f"rank: {told}. "
        )
    text += _time_comment(lora, full)
    aimed, control = on(full["test"], hard), on(plain["test"], hard)
    return text + (
        f"Training everything on ordinary batches brings the hard classes to {percent(control)}, "
        f"on the targeted ones to {percent(aimed)}: "
        + (
            "the choice of batches, and not only the longer training, improves them."
            if _clear(full["test"], plain["test"], hard) > 0
            else "most of the gain comes from training longer, and what the choice of batches adds "
            "does not appear with every seed."
            if aimed - control >= _A_TENTH
            else "the choice of batches adds nothing here."
        )
    )


def _time_comment(lora: Row, full: Row) -> str:
    gaps = [one - other for one, other in zip(lora["seconds"], full["seconds"], strict=True)]
    took = f"{seconds(_average(lora['seconds']))} against {seconds(_average(full['seconds']))}"
    if min(gaps) > 0:
        return (
            f"Time is not what LoRA saves here: {took}, longer with every seed. The factors add "
            "work to the forward pass, and a network so small spends little on the gradients that "
            "are saved. "
        )
    if max(gaps) < 0:
        return f"It is quicker with every seed, {took}. "
    return f"Neither is quicker with every seed ({took}). "


def check_comment(check: Mapping[str, Any]) -> str:
    """Return whether the adapted network is the same in every form."""
    same = {
        "unmerged again": check["unmerged_identical"],
        "loaded from its file": check["reloaded_identical"],
        "switched off (against the baseline)": check["inactive_identical"],
    }
    text = (
        f"On all {count(check['images'])} test images the merged network's logits differ by "
        f"at most {significant(check['merged'], 2)} from those of the unmerged one (the largest "
        f"logit is {significant(check['largest_logit'])}), and predictions are "
        f"{'the same' if check['same_predictions'] else '*not* the same'}. "
    )
    good = [name for name, one in same.items() if one]
    bad = [name for name, one in same.items() if not one]
    if good:
        text += f"They are identical bit for bit when the adapter is {listed(good)}. "
    if bad:
        text += f"They are *not* identical bit for bit when it is {listed(bad)}. "
    return text.rstrip()


def _methods_table(found: Mapping[str, Any]) -> Table:
    base = found["baseline"]
    hard, rest = base["hard"], others(base["hard"])
    total = found["network"]["parameters"]

    def accuracy(tests: Tests) -> tuple[str, ...]:
        return (
            percent(mean(tests, "all")),
            percent(on(tests, hard)),
            percent(on(tests, rest)),
            percent(min(on(tests, [digit]) for digit in (*hard, *rest))),
        )

    rows = [
        ("baseline", "–", "–", "–", "–", *accuracy(base["test"]), "–"),
        *(
            (
                name_of(row["name"]),
                count(row["parameters"]),
                percent(row["parameters"] / total),
                count(row["bytes"]),
                setting(row["learning_rate"]),
                *accuracy(row["test"]),
                seconds(_average(row["seconds"])),
            )
            for row in found["methods"]
        ),
    ]
    names = [row["name"] for row in found["methods"]]
    return Table(
        "tab:lab-mnist-methods",
        f"Methods compared: trained parameters, bytes of their file, learning rate, test accuracy "
        f"on all images, on the hard classes {digits_of(hard)}, on the other ones and on the worst "
        "class, and time of training.",
        ("Trained", "Parameters", "", "Bytes", "Rate", "All", "Hard", "Other", "Worst", "Time"),
        tuple(rows),
        "lrrrrrrrrr",
        f"{seeds_of(found)[:1].upper()}{seeds_of(found)[1:]}. Measured on {hardware(found)}.",
        emphasised=(1 + names.index(chosen(found)),),
    )


def _classes_table(found: Mapping[str, Any]) -> Table:
    hard = found["baseline"]["hard"]
    tests = [("baseline", found["baseline"]["test"])]
    tests += [(name_of(row["name"]), row["test"]) for row in found["methods"]]
    digits = range(len(tests[0][1][0]["classes"]))
    return Table(
        "tab:lab-mnist-classes",
        "Test accuracy of each class in percent; hard classes in italics.",
        ("Trained", *(f"*{digit}*" if digit in hard else str(digit) for digit in digits)),
        tuple(
            (name, *(f"{100 * on(one, [digit]):.1f}" for digit in digits)) for name, one in tests
        ),
        "l" + "r" * len(digits),
        emphasised=tuple(
            1 + i for i, row in enumerate(found["methods"]) if row["name"] == chosen(found)
        ),
    )


def _against(one: Row, other: Row, words: str) -> str:
    """Return how a method compares with another in the mean over the classes."""
    first, second = (mean(row["test"], "mean") for row in (one, other))
    every = range(len(one["test"][0]["classes"]))
    which = _clear(one["test"], other["test"], every)
    if which == 0:
        return (
            f"Over all classes it is level with {words}, {percent(first)} against "
            f"{percent(second)}: the ranges over the seeds overlap."
        )
    return (
        f"Over all classes it is {'better' if which > 0 else 'worse'} than {words}, "
        f"{percent(first)} against {percent(second)}, with every seed."
    )


def _clear(one: Tests, other: Tests, digits: Sequence[int]) -> int:
    """Compare two methods seed by seed: 1 if the first is better with each, -1 if worse, else 0."""
    gaps = [on([first], digits) - on([second], digits)
            for first, second in zip(one, other, strict=True)]  # fmt: skip
    return 1 if min(gaps) > 0 else -1 if max(gaps) < 0 else 0


def chosen(found: Mapping[str, Any]) -> str:
    """Return the name of the LoRA that is looked at closely."""
    return f"{METHODS.lora}{found['settings']['rank']}"


def method(found: Mapping[str, Any], name: str) -> Row:
    """Return the row of a method."""
    rows: Sequence[Row] = found["methods"]
    return next(row for row in rows if row["name"] == name)


def _rank(name: str) -> str:
    return name.removeprefix(METHODS.lora)


def name_of(name: str) -> str:
    """Return how the report calls a method."""
    if name.startswith(METHODS.lora):
        return f"LoRA, rank {_rank(name)}"
    return {
        METHODS.head: "output layer",
        METHODS.full: "everything",
        METHODS.ordinary: "everything, ordinary batches",
    }.get(name, literal(name))


def others(hard: Sequence[int]) -> list[int]:
    """Return the classes that are not hard."""
    return [digit for digit in range(10) if digit not in hard]


def digits_of(digits: Sequence[int]) -> str:
    """Return ``1, 2 and 3``."""
    return listed([str(digit) for digit in digits])


def _average(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def mean(tests: Tests, key: str) -> float:
    """Return the mean of an accuracy over the seeds."""
    return _average([one[key] for one in tests])


def on(tests: Tests, digits: Sequence[int]) -> float:
    """Return the mean accuracy of some classes, over the seeds."""
    return _average([one["classes"][digit] for one in tests for digit in digits])


def _from_to(before: Tests, after: Tests, digits: Sequence[int]) -> str:
    return f"{percent(on(after, digits))} in place of {percent(on(before, digits))}"


def _points(change: float) -> str:
    sign = "+" if change > 0 else "−" if change < 0 else "±"
    return f"{sign}{abs(100 * change):.1f} points"


def seeds_of(found: Mapping[str, Any]) -> str:
    """Return over how many seeds the numbers are means."""
    number = len(found["seeds"])
    return f"means over {number} seeds" if number > 1 else "a single seed"


def drawn(results: ReportInputs, name: str) -> bool:
    """Whether a figure of the lab is there."""
    return results.has_figure(f"figures/lab-mnist-{name}.svg")
