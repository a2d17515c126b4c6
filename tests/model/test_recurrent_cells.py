"""Recurrent cells: our backpropagation through time, torch's modules, and numbers made by hand."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import linear

from tinylm.model.recurrent.cells import PLAIN_PRODUCTS, Cell, State, at_once, in_steps
from tinylm.model.recurrent.elman import ELMAN, LINEAR
from tinylm.model.recurrent.gru import GRU
from tinylm.model.recurrent.lstm import LSTM

CELLS = (ELMAN, LINEAR, GRU, LSTM)
EVERY = pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.label)
REFERENCES: dict[str, Any] = {
    ELMAN.label: partial(nn.RNN, nonlinearity="tanh"),
    GRU.label: nn.GRU,
    LSTM.label: nn.LSTM,
}


def drawn(generator: torch.Generator, *shape: int) -> Tensor:
    tensor = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return tensor.requires_grad_()


def weighted(outputs: Tensor, state: State) -> Tensor:
    """A loss of all that a cell gives, with weights of its own for each number."""
    generator = torch.Generator().manual_seed(1)
    parts = (outputs, *state)
    weights = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in parts]
    return torch.stack([(w * p).sum() for w, p in zip(weights, parts, strict=True)]).sum()


@given(
    cell=st.sampled_from(CELLS),
    seq=st.integers(1, 7),
    batch=st.integers(1, 4),
    size=st.integers(1, 6),
    bias=st.booleans(),
    padded=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_our_gradient_is_that_of_autograd_through_the_plain_loop(
    cell: Cell, seq: int, batch: int, size: int, bias: bool, padded: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    given_ = drawn(generator, seq, batch, cell.gates * size)
    weight = drawn(generator, cell.gates * size, size)
    own = drawn(generator, cell.gates * size) if bias and cell.recurrent_bias else None
    state = tuple(drawn(generator, batch, size) for _ in range(cell.states))
    real = torch.rand(seq, batch, 1, generator=generator) > 0.4 if padded else None
    leaves = [given_, weight, *state, *([] if own is None else [own])]
    ways = (
        in_steps(cell, given_, state, lambda h: linear(h, weight, own), real),
        at_once(cell, given_, state, weight, own, real),
    )
    (plain, plain_end), (ours, our_end) = ways
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-12)
    torch.testing.assert_close(our_end, plain_end, rtol=0, atol=1e-12)
    expected, gradients = (torch.autograd.grad(weighted(*way), leaves) for way in ways)
    scale = max(1.0, *(float(g.abs().max()) for g in expected))
    for gradient, reference in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=0, atol=1e-12 * scale)


@EVERY
def test_gradients_agree_with_finite_differences(cell: Cell) -> None:
    generator = torch.Generator().manual_seed(3)
    inputs = (
        drawn(generator, 3, 2, cell.gates * 2),
        drawn(generator, cell.gates * 2, 2),
        drawn(generator, cell.gates * 2) if cell.recurrent_bias else None,
        torch.tensor([[True, False], [True, True], [False, True]])[..., None],
        PLAIN_PRODUCTS,
        *(drawn(generator, 2, 2) for _ in range(cell.states)),
    )
    assert torch.autograd.gradcheck(cell.function.apply, inputs)


@given(
    label=st.sampled_from(sorted(REFERENCES)),
    seq=st.integers(1, 9),
    batch=st.integers(1, 3),
    size=st.integers(1, 8),
    bias=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_outputs_and_gradients_are_those_of_torchs_modules(
    label: str, seq: int, batch: int, size: int, bias: bool, seed: int
) -> None:
    cell = next(cell for cell in CELLS if cell.label == label)
    torch.manual_seed(seed)
    theirs = REFERENCES[label](size, size, bias=bias).double()
    x = torch.randn(seq, batch, size, dtype=torch.float64, requires_grad=True)
    state = tuple(torch.randn(batch, size).double().requires_grad_() for _ in range(cell.states))
    first = tuple(part[None] for part in state)
    expected, end = theirs(x, first[0] if cell.states == 1 else first)
    ends = tuple(part[0] for part in (end if cell.states == 2 else (end,)))

    token, own = theirs.weight_ih_l0, theirs.weight_hh_l0
    shift, own_shift = (theirs.bias_ih_l0, theirs.bias_hh_l0) if bias else (None, None)
    if bias and not cell.recurrent_bias:
        shift, own_shift = shift + own_shift, None
    outputs, after = at_once(cell, linear(x, token, shift), state, own, own_shift)
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(after, ends, rtol=0, atol=1e-12)
    leaves = [x, *state, *theirs.parameters()]
    wanted = torch.autograd.grad(weighted(expected, ends), leaves)
    for ours, reference in zip(
        torch.autograd.grad(weighted(outputs, after), leaves), wanted, strict=True
    ):
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-11)


def test_the_gradient_of_a_linear_recurrence_by_hand() -> None:
    """Two numbers of state, three steps, from h_0 = (1, 0), and the loss 1 h_3[0] + 2 h_3[1].

    A = [[1/2, 0], [1, 1/2]], and a token adds (0, 1), (1, 0), (0, 0):

        h_1 = (1/2, 1) + (0, 1) = (1/2, 2),  h_2 = (1/4, 3/2) + (1, 0) = (5/4, 3/2),
        h_3 = (5/8, 2).

    Back: g_3 = (1, 2), g_2 = A^T g_3 = (5/2, 1), g_1 = A^T g_2 = (9/4, 1/2). Then
    dL/dA = g_3 h_2^T + g_2 h_1^T + g_1 h_0^T.
    """
    a = torch.tensor([[0.5, 0.0], [1.0, 0.5]], requires_grad=True)
    tokens = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])[:, None].requires_grad_()
    first = torch.tensor([[1.0, 0.0]], requires_grad=True)
    states, _ = at_once(LINEAR, tokens, (first,), a, None)
    assert states[:, 0].tolist() == [[0.5, 2.0], [1.25, 1.5], [0.625, 2.0]]
    loss = states[-1, 0] @ torch.tensor([1.0, 2.0])
    to_a, to_tokens, to_first = torch.autograd.grad(loss, [a, tokens, first])
    g3, g2, g1 = ([1.0, 2.0], [2.5, 1.0], [2.25, 0.5])
    assert to_tokens[:, 0].tolist() == [g1, g2, g3]
    assert to_first[0].tolist() == [2.25 / 2 + 0.5, 0.25]  # A^T g_1
    # g_3 (5/4, 3/2) + g_2 (1/2, 2) + g_1 (1, 0)
    assert to_a.tolist() == [[1.25 + 1.25 + 2.25, 1.5 + 5.0], [2.5 + 0.5 + 0.5, 3.0 + 2.0]]


@given(st.integers(2, 6), st.integers(2, 30), st.floats(0.3, 1.8), st.integers(0, 2**31))
def test_the_gradient_vanishes_or_explodes_by_the_spectral_radius(
    size: int, steps: int, radius: float, seed: int
) -> None:
    """dh_T/dh_0 = A^T: with A a radius times a rotation, every gradient is radius^T times as long;
    of any A its growth is rho^T in the limit (Gelfand): here for a diagonalisable one.
    """
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(size, size, generator=generator).double())[0]
    first = torch.zeros(1, size, dtype=torch.float64, requires_grad=True)
    tokens = torch.zeros(steps, 1, size, dtype=torch.float64)
    direction = torch.randn(size, generator=generator).double()

    def gradient(a: Tensor, count: int) -> Tensor:
        states, _ = at_once(LINEAR, tokens[:1].expand(count, 1, size), (first,), a, None)
        return torch.autograd.grad(states[-1, 0] @ direction, first)[0][0]

    length = gradient(radius * rotation, steps).norm() / direction.norm()
    torch.testing.assert_close(float(length), radius**steps, rtol=1e-9, atol=0)
    # Eigenvalues of another basis: the largest decides, once the others are gone.
    values = radius * torch.linspace(0.2, 1.0, size).double()
    basis = rotation + 0.3 * torch.eye(size).double() * torch.sign(rotation.diagonal())
    if torch.linalg.cond(basis) < 1e3:
        a = basis @ torch.diag(values) @ torch.linalg.inv(basis)
        long = [gradient(a, count).norm() for count in (200, 201)]
        if long[0] > 1e-200:
            assert float(long[1] / long[0]) == pytest.approx(radius, rel=1e-6)


@given(st.integers(1, 40), st.integers(0, 2**31))
def test_tanh_makes_no_gradient_longer_than_the_linear_one(steps: int, seed: int) -> None:
    """|dL/dh_0| <= |U|^T |dL/dh_T|, since tanh' is 1 at most (Pascanu et al. 2013, section 2.1)."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(4, 4, generator=generator).double() / 2
    tokens = torch.randn(steps, 1, 4, generator=generator).double()
    first = torch.randn(1, 4, generator=generator).double().requires_grad_()
    states, _ = at_once(ELMAN, tokens, (first,), weight, None)
    (gradient,) = torch.autograd.grad(states[-1].sum(), first)
    assert gradient.norm() <= 2 * torch.linalg.matrix_norm(weight, 2) ** steps * (1 + 1e-12)


