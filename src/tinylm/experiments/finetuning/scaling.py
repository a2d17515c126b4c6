"""Ranks, intrinsic dimension, and the extension of the context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.experiments.finetuning.rows import (
    NAMES,
    Row,
    against_lora,
    beside_full,
    full_row,
    gain,
    gain_shown,
    learned,
    lora_row,
    moved,
    ppl,
)
from tinylm.measurement import Difference, Verdict, mean
from tinylm.report.blocks import Block, Figure, Heading, Table
from tinylm.report.formatting import count, keyed, listed, percent, plural, setting, significant
from tinylm.report.measurements import compared, hardware, median, mib, rounds
from tinylm.report.passages import passages

TEXT = passages(__file__)


def rank_blocks(results: ReportInputs, result: Mapping[str, Any]) -> list[Block]:
    """Return LoRA and DyLoRA by rank, and the intrinsic dimension."""
    lora, dylora = result["ranks"], result["dylora"]
    blocks: list[Block] = []
    if lora or dylora:
        blocks += [
            Heading(2, "How large a rank", "sec:ft-ranks"),
            *TEXT.blocks("ranks", comment=rank_comment(result)),
            _rank_table(result),
        ]
    if results.has_figure("figures/finetuning-ranks.svg"):
        dimensions = bool(result["dimensions"]["rows"])
        text = caption = ""
        if dimensions:
            text = ", and that of SAID by the dimension of its subspace"
            caption = (
                "; on the right that of SAID by the dimension of its random subspace. The dotted "
                "line is nine tenths of the gain of full fine-tuning"
            )
        blocks += [
            *TEXT.blocks("ranks, before the figure", dimensions=text),
            Figure(
                "fig:ft-ranks",
                "figures/finetuning-ranks.svg",
                TEXT.line("ranks, figure", dimensions=caption),
                TEXT.line("ranks, figure, without seeing it"),
            ),
        ]
    if result["dimensions"]["rows"]:
        blocks += [
            Heading(2, "Intrinsic dimension", "sec:ft-dimension"),
            *TEXT.blocks("intrinsic dimension", comment=dimension_comment(result)),
            _dimension_table(result),
        ]
    return blocks


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
        ("Rank", "LoRA", "DyLoRA"),
        tuple(rows),
        "rrrrrr",
        TEXT.line("ranks, table's note"),
        spans=(1, 3, 2),
    )


def rank_comment(result: Mapping[str, Any]) -> str:
    """Return how perplexity depends on LoRA's rank, and how DyLoRA compares at each rank."""
    text = ""
    lora = sorted(result["ranks"], key=lambda row: int(row["rank"]))
    if len(lora) > 1:
        best = min(lora, key=lambda row: float(row["target_loss"]))
        first, last = lora[0], lora[-1]
        text += (
            f"From rank {first['rank']} to {last['rank']}, with "
            f"{setting(last['trained'] / first['trained'])} times the parameters, LoRA's "
            f"perplexity {_moves(result, first, last)}. "
        )
        enough = next(row for row in lora if row is best or not _differ(result, row, best))
        text += (
            f"Its lowest is {ppl(best['target_loss'])}, at rank {best['rank']}, "
            f"{beside_full(result, best)} ({ppl(full_row(result)['target_loss'])})"
        )
        if enough is not best:
            text += f"; that at rank {enough['rank']} is not measurably different from it"
        text += ". "
    return (text + _dylora_comment(result)).strip()


def _differ(result: Mapping[str, Any], first: Row, second: Row) -> bool:
    verdict = learned(result, first["target_loss"], second["target_loss"]).verdict
    return verdict in (Verdict.LESS, Verdict.MORE)


def _moves(result: Mapping[str, Any], first: Row, second: Row) -> str:
    """Return how the perplexity changes from one row to another."""
    if not _differ(result, first, second):
        return "does not change measurably"
    difference = second["target_loss"] - first["target_loss"]
    return f"{'rises' if difference > 0 else 'falls'} by {moved(difference)}"


