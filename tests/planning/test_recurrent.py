"""What is planned of a recurrent model against what is counted and measured of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.planning.measured import (
    full_batch,
    hold_activations,
    hold_flops,
    hold_parameters,
    hold_peak,
)
from tinylm.config import ModelConfig
from tinylm.model.base import build
from tinylm.planning.flops import decoding_flops
from tinylm.planning.memory import kv_bytes

KINDS = ("rnn", "linear-rnn", "gru", "lstm")


def configs() -> st.SearchStrategy[ModelConfig]:
    return st.builds(
        ModelConfig,
        kind=st.sampled_from(KINDS),
        vocab_size=st.integers(9, 40),
        context_length=st.integers(2, 12),
        num_layers=st.integers(1, 3),
        hidden_size=st.integers(3, 20),
        dropout=st.sampled_from([0.0, 0.1]),
        tie_embeddings=st.booleans(),
        scale_embeddings=st.booleans(),
        bias=st.booleans(),
    )


@given(configs())
def test_parameters_are_those_of_the_built_model(config: ModelConfig) -> None:
    hold_parameters(config)


@given(
    config=configs(),
    batch=st.integers(1, 4),
    precision=st.sampled_from(["fp32", "bf16"]),
    segment=st.integers(0, 3),
    frozen=st.booleans(),
    quick=st.booleans(),
)
def test_activations_are_those_that_autograd_saves(
    config: ModelConfig, batch: int, precision: str, segment: int, frozen: bool, quick: bool
) -> None:
    windows = full_batch(config, batch, config.context_length)
    hold_activations(config, windows, precision, segment, frozen, quick)


@given(configs(), st.integers(1, 3), st.booleans())
def test_flops_are_those_that_torch_counts(config: ModelConfig, batch: int, frozen: bool) -> None:
    hold_flops(config, full_batch(config, batch, config.context_length), frozen)


def test_decoding_costs_the_same_wherever_a_token_stands() -> None:
    config = ModelConfig(kind="gru", vocab_size=30, hidden_size=8, num_layers=2)
    costs = [decoding_flops(config, 5, new) for new in (1, 2, 3, 40)]
    assert costs[1] - costs[0] == costs[2] - costs[1] == (costs[3] - costs[2]) // 37
    layers, logits = 2 * 2 * 2 * 3 * 64, 2 * 8 * 30
    assert costs[0] == 5 * layers + logits
    again = sum(n * layers for n in range(5, 5 + 40)) + 40 * logits
    assert decoding_flops(config, 5, 40, cached=False) == again


@given(configs(), st.integers(1, 3), st.integers(1, 9))
def test_the_state_is_as_large_as_planned(config: ModelConfig, batch: int, tokens: int) -> None:
    model = build(config).eval()
    state = model.decoding_state(batch)
    ids = torch.randint(4, 9, (batch, min(tokens, config.context_length)))
    with torch.no_grad():
        model.residual(ids, cache=state)
    assert state.num_bytes == kv_bytes(config, batch, tokens)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("batch", "settings"),
    [
        (16, {}),
        (16, {"precision": "bf16"}),
        (16, {"gradient_checkpointing": 1}),
        (16, {"speed": "plain"}),
        (4, {"accumulation_steps": 2}),
        (1, {"optimizer": "sgd"}),
    ],
)
@pytest.mark.parametrize("shape", [{}, {"hidden_size": 96, "context_length": 200, "num_layers": 3}])
def test_the_estimated_peak_is_near_the_measured_one(
    kind: str, shape: dict[str, Any], batch: int, settings: dict[str, Any]
) -> None:
    sizes = {"vocab_size": 1000, "num_layers": 2, "hidden_size": 192}
    config = ModelConfig(kind=kind, **{**sizes, **shape})
    hold_peak(config, full_batch(config, batch, config.context_length), **settings)
