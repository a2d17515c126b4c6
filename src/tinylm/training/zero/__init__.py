"""ZeRO, to be read: data-parallel training whose states are shared out among the ranks.

``stage`` tells what the stages share; each has a file. ``collectives`` counts what they send,
``memory`` what they hold, ``processes`` starts the ranks.
"""

from __future__ import annotations

from typing import Any

from tinylm.training.zero.stage import Settings, Stage, Summed
from tinylm.training.zero.stage_0 import Stage0
from tinylm.training.zero.stage_1 import Stage1
from tinylm.training.zero.stage_2 import Stage2
from tinylm.training.zero.stage_3 import Stage3

__all__ = ["STAGES", "Settings", "Stage", "Stage0", "Stage1", "Stage2", "Stage3", "Summed"]

STAGES: tuple[type[Stage0[Any]], ...] = (Stage0, Stage1, Stage2, Stage3)
"""By their numbers."""
