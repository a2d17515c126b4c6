"""The settings of the methods that learn from the rewards of own samples, one dataclass each."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.config.alignment import PolicyConfig, Share
from tinylm.config.effects import Is, IsNot, UsedWith
from tinylm.value_types import FROZEN, PositiveFloat, PositiveInt

Several = Annotated[int, Field(ge=2)]


@dataclass(frozen=True, config=FROZEN)
class ReinforceConfig(PolicyConfig):
    """REINFORCE (Williams 1992), with a baseline."""

    used_with: ClassVar[UsedWith] = {
        "largest_weight": (IsNot("importance", "none"),),
        "value_weight": (Is("baseline", "value"),),
    }

    prompts: PositiveInt = 128
    """Prompts of a phase, whose responses are drawn at once and then learned from."""
    samples: PositiveInt = 1
    """Responses to each prompt."""
    baseline: Literal["none", "mean", "leave-one-out", "value"] = "leave-one-out"
    """What is subtracted from what a response earned: nothing; the mean of the responses to its
    prompt, or of its phase where there is one a prompt; that of the others of these (Kool et al.
    2019); or a learned prediction."""
    importance: Literal["none", "token", "sequence"] = "sequence"
    """How responses count that an older policy drew: as if the present one had, or by how much
    likelier they are now, each token by itself or the whole response."""
    largest_weight: PositiveFloat | None = None
    """Where such a weight is cut off; empty: nowhere."""
    value_weight: PositiveFloat = 1.0
    """Weight of the error of the prediction in the loss."""


@dataclass(frozen=True, config=FROZEN)
class ClippedConfig(PolicyConfig):
    """What PPO and GRPO have: a ratio that is clipped, and a divergence in reward or loss."""

    clip_low: Share = 0.2
    """The ratio of new to old probability counts down to 1 less this."""
    clip_high: PositiveFloat = 0.2
    """And up to 1 and this."""
    kl_in: Literal["reward", "loss"] = "reward"
    """Where the divergence from the start is: taken from the reward, or added to the loss."""
    kl_estimator: Literal["k1", "k2", "k3", "weighted-k3"] = "k1"
    """Of the divergence of a token: in the reward by its value, in the loss with its gradient."""


@dataclass(frozen=True, config=FROZEN)
class PPOConfig(ClippedConfig):
    """Proximal policy optimisation (Schulman et al. 2017)."""

    used_with: ClassVar[UsedWith] = {"beta_gain": (IsNot("target_kl", None),)}

    passes: PositiveInt = 2
    """How often the responses of a phase are gone through."""
    target_kl: PositiveFloat | None = None
    """Divergence, in nats a response, that beta is adapted to; empty: beta stays."""
    beta_gain: PositiveFloat = 0.1
    """How much of the error, which is cut off at 20 %, changes beta after a phase."""
    gamma: Share = 1.0
    """What a reward is worth one token later."""
    gae_lambda: Share = 0.95
    """0: advantages are errors of one prediction; 1: all that follows less the prediction."""
    whiten: bool = True
    """Give the advantages of a phase mean 0 and variance 1, over real tokens."""
    value_clip: PositiveFloat | None = 0.2
    """How far a prediction may move from the one of the phase's beginning; empty: any."""
    value_weight: PositiveFloat = 0.5
    """Weight of the error of the prediction in the loss."""


@dataclass(frozen=True, config=FROZEN)
class GRPOConfig(ClippedConfig):
    """Group relative policy optimisation (Shao et al. 2024)."""

    used_with: ClassVar[UsedWith] = {"bessel": (Is("scale", "group"),)}

    prompts: PositiveInt = 16
    """Prompts of a phase, whose responses are drawn at once and then learned from."""
    samples: Several = 8
    """Responses to each prompt: its group."""
    kl_in: Literal["reward", "loss"] = "loss"
    """Where the divergence from the start is: taken from the reward, or added to the loss."""
    kl_estimator: Literal["k1", "k2", "k3", "weighted-k3"] = "k3"
    """Of the divergence of a token: in the reward by its value, in the loss with its gradient."""
    scale: Literal["group", "none"] = "group"
    """Divide advantages by the standard deviation of their group, or by nothing (Dr. GRPO)."""
    bessel: bool = True
    """Divide the squares of that deviation by one less than the group has."""
    normalise: Literal["sequence", "group", "constant", "tokens"] = "sequence"
    """A loss is the mean of each response (GRPO), of the tokens of a group, a sum over the longest
    length (Dr. GRPO), or the mean over all tokens of a step (DAPO)."""
    ratio: Literal["token", "sequence-mean"] = "token"
    """What is clipped: the ratio of each token, or the mean of a response's (GSPO)."""
