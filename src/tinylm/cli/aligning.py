"""What the options of ``tinylm align`` mean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinylm.experiments.aligning import Asked
    from tinylm.experiments.context import Context


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
    from tinylm.cli.own_training import adapter_of
    from tinylm.config import method_settings
    from tinylm.experiments.aligning import Asked, training_of
    from tinylm.experiments.rewards import chosen_reward
    from tinylm.registry import ALIGNMENTS

    ALIGNMENTS.check(given.method)
    rewards, options = chosen_reward(given.rewards, list(given.option))
    judge, options = chosen_reward(given.judge, options, "judge")
    adapter_settings, options = adapter_of(given.adapter, options)
    settings = method_settings(ALIGNMENTS, given.method, options)
    training = training_of(
        context.config.training,
        given.method,
        settings,
        adapted=given.adapter is not None,
        max_steps=given.steps,
        learning_rate=given.learning_rate,
        batch_size=given.batch_size,
        seed=given.seed,
    )
    return Asked(
        method=given.method,
        settings=settings,
        training=training,
        rewards=rewards,
        preferences=given.preferences,
        adapter=given.adapter,
        adapter_settings=adapter_settings,
        judge=judge,
    )
