"""What is said of how training went."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.telling import all_of, table_of

Result = dict[str, Any]
Change = Callable[[Result], None]
LESS, MORE, ALIKE, UNKNOWN = [-0.2, -0.3, -0.1], [0.2, 0.1, 0.3], [0, -0.1, 0.1], [0.2, None, None]


def moved(**changes: list[float | None] | None) -> Change:
    return lambda result: result["changes"].update(changes)


def ended(previous: list[Any], rate: float) -> Change:
    """The loss moved like this at the end, the learning rate being this share of its largest."""

    def change(result: Result) -> None:
        result["changes"].update(best_to_last=ALIKE, previous_to_last=previous)
        largest = max(point["learning_rate"] for point in result["curve"])
        result["curve"][-1]["learning_rate"] = rate * largest

    return change


def overfitted(on_training_stories: list[float | None] | None) -> Change:
    """The loss rose after the best validation, and so changed on the training stories."""
    return moved(best_to_last=MORE, training_best_to_last=on_training_stories)


def apart(difference: list[Any]) -> Change:
    return moved(training_to_validation=difference)


def unseen(result: Result) -> None:
    for point in result["validations"]:
        point.update(training_loss=None, training_perplexity=None)


def unseen_at_first(result: Result) -> None:
    result["validations"][0]["training_loss"] = None


def once(result: Result) -> None:
    result["validations"] = result["validations"][-1:]


def few(result: Result) -> None:
    result["validations"] = result["validations"][-12:]


def late(result: Result) -> None:
    del result["validations"][0]


def norms(*values: float) -> Change:
    def change(result: Result) -> None:
        result["curve"] = result["curve"][: len(values)]
        for point, value in zip(result["curve"], values, strict=True):
            point["gradient_norm"] = value

    return change


def speeds(*values: float) -> Change:
    def change(result: Result) -> None:
        for i, point in enumerate(result["curve"]):
            point["tokens_per_second"] = values[i % len(values)]

    return change


def best(distance: list[Any], perplexity: float = 8.1) -> Change:
    """The best loss is so far from that of the unigram model."""

    def change(result: Result) -> None:
        result["best"]["perplexity"] = perplexity
        result["unigram_perplexity"] = 1.0
        result["changes"]["best"] = distance

    return change


CASES = [
    *table_of(
        "training",
        # The course of it.
        (moved(first_to_best=LESS), "The validation loss fell from"),
        (moved(first_to_best=MORE), "The validation loss rose from"),
        (moved(first_to_best=ALIKE), "The validation loss did not change measurably, from"),
        (moved(first_to_best=UNKNOWN), "The validation loss went from"),
        (None, "before the first step to"),
        (late, "after 0.15 epochs to"),
        (lambda f: [late(f), f["validations"][0].update(epoch=1.0)], "after epoch 1 to"),
        (once, "The validation loss at step 4,860 is", "tab:validations"),
        (None, "(fig:loss)"),
        (None, "Validations during training (11 of 21); losses in nats per token, the best in "
               "bold."),
        (few, "Validations during training; losses in nats per token, the best in bold."),
        (None, "its lowest value, at step 4,860 (fig:loss); that is from a perp", "stopped ea"),
        # The end of it.
        (ended(LESS, 0.49), "By then the learning rate was 49.0\u202f% of its largest value, so "
         "further steps at this rate would probably change the loss little.", "more steps would"),
        (ended(LESS, 0.51), "by 0.20 nats between the last two validations: more steps would "
         "probably have lowered it further.", "at this rate"),
        (ended(MORE, 1.0), "Between the last two validations the loss rose by 0.20 nats."),
        (ended(UNKNOWN, 1.0), "How it changed at the end could not be measured."),
        (ended(ALIKE, 0.49), "at the end of the schedule, the loss did not change measurably."),
        (ended(ALIKE, 0.51), "more steps at this learning rate would probably change it little."),
        (overfitted(LESS), "After that the loss rose by 0.20 nats until step 4,860."),
        (overfitted(LESS), "the loss on training stories fell: the model overfits."),
        (overfitted(MORE), "is the best, not the last.", "overfits"),
        (overfitted(ALIKE), "is the best, not the last.", "overfits"),
        (overfitted(None), "is the best, not the last.", "overfits"),
        # Training beside validation stories.
        (apart(ALIKE), "They are not measurably different: there is no sign of overfitting."),
        (apart(LESS), "The loss on validation stories is lower by 0.20 nats, so there is no sign"),
        (apart(UNKNOWN), "Whether they differ could not be measured."),
        (apart([0.049, 0.04, 0.06]), "is higher by only 0.049 nats (", "so part of"),
        (apart([0.05, 0.04, 0.06]), "higher by 0.050 nats (0.040 before training), so part of wha"),
        (apart([0.299, 0.2, 0.4]), "higher by 0.30 nats (0.040 before training), so part of what"),
        (apart([0.3, 0.2, 0.4]), "so much of what was learned holds for the training stories only"),
        (all_of(late, apart([0.05, 0.04, 0.06])), "is higher by 0.050 nats, so part of what was l"),
        (all_of(unseen_at_first, apart([0.05, 0.04, 0.06])), "is higher by 0.050 nats, so part of"),
        (unseen, "so nothing can be said about overfitting."),
        (unseen, "Validation perplexity. Left", "the same throughout"),
        (None, "Perplexity on 256 of the 51,832 training windows and on 256 windows of the valida"),
        (lambda f: f.update(windows_per_epoch=256), "Perplexity on the training windows and on"),
        # Baselines.
        (best([2.1, 2.0, 2.2]), "The 8.100 of the model is higher than that of the unigram"),
        (best([-0.1, -0.2, -0.05], 0.9), "lower than that of the unigram model by a factor of 1.1"),
        (best([0.0, -0.1, 0.1]), "not measurably different from that of the unigram model"),
        (best([0.0, None, None]), "The 8.100 of the model is to be compared with that of the"),
        # The gradient.
        (norms(*[1.0] * 11), "the norm of the gradient.", "After the first quarter"),
        (norms(*[1.0] * 12), "the median norm is 1.0 and the largest 1.0: there was no spike."),
        (norms(*[1.0] * 11, 5.0), "the largest 5.0: there was no spike."),
        (norms(*[1.0] * 11, 5.1), "the largest 5.1: there were spikes."),
        (norms(9.0, 9.0, *[1.0] * 10), "the largest 1.0: there was no spike."),
        (norms(*[0.5] * 12), "averaged over the 10 steps of a log entry, never exceeded 1."),
        (norms(*[0.5] * 11, 1.1), "log entry, exceeded 1 in 8.3\u202f% of the 12 log entries."),
        # How fast.
        (speeds(20_000), "interquartile range 0\u202f% of it.", "†"),
        (speeds(20_000), "The 4,860 steps took", "not reliable"),
        (speeds(20_000, 21_000), "20,500 tokens per second\n", "†"),
        (speeds(20_000, 30_000), "25,000 tokens per second†"),
        (speeds(20_000, 30_000), "†: the middle half of the log entries spans more than 10"),
        (speeds(20_000, 30_000), "tab:training gives the settings.", "The 4,860 steps took"),
        # The figures.
        (None, "Training loss at every log entry, its moving average and validation loss"),
        (norms(*[1.0] * 11), "Training loss at every log entry and validation loss"),
        (None, "of the validation split, the same throughout, measured without dropout. Left"),
        (None, "both measured without dropout. "),
    ),
    *table_of(
        "training",
        (lambda f: f.update(stopped_early=True), "stopped early because 3 validations in a row"),
        settings={"training": {"early_stop_patience": 3}},
    ),
    *table_of(
        "training",
        (None, "Gradients are not clipped."),
        settings={"training": {"gradient_clip": 0.0}},
    ),
    *table_of(
        "training",
        (norms(*[0.5] * 12), "The norm never exceeded 1."),
        settings={"training": {"log_interval": 1}},
    ),
    *table_of(
        "training",
        (None, "the same throughout. Left", "without dropout"),
        (None, "At the last validation the loss on training stories", "without dropout"),
        settings={"model": {"dropout": 0.0}},
    ),
    *table_of(
        "training",
        (None, "The optimizer is sgd."),
        (None, "32 windows × 2 passes"),
        (None, "cosine after 1 warm-up step", "There is no weight decay."),
        settings={"training": {"optimizer": "sgd", "accumulation_steps": 2, "warmup_steps": 1}},
    ),
    *table_of(
        "training",
        (None, "There is no weight decay."),
        (None, "cosine\n"),
        settings={"training": {"optimizer": "adam", "weight_decay": 0.0, "warmup_steps": 0}},
    ),
    *table_of(
        "training",
        (None, "The gradient includes a weight decay of 0.1."),
        settings={"training": {"optimizer": "adam", "weight_decay": 0.1}},
    ),
    *table_of(
        "training",
        (None, "Weight decay of 0.1 is applied to the parameters directly"),
        settings={"training": {"optimizer": "adamw", "weight_decay": 0.1}},
    ),
    *table_of(
        "training",
        (None, "At the last validation", "fig:"),
        (once, "nats per token, a perplexity of 7.853."),
        drawn=False,
    ),
]  # fmt: skip
