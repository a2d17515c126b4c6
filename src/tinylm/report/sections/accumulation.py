"""Gradient accumulation: what it does to the loss, the memory and the time."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.measurement import LIMIT, Verdict, compare_unpaired
from tinylm.report.blocks import Block, Equation, Figure, Heading, Paragraph, Table, literal
from tinylm.report.formatting import count, duration, percent, plural, setting, significant
from tinylm.report.inputs import ReportInputs
from tinylm.report.measurements import DAGGER, dagger, factor, hardware, measured, mib, spread

_SAME_LOSS = 0.01
"""Nats within which two losses count as alike."""
_SAME = 0.02
"""Relative difference within which tokens or memory count as the same."""


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``accumulation``."""
    found = results.results.get("accumulation")
    if found is None or not found["runs"]:
        return []
    runs = sorted(found["runs"], key=lambda run: run["accumulation_steps"])
    made: list[Block] = [
        Heading(1, "Gradient accumulation", "sec:accumulation"),
        *_technique(),
        Paragraph(_setting(found, runs)),
        _table(found, runs),
    ]
    if results.has_figure("figures/accumulation.svg"):
        made[-2] = Paragraph(
            f"{_setting(found, runs)} [[fig:accumulation]] draws the training losses."
        )
        made.append(
            Figure(
                "fig:accumulation",
                "figures/accumulation.svg",
                "Training loss with gradients accumulated over different numbers of "
                "mini-batches (moving average where there are many points), against optimizer "
                "steps on the left and against tokens seen on the right.",
                "Training loss of every accumulation setting against optimizer steps and against "
                "tokens.",
            )
        )
    made += [Paragraph(text) for text in (loss_comment(runs), memory_comment(runs),
                                          time_comment(runs)) if text]  # fmt: skip
    return made


def _technique() -> list[Block]:
    return [
        Paragraph(
            "A large batch may not fit into memory. Accumulation [[ott2018]] splits it into $k$ "
            "mini-batches: each is run forward and backward, its gradient is added to the sum of "
            "those before it, its activations are freed, and after the last one the optimizer "
            "moves the weights once. With $ell_t$ the loss of target token $t$ and $N_i$ target "
            "tokens in mini-batch $i$, the gradient of the step is"
        ),
        Equation(
            "g = 1/N sum_(i=1)^k sum_(t=1)^(N_i) nabla_theta ell_(i, t), wide N = sum_(i=1)^k N_i."
        ),
        Paragraph(
            "Every part is divided by the target tokens $N$ of the *whole step*. The mean of the "
            "mini-batches' own means would give every mini-batch the same weight, and so a token "
            "in one with much padding more weight than a token in a full one. Divided by $N$, the "
            "$k$ mini-batches give the gradient of one batch $k$ times as large, up to rounding "
            "(and up to the random numbers of dropout)."
        ),
    ]


