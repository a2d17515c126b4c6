"""The plots: each takes a fresh ``World``, makes something happen in it, and tells it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tinylm.data.corpora.story_grammar.plots import (
    caring,
    courage,
    giving,
    having,
    honesty,
    learning,
    making,
    rescue,
    rivalry,
    seeking,
)
from tinylm.data.corpora.story_grammar.world import World

PLOTS: Final[tuple[Callable[[World], None], ...]] = (
    having.lost_and_found,
    having.sharing,
    having.trading,
    giving.lending,
    giving.secret_gift,
    caring.hurt_animal,
    caring.sick_friend,
    rescue.lost_child,
    rescue.stuck_up_high,
    caring.newcomer,
    courage.fear,
    honesty.broken,
    rivalry.boasting,
    rivalry.race,
    honesty.promise,
    rescue.storm,
    learning.learning,
    honesty.mess,
    making.garden,
    making.cooking,
    making.building,
    seeking.hide_and_seek,
    seeking.treasure_hunt,
    giving.greedy,
    giving.birthday,
    courage.sleepless,
)
"""In a fixed order, which the choice of a plot depends on; each is named by its function."""
