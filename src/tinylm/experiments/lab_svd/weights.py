"""Low-rank factorisation: the ranks of trained weights, and what cutting them costs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.measurement import Difference, Verdict
from tinylm.report.blocks import Block, Figure, Paragraph, Table, code
from tinylm.report.formatting import count, listed, percent, plural, significant
from tinylm.report.passages import passages

TEXT = passages(__file__)

_NEARLY_RANDOM = 0.9
"""From this share of the effective rank of random numbers on, a matrix has hardly a lower one. A
word for exact numbers: ranks of weights have no scatter."""

Row = Mapping[str, Any]


def kinds(matrices: Sequence[Row]) -> dict[tuple[str, int, int], list[Row]]:
    """Return the matrices that have the same place in their layer together: name, rows, columns."""
    result: dict[tuple[str, int, int], list[Row]] = {}
    for row in matrices:
        name = re.sub(r"^layers\.\d+\.", "", row["name"])
        result.setdefault((name, row["rows"], row["columns"]), []).append(row)
    return result


def weights_blocks(results: ReportInputs, result: Mapping[str, Any]) -> list[Block]:
    """Return the ranks of all matrices, and what cutting them costs."""
    matrices, cut = result["matrices"], result["cut"]
    seen = [key for key in ("spectra", "cut") if results.has_figure(f"figures/lab-svd-{key}.svg")]
    listing = "[[tab:lab-svd-weights]] lists the weight matrices of the model"
    cutting = ""
    if "spectra" in seen:
        listing += ", and [[fig:lab-svd-spectra]] shows their spectra"
    if "cut" in seen:
        cutting = " ([[fig:lab-svd-cut]])"
    section: list[Block] = [Paragraph(f"{listing}. {rank_comment(matrices)}")]
    if "spectra" in seen:
        section.append(
            Figure(
                "fig:lab-svd-spectra",
                "figures/lab-svd-spectra.svg",
                TEXT.line("weights, spectra"),
                TEXT.line("weights, spectra, without seeing them"),
            )
        )
    section += [
        _weights_table(matrices),
        *TEXT.blocks("cut", figure=cutting, comment=cut_comment(cut)),
    ]
    if "cut" in seen:
        section.append(
            Figure(
                "fig:lab-svd-cut",
                "figures/lab-svd-cut.svg",
                TEXT.line("cut, figure"),
                TEXT.line("cut, figure, without seeing it"),
            )
        )
    return section


def rank_comment(matrices: Sequence[Row]) -> str:
    """Return the effective ranks of weights, relative to those of random numbers."""
    full = all(row["weight"]["rank"] == row["weight"]["full_rank"] for row in matrices)
    share = mean_share(matrices, "weight")
    lowest = min(matrices, key=lambda row: _share(row, "weight"))
    text = (
        "All have full rank up to rounding, so no factorisation is free. "
        if full
        else "Not all have full rank: some can be factorised without loss. "
    )
    text += (
        f"Their effective ranks are {percent(share, 0)} on average of those of independent normal "
        f"numbers of the same shape, {percent(_share(lowest, 'weight'), 0)} for the lowest, "
        f"{code(lowest['name'])}"
    )
    return text + (
        ": after training they are nearly as high as those of random numbers."
        if share >= _NEARLY_RANDOM
        else ": after training their weight lies in fewer directions."
    )


def _share(row: Row, part: str) -> float:
    return float(row[part]["effective_rank"] / row["random_effective_rank"])


def mean_share(matrices: Sequence[Row], part: str) -> float:
    """Return the mean effective rank, as a share of that of random numbers.

    Args:
        matrices: of the result.
        part: ``weight`` or ``update``.
    """
    return sum(_share(row, part) for row in matrices) / len(matrices)


def _weights_table(matrices: Sequence[Row]) -> Table:
    def mean(rows: Sequence[Row], part: str, *keys: str) -> float:
        total = 0.0
        for row in rows:
            value: Any = row[part]
            for key in keys:
                value = value[key]
            total += value
        return total / len(rows)

    shares = list(matrices[0]["weight"]["energy_ranks"])
    rows = []
    for (name, height, width), same in kinds(matrices).items():
        rows.append(
            (
                code(name),
                f"{count(height)} × {count(width)}",
                count(same[0]["break_even_rank"]),
                significant(same[0]["random_effective_rank"]),
                significant(mean(same, "weight", "effective_rank")),
                *(count(mean(same, "weight", "energy_ranks", energy)) for energy in shares),
                significant(mean(same, "update", "effective_rank")),
                *(count(mean(same, "update", "energy_ranks", energy)) for energy in shares),
            )
        )
    energies = [percent(float(energy), 0) for energy in shares]
    return Table(
        "tab:lab-svd-weights",
        TEXT.line("weights, table", energies=listed(energies)),
        ("Matrix", "Shape", "Break-even", "Random", "Weights", *energies, "Update", *energies),
        tuple(rows),
        "ll" + "r" * (len(rows[0]) - 2),
    )


def cut_comment(cut: Mapping[str, Any]) -> str:
    """Return what the cut that costs least gives, and which group bears it better."""
    return " ".join([saving_comment(cut, "With both cut"), *_order(cut), *_sensitive(cut)])


def saving_comment(cut: Mapping[str, Any], how: str) -> str:
    """Return what the cheapest cut that saves numbers costs.

    Args:
        cut: of the result.
        how: which matrices are cut, to begin the sentence.
    """
    whole = cut["groups"]["all"]
    saving = [row for row in whole["rows"] if row["stored"] < whole["parameters"]]
    if not saving:
        return "None of the ranks tried saves any number."
    best = min(saving, key=lambda row: row["loss"])
    return (
        f"{how}, {plural(whole['matrices'], 'matrix', 'matrices')} in all, rank "
        f"{best['rank']} costs least of the ranks tried that save numbers: "
        f"{percent(best['stored'] / whole['parameters'], 0)} of them stay, the error is "
        f"{percent(best['relative_error'], 0)} of the weights' norm, and the loss "
        f"{significant(best['loss'])} nats per token in place of {significant(cut['loss'])}."
    )


def _order(cut: Mapping[str, Any]) -> list[str]:
    """Say that error and loss are two things, if a higher rank was once worse."""
    steps = [
        (f"from rank {before['rank']} to {after['rank']}", _more_than_before(after).verdict)
        for before, after in pairwise(cut["groups"]["all"]["rows"])
    ]
    verdicts = {verdict for _, verdict in steps}
    if not steps:
        return []
    if Verdict.UNKNOWN in verdicts:
        return ["Whether the loss falls with every rank added could not be measured."]
    if Verdict.MORE in verdicts:
        rises = listed([step for step, verdict in steps if verdict is Verdict.MORE])
        return [
            f"The error of the weights never grows with the rank, but the loss does ({rises}): the "
            "SVD makes the error of the weights small, not that of the predictions."
        ]
    if verdicts == {Verdict.LESS}:
        return ["The loss falls with every rank added, as the error does."]
    level = listed([step for step, verdict in steps if verdict is Verdict.ALIKE])
    return [f"The loss never rises with the rank; {level} it does not fall measurably either."]


def _more_than_before(row: Row) -> Difference:
    """Return how much more the loss is than at the rank before; results from before lack it."""
    return Difference.from_result(row.get("before"))


def _sensitive(cut: Mapping[str, Any]) -> list[str]:
    groups = {name: group for name, group in cut["groups"].items() if name != "all"}
    below = [
        pair
        for pair in zip(*(group["rows"] for group in groups.values()), strict=True)
        if all(
            row["stored"] < group["parameters"]
            for row, group in zip(pair, groups.values(), strict=True)
        )
    ]
    if not below:
        return []
    sentences = [
        f"cutting {_group(name)} alone brings the loss to {significant(row['loss'])}"
        for name, row in zip(groups, below[-1], strict=True)
    ]
    return [f"At rank {below[-1][0]['rank']}, {listed(sentences)}."]


def _group(name: str) -> str:
    return "attention" if name == "attention" else f"the {name} parts"
