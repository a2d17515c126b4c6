"""What the options of ``tinylm reward`` mean, and the lines that it ends with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinylm.experiments.context import Context
    from tinylm.experiments.reward_models import About
    from tinylm.experiments.rewarding import Asked


@dataclass(frozen=True)
class Given:
    """The options, as given."""

    run: Path
    out: Path
    preferences: Path | None
    rule: str | None
    judge: str | None
    adapter: str | None
    steps: int | None
    learning_rate: float | None
    batch_size: int | None
    seed: int
    option: tuple[str, ...]


def asked_of(given: Given, context: Context) -> Asked:
    """Return what is asked for.

    Raises:
        ConfigError: for an unknown rule, adapter, key or value, and settings of what is not there.
    """
    from tinylm.cli.own_training import adapter_of
    from tinylm.config import from_overrides
    from tinylm.config.reward import RewardConfig
    from tinylm.errors import ConfigError
    from tinylm.experiments.rewarding import Asked, reward_training
    from tinylm.experiments.rewards import chosen_rule

    adapter_settings, options = adapter_of(given.adapter, given.option)
    rule, options = chosen_rule(given.rule, options)
    judge, options = chosen_rule(given.judge, options, "judge")
    if given.rule is not None and given.judge is not None:
        raise ConfigError("--judge: the true reward is that of --rule: leave it out")
    settings = from_overrides(RewardConfig, options)
    training = reward_training(
        context.config.training,
        *(settings, given.adapter),
        learning_rate=given.learning_rate,
        max_steps=given.steps,
        batch_size=given.batch_size,
        seed=given.seed,
    )
    return Asked(
        settings=settings,
        training=training,
        preferences=given.preferences,
        rule=rule,
        judge=judge or rule,
        adapter=given.adapter,
        adapter_settings=adapter_settings,
    )


def lines(about: About) -> Iterator[str]:
    """Yield what was measured of a reward model, in words."""
    training, measured = about["training"], about["measured"]
    yield (
        f"best of {training['steps']:,} steps is step {training['best_step']:,}; "
        f"{training['trained']:,} numbers are trained"
    )
    yield (
        f"held out: {_interval(measured['accuracy'])} of {measured['pairs']:,} pairs of "
        f"{measured['rankings']:,} rankings are right"
    )
    calibration = measured["calibration"]
    yield (
        f"calibration error {_interval(calibration['error'])}, by chance alone "
        f"{calibration['by_chance']:.3f}"
    )
    true = measured["true"]
    if true is not None:
        yield (
            f"true reward: {_interval(true['accuracy'])} of {true['pairs']:,} pairs are right, "
            f"rank correlation {_interval(true['spearman'])}, within a prompt "
            f"{_interval(true['kendall_within'])}"
        )
    length = measured["length"]
    longer, shorter = length["longer_is_better"], length["shorter_is_better"]
    beside = length["true_spearman"]
    of_true = "" if beside is None else f", of the true reward {_interval(beside)}"
    yield f"length: rank correlation {_interval(length['spearman'])}{of_true}"
    yield (
        f"right where the longer is better: {_interval(longer['accuracy'])} of "
        f"{longer['pairs']:,} pairs, where the shorter is: {_interval(shorter['accuracy'])} of "
        f"{shorter['pairs']:,}"
    )


def _interval(result: Sequence[float | None]) -> str:
    """Return a value and its interval in three decimals."""
    value, low, high = result
    if value is None:
        return "not known"
    if low is None or high is None:
        return f"{value:.3f}"
    return f"{value:.3f} ({low:.3f} to {high:.3f})"
