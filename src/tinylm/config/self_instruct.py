"""The settings of Self-Instruct."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.config.effects import IsNot, UsedWith
from tinylm.value_types import FROZEN, Float, Int, PositiveFloat, PositiveInt

Share = Annotated[Float, Field(ge=0, le=1)]
PositiveShare = Annotated[Float, Field(gt=0, le=1)]


@dataclass(frozen=True, config=FROZEN)
class FilterConfig:
    """What is refused of the instructions that are made."""

    used_with: ClassVar[UsedWith] = {}

    most_similar: Share = 0.7
    """Largest ROUGE-L (F1) with any instruction that is kept."""
    least_words: PositiveInt = 4
    """Shortest instruction."""
    most_words: PositiveInt = 150
    """Longest instruction."""
    forbidden_words: tuple[str, ...] = (
        *("image", "images", "graph", "graphs", "file", "files", "video", "videos", "audio"),
        *("flowchart", "diagram", "diagrams", "website", "program", "screenshot"),
    )
    """Words of what a language model cannot see or make. Pictures, maps and music, which the paper
    forbids as well, are things that children's stories are about."""


@dataclass(frozen=True, config=FROZEN)
class SelfInstructConfig(FilterConfig):
    """How instructions and their instances are written."""

    used_with: ClassVar[UsedWith] = {"following_temperature": (IsNot("held_out", 0),)}

    shown_seeds: PositiveInt = 6
    """Instructions of seed tasks that a writer is shown before it writes one."""
    shown_made: Annotated[Int, Field(ge=0)] = 2
    """Instructions made before that it is shown among them, once there are so many."""
    written_at_once: PositiveInt = 16
    """Prompts that a writer answers in one round."""
    most_rounds: PositiveInt = 200
    """Rounds after which no more instructions are asked for, however few are kept."""
    temperature: PositiveFloat = 1.0
    """Of instructions; less makes them more alike, so that the filters refuse more."""
    instance_temperature: PositiveFloat = 0.7
    """Of instances."""
    top_p: PositiveShare = 0.95
    """Share of the probability that words are drawn from (nucleus sampling)."""
    most_instruction_tokens: PositiveInt = 80
    """Longest instruction that a writer may write, in its tokens."""
    most_instance_tokens: PositiveInt | None = None
    """Longest instance; empty: what the writer's context holds."""
    examples: Annotated[Int, Field(ge=0)] = 3
    """Seed tasks that an endpoint is shown worked out, before it judges or works out another; a run
    that was tuned on instructions needs none."""
    held_out: Annotated[Int, Field(ge=0)] = 210
    """Instructions of the story grammar that are followed before and after; 0: none."""
    following_temperature: PositiveFloat = 0.7
    """Of the responses to them."""
