"""The variance of scaled dot products."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from tinylm.config import ModelConfig
from tinylm.model.attention import Attention
from tinylm.model.decoder import DecoderLM, record


def scores_of(query: Tensor, key: Tensor) -> Tensor:
    """Return the scores of the project's attention, (queries, keys)."""
    d = query.shape[-1]
    attention = Attention(ModelConfig(num_heads=1, hidden_size=d, dropout=0.0), 0, "attention")
    seen: dict[str, Tensor] = {}

    def keep(name: str, x: Tensor) -> Tensor:
        return seen.setdefault(name, x)

    query, key = query[None, None], key[None, None]
    attention.mix(query, key, key, None, hooks=keep)  # type: ignore[arg-type]
    return seen["attention.scores"][0, 0]


@pytest.mark.parametrize("d", [1, 2, 5, 6])
def test_the_variance_is_exactly_one_over_all_vectors_of_signs(d: int) -> None:
    """All 2^d vectors of signs have independent entries of mean 0 and variance 1: no sampling."""
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=d)), dtype=torch.float64)
    scores = scores_of(signs, signs)
    assert abs(float(scores.mean())) < 1e-14
    assert float(scores.square().mean()) == pytest.approx(1, abs=1e-14)
    assert float((signs @ signs.T).square().mean()) == pytest.approx(d, abs=1e-12)


@pytest.mark.parametrize(("d", "of_query", "of_key"), [(38, 1.0, 1.0), (16, 2.0, 0.5), (64, 3, 1)])
def test_it_is_the_product_of_the_variances(d: int, of_query: float, of_key: float) -> None:
    generator = torch.Generator().manual_seed(d)
    # Uniform entries: the derivation asks for no normal ones.
    query, key = math.sqrt(12) * (torch.rand(2, 4000, d, generator=generator).double() - 0.5)
    scores = scores_of(of_query * query, of_key * key)
    # 16 million scores, of which those with a query or a key in common are dependent.
    assert float(scores.var()) == pytest.approx((of_query * of_key) ** 2, rel=0.03)


def test_at_initialisation_it_follows_from_glorots_variance_whatever_the_inputs_are() -> None:
    config = ModelConfig(vocab_size=50, num_layers=1, dropout=0.0)  # the baseline's sizes
    h, width = config.hidden_size, config.num_heads * config.resolved_head_dim
    assert (h, width) == (300, 304)
    expected = (2 * h / (h + 3 * width)) ** 2
    assert expected == pytest.approx(0.245, abs=5e-4)
    squares = []
    for seed in range(30):
        torch.manual_seed(seed)
        model = DecoderLM(config).double().eval()
        x = torch.zeros(1, 2, h).double()
        x[0, 0], x[0, 1, 0] = 1, math.sqrt(h)  # one spread out, one of a single entry
        model.embedding_scale = 1.0
        _, seen = record_scores(model, x)
        squares.append(seen.square().mean())
    assert float(torch.stack(squares).mean()) == pytest.approx(expected, rel=0.15)


def record_scores(model: DecoderLM, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return residual stream and scores where the first layer reads exactly ``x``."""
    model.layers[0].register_forward_pre_hook(lambda _, inputs: (x, *inputs[1:]))
    residual, seen = record(model, ["layers.0.attention.scores"], torch.zeros(1, 2).long())
    return residual, seen["layers.0.attention.scores"]
