"""How few numbers are enough (ranks, intrinsic dimension), and how a context is made longer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.experiments.finetuning.rows import (
    NAMES,
    Row,
    full_row,
    gain,
    gain_shown,
    learned,
    moved,
    ppl,
)
from tinylm.measurement import Verdict, mean
from tinylm.report.blocks import Block, Figure, Heading, Table
from tinylm.report.formatting import count, keyed, listed, percent, plural, setting, significant
from tinylm.report.measurements import compared, hardware, median, mib, rounds
from tinylm.report.passages import passages

TEXT = passages(__file__)


def rank_blocks(results: ReportInputs, result: Mapping[str, Any]) -> list[Block]:
    """Return LoRA and DyLoRA by rank, and the intrinsic dimension."""
    lora, dylora = result["ranks"], result["dylora"]
    made: list[Block] = []
    if lora or dylora:
        made += [
            Heading(2, "How large a rank", "sec:ft-ranks"),
            *TEXT.blocks("ranks", comment=rank_comment(result)),
            _rank_table(result),
        ]
    if results.has_figure("figures/finetuning-ranks.svg"):
        dimensions = bool(result["dimensions"]["rows"])
        text = caption = ""
        if dimensions:
            text = ", and SAID by the dimension of its subspace"
            caption = (
                "; on the right against the dimension of the random subspace of SAID. The dotted "
                "line is nine tenths of the gain of training everything"
            )
        made += [
            *TEXT.blocks("ranks, before the figure", dimensions=text),
            Figure(
                "fig:ft-ranks",
                "figures/finetuning-ranks.svg",
                TEXT.line("ranks, figure", dimensions=caption),
                TEXT.line("ranks, figure, without seeing it"),
            ),
        ]
    if result["dimensions"]["rows"]:
        made += [
            Heading(2, "Intrinsic dimension", "sec:ft-dimension"),
            *TEXT.blocks("intrinsic dimension", comment=dimension_comment(result)),
            _dimension_table(result),
        ]
    return made


def _rank_table(result: Mapping[str, Any]) -> Table:
    lora = keyed(result["ranks"], "rank")
    dylora = keyed(result["dylora"], "rank")
    largest = max(dylora, default=0)
    rows = []
    for rank in sorted({*lora, *dylora}):
        own, cut = lora.get(rank), dylora.get(rank)
        rows.append(
            (
                str(rank),
                count(own["trained"]) if own else "–",
                ppl(own["target_loss"]) if own else "–",
                ppl(own["base_loss"]) if own else "–",
                ppl(cut["target_loss"]) if cut else "–",
                ppl(cut["base_loss"]) if cut else "–",
            )
        )
    return Table(
        "tab:ft-ranks",
        TEXT.line(
            "ranks, table",
            dylora=f"; DyLoRA was trained once, with a largest rank of {largest}"
            if largest
            else "",
        ),
        ("Rank", "LoRA, parameters", "new kind", "base kind", "DyLoRA, new kind", "base kind"),
        tuple(rows),
        "rrrrrr",
        TEXT.line("ranks, table's note"),
    )


def rank_comment(result: Mapping[str, Any]) -> str:
    """Return what a larger rank brings, and what DyLoRA gives away for serving all of them."""
    text = ""
    lora = sorted(result["ranks"], key=lambda row: int(row["rank"]))
    if len(lora) > 1:
        best = min(lora, key=lambda row: float(row["target_loss"]))
        first, last = lora[0], lora[-1]
        text += (
            f"From rank {first['rank']} to {last['rank']}, with "
            f"{setting(last['trained'] / first['trained'])} times the parameters, LoRA's "
            f"perplexity {_moves(result, first, last)}; "
        )
        enough = next(row for row in lora if row is best or not _differ(result, row, best))
        text += (
            f"the best is rank {best['rank']}. "
            if enough is best
            else f"rank {enough['rank']} is not measurably different from the best. "
        )
    return (text + _dylora_comment(result)).strip()


def _differ(result: Mapping[str, Any], one: Row, other: Row) -> bool:
    verdict = learned(result, one["target_loss"], other["target_loss"]).verdict
    return verdict in (Verdict.LESS, Verdict.MORE)


def _moves(result: Mapping[str, Any], one: Row, other: Row) -> str:
    """Return how the perplexity goes from one row to another."""
    if not _differ(result, one, other):
        return "does not change measurably"
    difference = other["target_loss"] - one["target_loss"]
    return f"{'rises' if difference > 0 else 'falls'} by {moved(difference)}"


def _dylora_comment(result: Mapping[str, Any]) -> str:
    cut = sorted(result["dylora"], key=lambda row: int(row["rank"]))
    if not cut:
        return ""
    largest = cut[-1]
    text = f"DyLoRA was trained with a largest rank of {largest['rank']}. "
    if len(cut) > 1:
        text += (
            f"From rank {cut[0]['rank']} to that its perplexity {_moves(result, cut[0], largest)}. "
        )
    lora = keyed(result["ranks"], "rank")
    gaps = {
        row["rank"]: learned(result, row["target_loss"], lora[row["rank"]]["target_loss"])
        for row in cut
        if row["rank"] in lora
    }
    if not gaps:
        return text
    above = [rank for rank, gap in gaps.items() if gap.verdict is Verdict.MORE]
    below = [rank for rank, gap in gaps.items() if gap.verdict is Verdict.LESS]
    parts = []
    if above:
        worst = max(gaps[rank].value for rank in above)
        parts.append(
            f"worse than a LoRA trained for that rank alone at {_ranks(above)} "
            f"(by up to {moved(worst)})"
        )
    if below:
        best = min(gaps[rank].value for rank in below)
        parts.append(f"better at {_ranks(below)} (by up to {moved(best)})")
    equal = [rank for rank in gaps if rank not in above and rank not in below]
    if equal:
        parts.append(f"not measurably different from it at {_ranks(equal)}")
    return f"{text}It is {listed(parts)}."


def _ranks(ranks: Sequence[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {listed([str(rank) for rank in ranks])}"


def dimension_comment(result: Mapping[str, Any]) -> str:
    """Return the intrinsic dimension, or why there is none."""
    dimensions = result["dimensions"]
    rows = sorted(dimensions["rows"], key=lambda row: int(row["dimension"]))
    full = full_row(result)
    if gain(result, full) is None:
        return "Training everything gained nothing, so that there is no $d_90$."
    reached = dimensions["d90"]
    if reached is None:
        best = min(rows, key=lambda row: float(row["target_loss"]))
        return (
            f"None reaches nine tenths in {plural(result['steps'], 'step')}: the most is "
            f"{gain_shown(result, best)}, in {count(best['dimension'])} dimensions. So $d_90$ is "
            f"above {count(rows[-1]['dimension'])} for so short a training."
        )
    smaller = [row for row in rows if row["dimension"] < reached]
    between = (
        f"between {count(smaller[-1]['dimension'])} and {count(reached)}"
        if smaller
        else f"at most {count(reached)}"
    )
    return (
        f"Nine tenths are reached in {count(reached)} dimensions, "
        f"{percent(reached / full['trained'], 3)} of the model's parameters: $d_90$ is {between} "
        "for a training of this length."
    )


def _dimension_table(result: Mapping[str, Any]) -> Table:
    rows = sorted(result["dimensions"]["rows"], key=lambda row: int(row["dimension"]))
    reached = result["dimensions"]["d90"]
    cells = tuple(
        (
            count(row["dimension"]),
            ppl(row["target_loss"]),
            gain_shown(result, row),
            ppl(row["base_loss"]),
        )
        for row in rows
    )
    return Table(
        "tab:ft-dimension",
        TEXT.line("intrinsic dimension, table"),
        ("Dimensions", "New kind", "Gain", "Base kind"),
        cells,
        "rrrr",
        emphasised=tuple(i for i, row in enumerate(rows) if row["dimension"] == reached),
    )


def context_blocks(result: Mapping[str, Any]) -> list[Block]:
    """Return how a longer context is reached."""
    long = result["long"]
    if long is None or long["rows"][0]["within"] is None:
        return []
    short, length = long["context_length"], long["extended"]
    return [
        Heading(2, "A longer context", "sec:ft-context"),
        *TEXT.blocks(
            "longer context",
            short=count(short),
            length=count(length),
            steps=plural(long["steps"], "step"),
            windows=plural(long["batch_size"], "window"),
            comment=context_comment(long),
        ),
        _context_table(result, long["rows"]),
    ]


def _context_table(result: Mapping[str, Any], rows: Sequence[Row]) -> Table:
    long = result["long"]
    cells = []
    for row in rows:
        trained = "step" in row
        cells.append(
            (
                NAMES.get(row["method"], "the base, as it is"),
                count(row["trained"]) if trained else "–",
                ppl(row["within"]),
                ppl(row["beyond"]),
                mib(row["peak_bytes"]) if trained else "–",
                median(row["step"]) if trained else "–",
            )
        )
    timed = next((row for row in rows if "step" in row), None)
    step = f" Step: {rounds(timed['step'])}, on {hardware(result)}." if timed else ""
    return Table(
        "tab:ft-context",
        TEXT.line(
            "longer context, table",
            windows=plural(long["windows"], "window"),
            length=count(long["extended"]),
            short=count(long["context_length"]),
        ),
        ("", "Parameters", "Within", "Beyond", "Peak, MiB", "Step"),
        tuple(cells),
        "lrrrrr",
        TEXT.line("longer context, table's note", step=step),
    )


def context_comment(long: Mapping[str, Any]) -> str:
    """Return what longer texts do to the base, and what either training makes of them.

    Losses are compared window by window.
    """
    rows = keyed(long["rows"], "method")
    base = rows["none"]
    beyond = mean(_windows(base, "beyond") - _windows(base, "within"))
    text = (
        f"As it is, the base has perplexity {ppl(base['within'])} within its context and "
        f"{ppl(base['beyond'])} beyond it"
    )
    text += {
        Verdict.MORE: f", higher by {moved(beyond.value)}: it has not learned what those "
        "positions mean. ",
        Verdict.LESS: f", lower by {moved(beyond.value)}: positions that it has not seen do not "
        "disturb it, and more text before a token helps. ",
        Verdict.ALIKE: ", not measurably different: positions that it has not seen do not disturb "
        "it. ",
        Verdict.UNKNOWN: ", too few windows to compare. ",
    }[beyond.verdict]
    trained = [name for name in ("lora", "longlora") if name in rows]
    for name in trained:
        row = rows[name]
        text += f"{NAMES[name]} brings them to {ppl(row['within'])} and {ppl(row['beyond'])}. "
    if len(trained) < 2:
        return text.strip()
    whole, grouped = rows["lora"], rows["longlora"]
    gap = mean(_windows(grouped, "beyond") - _windows(whole, "beyond"))
    size = significant(grouped["trained"] / whole["trained"])
    text += {
        Verdict.LESS: f"Beyond the old context LongLoRA is lower, by {moved(gap.value)}, with "
        f"{size} times the parameters. ",
        Verdict.MORE: f"Beyond the old context LongLoRA is higher, by {moved(gap.value)}, with "
        f"{size} times the parameters. ",
        Verdict.ALIKE: "Beyond the old context the two are not measurably different. ",
        Verdict.UNKNOWN: "",
    }[gap.verdict]
    return text + _step_comment(whole, grouped)


def _windows(row: Row, place: str) -> npt.NDArray[np.float64]:
    """Return the loss of every window, (windows)."""
    return np.asarray(row["windows"][place], dtype=np.float64)


def _step_comment(whole: Row, grouped: Row) -> str:
    step = compared(grouped["step"], whole["step"])
    if step.verdict is Verdict.LESS:
        return f"A step of LongLoRA takes {percent(step.ratio, 0)} of the time of one of LoRA."
    if step.verdict is Verdict.MORE:
        return (
            f"A step of LongLoRA takes {significant(step.ratio)} times as long: at these lengths "
            "what groups save in attention is less than the trained embeddings cost."
        )
    if step.verdict is Verdict.ALIKE:
        return "The times of their steps are not measurably different."
    return "Which of their steps is quicker could not be measured."
