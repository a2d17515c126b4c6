"""What the options of ``tinylm align`` mean."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinylm.experiments.aligning import Asked
    from tinylm.experiments.context import Context
    from tinylm.training.commands import Commands

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


def commands_of(given: Given, asked: Asked) -> Commands:
    """Return what to type when the training stops before its end."""
    from tinylm.config import as_options
    from tinylm.training.commands import Commands, lower

    def command(**changed: object) -> str:
        words = ["tinylm", "align", str(given.run)]
        for name, value in (vars(given) | changed).items():
            if name in ("run", "option") or value is None or (name, value) == ("seed", 0):
                continue
            words += [f"--{name.replace('_', '-')}", str(value)]
        return shlex.join([*words, *as_options(given.option)])

    beside = given.out.with_name(f"{given.out.name}-2")
    retry = command(out=beside, learning_rate=lower(asked.training.learning_rate))
    return Commands(command(), f"try a lower rate beside it: {retry}")
