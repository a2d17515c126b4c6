"""Fine-tuning with few parameters: what every method learns and forgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.experiments.finetuning.costs import cost_comment, cost_table, quantization_comment
from tinylm.experiments.finetuning.rows import (
    NAMES,
    beside_lora,
    few_rows,
    forgotten,
    full_row,
    gain_shown,
    gained,
    learned,
    lora_row,
    moved,
    part_of_gain,
    ppl,
    ratio,
    shown,
    told,
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
from tinylm.report.formatting import count, listed, percent, plural, setting
from tinylm.report.passages import passages

TEXT = passages(__file__)
_CHANGES_OF_LORA = {
    "full": "",
    **{name: METHODS.load(name).changes_of_lora for name in METHODS},
    "lora+": "a higher rate for $B$",
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
        Heading(1, "Fine-tuning with few parameters", "sec:finetuning"),
        *_technique(result),
        *_setting(result),
        Paragraph(quality_comment(result)),
        _quality_table(result),
        *_figure(results),
        Paragraph(forgetting_comment(result)),
        *_samples(result["samples"]),
        Paragraph(cost_comment(result)),
        cost_table(result),
        *_quantization(result),
        *rank_blocks(results, result),
        *context_blocks(result),
    ]


def _figure(results: ReportInputs) -> list[Block]:
    if not results.has_figure("figures/finetuning.svg"):
        return []
    return [
        *TEXT.blocks("quality, before the figure"),
        Figure(
            "fig:finetuning",
            "figures/finetuning.svg",
            TEXT.line("quality, figure"),
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
        "So many are unknown that the losses below tell little of the text itself; other text can "
        "be named with `experiments.finetuning.target`. "
        if target["unknown_rate"] > MANY_UNKNOWN
        else ""
    )
    return TEXT.blocks(
        "setting",
        description=literal(str(target["description"])),
        unknown=percent(target["unknown_rate"]),
        warning=warning,
        steps=plural(result["steps"], "step"),
        rows=plural(result["batch_size"], "row"),
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
            *("the base", "–", "–", "–"),
            *(ppl(before["target_loss"]), "–", ppl(before["base_loss"]), "–"),
        )
    ]
    for row in result["methods"]:
        rows.append(
            (
                shown(row),
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
        ("Trained", "Rate", "Parameters", "Share", "New kind", "Gain", "Own kind", "Ratio"),
        tuple(rows),
        "lrrrrrrr",
        TEXT.line("quality, table's note"),
        emphasised=(best,),
    )


def quality_comment(result: Mapping[str, Any]) -> str:
    """Return what training everything and LoRA gain, and which methods come near."""
    before, full, few = result["before"], full_row(result), few_rows(result)
    text = (
        "*What is learned* is in [[tab:ft-quality]]. Training everything takes perplexity on the "
        f"new kind from {ppl(before['target_loss'])} to {ppl(full['target_loss'])}. "
    )
    verdict = gained(result, full).verdict
    if verdict is Verdict.UNKNOWN:
        return text + (
            "How far such trainings lie apart is not known, so that nothing is said of differences."
        )
    if verdict is not Verdict.LESS:
        return text + (
            "That is *no measurable gain*, so that there is nothing to compare the others with: "
            "the base knew the new kind, or the learning rate does not suit it."
        )
    lora = lora_row(result)
    share = lora["trained"] / full["trained"]
    text += (
        f"LoRA, which trains {percent(share, 2)} of the parameters, reaches "
        f"{ppl(lora['target_loss'])}: {gain_shown(result, lora)} of the gain in loss. "
    )
    best = min(few, key=lambda row: float(row["target_loss"]))
    verdict = learned(result, best["target_loss"], full["target_loss"]).verdict
    word = {
        Verdict.LESS: "lower than after training everything",
        Verdict.MORE: "higher than after training everything",
        Verdict.ALIKE: "not measurably different from training everything",
        Verdict.UNKNOWN: "not compared with training everything",
    }[verdict]
    text += (
        f"Of the methods with few parameters {told(best)} does best, {ppl(best['target_loss'])}, "
        f"{word}. "
    )
    gains = {id(row): part_of_gain(result, row) for row in few}
    most = [told(row) for row in few if gains[id(row)] >= 0.9]
    none = [told(row) for row in few if gained(result, row).verdict is not Verdict.LESS]
    if most:
        text += f"At least nine tenths of the gain are reached by {listed(most)}. "
    else:
        text += f"None reaches nine tenths of the gain in {plural(result['steps'], 'step')}. "
    if none:
        names = listed(none)
        text += f"{names[0].upper()}{names[1:]} gained nothing measurable. "
    worst = min(few, key=lambda row: gains[id(row)])
    if not none and gains[id(worst)] < 0.9:
        text += f"The least is gained by {told(worst)}, {percent(gains[id(worst)], 0)}. "
    return (text + _kin_comment(result)).strip()


def _kin_comment(result: Mapping[str, Any]) -> str:
    """Return how LoRA's kin compare with it."""
    parts = []
    for row in result["methods"]:
        change = _CHANGES_OF_LORA[row["name"]]
        if not change:
            continue
        difference = beside_lora(result, row)
        effect = {
            Verdict.LESS: f"lowers perplexity by {moved(difference.value)}",
            Verdict.MORE: f"raises perplexity by {moved(difference.value)}",
            Verdict.ALIKE: "makes no measurable difference",
            Verdict.UNKNOWN: "could not be compared",
        }[difference.verdict]
        parts.append(f"{change} ({NAMES[row['name']]}) {effect}")
    return f"Beside LoRA, {listed(parts)}." if parts else ""


