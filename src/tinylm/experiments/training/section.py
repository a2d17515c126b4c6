"""Training: settings, curves, and what the curves say."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any

from tinylm.config import TrainingConfig
from tinylm.experiments.document.inputs import ReportInputs
from tinylm.experiments.training.architecture import blocks as architecture
from tinylm.experiments.units import unit_of
from tinylm.measurement import LIMIT, Difference, Measurement, Verdict
from tinylm.report.blocks import Block, Figure, Heading, Paragraph, Table, code
from tinylm.report.formatting import count, duration, percent, plural, setting, significant
from tinylm.report.measurements import DAGGER, dagger, signed
from tinylm.report.passages import passages

TEXT = passages(__file__)
_DECAYED = 0.5
"""Share of the largest learning rate below which a schedule has lowered it, at the end."""
_PECULIAR, _WIDE = 0.05, 0.3
"""Nats from which a measurable gap of training and validation loss is called a part, and wide."""
FEWEST_TO_SMOOTH = 12
"""Log entries from which a moving average says more than the entries themselves."""
_PRECISIONS = {"fp32": "float32", "bf16": "bfloat16"}
_FEWEST_NORMS = 12
_SPIKE = 5.0
"""A gradient so many times the median norm is a spike."""


def blocks(results: ReportInputs) -> list[Block]:
    """Return the sections on the architecture and on training; none without a result."""
    return [*architecture(results), *training_blocks(results)]


def training_blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``training``."""
    training = results.results.get("training")
    if training is None:
        return []
    return [
        Heading(1, "Training", "sec:training"),
        *_method(results.config.training, training),
        *_curves(results, training),
    ]


def _method(config: TrainingConfig, training: Mapping[str, Any]) -> list[Block]:
    clipping = _clipping(config, training)
    return [
        Heading(2, "Objective and optimizer", "sec:optimizer"),
        *TEXT.blocks("objective"),
        *(
            TEXT.blocks("Adam", decay=_decay(config), clipping=clipping)
            if "adam" in config.optimizer
            else TEXT.blocks("another optimizer", optimizer=config.optimizer, clipping=clipping)
        ),
        *_duration(training),
        _settings(config, training),
    ]


def _decay(config: TrainingConfig) -> str:
    if not config.weight_decay:
        return TEXT.line("no weight decay")
    decay = setting(config.weight_decay)
    if config.optimizer.endswith("adamw"):
        return TEXT.line("weight decay apart from the gradient", decay=decay)
    return TEXT.line("weight decay in the gradient", decay=decay)


def _clipping(config: TrainingConfig, training: Mapping[str, Any]) -> str:
    if not config.gradient_clip:
        return TEXT.line("no clipping")
    limit = setting(config.gradient_clip)
    norms = [point["gradient_norm"] for point in training["curve"]]
    share = sum(norm > config.gradient_clip for norm in norms) / len(norms)
    entries = plural(len(norms), "log entry", "log entries")
    averaged = f", averaged over the {config.log_interval} steps of a log entry,"
    return TEXT.line(
        "clipping",
        limit=limit,
        averaged=averaged if config.log_interval > 1 else "",
        exceeded=f"exceeded {limit} in {percent(share)} of the {entries}."
        if share
        else f"never exceeded {limit}.",
    )


def speed(training: Mapping[str, Any]) -> Measurement:
    """Return the tokens per second of the log entries; if disturbed, no time is reliable."""
    return Measurement.of([point["tokens_per_second"] for point in training["curve"]])


def _duration(training: Mapping[str, Any]) -> list[Block]:
    if speed(training).disturbed:
        return TEXT.blocks("duration, not reliable")
    time = duration(training["seconds_training"])
    return TEXT.blocks("duration", steps=plural(training["steps"], "step"), time=time)


