"""How few numbers are enough (ranks, intrinsic dimension), and how a context is made longer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.measurement import Verdict
from tinylm.report.blocks import Block, Figure, Heading, Paragraph, Table
from tinylm.report.formatting import count, keyed, listed, percent, plural, setting, significant
from tinylm.report.measurements import compared, hardware, median, mib, rounds, times
from tinylm.report.sections.finetuning_rows import NAMES, Row, changed, full_row, gain, ppl

_CLOSE = 0.01
"""Relative difference of perplexities below which nothing is made of it."""
_LOST = 0.1
"""Relative rise of perplexity beyond the context from which positions count as not understood."""


def rank_blocks(found: Mapping[str, Any], drawn: bool) -> list[Block]:
    """Return LoRA and DyLoRA by rank, and the intrinsic dimension."""
    lora, dylora = found["ranks"], found["dylora"]
    made: list[Block] = []
    if lora or dylora:
        made += [
            Heading(2, "How large a rank", "sec:ft-ranks"),
            Paragraph(
                "[[tab:ft-ranks]] sets LoRA, trained anew at every rank, beside the one DyLoRA "
                "adapter, cut to every rank up to its own"
                f"{'; [[fig:ft-ranks]] draws both' * drawn}. {rank_comment(found)}"
            ),
            _rank_table(found),
        ]
    if drawn:
        made.append(
            Figure(
                "fig:ft-ranks",
                "figures/finetuning-ranks.svg",
                "Validation perplexity on the new kind. Left: against the rank of LoRA, one "
                "training each, and of DyLoRA, one training in all. Right: against the dimension "
                "of the random subspace (SAID); the dotted line is nine tenths of the gain of "
                "training everything.",
                "Perplexity against rank for LoRA and DyLoRA, and against dimension for SAID.",
            )
        )
    if found["dimensions"]["rows"]:
        made += [
            Heading(2, "Intrinsic dimension", "sec:ft-dimension"),
            Paragraph(dimension_comment(found)),
            _dimension_table(found),
        ]
    return made


def _rank_table(found: Mapping[str, Any]) -> Table:
    lora = keyed(found["ranks"], "rank")
    dylora = keyed(found["dylora"], "rank")
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
        f"Validation perplexity by rank; DyLoRA was trained once, with a largest rank of {largest}."
        if largest
        else "Validation perplexity by rank.",
        ("Rank", "LoRA, parameters", "new kind", "base kind", "DyLoRA, new kind", "base kind"),
        tuple(rows),
        "rrrrrr",
        "LoRA's alpha is twice its rank. –: not trained, or above DyLoRA's largest rank.",
    )


def rank_comment(found: Mapping[str, Any]) -> str:
    """Return what a larger rank brings, and what DyLoRA gives away for serving all of them."""
    text = ""
    lora = sorted(found["ranks"], key=lambda row: int(row["rank"]))
    if len(lora) > 1:
        best = min(lora, key=lambda row: float(row["target_loss"]))
        enough = next(
            row for row in lora if changed(row["target_loss"], best["target_loss"]) <= _CLOSE
        )
        first, last = lora[0], lora[-1]
        way = changed(last["target_loss"], first["target_loss"])
        text += (
            f"From rank {first['rank']} to {last['rank']}, with "
            f"{setting(last['trained'] / first['trained'])} times the parameters, LoRA's "
            f"perplexity {_moves(way)}; "
        )
        text += (
            f"rank {enough['rank']} is within 1\u202f% of the best. "
            if enough is not best
            else f"the best is rank {best['rank']}. "
        )
    return (text + _dylora_comment(found)).strip()


def _moves(way: float) -> str:
    if abs(way) <= _CLOSE:
        return "changes by less than 1\u202f%"
    return f"{'rises' if way > 0 else 'falls'} by {percent(abs(way))}"


def _dylora_comment(found: Mapping[str, Any]) -> str:
    cut = sorted(found["dylora"], key=lambda row: int(row["rank"]))
    if not cut:
        return ""
    largest = cut[-1]
    way = changed(largest["target_loss"], cut[0]["target_loss"])
    text = f"DyLoRA was trained with a largest rank of {largest['rank']}. "
    if len(cut) > 1:
        text += f"From rank {cut[0]['rank']} to that its perplexity {_moves(way)}. "
    lora = keyed(found["ranks"], "rank")
    both = [row for row in cut if row["rank"] in lora]
    gaps = {
        row["rank"]: changed(row["target_loss"], lora[row["rank"]]["target_loss"]) for row in both
    }
    if not gaps:
        return text
    above = [rank for rank, gap in gaps.items() if gap > _CLOSE]
    below = [rank for rank, gap in gaps.items() if gap < -_CLOSE]
    parts = []
    if above:
        worst = max(above, key=gaps.__getitem__)
        parts.append(
            f"worse than a LoRA trained for that rank alone at {_ranks(above)} "
            f"(by up to {percent(gaps[worst])})"
        )
    if below:
        best = min(below, key=gaps.__getitem__)
        parts.append(f"better at {_ranks(below)} (by up to {percent(-gaps[best])})")
    if len(above) + len(below) < len(gaps):
        equal = [rank for rank in gaps if rank not in above and rank not in below]
        parts.append(f"within 1\u202f% of it at {_ranks(equal)}")
    return f"{text}It is {listed(parts)}."


def _ranks(ranks: Sequence[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {listed([str(rank) for rank in ranks])}"


def dimension_comment(found: Mapping[str, Any]) -> str:
    """Return the intrinsic dimension, or why none was found."""
    dimensions = found["dimensions"]
    rows = sorted(dimensions["rows"], key=lambda row: int(row["dimension"]))
    full = full_row(found)
    text = (
        "A task's intrinsic dimension [[li2018]] is the smallest number of directions, drawn at "
        "random, in which training reaches nine tenths of what training everything reaches "
        "($d_90$). SAID [[aghajanyan2021]] spends one of them a layer on the size of the layer's "
        "part. What counts here is the way from the base's loss to that of training everything, "
        "and what is moved are the projections of attention and feed-forward. [[tab:ft-dimension]] "
        "has the dimensions that were tried. "
    )
    if gain(found, full) is None:
        return f"{text}Training everything gained nothing, so that there is no $d_90$."
    reached = dimensions["d90"]
    if reached is None:
        best = min(rows, key=lambda row: float(row["target_loss"]))
        return (
            f"{text}None reaches nine tenths in {plural(found['steps'], 'step')}: the most is "
            f"{_share(found, best)}, in {count(best['dimension'])} dimensions. So $d_90$ is above "
            f"{count(rows[-1]['dimension'])} for so short a training."
        )
    smaller = [row for row in rows if row["dimension"] < reached]
    between = (
        f"between {count(smaller[-1]['dimension'])} and {count(reached)}"
        if smaller
        else f"at most {count(reached)}"
    )
    return (
        f"{text}Nine tenths are reached in {count(reached)} dimensions, "
        f"{percent(reached / full['trained'], 3)} of the model's parameters: $d_90$ is {between} "
        "for a training of this length."
    )


def _share(found: Mapping[str, Any], row: Row) -> str:
    share = gain(found, row)
    return "–" if share is None else percent(share, 0).replace("-", "−")


def _dimension_table(found: Mapping[str, Any]) -> Table:
    rows = sorted(found["dimensions"]["rows"], key=lambda row: int(row["dimension"]))
    reached = found["dimensions"]["d90"]
    cells = tuple(
        (
            count(row["dimension"]),
            ppl(row["target_loss"]),
            _share(found, row),
            ppl(row["base_loss"]),
        )
        for row in rows
    )
    return Table(
        "tab:ft-dimension",
        "SAID in subspaces of several dimensions: validation perplexity, and the share of the gain "
        "of training everything.",
        ("Dimensions", "New kind", "Gain", "Base kind"),
        cells,
        "rrrr",
        emphasised=tuple(i for i, row in enumerate(rows) if row["dimension"] == reached),
    )


def context_blocks(found: Mapping[str, Any]) -> list[Block]:
    """Return how a longer context is reached."""
    long = found["long"]
    rows = [row for row in long["rows"] if row["within"] is not None]
    if not rows:
        return []
    short, length = long["context_length"], long["extended"]
    return [
        Heading(2, "A longer context", "sec:ft-context"),
        Paragraph(
            f"The base was trained on {count(short)} tokens at a time. Its positions are computed, "
            f"so that it can be given {count(length)}, at places it has never seen. LongLoRA "
            f"[[chen2023]] trains it for them with attention in groups of {count(short)} tokens, "
            "half of the heads shifted by half a group, together with embeddings and norms; "
            "afterwards attention is whole. Beside it stands LoRA with whole attention, both for "
            f"{plural(long['steps'], 'step')} of {plural(long['batch_size'], 'window')} of joined "
            f"stories ([[tab:ft-context]]). {context_comment(long)}"
        ),
        _context_table(found, rows),
    ]


def _context_table(found: Mapping[str, Any], rows: Sequence[Row]) -> Table:
    long = found["long"]
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
    step = f" Step: {rounds(timed['step'])}, on {hardware(found)}." if timed else ""
    return Table(
        "tab:ft-context",
        f"Validation perplexity in {plural(long['windows'], 'window')} of "
        f"{count(long['extended'])} tokens of the new kind: on their first "
        f"{count(long['context_length'])} tokens, and beyond.",
        ("", "Parameters", "Within", "Beyond", "Peak, MiB", "Step"),
        tuple(cells),
        "lrrrrr",
        f"Peak: memory of a training step.{step}",
    )


def context_comment(long: Mapping[str, Any]) -> str:
    """Return what longer texts do to the base, and what either training makes of them."""
    rows = keyed(long["rows"], "method")
    base = rows["none"]
    way = changed(base["beyond"], base["within"])
    text = (
        f"As it is, the base has perplexity {ppl(base['within'])} within its context and "
        f"{ppl(base['beyond'])} beyond it"
    )
    if way > _LOST:
        text += f", {times(1 + way)} as high: it has not learned what those positions mean. "
    elif way > _CLOSE:
        text += f", {percent(way)} more: positions that it has not seen disturb it little. "
    else:
        text += ": positions that it has not seen do not disturb it. "
    trained = [name for name in ("lora", "longlora") if name in rows]
    for name in trained:
        row = rows[name]
        text += f"{NAMES[name]} brings them to {ppl(row['within'])} and {ppl(row['beyond'])}. "
    if len(trained) < 2:
        return text.strip()
    whole, grouped = rows["lora"], rows["longlora"]
    gap = changed(grouped["beyond"], whole["beyond"])
    if abs(gap) <= _CLOSE:
        text += "Beyond the old context the two are equal to 1\u202f%. "
    else:
        text += (
            f"Beyond the old context LongLoRA is {percent(abs(gap))} "
            f"{'higher' if gap > 0 else 'lower'}"
        )
        ratio = grouped["trained"] / whole["trained"]
        text += f", with {significant(ratio)} times the parameters. " if ratio > 1.05 else ". "
    return text + _step_comment(whole, grouped)


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
