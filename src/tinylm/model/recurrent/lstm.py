"""Long short-term memory (Hochreiter and Schmidhuber 1997), with a forget gate (Gers et al. 2000).

    i, f, o = sigmoid(W x + U h + b), one each;  g = tanh(W_g x + U_g h + b_g)
    c' = f * c + i * g
    h' = o * tanh(c')

The four blocks of the maps stand as torch's do, i, f, g, o. One bias is enough: torch has two, of
which only the sum matters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from tinylm.model.recurrent.cells import Cell, Products, State, before_each, weight_gradient


def step(given: Tensor, state: State, recur: Callable[[Tensor], Tensor]) -> State:
    """Return the state after a token, output and cell."""
    h, c = state
    i, f, g, o = (given + recur(h)).chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


class _Recurrence(Function):
    """All steps. The gradients of the four sums are multiples of dL/dc' or dL/dh'."""

    @staticmethod
    def forward(
        ctx: Any,
        given: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        real: Tensor | None,
        products: Products,
        first: Tensor,
        first_cell: Tensor,
    ) -> tuple[Tensor, Tensor]:
        seq, batch, size = *given.shape[:2], weight.shape[1]
        gates = given.new_empty(seq, batch, 4 * size)
        states, cells = (given.new_empty(seq, batch, size) for _ in range(2))
        i_and_f = gates[..., : 2 * size].unbind(0)
        i_of, f_of, g_of, o_of = (part.unbind(0) for part in gates.chunk(4, -1))
        inputs, whole, hs, cs = (part.unbind(0) for part in (given, gates, states, cells))
        rows = [None] * seq if real is None else real.unbind(0)
        recur = products.recur(weight)
        h, c = first, first_cell
        for t in range(seq):
            recur(h, inputs[t], whole[t])
            i_and_f[t].sigmoid_()
            o_of[t].sigmoid_()
            torch.mul(f_of[t], c, out=cs[t]).addcmul_(i_of[t], g_of[t].tanh_())
            torch.tanh(cs[t], out=hs[t]).mul_(o_of[t])
            if (row := rows[t]) is not None:
                torch.where(row, hs[t], h, out=hs[t])
                torch.where(row, cs[t], c, out=cs[t])
            h, c = hs[t], cs[t]
        ctx.products = products
        ctx.save_for_backward(gates, cells, states, weight, real, first, first_cell)
        return states, c.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, to_last: Tensor) -> tuple[Tensor | None, ...]:
        gates, cells, states, weight, real, first, first_cell = ctx.saved_tensors
        i, f, g, o = gates.chunk(4, -1)
        squashed = cells.tanh()
        # Of i's, f's and g's sum dL/d(sum) / dL/dc'; of o's sum and of c', / dL/dh'.
        of_cell = torch.cat(
            [g * i * (1 - i), before_each(first_cell, cells) * f * (1 - f), i * (1 - g * g)], -1
        )
        of_output = squashed * o * (1 - o)
        to_cells = o * (1 - squashed * squashed)
        passed: Sequence[Tensor | None] = [None] * len(states)
        if real is not None:
            of_cell, of_output, to_cells = of_cell * real, of_output * real, to_cells * real
            f = torch.where(real, f, 1.0)
            passed = (~real).to(states.dtype).unbind(0)
        seq, batch, size = states.shape
        to_products = torch.empty_like(gates)
        made = to_products.view(seq, batch, 4, size)
        three, last = made[:, :, :3].unbind(0), made[:, :, 3].unbind(0)
        factors, output_factors = of_cell.view(seq, batch, 3, size).unbind(0), of_output.unbind(0)
        grads, whole = gradient.unbind(0), to_products.unbind(0)
        slopes, stay = to_cells.unbind(0), f.unbind(0)
        to_state, to_cell = grads[-1], to_last
        back = ctx.products.back(weight)
        for t in range(seq - 1, -1, -1):
            to_cell = torch.addcmul(to_cell, to_state, slopes[t])
            torch.mul(to_cell[:, None], factors[t], out=three[t])
            torch.mul(to_state, output_factors[t], out=last[t])
            to_cell = to_cell * stay[t]
            from_above = grads[t - 1] if t else torch.zeros_like(first)
            if (padding := passed[t]) is not None:
                from_above = torch.addcmul(from_above, to_state, padding)
            to_state = back(whole[t], from_above)
        to_weight = weight_gradient(ctx, to_products, before_each(first, states))
        return to_products, to_weight, None, None, None, to_state, to_cell


LSTM = Cell(
    "LSTM",
    *(4, 2, False, 6, 12, step, _Recurrence),
    explanation="Long short-term memory [[hochreiter1997]] keeps a cell $c$ beside its output $h$. "
    "Gates decide how much of the cell stays, $f$ [[gers2000]], how much is added to it, $i$, and "
    "how much of it is seen, $o$:",
    equations=(
        "i_t, f_t, o_t = sigma(W x_t + U h_(t-1) + b), wide g_t = tanh(W_g x_t + U_g h_(t-1) + "
        "b_g)",
        "c_t = f_t dot.o c_(t-1) + i_t dot.o g_t, wide h_t = o_t dot.o tanh(c_t)",
    ),
    gradient="From cell to cell the gradient on its way back [[werbos1990]] is multiplied by $f$ "
    "alone, and vanishes only where the model forgets.",
    start_size=0.23,
    open_gate=1,
)
