"""Linear biases: the paper's slopes, and attention written out for every pair in float64."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.models.bloom.modeling_bloom import build_alibi_tensor

from tests.model.helpers import build_random, largest_difference, random_ids
from tinylm.model.decoder import record
from tinylm.model.positions.alibi import AlibiPositions, slopes


@pytest.mark.parametrize(
    ("num_heads", "expected"),
    [
        (1, [2**-8]),
        (2, [2**-4, 2**-8]),
        (3, [2**-4, 2**-8, 2**-2]),
        (8, [2.0**-i for i in range(1, 9)]),
        (12, [*(2.0**-i for i in range(1, 9)), 2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5]),
        (16, [2.0 ** (-i / 2) for i in range(1, 17)]),
    ],
)
def test_slopes_are_the_papers(num_heads: int, expected: list[float]) -> None:
    assert slopes(num_heads) == pytest.approx(expected, rel=1e-15)


@settings(max_examples=60, deadline=None)
@given(num_heads=st.integers(1, 200))
def test_slopes_are_blooms_for_any_number_of_heads(num_heads: int) -> None:
    # There a bias is the slope times the key's place: that of the second key is the slope.
    theirs = build_alibi_tensor(torch.ones(1, 2), num_heads, torch.float32)[:, 0, 1]
    # They are powers, up to the 128th, of a number in float32.
    assert slopes(num_heads) == pytest.approx(theirs.tolist(), rel=128 * 2**-24)
    assert len(set(slopes(num_heads))) == num_heads  # no two heads alike


def brute_force(query: Tensor, key: Tensor, value: Tensor, places: list[int]) -> Tensor:
    """Return the mixed values of one text, (heads, seq, head_dim), one score at a time."""
    heads, seq, size = query.shape
    steepness = {2: [1 / 16, 1 / 256], 3: [1 / 16, 1 / 256, 1 / 4]}[heads]
    mixed = torch.zeros_like(query)
    for h in range(heads):
        for q in range(seq):
            scores = [
                sum(float(query[h, q, d]) * float(key[h, k, d]) for d in range(size))
                / math.sqrt(size)
                - steepness[h] * (places[q] - places[k])
                for k in range(q + 1)
            ]
            weights = [math.exp(score - max(scores)) for score in scores]
            for k, weight in enumerate(weights):
                mixed[h, q] += weight / sum(weights) * value[h, k]
    return mixed


@pytest.mark.parametrize("num_heads", [2, 3])
@pytest.mark.parametrize("places", [list(range(9)), [0, 1, 2, 5, 6, 7, 11, 13, 15]])
def test_attention_equals_one_score_at_a_time(num_heads: int, places: list[int]) -> None:
    model = build_random(positions="alibi", num_heads=num_heads)
    names = [f"layers.1.attention.{part}" for part in ("query", "key", "value", "mixed")]
    ids = random_ids(model, 2, 9)
    with torch.no_grad():
        kept: dict[str, Tensor] = {}
        hooks = model.hooks(dict.fromkeys(names, kept.__setitem__))
        model(ids, positions=torch.tensor([places]), hooks=hooks)
    query, key, value, mixed = (kept[name] for name in names)
    for row in range(2):
        expected = brute_force(query[row], key[row], value[row], places)
        assert largest_difference(mixed[row], expected) < 1e-12


def test_distance_alone_counts_and_either_way() -> None:
    encoding = build_random(positions="alibi").positions
    assert isinstance(encoding, AlibiPositions)
    places = torch.arange(16)[None]
    bias = encoding.bias(places, places)
    assert bias.shape == (1, 3, 16, 16)
    assert torch.equal(bias, bias.mT)
    assert torch.equal(bias[0].diagonal(dim1=1, dim2=2), torch.zeros(3, 16).double())
    assert float(bias[0, 2, 9, 3]) == float(bias[0, 2, 3, 9]) == -6 / 4


def test_embeddings_queries_and_keys_are_left_alone() -> None:
    model = build_random(positions="alibi")
    ids = random_ids(model, 1, 5)
    with torch.no_grad():
        _, kept = record(model, ["embedding", "layers.0.input"], ids)
        assert torch.equal(kept["embedding"], kept["layers.0.input"])
        vectors: Any = torch.randn(1, 3, 5, 4)
        assert model.positions.rotate(vectors, torch.arange(5)[None]) is vectors
        shifted = model(ids, positions=torch.arange(9, 14)[None])
        assert largest_difference(shifted, model(ids)) < 1e-12
