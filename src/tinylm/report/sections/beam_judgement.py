"""What the numbers of beam search, greedy decoding and sampling say about one another."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.measurement import Verdict
from tinylm.report.formatting import listed, percent, plural, significant
from tinylm.report.measurements import compared, named, times

_FEW = 20
"""Prompts below which BLEU is called noise."""
_CLOSE = 0.1
"""Relative difference below which two measures of text count as alike."""
_LIKE_BLEU = 1.0
"""Points of BLEU within which strategies count as alike."""

Row = Mapping[str, Any]


def judgement(comparisons: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return paragraphs that judge the strategies; the largest comparison speaks for all."""
    largest = max(comparisons, key=lambda one: one["num_prompts"])
    rows, true = largest["rows"], largest.get("true")
    ladder = [row for row in rows if row["name"] == "greedy"]
    ladder += sorted((row for row in rows if row["num_beams"]), key=lambda row: row["num_beams"])
    made = []
    if len(ladder) > 1:
        made.append(likelihood(ladder, true, largest["num_prompts"]))
    if true:
        made.append(variety(rows, ladder, true))
    if len(ladder) > 1 and ladder[0]["name"] == "greedy":
        made.append(cost(ladder))
    made.append(agreement(comparisons))
    return made


def likelihood(ladder: Sequence[Row], true: Row | None, prompts: int) -> str:
    """Return whether a wider beam finds likelier text, in sum and per token."""
    text = (
        f"*Likelihood.* With {plural(prompts, 'prompt')} the mean log-probability of a text is "
        f"{_each(ladder, 'log_probability', 1)} nats: "
        f"{_widening(ladder, 'log_probability')}. Per token it is "
        f"{_each(ladder, 'log_probability_per_token', 3)}: "
        f"{_widening(ladder, 'log_probability_per_token')}. "
    )
    first, widest = ladder[0], ladder[-1]
    change = widest["mean_length"] / first["mean_length"] - 1
    if abs(change) > _CLOSE:
        text += (
            f"The texts of {_name(widest)} are {percent(abs(change), 0)} "
            f"{'longer' if change > 0 else 'shorter'} than those of {_name(first)}, which alone "
            f"{'lowers' if change > 0 else 'raises'} their sum. "
        )
    if true:
        own, natural = widest["log_probability_per_token"], true["log_probability_per_token"]
        relation = (
            f"{significant(own - natural, 2)} nats a token less likely than"
            if natural < own
            else f"{significant(natural - own, 2)} nats a token likelier than"
            if natural > own
            else "exactly as likely per token as"
        )
        text += f"The true continuations are {relation} what {_name(widest)} writes."
    return text.rstrip()


def _widening(ladder: Sequence[Row], key: str) -> str:
    values = [row[key] for row in ladder]
    pairs = list(itertools.pairwise(values))
    if all(later > earlier for earlier, later in pairs):
        return "every widening finds likelier text"
    if all(later < earlier for earlier, later in pairs):
        return "every widening finds *less* likely text"
    best = max(ladder, key=lambda row: row[key])
    if values[-1] > values[0]:
        return (
            f"the widest beam finds likelier text than {_name(ladder[0])}, but the likeliest is "
            f"that of {_name(best)}"
            if best is not ladder[-1]
            else "the widest beam finds the likeliest text, though not every widening helps"
        )
    if values[-1] < values[0]:
        return f"the widest beam finds *less* likely text than {_name(ladder[0])}"
    return f"the widest beam's text is exactly as likely as that of {_name(ladder[0])}"


def variety(rows: Sequence[Row], ladder: Sequence[Row], true: Row) -> str:
    """Return how far repetition and distinct-n are from those of true texts."""
    widest = ladder[-1] if ladder else rows[-1]
    repeated, natural = widest["repetition"], true["repetition"]
    pair = f"({percent(repeated)} of the 4-grams, against {percent(natural)})"
    if repeated > natural * 1.25 + 0.005:
        text = f"The texts of {_name(widest)} repeat themselves more than the true ones do {pair}"
    elif repeated < natural * 0.75 - 0.005:
        text = f"The texts of {_name(widest)} repeat themselves less than the true ones do {pair}"
    else:
        text = f"The texts of {_name(widest)} repeat themselves as much as the true ones do {pair}"
    text = f"*Repetition and variety.* {text}"
    if len(ladder) > 1:
        first = ladder[0]
        difference = repeated - first["repetition"]
        than = (
            "as much as" if abs(difference) < 0.005 else "more than" if difference > 0
            else "less than"
        )  # fmt: skip
        text += f", and {than} those of {_name(first)} ({percent(first['repetition'])})"
    own, wanted = widest["distinct"]["2"], true["distinct"]["2"]
    text += (
        f". Their distinct-2 of {own:.3f} is {percent(abs(own / wanted - 1), 0)} "
        f"{'below' if own < wanted else 'above'} that of the true ones ({wanted:.3f})."
        if own != wanted
        else f". Their distinct-2 of {own:.3f} is that of the true ones."
    )
    nearest = min(rows, key=lambda row: _distance(row, true))
    text += f" Nearest to the true texts in distinct-2 and repetition together is {_name(nearest)}."
    likelier = widest["log_probability_per_token"] > true["log_probability_per_token"]
    duller = own < wanted * (1 - _CLOSE) or repeated > natural * 1.25 + 0.005
    if likelier and duller:
        text += (
            " The search thus finds text that the model holds for likelier than the true one, and "
            "that is more uniform: the likeliest text is not the most human "
            "[[holtzman2020]]."
        )
    return text


