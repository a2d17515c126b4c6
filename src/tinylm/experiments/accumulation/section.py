"""Gradient accumulation: its effect on loss, memory and time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.experiments.accumulation.figures import smoothed_over
from tinylm.experiments.document.inputs import ReportInputs
from tinylm.measurement import Difference, Measurement, Verdict, compare_unpaired
from tinylm.report.blocks import Block, Figure, Heading, Paragraph, Table, literal
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
from tinylm.report.passages import passages

TEXT = passages(__file__)
_SAME = 0.02
"""Relative difference within which tokens, passes or memory count as the same. A fixed bound: they
are counted exactly, and tokens and passes differ only because steps are whole."""

Run = Mapping[str, Any]


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``accumulation``."""
    result = results.results.get("accumulation")
    if result is None or not result["runs"]:
        return []
    runs = sorted(result["runs"], key=lambda run: run["accumulation_steps"])
    drawn = results.has_figure("figures/accumulation.svg")
    shown = " " + TEXT.line("before the figure") if drawn else ""
    section: list[Block] = [
        Heading(1, "Gradient accumulation", "sec:accumulation"),
        *TEXT.blocks("technique"),
        *_setting(result, runs, shown),
        _table(result, runs),
    ]
    if drawn:
        section.append(
            Figure(
                "fig:accumulation",
                "figures/accumulation.svg",
                TEXT.line("figure", smoothed=_smoothed(runs)),
                TEXT.line("figure, without seeing it"),
            )
        )
    section += [Paragraph(text) for text in (loss_comment(runs), memory_comment(runs),
                                          time_comment(runs)) if text]  # fmt: skip
    return section


def _smoothed(runs: Sequence[Run]) -> str:
    """Return over how many log entries the drawn losses are averaged, if any are."""
    # As many entries to either side of each.
    spans = sorted({2 * (smoothed_over(run) // 2) + 1 for run in runs} - {1})
    if not spans:
        return ""
    text = TEXT.line("figure, moving averages", spans=listed([str(span) for span in spans], "or"))
    return f" ({text})"


def _setting(result: Mapping[str, Any], runs: Sequence[Run], figure: str) -> list[Block]:
    steps = [str(run["accumulation_steps"]) for run in runs]
    epochs, validation = result["epochs"], result.get("validation_windows")
    where = (
        f"{plural(validation, 'window')} of the validation split"
        if validation
        else "the whole validation split"
    )
    passes = "one pass" if abs(epochs - 1) < _SAME else f"{significant(epochs)} passes"
    several = len(runs) > 1
    comparing = TEXT.line("setting, how losses are compared")
    return TEXT.blocks(
        "setting",
        times=f" {len(runs)} times" if several else "",
        windows=plural(result["windows"], "window"),
        context=plural(result["context_length"], "token"),
        passes=passes,
        batch=plural(result["batch_size"], "window"),
        precision=literal(str(result["precision"])),
        mini_batches=listed(steps),
        validation=where,
        learning_rate=setting(result["learning_rate"]),
        comparing=f" {comparing}" if several else "",
        figure=figure,
    )


def _table(result: Mapping[str, Any], runs: Sequence[Run]) -> Table:
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
        TEXT.line("table"),
        ("$k$", "Batch", "Steps", "Epoch", "Tokens/s", "Spread", "Peak", "Whole", "Val. loss",
         "Perpl."),
        rows,
        "rrrrrrrrrr",
        TEXT.line(
            "table's note",
            hardware=hardware(result),
            disturbances=disturbances(map(_epoch, runs), repeated=False),
        ),
    )  # fmt: skip


def _epoch(run: Run) -> Measurement:
    return measured(run["epoch"])


def loss_comment(runs: Sequence[Run]) -> str:
    """Return how the loss depends on the size of the batch, at equal tokens and at equal steps."""
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
        f", in {plural(first['steps'], 'update')} with $k = {first['accumulation_steps']}$ and in "
        f"{count(last['steps'])} with $k = {last['accumulation_steps']}$. "
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
                " At equal tokens and an equal learning rate, fewer updates led to a higher loss."
            )
        return text
    if verdicts == {Verdict.LESS}:
        return (
            f"The validation loss *falls* with every increase of the batch, {ends}, by "
            f"{in_nats(-whole)}: fewer updates with larger batches led to a lower loss."
        )
    if len(runs) == 2:
        return f"The validation loss goes {ends}, which is not measurably different."
    changes = [f"{step.word} ($k = {run['accumulation_steps']}$)" for step, run in
            zip(steps, runs[1:], strict=True)]  # fmt: skip
    return (
        f"The validation loss goes {ends}. From each setting to the next it is {listed(changes)}; "
        f"the last compared with the first is {whole.word}."
    )


def _at_equal_steps(first: Run, last: Run) -> str:
    """Compare the validation losses of two runs after as many steps as both of them made."""
    early = [run.get("equal_steps", {}).get("validation_loss") for run in (first, last)]
    if None in early:
        return ""
    ratio = f"{count(last['effective_batch'] / first['effective_batch'])} times the tokens"
    text = (
        f"At equal *steps*, {count(last['equal_steps']['step'])} of each, the validation loss is "
        f"{early[0]:.3f} with $k = {first['accumulation_steps']}$ and {early[1]:.3f} with "
        f"$k = {last['accumulation_steps']}$"
    )
    return (
        text
        + {
            Verdict.LESS: ": an update with the larger batch reduces the loss by more, for "
            f"{ratio}.",
            Verdict.MORE: ": with the larger batch an update reduces the loss by less.",
            Verdict.ALIKE: f", which is not measurably different: {ratio} do not make an update "
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
    if growth <= 1 + _SAME:
        return f"{text}, and the same batches without accumulation need no more either."
    saved = 1 - last["peak_bytes"] / last["whole_batch_peak_bytes"]
    text += (
        f". Without accumulation the peak with {plural(last['effective_batch'], 'window')} is "
        f"{mib(last['whole_batch_peak_bytes'])} MiB, {significant(growth, 2)} times that with "
        f"{count(first['effective_batch'])}; "
    )
    if saved > 0:
        return f"{text}accumulation saves {percent(saved, 0)} of it."
    return f"{text}accumulation saves none of it."


def time_comment(runs: Sequence[Run]) -> str:
    """Return whether accumulation changes the time of an epoch."""
    if len(runs) == 1:
        return ""
    first, last = runs[0], runs[-1]
    early, late = _epoch(first), _epoch(last)
    text = (
        f"An epoch takes {duration(early.median)} with $k = {first['accumulation_steps']}$ and "
        f"{duration(late.median)} with $k = {last['accumulation_steps']}$"
    )
    comparison = compare_unpaired(late, early)
    effect = {
        Verdict.LESS: f", less by a factor of {factor(comparison.inverse)}",
        Verdict.MORE: f", more by a factor of {factor(comparison)}",
        Verdict.ALIKE: ", which is not measurably different",
        Verdict.UNKNOWN: "; whether the times differ could not be measured",
    }[comparison.verdict]
    return (
        f"{text}{effect}. The trainings ran one after the other, so that changes of the machine "
        "between them are not excluded."
    )
