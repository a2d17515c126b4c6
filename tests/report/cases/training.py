"""What is said of how training went."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.telling import table_of

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
    """The best loss is so far from that of the word frequencies."""

    def change(result: Result) -> None:
        result["best"]["perplexity"] = perplexity
        result["unigram_perplexity"] = 1.0
        result["changes"]["best"] = distance

    return change


CASES = [
    *table_of(
        "training",
        # The course of it.
        (moved(first_to_best=LESS), "Validation perplexity fell from"),
        (moved(first_to_best=MORE), "Validation perplexity rose from"),
        (moved(first_to_best=ALIKE), "Validation perplexity did not change measurably, from"),
        (moved(first_to_best=UNKNOWN), "Validation perplexity went from"),
        (None, "before the first step to"),
        (late, "after 0.15 epochs to"),
        (lambda f: [late(f), f["validations"][0].update(epoch=1.0)], "after epoch 1 to"),
        (once, "Validation perplexity at step 4,860 is", "tab:validations"),
        (None, "(fig:loss)"),
        (None, "Validations during training (11 of 21); the best in bold."),
        (few, "Validations during training; the best in bold."),
        (None, "its best, at step 4,860", "stopped early"),
        # The end of it.
        (ended(LESS, 0.49), "had lowered the learning rate to 49.0\u202f% of its largest value: a "
         "lower loss would take a longer schedule", "more steps would have"),
        (ended(LESS, 0.51), "by 0.20 nats between the last two validations: more steps would have "
         "lowered it further.", "longer schedule"),
        (ended(MORE, 1.0), "Between the last two validations the loss rose by 0.20 nats."),
        (ended(UNKNOWN, 1.0), "How it moved at the end could not be measured."),
        (ended(ALIKE, 0.49), "at the end of its schedule training had levelled out."),
        (ended(ALIKE, 0.51), "at this learning rate training had levelled out."),
        (overfitted(LESS), "rose again: until step 4,860 the loss grew by 0.20 nats."),
        (overfitted(LESS), "the loss on the training stories fell: the model overfits."),
        (overfitted(MORE), "is the best one, not the last.", "overfits"),
        (overfitted(ALIKE), "is the best one, not the last.", "overfits"),
        (overfitted(None), "is the best one, not the last.", "overfits"),
        # Training beside validation stories.
        (apart(ALIKE), "They are not measurably different: the model predicts stories that it has"),
        (apart(LESS), "The validation stories are easier for it by 0.20 nats"),
        (apart(UNKNOWN), "Whether they differ could not be measured."),
        (apart([0.049, 0.04, 0.06]), "The gap of 0.049 nats is small"),
        (apart([0.05, 0.04, 0.06]), "The gap of 0.050 nats shows that a part of what was learned"),
        (apart([0.299, 0.2, 0.4]), "The gap of 0.30 nats shows"),
        (apart([0.3, 0.2, 0.4]), "The gap of 0.30 nats is wide: the model memorises"),
        (unseen, "so nothing can be said about overfitting."),
        (unseen, "Validation perplexity. Left", "without dropout"),
        (None, "Perplexity on 256 of the 51,832 training windows and on 256 windows of the valida"),
        (lambda f: f.update(windows_per_epoch=256), "Perplexity on the training windows and on"),
        # Baselines.
        (best([2.1, 2.0, 2.2]), "The 8.100 reached here is *above* the second".replace("*", "")),
        (best([-0.1, -0.2, -0.05], 0.9), "lower than the second by a factor of 1.1, which is what"),
        (best([0.0, -0.1, 0.1]), "not measurably different from the second: the model has not yet"),
        (best([0.0, None, None]), "The 8.100 reached here is to be compared with the second."),
        # The gradient.
        (norms(*[1.0] * 11), "the norm of the gradient.", "After the first quarter"),
        (norms(*[1.0] * 12), "the median norm is 1.0 and the largest 1.0: there was no spike."),
        (norms(*[1.0] * 11, 5.0), "the largest 5.0: there was no spike."),
        (norms(*[1.0] * 11, 5.1), "the largest 5.1: there were spikes."),
        (norms(9.0, 9.0, *[1.0] * 10), "the largest 1.0: there was no spike."),
        (norms(*[0.5] * 12), "Averaged over 10 steps, the norm never exceeded it."),
        (norms(*[0.5] * 11, 1.1), "the norm exceeded it in 8.3\u202f% of the 12 log entries."),
        # How fast.
        (speeds(20_000), "between their quartiles is 0\u202f% of it.", "disturbed"),
        (speeds(20_000, 21_000), "20,500 tokens per second", "disturbed"),
        (speeds(20_000, 30_000), "25,000† tokens per second"),
        (speeds(20_000, 30_000), "†: disturbed; neither the speed nor the time of the steps is"),
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
        (None, "Weight decay of 0.1 acts on the weights directly"),
        settings={"training": {"optimizer": "adamw", "weight_decay": 0.1}},
    ),
    *table_of(
        "training",
        (None, "At the last validation", "fig:"),
        (once, "nats per token."),
        drawn=False,
    ),
]  # fmt: skip
