"""What is planned of an encoder–decoder against what is counted and measured of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from tests.planning.measured import hold_activations, hold_flops, hold_parameters, hold_peak
from tinylm.config import ModelConfig
from tinylm.data.windows import Batch
from tinylm.generation.stepper import Stepper
from tinylm.model.base import build
from tinylm.planning.costs import halves
from tinylm.planning.flops import decoding_flops
from tinylm.planning.memory import kv_bytes
from tinylm.registry import ACTIVATIONS, POSITIONS


def configs() -> st.SearchStrategy[ModelConfig]:
    return st.builds(
        ModelConfig,
        kind=st.just("encoder-decoder"),
        vocab_size=st.integers(9, 40),
        context_length=st.integers(2, 12),
        num_layers=st.integers(1, 3),
        num_heads=st.integers(1, 3),
        head_dim=st.sampled_from([2, 4, 6]),
        hidden_size=st.integers(3, 20),
        ffn_size=st.integers(3, 20),
        dropout=st.sampled_from([0.0, 0.1]),
        norm_placement=st.sampled_from(["pre", "post"]),
        positions=st.sampled_from(list(POSITIONS)),
        activation=st.sampled_from(list(ACTIVATIONS)),
        tie_embeddings=st.booleans(),
        scale_embeddings=st.booleans(),
        bias=st.booleans(),
    )


def half_given(config: ModelConfig, batch: int, seq: int) -> Batch:
    ids, labels = torch.randint(4, config.resolved_vocab_size, (2, batch, seq))
    return Batch(ids.clone(), labels.clone(), given=torch.full((batch,), halves(seq)[0]))


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


@given(configs(), st.integers(1, 6), st.integers(1, 6), st.booleans())
def test_decoding_costs_what_torch_counts(
    config: ModelConfig, prompt: int, new: int, cached: bool
) -> None:
    prompt = min(prompt, config.context_length - 1)
    new = min(new, config.context_length - prompt)
    model = build(config).eval()
    stepper = Stepper(model, [list(range(prompt))], 0, use_cache=cached)
    with FlopCounterMode(display=False) as counter:
        for token in range(new):
            stepper.logits()
            stepper.append([token])
    assert counter.get_total_flops() == decoding_flops(config, prompt, new, cached)


@given(configs(), st.integers(1, 3))
def test_both_caches_are_as_large_as_planned(config: ModelConfig, batch: int) -> None:
    model = build(config).eval()
    state = model.decoding_state(batch)
    tokens = config.context_length
    source, written = halves(tokens)
    ids = torch.randint(4, 9, (batch, source))
    with torch.no_grad():
        model.residual(ids, given=torch.full((batch,), source), cache=state)
    assert state.source.num_bytes + state.written.num_bytes == state.num_bytes  # type: ignore[attr-defined]
    assert state.num_bytes == kv_bytes(config, batch, tokens)  # type: ignore[attr-defined]
    width = config.num_heads * config.resolved_head_dim
    numbers = config.num_layers * 2 * batch * width
    assert state.source.num_bytes == 4 * numbers * source  # type: ignore[attr-defined]
    assert state.written.num_bytes == 4 * numbers * written  # type: ignore[attr-defined]


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
@pytest.mark.parametrize("shape", [{}, {"hidden_size": 96, "context_length": 200}])
def test_the_estimated_peak_is_near_the_measured_one(
    shape: dict[str, Any], batch: int, settings: dict[str, Any]
) -> None:
    sizes = {"vocab_size": 1000, "num_layers": 2, "hidden_size": 192}
    config = ModelConfig(kind="encoder-decoder", **{**sizes, **shape})
    hold_peak(config, half_given(config, batch, config.context_length), **settings)
