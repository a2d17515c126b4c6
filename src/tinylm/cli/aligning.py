"""What the options of ``tinylm align`` mean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinylm.experiments.aligning import Asked
    from tinylm.experiments.context import Context

_ADAPTER = "adapter."


@dataclass(frozen=True)
class Given:
    """The options, as given."""

    run: Path
    out: Path
    method: str
    rewards: str | None
    preferences: Path | None
    adapter: str | None
    judge: str | None
    steps: int | None
    learning_rate: float | None
    batch_size: int | None
    seed: int
    option: tuple[str, ...]


def asked_of(given: Given, context: Context) -> Asked:
    """Return what is asked for.

    Raises:
        ConfigError: for an unknown method, key or value, and settings of what is not there.
    """
    from tinylm.config import TrainingConfig, from_dict, method_settings, to_dict
    from tinylm.errors import ConfigError
    from tinylm.experiments.aligning import Asked
    from tinylm.experiments.rewards import chosen_reward
    from tinylm.registry import ALIGNMENTS, METHODS

    method: Any = ALIGNMENTS.load(given.method)
    rewards, options = chosen_reward(given.rewards, list(given.option))
    judge, options = chosen_reward(given.judge, options, "judge")
    of_adapter = [each for each in options if each.startswith(_ADAPTER)]
    settings = method_settings(
        ALIGNMENTS, given.method, [each for each in options if each not in of_adapter]
    )
    adapter_settings = None
    if given.adapter is not None:
        adapter_settings = method_settings(
            METHODS, given.adapter, [each.removeprefix(_ADAPTER) for each in of_adapter]
        )
    elif of_adapter:
        raise ConfigError(f"-o {of_adapter[0]} is about --adapter: name one, or leave it out")
    rate = method.learning_rate
    if given.adapter is not None:
        rate *= method.adapter_rate
    chosen = {
        "learning_rate": rate if given.learning_rate is None else given.learning_rate,
        "max_steps": given.steps or method.steps,
        "batch_size": given.batch_size or method.batch_size,
        "seed": given.seed,
    }
    own = to_dict(context.config.training) | {
        "precision": "fp32",
        "schedule": "constant",
        "warmup_steps": 0,
        "accumulation_steps": 1,
        "validation_interval": 0,
        "validations": 10,
        "early_stop_patience": 0,
        "checkpoint_interval": 20,
        "log_interval": 1,
        "snapshots": 0,
        "tensorboard": False,
        "wandb": False,
    }
    training = from_dict(TrainingConfig, own | chosen, "options")
    return Asked(
        method=given.method,
        settings=settings,
        training=method.suited(training, settings),
        rewards=rewards,
        preferences=given.preferences,
        adapter=given.adapter,
        adapter_settings=adapter_settings,
        judge=judge,
    )
