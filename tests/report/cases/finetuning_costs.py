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
    """Let every method but full fine-tuning take so long for a step."""

    def change(result: Result) -> None:
        for each in result["methods"]:
            if each["name"] != "full":
                each["step"] = timing(seconds)

    return change


def only_prompt_is_faster(result: Result) -> None:
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
    (None, "in full fine-tuning and lowest with prefix tuning, 95.0 MiB, 36\u202f% less.",
     "More than in full fine-tuning"),
    (alike, "No method lowers the peak memory", "More than in full fine-tuning is needed"),
    (lambda result: row(result, "intrinsic").update(peak_bytes=160 * 2**20),
     "36\u202f% less. More than in full fine-tuning is needed with SAID (160 MiB)."),
    (None, "the least with prefix tuning (79\u202f% of the time). A step takes more time than in "
           "full fine-tuning with SAID (1.14× the time). "),
    (only_prompt_is_faster, "A step takes less time than in full fine-tuning with prompt tuning (",
     "the least"),
    (None, "SAID computes the whole update", "QLoRA computes"),  # it was no slower
    (steps(0.1), "A step takes less time than in full fine-tuning with every method", "more time"),
    (steps(0.5), "A step takes more time than in full fine-tuning with every method, the most with "
                 "LoRA (", "less time"),
    (steps(0.5), "QLoRA computes its matrices"),
    (alike, "The times of a step are not measurably different from that of full fine-tuning"),
    (None, "most for SAID, by a factor of 2.36; merged, none is measurably different from the "
           "plain model."),
    (merging_helps_all_but_lora, "Merging makes generation faster for LoRA+, DyLoRA, QLoRA",
     "merged, none is"),
    (alike, "Merging made generation measurably faster in no case"),
    (unmerged, "No adapter here can be merged"),
    (disturbed, "†: disturbed", ""),
    (None, "Measured on", "†"),
    # Weights in 4 bits.
    (None, "8/64 + 32/(64 · 256) = 0.127", "account for the difference"),
    (quantized(constants=2), "blocks that are not full, and the mean of each matrix"),
    (quantized(double_quantization=False), "32/64 = 0.500"),
    (without("qlora"), "Costs.", "Memory of weights in 4 bits"),
    (lambda result: row(result, "qlora").update(quantized=None), "QLoRA", "Memory of weights in"),
)  # fmt: skip
