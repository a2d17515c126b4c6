"""What is said of fine-tuning: what is learned and forgotten."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tests.report.telling import Case, table_of

Result = dict[str, Any]
Change = Callable[[Result], object]


def row(result: Result, name: str) -> dict[str, Any]:
    chosen: dict[str, Any] = next(row for row in result["methods"] if row["name"] == name)
    return chosen


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


def before(loss: float) -> Change:
    return lambda result: result["before"].update(target_loss=loss)


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


def one_rank(result: Result) -> None:
    result["ranks"] = result["ranks"][:1]


def no_lines(result: Result) -> None:
    one_rank(result)
    result["dimensions"]["rows"] = result["dimensions"]["rows"][:1]


def long_sample(result: Result) -> None:
    result["samples"][0]["texts"]["lora"] = "word " * 100


CASES = [
    *table_of(
        "finetuning",
        (None, "LoRA was trained with 3 seeds; its perplexity on the target lies between 13.7 and "
               "13.8."),
        (None, "Here r = 8 and alpha = 16."),
        (unknown(0.2), "are unknown to the model. Every method was trained"),
        (unknown(0.21), "With so many unknown words the losses below say little about the texts"),
        # What is learned.
        (None, "Full fine-tuning takes the perplexity on the target from 18.2 to 13.5 (tab:"),
        (None, "LoRA, which trains 110,000 added parameters (1.83\u202f% as many as the model "
               "has), reaches 13.7, with 93\u202f% of the gain in loss."),
        (before(10.0), "from 22,026 (all tokens equally likely: 4,812) to 13.5"),
        (before(8.4), "from 4,447 to 13.5", "equally likely"),
        (losses(full=2.895), "no measurable gain with which the other", "LoRA, which trains"),
        (losses(full=2.95), "no measurable gain with which the other", "LoRA, which trains"),
        (None, "that of LoRA+, 13.3, not measurably different from that after full fine-tuning."),
        (losses(plus=2.58), "that of LoRA+, 13.2, lower than after full fine-tuning."),
        (losses(2.70, full=2.60), "higher than after full fine-tuning"),
        (losses(math.nan, full=2.60), "that of LoRA, nan, not compared with full fine-tuning"),
        (repeats(2.62), "The spread of such trainings is not known", "LoRA, which trains"),
        (None, "At least 90\u202f% of the gain is reached by LoRA, LoRA+, QLoRA and LongLoRA."),
        (losses(2.70, full=2.60), "None reaches 90\u202f% of the gain in 300 steps."),
        (None, "The smallest gain, 37\u202f%, is that of prompt tuning."),
        (losses(prompt=2.895), "No measurable gain is reached by prompt", "The smallest gain"),
        (losses(prompt=2.95), "No measurable gain is reached by prompt", "The smallest gain"),
        (losses(2.61, full=2.60), "At least 90\u202f%", "The smallest gain"),
        # LoRA's variants, of which LoRA+ has two learning rates.
        (None, "Compared with the perplexity of LoRA, that of LoRA+ (learning rates of "
               "0.002 for A and 0.032 for B) is lower by 3.0\u202f%"),
        (None, "that of DyLoRA (serving every rank) is higher by 4.1\u202f%"),
        (losses(qlora=2.622), "that of QLoRA (4 bits) is not measurably different"),
        (losses(qlora=2.62 + 0.5), "that of QLoRA (4 bits) is higher by a factor of 1.65"),
        (losses(qlora=math.nan), "that of QLoRA (4 bits) could not be compared"),
        (without("lora+", "dylora", "qlora"), "of the gain", "Compared with the perplexity"),
        # What is forgotten.
        (None, "after every method but prompt tuning and SAID: most after full fine-tuning, from "
               "11.0 to 12.4, and least after prefix tuning, from 11.0 to 11.4. Every method but"),
        (forgot(2.50), "after every method: most after"),
        (forgot(2.40), "after none of the methods. Every method but", "It falls"),
        (forgot(2.40, lora=2.50), "after LoRA alone, from 11.0 to 12.2."),
        (forgot(2.40, lora=2.50, plus=2.51), "after LoRA and LoRA+: most after LoRA+"),
        (forgot(2.30), "It falls after every method."),
        (forgot(2.30, lora=2.50), "It falls after every method but LoRA."),
        # Samples.
        (None, "The last row has a prompt of the source"),
        (own_prompts_only, "continuations of the first words", "The last row"),
        (lambda result: result["samples"].clear(), "Costs.", "Before and after"),
        (long_sample, "word word …"),
        (one_rank, "further left is better. Dashed: SAID in several dimensions."),
        (no_lines, "lower and further left is better.", "Dashed:"),
        (None, "shows the perplexity on the target against the number of trained parameters"),
    ),
    Case("finetuning", "from 22,026 to 13.5", before(10.0),
         settings={"model": {"vocab_size": None}}),
    Case("finetuning", "Costs.", unsaid="against the number of trained parameters", drawn=False),
]  # fmt: skip
