"""The settings of the methods that learn from preferences, one dataclass a method."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.config.alignment import PreferenceConfig
from tinylm.config.effects import IsNot, UsedWith
from tinylm.value_types import FROZEN, Float, NonNegativeFloat, PositiveFloat

WrongShare = Annotated[Float, Field(ge=0, lt=0.5)]


@dataclass(frozen=True, config=FROZEN)
class DPOConfig(PreferenceConfig):
    """Direct preference optimisation (Rafailov et al. 2023)."""

    used_with: ClassVar[UsedWith] = {"smoothing": (IsNot("label_smoothing", 0.0),)}

    label_smoothing: WrongShare = 0.0
    """Share of the preferences that are taken to be the wrong way round."""
    smoothing: Literal["conservative", "robust"] = "conservative"
    """What is made of that share: the mean loss over both ways round (Mitchell 2023), or the loss
    whose mean over labels that are wrong so often is that of right ones (Ray Chowdhury et al.
    2024)."""


@dataclass(frozen=True, config=FROZEN)
class IPOConfig(PreferenceConfig):
    """Identity preference optimisation (Azar et al. 2024)."""

    beta: PositiveFloat = 2.0
    """How strongly it is held to the start: the log ratios of a pair shall differ by 1/(2 beta), by
    0.25 nats a token where they are means. 0.1 is usual for sums."""
    over_tokens: Literal["mean", "sum"] = "mean"
    """The log ratio of a response is the mean of its tokens', as the authors train, or their sum,
    as the paper writes it."""


@dataclass(frozen=True, config=FROZEN)
class KTOConfig(PreferenceConfig):
    """Kahneman-Tversky optimisation (Ethayarajh et al. 2024)."""

    desirable_weight: PositiveFloat | None = None
    """Weight of the loss of responses that are better than others; empty: so large that they weigh
    as much in all as those that are worse, whichever are more."""
    undesirable_weight: PositiveFloat = 1.0
    """Weight of the loss of responses that are worse than others."""


@dataclass(frozen=True, config=FROZEN)
class SimPOConfig(PreferenceConfig):
    """Simple preference optimisation (Meng et al. 2024)."""

    beta: PositiveFloat = 10.0
    """The implicit reward is beta times the mean log-probability of a response's tokens."""
    gamma: NonNegativeFloat = 1.0
    """By how much the implicit reward of the better response shall be the higher one."""
