"""Planned numbers against those of built models, torch's counter and worked examples."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from tinylm.config import GenerationConfig, ModelConfig, TrainingConfig
from tinylm.evaluation.memory import tensor_bytes
from tinylm.fast import attention, install
from tinylm.generation.engine import SpecialIds, generate
from tinylm.model.cache import KVCache
from tinylm.model.decoder import DecoderLM, layers_run_by
from tinylm.planning.budget import (
    compute_optimal_tokens,
    training_seconds,
    utilisation,
)
from tinylm.planning.flops import (
    QUERY_BLOCK,
    decoding_flops,
    flops_per_token,
    forward_flops,
    step_flops,
)
from tinylm.planning.memory import kv_bytes, state_bytes
from tinylm.planning.parameters import parameter_counts
from tinylm.training.optimizers import build_optimizer
from tinylm.training.recompute import recomputing

BASELINE = ModelConfig(vocab_size=10_000)


def configs() -> st.SearchStrategy[ModelConfig]:
    return st.builds(
        ModelConfig,
        vocab_size=st.integers(5, 60),
        context_length=st.integers(2, 12),
        num_layers=st.integers(1, 3),
        num_heads=st.integers(1, 3),
        hidden_size=st.integers(4, 20),
        head_dim=st.sampled_from([None, 4, 6]),
        ffn_size=st.sampled_from([None, 7]),
        positions=st.sampled_from(["sinusoidal", "learned"]),
        norm_placement=st.sampled_from(["pre", "post"]),
        tie_embeddings=st.booleans(),
        bias=st.booleans(),
        dropout=st.just(0.0),
    )


@given(configs())
def test_parameters_equal_the_built_models(config: ModelConfig) -> None:
    model = DecoderLM(config)
    assert parameter_counts(config) == model.parameter_counts()
    assert parameter_counts(config)["total"] == sum(p.numel() for p in model.parameters())


class NoModules:
    """Stands in for the counter's module hooks, which break ``autograd.grad`` in a backward."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def counted(work: Any) -> int:
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = NoModules()  # type: ignore[assignment]
    with counter:
        work()
    return int(counter.get_total_flops())


@given(configs(), st.integers(1, 3), st.booleans())
def test_flops_equal_torchs_counter(config: ModelConfig, batch: int, frozen: bool) -> None:
    model = DecoderLM(config)
    seq = config.context_length
    ids = torch.randint(0, config.resolved_vocab_size, (batch, seq))
    assert counted(lambda: model(ids)) == batch * forward_flops(config, seq).total
    if frozen and not config.tie_embeddings:
        model.embedding.weight.requires_grad_(False)
        assert counted(lambda: model(ids).sum().backward()) == batch * step_flops(
            config, seq, frozen_embedding=True
        )
    else:
        assert counted(lambda: model(ids).sum().backward()) == batch * step_flops(config, seq)


@pytest.mark.parametrize("seq", [64, 65, 150, 600])
def test_flops_of_attention_in_blocks_equal_torchs_counter(
    seq: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert attention._LOOP_BLOCK == QUERY_BLOCK
    monkeypatch.setattr(attention, "_BLOCK", QUERY_BLOCK)
    config = ModelConfig(
        vocab_size=9, context_length=seq, num_layers=2, num_heads=2, hidden_size=6, dropout=0.0
    )
    model = DecoderLM(config).double()  # in which the quick products are torch's own
    ids = torch.zeros(1, seq, dtype=torch.int64)
    assert counted(lambda: model(ids)) == forward_flops(config, seq, quick=False).total
    install(model)
    assert counted(lambda: model(ids)) == forward_flops(config, seq).total


def test_flops_of_recomputation_equal_torchs_counter() -> None:
    config = ModelConfig(
        vocab_size=31, context_length=8, num_layers=4, num_heads=2, hidden_size=12, dropout=0.0
    )
    model = DecoderLM(config)
    ids = torch.randint(0, 31, (2, 8))

    def step() -> None:
        with layers_run_by(model, recomputing(2)):
            model(ids).sum().backward()

    assert counted(step) == 2 * (step_flops(config, 8) + forward_flops(config, 8).layers)


@pytest.mark.parametrize("cached", [True, False])
def test_flops_of_decoding_equal_torchs_counter(cached: bool) -> None:
    config = ModelConfig(
        vocab_size=31, context_length=20, num_layers=2, num_heads=2, hidden_size=12, dropout=0.0
    )
    model = DecoderLM(config).eval()
    settings = GenerationConfig(
        strategy="greedy", max_new_tokens=9, min_new_tokens=9, linear="plain"
    )
    special = SpecialIds(0, 2, 3, 1)
    prompts = [[2, 7, 8, 9, 10]] * 3
    flops = counted(lambda: generate(model, prompts, settings, special, use_cache=cached))
    assert flops == 3 * decoding_flops(config, prompt=5, new=9, cached=cached)


def test_worked_numbers_of_the_baseline() -> None:
    """Layer by layer by hand: hidden 300, 8 heads of 38, inner 1200, vocabulary 10,000."""
    counts = parameter_counts(BASELINE)
    attention = 3 * (300 * 912 + 912 + 304 * 300 + 300)
    assert counts["attention"] == attention
    assert counts["embedding"] == 3_000_000
    assert counts["unembedding"] == 3_010_000
    token = 6 * (3 * (300 * 912 + 304 * 300 + 2 * 300 * 1200) + 300 * 10_000)
    scores = 3 * 3 * 4 * 64 * 304
    assert flops_per_token(BASELINE) == token + scores


@given(configs(), st.integers(1, 4), st.integers(1, 12))
def test_kv_bytes_equal_the_caches(config: ModelConfig, batch: int, tokens: int) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        cache = KVCache(config, batch, tokens, dtype=dtype)
        assert kv_bytes(config, batch, tokens, dtype.itemsize) == cache.num_bytes


@pytest.mark.parametrize("optimizer", ["adam", "torch-adamw", "sgd"])
def test_state_bytes_equal_those_of_a_step(optimizer: str) -> None:
    config = ModelConfig(vocab_size=31, context_length=8, num_heads=2, hidden_size=16)
    model = DecoderLM(config)
    built = build_optimizer(model, TrainingConfig(optimizer=optimizer))
    model(torch.randint(0, 31, (2, 8))).sum().backward()
    built.step()
    tensors = [*model.parameters(), *(p.grad for p in model.parameters() if p.grad is not None)]
    for state in built.state.values():
        tensors += [t for t in state.values() if isinstance(t, torch.Tensor) and t.dim() > 0]
    assert tensor_bytes(tensors) == state_bytes(config, optimizer)


def test_token_budget() -> None:
    # Chinchilla itself: 70 billion parameters, 1.4 trillion tokens.
    assert compute_optimal_tokens(70_000_000_000) == pytest.approx(1.4e12)


def test_time_and_utilisation_are_inverse() -> None:
    seconds = training_seconds(1e12, 1e11, 0.25)
    assert seconds == pytest.approx(40)
    assert utilisation(1e12, seconds, 1e11) == pytest.approx(0.25)
