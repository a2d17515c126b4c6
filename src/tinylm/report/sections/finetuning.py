"""Fine-tuning with few parameters: what every method learns and forgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.report.blocks import (
    Block,
    Bullets,
    Equation,
    Figure,
    Heading,
    Paragraph,
    Table,
    literal,
)
from tinylm.report.formatting import count, keyed, listed, percent, plural, setting, significant
from tinylm.report.inputs import ReportInputs
from tinylm.report.measurements import times
from tinylm.report.sections.finetuning_costs import cost_comment, cost_table, quantization_comment
from tinylm.report.sections.finetuning_rows import (
    NAMES,
    changed,
    few_rows,
    full_row,
    gain,
    ppl,
    shown,
)
from tinylm.report.sections.finetuning_scaling import context_blocks, rank_blocks

_TOLD = {
    "lora": "*LoRA* [[hu2022]] adds to a frozen matrix $W$ a product of two thin ones, "
    "$W + alpha/r B A$ with $r$ rows in $A$; $A$ starts random and $B$ at zero.",
    "lora+": "*LoRA+* [[hayou2024]] gives $B$ a higher learning rate than $A$, here {ratio} times "
    "as high.",
    "dylora": "*DyLoRA* [[valipour2022]] draws a rank $b <= r$ at every step and trains the first "
    "$b$ rows and columns only, so that one training serves every rank up to {rank}.",
    "qlora": "*QLoRA* [[dettmers2023]] is LoRA over matrices that are kept in 4-bit NormalFloat, "
    "one constant for {block_size} weights, the constants in 8 bits.",
    "longlora": "*LongLoRA* [[chen2023]] is LoRA on attention alone, with embeddings and norms "
    "trained as well; on texts longer than a group it attends within groups.",
    "bottleneck": "*Bottleneck* adapters [[houlsby2019]] put a network of inner width {size} after "
    "attention and after feed-forward, with a skip connection.",
    "prefix": "*Prefix* tuning [[li2021]] learns the keys and values of {length} virtual tokens in "
    "every layer, made by a small network while they are trained.",
    "prompt": "*Prompt* tuning [[lester2021]] learns the input embeddings of {length} virtual "
    "tokens.",
    "intrinsic": "*SAID* [[aghajanyan2021]] moves all matrices together by {dimension} numbers, "
    "through a fixed random projection [[le2013]].",
}
"""Method -> what it does; braces are its settings."""
_CLOSE = 0.01
"""Relative difference of perplexities below which nothing is made of it."""
_FAR = 0.5
"""Relative difference from which a factor is told in place of it."""


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``finetuning``."""
    found = results.results.get("finetuning")
    if found is None:
        return []
    drawn = results.has_figure("figures/finetuning.svg")
    made: list[Block] = [
        Heading(1, "Fine-tuning with few parameters", "sec:finetuning"),
        *_technique(found),
        Paragraph(_setting(found)),
        _quality_table(found),
        Paragraph(quality_comment(found) + " [[fig:finetuning]] draws it." * drawn),
        Paragraph(forgetting_comment(found)),
    ]
    if drawn:
        made.append(
            Figure(
                "fig:finetuning",
                "figures/finetuning.svg",
                "Validation perplexity on the new kind against the number of trained parameters, "
                "on a logarithmic axis; lower and further left is better. Lines join LoRA at "
                "several ranks, and SAID in several dimensions.",
                "Perplexity of every method against its trained parameters.",
            )
        )
    made += [cost_table(found), Paragraph(cost_comment(found))]
    if text := quantization_comment(found):
        made.append(Paragraph(text))
    by_rank = rank_blocks(found, results.has_figure("figures/finetuning-ranks.svg"))
    return [*made, *by_rank, *context_blocks(found)]


