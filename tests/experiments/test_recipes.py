"""Recipes beside those of an older version."""

from __future__ import annotations

from typing import Any

import pytest

from tinylm.experiments.recipes import difference

NOW = {"method": "lora", "settings": {"rank": 8, "targets": ("a", "b")}, "length": 24}
USUAL = {"method": "lora", "settings": {"rank": 4, "targets": ("c",)}, "length": 24}


@pytest.mark.parametrize(
    ("before", "found"),
    [
        (NOW, None),
        ({**NOW, "settings": {"rank": 8, "targets": ["a", "b"]}}, None),
        ({**NOW, "method": "dylora", "length": 3}, "method (dylora, now lora)"),
        ({**NOW, "settings": {**NOW["settings"], "rank": 2}}, "settings.rank (2, now 8)"),  # type: ignore[dict-item]
        ({**NOW, "settings": None}, 'settings (null, now {"rank": 8, "targets": ["a", "b"]})'),
        # What was not there yet counts as the default, whatever that is.
        ({"method": "lora", "settings": NOW["settings"]}, None),
        ({**NOW, "settings": {"rank": 8}}, 'settings.targets (["c"], now ["a", "b"])'),
        ({**NOW, "settings": {"targets": ["a", "b"]}}, "settings.rank (4, now 8)"),
        ({**NOW, "seed": 3}, "seed (3, which is no longer known)"),
    ],
)
def test_the_first_difference_is_named(before: dict[str, Any], found: str | None) -> None:
    assert difference(before, NOW, USUAL) == found