def _distance(row: Row, true: Row) -> float:
    return float(
        abs(row["distinct"]["2"] - true["distinct"]["2"])
        + abs(row["repetition"] - true["repetition"])
    )


def cost(ladder: Sequence[Row]) -> str:
    """Return what each beam costs beside greedy decoding."""
    greedy, *beams = ladder
    parts: list[str] = []
    below: list[Row] = []
    above: list[Row] = []
    for row in beams:
        slower = compared(row["seconds"], greedy["seconds"])
        if slower.verdict is Verdict.ALIKE:
            parts.append(f"the time of {_name(row)} is not measurably different")
            continue
        if slower.verdict is Verdict.UNKNOWN:
            parts.append(f"the time of {_name(row)} could not be measured")
            continue
        parts.append(f"{_name(row)} takes {times(slower.ratio)} the time")
        (below if slower.ratio < row["num_beams"] else above).append(row)
    text = f"*Cost.* Beside greedy decoding, {listed(parts)}."
    if below and not above:
        text += (
            " That is less than the number of beams, by which the rows of every step are "
            "multiplied: a step's fixed costs are shared by more rows."
        )
    elif above and not below:
        text += (
            " That is at least the number of beams: besides that many rows a step has to sort "
            "the extensions and reorder the cache, and a search goes on until enough hypotheses "
            "have ended."
        )
    return text


def agreement(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """Return whether BLEU agrees with likelihood, and how far it can be trusted."""
    by_size = sorted(comparisons, key=lambda one: one["num_prompts"])
    largest = by_size[-1]
    best, values = _best_bleu(largest["rows"]), [row["bleu_corpus"] for row in largest["rows"]]
    likeliest = max(largest["rows"], key=lambda row: row["log_probability_per_token"])
    gap = max(values) - min(values)
    text = f"*BLEU.* With {plural(largest['num_prompts'], 'prompt')} "
    if gap < _LIKE_BLEU:
        text += f"all strategies lie within {significant(gap, 2)} points of BLEU: it tells them not apart."  # noqa: E501
    elif best is likeliest:
        text += (
            f"{_name(best)} has the highest corpus BLEU ({best['bleu_corpus']:.2f}) and also the "
            "likeliest text per token: the two agree on the best."
        )
    else:
        text += (
            f"{_name(best)} has the highest corpus BLEU ({best['bleu_corpus']:.2f}), but "
            f"{_name(likeliest)} the likeliest text per token: the two do not agree."
        )
    smallest = by_size[0]
    if smallest is not largest:
        other = _best_bleu(smallest["rows"])
        same = other["name"] == best["name"]
        text += (
            f" With {plural(smallest['num_prompts'], 'prompt')} "
            + (f"{_name(other)} is first as well" if same else f"{_name(other)} is first instead")
            + f" ({other['bleu_corpus']:.2f})."
        )
    if smallest["num_prompts"] < _FEW:
        text += (
            f" With {plural(smallest['num_prompts'], 'prompt')} BLEU is very noisy, because one "
            "phrase that happens to match moves it: differences there are no evidence."
        )
    return text


def _best_bleu(rows: Sequence[Row]) -> Row:
    return max(rows, key=lambda row: row["bleu_corpus"])


def _each(ladder: Sequence[Row], key: str, digits: int) -> str:
    shown = [f"{row[key]:.{digits}f}".replace("-", "−") for row in ladder]
    return listed([f"{value} with {_name(row)}" for value, row in zip(shown, ladder, strict=True)])


def _name(row: Row) -> str:
    return named([row["name"]])[0]
