"""The rows of the fine-tuning experiment, as its sections read them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tinylm.report.blocks import literal
from tinylm.report.formatting import significant

Row = Mapping[str, Any]

NAMES = {
    "full": "everything",
    "lora": "LoRA",
    "lora+": "LoRA+",
    "dylora": "DyLoRA",
    "qlora": "QLoRA",
    "longlora": "LongLoRA",
    "bottleneck": "bottleneck",
    "prefix": "prefix",
    "prompt": "prompt",
    "intrinsic": "SAID",
}
"""Name in the results -> how the report calls it."""


def shown(row: Row) -> str:
    """Return how a row's method is called, as inline markup."""
    return NAMES.get(row["name"], literal(str(row["name"])))


def ppl(loss: float) -> str:
    """Return the perplexity of a loss in nats a token, with three digits."""
    return significant(math.exp(min(loss, 700.0)))


def gain(found: Mapping[str, Any], row: Row) -> float | None:
    """Return what share of the loss that training everything takes away a way takes away.

    None where training everything gained nothing.
    """
    before, full = found["before"]["target_loss"], full_row(found)["target_loss"]
    if full >= before:
        return None
    return float((before - row["target_loss"]) / (before - full))


def full_row(found: Mapping[str, Any]) -> Row:
    """Return the row of training everything."""
    full: Row = next(row for row in found["methods"] if row["method"] == "full")
    return full


def few_rows(found: Mapping[str, Any]) -> list[Row]:
    """Return the rows of the methods with few parameters."""
    return [row for row in found["methods"] if row["method"] != "full"]


def changed(loss: float, before: float) -> float:
    """Return the relative change of perplexity."""
    return math.exp(min(loss - before, 700.0)) - 1
