"""The decoder of Bahdanau, Cho and Bengio 2015: a GRU that attends before every step.

    q_t = W s_(t-1),   e_tj = v^T tanh(q_t + U h_j),   a_t = softmax(e_t),   c_t = sum_j a_tj h_j
    s_t = GRU(W' y_t + C c_t, s_(t-1))

The query is the state before the step, and the context is a part of what the cell is given, so that
no step can be computed before the one before it. (Appendix A.2.2; the GRU is the one of ``gru``,
which multiplies with r after the product.)

As of the cells there are two forms: a plain loop, and a function with its gradient written out. Of
the attention the function keeps the weights a_t and makes tanh anew on its way back: the arguments
of all pairs of places would be target x source x batch x hidden numbers. Both products with the
state, U's and W's, are one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from tinylm.model.recurrent.attention import additive_scores, context_vectors, weights_of
from tinylm.model.recurrent.cells import State, before_each
from tinylm.model.recurrent.gru import step

Attend = Callable[[Tensor, Tensor, Tensor], None]
"""Gets queries, (batch, hidden), and puts weights, (batch, source), and contexts, (batch, hidden),
into the other two."""


def attentive_steps(
    given: Tensor,
    state: State,
    keys: Tensor,
    memory: Tensor,
    blocked: Tensor | None,
    real: Tensor | None,
    recur: Callable[[Tensor], Tensor],
    to_query: Callable[[Tensor], Tensor],
    from_context: Callable[[Tensor], Tensor],
    vector: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the decoder step by step, keeping all that autograd keeps.

    Args:
        given: the products with the tokens, (target, batch, 3 * hidden).
        state: before the first.
        keys: U h, (batch, source, hidden).
        memory: h, (batch, source, hidden).
        blocked: (batch, source), True where a source has no token; None: nowhere.
        real: (target, batch, 1), False where a token is padding, which leaves the state as it was.
        recur: the map of the state, to (batch, 3 * hidden).
        to_query: the map of the state, W, to (batch, hidden).
        from_context: the map of the context, C, to (batch, 3 * hidden).
        vector: v, (hidden,).

    Returns:
        States and contexts, (target, batch, hidden), and weights, (batch, target, source).
    """
    states, contexts, patterns = [], [], []
    rows = [None] * len(given) if real is None else real.unbind(0)
    for products, row in zip(given.unbind(0), rows, strict=True):
        scores = additive_scores(to_query(state[0])[:, None], keys, vector)[:, 0]
        patterns.append(weights_of(scores, blocked))
        contexts.append(context_vectors(patterns[-1][:, None], memory)[:, 0])
        after = step(products + from_context(contexts[-1]), state, recur)
        if row is not None:
            after = (torch.where(row, after[0], state[0]),)
        state = after
        states.append(state[0])
    return torch.stack(states), torch.stack(contexts), torch.stack(patterns, 1)


class Attending:
    """The attention of one pass over a target, as torch computes it; a quick form may differ."""

    def __init__(
        self, keys: Tensor, memory: Tensor, vector: Tensor, blocked: Tensor | None
    ) -> None:
        """Take what is the same for all steps; see ``attentive_steps``."""
        self.keys, self.memory, self.vector, self.blocked = keys, memory, vector, blocked

    def __call__(self, query: Tensor, pattern: Tensor, context: Tensor) -> None:
        """Attend once; see ``Attend``."""
        bent = (query[:, None] + self.keys).tanh_()  # (batch, source, hidden)
        scores = torch.mm(bent.flatten(0, 1), self.vector[:, None]).view(pattern.shape)
        pattern.copy_(weights_of(scores, self.blocked))
        context.copy_(torch.bmm(pattern[:, None], self.memory)[:, 0])

    def begin_back(self) -> None:
        """Make room for the gradients of keys and vector, which every step adds to."""
        self.to_keys = torch.zeros_like(self.keys)
        self.to_vector = torch.zeros_like(self.vector)

    def back(self, query: Tensor, pattern: Tensor, to_context: Tensor, to_query: Tensor) -> None:
        """Go back through one step: put the gradient of its query into ``to_query``.

        Args:
            query: of the step, (batch, hidden).
            pattern: its weights, (batch, source).
            to_context: the gradient of its context, (batch, hidden).
            to_query: (batch, hidden).
        """
        to_weights = torch.bmm(self.memory, to_context[..., None])[..., 0]
        mean = (pattern * to_weights).sum(1, keepdim=True)
        to_scores = pattern * (to_weights - mean)  # (batch, source), 0 where blocked
        bent = (query[:, None] + self.keys).tanh_()
        column = to_scores.reshape(-1, 1)
        self.to_vector += torch.mm(column.T, bent.flatten(0, 1))[0]
        to_bent = torch.mm(column, self.vector[None]).view(bent.shape)
        to_sums = to_bent.addcmul_(to_bent, bent.square_(), value=-1)  # times 1 - tanh^2
        self.to_keys += to_sums
        torch.sum(to_sums, 1, out=to_query)

    def end_back(self, patterns: Tensor, to_contexts: Tensor) -> Tensor:
        """Return the gradient of the memory, of all steps at once.

        Args:
            patterns: weights of every step, (target, batch, source).
            to_contexts: (target, batch, hidden).
        """
        return torch.bmm(patterns.permute(1, 2, 0), to_contexts.transpose(0, 1))


