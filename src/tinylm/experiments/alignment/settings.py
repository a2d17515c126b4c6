"""The settings of the experiment on alignment."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.registry import ALIGNMENTS, RULES
from tinylm.value_types import FROZEN, Float, NonNegativeFloat, PositiveInt, one_of

Methods = Annotated[
    tuple[Annotated[str, one_of(ALIGNMENTS)], ...],
    Field(min_length=1),
]


@dataclass(frozen=True, config=FROZEN)
class AlignmentExperiment:
    """The run's model aligned to a rule by several methods, at an equal number of tokens."""

    methods: Methods = ("reinforce", "ppo", "grpo", "dpo")
    """Alignment methods to compare."""
    rule: Annotated[str, one_of(RULES)] = "happy-end"
    """What is good."""
    seeds: PositiveInt = 3
    """Trainings of each method, each with other random numbers; from one alone no difference can be
    measured."""
    tokens: PositiveInt = 400_000
    """Tokens that each training generates to learn from."""
    prompt_tokens: PositiveInt = 8
    """First tokens of a story that are given as prompt."""
    prompts: PositiveInt = 64
    """Beginnings of validation stories that are answered where a model is measured."""
    responses: PositiveInt = 2
    """Responses to each of them."""
    start_responses: Annotated[PositiveInt, Field(ge=2)] = 24
    """Responses of the start to each of them, from which the frontier is computed."""
    validations: Annotated[PositiveInt, Field(ge=2)] = 5
    """Points of a training at which it is measured."""
    windows: PositiveInt = 64
    """Windows of the validation split on which perplexity is measured."""
    rankings: PositiveInt = 60
    """Prompts whose responses are ranked for the reward model."""
    wrong: Annotated[Float, Field(ge=0, le=0.5)] = 0.1
    """Share of these rankings that are turned round."""
    reward_steps: PositiveInt = 40
    """Optimizer steps of the reward model."""
    learned_tokens: PositiveInt = 1_200_000
    """Tokens that each training by the learned reward generates."""
    learned_beta: NonNegativeFloat = 0.0
    """Weight of the KL divergence in these trainings: without it they go on past the best point."""
    learned_method: Annotated[str, one_of(ALIGNMENTS)] = "ppo"
    """Method of these trainings, one that learns from rewards."""
