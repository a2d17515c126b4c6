"""What a layer and a decoded text cost: sums by algebra, planning, and torch's counter."""

from __future__ import annotations

import itertools
from math import log2

import pytest
import sympy
import torch
from torch.utils.flop_counter import FlopCounterMode

from tinylm.config import GenerationConfig, ModelConfig
from tinylm.generation.engine import SpecialIds, generate
from tinylm.model.decoder import DecoderLM, record
from tinylm.planning.flops import QUERY_BLOCK, decoding_flops, forward_flops
from tinylm.planning.memory import kv_bytes


def derived_layer(tokens: int, h: int, heads: int, d: int, f: int) -> int:
    """Return the sum of the document for one layer."""
    return 8 * tokens * h * heads * d + 4 * tokens**2 * heads * d + 4 * tokens * h * f


@pytest.mark.parametrize("heads", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("full_width", [False, True])
def test_a_layer_costs_the_sum_planned_and_counted(heads: int, full_width: bool) -> None:
    h, tokens = 64, 20
    d = h if full_width else h // heads
    config = ModelConfig(
        vocab_size=50, num_layers=1, hidden_size=h, num_heads=heads, head_dim=d, ffn_size=100
    )
    model, ids = DecoderLM(config).eval(), torch.zeros(1, tokens, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model.residual(ids)
    expected = derived_layer(tokens, h, heads, d, 100)
    assert counter.get_total_flops() == expected
    assert forward_flops(config, tokens, quick=False).layers == expected
    one = derived_layer(tokens, h, 1, h, 100)
    assert (expected == one) == (not full_width or heads == 1)


def test_many_heads_keep_more_scores() -> None:
    for heads in (1, 4):
        config = ModelConfig(vocab_size=50, num_layers=1, hidden_size=64, num_heads=heads)
        model = DecoderLM(config).eval()
        _, seen = record(model, ["layers.0.attention.pattern"], torch.zeros(1, 20).long())
        assert seen["layers.0.attention.pattern"].numel() == heads * 20**2


def test_attention_costs_more_than_all_maps_from_six_times_the_hidden_size_on() -> None:
    config = ModelConfig(vocab_size=50, num_heads=4, hidden_size=64, ffn_size=256)
    for tokens in (383, 384, 385):
        flops = forward_flops(config, tokens, quick=False)
        linear = flops.projections + flops.feed_forward
        assert (flops.attention > linear) == (tokens > 6 * 64)
        assert (flops.attention == linear) == (tokens == 6 * 64)


def test_rounded_heads_cost_so_much_more() -> None:
    rounded, whole = (
        forward_flops(ModelConfig(vocab_size=50, num_heads=heads), 64)
        for heads in (8, 1)  # 8 heads of 38, one of 300
    )
    assert rounded.projections / whole.projections == pytest.approx(304 / 300, abs=1e-12)


def test_the_sums_by_algebra() -> None:
    t, last, c, a = sympy.symbols("t T c a", positive=True)
    without = sympy.summation(c * t + a * t**2, (t, 1, last))
    assert (
        sympy.simplify(
            without - c * last * (last + 1) / 2 - a * last * (last + 1) * (2 * last + 1) / 6
        )
        == 0
    )
    cached = sympy.summation(c + a * t, (t, 1, last))
    assert sympy.simplify(cached - c * last - a * last * (last + 1) / 2) == 0
    assert sympy.limit(without / last**3, last, sympy.oo) == a / 3
    assert sympy.limit(cached / last**2, last, sympy.oo) == a / 2
    assert sympy.limit(without / cached / last, last, sympy.oo) == sympy.Rational(2, 3)
    only_maps = {a: 0}
    ratio = without.subs(only_maps) / cached.subs(only_maps)
    assert sympy.simplify(ratio - (last + 1) / 2) == 0


CONFIG = ModelConfig(vocab_size=10_000)
LAYERS, HIDDEN, WIDTH, FFN = 3, 300, 304, 1200


@pytest.mark.parametrize("tokens", [1, 2, 17, 64])
def test_planning_has_these_sums(tokens: int) -> None:
    """From a prompt of one token, of texts of up to one block, where the quick model is the plain.

    Token 1 is the prompt: the text is read at lengths 1 to T, and the last is not read.
    """
    c, a = LAYERS * (8 * HIDDEN * WIDTH + 4 * HIDDEN * FFN), LAYERS * 4 * WIDTH
    unembedding = tokens * 2 * HIDDEN * 10_000
    without = sum(c * t + a * t**2 for t in range(1, tokens + 1))
    cached = sum(c + a * t for t in range(1, tokens + 1))
    assert decoding_flops(CONFIG, 1, tokens, cached=False) == unembedding + without
    assert decoding_flops(CONFIG, 1, tokens, cached=True) == unembedding + cached


@pytest.mark.parametrize(("cached", "degree"), [(True, 2), (False, 3)])
def test_they_are_polynomials_of_the_derived_degree(cached: bool, degree: int) -> None:
    """Exactly: the next differences of whole numbers are 0, and the last before are not."""
    size = QUERY_BLOCK  # within a block the quick model's pairs are another polynomial
    costs = [decoding_flops(CONFIG, 1, size * n, cached) for n in range(1, 12)]
    for _ in range(degree):
        costs = [after - before for before, after in itertools.pairwise(costs)]
    assert len(set(costs)) == 1
    # Attention's a T^2 / 2, and a T^3 / 3 of which the quick model computes half.
    a = LAYERS * 4 * WIDTH
    assert costs[0] == (a * size**2 if cached else a * size**3)


def test_the_exponents_go_from_those_of_maps_to_those_of_attention() -> None:
    slopes = {
        (cached, tokens): log2(
            decoding_flops(CONFIG, 1, 2 * tokens, cached)
            / decoding_flops(CONFIG, 1, tokens, cached)
        )
        for cached in (True, False)
        for tokens in (64, 2**24)
    }
    assert slopes[True, 64] == pytest.approx(1, abs=0.02)
    assert slopes[False, 64] == pytest.approx(2, abs=0.02)
    assert slopes[True, 2**24] == pytest.approx(2, abs=0.001)
    assert slopes[False, 2**24] == pytest.approx(3, abs=0.001)


@pytest.mark.parametrize("cached", [True, False], ids=["with", "without"])
def test_a_text_that_is_really_decoded_costs_the_planned(cached: bool) -> None:
    config = ModelConfig(
        vocab_size=40, num_layers=2, hidden_size=16, num_heads=2, context_length=32, dropout=0.0
    )
    torch.manual_seed(0)
    model = DecoderLM(config).double().eval()
    settings = GenerationConfig(
        strategy="greedy", max_new_tokens=12, min_new_tokens=12, linear="plain"
    )
    with FlopCounterMode(display=False) as counter:
        generate(model, [[2, 6, 7]], settings, SpecialIds(0, 2, 3, 1), use_cache=cached)
    assert counter.get_total_flops() == decoding_flops(config, 3, 12, cached)


def test_the_cache_holds_two_numbers_a_width_layer_and_token() -> None:
    tokens = 10
    assert kv_bytes(CONFIG, 1, tokens) == tokens * LAYERS * 2 * WIDTH * 4
