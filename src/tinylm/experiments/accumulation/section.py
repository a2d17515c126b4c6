"""Gradient accumulation: what it does to the loss, the memory and the time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.measurement import CONFIDENCE, Difference, Measurement, Verdict, compare_unpaired
from tinylm.report.blocks import Block, Equation, Figure, Heading, Paragraph, Table, literal
from tinylm.report.formatting import (
    count,
    duration,
    listed,
    millions,
    percent,
    plural,
    setting,
    significant,
)
from tinylm.report.measurements import (
    dagger,
    disturbances,
    factor,
    hardware,
    in_nats,
    measured,
    mib,
    spread,
)

_SAME = 0.02
"""Relative difference within which tokens, passes or memory count as the same. A fixed bound: they
are counted exactly, and tokens and passes differ only because steps are whole."""

Run = Mapping[str, Any]


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``accumulation``."""
    found = results.results.get("accumulation")
    if found is None or not found["runs"]:
        return []
    runs = sorted(found["runs"], key=lambda run: run["accumulation_steps"])
    drawn = results.has_figure("figures/accumulation.svg")
    shown = " [[fig:accumulation]] draws the training losses." if drawn else ""
    made: list[Block] = [
        Heading(1, "Gradient accumulation", "sec:accumulation"),
        *_technique(),
        Paragraph(f"{_setting(found, runs)}{shown}"),
        _table(found, runs),
    ]
    if drawn:
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


def _setting(found: Mapping[str, Any], runs: Sequence[Run]) -> str:
    steps = [str(run["accumulation_steps"]) for run in runs]
    epochs, validation = found["epochs"], found.get("validation_windows")
    where = (
        f"{plural(validation, 'window')} of the validation split"
        if validation
        else "the whole validation split"
    )
    passes = "one pass" if abs(epochs - 1) < _SAME else f"{significant(epochs)} passes"
    text = "The same model was trained"
    if len(runs) > 1:
        text += f" {len(runs)} times"
    text += (
        f" from the same initial weights, on {plural(found['windows'], 'window')} of "
        f"{plural(found['context_length'], 'token')} ({passes} over the training split), in "
        f"mini-batches of {plural(found['batch_size'], 'window')} "
        f"({literal(str(found['precision']))}), with {listed(steps)} of them to an optimizer step, "
        f"and validated on {where} ([[tab:accumulation]]). The learning rate is "
        f"{setting(found['learning_rate'])} throughout; it was not adapted to the batch."
    )
    if len(runs) > 1:
        text += (
            " Two losses are called different if the interval of "
            f"{percent(CONFIDENCE, 0)} of their difference, over the validation windows that both "
            "were measured on, leaves 0 out. Each setting was trained once: what other random "
            "numbers would change is not part of that interval."
        )
    return text


def _table(found: Mapping[str, Any], runs: Sequence[Run]) -> Table:
    rows = tuple(
        (
            str(run["accumulation_steps"]),
            count(run["effective_batch"]),
            count(run["steps"]),
            f"{duration(run['epoch']['median_s'])}{dagger(_epoch(run))}",
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
        f"{hardware(found)}.{disturbances(map(_epoch, runs), repeated=False)}",
    )  # fmt: skip


def _epoch(run: Run) -> Measurement:
    return measured(run["epoch"])


def loss_comment(runs: Sequence[Run]) -> str:
    """Return what fewer, larger updates do to the loss, at equal tokens and at equal steps."""
    first, last = runs[0], runs[-1]
    if len(runs) == 1:
        return f"The validation loss is {first['validation_loss']:.3f}."
    tokens = [run["tokens"] for run in runs]
    same = max(tokens) - min(tokens) <= _SAME * max(tokens)
    text = (
        f"All runs saw the same {millions(max(tokens))} tokens"
        if same
        else f"The runs saw {count(min(tokens))} to {count(max(tokens))} tokens"
    )
    text += (
        f", in {plural(first['steps'], 'update')} with $k$ = {first['accumulation_steps']} and in "
        f"{count(last['steps'])} with $k$ = {last['accumulation_steps']}. "
    )
    text += _losses(runs, same)
    early = _at_equal_steps(first, last)
    return f"{text} {early}" if early else text


def _beside(run: Run, which: str) -> Difference:
    """Return how much more a run's loss is than that of another; results from before lack it."""
    return Difference.from_result(run.get("beside", {}).get(which))


def _losses(runs: Sequence[Run], same: bool) -> str:
    first, last = runs[0], runs[-1]
    ends = f"from {first['validation_loss']:.3f} to {last['validation_loss']:.3f}"
    steps = [_beside(run, "previous") for run in runs[1:]]
    verdicts = {step.verdict for step in steps}
    whole = _beside(last, "first")
    if Verdict.UNKNOWN in verdicts:
        return f"The validation loss goes {ends}; whether the losses differ could not be measured."
    if verdicts == {Verdict.MORE}:
        text = (
            f"The validation loss rises with every increase of the batch, {ends}, by "
            f"{in_nats(whole)}."
        )
        if same:
            text += (
                " At equal tokens and an equal learning rate, fewer updates bring less progress."
            )
        return text
    if verdicts == {Verdict.LESS}:
        return (
            f"The validation loss *falls* with every increase of the batch, {ends}, by "
            f"{in_nats(-whole)}: fewer but less noisy updates brought more progress."
        )
    if len(runs) == 2:
        return f"The validation loss goes {ends}, which is not measurably different."
    told = [f"{step.word} ($k$ = {run['accumulation_steps']})" for step, run in
            zip(steps, runs[1:], strict=True)]  # fmt: skip
    return (
        f"The validation loss goes {ends}. From each setting to the next it is {listed(told)}; the "
        f"last beside the first is {whole.word}."
    )


def _at_equal_steps(first: Run, last: Run) -> str:
    """Compare the validation losses of two runs after as many steps as both of them made."""
    early = [run.get("equal_steps", {}).get("validation_loss") for run in (first, last)]
    if None in early:
        return ""
    ratio = f"{significant(last['effective_batch'] / first['effective_batch'], 2)} times the tokens"
    text = (
        f"At equal *steps*, {count(last['equal_steps']['step'])} of each, the validation loss is "
        f"{early[0]:.3f} with $k$ = {first['accumulation_steps']} and {early[1]:.3f} with "
        f"$k$ = {last['accumulation_steps']}"
    )
    return (
        text
        + {
            Verdict.LESS: ": each update with the larger batch brings more progress, but it costs "
            f"{ratio}.",
            Verdict.MORE: ": with the larger batch even a single update brings less progress.",
            Verdict.ALIKE: f", which is not measurably different: {ratio} do not make the updates "
            "measurably better.",
            Verdict.UNKNOWN: "; whether they differ could not be measured.",
        }[_beside(last, "equal_steps").verdict]
    )


def memory_comment(runs: Sequence[Run]) -> str:
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


def time_comment(runs: Sequence[Run]) -> str:
    """Return whether accumulation changes the time of an epoch."""
    if len(runs) == 1:
        return ""
    first, last = runs[0], runs[-1]
    one, other = _epoch(first), _epoch(last)
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
