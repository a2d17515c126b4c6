"""Number formats: the same training in float32 and in bfloat16."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.measurement import Difference, Verdict
from tinylm.report.blocks import Block, Heading, Table, literal
from tinylm.report.formatting import count, duration, listed, percent, plural, significant
from tinylm.report.measurements import hardware
from tinylm.report.passages import passages

TEXT = passages(__file__)


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``precision``."""
    result = results.results.get("precision")
    if result is None:
        return []
    tolerances = result[
        "tolerances"
    ]  # fixed bounds: on the same masks nothing but rounding differs
    return [
        Heading(1, "Number formats", "sec:precision"),
        *TEXT.blocks(
            "technique", steps=plural(result["steps"], "step"), comment=loss_comment(result)
        ),
        *TEXT.blocks(
            "gradients",
            error=percent(tolerances["error"], 0),
            cosine=significant(tolerances["cosine"], 2),
            comment=gradient_comment(result),
        ),
        _table(result),
    ]


def loss_comment(result: Mapping[str, Any]) -> str:
    """Return both losses, whether they agree, and how long both trainings took."""
    plain, low = result["trained"]["fp32"], result["trained"]["bf16"]
    bound = result["tolerances"]["loss"]
    change = {
        Verdict.LESS: "measurably lower, by",
        Verdict.MORE: "measurably higher, by",
        Verdict.ALIKE: "not measurably different, with a difference of",
        Verdict.UNKNOWN: "with a difference of",
    }[Difference.from_result(result.get("loss_change")).verdict]
    text = (
        f"The validation loss, computed in float32 for both, is then "
        f"{plain['validation_loss']:.4f} nats per token after float32 and "
        f"{low['validation_loss']:.4f} after bfloat16, {change} "
        f"{percent(result['loss_difference'], 2)}. Up to {percent(bound)} is allowed"
    )
    text += (
        ". "
        if "loss" not in result["failed"]
        else ": this is *exceeded*, so train this model with `training.precision=fp32`. "
    )
    text += (
        f"The trainings took {duration(plain['seconds'])} and {duration(low['seconds'])}, one "
        f"after the other, on {hardware(result)}"
    )
    if not result["native"]:
        text += "; this processor has no instructions for products in bfloat16"
    return f"{text}."


def gradient_comment(result: Mapping[str, Any]) -> str:
    """Return how well the gradients agree, and whether that is within the tolerances."""
    failed = [name for name in result["failed"] if name != "loss"]
    worst = {
        place: max(comparison["error"] for comparison in parts.values())
        for place, parts in result["agreement"].items()
    }
    if failed:
        are = "is" if len(failed) == 1 else "are"
        return f"The {listed(failed, 'and the')} {are} *outside* these bounds."
    text = (
        f"All are within these bounds: the largest errors are {percent(worst['start'])} at the "
        f"start and {percent(worst['end'])} at the end."
    )
    if worst["end"] > worst["start"]:
        text += (
            " A possible reason is that near a minimum the gradient is a sum of large terms that "
            "cancel, so that their rounding has more weight."
        )
    return text


def _table(result: Mapping[str, Any]) -> Table:
    start, end = result["agreement"]["start"], result["agreement"]["end"]
    rows = tuple(
        (
            "whole gradient" if part == "all" else literal(part),
            *(
                cell
                for comparison in (start[part], end[part])
                for cell in (f"{comparison['cosine']:.5f}", percent(comparison["error"], 2))
            ),
        )
        for part in start
    )
    return Table(
        "tab:precision",
        TEXT.line("table", steps=plural(result["steps"], "step")),
        ("Part", "Cosine, start", "Error, start", "Cosine, end", "Error, end"),
        rows,
        "lrrrr",
        TEXT.line("table's note", tokens=count(result["tokens_per_step"])),
        emphasised=(0,),
    )