@EVERY
def test_two_chunks_with_carried_state_are_one_pass_and_detached_give_the_truncated_sum(
    cell: Cell,
) -> None:
    generator = torch.Generator().manual_seed(5)
    given_ = drawn(generator, 7, 2, cell.gates * 3)
    weight = drawn(generator, cell.gates * 3, 3)
    zeros = (torch.zeros(2, 3, dtype=torch.float64),) * cell.states
    whole, whole_end = at_once(cell, given_, zeros, weight, None)
    head, middle = at_once(cell, given_[:4], zeros, weight, None)
    tail, end = at_once(cell, given_[4:], middle, weight, None)
    torch.testing.assert_close(torch.cat([head, tail]), whole, rtol=0, atol=1e-13)
    torch.testing.assert_close(end, whole_end, rtol=0, atol=1e-13)
    # The whole gradient goes through the state; detached, each chunk has its own.
    full = torch.autograd.grad(weighted(whole, ()), weight)[0]
    through = torch.autograd.grad(weighted(torch.cat([head, tail]), ()), weight)[0]
    torch.testing.assert_close(through, full, rtol=0, atol=1e-12)
    cut = tuple(part.detach() for part in middle)
    later, _ = at_once(cell, given_[4:], cut, weight, None)
    head, _ = at_once(cell, given_[:4], zeros, weight, None)
    truncated = torch.autograd.grad(weighted(torch.cat([head, later]), ()), weight)[0]

    # The truncated sum in the plain loop: each chunk's own matrix, no gradient between them.
    both = [weight.detach().clone().requires_grad_() for _ in range(2)]
    first, state = in_steps(cell, given_[:4], zeros, lambda h: linear(h, both[0]))
    state = tuple(part.detach() for part in state)
    second, _ = in_steps(cell, given_[4:], state, lambda h: linear(h, both[1]))
    parts = torch.autograd.grad(weighted(torch.cat([first, second]), ()), both)
    torch.testing.assert_close(truncated, parts[0] + parts[1], rtol=0, atol=1e-12)
    assert (truncated - full).abs().max() > 1e-3
