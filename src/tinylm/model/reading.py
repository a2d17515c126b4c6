"""What goes with a batch through the layers of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from tinylm.model.hooks import NO_HOOKS, Hooks
from tinylm.model.positions import Positions

Ahead = Literal["none", "some", "all"]
"""How many of a batch's tokens see those after them."""


class Past(Protocol):
    """Keys and values that stand before the new tokens of a batch."""

    @property
    def positions(self) -> Tensor:
        """Position of every token that there are keys of, (batch, keys)."""
        ...

    def store(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Take in the new tokens' keys and values of a layer; return those of all tokens.

        Args:
            layer: index of the layer.
            keys: (batch, heads, new, head_dim).
            values: (batch, heads, new, head_dim).

        Returns:
            Keys and values, (batch, heads, keys, head_dim).
        """
        ...


class Carried(Protocol):
    """The states of recurrent layers, which stand for all tokens before those of a batch."""

    def before(self, layer: int) -> tuple[Tensor, ...] | None:
        """Return a layer's state, (batch, hidden) each; None: nothing was read yet."""
        ...

    def put(self, layer: int, state: tuple[Tensor, ...]) -> None:
        """Take in a layer's state after the batch's tokens."""
        ...


class Crossed(Protocol):
    """Keys and values of the sources of a batch's texts; several texts may have one source."""

    def put(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Keep a layer's keys and values, (batch, heads, their seq, head_dim), a source a text."""
        ...

    def held(self, layer: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return a layer's keys and values, each source once, and which must not be seen.

        Returns:
            (sources, heads, their seq, head_dim) twice, and (sources, 1, 1, their seq) or None.
        """
        ...

    def for_each_text(self, layer: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the same for each text, a source as often as it has texts."""
        ...

    def together(self, queries: Tensor) -> Tensor:
        """Return queries of texts, (batch, heads, seq, head_dim), by their sources.

        Returns:
            (sources, heads, queries of all texts of a source, head_dim).
        """
        ...

    def apart(self, mixed: Tensor) -> Tensor:
        """Return what ``together`` put together by texts again."""
        ...


@dataclass(frozen=True)
class Reading:
    """What goes with a batch through the layers, the same for all of them."""

    encoding: Positions
    """Turns queries and keys, biases scores."""
    positions: Tensor
    """Of the batch's tokens, (batch or 1, seq), int64."""
    blocked: Tensor | None = None
    """(batch or 1, 1, seq, keys), True where a query must not see a key; None: it sees them all."""
    ahead: Ahead = "none"
    """How many of the batch's tokens see those after them: none; some; or all, every one."""
    cache: Past | None = None
    """Tokens read before."""
    hooks: Hooks = NO_HOOKS
    """See and replace activations."""
    memory: Tensor | None = None
    """What an encoder has made of another text, (batch, its seq, hidden)."""
    memory_blocked: Tensor | None = None
    """(batch, 1, 1, its seq), True where it is padding; None: nowhere."""
    crossed: Crossed | None = None
    """Takes in keys and values that are made of the memory; without a memory, it has them."""
    real: Tensor | None = None
    """(batch, seq), False where a token is padding, for layers that go from token to token; None:
    all are real."""
    carried: Carried | None = None
    """The states that recurrent layers go on from, and leave theirs in."""
    source: int = 0
    """First places of every row that an encoder reads, before those of a decoder; 0: none."""
