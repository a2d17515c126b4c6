"""The compiled loops of training against the torch form of the same, forwards and backwards."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from tinylm.config import ModelConfig
from tinylm.fast import install, loops, remove
from tinylm.fast.layers import add_norm
from tinylm.fast.linear import FastLinear, product, quick_activation
from tinylm.fast.loss import output_loss
from tinylm.model.activations.gelu import gelu, gelu_tanh
from tinylm.model.activations.relu import relu
from tinylm.model.activations.silu import silu
from tinylm.model.attention import Attention
from tinylm.model.decoder import DecoderLM
from tinylm.model.dropout import Dropout
from tinylm.model.layers import LayerNorm
from tinylm.model.loss import token_losses
from tinylm.training.precision import cpu_has_bf16

pytestmark = [
    pytest.mark.skipif(not loops.available(), reason="no numba, or not on Linux"),
    pytest.mark.usefixtures("keep_threads"),
]
BF16 = pytest.param(
    torch.bfloat16,
    marks=pytest.mark.skipif(not cpu_has_bf16(), reason="the processor has no bfloat16"),
)
FORMATS = pytest.mark.parametrize("number", [torch.float32, BF16])


def outputs(
    work: Callable[[], Tensor], parts: list[nn.Module], leaves: list[Tensor], quick: bool
) -> list[Tensor]:
    """Return a result and the gradients of the leaves, from the same random numbers."""
    torch.manual_seed(3)
    for leaf in leaves:
        leaf.grad = None
    for part in parts:
        (install if quick else remove)(part)
    result = work()
    direction = torch.linspace(-1, 1, result.numel()).view(result.shape)
    (result.float() * direction).sum().backward()
    return [result.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


def assert_same(
    work: Callable[[], Tensor],
    parts: list[nn.Module],
    leaves: list[Tensor],
    tolerance: float = 2e-5,
) -> list[Tensor]:
    """Compare plain and quick parts, whole tensors, by the largest number; return the quick."""
    plain, quick = (outputs(work, parts, leaves, on) for on in (False, True))
    assert len(plain) == len(quick) == len(leaves) + 1
    for expected, result in zip(plain, quick, strict=True):
        assert expected.dtype == result.dtype
        scale = max(float(expected.abs().max()), 0.01)  # what cancels is no better known
        assert float((expected.float() - result.float()).abs().max()) <= tolerance * scale
    return quick


def leaf(*shape: int, number: torch.dtype = torch.float32, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return (torch.randn(*shape, generator=generator) * scale).to(number).requires_grad_()


@FORMATS
@given(rows=st.integers(1, 70), size=st.integers(1, 40), p=st.sampled_from([0.0, 0.1, 0.5]))
@settings(max_examples=25, deadline=None)
def test_dropout_draws_the_same_masks(number: torch.dtype, rows: int, size: int, p: float) -> None:
    x, module = leaf(rows, size, number=number), Dropout(p)
    assert_same(lambda: module(x), [module], [x], 0.01 if number == torch.bfloat16 else 1e-6)


@FORMATS
@given(
    rows=st.integers(1, 150),
    size=st.integers(8, 70),
    p=st.sampled_from([0.0, 0.1]),
    bias=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_residual_sum_and_norm(
    number: torch.dtype, rows: int, size: int, p: float, bias: bool
) -> None:
    x, branch, norm, dropout = (
        leaf(rows, size),
        leaf(rows, size, number=number, scale=0.5),
        LayerNorm(size, 1e-5, bias),
        Dropout(p),
    )
    leaves = [x, branch, *norm.parameters()]
    # A gradient in bfloat16 is rounded once in both forms, but of sums in another order.
    tolerance = 0.01 if number == torch.bfloat16 else 1e-4
    parts = [norm, dropout]
    assert_same(lambda: add_norm(x, branch, dropout, norm)[0], parts, leaves, tolerance)


@FORMATS
@pytest.mark.parametrize("function", [gelu, gelu_tanh, silu])
def test_activations(number: torch.dtype, function: Callable[[Tensor], Tensor]) -> None:
    """Over where they bend and far beyond, in more than one block of work."""
    x = torch.linspace(-12, 12, 9001).to(number).requires_grad_()
    exact = x.detach().double().requires_grad_()
    quick = quick_activation(function)(x)
    expected = function(exact)
    assert quick.dtype == number
    gradient = torch.linspace(-1, 2, 9001).to(number)
    slopes = torch.autograd.grad(quick, x, gradient)[0]
    reference = torch.autograd.grad(expected, exact, gradient.double())[0]
    for ours, true in ((quick, expected), (slopes, reference)):
        error = (ours.detach().double() - true.detach()).abs()
        tolerance = 2**-8 if number == torch.bfloat16 else 2e-6
        assert bool((error <= tolerance * true.detach().abs().clamp_min(1)).all())


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("rows", "size"), [(1, 1), (3, 7), (64, 24), (131, 300)])
def test_norm_alone(rows: int, size: int, bias: bool) -> None:
    x, norm = leaf(rows, size, scale=3.0), LayerNorm(size, 1e-5, bias)
    assert_same(lambda: norm(x), [norm], [x, *norm.parameters()], 2e-5)


@FORMATS
@pytest.mark.parametrize("p", [0.0, 0.1])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("seq", [1, 5, 33])
def test_attention(number: torch.dtype, p: float, padded: bool, seq: int) -> None:
    config = ModelConfig(
        vocab_size=9, hidden_size=24, num_heads=3, head_dim=7, context_length=64, dropout=p
    )
    attention = Attention(config, 0, "attention")
    shape = (4, 3, seq, 7)
    query, key, value = (leaf(*shape, number=number, scale=s) for s in (1.0, 1.1, 1.2))
    blocked = torch.ones(seq, seq).triu(1).bool()[None, None]
    if padded:
        real = torch.arange(seq) >= torch.arange(4)[:, None]  # the last rows see nothing at first
        blocked = blocked | ~real[:, None, None, :]
    compiled = assert_same(
        lambda: attention.mix(query, key, value, blocked),
        [attention],
        [query, key, value],
        0.03 if number == torch.bfloat16 else 5e-5,
    )
    assert all(tensor.isfinite().all() for tensor in compiled)


@pytest.mark.skipif(not cpu_has_bf16(), reason="the processor has no bfloat16")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("wide", "narrow"), [(40, 24), (24, 40)])
@pytest.mark.parametrize("activation", [None, relu, torch.tanh])
def test_linear_in_bfloat16(
    bias: bool, wide: int, narrow: int, activation: Callable[[Tensor], Tensor] | None
) -> None:
    x, module = leaf(3, 11, wide), torch.nn.Linear(wide, narrow, bias=bias)

    def work() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return product(module, x, None, activation)

    assert_same(work, [module], [x, *module.parameters()], 0.02)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("activation", [None, relu, torch.tanh])
@pytest.mark.parametrize("frozen", [False, True])
def test_linear_in_float32(
    bias: bool, activation: Callable[[Tensor], Tensor] | None, frozen: bool
) -> None:
    x, module = leaf(3, 11, 24), torch.nn.Linear(24, 40, bias=bias).requires_grad_(not frozen)
    leaves = [x, *(p for p in module.parameters() if p.requires_grad)]
    assert_same(lambda: product(module, x, None, activation), [module], leaves)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (63, 65), (64, 128), (3, 200), (200, 3)])
@pytest.mark.parametrize("turned", [False, True])
def test_transpose(rows: int, columns: int, turned: bool) -> None:
    matrix = torch.randn(columns, rows).T if turned else torch.randn(rows, columns)
    result = loops.transpose.transposed(matrix)
    assert result.is_contiguous()
    assert torch.equal(result, matrix.T)


def test_products_in_float32_are_exact_float32_and_nothing_is_set() -> None:
    torch.manual_seed(0)
    module = torch.nn.Linear(200, 100)
    install(module)
    assert type(module) is FastLinear
    x = torch.randn(300, 200)
    exact = F.linear(x.double(), module.weight.double(), module.bias.double())
    # bfloat16 would be off by about 0.1.
    assert float((module(x).double() - exact).abs().max()) < 1e-4
    assert torch.get_float32_matmul_precision() == "highest"


@FORMATS
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("rows", "vocab"), [(1, 2), (15, 97), (40, 1000)])
def test_loss(number: torch.dtype, bias: bool, rows: int, vocab: int) -> None:
    x, weight = leaf(rows, 1, 12), leaf(vocab, 12)
    shift = leaf(vocab) if bias else None
    labels = torch.arange(rows)[:, None] * 7 % vocab
    leaves = [x, weight, *([shift] if shift is not None else [])]

    def autocast_outputs(loss: Callable[[], Tensor]) -> list[Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=number == torch.bfloat16):
            return outputs(loss, [], leaves, False)

    chunked = autocast_outputs(lambda: output_loss(x, weight, shift, labels, -1))
    plain = autocast_outputs(lambda: token_losses(F.linear(x, weight, shift), labels, -1).sum())
    for expected, result in zip(plain, chunked, strict=True):
        scale = max(float(expected.abs().max()), 0.01)
        tolerance = 0.02 if number == torch.bfloat16 else 2e-5
        assert float((expected - result).abs().max()) <= tolerance * scale


def test_loss_is_that_of_float64() -> None:
    logits = torch.randn(30, 500, generator=torch.Generator().manual_seed(0)) * 20
    targets = torch.arange(30)
    exact = logits.double().requires_grad_()
    loss = torch.nn.functional.cross_entropy(exact, targets, reduction="sum")
    loss.backward()  # type: ignore[no-untyped-call]
    total, sums = loops.loss.losses_to_gradients(logits, targets)
    assert exact.grad is not None
    assert math.isclose(total.item(), loss.item(), rel_tol=1e-6)
    torch.testing.assert_close(logits.double(), exact.grad, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(sums.double(), exact.grad.sum(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stays_none(bad: float) -> None:
    logits = torch.zeros(3, 50)
    logits[1, 20] = bad
    assert math.isnan(float(loops.loss.losses_to_gradients(logits, torch.tensor([0, 1, 2]))[0]))


@FORMATS
@pytest.mark.parametrize("placement", ["pre", "post"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_the_whole_model(number: torch.dtype, placement: str, activation: str) -> None:
    config = ModelConfig(
        vocab_size=61,
        hidden_size=20,
        num_heads=4,
        num_layers=2,
        context_length=16,
        norm_placement=placement,  # type: ignore[arg-type]
        activation=activation,
    )
    torch.manual_seed(0)
    model = DecoderLM(config)
    ids = torch.randint(61, (3, 13))

    def work(low: bool) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            return model.summed_loss(model.residual(ids), ids.roll(-1, 1), -1)

    leaves = list(model.parameters())
    if number == torch.float32:
        assert_same(lambda: work(False), [model], leaves, 2e-4)
        return
    exact = outputs(lambda: work(False), [model], leaves, False)
    plain, compiled = (outputs(lambda: work(True), [model], leaves, on) for on in (False, True))
    for exact_gradient, plain_gradient, quick_gradient in zip(exact, plain, compiled, strict=True):
        # As near to the float32 gradient as the torch form in bfloat16 is.
        assert (quick_gradient - exact_gradient).norm() <= 1.3 * (
            plain_gradient - exact_gradient
        ).norm() + 1e-3 * exact_gradient.norm()


def test_results_do_not_depend_on_the_threads() -> None:
    torch.manual_seed(0)
    model = DecoderLM(
        ModelConfig(vocab_size=61, hidden_size=20, num_heads=4, num_layers=2, context_length=32)
    )
    ids = torch.randint(61, (9, 32))

    def outputs_with(threads: int) -> list[Tensor]:
        torch.set_num_threads(threads)
        return outputs(
            lambda: model.summed_loss(model.residual(ids), ids.roll(-1, 1), -1),
            [model],
            list(model.parameters()),
            True,
        )

    # The products are torch's own, and the same for these sizes.
    for of_one_thread, of_two_threads in zip(outputs_with(1), outputs_with(2), strict=True):
        torch.testing.assert_close(of_one_thread, of_two_threads, rtol=0, atol=0)


def test_loops_suit_tensors_of_a_processor_in_two_formats() -> None:
    x = torch.ones(3)
    assert loops.suit(x, x.bfloat16())
    assert not loops.suit(x, x.double())
    assert not loops.suit(x.to("meta"))


def test_a_cache_that_cannot_be_written_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    from tinylm.fast.loops import dropout, launch

    compile_entry, asked = launch.cfunc, []

    def refusing(*arguments: object, cache: bool = False, **settings: object) -> object:
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return compile_entry(*arguments, **settings)

    monkeypatch.setattr(launch, "cfunc", refusing)
    kernel = launch.Kernel(dropout._entry(dropout.np.float32))
    x, out = torch.arange(5.0), torch.empty(5)
    kernel(1, x, out, 5, 0, 0, 1.0)
    assert asked == [True, False]
    assert torch.equal(out, x)


def placed(tensor: Tensor, offset: int) -> Tensor:
    """Return a copy that begins so many numbers into a piece of memory."""
    buffer = torch.empty(tensor.numel() + offset, dtype=tensor.dtype)
    return buffer[offset:].view(tensor.shape).copy_(tensor.detach())


@FORMATS
def test_results_do_not_depend_on_where_in_memory_tensors_stand(number: torch.dtype) -> None:
    norm, dropout = LayerNorm(27, 1e-5), Dropout(0.1)
    config = ModelConfig(
        vocab_size=9, hidden_size=24, num_heads=3, head_dim=7, context_length=64, dropout=0.1
    )
    attention = Attention(config, 0, "attention")
    blocked = torch.ones(33, 33).triu(1).bool()[None, None]
    given = [leaf(19, 27), leaf(19, 27, number=number)]
    heads = [leaf(2, 3, 33, 7, number=number, scale=s) for s in (1.0, 1.1, 1.2)]
    scores, targets = leaf(13, 61, number=number).detach(), torch.arange(13)
    results = []
    for offset in (0, 1, 3, 8, 13):
        x, branch = (placed(tensor, offset).requires_grad_() for tensor in given)
        query, key, value = (placed(tensor, offset).requires_grad_() for tensor in heads)
        logits = placed(scores, offset)
        results.append(
            [
                *outputs(
                    lambda x=x, branch=branch: add_norm(x, branch, dropout, norm)[0],  # type: ignore[misc]
                    [dropout, norm],
                    [x, branch, *norm.parameters()],
                    True,
                ),
                *outputs(
                    lambda q=query, k=key, v=value: attention.mix(q, k, v, blocked),  # type: ignore[misc]
                    [attention],
                    [query, key, value],
                    True,
                ),
                *loops.loss.losses_to_gradients(logits, targets),
                logits,
            ]
        )
    for moved in results[1:]:
        for tensor, moved_tensor in zip(results[0], moved, strict=True):
            assert torch.equal(tensor, moved_tensor)
