"""Parameter-efficient fine-tuning: what every method learns and forgets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.experiments.finetuning.costs import cost_comment, cost_table, quantization_comment
from tinylm.experiments.finetuning.rows import (
    NAMES,
    against_lora,
    beside_full,
    few_rows,
    forgotten,
    full_row,
    gain_shown,
    gained,
    label,
    lora_row,
    moved,
    noun,
    part_of_gain,
    ppl,
    ratio,
)
from tinylm.experiments.finetuning.scaling import context_blocks, rank_blocks
from tinylm.experiments.recipes import MANY_UNKNOWN
from tinylm.measurement import Verdict
from tinylm.registry import METHODS
from tinylm.report.blocks import (
    Block,
    Bullets,
    Figure,
    Heading,
    Paragraph,
    Table,
    literal,
)
from tinylm.report.formatting import count, excerpt, listed, percent, plural, setting
from tinylm.report.passages import passages

TEXT = passages(__file__)
_CHANGES_OF_LORA: dict[str, str] = {
    "full": "",
    **{name: METHODS.load(name).changes_of_lora for name in METHODS},
}
"""Name in the results -> what tells it from LoRA; empty: it is no kind of LoRA."""
_LONGEST_SAMPLE = 260
"""Characters of a sample in the table."""


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``finetuning``."""
    result = results.results.get("finetuning")
    if result is None:
        return []
    return [
        Heading(1, "Parameter-efficient fine-tuning", "sec:finetuning"),
        *_technique(result),
        *_setting(result),
        Paragraph(quality_comment(result, results.config.model.vocab_size or math.inf)),
        _quality_table(result),
        *_figure(results, result),
        *TEXT.blocks("forgetting", comment=forgetting_comment(result)),
        *_samples(results, result["samples"]),
        Paragraph(cost_comment(result)),
        cost_table(result),
        *_quantization(result),
        *rank_blocks(results, result),
        *context_blocks(result),
    ]


def _figure(results: ReportInputs, result: Mapping[str, Any]) -> list[Block]:
    if not results.has_figure("figures/finetuning.svg"):
        return []
    lines = {"LoRA at several ranks": result["ranks"],
             "SAID in several dimensions": result["dimensions"]["rows"]}  # fmt: skip
    joined = [name for name, rows in lines.items() if len(rows) > 1]
    return [
        *TEXT.blocks("quality, before the figure"),
        Figure(
            "fig:finetuning",
            "figures/finetuning.svg",
            TEXT.line("quality, figure", lines=f" Dashed: {listed(joined)}." if joined else ""),
            TEXT.line("quality, figure, without seeing it"),
        ),
    ]


def _quantization(result: Mapping[str, Any]) -> list[Block]:
    text = quantization_comment(result)
    return [Paragraph(text)] if text else []


def _technique(result: Mapping[str, Any]) -> list[Block]:
    items = [_explanation(row) for row in result["methods"] if row["settings"] is not None]
    return [*TEXT.blocks("technique"), Bullets(tuple(items)), *TEXT.blocks("merging")]


def _explanation(row: Mapping[str, Any]) -> str:
    """Return the sentence on what a method does, with the settings that it had."""
    values = row["settings"]
    if row["name"] == "lora+":
        return TEXT.line("LoRA+", ratio=setting(values["learning_rate_ratio"]))
    numbers = {key: setting(v) for key, v in values.items() if isinstance(v, int | float)}
    explanation: str = METHODS.load(row["method"]).explanation
    return explanation.format(**numbers)


def _setting(result: Mapping[str, Any]) -> list[Block]:
    target, repeats = result["target"], result["repeats"]["target_loss"]
    warning = (
        "With so many unknown words the losses below say little about the texts; others can be "
        "chosen with `experiments.finetuning.target`. "
        if target["unknown_rate"] > MANY_UNKNOWN
        else ""
    )
    return TEXT.blocks(
        "setting",
        description=literal(str(target["description"])),
        unknown=percent(target["unknown_rate"]),
        warning=warning,
        steps=plural(result["steps"], "step"),
        sequences=plural(result["batch_size"], "sequence"),
        validation_texts=plural(target["validation_texts"], "validation text"),
        own_texts=count(result["own_texts"]),
        repeats=count(len(repeats)),
        lowest=ppl(min(repeats)),
        highest=ppl(max(repeats)),
    )


