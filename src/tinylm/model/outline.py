"""What a kind of model says of itself, so that a report can describe and draw it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Passage:
    """A section on a part of a model, as inline markup of the report's texts."""

    title: str
    key: str
    """What ``[[sec:key]]`` names."""
    text: str
    """Whole sentences."""
    equations: tuple[str, ...] = ()
    """In Typst's mathematics, after the text."""
    rest: str = ""
    """Whole sentences after the equations; empty: none."""


@dataclass(frozen=True)
class Box:
    """A part in the drawing of a model."""

    text: str
    """Its name, and in further lines its sizes."""
    part: str = ""
    """Of ``parameter_counts``, whose number stands beside it; empty: none."""
    loop: bool = False
    """Whether its output goes back to it, a step later."""
    reads: bool = False
    """Whether what another stack has made of the source goes into it."""


@dataclass(frozen=True)
class Stack:
    """The boxes of a stack that reads a source, from the bottom up."""

    title: str
    tokens: str
    """What goes into it."""
    before: tuple[Box, ...]
    layer: tuple[Box, ...]
    after: tuple[Box, ...]


@dataclass(frozen=True)
class Difference:
    """In what a kind is not the decoder, for a report that describes it as one."""

    text: str
    """Whole sentences on who sees whom, after those on the attention."""
    mask: str
    """The box of the mask in the drawing of the attention."""


@dataclass(frozen=True)
class Outline:
    """A model in words and boxes."""

    phrase: str
    """What it is, with its sizes: ``a GRU language model of 2 layers``."""
    text: str
    """A paragraph on the whole."""
    passages: tuple[Passage, ...]
    before: tuple[Box, ...]
    """Boxes from the tokens up to the layers."""
    layer: tuple[Box, ...]
    """Boxes of a layer, from its input up."""
    after: tuple[Box, ...]
    """Boxes from the last layer up."""
    sums: Mapping[str, str]
    """How many parameters each part has, as a sum of products for a reader."""
    source: Stack | None = None
    """A stack beside the others, whose output boxes of the layers read; None: there is none."""
    title: str = ""
    """Of the stack with the layers, where there are two."""
    tokens: str = "token ids"
    """What goes into it."""
    in_layer: str = ""
    """A sentence on what is not drawn in a layer, without its full stop."""
    memory: str = "which every layer of the decoder reads"
    """Of what the other stack gives: what reads it."""