def _technique(found: Mapping[str, Any]) -> list[Block]:
    items = []
    for row in found["methods"]:
        if told := _TOLD.get(row["name"]):
            values = dict(row["settings"]) | {"ratio": row["settings"].get("learning_rate_ratio")}
            shown = {key: setting(v) for key, v in values.items() if isinstance(v, int | float)}
            items.append(told.format(**shown))
    return [
        Paragraph(
            "A trained model is adapted to other text by training it further. Training everything "
            "makes a second model of the same size and needs gradients and optimizer state for "
            "every weight. Methods with few parameters leave the weights $W$ as they are and train "
            "a small number of others:"
        ),
        Bullets(tuple(items)),
        Paragraph(
            "The updates of LoRA and its kin, and of SAID, are matrices of the shape of $W$, and "
            "can be added to it once they are trained. The merged model costs what the plain one "
            "does:"
        ),
        Equation("h = W x + alpha/r B A x = (W + alpha/r B A) x."),
    ]


def _setting(found: Mapping[str, Any]) -> str:
    shares = found["shares"]
    kind = literal(str(found["kind"]))
    value = literal(str(found["description"]))
    dialogue = max(shares.values()) < 1
    numbers = (
        f"{percent(shares['chosen'])} against {percent(shares['others'])}"
        if dialogue
        else f"{significant(shares['chosen'])} against {significant(shares['others'])}"
    )
    return (
        f"The corpus was parted by {value}. A base model of this run's sizes was trained for "
        f"{plural(found['base_steps'], 'step')} on the {plural(found['train_stories'], 'story', 'stories')} "  # noqa: E501
        f"with least of it, and then adapted to as many with most ({kind}), in every way for "
        f"{plural(found['steps'], 'step')} of {plural(found['batch_size'], 'row')}, the same rows "
        f"in the same order. {plural(found['validation_stories'], 'validation story', 'validation stories')} "  # noqa: E501
        f"of either kind measure what is learned and what is forgotten ({numbers} in the mean). "
        "Each way has the learning rate given in [[tab:ft-quality]], constant; each was trained "
        "once, so that small differences may be those of the random numbers."
    )


def _signed(share: float) -> str:
    """Return a change in percent with its sign."""
    if abs(share) < 0.0005:
        return "0\u202f%"
    return f"{'+' if share > 0 else '−'}{percent(abs(share))}"


def _quality_table(found: Mapping[str, Any]) -> Table:
    before, whole = found["before"], full_row(found)["trained"]
    rows = [("the base", "–", "–", "–", ppl(before["target_loss"]), "–", ppl(before["base_loss"]),
             "–")]  # fmt: skip
    for row in found["methods"]:
        share = gain(found, row)
        rows.append(
            (
                shown(row),
                setting(row["learning_rate"]),
                count(row["trained"]),
                percent(row["trained"] / whole, 2),
                ppl(row["target_loss"]),
                "–" if share is None else percent(share, 0).replace("-", "−"),
                ppl(row["base_loss"]),
                _signed(changed(row["base_loss"], before["base_loss"])),
            )
        )
    best = min(range(1, len(rows)), key=lambda i: found["methods"][i - 1]["target_loss"])
    return Table(
        "tab:ft-quality",
        "What every method trains, learns and forgets: validation perplexity on the new kind and "
        "on the base's.",
        ("Trained", "Rate", "Parameters", "Share", "New kind", "Gain", "Base kind", "Change"),
        tuple(rows),
        "lrrrrrrr",
        "Share: of all parameters of the model. Gain: of the loss on the new kind that training "
        "everything takes away. Change: of the perplexity on the base's kind; above 0 is "
        "forgetting. The row with the lowest perplexity on the new kind is bold.",
        emphasised=(best,),
    )


