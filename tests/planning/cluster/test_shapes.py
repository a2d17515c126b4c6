"""Sizes, parameters and FLOPs of a decoder, held to planning's own and to the papers' formulas."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tinylm.config import ModelConfig
from tinylm.errors import ConfigError
from tinylm.planning.cluster.shapes import Shape, shape_of_size
from tinylm.planning.flops import forward_flops
from tinylm.planning.parameters import parameter_counts

CONFIGS = st.builds(
    ModelConfig,
    vocab_size=st.integers(5, 90),
    context_length=st.integers(2, 40),
    num_layers=st.integers(1, 4),
    num_heads=st.integers(1, 5),
    hidden_size=st.integers(1, 40),
    ffn_size=st.integers(1, 50) | st.none(),
    norm_placement=st.sampled_from(["post", "pre"]),
    positions=st.sampled_from(["sinusoidal", "learned", "rotary", "alibi"]),
    tie_embeddings=st.booleans(),
    bias=st.booleans(),
)


@given(CONFIGS)
def test_the_numbers_are_those_of_planning(config: ModelConfig) -> None:
    try:
        counts = parameter_counts(config)
    except ConfigError:  # rotary positions of an odd width
        return
    shape = Shape.of(config)
    assert shape.parameters == counts["total"]
    assert shape.embedding_parameters == counts["embedding"] + counts["positions"]
    flops = forward_flops(config, config.context_length, quick=False)
    layer = shape.layer_map_flops + shape.layer_score_flops
    assert config.context_length * shape.layers * layer == flops.layers
    assert config.context_length * shape.output_flops == flops.unembedding
    assert config.context_length * shape.model_flops == 3 * flops.total


def test_other_kinds_of_models_are_refused() -> None:
    for kind in ("gru", "encoder-decoder", "seq2seq-additive"):
        with pytest.raises(ConfigError, match=f"model.kind = {kind} is not laid out over cards"):
            Shape.of(ModelConfig(kind=kind, vocab_size=9))


@given(st.integers(1, 60), st.integers(1, 30), st.integers(1, 4096), st.integers(1, 99_999))
def test_gpt_has_the_numbers_of_narayanan(layers: int, heads: int, s: int, types: int) -> None:
    """Equations 2 and 3 of section 5; theirs leave out the final norm."""
    h = 64 * heads
    shape = Shape.gpt(layers, h, heads, s, types)
    terms = 12 * layers * h * h * (1 + 13 / (12 * h) + (types + s) / (12 * layers * h))
    assert shape.parameters - 2 * h == pytest.approx(terms, rel=1e-12)
    again = layers * (shape.layer_map_flops + shape.layer_score_flops)
    flops = 96 * s * layers * h * h * (1 + s / (6 * h) + types / (16 * layers * h))
    assert s * (shape.model_flops + again) == pytest.approx(flops, rel=1e-12)


class Llama(nn.Module):
    """A layer with gated feed-forward parts and shared keys, from torch's maps."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        h, w, k, f = shape.hidden, shape.width, shape.key_width, shape.ffn
        self.query, self.out = nn.Linear(h, w, bias=False), nn.Linear(w, h, bias=False)
        self.key, self.value = (nn.Linear(h, k, bias=False) for _ in range(2))
        self.gate, self.up = (nn.Linear(h, f, bias=False) for _ in range(2))
        self.down = nn.Linear(f, h, bias=False)
        self.norms = nn.ParameterList([nn.Parameter(torch.ones(h)) for _ in range(2)])
        self.shape = shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape, (rows, seq, _) = self.shape, x.shape
        groups = shape.heads // shape.key_heads

        def heads(map_: nn.Linear, number: int) -> torch.Tensor:
            return map_(x).view(rows, seq, number, shape.head_dim).transpose(1, 2)

        query = heads(self.query, shape.heads)
        key, value = (
            heads(each, shape.key_heads).repeat_interleave(groups, 1)
            for each in (self.key, self.value)
        )
        mixed = (query @ key.mT).softmax(-1) @ value
        x = x + self.out(mixed.transpose(1, 2).reshape(rows, seq, shape.width))
        return x + self.down(self.gate(x).sigmoid() * self.up(x))


@pytest.mark.parametrize("key_heads", [1, 2, 6])
def test_gated_parts_and_shared_keys_are_counted_as_torch_counts(key_heads: int) -> None:
    shape = Shape(1, 24, 6, 10, 50, key_heads, 5, 28, gated=True, tied=False, bias=False, norms=1)
    layer = Llama(shape)
    assert shape.layer_parameters == sum(p.numel() for p in layer.parameters())
    counter = FlopCounterMode(display=False)
    with counter:
        layer(torch.randn(3, 10, 24, requires_grad=True)).sum().backward()
    counted = counter.get_total_flops()
    assert counted == 3 * 30 * (shape.layer_map_flops + shape.layer_score_flops)


def test_published_sizes() -> None:
    """Mixtral 8x7B has 46.7 billion parameters, 12.9 of them active; Llama 3 405.9."""
    plain = {"gated": True, "tied": False, "bias": False, "norms": 1}
    mixtral = Shape(32, 4096, 32, 4096, 32_000, 8, 128, 14_336, experts=8, active=2, **plain)
    assert mixtral.parameters == 46_702_792_704
    maps = 2 * 4096 * (4096 + 1024) + 2 * 3 * 4096 * 14_336 + 4096 * 8
    assert mixtral.layer_map_flops == 2 * maps
    active = replace(mixtral, experts=2)
    assert active.parameters == pytest.approx(12.9e9, rel=0.002)
    assert mixtral.layer_map_flops - 2 * mixtral.router == active.layer_map_flops - 2 * (
        active.router
    )
    llama = Shape(126, 16_384, 128, 8192, 128_256, 8, 128, 53_248, **plain)
    assert llama.parameters == 405_853_388_800


@given(st.floats(1e8, 2e12))
def test_a_model_of_a_size_has_about_that_size(parameters: float) -> None:
    shape = shape_of_size(parameters, 1024, 50_304)
    inner = shape.layers * 12 * shape.hidden**2
    assert inner == pytest.approx(parameters, rel=0.3)
    assert shape.layers < 16 or shape.layers % 8 == 0
    assert shape.heads * 128 == shape.hidden


def test_gpt3_is_found_again() -> None:
    shape = shape_of_size(174.6e9, 2048, 51_200)
    assert (shape.layers, shape.hidden, shape.heads) == (96, 12_288, 96)
    with pytest.raises(ConfigError, match="is less than a layer of width 128 has"):
        shape_of_size(1000, 64, 100)
