"""The simple recurrent network of Elman 1990, ``h_t = tanh(W x_t + U h_(t-1) + b)``.

And the linear one, ``h_t = U h_(t-1) + W x_t + b``, whose state after T steps is a sum of products
with powers of U: what is T steps away is multiplied by U^T, in the state and in the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from tinylm.model.recurrent.cells import Cell, Products, State, before_each, weight_gradient


def step(given: Tensor, state: State, recur: Callable[[Tensor], Tensor]) -> State:
    """Return the state after a token."""
    return ((given + recur(state[0])).tanh(),)


def linear_step(given: Tensor, state: State, recur: Callable[[Tensor], Tensor]) -> State:
    """Return the state after a token, without the tanh."""
    return (given + recur(state[0]),)


class _Recurrence(Function):
    """All steps. With a = W x + b + U h and h' = f(a): dL/da = f'(a) dL/dh', dL/dh = U^T dL/da."""

    squashed: ClassVar[bool] = True

    @classmethod
    def forward(
        cls,
        ctx: Any,
        given: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        real: Tensor | None,
        products: Products,
        first: Tensor,
    ) -> Tensor:
        states = torch.empty_like(given, memory_format=torch.contiguous_format)
        recur = products.recur(weight)
        h = first
        rows = [None] * len(given) if real is None else real.unbind(0)
        for added, after, row in zip(given.unbind(0), states.unbind(0), rows, strict=True):
            recur(h, added, after)
            if cls.squashed:
                after.tanh_()
            if row is not None:
                torch.where(row, after, h, out=after)
            h = after
        ctx.products = products
        ctx.save_for_backward(states, weight, real, first)
        return states

    @classmethod
    @once_differentiable
    def backward(cls, ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        states, weight, real, first = ctx.saved_tensors
        # Of a step's sum a: dL/da = slope * dL/dh'. Padding has no part in it, and passes dL/dh'
        # on.
        slopes = 1 - states * states if cls.squashed else torch.ones_like(states)
        passed: Sequence[Tensor | None] = [None] * len(states)
        if real is not None:
            slopes *= real
            passed = (~real).to(states.dtype).unbind(0)
        to_products = torch.empty_like(states)
        grads, made = gradient.unbind(0), to_products.unbind(0)
        to_state = grads[-1]
        back = ctx.products.back(weight)
        rows = slopes.unbind(0)
        for t in range(len(states) - 1, -1, -1):
            torch.mul(to_state, rows[t], out=made[t])
            from_above = grads[t - 1] if t else torch.zeros_like(first)
            if (padding := passed[t]) is not None:
                from_above = torch.addcmul(from_above, to_state, padding)
            to_state = back(made[t], from_above)
        to_weight = weight_gradient(ctx, to_products, before_each(first, states))
        return to_products, to_weight, None, None, None, to_state


class _LinearRecurrence(_Recurrence):
    squashed = False


ELMAN = Cell(
    "Elman RNN",
    *(1, 1, False, 1, 4, step, _Recurrence),
    explanation="A simple recurrent network adds what it makes of a token to what it makes of its "
    "own last state, and squashes the sum [[elman1990]]:",
    equations=("h_t = tanh(W x_t + U h_(t-1) + b)",),
    gradient="The gradient goes back through the same steps [[werbos1990]], multiplied at each by "
    "the transpose of $U$ and by the slope of $tanh$, which is 1 at most: over many steps it "
    "vanishes, or grows where $U$ is large [[bengio1994]].",
    start_size=0.68,
)
LINEAR = Cell(
    "linear RNN",
    *(1, 1, False, 1, 4, linear_step, _LinearRecurrence),
    explanation="A linear recurrent network is a simple one [[elman1990]] without its "
    "nonlinearity:",
    equations=("h_t = U h_(t-1) + W x_t + b",),
    gradient="What a token adds to a state is multiplied by $U$ at every step after it, and so is "
    "the gradient on its way back [[werbos1990]]: over $k$ steps by $U^k$, which vanishes or grows "
    "with the $k$-th power of the largest eigenvalue of $U$ [[bengio1994]].",
)