def _settings(config: TrainingConfig, training: Mapping[str, Any]) -> Table:
    schedule = config.schedule
    if config.warmup_steps:
        schedule += f" after {plural(config.warmup_steps, 'warm-up step')}"
    adam = "adam" in config.optimizer
    rate = speed(training)
    mark = dagger(rate)
    batch = f"{config.batch_size} {unit_of(training).windows}"
    if config.accumulation_steps > 1:
        batch += f" × {config.accumulation_steps} passes"
    rows = [
        ("Optimizer", code(config.optimizer)),
        ("Learning rate $eta$", f"{setting(config.learning_rate)}, {schedule}"),
        *(
            [
                ("$beta_1$, $beta_2$, $epsilon$", f"{setting(config.beta1)}, "
                 f"{setting(config.beta2)}, {setting(config.eps)}")
            ]
            if adam
            else []
        ),
        ("Weight decay", setting(config.weight_decay)),
        ("Gradient clip", setting(config.gradient_clip) if config.gradient_clip else "off"),
        ("Batch", batch),
        ("Tokens per step", count(training["tokens_per_step"])),
        ("Steps", f"{count(training['steps'])} ({significant(training['epochs'])} epochs)"),
        ("Tokens seen", count(training["tokens_seen"])),
        ("Precision", code(_PRECISIONS.get(training["precision"], training["precision"]))),
        ("Seed", str(config.seed)),
        ("Time of the steps", f"{duration(training['seconds_training'])}{mark}"),
        ("Speed", f"{count(rate.median)} tokens per second{mark}"),
    ]  # fmt: skip
    return Table(
        "tab:training",
        TEXT.line("table of settings"),
        ("Setting", "Value"),
        tuple(rows),
        "ll",
        TEXT.line(
            "table of settings, note",
            entries=plural(len(rate.rounds), "log entry", "log entries"),
            spread=percent(rate.spread),
            disturbed=f" {DAGGER}: the middle half of the log entries spans more than "
            f"{percent(LIMIT, 0)} of the median; speed and time are not reliable."
            if rate.disturbed
            else "",
        ),
    )


def _curves(results: ReportInputs, training: Mapping[str, Any]) -> list[Block]:
    blocks: list[Block] = [
        Heading(2, "Loss and perplexity", "sec:curves"),
        Paragraph(progress(results, training)),
    ]
    if results.has_figure("figures/loss.svg"):
        blocks.append(
            Figure(
                "fig:loss",
                "figures/loss.svg",
                TEXT.line(
                    "figure of the loss",
                    average=", its moving average"
                    if len(training["curve"]) >= FEWEST_TO_SMOOTH
                    else "",
                ),
                TEXT.line("figure of the loss, without seeing it"),
            )
        )
    if len(training["validations"]) > 1:
        blocks += [*TEXT.blocks("gap", gap=gap(results, training)), _validations(training)]
    else:
        blocks.append(Paragraph(gap(results, training)))
    blocks.append(Paragraph(baselines(results, training)))
    if results.has_figure("figures/perplexity.svg"):
        blocks.append(
            Figure(
                "fig:perplexity",
                "figures/perplexity.svg",
                _perplexity_caption(results, training),
                TEXT.line("figure of the perplexity, without seeing it"),
            )
        )
    if results.has_figure("figures/schedule.svg"):
        blocks += [
            Paragraph(steadiness(training)),
            Figure(
                "fig:schedule",
                "figures/schedule.svg",
                TEXT.line("figure of the schedule"),
                TEXT.line("figure of the schedule, without seeing it"),
            ),
        ]
    return blocks


def _perplexity_caption(results: ReportInputs, training: Mapping[str, Any]) -> str:
    panels = TEXT.line("figure of the perplexity, its panels")
    validations = training["validations"]
    if all(point["training_perplexity"] is None for point in validations):
        return TEXT.line("figure of the perplexity, validation only", panels=panels)
    number, windows = training["validation_windows"], training["windows_per_epoch"]
    unit = unit_of(training)
    return TEXT.line(
        "figure of the perplexity, both splits",
        sample=f"{count(number)} of the {count(windows)} training {unit.windows}"
        if number < windows
        else f"the training {unit.windows}",
        windows=plural(number, unit.window),
        dropout=", measured without dropout" if results.config.model.dropout else "",
        panels=panels,
    )


def _change(training: Mapping[str, Any], name: str) -> Difference:
    """Return how a loss changed; results of a run that an older version began do not have it."""
    return Difference.from_result(training["changes"].get(name))


