"""Training: settings, curves, and what the curves say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.config import TrainingConfig
from tinylm.report.blocks import Block, Equation, Figure, Heading, Paragraph, Table, code
from tinylm.report.formatting import count, duration, percent, plural, setting, significant
from tinylm.report.inputs import ReportInputs

_STILL_FALLING = 0.01
"""Relative fall of the validation loss between the last two validations that counts as falling."""
_RISING = 0.01
"""Nats by which the last validation loss must lie above the best one to count as rising."""


_FEWEST_NORMS = 12
_SPIKE = 5.0
"""A gradient so many times the median norm is a spike."""


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``training``."""
    training = results.results.get("training")
    if training is None:
        return []
    return [
        Heading(1, "Training", "sec:training"),
        *_method(results.config.training, training),
        *_curves(results, training),
    ]


def end_loss(curve: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the mean training loss over the last twentieth of the logged steps."""
    if not curve:
        return None
    last = curve[-max(1, len(curve) // 20) :]
    return float(sum(point["loss"] for point in last) / len(last))


def _method(config: TrainingConfig, training: Mapping[str, Any]) -> list[Block]:
    made: list[Block] = [
        Heading(2, "Objective and optimizer", "sec:optimizer"),
        Paragraph(
            "The loss is the mean negative log-likelihood of the true next tokens, over all "
            "tokens that are no filling; perplexity is its exponential [[jelinek1977]]:"
        ),
        Equation(
            'cal(L) = -1/N sum_(t=1)^N log p_theta (w_t | w_(<t)), wide "perplexity" = e^(cal(L))'
        ),
        Paragraph(
            "A perplexity of $k$ means that the model is as unsure as if it had to choose among "
            "$k$ equally likely words."
        ),
    ]
    if "adam" in config.optimizer:
        decoupled = (
            f" Weight decay of {setting(config.weight_decay)} acts on the weights directly "
            "[[loshchilov2019]]."
            if config.optimizer.endswith("adamw") and config.weight_decay
            else f" The gradient includes a weight decay of {setting(config.weight_decay)}."
            if config.weight_decay
            else " There is no weight decay."
        )
        made += [
            Paragraph(
                "The weights are moved by Adam [[kingma2015]], which keeps a running mean $m$ of "
                "the gradient $g$ and a running mean $v$ of its square, and so gives every weight "
                "a step size of its own:"
            ),
            Equation(
                "m arrow.l beta_1 m + (1 - beta_1) g, wide "
                "v arrow.l beta_2 v + (1 - beta_2) g^2, wide "
                "theta arrow.l theta - eta / (sqrt(hat(v)) + epsilon) hat(m)"
            ),
            Paragraph(
                "with $hat(m) = m slash (1 - beta_1^t)$ and $hat(v) = v slash (1 - beta_2^t)$ "
                f"at step $t$.{decoupled} {_clipping(config, training)}"
            ),
        ]
    else:
        made.append(Paragraph(f"The optimizer is `{config.optimizer}`. "
                              f"{_clipping(config, training)}"))  # fmt: skip
    made += [
        Paragraph(
            f"Training took {duration(training['seconds_training'])} for "
            f"{plural(training['steps'], 'step')} ([[tab:training]])."
        ),
        _settings(config, training),
    ]
    return made


def _clipping(config: TrainingConfig, training: Mapping[str, Any]) -> str:
    norms = [p["gradient_norm"] for p in training["curve"] if p.get("gradient_norm") is not None]
    if not config.gradient_clip:
        return "Gradients are not clipped."
    text = (
        f"A gradient whose norm exceeds {setting(config.gradient_clip)} is scaled down to it "
        "[[pascanu2013]]"
    )
    if not norms:
        return f"{text}."
    share = sum(norm > config.gradient_clip for norm in norms) / len(norms)
    if share == 0:
        return f"{text}, which was needed at none of the logged steps."
    return f"{text}, which happened at {percent(share)} of the logged steps."


def _settings(config: TrainingConfig, training: Mapping[str, Any]) -> Table:
    schedule = config.schedule
    if config.warmup_steps:
        schedule += f" after {plural(config.warmup_steps, 'warm-up step')}"
    adam = "adam" in config.optimizer
    batch = f"{config.batch_size} windows"
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
        ("Tokens a step", count(training["tokens_per_step"])),
        ("Steps", f"{count(training['steps'])} ({significant(training['epochs'])} epochs)"),
        ("Tokens seen", count(training["tokens_seen"])),
        ("Precision", str(training["precision"])),
        ("Seed", str(config.seed)),
        ("Time", duration(training["seconds_training"])),
        ("Speed", f"{count(training['tokens_per_second'])} tokens a second"),
    ]  # fmt: skip
    return Table(
        "tab:training",
        "How the model was trained.",
        ("Setting", "Value"),
        tuple(rows),
        "ll",
    )


def _curves(results: ReportInputs, training: Mapping[str, Any]) -> list[Block]:
    made: list[Block] = [
        Heading(2, "Loss and perplexity", "sec:curves"),
        Paragraph(progress(results, training)),
    ]
    if results.has_figure("figures/loss.svg"):
        made.append(
            Figure(
                "fig:loss",
                "figures/loss.svg",
                "Training loss at every logged step, its moving average, and validation loss, on a "
                "logarithmic axis, which shows the beginning and the end alike.",
                "Training and validation loss against optimizer steps.",
            )
        )
    listed = " [[tab:validations]] lists the validations." * (len(training["validations"]) > 1)
    made.append(Paragraph(gap(training) + listed))
    if results.has_figure("figures/perplexity.svg"):
        made.append(
            Figure(
                "fig:perplexity",
                "figures/perplexity.svg",
                _perplexity_caption(training),
                "Training and validation perplexity against optimizer steps: from the start, with "
                "two baselines, and the later part by itself.",
            )
        )
    text = baselines(results, training)
    if text:
        made.append(Paragraph(text))
    if results.has_figure("figures/schedule.svg"):
        made += [
            Paragraph(steadiness(training)),
            Figure(
                "fig:schedule",
                "figures/schedule.svg",
                "Learning rate and gradient norm during training.",
                "Learning rate and gradient norm against optimizer steps.",
            ),
        ]
    if len(training["validations"]) > 1:
        made.append(_validations(training))
    return made


def _perplexity_caption(training: Mapping[str, Any]) -> str:
    lines = (
        "Left: from the untrained model on, with what a model reaches that knows nothing and one "
        "that knows only how frequent each word is. Right: the later part by itself."
    )
    validations = training["validations"]
    if not any(point.get("training_perplexity") for point in validations):
        return f"Validation perplexity. {lines}"
    number, windows = training["validation_windows"], training["windows_per_epoch"]
    sample = (
        f"{count(number)} of the {count(windows)} training windows"
        if number < windows
        else "the training windows"
    )
    return (
        f"Perplexity on {sample} and on {plural(number, 'window')} of the validation split, always "
        f"the same and both without dropout, so that the two can be compared. {lines}"
    )


def progress(results: ReportInputs, training: Mapping[str, Any]) -> str:
    """Return how far perplexity fell, where it was best, and whether training went on too long."""
    validations, best = training["validations"], training["best"]
    if not validations:
        return "The model was not validated during training."
    first, last = validations[0], validations[-1]
    seen = " ([[fig:loss]])" if results.has_figure("figures/loss.svg") else ""
    if len(validations) == 1:
        return (
            f"Validation perplexity at step {count(first['step'])} is "
            f"{significant(first['perplexity'])}, a loss of {significant(first['loss'], 4)} nats "
            f"per token{seen}."
        )
    direction = "fell" if best["perplexity"] < first["perplexity"] else "did not fall"
    since = f"after {_epochs(first['epoch'])}" if first["step"] else "before the first step"
    text = (
        f"Validation perplexity {direction} from {significant(first['perplexity'], 4)} {since} to "
        f"{significant(best['perplexity'], 4)}, reached at step "
        f"{count(best['step'])}{seen}. "
    )
    rise = last["loss"] - best["loss"]
    before = validations[-2]
    fall = (before["loss"] - last["loss"]) / before["loss"]
    if rise > _RISING and last["step"] > best["step"]:
        text += (
            f"After that it rose again, by {significant(rise, 2)} nats until step "
            f"{count(last['step'])}, while the model went on fitting the training stories: it "
            "overfits. The checkpoint to use is the best one, not the last."
        )
    elif fall > _STILL_FALLING:
        text += (
            f"It was still falling when training ended, by {percent(fall)} of the loss between "
            "the last two validations: the model is undertrained, and more steps would lower it "
            "further."
        )
    else:
        text += (
            f"Between the last two validations the loss changed by "
            f"{significant(abs(before['loss'] - last['loss']), 2)} nats: training had levelled "
            "out at this learning rate."
        )
    if training.get("stopped_early"):
        text += (
            f" Training was stopped early, because {plural(results.config.training.early_stop_patience, 'validation')} "  # noqa: E501
            "in a row brought no better loss."
        )
    return text


def gap(training: Mapping[str, Any]) -> str:
    """Return what the distance between training and validation loss means."""
    ended, validations = end_loss(training["curve"]), training["validations"]
    if ended is None or not validations:
        return "Without both losses nothing can be said about overfitting."
    difference = validations[-1]["loss"] - ended
    size = significant(abs(difference), 2)
    text = (
        f"At the end the training loss (mean of the last twentieth of the logged steps) is "
        f"{ended:.3f} and the validation loss {validations[-1]['loss']:.3f}. "
    )
    if difference < -0.01:
        text += (
            f"The training loss lies {size} *above* the validation loss. That is no mistake: "
            "training is measured with dropout on, and validation without. There is no sign of "
            "memorising; the model could be larger or be trained longer."
        )
    elif difference < 0.05:
        text += (
            f"The training loss ended {size} below the validation loss, so the model does about "
            "as well on stories that it has not seen as on those that it has: it has learned "
            "what the stories share and has hardly memorised."
        )
    elif difference < 0.3:
        text += (
            f"The training loss ended {size} below the validation loss, so a part of what was "
            "learned is peculiar to the training stories. Dropout, which is on in training only, "
            "hides some of the gap."
        )
    else:
        text += (
            f"The training loss ended {size} below the validation loss, a wide gap: the model "
            "memorises training stories. More data, more dropout or fewer steps would help."
        )
    return text


def baselines(results: ReportInputs, training: Mapping[str, Any]) -> str:
    """Return how the best perplexity compares with knowing nothing and with word counts."""
    uniform, unigram = training.get("uniform_perplexity"), training.get("unigram_perplexity")
    best = training["best"]["perplexity"]
    if not uniform or not unigram or not best:
        return ""
    seen = " ([[fig:perplexity]])" if results.has_figure("figures/perplexity.svg") else ""
    text = (
        f"Two baselines give the number a scale{seen}. A model that holds every word for equally "
        f"likely has a perplexity of {count(uniform)}, the size of the vocabulary; one that "
        f"knows the frequency of every word and nothing of its context, "
        f"{significant(unigram)}. "
    )
    if best < unigram:
        return text + (
            f"The {significant(best, 4)} reached here is {significant(unigram / best, 2)} times "
            "lower than the second: that factor is what the model takes from context."
        )
    return text + (
        f"The {significant(best, 4)} reached here is not below the second: the model has not "
        "yet learned to use the context."
    )


def steadiness(training: Mapping[str, Any]) -> str:
    """Return what the gradient's norm tells about how steadily training went."""
    norms = [p["gradient_norm"] for p in training["curve"] if p.get("gradient_norm") is not None]
    text = "[[fig:schedule]] shows the learning rate and the norm of the gradient. "
    if len(norms) < _FEWEST_NORMS:
        return text.rstrip()
    later = sorted(norms[len(norms) // 4 :])
    middle, largest = later[len(later) // 2], later[-1]
    if largest > _SPIKE * middle:
        return text + (
            f"After the first quarter of training the norm is {significant(middle, 2)} in the "
            f"median but reaches {significant(largest, 2)}: there were spikes."
        )
    return text + (
        f"After the first quarter of training the norm is {significant(middle, 2)} in the median "
        f"and never above {significant(largest, 2)}: training was steady."
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
            f"{validations[i]['loss']:.4f}",
            significant(validations[i]["perplexity"], 4),
        )
        for i in kept
    )
    partly = "" if len(kept) == len(validations) else f" ({len(kept)} of {len(validations)})"
    return Table(
        "tab:validations",
        f"Validations during training{partly}; the best in bold.",
        ("Step", "Epoch", "Loss", "Perplexity"),
        rows,
        "rrrr",
        emphasised=(kept.index(best),),
    )


def _epochs(value: float) -> str:
    return f"epoch {value:.0f}" if value == round(value) else f"{value:.2f} epochs"
