"""Number formats: the same training in float32 and in bfloat16."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.measurement import Difference, Verdict
from tinylm.report.blocks import Block, Heading, Paragraph, Table, literal
from tinylm.report.formatting import count, duration, listed, percent, plural, significant
from tinylm.report.measurements import hardware


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``precision``."""
    found = results.results.get("precision")
    if found is None:
        return []
    return [
        Heading(1, "Number formats", "sec:precision"),
        Paragraph(
            "In mixed precision [[micikevicius2018]] matrix products are computed in bfloat16, "
            "which keeps 8 bits of a number and the range of float32, while weights, optimizer "
            "state, residual stream, norms and loss stay in float32. What this costs in accuracy "
            f"was measured here. The model was trained twice for {plural(found['steps'], 'step')}, "
            "from the same weights, on the same windows and with the same dropout masks. "
            f"{loss_comment(found)}"
        ),
        Paragraph(gradient_comment(found)),
        _table(found),
    ]


def loss_comment(found: Mapping[str, Any]) -> str:
    """Return both losses, whether they agree, and how long both trainings took."""
    plain, low = found["trained"]["fp32"], found["trained"]["bf16"]
    bound = found["tolerances"]["loss"]
    beside = {
        Verdict.LESS: "measurably lower, by",
        Verdict.MORE: "measurably higher, by",
        Verdict.ALIKE: "not measurably different, with a difference of",
        Verdict.UNKNOWN: "with a difference of",
    }[Difference.from_result(found.get("loss_change")).verdict]
    text = (
        f"The validation loss, computed in float32 for both, is then "
        f"{plain['validation_loss']:.4f} nats per token after float32 and "
        f"{low['validation_loss']:.4f} after bfloat16, {beside} "
        f"{percent(found['loss_difference'], 2)}. Up to {percent(bound)} is allowed"
    )
    text += (
        ". "
        if "loss" not in found["failed"]
        else ": it is *outside*, so train this model with `training.precision=fp32`. "
    )
    text += (
        f"The trainings took {duration(plain['seconds'])} and {duration(low['seconds'])}, one "
        f"after the other, on {hardware(found)}"
    )
    if not found["native"]:
        text += "; this processor has no instructions for products in bfloat16"
    return f"{text}."


def gradient_comment(found: Mapping[str, Any]) -> str:
    """Return how well the gradients agree, and whether that is within the tolerances."""
    # Fixed bounds: on the same masks nothing but rounding differs.
    tolerances = found["tolerances"]
    failed = [name for name in found["failed"] if name != "loss"]
    worst = {
        place: max(one["error"] for one in parts.values())
        for place, parts in found["agreement"].items()
    }
    text = (
        "[[tab:precision]] compares the gradients of one batch in both formats, at the weights of "
        "the start and at those after the training in float32. No part's gradient may differ by "
        f"more than {percent(tolerances['error'], 0)} of its norm, or have a cosine below "
        f"{significant(tolerances['cosine'], 2)} with that in float32. "
    )
    if failed:
        are = "is" if len(failed) == 1 else "are"
        return f"{text}The {listed(failed, 'and the')} {are} *outside*."
    text += (
        f"All are within: the largest errors are {percent(worst['start'])} at the start and "
        f"{percent(worst['end'])} at the end."
    )
    if worst["end"] > worst["start"]:
        text += (
            " Near a minimum the gradient is what is left of large terms that cancel, and their "
            "rounding has more weight."
        )
    return text


def _table(found: Mapping[str, Any]) -> Table:
    start, end = found["agreement"]["start"], found["agreement"]["end"]
    rows = tuple(
        (
            "whole gradient" if part == "all" else literal(part),
            *(
                cell
                for one in (start[part], end[part])
                for cell in (f"{one['cosine']:.5f}", percent(one["error"], 2))
            ),
        )
        for part in start
    )
    return Table(
        "tab:precision",
        f"Gradients in bfloat16 against those in float32, at the start and after "
        f"{plural(found['steps'], 'step')}.",
        ("Part", "Cosine, start", "Error, start", "Cosine, end", "Error, end"),
        rows,
        "lrrrr",
        "Error: norm of the difference, relative to that of the gradient in float32. A batch of "
        f"{count(found['tokens_per_step'])} tokens.",
        emphasised=(0,),
    )
