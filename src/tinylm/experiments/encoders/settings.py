"""The settings of the experiment on families of models."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm import registry
from tinylm.value_types import FROZEN, Int, NonNegativeInt, PositiveFloat, PositiveInt, one_of

Kind = Annotated[str, one_of(registry.MODELS)]


@dataclass(frozen=True, config=FROZEN)
class EncodersExperiment:
    """Families of models at equal parameters, and at equal operations, on the same tokens."""

    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)] = (
        "decoder",
        "prefix-lm",
        "encoder-decoder",
        "lstm",
        "rnn",
    )
    """Kinds of models; the first is the one that the others are compared with."""
    stories: PositiveInt = 3_000
    """Training stories of the embedded corpus."""
    items: PositiveInt = 12_000
    """Training items of the translations."""
    num_layers: PositiveInt = 2
    """Layers of every model; of a kind with two stacks, of each."""
    num_heads: PositiveInt = 4
    """Heads of every layer that has heads."""
    hidden_size: PositiveInt = 64
    """Width of the first kind; the others get the one that gives as many parameters."""
    context_length: Annotated[Int, Field(ge=4)] = 128
    """Tokens of a window of stories; a story has about 180."""
    item_context: Annotated[Int, Field(ge=40)] = 64
    """Tokens of a window of translations; the longest item has 26."""
    tokens_per_step: PositiveInt = 1_024
    """Tokens of a batch; not less than a window."""
    steps: Annotated[Int, Field(ge=2)] = 300
    """Optimizer steps on stories of the kind that needs most operations a token; the others go on
    until they have used as many operations."""
    item_steps: Annotated[Int, Field(ge=2)] = 500
    """Optimizer steps on translations of the kind that needs most operations a token."""
    points: Annotated[Int, Field(ge=1)] = 5
    """Measurements of each training up to those steps, evenly."""
    learning_rate: PositiveFloat = 5e-3
    """Of all trainings, constant after a warm-up of a twentieth of the steps, so that every point
    of a training is what a shorter one would have reached."""
    held_out: Annotated[Int, Field(ge=2)] = 64
    """Held-out windows of each text on which losses are measured."""
    asked: Annotated[Int, Field(ge=2)] = 100
    """Held-out translations that each model is asked for."""
    contexts: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (64, 256, 1_024, 4_096)
    """Lengths of text whose costs are told."""
    measured_context: PositiveInt = 1_024
    """The longest of which a training step is run; those of longer ones are planned."""
    given: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (4, 16, 64, 256, 1_024, 4_096)
    """Numbers of tokens from which the same tokens after them are predicted."""
    tail: PositiveInt = 32
    """Tokens that are predicted from them."""
    places: PositiveInt = 16
    """Places of the held-out stories at which that is done."""
    questions: Annotated[Int, Field(ge=4)] = 400
    """Questions of each form that no training text has; a multiple of 4."""
    rounds: PositiveInt = 5
    """Rounds of every timing."""
    seeds: PositiveInt = 3
    """Repetitions of every training, each with other weights and another order."""
    seed: NonNegativeInt = 0
    """The first of them, and that of the texts."""