def _quality_table(result: Mapping[str, Any]) -> Table:
    before, whole = result["before"], full_row(result)["trained"]
    rows = [
        (
            *("base model", "–", "–", "–"),
            *(ppl(before["target_loss"]), "–", ppl(before["base_loss"]), "–"),
        )
    ]
    for row in result["methods"]:
        rows.append(
            (
                label(row),
                setting(row["learning_rate"]),
                count(row["trained"]),
                percent(row["trained"] / whole, 2),
                ppl(row["target_loss"]),
                gain_shown(result, row),
                ppl(row["base_loss"]),
                ratio(row["base_loss"], before["base_loss"]),
            )
        )
    best = min(range(1, len(rows)), key=lambda i: float(result["methods"][i - 1]["target_loss"]))
    return Table(
        "tab:ft-quality",
        TEXT.line("quality, table"),
        ("Method", "Rate", "Parameters", "Share", "Target", "Gain", "Source", "Ratio"),
        tuple(rows),
        "lrrrrrrr",
        TEXT.line("quality, table's note"),
        emphasised=(best,),
    )


def quality_comment(result: Mapping[str, Any], vocab_size: float) -> str:
    """Return the gain of full fine-tuning and of LoRA, and how the other methods compare.

    Args:
        result: of the experiment.
        vocab_size: of the model, or infinity where it is not known; it is the perplexity where
            all tokens are equally likely.
    """
    before, full, few = result["before"], full_row(result), few_rows(result)
    text = (
        "*What is learned.* Full fine-tuning takes the perplexity on the target from "
        f"{ppl(before['target_loss'])}{_beyond_uniform(before['target_loss'], vocab_size)} to "
        f"{ppl(full['target_loss'])} ([[tab:ft-quality]]). "
    )
    verdict = gained(result, full).verdict
    if verdict is Verdict.UNKNOWN:
        return f"{text}The spread of such trainings is not known, so that none are compared."
    if verdict is not Verdict.LESS:
        return text + (
            "That is *no measurable gain* with which the other methods could be compared. Possible "
            "reasons are that the base model knew such texts already, or an unsuitable learning "
            "rate."
        )
    lora = lora_row(result)
    share = lora["trained"] / full["trained"]
    text += (
        f"LoRA, which trains {count(lora['trained'])} added parameters ({percent(share, 2)} as "
        f"many as the model has), reaches {ppl(lora['target_loss'])}, with "
        f"{gain_shown(result, lora)} of the gain in loss. "
    )
    best = min(few, key=lambda row: float(row["target_loss"]))
    text += (
        "The lowest perplexity of a parameter-efficient method in the table is that of "
        f"{noun(best)}, {ppl(best['target_loss'])}, {beside_full(result, best)}. "
    )
    gains = {id(row): part_of_gain(result, row) for row in few}
    most = [noun(row) for row in few if gains[id(row)] >= 0.9]
    none = [noun(row) for row in few if gained(result, row).verdict is not Verdict.LESS]
    if most:
        text += f"At least 90\u202f% of the gain is reached by {listed(most)}. "
    else:
        text += f"None reaches 90\u202f% of the gain in {plural(result['steps'], 'step')}. "
    if none:
        text += f"No measurable gain is reached by {listed(none)}. "
    worst = min(few, key=lambda row: gains[id(row)])
    if not none and gains[id(worst)] < 0.9:
        text += f"The smallest gain, {percent(gains[id(worst)], 0)}, is that of {noun(worst)}. "
    return (text + _variants_comment(result)).strip()


def _beyond_uniform(loss: float, vocab_size: float) -> str:
    """Return a remark on a loss that is above that of the uniform distribution, else nothing."""
    if loss <= math.log(vocab_size):
        return ""
    return f" (all tokens equally likely: {count(vocab_size)})"