def progress(results: ReportInputs, training: Mapping[str, Any]) -> str:
    """Return how far the validation loss fell, where it was least, and how it moved at the end."""
    validations, best = training["validations"], training["best"]
    first = validations[0]
    shown = " ([[fig:loss]])" if results.has_figure("figures/loss.svg") else ""
    if len(validations) == 1:
        return (
            f"The validation loss at step {count(first['step'])} is "
            f"{significant(first['loss'], 4)} nats per token, a perplexity of "
            f"{significant(first['perplexity'], 4)}{shown}."
        )
    since = f"after {_epochs(first['epoch'])}" if first["step"] else "before the first step"
    way = {
        Verdict.LESS: "fell",
        Verdict.MORE: "rose",
        Verdict.ALIKE: "did not change measurably,",
        Verdict.UNKNOWN: "went",
    }[_change(training, "first_to_best").verdict]
    text = (
        f"The validation loss {way} from {significant(first['loss'], 4)} nats per token {since} "
        f"to {significant(best['loss'], 4)}, its lowest value, at step {count(best['step'])}"
        f"{shown}; that is from a perplexity of {significant(first['perplexity'], 4)} to one of "
        f"{significant(best['perplexity'], 4)}. {_ending(training)}"
    )
    if training["stopped_early"]:
        patience = plural(results.config.training.early_stop_patience, "validation")
        text += f" Training was stopped early because {patience} in a row brought no lower loss."
    return text


def _ending(training: Mapping[str, Any]) -> str:
    """Return how the validation loss moved at the end, and what that says of more steps."""
    last = training["validations"][-1]
    rise = _change(training, "best_to_last")
    if rise.verdict is Verdict.MORE:
        text = (
            f"After that the loss rose by {significant(rise.value, 2)} nats until step "
            f"{count(last['step'])}. The checkpoint to use is the best, not the last."
        )
        if _change(training, "training_best_to_last").verdict is Verdict.LESS:
            return (
                f"{text} Meanwhile the loss on training {unit_of(training).items} fell: the model "
                "overfits."
            )
        return text
    step = _change(training, "previous_to_last")
    rates = [point["learning_rate"] for point in training["curve"]]
    share = rates[-1] / max(rates)
    if step.verdict is Verdict.LESS:
        text = (
            f"The loss was still falling when training ended, by {significant(-step.value, 2)} "
            "nats between the last two validations"
        )
        if share < _DECAYED:
            return (
                f"{text}. By then the learning rate was {percent(share)} of its largest value, so "
                "further steps at this rate would probably change the loss little."
            )
        return f"{text}: more steps would probably have lowered it further."
    if step.verdict is Verdict.MORE:
        return (
            f"Between the last two validations the loss rose by {significant(step.value, 2)} nats."
        )
    if step.verdict is Verdict.UNKNOWN:
        return "How it changed at the end could not be measured."
    return (
        "Between the last two validations, at the end of the schedule, the loss did not change "
        "measurably."
        if share < _DECAYED
        else "Between the last two validations the loss did not change measurably: more steps at "
        "this learning rate would probably change it little."
    )


def gap(results: ReportInputs, training: Mapping[str, Any]) -> str:
    """Return what the difference between training and validation loss means."""
    first, last = training["validations"][0], training["validations"][-1]
    stories = unit_of(training).items
    if last["training_loss"] is None:
        return (
            f"The loss on training {stories} was not measured as that on validation {stories} was, "
            "so nothing can be said about overfitting."
        )
    dropout = ", both measured without dropout" if results.config.model.dropout else ""
    text = (
        f"At the last validation the loss on training {stories} is {last['training_loss']:.4f} and "
        f"that on validation {stories} {last['loss']:.4f}{dropout}"
    )
    difference = _change(training, "training_to_validation")
    size = f"{significant(abs(difference.value), 2)} nats"
    if difference.verdict is Verdict.UNKNOWN:
        return f"{text}. Whether they differ could not be measured."
    if difference.verdict is Verdict.ALIKE:
        return f"{text}. They are not measurably different: there is no sign of overfitting."
    if difference.verdict is Verdict.LESS:
        return (
            f"{text}. The loss on validation {stories} is lower by {size}, so there is no sign of "
            "overfitting."
        )
    if not first["step"] and first["training_loss"] is not None:
        # The two sets of windows are different texts, of which one may be harder.
        size += f" ({signed(first['loss'] - first['training_loss'], 3)} before training)"
    if difference.value < _PECULIAR:
        return (
            f"{text}. The loss on validation {stories} is higher by only {size}, so nearly all "
            f"that was learned holds for unseen {stories} as well."
        )
    if difference.value < _WIDE:
        return (
            f"{text}. The loss on validation {stories} is higher by {size}, so part of what was "
            f"learned holds for the training {stories} only."
        )
    return (
        f"{text}. The loss on validation {stories} is higher by {size}, so much of what was "
        f"learned holds for the training {stories} only: the model overfits. More data, more "
        "dropout or fewer steps can reduce this."
    )


