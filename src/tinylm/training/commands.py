"""The commands with which a user continues a training that stopped early, for its error message."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Commands:
    """Whole commands, quoted for a shell."""

    go_on: str
    """Continues from the last checkpoint, or from the beginning where there is none."""
    lower_rate: str
    """Tries again with a lower learning rate."""


def lower(learning_rate: float) -> str:
    """Return about a third of a learning rate, in one digit."""
    return f"{learning_rate / 3:.0e}"
