import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from tests.model.helpers import SMALL, build, build_random, largest_difference, random_ids
from tinylm.config import ModelConfig
from tinylm.errors import ConfigError
from tinylm.model.cache import KVCache
from tinylm.model.decoder import DecoderLM, record
from tinylm.model.positions import Positions
from tinylm.model.positions.learned import LearnedPositions
from tinylm.model.positions.rotary import RotaryPositions
from tinylm.model.positions.sinusoidal import SinusoidalPositions, sinusoidal_table

# None


def test_the_base_encoding_is_the_identity_at_all_three_points() -> None:
    encoding = Positions(ModelConfig())
    x, places = torch.randn(2, 3, 4), torch.arange(3)[None]
    assert encoding.add(x, places) is x
    assert encoding.rotate(x, places) is x
    assert encoding.bias(places, places) is None


# Sinusoidal


@pytest.mark.parametrize("hidden_size", [2, 7, 12, 300])
def test_sinusoidal_table_equals_the_papers_formula(hidden_size: int) -> None:
    table = sinusoidal_table(70, hidden_size)
    assert table.dtype == torch.float64
    for p in range(70):
        for j in range(hidden_size):
            angle = p / 10_000 ** (2 * (j // 2) / hidden_size)
            value = math.sin(angle) if j % 2 == 0 else math.cos(angle)
            assert float(table[p, j]) == pytest.approx(value, abs=1e-13)


def test_sinusoidal_table_has_the_known_first_rows() -> None:
    table = sinusoidal_table(2, 4)
    assert table[0].tolist() == [0, 1, 0, 1]
    by_hand = [0.8414709848, 0.5403023059, 0.0099998333, 0.9999500004]
    assert table[1].tolist() == pytest.approx(by_hand, abs=1e-10)


def test_every_sinusoidal_row_at_300_has_norm_sqrt_150() -> None:
    norms = sinusoidal_table(64, 300).norm(dim=1)
    assert largest_difference(norms, torch.full((64,), math.sqrt(150), dtype=torch.float64)) < 1e-12


def test_sinusoidal_is_added_after_scaling_and_is_no_parameter() -> None:
    model = build_random(positions="sinusoidal")
    ids = random_ids(model, 2, 5)
    with torch.no_grad():
        _, kept = record(model, ["embedding", "layers.0.input"], ids)
    scaled = model.embedding.weight[ids] * math.sqrt(10)
    assert largest_difference(kept["embedding"], scaled) < 1e-14
    added = scaled + sinusoidal_table(5, 10)
    assert largest_difference(kept["layers.0.input"], added) < 1e-14
    assert not any(name.startswith("positions") for name in model.state_dict())


def test_float32_tables_are_rounded_once() -> None:
    config = ModelConfig(**{**SMALL, "context_length": 2048})
    sinusoidal, rotary = SinusoidalPositions(config), RotaryPositions(config)
    assert sinusoidal.table.dtype == torch.float32
    assert torch.equal(sinusoidal.table, sinusoidal_table(2048, 10).float())
    for p in (1, 63, 1001, 2047):
        for i in range(2):
            angle = p * 10_000 ** (-2 * i / 4)
            assert float(rotary.cos[p, i]) == pytest.approx(math.cos(angle), abs=6e-8)
            assert float(rotary.sin[p, i]) == pytest.approx(math.sin(angle), abs=6e-8)


# Learned


def test_learned_positions_are_rows_of_a_trained_table() -> None:
    encoding = LearnedPositions(ModelConfig(**SMALL))
    x = torch.randn(2, 3, 10)
    places = torch.tensor([[0, 1, 2], [7, 7, 15]])
    out = encoding.add(x, places)
    for b in range(2):
        for t in range(3):
            assert torch.equal(out[b, t], x[b, t] + encoding.table.weight[places[b, t]])
    assert [tuple(p.shape) for p in encoding.parameters()] == [(16, 10)]


def test_learned_positions_start_small() -> None:
    torch.manual_seed(0)
    config = ModelConfig(vocab_size=10, positions="learned", context_length=512)
    table = LearnedPositions(config).table.weight.detach()
    assert float(table.std()) == pytest.approx(0.02, rel=0.02)
    assert abs(float(table.mean())) < 5e-4
    # The decoder's own initialisation leaves the table as its encoding made it.
    model = DecoderLM(config)
    assert float(model.positions.table.weight.detach().std()) == pytest.approx(0.02, rel=0.02)


# Rotary


def rotary(head_dim: int, context_length: int = 64) -> RotaryPositions:
    encoding = build(head_dim=head_dim, context_length=context_length, positions="rotary").positions
    assert isinstance(encoding, RotaryPositions)
    return encoding


def turned_as_complex_numbers(vector: list[float], position: int) -> list[float]:
    """Turn one vector, the pair (x[i], x[i + d/2]) as the complex number x[i] + i x[i + d/2]."""
    d = len(vector)
    turned = [0.0] * d
    for i in range(d // 2):
        angle = position / 10_000 ** (2 * i / d)
        number = complex(vector[i], vector[i + d // 2])
        number *= complex(math.cos(angle), math.sin(angle))
        turned[i], turned[i + d // 2] = number.real, number.imag
    return turned


@pytest.mark.parametrize("head_dim", [2, 4, 38])
def test_rotary_multiplies_complex_numbers(head_dim: int) -> None:
    torch.manual_seed(0)
    encoding = rotary(head_dim)
    x = torch.randn(2, 3, 4, head_dim, dtype=torch.float64)
    places = torch.tensor([[0, 1, 2, 3], [5, 0, 63, 17]])
    out = encoding.rotate(x, places)
    for b in range(2):
        for h in range(3):
            for t in range(4):
                expected = turned_as_complex_numbers(x[b, h, t].tolist(), int(places[b, t]))
                assert out[b, h, t].tolist() == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize("head_dim", [4, 38])
def test_rotary_equals_llamas(head_dim: int) -> None:
    torch.manual_seed(0)
    llama = LlamaRotaryEmbedding(
        LlamaConfig(hidden_size=head_dim, num_attention_heads=1, max_position_embeddings=64)
    )
    query, key = torch.randn(2, 2, 3, 10, head_dim, dtype=torch.float64)
    places = torch.randint(64, (2, 10))
    encoding = rotary(head_dim)
    # transformers computes its angles in float32 only.
    cos, sin = llama(torch.empty(1, dtype=torch.float32), places)
    theirs = apply_rotary_pos_emb(query, key, cos.double(), sin.double())
    assert largest_difference(encoding.rotate(query, places), theirs[0]) < 5e-5
    assert largest_difference(encoding.rotate(key, places), theirs[1]) < 5e-5
    # Its turning itself, with the same angles, to rounding.
    cos, sin = encoding.cos[places], encoding.sin[places]
    theirs = apply_rotary_pos_emb(query, key, cos, sin)
    assert largest_difference(encoding.rotate(query, places), theirs[0]) < 1e-14


@settings(max_examples=50, deadline=None)
@given(
    query_place=st.integers(0, 30),
    key_place=st.integers(0, 30),
    moved=st.integers(0, 33),
    half=st.integers(1, 20),
    seed=st.integers(0, 1000),
)
def test_rotary_scores_depend_on_the_distance_alone(
    query_place: int, key_place: int, moved: int, half: int, seed: int
) -> None:
    encoding = rotary(2 * half)
    torch.manual_seed(seed)
    query, key = torch.randn(2, 1, 1, 1, 2 * half, dtype=torch.float64)

    def score(query_place: int, key_place: int) -> Tensor:
        turned_query = encoding.rotate(query, torch.tensor([[query_place]]))
        return (turned_query * encoding.rotate(key, torch.tensor([[key_place]]))).sum()

    here, there = score(query_place, key_place), score(query_place + moved, key_place + moved)
    assert float(here) == pytest.approx(float(there), abs=1e-11)
    turned = encoding.rotate(query, torch.tensor([[query_place]]))
    assert float(turned.norm()) == pytest.approx(float(query.norm()), abs=1e-12)


def test_rotary_scores_do_depend_on_the_distance() -> None:
    encoding = rotary(4)
    x = torch.ones(1, 1, 3, 4, dtype=torch.float64)
    turned = encoding.rotate(x, torch.arange(3)[None])[0, 0]
    first = 2 * math.cos(1) + 2 * math.cos(0.01)
    second = 2 * math.cos(2) + 2 * math.cos(0.02)
    assert float(turned[0] @ turned[1]) == pytest.approx(first, abs=1e-14)
    assert float(turned[0] @ turned[2]) == pytest.approx(second, abs=1e-14)


def test_a_rotary_model_is_blind_to_a_shift_of_all_positions() -> None:
    model = build_random(positions="rotary")
    ids = random_ids(model, 2, 6)
    with torch.no_grad():
        shifted = model(ids, positions=torch.arange(9, 15)[None])
        assert largest_difference(shifted, model(ids)) < 1e-12
        stretched = model(ids, positions=2 * torch.arange(6)[None])
        assert largest_difference(stretched, model(ids)) > 1e-3


def test_rotary_refuses_an_odd_head_dim() -> None:
    with pytest.raises(ConfigError, match=r"even model\.head_dim, not 5.*head_dim=6"):
        build(positions="rotary", head_dim=5)


# The third point: an encoding that biases scores


class DistanceBias(Positions):
    """ALiBi with the slopes 1, 1/2 and 1/3."""

    def bias(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        distance = query_positions[:, :, None] - key_positions[:, None, :]
        slopes = torch.tensor([1, 1 / 2, 1 / 3], dtype=torch.float64)
        return -slopes[:, None, None] * distance[:, None]  # (batch or 1, heads, queries, keys)


def biased_model() -> DecoderLM:
    model = build_random()
    model.positions = DistanceBias(model.config)
    return model


def test_a_bias_is_added_to_the_scores() -> None:
    model = biased_model()
    names = ["layers.0.attention.query", "layers.0.attention.key", "layers.0.attention.scores"]
    with torch.no_grad():
        _, kept = record(model, names, random_ids(model, 2, 5))
    query, key, scores = (kept[name] for name in names)
    for h in range(3):
        for q in range(5):
            for k in range(q + 1):
                unbiased = float(query[1, h, q] @ key[1, h, k]) / 2
                assert float(scores[1, h, q, k]) == pytest.approx(
                    unbiased - (q - k) / (h + 1), abs=1e-12
                )


def test_a_bias_sees_the_positions_of_cached_and_padded_keys() -> None:
    model = biased_model()
    ids = random_ids(model, 2, 8)
    real = torch.ones(2, 8, dtype=torch.bool)
    real[0, :3] = False
    cache = KVCache(model.config, 2, dtype=torch.float64)
    with torch.no_grad():
        whole = model(ids, real=real)
        parts = [model(ids[:, :5], real=real[:, :5], cache=cache)]
        parts += [model(ids[:, t : t + 1], cache=cache) for t in range(5, 8)]
        assert largest_difference(torch.cat(parts, 1)[real], whole[real]) < 1e-12
        assert largest_difference(whole[0, 3:], model(ids[:1, 3:])[0]) < 1e-12
