"""The gated recurrent unit (Cho et al. 2014, appendix A.1), in the form that torch computes.

    r = sigmoid(W_r x + U_r h + b_r)      how much of the state the candidate sees
    z = sigmoid(W_z x + U_z h + b_z)      how much of the state stays
    n = tanh(W_n x + b_n + r * (U_n h + c_n))
    h' = (1 - z) * n + z * h

The paper has ``U_n (r * h)`` in the candidate: r before the product, so that U_n could not be
multiplied together with the other two. This form, r after the product, is that of cuDNN, torch and
Chung et al. 2014's own code (``reset_after`` in Keras), and what ``nn.GRU`` gives with the same
weights. z there is the share of the state that stays, as in Cho et al.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from tinylm.model.recurrent.cells import Cell, Products, State, before_each, weight_gradient


def step(given: Tensor, state: State, recur: Callable[[Tensor], Tensor]) -> State:
    """Return the state after a token."""
    (h,) = state
    given_r, given_z, given_n = given.chunk(3, -1)
    own_r, own_z, own_n = recur(h).chunk(3, -1)
    r = (given_r + own_r).sigmoid()
    z = (given_z + own_z).sigmoid()
    n = (given_n + r * own_n).tanh()
    return (torch.lerp(n, h, z),)  # n + z (h - n)


class _Recurrence(Function):
    """All steps. The gradients of the three sums are multiples of dL/dh', known before the loop."""

    @staticmethod
    def forward(
        ctx: Any,
        given: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        real: Tensor | None,
        products: Products,
        first: Tensor,
    ) -> Tensor:
        seq, batch, size = *given.shape[:2], weight.shape[1]
        # Of each step r, z and U_n h + c_n, in the place of the three products.
        gates = given.new_empty(seq, batch, 3 * size)
        candidates, states = (given.new_empty(seq, batch, size) for _ in range(2))
        two, given_two = gates[..., : 2 * size].unbind(0), given[..., : 2 * size].unbind(0)
        given_n = given[..., 2 * size :].unbind(0)
        r_of, z_of, own_of = (part.unbind(0) for part in gates.chunk(3, -1))
        whole, ns, hs = gates.unbind(0), candidates.unbind(0), states.unbind(0)
        rows = [None] * seq if real is None else real.unbind(0)
        recur = products.recur(weight)
        h = first
        for t in range(seq):
            recur(h, bias, whole[t])
            two[t].add_(given_two[t]).sigmoid_()
            n = torch.addcmul(given_n[t], r_of[t], own_of[t], out=ns[t]).tanh_()
            after = torch.lerp(n, h, z_of[t], out=hs[t])
            if (row := rows[t]) is not None:
                torch.where(row, after, h, out=after)
            h = after
        ctx.has_bias = bias is not None
        ctx.products = products
        ctx.save_for_backward(gates, candidates, states, weight, real, first)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gates, n, states, weight, real, first = ctx.saved_tensors
        r, z, own = gates.chunk(3, -1)
        before = before_each(first, states)
        # dL/d(sum) / dL/dh': of n's sum; of the products with the state, r's, z's and U_n h.
        to_n = (1 - z) * (1 - n * n)
        factors = torch.cat([to_n * own * r * (1 - r), (before - n) * z * (1 - z), to_n * r], -1)
        if real is not None:
            to_n, factors, z = to_n * real, factors * real, torch.where(real, z, 1.0)
        seq, batch, size = states.shape
        to_states, to_products = torch.empty_like(states), torch.empty_like(gates)
        grads, whole, stay = gradient.unbind(0), to_products.unbind(0), z.unbind(0)
        three = factors.view(seq, batch, 3, size).unbind(0)
        made = to_products.view(seq, batch, 3, size).unbind(0)
        kept = to_states.unbind(0)
        to_state = grads[-1]
        back = ctx.products.back(weight)
        for t in range(seq - 1, -1, -1):
            kept[t].copy_(to_state)
            torch.mul(to_state[:, None], three[t], out=made[t])
            from_above = grads[t - 1] if t else torch.zeros_like(first)
            below = torch.addcmul(from_above, to_state, stay[t])
            to_state = back(whole[t], below)
        to_given = torch.cat([to_products[..., : 2 * size], to_states * to_n], -1)
        to_bias = to_products.sum((0, 1)) if ctx.has_bias else None
        to_weight = weight_gradient(ctx, to_products, before)
        return to_given, to_weight, to_bias, None, None, to_state


GRU = Cell(
    "GRU",
    *(3, 1, True, 5, 13, step, _Recurrence),
    explanation="A gated recurrent unit [[cho2014]] decides for each number of its state how much "
    "of it stays, $z$, and how much of it the new candidate $n$ sees, $r$:",
    equations=(
        "r_t = sigma(W_r x_t + U_r h_(t-1) + b_r), wide z_t = sigma(W_z x_t + U_z h_(t-1) + b_z)",
        "n_t = tanh(W_n x_t + b_n + r_t dot.o (U_n h_(t-1) + c_n))",
        "h_t = (1 - z_t) dot.o n_t + z_t dot.o h_(t-1)",
    ),
    gradient="Where $z$ is near 1 the state, and the gradient on its way back [[werbos1990]], pass "
    "a step nearly unchanged. $r$ multiplies after the product, as common libraries have it; the "
    "paper has $U_n (r_t dot.o h_(t-1))$.",
    start_size=0.41,
)
