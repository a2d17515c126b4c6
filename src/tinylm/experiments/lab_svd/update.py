"""Low-rank factorisation: the rank of what fine-tuning adds to weights, and what it keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.experiments.lab_svd.weights import mean_share
from tinylm.measurement import Difference, Verdict
from tinylm.report.blocks import Block, Figure, Table, literal
from tinylm.report.formatting import count, duration, percent, plural, setting
from tinylm.report.measurements import hardware
from tinylm.report.passages import passages

TEXT = passages(__file__)

_MOST_OF = 0.9
"""Share of the gain of fine-tuning that counts as most of it: a word, no test of a difference."""

Row = Mapping[str, Any]


def update_blocks(results: ReportInputs, result: Mapping[str, Any]) -> list[Block]:
    """Return what fine-tuning changed, and what is left of its gain at each rank."""
    update = result["update"]
    drawn = results.has_figure("figures/lab-svd-update.svg")
    before, after = update["before"], update["after"]
    chosen, others = _change(update, "chosen"), _change(update, "others")
    forgets = ", forgetting" if others.verdict is Verdict.MORE else ""
    shown = ", [[fig:lab-svd-update]]" if drawn else ""
    section = TEXT.blocks(
        "update",
        steps=plural(update["steps"], "step"),
        stories=plural(update["batch_size"], "story", "stories"),
        learning_rate=setting(update["learning_rate"]),
        train_stories=plural(update["train_stories"], "training story", "training stories"),
        kind=literal(update["kind"]),
        description=literal(update["description"]),
        chosen_before=f"{before['chosen']:.4f}",
        chosen_after=f"{after['chosen']:.4f}",
        chosen=chosen.word,
        others_before=f"{before['others']:.4f}",
        others_after=f"{after['others']:.4f}",
        others=f"{others.word}{forgets}",
        comment=update_comment(result["matrices"]),
        figure=shown,
        kept=kept_comment(result),
    )
    if drawn:
        section.append(
            Figure(
                "fig:lab-svd-update",
                "figures/lab-svd-update.svg",
                TEXT.line("update, figure"),
                TEXT.line("update, figure, without seeing it"),
            )
        )
    return [*section, _update_table(result)]


def update_comment(matrices: Sequence[Row]) -> str:
    """Return how large the update is, and how its rank compares with that of the weights."""
    sizes = [row["relative_norm"] for row in matrices]
    weights, update = (mean_share(matrices, part) for part in ("weight", "update"))
    energy = next(iter(matrices[0]["update"]["energy_ranks"]))
    held = [
        sum(row[part]["energy_ranks"][energy] / row[part]["full_rank"] for row in matrices)
        / len(matrices)
        for part in ("weight", "update")
    ]
    # Ranks have no scatter: two shares differ if they do as they are printed.
    word = "lower than" if round(100 * update) < round(100 * weights) else "no lower than"
    return (
        f"The update of a matrix has {percent(min(sizes))} to {percent(max(sizes))} of its norm. "
        f"The effective rank of the updates is {word} that of the weights ({percent(update, 0)} of "
        f"that of random numbers, against {percent(weights, 0)}); {percent(float(energy), 0)} of "
        f"their squared singular values lie in {percent(held[1], 0)} of the directions, against "
        f"{percent(held[0], 0)}."
    )


def kept_comment(result: Mapping[str, Any]) -> str:
    """Return which rank keeps most of the gain, and its effect on the other stories."""
    update, whole = result["update"], _numbers(result)
    text = rank_kept_comment(result)
    if _change(update, "chosen").verdict is not Verdict.LESS:
        return text
    better = [
        row
        for row in update["ranks"]
        if row["stored"] < whole and _beside_whole(row).verdict is Verdict.LESS
    ]
    if better:
        best = min(better, key=lambda row: float(row["losses"]["chosen"]))
        text += (
            f" With rank {best['rank']} the loss, {best['losses']['chosen']:.4f}, is lower than "
            "with the whole update: on validation stories the directions left out raise it."
        )
    first = _first(update)
    if _change(update, "others").verdict is Verdict.MORE and first is not None:
        forgot = update["after"]["others"] - update["before"]["others"]
        share = (first["losses"]["others"] - update["before"]["others"]) / forgot
        part = percent(share, 0) if share > 0 else "none"
        text += (
            f" On the other stories, rank {first['rank']} takes {part} of the whole update's rise "
            "in loss."
        )
    return text


def _change(update: Mapping[str, Any], kind: str) -> Difference:
    """Return how the loss on a kind of stories changed; results from before lack it."""
    return Difference.from_result(update.get("change", {}).get(kind))


def _beside_whole(row: Row) -> Difference:
    return Difference.from_result(row.get("whole", {}).get("chosen"))


def _numbers(result: Mapping[str, Any]) -> int:
    """Return how many numbers the whole update of the matrices holds."""
    return sum(row["rows"] * row["columns"] for row in result["matrices"])


def _gain(update: Mapping[str, Any]) -> float:
    return float(update["before"]["chosen"] - update["after"]["chosen"])


def _first(update: Mapping[str, Any]) -> Row | None:
    """Return the row of the lowest rank that keeps most of the gain."""
    rows: Sequence[Row] = update["ranks"]
    return next((row for row in rows if _share_kept(update, row) >= _MOST_OF), None)


def rank_kept_comment(result: Mapping[str, Any]) -> str:
    """Return the lowest rank that keeps most of the gain."""
    update = result["update"]
    verdict = _change(update, "chosen").verdict
    if verdict is Verdict.UNKNOWN:
        return "Whether the fine-tuning lowered the loss on its own stories could not be measured."
    if verdict is not Verdict.LESS:
        return (
            "The fine-tuning did not measurably lower the loss on its own stories, so that there "
            "is no gain to keep."
        )
    first = _first(update)
    if first is None:
        return f"No rank tried keeps {percent(_MOST_OF, 0)} of the fine-tuning's gain."
    return (
        f"Cut to rank {first['rank']}, {percent(first['stored'] / _numbers(result))} of its "
        f"numbers, the update keeps {percent(_share_kept(update, first), 0)} of the gain."
    )


def _share_kept(update: Mapping[str, Any], row: Row) -> float:
    return float((update["before"]["chosen"] - row["losses"]["chosen"]) / _gain(update))


def _update_table(result: Mapping[str, Any]) -> Table:
    update = result["update"]
    gained = _change(update, "chosen").verdict is Verdict.LESS
    rows = tuple(
        (
            count(row["rank"]),
            count(row["stored"]),
            f"{row['losses']['chosen']:.4f}",
            percent(_share_kept(update, row), 0) if gained else "–",
            f"{row['losses']['others']:.4f}",
        )
        for row in update["ranks"]
    )
    return Table(
        "tab:lab-svd-update",
        TEXT.line("update, table", kind=literal(update["kind"])),
        ("Rank", "Numbers", "Most", "Of the gain", "Least"),
        rows,
        "rrrrr",
        TEXT.line(
            "update, table's note",
            chosen=count(update["validation_stories"]["chosen"]),
            others=count(update["validation_stories"]["others"]),
            duration=duration(update["seconds"]),
            hardware=hardware(result),
        ),
    )
