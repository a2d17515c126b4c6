"""Settings that were asked for and would change nothing are refused."""

from __future__ import annotations

from collections.abc import Iterable

from tinylm.config import GenerationConfig
from tinylm.errors import ConfigError
from tinylm.registry import STRATEGIES

ALWAYS = ("strategy", "max_new_tokens", "min_new_tokens", "allow_unk", "linear")
"""Settings that every strategy takes."""


def uses(config: GenerationConfig) -> tuple[str, ...]:
    """Return the settings that have an effect with the configured strategy."""
    own: tuple[str, ...] = STRATEGIES.load(config.strategy).uses(config)
    return (*ALWAYS, *own)


def refuse_without_effect(config: GenerationConfig, given: Iterable[str]) -> None:
    """Refuse settings that were asked for and have no effect, or contradict others.

    Args:
        config: all settings.
        given: the names of those that were asked for.

    Raises:
        ConfigError: names the setting, the strategy, and what would use it.
    """
    if config.min_new_tokens > config.max_new_tokens:
        raise ConfigError(
            f"generation.min_new_tokens = {config.min_new_tokens} is more than "
            f"generation.max_new_tokens = {config.max_new_tokens}: take fewer, or allow more"
        )
    used = uses(config)
    for name in given:
        if name in used:
            continue
        where = STRATEGIES.load(config.strategy).where_unused(config, name)
        takers = [
            other
            for other in STRATEGIES
            if other != config.strategy
            and name in STRATEGIES.load(other).uses(GenerationConfig(strategy=other))
        ]
        advice = f"take the strategy {' or '.join(takers)}, or " if takers else ""
        several = "; several samples of a prompt: --samples" if name == "num_return" else ""
        raise ConfigError(f"generation.{name} has no effect {where}: {advice}leave it out{several}")