def baselines(results: ReportInputs, training: Mapping[str, Any]) -> str:
    """Return how the best perplexity compares with the uniform and the unigram model."""
    uniform, unigram = training["uniform_perplexity"], training["unigram_perplexity"]
    best = training["best"]["perplexity"]
    shown = " ([[fig:perplexity]])" if results.has_figure("figures/perplexity.svg") else ""
    text = (
        f"Two baselines help to judge the perplexity{shown}. The uniform model, to which all "
        f"tokens are equally likely, has a perplexity of {count(uniform)}, the size of the "
        "vocabulary; the unigram model, which uses token frequencies only, has one of "
        f"{significant(unigram)}. "
    )
    own, known = _change(training, "best"), math.log(unigram)
    verdict = Difference(own.value - known, own.low - known, own.high - known).verdict
    reached = f"{text}The {significant(best, 4)} of the model is"
    if verdict is Verdict.LESS:
        return (
            f"{reached} lower than that of the unigram model by a factor of "
            f"{significant(unigram / best, 2)}, because it uses the context."
        )
    if verdict is Verdict.MORE:
        return (
            f"{reached} *higher* than that of the unigram model: the model has not learned to use "
            "the context."
        )
    if verdict is Verdict.ALIKE:
        return (
            f"{reached} not measurably different from that of the unigram model: the model has not "
            "yet learned to use the context."
        )
    return f"{reached} to be compared with that of the unigram model."


def steadiness(training: Mapping[str, Any]) -> str:
    """Return how large the gradient norm was, and whether it had spikes."""
    norms = [point["gradient_norm"] for point in training["curve"]]
    text = "[[fig:schedule]] shows the learning rate and the norm of the gradient."
    if len(norms) < _FEWEST_NORMS:
        return text
    later = norms[len(norms) // 4 :]
    middle, largest = statistics.median(later), max(later)
    text += (
        f" After the first quarter of training the median norm is {significant(middle, 2)} and the "
        f"largest {significant(largest, 2)}: "
    )
    return (
        f"{text}there were spikes." if largest > _SPIKE * middle else f"{text}there was no spike."
    )


def _validations(training: Mapping[str, Any]) -> Table:
    validations = training["validations"]
    # A long run validates often; a dozen lines show the course of it.
    stride = max(1, -(-len(validations) // 12))
    kept = sorted({*range(len(validations) - 1, -1, -stride), 0})
    best = min(range(len(validations)), key=lambda i: validations[i]["loss"])
    kept = sorted({*kept, best})
    rows = tuple(
        (
            count(validations[i]["step"]),
            f"{validations[i]['epoch']:.2f}",
            _perplexity(validations[i]["training_perplexity"]),
            f"{validations[i]['loss']:.4f}",
            _perplexity(validations[i]["perplexity"]),
        )
        for i in kept
    )
    partly = "" if len(kept) == len(validations) else f" ({len(kept)} of {len(validations)})"
    return Table(
        "tab:validations",
        TEXT.line("table of validations", partly=partly),
        ("Step", "Epoch", "Training perplexity", "Validation loss", "Validation perplexity"),
        rows,
        "rrrrr",
        emphasised=(kept.index(best),),
    )


def _perplexity(value: float | None) -> str:
    return "–" if value is None else significant(value, 4)


def _epochs(value: float) -> str:
    return f"epoch {value:.0f}" if value == round(value) else f"{value:.2f} epochs"
