"""What a recurrent cell is, and the plain loop over the steps of a text.

A cell maps what it is given of a token and the state before it to the state after it. Its products
with the tokens are made for all steps at once, by one matrix product before the loop; the loop has
the products with the state alone. Tensors stand with the steps first, (seq, batch, …), so that a
step is one block of memory.

A cell's ``function`` is the same loop with its gradient written out: backpropagation through time
(Werbos 1990). It walks back over the steps with the gradient of the state, and makes the gradient
of the recurrent matrix U once, for all steps together,

    dL/dU = sum over t of (dL/da_t) h_(t-1)^T,   a_t = U h_(t-1) + …,

as one matrix product. ``docs/families.md`` derives it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import Function

State = tuple[Tensor, ...]
"""What a layer keeps from step to step, (batch, hidden) each; the first is its output."""


class Step(Protocol):
    """One step of a cell."""

    def __call__(self, given: Tensor, state: State, recur: Callable[[Tensor], Tensor]) -> State:
        """Return the state after a token.

        Args:
            given: the products with the token, (batch, gates * hidden).
            state: before it.
            recur: the map of the state, (batch, hidden) to (batch, gates * hidden).
        """
        ...


class Products:
    """The matrix products of a cell's function, as torch computes them; a quick form may differ."""

    def recur(self, weight: Tensor) -> Callable[[Tensor, Tensor | None, Tensor], Tensor]:
        """Return a function of state, addend and place: the addend and ``state @ weight.T`` there.

        Args:
            weight: (gates * hidden, hidden).
        """
        turned = weight.T

        def product(state: Tensor, addend: Tensor | None, out: Tensor) -> Tensor:
            if addend is None:
                return torch.mm(state, turned, out=out)
            return torch.addmm(addend, state, turned, out=out)

        return product

    def back(self, weight: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """Return a function of dL/da and addend: the addend and ``dL/da @ weight``."""
        return lambda to_products, addend: torch.addmm(addend, to_products, weight)

    def weight_gradient(self, to_products: Tensor, before: Tensor) -> Tensor:
        """Return the sum over steps and texts of ``dL/da_t h_(t-1)^T``, (gates * hidden, hidden).

        Args:
            to_products: dL/da of every step, (seq * batch, gates * hidden).
            before: the state before every step, (seq * batch, hidden).
        """
        return to_products.T @ before


PLAIN_PRODUCTS = Products()


@dataclass(frozen=True)
class Cell:
    """A recurrence: an entry of what ``RecurrentLM`` can be made of."""

    label: str
    """Its name for a reader, such as ``GRU``."""
    gates: int
    """Blocks of ``hidden`` outputs that the maps of token and state have."""
    states: int
    """Vectors in the state."""
    recurrent_bias: bool
    """Whether the map of the state has a bias of its own; else it would double the token's."""
    kept: int
    """Arrays of (seq, batch, hidden) that ``function`` saves for the backward pass."""
    temporary: int
    """Arrays of that size that its backward pass holds at one time besides."""
    step: Step
    """One step, written plainly."""
    function: type[Function]
    """All steps, with the gradient written out. ``apply(given, weight, bias, real,
    products, *state)`` returns the outputs, (seq, batch, hidden), and what the state has beside
    them, at the end."""
    explanation: str
    """What the report says before its equations: whole sentences, with the source."""
    equations: tuple[str, ...]
    """In Typst's mathematics."""
    gradient: str
    """What the report says after them."""
    start_size: float = 1.0
    """Root mean square of what a new layer gives of inputs of variance 1, after a few steps. Maps
    that read it begin that much larger, so that they read variance 1 too."""
    open_gate: int | None = None
    """The gate whose bias begins at 1, so that the state is kept at first."""


def in_steps(
    cell: Cell,
    given: Tensor,
    state: State,
    recur: Callable[[Tensor], Tensor],
    real: Tensor | None = None,
) -> tuple[Tensor, State]:
    """Run a cell over a text step by step, keeping all that autograd keeps.

    Args:
        cell: the recurrence.
        given: the products with the tokens, (seq, batch, gates * hidden).
        state: before the first.
        recur: the map of the state.
        real: (seq, batch, 1), False where a token is padding, which leaves the state as it was.

    Returns:
        The outputs, (seq, batch, hidden), and the state after the last token.
    """
    outputs = []
    rows = [None] * len(given) if real is None else real.unbind(0)
    for products, row in zip(given.unbind(0), rows, strict=True):
        after = cell.step(products, state, recur)
        if row is not None:
            after = tuple(torch.where(row, new, old) for new, old in zip(after, state, strict=True))
        state = after
        outputs.append(state[0])
    return torch.stack(outputs), state


def at_once(
    cell: Cell,
    given: Tensor,
    state: State,
    weight: Tensor,
    bias: Tensor | None,
    real: Tensor | None = None,
    products: Products = PLAIN_PRODUCTS,
) -> tuple[Tensor, State]:
    """Run a cell over a text by its function; arguments and result as of ``in_steps``.

    Args:
        cell: the recurrence.
        given: the products with the tokens, (seq, batch, gates * hidden).
        state: before the first.
        weight: of the map of the state, (gates * hidden, hidden).
        bias: of it, (gates * hidden,), or None.
        real: (seq, batch, 1), False where a token is padding.
        products: how matrices are multiplied.
    """
    made: Any = cell.function.apply(given, weight, bias, real, products, *state)  # type: ignore[no-untyped-call]
    if cell.states == 1:
        return made, (made[-1],)
    outputs, *rest = made
    return outputs, (outputs[-1], *rest)


def before_each(first: Tensor, states: Tensor) -> Tensor:
    """Return the state before each step, (seq, batch, hidden), of the first and those after."""
    return torch.cat([first[None], states[:-1]])


def weight_gradient(ctx: Any, to_products: Tensor, before: Tensor) -> Tensor | None:
    """Return the gradient of the map of the state, (gates * hidden, hidden).

    Args:
        ctx: of a cell's function, with its ``products``; None is returned where the matrix is not
            trained.
        to_products: dL/da of every step, (seq, batch, gates * hidden).
        before: the state before every step, (seq, batch, hidden).
    """
    if not ctx.needs_input_grad[1]:
        return None
    products: Products = ctx.products
    return products.weight_gradient(to_products.flatten(0, 1), before.flatten(0, 1))
