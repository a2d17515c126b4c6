"""What a configuration's run will be, told before it is trained: its steps, its tokens, its time.

The data are prepared as the run prepares them (and kept, so that the run need not do it again), so
vocabulary, steps and tokens are the run's own. Time is measured: some steps on the data's own
windows by the run's own quick parts, and one validation; both times the number of them that the
run takes. Left out are the preparation itself, checkpoints, and an early stop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinylm.config import RunConfig, TrainingConfig
from tinylm.data.windows import ShuffledOrder, Windows, windows_of
from tinylm.evaluation.perplexity import split_loss
from tinylm.evaluation.speed import run_interleaved
from tinylm.experiments.context import Console, threads
from tinylm.experiments.preparation import prepare_data, resolve
from tinylm.fast import remove
from tinylm.model.base import GenerativeModel, build
from tinylm.tasks.language_modelling import next_token_loss
from tinylm.training.lengths import num_validations, steps_per_epoch, total_steps
from tinylm.training.precision import autocast
from tinylm.training.snapshots import snapshot_steps
from tinylm.training.step import TrainingStep

_WARMUP, _ROUNDS, _SECONDS = 3, 20, 10.0
"""Steps before those that count; how many count, or fewer if they take longer than this."""
_MOST_COUNTED = 10_000
"""Batches whose tokens are counted each; of more the mean is taken."""


def predict(config: RunConfig, console: Console) -> tuple[RunConfig, dict[str, Any]]:
    """Return a configuration as its run resolves it, and that run's numbers.

    Returns:
        ``steps``, ``epochs``, ``tokens_seen`` and ``windows_per_epoch``, as in the run's result;
        ``unit``, what a window is called;
        ``validations`` and ``snapshots``, their numbers; ``seconds_a_step`` and
        ``seconds_a_validation``, both measured, and whether the first was ``disturbed``;
        ``tokens_per_second`` in training; and ``seconds`` of steps and validations together.

    Raises:
        ConfigError: if settings contradict each other or need more memory than there is.
        DataError: if the corpus cannot be used.
    """
    data = prepare_data(config, console)
    config = resolve(config, data)
    learn_source, view = config.training.learn_source, config.training.view
    windows = windows_of(data.train, config.model, learn_source=learn_source, view=view)
    validation = windows_of(data.validation, config.model)
    steps = total_steps(config.training, len(windows))
    tokens, epochs = _seen(config.training, windows, steps)
    model = build(config.model)
    model.embedding.weight.requires_grad_(config.vectors.trainable)
    training_step = TrainingStep(model, next_token_loss, config.training, steps)
    with threads(config.training.threads):
        try:
            take = _step(training_step, windows, config.training)
            first = run_interleaved({"step": take}, rounds=1, warmup=_WARMUP)["step"]
            rounds = max(1, min(_ROUNDS, int(_SECONDS / first.median)))
            step = run_interleaved({"step": take}, rounds, warmup=0)["step"]
            validate = _validation(training_step, windows, validation, config)
            a_validation = run_interleaved({"validation": validate}, rounds=1, warmup=0)[
                "validation"
            ].median
        finally:
            remove(model)
    validations = num_validations(config.training, len(windows))
    return config, {
        "steps": steps,
        "epochs": epochs,
        "tokens_seen": tokens,
        "windows_per_epoch": len(windows),
        "unit": windows.noun,
        "validations": validations,
        "snapshots": len(snapshot_steps(config.training.snapshots, steps)),
        "seconds_a_step": step.median,
        "disturbed": step.disturbed,
        "seconds_a_validation": a_validation,
        "tokens_per_second": tokens / (steps * step.median),
        "seconds": steps * step.median + validations * a_validation,
    }


def _seen(config: TrainingConfig, windows: Windows, steps: int) -> tuple[int, float]:
    """Return the tokens predicted in so many steps, and the epochs.

    Of an epoch that is not read to its end the batches are counted one by one, or by their mean
    where they are many.
    """
    order = ShuffledOrder(len(windows), config.batch_size, config.seed)
    whole, rest = divmod(steps, steps_per_epoch(config, len(windows)))
    of_epoch = windows.num_targets(range(len(windows)))
    tokens = whole * of_epoch
    batches = rest * config.accumulation_steps
    if batches > _MOST_COUNTED:
        seen = batches * config.batch_size / len(windows)
        return tokens + round(seen * of_epoch), whole + seen
    order.restore(order.state() | {"epoch": whole})
    for _ in range(batches):
        tokens += windows.num_targets(order.next())
    return tokens, whole + order.next_window / len(windows)


def _step(
    training_step: TrainingStep[GenerativeModel], windows: Windows, config: TrainingConfig
) -> Callable[[], None]:
    """Return a function that takes one optimizer step, on other windows each time."""
    order = ShuffledOrder(len(windows), config.batch_size, config.seed)

    def take() -> None:
        chosen = []
        for _ in range(config.accumulation_steps):
            chosen.append(windows.batch(order.next()))
            if order.epoch_ended:
                break
        training_step.backward(chosen)
        training_step.update()

    return take


def _validation(
    training_step: TrainingStep[GenerativeModel],
    windows: Windows,
    validation: Windows,
    config: RunConfig,
) -> Callable[[], None]:
    """Return a function that does what every validation does: as many windows of both splits."""
    subset = validation.fixed_subset(config.training.validation_windows)
    sample = windows.fixed_subset(len(validation) if subset is None else len(subset))

    def validate() -> None:
        with autocast(training_step.precision, training_step.device):
            for split, chosen in ((validation, subset), (windows.judged, sample)):
                split_loss(training_step.model, split, config.evaluation.batch_size, chosen)

    return validate
