"""LoRA on handwritten digits: raising the accuracy on weak classes with few parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.experiments.lab_mnist.digits import METHODS
from tinylm.experiments.lab_mnist.methods import (
    chosen,
    classes_of,
    comparison_blocks,
    drawn,
    mean,
    method,
    more_on,
    name_of,
    on,
    others,
    seeds_of,
    the_hard,
)
from tinylm.measurement import Verdict
from tinylm.report.blocks import Block, Figure, Heading, Paragraph, literal
from tinylm.report.formatting import count, listed, percent, plural
from tinylm.report.passages import passages

TEXT = passages(__file__)

_SOURCES = {"MNIST": " [[lecun1998]]", "digits": " [[alpaydin1998]]"}
"""Set of images -> who made it, behind its name."""


def summary(result: Mapping[str, Any]) -> str:
    """Return the lab in a paragraph, as inline markup."""
    lora, full = method(result, chosen(result)), method(result, METHODS.full)
    base, hard = result["baseline"], result["baseline"]["hard"]
    effect = {
        Verdict.MORE: "raises the test accuracy there",
        Verdict.LESS: "lowers the test accuracy there",
        Verdict.ALIKE: "does not measurably change the test accuracy there, which goes",
        Verdict.UNKNOWN: "takes the test accuracy there",
    }[more_on(lora["test"], base["test"], hard).verdict]
    return (
        f"A network of {count(result['network']['parameters'])} parameters, trained for "
        f"{plural(result['network']['steps'], 'step')}, is worst on {classes_of(hard)}. "
        f"{name_of(lora['name'])}, on the frozen network {effect} from "
        f"{percent(on(base['test'], hard))} to {percent(on(lora['test'], hard))} with "
        f"{plural(lora['parameters'], 'trained parameter')}; on the other classes accuracy goes "
        f"from {percent(on(base['test'], others(hard)))} to "
        f"{percent(on(lora['test'], others(hard)))}. Training all layers reaches "
        f"{percent(on(full['test'], hard))} and {percent(on(full['test'], others(hard)))} "
        f"({seeds_of(result)})."
    )


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``lab-mnist``."""
    result = results.results.get("lab-mnist")
    if result is None:
        return []
    return [
        Heading(1, "LoRA on handwritten digits", "sec:lab-mnist"),
        *_technique(result),
        Heading(2, "Where the network is weak", "sec:lab-mnist-weak"),
        *_weakness(results, result),
        Heading(2, "What fine-tuning changes", "sec:lab-mnist-lifted"),
        *comparison_blocks(results, result),
    ]


def _technique(result: Mapping[str, Any]) -> list[Block]:
    network, images = result["network"], result["data"]["images"]
    rows, columns = result["data"]["shape"]
    source = _SOURCES.get(result["data"]["name"], "")
    scatter = (
        TEXT.line("technique, several seeds", seeds=str(len(result["seeds"])))
        if len(result["seeds"]) > 1
        else TEXT.line("technique, one seed")
    )
    return TEXT.blocks(
        "technique",
        source=source,
        description=literal(result["data"]["description"]),
        validation=count(images["validation"]),
        rows=str(rows),
        columns=str(columns),
        layers=plural(len(network["sizes"]) - 2, "hidden layer"),
        units=plural(network["sizes"][1], "unit"),
        classes=str(network["sizes"][-1]),
        parameters=count(network["parameters"]),
        steps=plural(network["steps"], "step"),
        images=plural(network["batch_size"], "image"),
        scatter=scatter,
    )


def _weakness(results: ReportInputs, result: Mapping[str, Any]) -> list[Block]:
    section: list[Block] = [Paragraph(weakness_comment(result, drawn(results, "examples")))]
    if drawn(results, "examples"):
        section.append(
            Figure(
                "fig:lab-mnist-examples",
                "figures/lab-mnist-examples.svg",
                TEXT.line("weakness, figure"),
                TEXT.line("weakness, figure, without seeing it"),
            )
        )
    return section


def weakness_comment(result: Mapping[str, Any], shown: bool) -> str:
    """Return which classes are the worst, and with which classes they are confused."""
    base, hard = result["baseline"], result["baseline"]["hard"]
    validation = base["validation"]
    classes = [(digit, on(validation, [digit])) for digit in hard]
    worst = listed([f"{digit} ({percent(share)})" for digit, share in classes])
    right = percent(mean(validation, "all"))
    text = f"On validation the network is right in {right} of the images. "
    if len(hard) == 1:
        text += f"The class with the lowest accuracy is {worst}"
    else:
        text += f"The {len(hard)} classes with the lowest accuracy are {worst}"
    text += f", against {percent(on(validation, others(hard)))} for the rest: "
    text += "this is the *hard* class." if len(hard) == 1 else "these are the *hard* classes."
    pairs = base["confusions"]
    if not pairs:
        return text
    first, *more = pairs
    confused = [
        f"{first['true']} is taken for {first['predicted']} ({percent(first['share'])} of its "
        "images)",
        *(f"{pair['true']} for {pair['predicted']} ({percent(pair['share'])})" for pair in more),
    ]
    text += f" Most often {listed(confused)}"
    text += " ([[fig:lab-mnist-examples]])." if shown else "."
    outside = {pair["predicted"] for pair in pairs if pair["true"] in hard} - set(hard)
    if outside:
        text += (
            f" Raising the accuracy on {the_hard(hard)} can lower that on "
            f"{classes_of(sorted(outside))}, for "
            "which their images are taken."
        )
    return text
