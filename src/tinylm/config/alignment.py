"""The settings of the alignment methods, one dataclass a method."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.config.effects import UsedWith
from tinylm.value_types import FROZEN, Float, NonNegativeFloat, PositiveFloat, PositiveInt

Share = Annotated[Float, Field(ge=0, le=1)]


@dataclass(frozen=True, config=FROZEN)
class AlignmentConfig:
    """What every method has: how the model is sampled where it is measured, and when it stops."""

    used_with: ClassVar[UsedWith] = {}

    prompt_tokens: PositiveInt = 8
    """First tokens of a story that are given as prompt."""
    max_new_tokens: PositiveInt | None = None
    """Longest response; empty: what the context holds after the prompt."""
    held_out_prompts: PositiveInt = 64
    """Prompts of the validation split that are answered at every validation."""
    kl_limit: PositiveFloat = 100.0
    """Training stops where the KL divergence from the start, in nats a response, passes it."""
    least_variety: Share = 0.25
    """Training stops where the responses have fewer different pairs of words than this share of
    what they had at the start."""


@dataclass(frozen=True, config=FROZEN)
class PolicyConfig(AlignmentConfig):
    """What the methods have that learn from the rewards of their own samples."""

    beta: NonNegativeFloat = 0.02
    """Weight of the KL divergence from the start in the objective, reward less beta KL."""
    prompts: PositiveInt = 32
    """Prompts of a phase, whose responses are drawn at once and then learned from."""
    samples: PositiveInt = 4
    """Responses to each prompt."""
    passes: PositiveInt = 1
    """How often the responses of a phase are gone through."""
    minibatches: PositiveInt = 1
    """Optimizer steps of each time; more than one learns from responses that are a little older."""
    temperature: PositiveFloat = 1.0
    """Of the policy and of its start, wherever they draw or are read."""
    no_end_penalty: NonNegativeFloat = 0.0
    """Taken from the reward of a response that was cut off."""


@dataclass(frozen=True, config=FROZEN)
class PreferenceConfig(AlignmentConfig):
    """What the methods have that learn from preferences."""

    beta: PositiveFloat = 0.1
    """How strongly it is held to the start: the implicit reward is beta times the log ratio."""
    ranked_prompts: PositiveInt = 1000
    """Without a file of preferences: prompts whose responses are ranked by the reward."""
    responses: Annotated[int, Field(ge=2, le=64)] = 8
    """Without a file of preferences: responses to each of them."""
    wrong: Share = 0.0
    """Without a file of preferences: share of the rankings that are turned round."""
