"""Recurrent models, quick: the loss in chunks."""

from __future__ import annotations

from tinylm.fast.decoder import LossInChunks
from tinylm.model.recurrent.lm import GRULM, LSTMLM, ElmanLM, LinearLM


class FastElmanLM(LossInChunks, ElmanLM):
    """See ``LossInChunks``."""


class FastLinearLM(LossInChunks, LinearLM):
    """See ``LossInChunks``."""


class FastGRULM(LossInChunks, GRULM):
    """See ``LossInChunks``."""


class FastLSTMLM(LossInChunks, LSTMLM):
    """See ``LossInChunks``."""