def quality_comment(found: Mapping[str, Any]) -> str:
    """Return what training everything gains, which methods come near it, and which do not."""
    before, full, few = found["before"], full_row(found), few_rows(found)
    text = (
        "*What is learned.* Training everything takes perplexity on the new kind from "
        f"{ppl(before['target_loss'])} to {ppl(full['target_loss'])}. "
    )
    if gain(found, full) is None:
        return text + (
            "It gained *nothing*, so that there is no gain to compare the others with: the base "
            "knew the new kind, or the learning rate does not suit it."
        )
    best = min(few, key=lambda row: float(row["target_loss"]))
    way = changed(best["target_loss"], full["target_loss"])
    text += (
        f"Of the methods with few parameters {shown(best)} does best, "
        f"{ppl(best['target_loss'])} with {percent(best['trained'] / full['trained'], 2)} of the "
        "parameters, "
    )
    if abs(way) <= _CLOSE:
        text += "as good as that. "
    elif way < 0:
        text += (
            "better than that: with so few steps, fewer parameters at a higher rate go further. "
        )
    elif way < _FAR:
        text += f"{percent(way)} above that. "
    else:
        text += f"{times(1 + way)} as much. "
    gains = {id(row): gain(found, row) or 0.0 for row in few}
    most = [shown(row) for row in few if gains[id(row)] >= 0.9]
    none = [shown(row) for row in few if gains[id(row)] <= 0]
    if most:
        text += f"At least nine tenths of the gain are reached by {listed(most)}. "
    else:
        steps = plural(found["steps"], "step")
        text += f"None reaches nine tenths of the gain in {steps}. "
    if none:
        text += f"{listed(none)} gained nothing. "
    worst = min(few, key=lambda row: gains[id(row)])
    if not none and gains[id(worst)] < 0.9:
        text += f"The least is gained by {shown(worst)}, {percent(gains[id(worst)], 0)}. "
    return (text + _beside_lora(found)).strip()


def _beside_lora(found: Mapping[str, Any]) -> str:
    """Return how LoRA's kin compare with it."""
    rows = keyed(found["methods"], "name")
    if "lora" not in rows:
        return ""
    parts = []
    what = {"lora+": "a higher rate for $B$", "dylora": "serving every rank", "qlora": "4 bits"}
    for name, reason in what.items():
        if name in rows:
            way = changed(rows[name]["target_loss"], rows["lora"]["target_loss"])
            parts.append(f"{reason} ({NAMES[name]}) {_effect(way)}")
    return f"Beside LoRA, {listed(parts)}." if parts else ""


def _effect(change: float) -> str:
    if abs(change) <= _CLOSE:
        return "changes perplexity by less than 1\u202f%"
    return f"{'raises' if change > 0 else 'lowers'} it by {percent(abs(change))}"


def forgetting_comment(found: Mapping[str, Any]) -> str:
    """Return who forgets most and least, and whether forgetting follows learning."""
    before = found["before"]["base_loss"]
    changes = {shown(row): changed(row["base_loss"], before) for row in found["methods"]}
    text = "*What is forgotten.* "
    worse = {name: change for name, change in changes.items() if change > _CLOSE}
    better = [name for name, change in changes.items() if change < -_CLOSE]
    if len(worse) == 1:
        (only,) = worse
        text += (
            f"On the base's own kind perplexity rises by more than 1\u202f% after {only} alone, by "
            f"{percent(worse[only])}. "
        )
    elif worse:
        most = max(worse, key=worse.__getitem__)
        text += (
            f"On the base's own kind perplexity rises by more than 1\u202f% after {_all(worse, changes)}; "  # noqa: E501
            f"most after {most}, by {percent(worse[most])}. "
        )
        if "everything" in worse and most != "everything":
            text += f"Training everything costs {percent(worse['everything'])} there. "
    else:
        text += "On the base's own kind perplexity rises by more than 1\u202f% after none of them. "
    if better:
        text += (
            f"It *falls* after {_all(better, changes)}: the two kinds have much in common, and the "
            "base was not yet at its best. "
        )
    text += (
        "With an adapter nothing is lost: the base's weights are untouched, and the adapter can be "
        "switched off."
    )
    return text.strip()


def _all(names: Sequence[str] | Mapping[str, float], changes: Mapping[str, float]) -> str:
    others = [name for name in changes if name not in names]
    if len(names) > 2 and len(others) < len(names) / 2:
        return "every way" + (f" but {listed(others)}" if others else "")
    return listed(list(names))
