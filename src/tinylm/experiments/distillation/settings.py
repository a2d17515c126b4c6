"""The settings of the experiment on distillation."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.registry import DISTILLATIONS
from tinylm.value_types import FROZEN, PositiveFloat, PositiveInt, one_of

Methods = Annotated[
    tuple[Annotated[str, one_of(DISTILLATIONS)], ...],
    Field(min_length=1),
]


@dataclass(frozen=True, config=FROZEN)
class DistillationExperiment:
    """Students of the run's model by several methods, beside students that learn alone."""

    methods: Methods = ("word", "sequence", "both")
    """Distillation methods to try; students that learn alone are trained beside them."""
    steps: PositiveInt = 200
    """Optimizer steps of each training."""
    seeds: PositiveInt = 3
    """Students of each method, each with other random numbers; from one alone no difference can be
    measured."""
    num_layers: PositiveInt = 1
    """Layers of a student."""
    hidden_size: PositiveInt | None = None
    """Width of a student; empty: half of the run's."""
    rate: PositiveFloat = 4.0
    """Learning rate of the students, as a multiple of the run's: small models learn faster at a
    higher one."""
    temperature: PositiveFloat = 1.0
    """Of the methods that have one."""
    texts: PositiveInt = 300
    """Texts that the teacher writes, for the methods that learn from these."""
    prompt_tokens: PositiveInt = 8
    """First tokens of a training text that the teacher, or a student, goes on from."""
    num_beams: PositiveInt = 5
    """Hypotheses of beam search, when the teacher writes and when texts are compared."""
    windows: PositiveInt = 64
    """Windows of the validation split on which perplexity is measured."""
    stories: PositiveInt = 60
    """Validation stories that are continued and compared by BLEU."""
    new_tokens: PositiveInt = 60
    """Tokens of a continuation, or as many as the context holds."""
    tokens: PositiveInt = 128
    """Tokens of the text whose decoding is timed, or as many as the context holds."""
    repeats: Annotated[PositiveInt, Field(ge=2)] = 5
    """Timed rounds after one that warms up."""