class Recurrence(Function):
    """All steps; the gradient of a step's sums is a multiple of dL/ds_t, as in ``gru``."""

    @staticmethod
    def forward(
        ctx: Any,
        given: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        to_query: Tensor,
        from_context: Tensor,
        vector: Tensor,
        keys: Tensor,
        memory: Tensor,
        blocked: Tensor | None,
        real: Tensor | None,
        ways: Any,
        first: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return states and contexts, (target, batch, hidden) each.

        Args:
            ctx: of the function.
            given: the products with the tokens, (target, batch, 3 * hidden).
            weight: of the map of the state, (3 * hidden, hidden).
            bias: of it, or None.
            to_query: W, (hidden, hidden).
            from_context: C, (3 * hidden, hidden).
            vector: v, (hidden,).
            keys: (batch, source, hidden).
            memory: (batch, source, hidden).
            blocked: (batch, source), or None.
            real: (target, batch, 1), or None.
            ways: how matrices are multiplied and how it attends: ``Products`` and the class of
                an ``Attending``.
            first: the state before the first step, (batch, hidden).
        """
        products, attending = ways
        target, batch, size = *given.shape[:2], weight.shape[1]
        # Of each step r, z, U_n s + b_n and the query, in the place of the products with the state.
        made = given.new_empty(target, batch, 4 * size)
        candidates, states, contexts = (given.new_empty(target, batch, size) for _ in range(3))
        patterns = given.new_empty(target, batch, memory.shape[1])
        two, given_two = made[..., : 2 * size].unbind(0), slice(0, 2 * size)
        r_of, z_of, own_of, queries = (part.unbind(0) for part in made.chunk(4, -1))
        whole, ns, hs = made.unbind(0), candidates.unbind(0), states.unbind(0)
        rows = [None] * target if real is None else real.unbind(0)
        recur = products.recur(torch.cat([weight, to_query]))
        shift = None if bias is None else torch.cat([bias, bias.new_zeros(size)])
        mix = products.recur(from_context)
        attend = attending(keys, memory, vector, blocked)
        sums = given.new_empty(batch, 3 * size)
        sums_n = sums[:, 2 * size :]
        h = first
        steps = zip(given.unbind(0), patterns.unbind(0), contexts.unbind(0), strict=True)
        for t, (inputs, pattern, context) in enumerate(steps):
            recur(h, shift, whole[t])
            attend(queries[t], pattern, context)
            mix(context, inputs, sums)
            two[t].add_(sums[:, given_two]).sigmoid_()
            n = torch.addcmul(sums_n, r_of[t], own_of[t], out=ns[t]).tanh_()
            after = torch.lerp(n, h, z_of[t], out=hs[t])
            if (row := rows[t]) is not None:
                torch.where(row, after, h, out=after)
            h = after
        ctx.has_bias = bias is not None
        ctx.ways = ways
        ctx.save_for_backward(
            *(made, candidates, states, contexts, patterns, weight, to_query, from_context),
            *(vector, keys, memory, blocked, real, first),
        )
        return states, contexts

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, to_contexts: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the arguments."""
        made, n, states, contexts, patterns, weight, to_query, from_context, *rest = (
            ctx.saved_tensors
        )
        vector, keys, memory, blocked, real, first = rest
        products, attending = ctx.ways
        r, z, own, queries = made.chunk(4, -1)
        before = before_each(first, states)
        to_n = (1 - z) * (1 - n * n)
        factors = torch.cat([to_n * own * r * (1 - r), (before - n) * z * (1 - z), to_n * r], -1)
        if real is not None:
            to_n, factors, z = to_n * real, factors * real, torch.where(real, z, 1.0)
        target, batch, size = states.shape
        to_products, to_given = torch.empty_like(made), made.new_empty(target, batch, 3 * size)
        to_mixed = torch.empty_like(states)
        grads, whole, stay = gradient.unbind(0), to_products.unbind(0), z.unbind(0)
        three = factors.view(target, batch, 3, size).unbind(0)
        four = to_products.view(target, batch, 4, size)
        own_three, to_queries = four[:, :, :3].unbind(0), four[:, :, 3].unbind(0)
        gates, sums = to_given[..., : 2 * size].unbind(0), to_given.unbind(0)
        back, back_mix = (
            products.back(torch.cat([weight, to_query])),
            products.back(from_context),
        )
        attend = attending(keys, memory, vector, blocked)
        attend.begin_back()
        to_state = grads[-1]
        for t in range(target - 1, -1, -1):
            torch.mul(to_state[:, None], three[t], out=own_three[t])
            gates[t].copy_(whole[t][:, : 2 * size])
            torch.mul(to_state, to_n[t], out=sums[t][:, 2 * size :])
            to_mixed[t] = back_mix(sums[t], to_contexts[t])
            attend.back(queries[t], patterns[t], to_mixed[t], to_queries[t])
            from_above = grads[t - 1] if t else torch.zeros_like(first)
            below = torch.addcmul(from_above, to_state, stay[t])
            to_state = back(whole[t], below)
        to_both = products.weight_gradient(to_products.flatten(0, 1), before.flatten(0, 1))
        to_from_context = products.weight_gradient(to_given.flatten(0, 1), contexts.flatten(0, 1))
        to_bias = to_products[..., : 3 * size].sum((0, 1)) if ctx.has_bias else None
        to_memory = attend.end_back(patterns, to_mixed)
        return (
            *(to_given, to_both[: 3 * size], to_bias, to_both[3 * size :], to_from_context),
            *(attend.to_vector, attend.to_keys, to_memory, None, None, None, to_state),
        )
