import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.model.helpers import (
    ENCODINGS,
    NORM_PLACEMENTS,
    build,
    build_random,
    largest_difference,
    random_ids,
)
from tinylm.model.attention import Attention
from tinylm.model.decoder import DecoderLM, record
from tinylm.model.positions import Positions
from tinylm.model.reading import Reading


def loop_attention(attention: Attention, x: Tensor, real: Tensor) -> Tensor:
    """Attend by one row, one head, one query and one key at a time.

    Args:
        attention: gives the weights.
        x: (batch, seq, hidden).
        real: (batch, seq), bool.

    Returns:
        (batch, seq, hidden), rows of padded queries are 0.
    """
    heads, size = attention.num_heads, attention.head_dim
    width = heads * size
    weight, bias = attention.query_key_value.weight, attention.query_key_value.bias
    out = torch.zeros_like(x)
    for b in range(x.shape[0]):
        for q in range(x.shape[1]):
            if not real[b, q]:
                continue
            joined = []
            for h in range(heads):
                rows = slice(h * size, (h + 1) * size)
                wq, wk, wv = weight[:width][rows], weight[width:-width][rows], weight[-width:][rows]
                bq, bk, bv = bias[:width][rows], bias[width:-width][rows], bias[-width:][rows]
                query = wq @ x[b, q] + bq
                visible = [k for k in range(q + 1) if real[b, k]]
                scores = [float(query @ (wk @ x[b, k] + bk)) / math.sqrt(size) for k in visible]
                shares = [math.exp(score - max(scores)) for score in scores]
                values = [wv @ x[b, k] + bv for k in visible]
                mixed = sum(s / sum(shares) * v for s, v in zip(shares, values, strict=True))
                joined.append(mixed)
            out[b, q] = attention.output.weight @ torch.cat(joined) + attention.output.bias
    return out


@pytest.mark.parametrize(
    ("hidden_size", "num_heads", "head_dim"), [(300, 8, None), (10, 3, 4), (12, 1, None), (6, 4, 1)]
)
def test_attention_equals_a_loop_over_heads_queries_and_keys(
    hidden_size: int, num_heads: int, head_dim: int | None
) -> None:
    model = build_random(hidden_size=hidden_size, num_heads=num_heads, head_dim=head_dim)
    attention = model.layers[0].attention
    seq = 5
    real = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [1, 0, 1, 0, 1]], dtype=torch.bool)
    x = torch.randn(3, seq, hidden_size, dtype=torch.float64)
    future = torch.ones(seq, seq, dtype=torch.bool).triu(1)
    blocked = future[None, None] | ~real[:, None, None, :]
    with torch.no_grad():
        no_positions = Positions(model.config)
        places = torch.arange(seq)[None]
        ours = attention(x, Reading(no_positions, places, blocked))
        theirs = loop_attention(attention, x, real)
    assert largest_difference(ours[real], theirs[real]) < 1e-12


def test_hidden_size_300_with_8_heads_has_head_dim_38() -> None:
    attention = build(hidden_size=300, num_heads=8, head_dim=None).layers[0].attention
    assert attention.head_dim == 38
    assert attention.query_key_value.weight.shape == (3 * 304, 300)
    assert attention.output.weight.shape == (300, 304)


@pytest.mark.parametrize(("hidden_size", "num_heads"), [(300, 8), (64, 16), (512, 8)])
@pytest.mark.parametrize("positions", ENCODINGS)
def test_scores_of_unit_queries_and_keys_have_variance_one(
    hidden_size: int, num_heads: int, positions: str
) -> None:
    model = build(
        hidden_size=hidden_size,
        num_heads=num_heads,
        head_dim=None,
        num_layers=1,
        context_length=64,
        positions=positions,
    )
    scores: list[Tensor] = []
    torch.manual_seed(0)
    # The hook's value is what enters the scores, so rotation (which keeps variances) is outside.
    hooks = model.hooks(
        {
            "*.query": lambda _, x: torch.randn_like(x),
            "*.key": lambda _, x: torch.randn_like(x),
            "*.scores": lambda _, x: scores.append(x),
        }
    )
    with torch.no_grad():
        model(random_ids(model, 24, 64), hooks=hooks)
    bias = model.positions.bias(torch.arange(64)[None], torch.arange(64)[None])
    unbiased = scores[0] if bias is None else scores[0] - bias
    # With head_dim 38 scaled as if it were 40 this would be 0.95.
    assert float(unbiased.var()) == pytest.approx(1, abs=0.02)
    assert float(unbiased.mean()) == pytest.approx(0, abs=0.02)


