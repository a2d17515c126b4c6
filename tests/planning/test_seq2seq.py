"""What is planned of a sequence-to-sequence model against what is counted and measured of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from tests.planning.measured import hold_activations, hold_flops, hold_parameters, hold_peak
from tinylm.config import ModelConfig
from tinylm.data.windows import IGNORED, Batch
from tinylm.model.base import build
from tinylm.planning.costs import halves
from tinylm.planning.flops import decoding_flops
from tinylm.planning.memory import kv_bytes

KINDS = ("seq2seq-additive", "seq2seq-multiplicative")


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


def half_given(config: ModelConfig, batch: int, seq: int) -> Batch:
    """Half of every row is its source."""
    ids, labels = torch.randint(4, config.resolved_vocab_size, (2, batch, seq))
    given_ = torch.full((batch,), halves(seq)[0])
    labels = labels.masked_fill(torch.arange(seq) < given_[:, None] - 1, IGNORED)
    return Batch(ids.clone(), labels, given=given_)


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
    windows = half_given(config, batch, config.context_length)
    hold_activations(config, windows, precision, segment, frozen, quick)


@given(configs(), st.integers(1, 3), st.booleans())
def test_flops_are_those_that_torch_counts(config: ModelConfig, batch: int, frozen: bool) -> None:
    hold_flops(config, half_given(config, batch, config.context_length), frozen)


@given(configs(), st.integers(1, 8), st.integers(1, 6), st.booleans())
def test_decoding_costs_what_torch_counts(
    config: ModelConfig, prompt: int, new: int, cached: bool
) -> None:
    config = replace(config, context_length=20)
    model = build(config).eval()
    row = torch.randint(4, config.resolved_vocab_size, (1, prompt + new))
    source = torch.tensor([prompt])
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        state = model.decoding_state(1) if cached else None
        for read in range(prompt, prompt + new):
            ids = row[:, read - 1 : read] if cached and read > prompt else row[:, :read]
            x = model.residual(ids, given=source, cache=state)
            model.unembed(x[:, -1])
    assert counter.get_total_flops() == decoding_flops(config, prompt, new, cached)


@given(configs(), st.integers(1, 3), st.integers(1, 9))
def test_the_state_is_as_large_as_planned(config: ModelConfig, batch: int, tokens: int) -> None:
    model = build(config).eval()
    state = model.decoding_state(batch)
    tokens = min(tokens, config.context_length)
    ids = torch.randint(4, 9, (batch, tokens))
    with torch.no_grad():
        model.residual(ids, given=torch.full((batch,), halves(tokens)[0]), cache=state)
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
    hold_peak(config, half_given(config, batch, config.context_length), **settings)
