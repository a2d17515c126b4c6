"""What is said of the costs of fine-tuning."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from tests.report.cases.finetuning import row, without
from tests.report.made_up import timing
from tests.report.telling import table_of

Result = dict[str, Any]


def alike(result: Result) -> None:
    """All cost the same, merged or not."""
    full = row(result, "full")
    for each in result["methods"]:
        each["step"], each["peak_bytes"] = full["step"], full["peak_bytes"]
        if each["generation_merged"]:
            each["generation_merged"] = each["generation"]


def unmerged(result: Result) -> None:
    for each in result["methods"]:
        each["generation_merged"] = None


def merging_helps_all_but_lora(result: Result) -> None:
    lora = row(result, "lora")
    lora["generation_merged"] = copy.deepcopy(lora["generation"])


def steps(seconds: float) -> Callable[[Result], None]:
    """Let every method but training everything take so long for a step."""

    def change(result: Result) -> None:
        for each in result["methods"]:
            if each["name"] != "full":
                each["step"] = timing(seconds)

    return change


def only_prompt_is_quicker(result: Result) -> None:
    alike(result)
    row(result, "prompt")["step"] = timing(0.1)


def disturbed(result: Result) -> None:
    row(result, "prompt")["step"] = timing(0.18, 0.9)


def quantized(**values: Any) -> Callable[[Result], None]:
    def change(result: Result) -> None:
        qlora = row(result, "qlora")
        qlora["settings"].update({k: v for k, v in values.items() if k in qlora["settings"]})
        if "constants" in values:
            qlora["quantized"]["constant_bytes"] *= values["constants"]

    return change


CASES = table_of(
    "finetuning",
    (None, "peaks at 148 MiB, one of prefix tuning at 95.0, 36\u202f% less"),
    (alike, "None lowers the peak of a training step"),
    (None, "the least with prefix tuning (1.27× as fast). With SAID it takes longer than with "
           "training everything (1.14× the time). "),
    (only_prompt_is_quicker, "With prompt tuning a step takes less time than with training every"
                             "thing (", "the least"),
    (None, "SAID computes the whole update", "QLoRA computes"),  # it was no slower
    (steps(0.1), "With every method a step takes less time than with", "it takes longer"),
    (steps(0.5), "With every method it takes longer than with training everything, the longest "
                 "with LoRA (", "less time"),
    (steps(0.5), "QLoRA computes its matrices"),
    (alike, "In time none is measurably different from training everything"),
    (None, "most for SAID, 2.36×; merged, none is measurably different from the plain model."),
    (merging_helps_all_but_lora, "Merging makes generation faster for LoRA+, DyLoRA, QLoRA",
     "merged, none is"),
    (alike, "Merging made generation measurably faster in no case"),
    (unmerged, "No adapter here can be merged"),
    (disturbed, "†: disturbed", ""),
    (None, "Measured on", "†"),
    # Bytes in 4 bits.
    (None, "8/64 + 32/(64 · 256) = 0.127", "make the difference"),
    (quantized(constants=2), "blocks that are not full, and the mean of each matrix"),
    (quantized(double_quantization=False), "32/64 = 0.500"),
    (without("qlora"), "What it costs", "Bytes in 4 bits"),
    (lambda result: row(result, "qlora").update(quantized=None), "QLoRA", "Bytes in 4 bits"),
)  # fmt: skip
