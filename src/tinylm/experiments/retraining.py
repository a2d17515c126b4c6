"""Training what pruning left: a training like any other, from the pruned weights on.

Its settings are the run's, with so many steps, a warm-up and a lower rate; its start and what is to
be done stand in the folder (``compressing.write_unfinished``), so that the experiment ``training``
of that folder trains it, and goes on with it. In the end compression.json is written again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tinylm.checkpoint import load_checkpoint, step_of
from tinylm.compression.masking import Masking
from tinylm.compression.pruner import Pruner
from tinylm.config import TrainingConfig, from_dict, to_dict
from tinylm.config.pruning import Calibrated
from tinylm.data.windows import Windows
from tinylm.errors import ConfigError, TrainingError
from tinylm.evaluation.perplexity import split_loss
from tinylm.experiments.compressing import calibration_windows, size_of, write_record
from tinylm.experiments.context import Context
from tinylm.experiments.courses import Course
from tinylm.experiments.preparation import PreparedData
from tinylm.experiments.records import Compressed, history, read_compression
from tinylm.registry import PRUNERS
from tinylm.tasks.carried import carried
from tinylm.tasks.gradual_pruning import Curve, GradualPruning
from tinylm.tasks.language_modelling import LanguageModelling
from tinylm.tokenizers.base import Tokenizer
from tinylm.training.lengths import total_steps

RATE = 0.3
"""Of the run's learning rate, where none is given."""
WARM_UP = 0.1
"""Of the steps, over which it rises."""
_RISING = 2 / 3
"""Of the steps, over which gradual pruning prunes."""


def retraining(context: Context, steps: int, learning_rate: float | None = None) -> TrainingConfig:
    """Return how what is left is trained: as the run was, but for what is asked.

    Args:
        context: the run.
        steps: of the optimizer, one at least.
        learning_rate: empty: ``RATE`` times the run's.

    Raises:
        ConfigError: for a learning rate that cannot be.
    """
    training = to_dict(context.config.training)
    own = {
        "max_steps": steps,
        "warmup_steps": math.ceil(WARM_UP * steps),
        "learning_rate": RATE * run_rate(context) if learning_rate is None else learning_rate,
        "early_stop_patience": 0,
        "snapshots": 0,
    }
    return from_dict(TrainingConfig, training | own, "--learning-rate")


def run_rate(context: Context) -> float:
    """Return the learning rate of the training that made the weights which were pruned first.

    A run that was retrained itself has a lower one in its configuration.
    """
    for record in history(context.folder):
        if record["command"] == "distill":
            break
        if "retraining" in record:
            rate: float = record["retraining"]["run_rate"]
            return rate
    return context.config.training.learning_rate


def last_rise(steps: int) -> int:
    """Return the step after which gradual pruning has reached its share."""
    return max(1, math.ceil(steps * _RISING))


def calibration_of(context: Context, settings: Any, tokenizer: Tokenizer) -> Tensor | None:
    """Return the texts that a method reads, or None.

    Raises:
        ConfigError: if there are too few.
    """
    if not isinstance(settings, Calibrated) or not settings.reads_texts:
        return None
    return calibration_windows(
        context, settings.windows, settings.calibration_seed, tokenizer=tokenizer
    )


@dataclass(frozen=True, kw_only=True)
class Retrained(Course):
    """A run's own text, learned by what pruning left of its model."""

    context: Context
    written: Compressed
    curve: Curve | None
    """How the share rises; None: it was pruned at once."""

    def task(
        self,
        tokenizer: Tokenizer,
        windows: Windows,
        validation: Windows,
        batch_size: int,
        subset: Sequence[int] | None,
    ) -> LanguageModelling:
        """Return the task; see ``Course.task``."""
        if self.curve is None:
            return super().task(tokenizer, windows, validation, batch_size, subset)
        steps = total_steps(self.context.config.training, len(windows))
        if steps < self.curve.last:
            raise ConfigError(
                f"{steps:,} steps: the share that is pruned rises over the first "
                f"{self.curve.last:,}; give as many at least"
            )
        kind = carried(GradualPruning) if self.carry_state else GradualPruning
        return kind(self.curve, tokenizer, windows, validation, batch_size, subset)

    def finish(self, task: LanguageModelling, steps: int) -> None:
        """Write compression.json again, with what is true of the trained weights.

        Raises:
            TrainingError: if their loss is not finite.
        """
        folder = self.context.folder
        best = load_checkpoint(folder)
        model = best.build_language_model()
        loss = split_loss(model, task.validation, task.batch_size, task.subset).mean
        if not math.isfinite(loss):
            raise TrainingError(
                f"the validation loss after training what is left is {loss:g}: prune again, with a "
                "lower --learning-rate"
            )
        if step_of(best.path) == 0:
            self.context.console.warn(
                f"no validation in {steps:,} steps was better than what pruning left, which is "
                "kept: take more steps, or a lower --learning-rate"
            )
        losses = {**self.written["details"]["losses"], "after": loss}
        if isinstance(task, GradualPruning):
            losses["pruned"] = task.pruned_loss
        rate = self.context.config.training.learning_rate
        write_record(
            folder,
            {
                **self.written,
                "details": {**self.written["details"], "losses": losses},
                "after": size_of(model, best.path),
                "retraining": {
                    **self.written["retraining"],
                    "steps": steps,
                    "learning_rate": rate,
                },
            },
        )


def retraining_of(context: Context, data: PreparedData) -> Retrained | None:
    """Return how what is left of a run's model is trained, or None if nothing was pruned.

    Raises:
        ConfigError: if settings do not suit, or there are too few texts.
        CompressionError: if compression.json cannot be read.
    """
    written = read_compression(context.folder)
    if written is None or "retraining" not in written:
        return None
    rising, curve = written["retraining"]["rising"], None
    if rising is not None:
        method: type[Pruner] = PRUNERS.load(written["method"])
        assert issubclass(method, Masking)
        place = f"{context.folder}/compression.json"
        settings: Any = from_dict(method.Settings, written["settings"], place)
        curve = Curve(
            method,
            settings,
            calibration_of(context, settings, data.tokenizer),
            rising["first"],
            written["details"]["share"],
            rising["last"],
        )
    return Retrained(
        train=data.train,
        has_start=True,
        carry_state=context.config.training.carry_state,
        context=context,
        written=written,
        curve=curve,
    )
