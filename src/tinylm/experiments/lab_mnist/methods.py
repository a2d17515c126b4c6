"""LoRA on handwritten digits: the accuracy of each method on the hard classes, and its cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.experiments.lab_mnist.digits import METHODS
from tinylm.measurement import Difference, Measurement, Verdict, compare, compare_unpaired
from tinylm.measurement import mean as mean_difference
from tinylm.report.blocks import Block, Figure, Paragraph, Table, literal
from tinylm.report.formatting import count, listed, percent, plural, setting, significant
from tinylm.report.measurements import dagger, disturbances, factor, hardware, seconds
from tinylm.report.passages import passages

TEXT = passages(__file__)

Row = Mapping[str, Any]
Tests = Sequence[Mapping[str, Any]]
"""Accuracies of the same network, one per seed."""


def comparison_blocks(results: ReportInputs, result: Mapping[str, Any]) -> list[Block]:
    """Return how the methods were compared, and the outcome in words, figures and tables."""
    settings = result["settings"]
    methods, confusion = drawn(results, "methods"), drawn(results, "confusion")
    shown = ["[[tab:lab-mnist-methods]]", "[[tab:lab-mnist-classes]]"]
    if methods:
        shown.append("[[fig:lab-mnist-methods]]")
    if confusion:
        shown.append("[[fig:lab-mnist-confusion]]")
    rates = listed([setting(rate) for rate in settings["learning_rates"]], "or")
    best = ", whichever is best for it on validation" if len(settings["learning_rates"]) > 1 else ""
    section: list[Block] = [
        *TEXT.blocks(
            "comparison",
            steps=plural(settings["steps"], "step"),
            hard_share=percent(settings["hard_share"], 0),
            hard=the_hard(result["baseline"]["hard"]),
            rates=rates,
            best=best,
            shown=listed(shown),
        ),
        Paragraph(lora_comment(result)),
        Paragraph(methods_comment(result)),
    ]
    if methods:
        section.append(
            Figure(
                "fig:lab-mnist-methods",
                "figures/lab-mnist-methods.svg",
                TEXT.line("comparison, figure"),
                TEXT.line("comparison, figure, without seeing it"),
            )
        )
    section += [_methods_table(result), _classes_table(result)]
    if confusion:
        section.append(
            Figure(
                "fig:lab-mnist-confusion",
                "figures/lab-mnist-confusion.svg",
                TEXT.line("confusions"),
                TEXT.line("confusions, without seeing them"),
                width=0.92,
            )
        )
    return [*section, Paragraph(check_comment(result["check"]))]


def lora_comment(result: Mapping[str, Any]) -> str:
    """Return the effect of LoRA on hard and other classes, and on single images."""
    lora, base = method(result, chosen(result))["test"], result["baseline"]["test"]
    hard = result["baseline"]["hard"]
    rest = others(hard)
    on_hard, on_rest = more_on(lora, base, hard), more_on(lora, base, rest)
    effect = {
        Verdict.MORE: "raises",
        Verdict.LESS: "*lowers*",
        Verdict.ALIKE: "does *not* measurably raise",
        Verdict.UNKNOWN: "changes",
    }[on_hard.verdict]
    trend = {
        Verdict.MORE: "rises",
        Verdict.LESS: "falls",
        Verdict.ALIKE: "does not measurably change",
        Verdict.UNKNOWN: "changes",
    }[on_rest.verdict]
    text = (
        f"{name_of(chosen(result))}, {effect} the test accuracy on {the_hard(hard)}, from "
        f"{_from_to(base, lora, hard)} ({_points(on_hard.value)}). On the other classes accuracy "
        f"{trend}, from {_from_to(base, lora, rest)} ({_points(on_rest.value)}). "
    )
    changes = {digit: more_on(lora, base, [digit]) for digit in rest}
    lost = [digit for digit in rest if changes[digit].verdict is Verdict.LESS]
    if lost:
        lost.sort(key=lambda digit: changes[digit].value)
        losing = listed([f"{digit} ({_points(changes[digit].value)})" for digit in lost])
        text += (
            f"Among them class {losing} loses. "
            if len(lost) == 1
            else f"Among them the classes {losing} lose. "
        )
    elif on_rest.verdict is not Verdict.UNKNOWN:
        text += "None of them loses measurably. "
    gained, wrong = (_average(result["flips"][key]) for key in ("gained", "lost"))
    return text + (
        f"Of {count(result['data']['images']['test'])} test images {gained:,.1f} become "
        f"right and {wrong:,.1f} wrong on average."
    )


def methods_comment(result: Mapping[str, Any]) -> str:
    """Return how LoRA compares with its bounds and with the control."""
    lora, head, full, plain = (
        method(result, name)
        for name in (chosen(result), METHODS.head, METHODS.full, METHODS.ordinary)
    )
    hard = result["baseline"]["hard"]
    share = lora["parameters"] / full["parameters"]
    control, aimed = percent(on(plain["test"], hard)), percent(on(full["test"], hard))
    batches = {
        Verdict.MORE: "the choice of batches raises accuracy beyond what longer training does.",
        Verdict.LESS: "the choice of batches *lowers* accuracy.",
        Verdict.ALIKE: "the choice of batches makes no measurable difference.",
        Verdict.UNKNOWN: "what the choice of batches adds could not be measured.",
    }[more_on(full["test"], plain["test"], hard).verdict]
    return (
        f"{_against(lora, full, 'training all layers')} It trains {percent(share)} as many "
        f"parameters, and its file has {count(lora['bytes'])} bytes, that of all layers "
        f"{count(full['bytes'])}. {_against(lora, head, 'training the output layer alone')} "
        f"{_ranks_comment(result['methods'])}{_time_comment(lora, full)}"
        f"Training all layers on ordinary batches brings {the_hard(hard)} to {control}, on the "
        f"targeted ones to {aimed}: {batches}"
    )


def _ranks_comment(methods: Sequence[Row]) -> str:
    rows = [row for row in methods if row["name"].startswith(METHODS.lora)]
    if len(rows) < 2:
        return ""
    by_rank = listed(
        [f"{percent(mean(row['test'], 'mean'))} at rank {_rank(row['name'])}" for row in rows]
    )
    effect = {
        Verdict.MORE: "is higher with the largest rank than with the smallest:",
        Verdict.LESS: "is lower with the largest rank than with the smallest:",
        Verdict.ALIKE: "is not measurably different between the smallest rank and the largest:",
        Verdict.UNKNOWN: "is",
    }[more_on(rows[-1]["test"], rows[0]["test"], _every(rows[0])).verdict]
    return f"LoRA's accuracy over all classes {effect} {by_rank}. "


def _time_comment(lora: Row, full: Row) -> str:
    lora_time, full_time = (Measurement.of(row["seconds"]) for row in (lora, full))
    # Methods took turns at each learning rate.
    in_turns = lora["learning_rate"] == full["learning_rate"]
    effect = compare(lora_time, full_time) if in_turns else compare_unpaired(lora_time, full_time)
    took = " against ".join(
        f"{seconds(time.median)}{dagger(time)}" for time in (lora_time, full_time)
    )
    return {
        Verdict.MORE: f"LoRA does not save time here: {took}, slower by a factor of "
        f"{factor(effect)}. The factors add operations to the forward pass. ",
        Verdict.LESS: f"LoRA is faster, {took}, by a factor of {factor(effect.inverse)}. ",
        Verdict.ALIKE: f"The times of LoRA and of training all layers are not measurably different "
        f"({took}). ",
        Verdict.UNKNOWN: f"Whether LoRA or training all layers is faster could not be measured "
        f"({took}). ",
    }[effect.verdict]


def check_comment(check: Mapping[str, Any]) -> str:
    """Return whether the adapted network is the same in every form."""
    same = {
        "unmerged again": check["unmerged_identical"],
        "loaded from its file": check["reloaded_identical"],
        "switched off (against the baseline)": check["inactive_identical"],
    }
    same_class = "the same" if check["same_predictions"] else "*not* the same"
    text = (
        f"On all {count(check['images'])} test images the merged network's logits differ by "
        f"at most {significant(check['merged'], 2)} from those of the unmerged one (the largest "
        f"logit is {significant(check['largest_logit'])}), and predictions are {same_class}. "
    )
    good = [name for name, identical in same.items() if identical]
    bad = [name for name, identical in same.items() if not identical]
    if good:
        text += f"They are identical bit for bit when the adapter is {listed(good)}. "
    if bad:
        text += f"They are *not* identical bit for bit when it is {listed(bad)}. "
    return text.rstrip()


def _methods_table(result: Mapping[str, Any]) -> Table:
    base = result["baseline"]
    hard, rest = base["hard"], others(base["hard"])
    total = result["network"]["parameters"]
    times = [Measurement.of(row["seconds"]) for row in result["methods"]]

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
                f"{seconds(took.median)}{dagger(took)}",
            )
            for row, took in zip(result["methods"], times, strict=True)
        ),
    ]
    names = [row["name"] for row in result["methods"]]
    timed = "median over the seeds" if len(result["seeds"]) > 1 else "one training"
    return Table(
        "tab:lab-mnist-methods",
        TEXT.line("comparison, table of methods", hard=classes_of(hard)),
        ("Trained", "Parameters", "", "Bytes", "Rate", "All", "Hard", "Other", "Worst", "Time"),
        tuple(rows),
        "lrrrrrrrrr",
        TEXT.line(
            "comparison, note to the table of methods",
            seeds=seeds_of(result),
            time=timed,
            hardware=hardware(result),
            disturbances=disturbances(times, repeated=False),
        ),
        emphasised=(1 + names.index(chosen(result)),),
    )


def _classes_table(result: Mapping[str, Any]) -> Table:
    hard = result["baseline"]["hard"]
    tests = [("baseline", result["baseline"]["test"])]
    tests += [(name_of(row["name"]), row["test"]) for row in result["methods"]]
    digits = range(len(tests[0][1][0]["classes"]))
    return Table(
        "tab:lab-mnist-classes",
        TEXT.line("comparison, table of classes"),
        ("Trained", *(f"*{digit}*" if digit in hard else str(digit) for digit in digits)),
        tuple(
            (name, *(f"{100 * on(accuracies, [digit]):.1f}" for digit in digits))
            for name, accuracies in tests
        ),
        "l" + "r" * len(digits),
        emphasised=tuple(
            1 + i for i, row in enumerate(result["methods"]) if row["name"] == chosen(result)
        ),
    )


def _against(first: Row, second: Row, words: str) -> str:
    """Return how a method compares with another in the mean over the classes."""
    ours, theirs = (percent(mean(row["test"], "mean")) for row in (first, second))
    comparison = {
        Verdict.MORE: f"is better than {words}, {ours} against {theirs}",
        Verdict.LESS: f"is worse than {words}, {ours} against {theirs}",
        Verdict.ALIKE: f"is not measurably different from {words}, {ours} against {theirs}",
        Verdict.UNKNOWN: f"reaches {ours}, {words} {theirs}",
    }[more_on(first["test"], second["test"], _every(first)).verdict]
    return f"Over all classes it {comparison}."


def _every(row: Row) -> Sequence[int]:
    return range(len(row["test"][0]["classes"]))


def more_on(first: Tests, second: Tests, digits: Sequence[int]) -> Difference:
    """Return how much more accurate the first is on some classes, compared seed by seed."""
    gaps = [on([a], digits) - on([b], digits) for a, b in zip(first, second, strict=True)]
    return mean_difference(gaps)


def chosen(result: Mapping[str, Any]) -> str:
    """Return the name of the LoRA that the text describes."""
    return f"{METHODS.lora}{result['settings']['rank']}"


def method(result: Mapping[str, Any], name: str) -> Row:
    """Return the row of a method."""
    rows: Sequence[Row] = result["methods"]
    return next(row for row in rows if row["name"] == name)


def _rank(name: str) -> str:
    return name.removeprefix(METHODS.lora)


def name_of(name: str) -> str:
    """Return how the report calls a method."""
    if name.startswith(METHODS.lora):
        return f"LoRA, rank {_rank(name)}"
    return {
        METHODS.head: "output layer",
        METHODS.full: "all layers",
        METHODS.ordinary: "all layers, ordinary batches",
    }.get(name, literal(name))


def others(hard: Sequence[int]) -> list[int]:
    """Return the classes that are not hard."""
    return [digit for digit in range(10) if digit not in hard]


def the_hard(hard: Sequence[int]) -> str:
    """Return how the hard classes are called."""
    return "the hard class" if len(hard) == 1 else "the hard classes"


def classes_of(digits: Sequence[int]) -> str:
    """Return ``class 7``, or ``classes 1, 2 and 3``."""
    names = listed([str(digit) for digit in digits])
    return f"class {names}" if len(digits) == 1 else f"classes {names}"


def _average(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def mean(tests: Tests, key: str) -> float:
    """Return the mean of an accuracy over the seeds."""
    return _average([test[key] for test in tests])


def on(tests: Tests, digits: Sequence[int]) -> float:
    """Return the mean accuracy of some classes, over the seeds."""
    return _average([test["classes"][digit] for test in tests for digit in digits])


def _from_to(before: Tests, after: Tests, digits: Sequence[int]) -> str:
    return f"{percent(on(before, digits))} to {percent(on(after, digits))}"


def _points(change: float) -> str:
    points = round(100 * change, 1)
    if not points:
        return "±0.0 points"
    return f"{'+' if points > 0 else '−'}{abs(points):.1f} points"


def seeds_of(result: Mapping[str, Any]) -> str:
    """Return over how many seeds the numbers are means."""
    number = len(result["seeds"])
    return f"means over {number} seeds" if number > 1 else "a single seed"


def drawn(results: ReportInputs, name: str) -> bool:
    """Whether a figure of the lab is there."""
    return results.has_figure(f"figures/lab-mnist-{name}.svg")
