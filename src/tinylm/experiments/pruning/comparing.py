"""What the figure and the section read out of a result of pruning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def by_share(method: Mapping[str, Any]) -> dict[float, Mapping[str, Any]]:
    """Return share -> row of a method, ascending."""
    return {row["share"]: row for row in sorted(method["rows"], key=lambda row: row["share"])}
