"""The settings of the distillation methods, one dataclass a method."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.config.effects import IsNot, UsedWith
from tinylm.value_types import FROZEN, Float, NonNegativeFloat, PositiveFloat, PositiveInt

Share = Annotated[Float, Field(ge=0, le=1)]


@dataclass(frozen=True, config=FROZEN)
class WordConfig:
    """The teacher's distribution of the next word, forward KL (Kim and Rush 2016)."""

    used_with: ClassVar[UsedWith] = {"temperature": (IsNot("alpha", 0.0),)}

    alpha: Share = 0.5
    """Share of the teacher in the loss; the rest is that of the true labels. 0: these alone, 1: the
    teacher alone."""
    temperature: PositiveFloat = 1.0
    """Logits of both are divided by it, and the divergence is multiplied by its square."""


@dataclass(frozen=True, config=FROZEN)
class ReverseConfig(WordConfig):
    """The teacher's distribution of the next word, reverse KL (Gu et al. 2024)."""


@dataclass(frozen=True, config=FROZEN)
class HiddenConfig(WordConfig):
    """Word by word, and the teacher's residual stream (Romero et al. 2015; Jiao et al. 2020)."""

    hidden_weight: NonNegativeFloat = 1.0
    """Weight of the mean squared difference of the layers, which is added to the loss."""


@dataclass(frozen=True, config=FROZEN)
class SequenceConfig:
    """The teacher's own texts, found by beam search (Kim and Rush 2016)."""

    texts: PositiveInt = 2000
    """Texts that the teacher writes, each from another beginning of a training text; fewer where
    there are not so many beginnings."""
    prompt_tokens: PositiveInt = 8
    """First tokens of a training text that are given to the teacher."""
    num_beams: PositiveInt = 5
    """Hypotheses that its beam search keeps."""
    length_penalty: Float = 1.0
    """Power of the length that divides the log-probability of a hypothesis."""
    max_new_tokens: PositiveInt = 250
    """Most tokens that the teacher adds; a text that it has not ended by then is left out."""
    texts_at_once: PositiveInt = 32
    """Texts that are written beside each other."""


@dataclass(frozen=True, config=FROZEN)
class BothConfig(WordConfig, SequenceConfig):
    """The teacher's own texts, and its distribution of each next word in them."""


@dataclass(frozen=True, config=FROZEN)
class OnPolicyConfig(WordConfig):
    """The student's own texts, scored by the teacher (GKD, Agarwal et al. 2024)."""

    used_with: ClassVar[UsedWith] = {
        "alpha": (IsNot("own_share", 1.0),),
        "temperature": (IsNot("alpha", 0.0), IsNot("own_share", 0.0)),
        "beta": (IsNot("alpha", 0.0), IsNot("own_share", 0.0)),
        "prompt_tokens": (IsNot("own_share", 0.0),),
    }

    alpha: Share = 1.0
    """On training texts: share of the teacher in the loss; the rest is that of the true labels. In
    the student's own texts there are none, and the teacher alone counts."""
    own_share: Share = 0.5
    """Share of the batches that are the student's own texts."""
    beta: Annotated[Float, Field(gt=0, lt=1)] = 0.5
    """Share of the teacher in the mixture of the Jensen-Shannon divergence: towards 0 it is a
    forward KL, towards 1 a reverse one."""
    prompt_tokens: PositiveInt = 8
    """First tokens of a training text that are given to the student."""
