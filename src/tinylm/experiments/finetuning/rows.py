"""The rows of the fine-tuning experiment, as its sections read them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import mean
from typing import Any

from tinylm.measurement import Difference, Noise, Verdict
from tinylm.registry import METHODS
from tinylm.report.blocks import literal
from tinylm.report.formatting import keyed, percent, significant
from tinylm.report.measurements import times

Row = Mapping[str, Any]

NAMES: dict[str, str] = {
    "full": "full fine-tuning",
    **{name: METHODS.load(name).label for name in METHODS},
    "lora+": "LoRA+",
}
"""Name in the results -> how the report calls it."""
_NOUNS: dict[str, str] = {
    "full": "full fine-tuning",
    **{name: METHODS.load(name).noun for name in METHODS},
}
_FAR = 1.5
"""Ratio of perplexities from which it is written as a factor, not in percent."""


def label(row: Row) -> str:
    """Return the name of a row's method in a table, as inline markup."""
    return NAMES.get(row["name"], literal(str(row["name"])))


def noun(row: Row) -> str:
    """Return the name of a row's method in a sentence, as inline markup."""
    return _NOUNS.get(row["name"], label(row))


def ppl(loss: float) -> str:
    """Return the perplexity of a loss in nats per token, with three digits."""
    return significant(math.exp(min(loss, 700.0)))


def gain(result: Mapping[str, Any], row: Row) -> float | None:
    """Return a method's gain in loss on the target, relative to that of full fine-tuning.

    None where full fine-tuning gained nothing.
    """
    whole = result["before"]["target_loss"] - full_row(result)["target_loss"]
    return part_of_gain(result, row) if whole > 0 else None


def part_of_gain(result: Mapping[str, Any], row: Row) -> float:
    """Return a method's gain in loss on the target, relative to that of full fine-tuning."""
    before = result["before"]["target_loss"]
    return float((before - row["target_loss"]) / (before - full_row(result)["target_loss"]))


def gain_shown(result: Mapping[str, Any], row: Row) -> str:
    """Return the gain in percent, or a dash where full fine-tuning gained nothing."""
    share = gain(result, row)
    return "–" if share is None else percent(share, 0).replace("-", "−")


def full_row(result: Mapping[str, Any]) -> Row:
    """Return the row of full fine-tuning."""
    return _named(result)["full"]


def few_rows(result: Mapping[str, Any]) -> list[Row]:
    """Return the rows of the parameter-efficient methods."""
    return [row for row in result["methods"] if row["method"] != "full"]


def lora_row(result: Mapping[str, Any]) -> Row:
    """Return the row of LoRA itself, not of a variant."""
    return _named(result)["lora"]


def _named(result: Mapping[str, Any]) -> Mapping[str, Row]:
    return keyed(result["methods"], "name")


def learned(result: Mapping[str, Any], first: float, second: float) -> Difference:
    """Compare two losses on the target, each of one training."""
    return _noise(result, "target_loss").difference(first, second)


def against_lora(result: Mapping[str, Any], row: Row) -> Difference:
    """Compare a row's loss on the target with the mean of LoRA's trainings."""
    repeats = result["repeats"]["target_loss"]
    number = (1, len(repeats))
    return _noise(result, "target_loss").difference(row["target_loss"], mean(repeats), number)


def beside_full(result: Mapping[str, Any], row: Row) -> str:
    """Return whether a row's perplexity on the target differs from that after full fine-tuning."""
    return {
        Verdict.LESS: "lower than after full fine-tuning",
        Verdict.MORE: "higher than after full fine-tuning",
        Verdict.ALIKE: "not measurably different from that after full fine-tuning",
        Verdict.UNKNOWN: "not compared with full fine-tuning",
    }[learned(result, row["target_loss"], full_row(result)["target_loss"]).verdict]


def gained(result: Mapping[str, Any], row: Row) -> Difference:
    """Compare a row's loss on the target with that of the base, which has no noise."""
    before = result["before"]["target_loss"]
    return _noise(result, "target_loss").difference(row["target_loss"], before, (1, math.inf))


def forgotten(result: Mapping[str, Any], row: Row) -> Difference:
    """Compare a row's loss on the source with that of the base."""
    before = result["before"]["base_loss"]
    return _noise(result, "base_loss").difference(row["base_loss"], before, (1, math.inf))


def moved(difference: float) -> str:
    """Return how far a perplexity is above or below another, whose logarithms differ so.

    In percent, or as a ratio where it is far: ``12.3 %``, ``a factor of 3.10``.
    """
    ratio = math.exp(min(abs(difference), 700.0))
    if ratio >= _FAR:
        return f"a factor of {significant(ratio)}"
    return percent(ratio - 1 if difference > 0 else 1 - 1 / ratio)


def ratio(loss: float, before: float) -> str:
    """Return how many times as high a perplexity is."""
    return times(math.exp(min(loss - before, 700.0)))


def _noise(result: Mapping[str, Any], key: str) -> Noise:
    return Noise.of(result["repeats"][key])
