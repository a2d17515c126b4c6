"""Settings of a method that were asked for and would change nothing are refused.

A class of settings says in ``used_with`` which of them have an effect by another one alone: a seed
where lots decide, a percentile where a range is chosen by it. Whatever is not named there always
has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tinylm.errors import ConfigError


@dataclass(frozen=True)
class Is:
    """Another setting has a value."""

    setting: str
    value: object

    def holds(self, settings: Any) -> bool:
        """Whether it does."""
        return bool(getattr(settings, self.setting) == self.value)

    @property
    def advice(self) -> str:
        """What to give, so that it does."""
        return f"{self.setting}={self.value}" if self.value != "" else f"no {self.setting}"


@dataclass(frozen=True)
class IsNot(Is):
    """Another setting has any value but one."""

    def holds(self, settings: Any) -> bool:
        """Whether it has."""
        return not super().holds(settings)

    @property
    def advice(self) -> str:
        """What to give, so that it has."""
        return f"another {self.setting}"


UsedWith = Mapping[str, tuple[Is, ...]]
"""Name of a setting -> of these conditions one at least holds where it has an effect."""


def has_effect(settings: Any, name: str) -> bool:
    """Whether a setting of a method has an effect beside the others.

    Args:
        settings: all of them; their class may have ``used_with``.
        name: of the setting.
    """
    return not _missing(settings, name)


def refuse_without_effect(settings: Any, given: Iterable[str]) -> None:
    """Refuse settings that were asked for and have no effect.

    Args:
        settings: all of them.
        given: the names of those that were asked for.

    Raises:
        ConfigError: names the setting, what it has no effect with, and what would use it.
    """
    for name in given:
        missing = _missing(settings, name)
        if not missing:
            continue
        now = " and ".join(f"{each.setting} = {_shown(settings, each)}" for each in missing)
        several = len(settings.used_with[name]) > 1
        wanted = (" or " if several else " and ").join(each.advice for each in missing)
        raise ConfigError(f"-o: {name} has no effect with {now}: give {wanted}, or leave it out")


def _shown(settings: Any, condition: Is) -> str:
    value = getattr(settings, condition.setting)
    if isinstance(value, tuple):
        return str(list(value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _missing(settings: Any, name: str) -> list[Is]:
    """Return the conditions that do not hold, none if the setting has an effect."""
    every = []
    for condition in getattr(settings, "used_with", {}).get(name, ()):
        missing = _missing(settings, condition.setting)
        missing += [] if condition.holds(settings) else [condition]
        if not missing:
            return []
        every += missing
    return every
