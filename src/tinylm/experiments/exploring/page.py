"""The page of `tinylm explore`, from what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinylm.experiments.pages import assembled


def explore_html(result: Mapping[str, Any], run: str, command: str = "") -> str:
    """Return the page: one HTML file that loads nothing.

    Args:
        result: of ``measure.explored``.
        run: how a reader knows it.
        command: that makes the page, to which a sentence can be added.
    """
    data = {**result, "command": command}
    return assembled("tinylm.experiments.exploring", f"Inside {run}", data)
