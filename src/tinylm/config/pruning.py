"""The settings of the pruning methods, one dataclass a method."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from tinylm.config.effects import Is, UsedWith, has_effect
from tinylm.config.finetuning import EVERY_PROJECTION, Targets
from tinylm.value_types import FROZEN, NonNegativeInt, PositiveInt


def _pattern(text: str) -> str:
    match = re.fullmatch(r"([1-9]\d{0,2}):([1-9]\d{0,2})", text)
    if text and (match is None or int(match[1]) >= int(match[2])):
        raise ValueError("expected N:M with N below M, such as 2:4, or nothing")
    return text


@dataclass(frozen=True, config=FROZEN)
class Calibrated:
    """What a method reads of the training split before it decides."""

    used_with: ClassVar[UsedWith] = {}

    windows: PositiveInt = 64
    """Windows of the training split that it reads."""
    calibration_seed: NonNegativeInt = 0
    """Which windows."""

    @property
    def reads_texts(self) -> bool:
        """Whether it reads them with these settings."""
        return has_effect(self, "windows")


@dataclass(frozen=True, config=FROZEN)
class MagnitudeConfig:
    """The smallest weights go (Han et al. 2015)."""

    used_with: ClassVar[UsedWith] = {"scope": (Is("pattern", ""),)}

    targets: Targets = EVERY_PROJECTION
    """Modules whose weights are pruned: paths or their ends, with * for anything. The embeddings
    (`embedding`, `unembedding`) and norms (`attention_norm`) are left alone unless they are named.
    """
    scope: Literal["map", "row", "global"] = "map"
    """Weights that are compared with each other: those of a map, of a row (one output of a map), or
    of all maps together (global)."""
    pattern: Annotated[str, AfterValidator(_pattern)] = ""
    """N:M keeps N of every M neighbouring inputs of a row, such as 2:4; empty: anywhere."""


@dataclass(frozen=True, config=FROZEN)
class RandomConfig(MagnitudeConfig):
    """Weights drawn by lot go: what a method must beat."""

    seed: NonNegativeInt = 0
    """Of the lots."""


@dataclass(frozen=True, config=FROZEN)
class WandaConfig(MagnitudeConfig, Calibrated):
    """The smallest products of weight and input go (Sun et al. 2024)."""

    scope: Literal["map", "row", "global"] = "row"
    """Weights that are compared with each other: those of a row (one output of a map), of a map, or
    of all maps together (global)."""


@dataclass(frozen=True, config=FROZEN)
class TaylorConfig(MagnitudeConfig, Calibrated):
    """The weights go whose removal changes the loss least (Molchanov et al. 2019)."""

    scope: Literal["map", "row", "global"] = "global"
    """Weights that are compared with each other: those of all maps together (global), of a map, or
    of a row (one output of a map)."""


@dataclass(frozen=True, config=FROZEN)
class PartsConfig(Calibrated):
    """How many parts of a layer go, and which."""

    used_with: ClassVar[UsedWith] = {
        "windows": (Is("importance", "loss"),),
        "calibration_seed": (Is("importance", "loss"),),
        "seed": (Is("importance", "random"),),
    }

    count: PositiveInt | None = None
    """How many go, in place of --share."""
    importance: Literal["loss", "random"] = "loss"
    """loss: those go that the loss needs least; random: those that are drawn by lot."""
    seed: NonNegativeInt = 0
    """Of the lots."""


@dataclass(frozen=True, config=FROZEN)
class HeadsConfig(PartsConfig):
    """Attention heads go, as many in each layer (Michel, Levy and Neubig 2019)."""


@dataclass(frozen=True, config=FROZEN)
class NeuronsConfig(PartsConfig):
    """Feed-forward neurons go, as many in each layer."""

    used_with: ClassVar[UsedWith] = {
        **PartsConfig.used_with,
        "rounds": (Is("importance", "loss"),),
    }

    rounds: PositiveInt = 4
    """Removals, between which importance is measured anew."""


@dataclass(frozen=True, config=FROZEN)
class LayersConfig(PartsConfig):
    """Whole layers go."""
