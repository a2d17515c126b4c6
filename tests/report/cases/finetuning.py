"""What is said of fine-tuning: what is learned and forgotten."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tests.report.telling import Case, table_of

Result = dict[str, Any]
Change = Callable[[Result], object]


def row(result: Result, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in result["methods"] if row["name"] == name)
    return found


def losses(others: float | None = None, key: str = "target_loss", **named: float) -> Change:
    """Give methods these losses; ``others`` is that of all that are not named."""

    def change(result: Result) -> None:
        for each in result["methods"]:
            name = each["name"].replace("lora+", "plus")
            if name in named:
                each[key] = named[name]
            elif others is not None:
                each[key] = others

    return change


def forgot(others: float | None = None, **named: float) -> Change:
    return losses(others, "base_loss", **named)


def repeats(*target: float) -> Change:
    return lambda result: result["repeats"].update(target_loss=list(target), base_loss=list(target))


def unknown(rate: float) -> Change:
    return lambda result: result["target"].update(unknown_rate=rate)


def without(*names: str) -> Change:
    def change(result: Result) -> None:
        result["methods"] = [row for row in result["methods"] if row["name"] not in names]

    return change


def own_prompts_only(result: Result) -> None:
    result["samples"] = [sample for sample in result["samples"] if sample["kind"] == "target"]


def long_sample(result: Result) -> None:
    result["samples"][0]["texts"]["lora"] = "word " * 100


CASES = [
    *table_of(
        "finetuning",
        (None, "LoRA was trained 3 times, with other random numbers each time; its perplexity on "
               "the new kind lies between 13.7 and 13.8."),
        (unknown(0.2), "the model does not know. Every way took"),
        (unknown(0.21), "So many are unknown that the losses below tell little of the text itself"),
        # What is learned.
        (None, "Training everything takes perplexity on the new kind from 18.2 to 13.5. LoRA, "
               "which trains 1.83\u202f% of the parameters, reaches 13.7: 93\u202f% of the gain"),
        (losses(full=2.895), "That is no measurable gain, so that", "LoRA, which trains"),
        (losses(full=2.95), "That is no measurable gain, so that", "LoRA, which trains"),
        (None, "LoRA+ does best, 13.3, not measurably different from training everything"),
        (losses(plus=2.58), "LoRA+ does best, 13.2, lower than after training everything"),
        (losses(2.70, full=2.60), "higher than after training everything"),
        (losses(math.nan, full=2.60), "not compared with training everything", "higher than"),
        (repeats(2.62), "How far such trainings lie apart is not known", "LoRA, which trains"),
        (None, "nine tenths of the gain are reached by LoRA, LoRA+, QLoRA and LongLoRA."),
        (losses(2.70, full=2.60), "None reaches nine tenths of the gain in 300 steps."),
        (None, "The least is gained by prompt tuning, 37\u202f%."),
        (losses(prompt=2.895), "Prompt tuning gained nothing meas", "The least is gained by"),
        (losses(prompt=2.95), "Prompt tuning gained nothing meas", "The least is gained by"),
        (losses(2.61, full=2.60), "At least nine tenths", "The least is gained by"),
        # LoRA's kin.
        (None, "a higher rate for $B$ (LoRA+) lowers perplexity by 3.0\u202f%".replace("$", "")),
        (None, "serving every rank (DyLoRA) raises perplexity by 4.1\u202f%"),
        (losses(qlora=2.622), "4 bits (QLoRA) makes no measurable difference"),
        (losses(qlora=2.62 + 0.5), "4 bits (QLoRA) raises perplexity by a factor of 1.65"),
        (losses(qlora=math.nan), "4 bits (QLoRA) could not be compared"),
        (without("lora+", "dylora", "qlora"), "nine tenths", "Beside LoRA"),
        # What is forgotten.
        (None, "after every way but prompt tuning and SAID: most after training everything, from "
               "11.0 to 12.4, and least after prefix tuning, from 11.0 to 11.4."),
        (forgot(2.50), "after every way: most after"),
        (forgot(2.40), "after none of the ways. With an adapter", "It falls"),
        (forgot(2.40, lora=2.50), "after LoRA alone, from 11.0 to 12.2."),
        (forgot(2.40, lora=2.50, plus=2.51), "after LoRA and LoRA+: most after LoRA+"),
        (forgot(2.30), "It falls after every way."),
        (forgot(2.30, lora=2.50), "It falls after every way but LoRA."),
        # Samples.
        (None, "the last row begins as the run's own stories do"),
        (own_prompts_only, "continues the first words", "the last row begins"),
        (lambda result: result["samples"].clear(), "What it costs", "Before and after"),
        (long_sample, "word word …"),
        (None, "draws what is learned against what is trained"),
    ),
    Case("finetuning", "What it costs", unsaid="draws what is learned", drawn=False),
]  # fmt: skip