def forgetting_comment(result: Mapping[str, Any]) -> str:
    """Return who forgets most and least."""
    before = result["before"]["base_loss"]
    verdicts = {id(row): forgotten(result, row).verdict for row in result["methods"]}
    worse = [row for row in result["methods"] if verdicts[id(row)] is Verdict.MORE]
    better = [row for row in result["methods"] if verdicts[id(row)] is Verdict.LESS]
    text = "*What is forgotten.* On the run's own kind perplexity rises measurably after "
    if not worse:
        text += "none of the ways. "
    elif len(worse) == 1:
        text += f"{told(worst := worse[0])} alone, {_rise(worst, before)}. "
    else:
        worst, least = (of(worse, key=lambda row: float(row["base_loss"])) for of in (max, min))
        text += (
            f"{_all(worse, result['methods'])}: most after {told(worst)}, {_rise(worst, before)}, "
            f"and least after {told(least)}, {_rise(least, before)}. "
        )
    if better:
        text += f"It *falls* after {_all(better, result['methods'])}. "
    return text + (
        "With an adapter nothing is lost for good: the base's weights are untouched, and the "
        "adapter can be switched off."
    )


def _rise(row: Mapping[str, Any], before: float) -> str:
    return f"from {ppl(before)} to {ppl(row['base_loss'])}"


def _all(rows: Sequence[Mapping[str, Any]], among: Sequence[Mapping[str, Any]]) -> str:
    others = [told(row) for row in among if row not in rows]
    if not others:
        return "every way"
    if len(others) < len(rows) / 2:
        return f"every way but {listed(others)}"
    return listed([told(row) for row in rows])


def _samples(samples: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Return what the model writes before and after, side by side."""
    if not samples:
        return []
    ways = {"base": "The base", "lora": "After LoRA", "full": "After training everything"}
    rows = tuple(
        tuple(literal(_cut(str(sample["texts"][way]))) for way in ways) for sample in samples
    )
    own = (
        "; the last row begins as the run's own stories do, and shows what was forgotten"
        if any(sample["kind"] == "own" for sample in samples)
        else ""
    )
    return [
        *TEXT.blocks("samples", own=own),
        Table(
            "tab:ft-samples",
            TEXT.line("samples, table"),
            tuple(ways.values()),
            rows,
            "ppp",
            TEXT.line("samples, table's note", length=count(_LONGEST_SAMPLE)),
        ),
    ]


def _cut(text: str) -> str:
    text = " ".join(text.split())
    if len(text) <= _LONGEST_SAMPLE:
        return text
    return f"{text[:_LONGEST_SAMPLE].rsplit(' ', 1)[0]} …"
