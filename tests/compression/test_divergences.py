"""Divergences beside their definitions in float64, torch's kl_div, and numbers worked by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import kl_div

from tinylm.compression.divergences import Divergence, forward_kl, jensen_shannon, reverse_kl

Row = list[float]


def softened(logits: Row, temperature: float) -> Row:
    powers = [math.exp(logit / temperature) for logit in logits]
    return [power / sum(powers) for power in powers]


def kl(p: Row, q: Row) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def generalised(beta: float, p: Row, q: Row) -> float:
    m = [beta * a + (1 - beta) * b for a, b in zip(p, q, strict=True)]
    return beta * kl(p, m) + (1 - beta) * kl(q, m)


CASES: dict[str, tuple[Divergence, Callable[[Row, Row], float]]] = {
    "forward": (forward_kl, kl),
    "reverse": (reverse_kl, lambda p, q: kl(q, p)),
    "jsd 0.5": (jensen_shannon, partial(generalised, 0.5)),
    "jsd 0.1": (partial(jensen_shannon, beta=0.1), partial(generalised, 0.1)),
}
"""Name -> ours, and the definition: of the teacher's and the student's distribution."""


def logits(seed: int, rows: int = 7, vocab: int = 11) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(rows, vocab, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 7.0])
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_the_definition(name: str, temperature: float) -> None:
    divergence, definition = CASES[name]
    student, teacher = logits(0), logits(1)

    def expected(own: Tensor) -> Row:
        rows = zip(own.tolist(), teacher.tolist(), strict=True)
        softer = [[softened(row, temperature) for row in pair] for pair in rows]
        return [temperature**2 * definition(p, q) for q, p in softer]

    student.requires_grad_()
    result = divergence(student, teacher, temperature)
    assert result.tolist() == pytest.approx(expected(student), rel=1e-12)
    (gradient,) = torch.autograd.grad(result.sum(), student)
    step = 1e-5
    for place in torch.eye(student.numel(), dtype=torch.float64).view(-1, *student.shape):
        with torch.no_grad():
            up, down = (sum(expected(student + sign * step * place)) for sign in (1, -1))
        measured = float((gradient * place).sum())
        assert measured == pytest.approx((up - down) / (2 * step), abs=1e-7)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_they_are_torchs_summed_over_the_vocabulary(temperature: float) -> None:
    student, teacher = logits(2).requires_grad_(), logits(3)
    log_q, log_p = ((x / temperature).log_softmax(-1) for x in (student, teacher))
    pointwise = {
        forward_kl: kl_div(log_q, log_p, reduction="none", log_target=True),
        reverse_kl: kl_div(log_p, log_q, reduction="none", log_target=True),
    }
    for divergence, reference in pointwise.items():
        wanted = temperature**2 * reference.sum(-1)
        ours = divergence(student, teacher, temperature)
        torch.testing.assert_close(ours, wanted, rtol=1e-13, atol=1e-13)
        gradients = [
            torch.autograd.grad(each.sum(), student, retain_graph=True)[0]
            for each in (ours, wanted)
        ]
        torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-13)


def test_worked_by_hand() -> None:
    """At T = 2 the teacher has (3/4, 1/4) and the student (1/2, 1/2)."""
    teacher = torch.tensor([[2 * math.log(3), 0.0]], dtype=torch.float64)
    student = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    result = forward_kl(student, teacher, 2.0)
    assert result.item() == pytest.approx(4 * (0.75 * math.log(1.5) - 0.25 * math.log(2)))
    assert result.item() == pytest.approx(0.523248, abs=1e-6)
    (gradient,) = torch.autograd.grad(result, student)  # T (q - p)
    assert gradient[0].tolist() == pytest.approx([-0.5, 0.5], abs=1e-12)
    back = reverse_kl(student, teacher, 2.0).item()
    assert back == pytest.approx(4 * (0.5 * math.log(2 / 3) + 0.5 * math.log(2)))
    mixed = jensen_shannon(student, teacher, 1.0, 0.5).item()  # p = (9/10, 1/10) there
    by_hand = 0.45 * math.log(9 / 7) + 0.05 * math.log(1 / 3)
    by_hand += 0.25 * math.log(5 / 7) + 0.25 * math.log(5 / 3)
    assert mixed == pytest.approx(by_hand)


def test_the_square_keeps_the_gradient_at_high_temperatures() -> None:
    """It goes to ``(z - v) / vocab`` of centred logits (Hinton et al. 2015, equation 4)."""
    student, teacher = logits(4).requires_grad_(), logits(5)
    centred = [x - x.mean(-1, keepdim=True) for x in (student.detach(), teacher)]
    wanted = (centred[0] - centred[1]) / student.shape[-1]
    for divergence in (forward_kl, reverse_kl, partial(jensen_shannon, beta=0.5)):
        size = 4 if isinstance(divergence, partial) else 1  # the mixture halves both differences
        (gradient,) = torch.autograd.grad(divergence(student, teacher, 1e4).sum(), student)
        torch.testing.assert_close(size * gradient, wanted, rtol=1e-2, atol=1e-3)


def test_the_ends_of_the_mixture_are_the_two_directions() -> None:
    student, teacher, beta = logits(6) / 3, logits(7) / 3, 1e-7
    towards_forward = jensen_shannon(student, teacher, 1.0, beta) / beta
    torch.testing.assert_close(towards_forward, forward_kl(student, teacher), rtol=1e-4, atol=1e-6)
    towards_reverse = jensen_shannon(student, teacher, 1.0, 1 - beta) / beta
    torch.testing.assert_close(towards_reverse, reverse_kl(student, teacher), rtol=1e-4, atol=1e-6)


@given(st.integers(0, 2**31), st.floats(0.1, 10), st.floats(0.01, 0.99))
def test_none_is_negative_and_the_same_is_not_apart(
    seed: int, temperature: float, beta: float
) -> None:
    student, teacher = logits(seed, 3), logits(seed + 1, 3)
    for divergence in (forward_kl, reverse_kl, partial(jensen_shannon, beta=beta)):
        assert (divergence(student, teacher, temperature) > 0).all()
        same = divergence(student, student.clone(), temperature)
        torch.testing.assert_close(same, torch.zeros_like(same), rtol=0, atol=1e-12)
        shifted = divergence(student + 5, teacher - 3, temperature)
        wanted = divergence(student, teacher, temperature)
        torch.testing.assert_close(shifted, wanted, rtol=1e-9, atol=1e-12)
    most = temperature**2 * math.log(2)
    assert (jensen_shannon(student, teacher, temperature, beta) <= most).all()
    both = (jensen_shannon(*pair, temperature) for pair in ((student, teacher), (teacher, student)))
    torch.testing.assert_close(*both, rtol=1e-9, atol=1e-12)


def test_a_word_that_one_rules_out_gives_a_finite_number() -> None:
    student, teacher = torch.tensor([[0.0, 200.0]]), torch.tensor([[200.0, 0.0]])
    for divergence in (forward_kl, reverse_kl):
        assert divergence(student, teacher).item() == 200
    assert jensen_shannon(student, teacher).item() == pytest.approx(math.log(2))
    low = divergence(student.bfloat16(), teacher.bfloat16())
    assert low.dtype == torch.float32
