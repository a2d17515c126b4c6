"""Low-rank factorisation: the rank of what fine-tuning adds to weights, and what it keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.report.blocks import Block, Figure, Paragraph, Table, literal
from tinylm.report.formatting import count, duration, percent, plural, setting
from tinylm.report.inputs import ReportInputs
from tinylm.report.measurements import hardware
from tinylm.report.sections.lab_svd_weights import mean_share

_MOST_OF = 0.9
"""Share of the gain of fine-tuning that counts as most of it."""

Row = Mapping[str, Any]


def update_blocks(results: ReportInputs, found: Mapping[str, Any]) -> list[Block]:
    """Return what fine-tuning changed, and what is left of its gain at each rank."""
    update, matrices = found["update"], found["matrices"]
    drawn = results.has_figure("figures/lab-svd-update.svg")
    before, after = update["before"], update["after"]
    kind = literal(update["kind"])
    made: list[Block] = [
        Paragraph(
            "LoRA trains two factors of low rank in place of a whole update [[hu2022]], in the "
            "belief that little is lost. To test this, the whole model was fine-tuned for "
            f"{plural(update['steps'], 'step')} of {plural(update['batch_size'], 'story', 'stories')} "  # noqa: E501
            f"at a learning rate of {setting(update['learning_rate'])} on the "
            f"{count(update['train_stories'])} training stories with the most {kind} "
            f"({literal(update['description'])}). On validation stories of that kind the loss "
            f"went from {before['chosen']:.4f} to {after['chosen']:.4f} nats per token, on those "
            f"with the least of it from {before['others']:.4f} to {after['others']:.4f}"
            f"{'. ' if after['others'] <= before['others'] else ': it forgets. '}"
            f"{update_comment(matrices)}"
        ),
        Paragraph(
            f"The update of every matrix was then cut to each rank ([[tab:lab-svd-update]]"
            f"{', [[fig:lab-svd-update]]' * drawn}); vectors kept theirs. {kept_comment(update)}"
        ),
    ]
    if drawn:
        made.append(
            Figure(
                "fig:lab-svd-update",
                "figures/lab-svd-update.svg",
                "Loss with the update of every matrix cut to a rank: on stories of the kind that "
                "the model was fine-tuned on, and on the others.",
                "Loss against the rank of the update, on two kinds of stories.",
            )
        )
    return [*made, _update_table(found)]


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
    word = "lower than" if update < 0.98 * weights else "no lower than"
    return (
        f"The update is {percent(min(sizes))} to {percent(max(sizes))} of the weights' norm. Its "
        f"effective rank is {word} that of the weights ({percent(update, 0)} of that of random "
        f"numbers, against {percent(weights, 0)}); {percent(float(energy), 0)} of its squared "
        f"singular values lie in {percent(held[1], 0)} of the directions, against "
        f"{percent(held[0], 0)}."
    )


def kept_comment(update: Mapping[str, Any]) -> str:
    """Return which rank keeps most of the gain, and what it does to the other stories."""
    gain = _gain(update)
    if gain <= 0:
        return (
            "The fine-tuning did not lower the loss on these stories, so there is no gain to "
            "keep: train for more steps, or at another learning rate."
        )
    text = rank_kept_comment(update)
    best = min(update["ranks"], key=lambda row: row["losses"]["chosen"])
    if best["losses"]["chosen"] < update["after"]["chosen"] and best is not update["ranks"][-1]:
        text += (
            f" The lowest loss, {best['losses']['chosen']:.4f}, is that of rank {best['rank']}, "
            "not of the whole update: on unseen stories the directions left out were harmful."
        )
    forgot = update["after"]["others"] - update["before"]["others"]
    first = _first(update)
    if forgot > 0 and first is not None:
        share = (first["losses"]["others"] - update["before"]["others"]) / forgot
        text += (
            f" On the other stories, rank {first['rank']} takes "
            + ("none" if share <= 0 else percent(share, 0))
            + " of the whole update's rise in loss."
        )
    return text


def _gain(update: Mapping[str, Any]) -> float:
    return float(update["before"]["chosen"] - update["after"]["chosen"])


def _first(update: Mapping[str, Any]) -> Row | None:
    """Return the row of the lowest rank that keeps most of the gain."""
    bound = update["before"]["chosen"] - _MOST_OF * _gain(update)
    rows: Sequence[Row] = update["ranks"]
    return next((row for row in rows if row["losses"]["chosen"] <= bound), None)


def rank_kept_comment(update: Mapping[str, Any]) -> str:
    """Return the lowest rank that keeps most of the gain."""
    if _gain(update) <= 0:
        return "The fine-tuning did not lower the loss on the stories it was made for."
    first = _first(update)
    if first is None:
        return f"No rank tried keeps {percent(_MOST_OF, 0)} of the fine-tuning's gain."
    whole = update["ranks"][-1]["stored"]
    return (
        f"Cut to rank {first['rank']}, {percent(first['stored'] / whole)} of its numbers, the "
        f"update keeps {percent(_share_kept(update, first), 0)} of the gain."
    )


def _share_kept(update: Mapping[str, Any], row: Row) -> float:
    return float((update["before"]["chosen"] - row["losses"]["chosen"]) / _gain(update))


def _update_table(found: Mapping[str, Any]) -> Table:
    update = found["update"]
    gain = _gain(update)
    rows = tuple(
        (
            count(row["rank"]),
            count(row["stored"]),
            f"{row['losses']['chosen']:.4f}",
            percent(_share_kept(update, row), 0) if gain > 0 else "–",
            f"{row['losses']['others']:.4f}",
        )
        for row in update["ranks"]
    )
    return Table(
        "tab:lab-svd-update",
        f"The update cut to a rank: numbers that it holds, and loss in nats per token on stories "
        f"with the most {literal(update['kind'])} and with the least.",
        ("Rank", "Numbers", "Most", "Of the gain", "Least"),
        rows,
        "rrrrr",
        f"{count(update['validation_stories']['chosen'])} and "
        f"{count(update['validation_stories']['others'])} validation stories. Fine-tuning took "
        f"{duration(update['seconds'])} on {hardware(found)}.",
    )
