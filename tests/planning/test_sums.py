"""Sums over blocks and lengths in closed form, held to the sums themselves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tinylm.config import ModelConfig
from tinylm.planning.flops import (
    QUERY_BLOCK,
    computed_pairs,
    decoding_flops,
    forward_flops,
)

LENGTHS = st.integers(1, 5 * QUERY_BLOCK) | st.sampled_from([63, 64, 65, 127, 128, 129])


def block_ends(seq: int) -> list[int]:
    return [min(start + QUERY_BLOCK, seq) for start in range(0, seq, QUERY_BLOCK)]


@given(LENGTHS)
def test_blocks(seq: int) -> None:
    ends = block_ends(seq)
    pairs = sum((end - start) * end for start, end in zip([0, *ends], ends, strict=False))
    assert computed_pairs(seq) == pairs


@given(LENGTHS, st.integers(1, 600))
def test_decoding(prompt: int, new: int) -> None:
    config = ModelConfig(vocab_size=7, hidden_size=4, num_heads=2, num_layers=3)
    unembedding = new * 2 * 4 * 7
    again = sum(forward_flops(config, length).layers for length in range(prompt, prompt + new))
    assert decoding_flops(config, prompt, new, cached=False) == unembedding + again
    token = forward_flops(config, 1)
    later = sum(
        token.projections + token.feed_forward + 3 * 4 * keys * 4
        for keys in range(prompt + 1, prompt + new)
    )
    whole = unembedding + forward_flops(config, prompt).layers + later
    assert decoding_flops(config, prompt, new) == whole


def test_what_nobody_could_count_is_summed_at_once() -> None:
    config = ModelConfig(vocab_size=7, hidden_size=4, context_length=2**60)
    assert decoding_flops(config, 2**59, 2**59, cached=False) > 10**50