def _dylora_comment(result: Mapping[str, Any]) -> str:
    cut = sorted(result["dylora"], key=lambda row: int(row["rank"]))
    if not cut:
        return ""
    largest = cut[-1]
    text = f"DyLoRA was trained with a largest rank of {largest['rank']}. "
    if len(cut) > 1:
        text += (
            f"From rank {cut[0]['rank']} to {largest['rank']} its perplexity "
            f"{_moves(result, cut[0], largest)}. "
        )
    lora = keyed(result["ranks"], "rank")
    gaps = {row["rank"]: _gap(result, row, lora[row["rank"]]) for row in cut if row["rank"] in lora}
    if not gaps:
        return text
    above = [rank for rank, gap in gaps.items() if gap.verdict is Verdict.MORE]
    below = [rank for rank, gap in gaps.items() if gap.verdict is Verdict.LESS]
    parts = []
    if above:
        worst = max(gaps[rank].value for rank in above)
        parts.append(f"higher at {_ranks(above)} (by up to {moved(worst)})")
    if below:
        best = min(gaps[rank].value for rank in below)
        parts.append(f"lower at {_ranks(below)} (by up to {moved(best)})")
    equal = [rank for rank in gaps if rank not in above and rank not in below]
    if equal:
        parts.append(f"not measurably different at {_ranks(equal)}")
    return f"{text}Compared with LoRA of the same rank it is {listed(parts)}."


def _gap(result: Mapping[str, Any], cut: Row, lora: Row) -> Difference:
    """Compare DyLoRA cut to a rank with LoRA of that rank, with all its trainings if repeated."""
    if lora["rank"] == lora_row(result)["settings"]["rank"]:
        return against_lora(result, cut)
    return learned(result, cut["target_loss"], lora["target_loss"])


def _ranks(ranks: Sequence[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {listed([str(rank) for rank in ranks])}"


def dimension_comment(result: Mapping[str, Any]) -> str:
    """Return the intrinsic dimension, or why there is none."""
    dimensions = result["dimensions"]
    rows = sorted(dimensions["rows"], key=lambda row: int(row["dimension"]))
    full = full_row(result)
    if gain(result, full) is None:
        return "Full fine-tuning gained nothing, so that there is no $d_90$."
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
        f"{percent(reached / full['trained'], 3)} as many as the model has parameters: $d_90$ is "
        f"{between} for a training of this length."
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
        ("Dimensions", "Target", "Gain", "Source"),
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
                NAMES.get(row["method"], "base model"),
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
    """Return what longer texts do to the base, and what both methods change.

    Losses are compared window by window.
    """
    rows = keyed(long["rows"], "method")
    base = rows["none"]
    beyond = mean(_windows(base, "beyond") - _windows(base, "within"))
    text = (
        f"The base model has a perplexity of {ppl(base['within'])} within its context and of "
        f"{ppl(base['beyond'])} beyond it"
    )
    text += {
        Verdict.MORE: f", higher by {moved(beyond.value)}. ",
        Verdict.LESS: f", lower by {moved(beyond.value)}, although positions beyond the context "
        "did not occur in training. ",
        Verdict.ALIKE: ", not measurably different, although positions beyond the context did not "
        "occur in training. ",
        Verdict.UNKNOWN: "; there are too few windows to compare them. ",
    }[beyond.verdict]
    trained = [name for name in ("lora", "longlora") if name in rows]
    for name in trained:
        row = rows[name]
        text += f"{NAMES[name]} reaches {ppl(row['within'])} and {ppl(row['beyond'])}. "
    if len(trained) < 2:
        return text.strip()
    whole, grouped = rows["lora"], rows["longlora"]
    gap = mean(_windows(grouped, "beyond") - _windows(whole, "beyond"))
    size = significant(grouped["trained"] / whole["trained"])
    text += {
        Verdict.LESS: f"Beyond the old context that of LongLoRA is lower, by {moved(gap.value)}, "
        f"with {size} times the parameters. ",
        Verdict.MORE: f"Beyond the old context that of LongLoRA is higher, by {moved(gap.value)}, "
        f"with {size} times the parameters. ",
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
        return f"A step of LongLoRA takes {significant(step.ratio)} times as long as one of LoRA."
    if step.verdict is Verdict.ALIKE:
        return "The times of their steps are not measurably different."
    return "Which of their steps is faster could not be measured."