def _variants_comment(result: Mapping[str, Any]) -> str:
    """Return how LoRA's variants compare with it."""
    parts = []
    for row in result["methods"]:
        change = _change_of_lora(row)
        if not change:
            continue
        difference = against_lora(result, row)
        effect = {
            Verdict.LESS: f"is lower by {moved(difference.value)}",
            Verdict.MORE: f"is higher by {moved(difference.value)}",
            Verdict.ALIKE: "is not measurably different",
            Verdict.UNKNOWN: "could not be compared",
        }[difference.verdict]
        parts.append(f"that of {NAMES[row['name']]} ({change}) {effect}")
    return f"Compared with the perplexity of LoRA, {listed(parts)}." if parts else ""


def _change_of_lora(row: Mapping[str, Any]) -> str:
    """Return what tells a variant from LoRA; nothing of another method."""
    if row["name"] == "lora+":
        rate = row["learning_rate"]
        higher = rate * row["settings"]["learning_rate_ratio"]
        return f"learning rates of {setting(rate)} for $A$ and {setting(higher)} for $B$"
    return _CHANGES_OF_LORA[row["name"]]


def forgetting_comment(result: Mapping[str, Any]) -> str:
    """Return which methods raise the perplexity on the source most and least."""
    before = result["before"]["base_loss"]
    verdicts = {id(row): forgotten(result, row).verdict for row in result["methods"]}
    worse = [row for row in result["methods"] if verdicts[id(row)] is Verdict.MORE]
    better = [row for row in result["methods"] if verdicts[id(row)] is Verdict.LESS]
    text = "The perplexity on the source rises measurably after "
    if not worse:
        text += "none of the methods."
    elif len(worse) == 1:
        text += f"{noun(worse[0])} alone, {_rise(worse[0], before)}."
    else:
        worst, least = (of(worse, key=lambda row: float(row["base_loss"])) for of in (max, min))
        text += (
            f"{_all(worse, result['methods'])}: most after {noun(worst)}, {_rise(worst, before)}, "
            f"and least after {noun(least)}, {_rise(least, before)}."
        )
    if better:
        text += f" It *falls* after {_all(better, result['methods'])}."
    return text


def _rise(row: Mapping[str, Any], before: float) -> str:
    return f"from {ppl(before)} to {ppl(row['base_loss'])}"


def _all(rows: Sequence[Mapping[str, Any]], among: Sequence[Mapping[str, Any]]) -> str:
    others = [noun(row) for row in among if row not in rows]
    if not others:
        return "every method"
    if len(others) < len(rows) / 2:
        return f"every method but {listed(others)}"
    return listed([noun(row) for row in rows])


def _samples(results: ReportInputs, samples: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Return what the model writes before and after, side by side."""
    if not samples:
        return []
    tokens = results.config.experiments.finetuning.sample_tokens
    headers = {"base": "Base model", "lora": "After LoRA", "full": "After full fine-tuning"}
    rows = tuple(tuple(_sample(sample, name) for name in headers) for sample in samples)
    own = (
        ". The last row has a prompt of the source, and shows what was forgotten"
        if any(sample["kind"] == "own" for sample in samples)
        else ""
    )
    return [
        *TEXT.blocks("samples", tokens=plural(tokens, "token"), own=own),
        Table(
            "tab:ft-samples",
            TEXT.line("samples, table"),
            tuple(headers.values()),
            rows,
            "ppp",
            TEXT.line("samples, table's note", length=count(_LONGEST_SAMPLE)),
        ),
    ]


def _sample(sample: Mapping[str, Any], way: str) -> str:
    """Return a text that begins with its prompt, the prompt in italics."""
    text = excerpt(str(sample["texts"][way]), _LONGEST_SAMPLE)
    prompt = " ".join(str(sample["prompt"]).split())
    if not text.startswith(prompt):
        return literal(text)
    return f"*{literal(prompt)}*{literal(text.removeprefix(prompt))}"
