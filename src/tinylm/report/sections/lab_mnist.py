"""LoRA on handwritten digits: weak classes of a network, lifted by few parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinylm.experiments.lab_digits import METHODS
from tinylm.report.blocks import Block, Equation, Figure, Heading, Paragraph, literal
from tinylm.report.formatting import count, listed, percent, plural
from tinylm.report.inputs import ReportInputs
from tinylm.report.sections.lab_mnist_methods import (
    chosen,
    comparison_blocks,
    digits_of,
    drawn,
    mean,
    method,
    name_of,
    on,
    others,
    seeds_of,
)

_SOURCES = {"MNIST": "[[lecun1998]]", "digits": "[[alpaydin1998]]"}
"""Set of images -> who made it."""


def summary(found: Mapping[str, Any]) -> str:
    """Return the lab in a paragraph, as inline markup."""
    lora, full = method(found, chosen(found)), method(found, METHODS.full)
    base, hard = found["baseline"], found["baseline"]["hard"]
    return (
        f"A network of {count(found['network']['parameters'])} parameters, trained for "
        f"{plural(found['network']['steps'], 'step')}, is worst on the classes {digits_of(hard)}. "
        f"{name_of(lora['name'])}, on the frozen network lifts their test accuracy from "
        f"{percent(on(base['test'], hard))} to {percent(on(lora['test'], hard))} with "
        f"{count(lora['parameters'])} trained parameters, and that of the other classes from "
        f"{percent(on(base['test'], others(hard)))} to "
        f"{percent(on(lora['test'], others(hard)))}; training everything reaches "
        f"{percent(on(full['test'], hard))} and {percent(on(full['test'], others(hard)))} "
        f"({seeds_of(found)})."
    )


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``lab-mnist``."""
    found = results.results.get("lab-mnist")
    if found is None:
        return []
    return [
        Heading(1, "LoRA on handwritten digits", "sec:lab-mnist"),
        *_technique(found),
        Heading(2, "Where the network is weak", "sec:lab-mnist-weak"),
        *_weakness(results, found),
        Heading(2, "The hard classes lifted", "sec:lab-mnist-lifted"),
        *comparison_blocks(results, found),
    ]


def _technique(found: Mapping[str, Any]) -> list[Block]:
    network, images = found["network"], found["data"]["images"]
    rows, columns = found["data"]["shape"]
    source = _SOURCES.get(found["data"]["name"], "")
    return [
        Paragraph(
            "LoRA [[hu2022]] leaves a trained weight $W_0$ of $m times n$ numbers as it is and "
            "adds a product of two trained factors of rank $r$, with $B = 0$ at the start, so that "
            "training begins at the trained network:"
        ),
        Equation(
            "W = W_0 + alpha / r B A, wide B in RR^(m times r), wide A in RR^(r times n), wide "
            '"trained:" r (m + n) "in place of" m n'
        ),
        Paragraph(
            "That this is not specific to language is shown here with images of digits"
            f"{f' {source}' * bool(source)}. {literal(found['data']['description'])}. Of the "
            f"training images {count(images['validation'])} are held out for validation: weak "
            "classes are identified and learning rates chosen on them, and the test images are "
            f"used once, at the end. The network takes {rows} × {columns} pixels through "
            f"{plural(len(network['sizes']) - 2, 'hidden layer')} of {network['sizes'][1]} units "
            f"with ReLU to {network['sizes'][-1]} classes, {count(network['parameters'])} "
            f"parameters. It is trained by Adam for {plural(network['steps'], 'step')} of "
            f"{network['batch_size']} images only, so that there is something left to improve. All "
            f"numbers are means over {plural(len(found['seeds']), 'seed')}, each with its own "
            "initial weights and batches."
        ),
    ]


def _weakness(results: ReportInputs, found: Mapping[str, Any]) -> list[Block]:
    made: list[Block] = [Paragraph(weakness_comment(found, drawn(results, "examples")))]
    if drawn(results, "examples"):
        made.append(
            Figure(
                "fig:lab-mnist-examples",
                "figures/lab-mnist-examples.svg",
                "Validation images of the most frequent confusions. Above each its class, below "
                "what the baseline of the first seed predicts and what it predicts with LoRA; "
                "green and bold: corrected.",
                "A row of digits that the baseline took for others.",
            )
        )
    return made


def weakness_comment(found: Mapping[str, Any], shown: bool) -> str:
    """Return which classes are the worst, and what they are taken for."""
    base, hard = found["baseline"], found["baseline"]["hard"]
    validation = base["validation"]
    classes = [(digit, on(validation, [digit])) for digit in hard]
    text = (
        f"On validation the network is right in {percent(mean(validation, 'all'))} of the images. "
        f"The {plural(len(hard), 'class', 'classes')} with the lowest accuracy "
        f"{'is' if len(hard) == 1 else 'are'} "
        f"{listed([f'{digit} ({percent(share)})' for digit, share in classes])}, against "
        f"{percent(on(validation, others(hard)))} for the others: these are the *hard* "
        "classes. "
    )
    pairs = base["confusions"]
    if pairs:
        told = [f"{one['true']} for {one['predicted']} ({percent(one['share'])})" for one in pairs]
        outside = [
            pair["predicted"]
            for pair in pairs
            if pair["true"] in hard and pair["predicted"] not in hard
        ]
        text += (
            f"The most frequent confusions take {listed(told)} of the images of that class"
            f"{' ([[fig:lab-mnist-examples]])' * shown}."
        )
        if outside:
            text += (
                f" Classes such as {digits_of(sorted(set(outside)))} draw images away from the "
                "hard ones, so that lifting these can cost accuracy there."
            )
    return text