@settings(max_examples=100, deadline=None)
@given(
    positions=st.sampled_from(ENCODINGS),
    norm_placement=st.sampled_from(NORM_PLACEMENTS),
    tie_embeddings=st.booleans(),
    seq=st.integers(2, 16),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_a_token_changes_nothing_before_it(
    positions: str,
    norm_placement: str,
    tie_embeddings: bool,
    seq: int,
    seed: int,
    data: st.DataObject,
) -> None:
    model = build_random(
        seed, positions=positions, norm_placement=norm_placement, tie_embeddings=tie_embeddings
    )
    t = data.draw(st.integers(0, seq - 1))
    ids = random_ids(model, 2, seq, seed=seed)
    changed = ids.clone()
    changed[0, t] = (ids[0, t] + data.draw(st.integers(1, 22))) % 23
    with torch.no_grad():
        before, after = model(ids), model(changed)
    assert torch.equal(before[0, :t], after[0, :t])
    assert torch.equal(before[1], after[1])
    assert (before[0, t:] != after[0, t:]).any(-1).all()


@pytest.mark.parametrize("positions", ENCODINGS)
def test_no_gradient_flows_from_a_logit_to_a_later_token(positions: str) -> None:
    model = build_random(positions=positions)
    embeddings = torch.randn(1, 6, 10, dtype=torch.float64, requires_grad=True)
    for t in range(6):
        logits = model(embeddings=embeddings)
        (gradient,) = torch.autograd.grad(logits[0, t].square().sum(), embeddings)
        reached = gradient[0].abs().sum(-1)
        assert (reached[: t + 1] > 0).all()
        assert (reached[t + 1 :] == 0).all()


@settings(max_examples=100, deadline=None)
@given(
    positions=st.sampled_from(ENCODINGS),
    norm_placement=st.sampled_from(NORM_PLACEMENTS),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_padding_anywhere_changes_no_real_token(
    positions: str, norm_placement: str, seed: int, data: st.DataObject
) -> None:
    model = build_random(seed, positions=positions, norm_placement=norm_placement)
    seq = data.draw(st.integers(1, 9))
    row = st.one_of(
        st.integers(1, seq).map(lambda n: [False] * (seq - n) + [True] * n),  # left
        st.integers(1, seq).map(lambda n: [True] * n + [False] * (seq - n)),  # right
        st.lists(st.booleans(), min_size=seq, max_size=seq).filter(any),  # anywhere
    )
    real = torch.tensor(data.draw(st.lists(row, min_size=1, max_size=4)))
    ids = random_ids(model, *real.shape, seed=seed)
    with torch.no_grad():
        padded = model(ids, real=real)
        assert bool(padded.isfinite().all())
        for b in range(len(ids)):
            alone = model(ids[b][real[b]][None])[0]
            assert largest_difference(padded[b][real[b]], alone) < 1e-12
        other_padding = torch.where(real, ids, random_ids(model, *real.shape, seed=seed + 1))
        assert torch.equal(model(other_padding, real=real)[real], padded[real])


def test_a_row_of_padding_alone_is_finite_and_disturbs_nobody() -> None:
    model = build_random()
    ids = random_ids(model, 2, 4)
    real = torch.tensor([[True] * 4, [False] * 4])
    logits = model(ids, real=real)
    assert bool(logits.isfinite().all())
    assert largest_difference(logits[0], model(ids[:1])[0]) < 1e-12
    logits[real].sum().backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(g is not None and bool(g.isfinite().all()) for g in gradients)


def test_padding_gets_no_gradient() -> None:
    model = build_random()
    real = torch.tensor([[False, False, True, True, True], [True, True, True, False, False]])
    embeddings = torch.randn(2, 5, 10, dtype=torch.float64, requires_grad=True)
    model(embeddings=embeddings, real=real)[real].square().sum().backward()
    assert embeddings.grad is not None
    reached = embeddings.grad.abs().sum(-1) > 0
    assert torch.equal(reached, real)


@pytest.mark.parametrize("positions", ENCODINGS)
def test_the_pattern_is_a_distribution_over_earlier_real_tokens(positions: str) -> None:
    model = build_random(positions=positions)
    real = torch.tensor([[False, True, True, True], [True, True, True, True]])
    with torch.no_grad():
        _, kept = record(model, ["*.pattern"], random_ids(model, 2, 4), real)
    assert len(kept) == 2
    for pattern in kept.values():
        of_real = pattern.transpose(1, 2)[real]  # (real queries, heads, keys)
        assert largest_difference(of_real.sum(-1), torch.ones(7, 3).double()) < 1e-14
        assert (pattern[0, :, 1:, 0] == 0).all()
        assert (pattern.triu(1).transpose(1, 2)[real] == 0).all()
        visible = torch.ones(4, 4).tril().bool()
        assert (pattern[1, :, visible] > 0).all()


def test_equal_scores_give_the_running_mean() -> None:
    model = build_random(num_layers=1)
    hooks = model.hooks(
        {
            "*.scores": lambda _, x: torch.zeros_like(x),
            "*.value": lambda _, x: keep.setdefault("value", x),
            "*.mixed": lambda _, x: keep.setdefault("mixed", x),
        }
    )
    keep: dict[str, Tensor] = {}
    with torch.no_grad():
        model(random_ids(model, 2, 6), hooks=hooks)
    counts = torch.arange(1, 7).double()[:, None]
    assert largest_difference(keep["mixed"], keep["value"].cumsum(2) / counts) < 1e-14


@pytest.mark.parametrize("norm_placement", NORM_PLACEMENTS)
def test_huge_scores_do_not_overflow(norm_placement: str) -> None:
    model = build_random(norm_placement=norm_placement)
    with torch.no_grad():
        for layer in model.layers:
            layer.attention.query_key_value.weight.mul_(1e4)
        assert bool(model(random_ids(model, 2, 8)).isfinite().all())


def bfloat16_distance(model: DecoderLM, logits: Tensor, expected: Tensor) -> float:
    return float((logits.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("positions", ENCODINGS)
def test_bfloat16_is_close_and_keeps_padded_rows_finite(positions: str) -> None:
    model = build(positions=positions, hidden_size=32, head_dim=None, num_heads=4)
    ids = random_ids(model, 2, 8)
    real = torch.ones(2, 8, dtype=torch.bool)
    real[0, :3] = False
    with torch.no_grad():
        expected = model(ids, real=real)
        model.float()
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model(ids, real=real)
        half = model.bfloat16()(ids, real=real)
    for logits in (mixed, half):
        assert logits.dtype == torch.bfloat16
        assert bool(logits.isfinite().all())
        assert bfloat16_distance(model, logits[real], expected[real]) < 0.05


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
@pytest.mark.parametrize("positions", ENCODINGS)
def test_cuda_gives_the_logits_and_gradients_of_the_cpu(positions: str) -> None:
    model = build_random(positions=positions)
    ids = random_ids(model, 2, 8)
    real = torch.ones(2, 8, dtype=torch.bool)
    real[0, :3] = False
    expected = model(ids, real=real)
    expected[real].square().sum().backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]  # type: ignore[union-attr]
    model.zero_grad()
    model.cuda()
    logits = model(ids.cuda(), real=real.cuda())
    logits[real.cuda()].square().sum().backward()
    assert largest_difference(logits.cpu()[real], expected[real]) < 1e-10
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert parameter.grad is not None
        assert largest_difference(parameter.grad.cpu(), gradient) < 1e-9