def _setting(found: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> str:
    steps = [run["accumulation_steps"] for run in runs]
    epochs = found["epochs"]
    validation = found.get("validation_windows")
    measured = (
        f"on {plural(validation, 'window')} of the validation split"
        if validation
        else "on the whole validation split"
    )
    passes = "one pass" if abs(epochs - 1) < _SAME else f"{significant(epochs)} passes"
    trained = "" if len(runs) == 1 else f" {len(runs)} times"
    return (
        f"The same model was trained{trained}, from the same initial weights, on "
        f"{plural(found['windows'], 'window')} of {plural(found['context_length'], 'token')} "
        f"({passes} over the training split), in "
        f"mini-batches of {found['batch_size']} windows ({literal(str(found['precision']))}), "
        f"with {_joined(steps)} of them to an optimizer step, and validated {measured} "
        f"([[tab:accumulation]]). The learning rate is {setting(found['learning_rate'])} in all "
        "of them; it was not adapted to the batch."
    )


def _joined(steps: Sequence[int]) -> str:
    return f"{', '.join(map(str, steps[:-1]))} and {steps[-1]}" if len(steps) > 1 else str(steps[0])


def _table(found: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> Table:
    rows = tuple(
        (
            str(run["accumulation_steps"]),
            count(run["effective_batch"]),
            count(run["steps"]),
            f"{duration(run['epoch']['median_s'])}{dagger(measured(run['epoch']))}",
            count(run["tokens_per_second"]),
            spread(run["epoch"]),
            mib(run["peak_bytes"]),
            mib(run["whole_batch_peak_bytes"]),
            f"{run['validation_loss']:.3f}",
            significant(run["validation_perplexity"]),
        )
        for run in runs
    )
    return Table(
        "tab:accumulation",
        "Training with accumulation over $k$ mini-batches.",
        ("$k$", "Batch", "Steps", "Epoch", "Tokens/s", "Spread", "Peak", "Whole", "Val. loss",
         "Perpl."),
        rows,
        "rrrrrrrrrr",
        "Batch: windows per step; Epoch: one pass over the training split at the median speed of "
        "the log entries; Spread: the distance between the quartiles of this time, in percent of "
        "it; Peak: memory in MiB; Whole: memory of the same batch in one piece. Measured on "
        f"{hardware(found)}.{_disturbed(runs)}",
    )  # fmt: skip


def _disturbed(runs: Sequence[Mapping[str, Any]]) -> str:
    if any(measured(run["epoch"]).disturbed for run in runs):
        return f" {DAGGER}: disturbed; the spread is above {percent(LIMIT, 0)}."
    return ""


def loss_comment(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return what fewer, larger updates do to the loss, at equal tokens and at equal steps."""
    first, last = runs[0], runs[-1]
    if len(runs) == 1:
        return f"The validation loss is {first['validation_loss']:.3f}."
    tokens = [run["tokens"] for run in runs]
    same = max(tokens) - min(tokens) <= _SAME * max(tokens)
    text = (
        f"All runs saw the same {significant(max(tokens) / 1e6)} million tokens"
        if same
        else f"The runs saw {count(min(tokens))} to {count(max(tokens))} tokens"
    )
    text += (
        f", in {count(first['steps'])} updates with $k$ = {first['accumulation_steps']} and in "
        f"{count(last['steps'])} with $k$ = {last['accumulation_steps']}. "
    )
    text += _losses(runs, same)
    early = _at_equal_steps(first, last)
    return f"{text} {early}" if early else text


def _losses(runs: Sequence[Mapping[str, Any]], same: bool) -> str:
    losses = [run["validation_loss"] for run in runs]
    first, last = losses[0], losses[-1]
    ends = f"from {first:.3f} to {last:.3f}"
    steps = list(itertools.pairwise(losses))
    if max(losses) - min(losses) <= _SAME_LOSS:
        return (
            f"The validation losses lie within {max(losses) - min(losses):.3f} nats of each other, "
            "too close for a difference to be claimed from one training each."
        )
    if all(later > earlier for earlier, later in steps):
        why = (
            " At equal tokens and an equal learning rate, fewer updates bring less progress."
            if same
            else ""
        )
        return f"The validation loss rises with every increase of the batch, {ends}.{why}"
    if all(later < earlier for earlier, later in steps):
        return (
            f"The validation loss *falls* with every increase of the batch, {ends}: fewer but less "
            "noisy updates brought more progress."
        )
    best = min(runs, key=lambda run: run["validation_loss"])
    return (
        f"The validation loss changes {ends}, but not steadily: it is lowest with $k$ = "
        f"{best['accumulation_steps']} ({best['validation_loss']:.3f})."
    )


def _at_equal_steps(first: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    """Compare the training losses of two runs over the last steps that both of them made."""
    common = min(first["steps"], last["steps"])
    means = [_mean_loss(run["curve"], common) for run in (first, last)]
    if means[0] is None or means[1] is None:
        return ""
    difference = means[1] - means[0]
    text = (
        f"At equal *steps* (the last tenth before step {count(common)}) the training loss is "
        f"{means[0]:.3f} with $k$ = {first['accumulation_steps']} and {means[1]:.3f} with "
        f"$k$ = {last['accumulation_steps']}"
    )
    ratio = last["effective_batch"] / first["effective_batch"]
    if abs(difference) <= _SAME_LOSS:
        return f"{text}: {significant(ratio, 2)} times the tokens do not make the updates better."
    if difference < 0:
        return (
            f"{text}: each update with the larger batch brings more progress, but it costs "
            f"{significant(ratio, 2)} times the tokens."
        )
    return f"{text}: the updates are not better with the larger batch, not even one by one."


def _mean_loss(curve: Sequence[Mapping[str, Any]], step: int) -> float | None:
    losses = [point["loss"] for point in curve if 0.9 * step <= point["step"] <= step]
    return sum(losses) / len(losses) if losses else None


def memory_comment(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return how peak memory depends on accumulation and on the batch in one piece."""
    if len(runs) == 1:
        return ""
    # The first run may hold one mini-batch alone, without any sum of gradients beside it.
    peaks = [run["peak_bytes"] for run in runs]
    range_text = f"{mib(min(peaks))} to {mib(max(peaks))} MiB"
    text = (
        f"Peak memory hardly depends on $k$ ({range_text})"
        if max(peaks) - min(peaks) <= _SAME * max(peaks)
        else f"Peak memory changes by {percent(max(peaks) / min(peaks) - 1, 0)} between the "
        f"settings ({range_text})"
    )
    first, last = runs[0], runs[-1]
    growth = last["whole_batch_peak_bytes"] / first["whole_batch_peak_bytes"]
    batches = last["effective_batch"] / first["effective_batch"]
    if growth <= 1 + _SAME:
        return f"{text}, and the same batches in one piece need no more either."
    saved = 1 - last["peak_bytes"] / last["whole_batch_peak_bytes"]
    text += (
        f". The same batches in one piece grow to {mib(last['whole_batch_peak_bytes'])} MiB, "
        f"{significant(growth, 2)} times as much for {significant(batches, 2)} times the windows"
    )
    if saved > 0:
        return (
            f"{text}; with $k$ = {last['accumulation_steps']} accumulation saves "
            f"{percent(saved, 0)} of it."
        )
    return f"{text}; with $k$ = {last['accumulation_steps']} accumulation saves none of it."


def time_comment(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return whether accumulation changes the time of an epoch."""
    if len(runs) == 1:
        return ""
    first, last = runs[0], runs[-1]
    one, other = measured(first["epoch"]), measured(last["epoch"])
    text = (
        f"An epoch takes {duration(one.median)} with $k$ = {first['accumulation_steps']} and "
        f"{duration(other.median)} with $k$ = {last['accumulation_steps']}, measured one after the "
        "other. "
    )
    comparison = compare_unpaired(other, one)
    if comparison.verdict is Verdict.LESS:
        return (
            f"{text}Accumulation is quicker, by a factor of {factor(comparison.inverse)}: the "
            "optimizer moves the weights less often."
        )
    if comparison.verdict is Verdict.MORE:
        return f"{text}Accumulation is slower, by a factor of {factor(comparison)}."
    if comparison.verdict is Verdict.ALIKE:
        return f"{text}The two are not measurably different."
    return f"{text}Which of them is quicker could not be measured."
