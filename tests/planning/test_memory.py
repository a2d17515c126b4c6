"""Planned bytes of a training step against those that are measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.planning.measured import full_batch, hold_activations, hold_peak, step_of
from tinylm.config import ModelConfig, TrainingConfig
from tinylm.evaluation.memory import saved_bytes
from tinylm.fast import loops
from tinylm.planning.activations import activation_bytes
from tinylm.planning.memory import largest_batch, step_peak
from tinylm.registry import ACTIVATIONS, POSITIONS


def configs() -> st.SearchStrategy[ModelConfig]:
    return st.builds(
        ModelConfig,
        vocab_size=st.integers(9, 40),
        context_length=st.integers(2, 16),
        num_layers=st.integers(1, 4),
        num_heads=st.integers(1, 4),
        hidden_size=st.integers(3, 20),
        head_dim=st.sampled_from([2, 4, 6]),
        ffn_size=st.sampled_from([None, 7]),
        dropout=st.sampled_from([0.0, 0.1]),
        positions=st.sampled_from(list(POSITIONS)),
        norm_placement=st.sampled_from(["pre", "post"]),
        activation=st.sampled_from(list(ACTIVATIONS)),
        tie_embeddings=st.booleans(),
        bias=st.booleans(),
    )


@given(
    config=configs(),
    batch=st.integers(1, 4),
    shorter=st.integers(0, 3),
    precision=st.sampled_from(["fp32", "bf16"]),
    segment=st.integers(0, 3),
    frozen=st.booleans(),
    quick=st.booleans(),
)
def test_activations_are_those_that_autograd_saves(
    config: ModelConfig,
    batch: int,
    shorter: int,
    precision: str,
    segment: int,
    frozen: bool,
    quick: bool,
) -> None:
    windows = full_batch(config, batch, max(1, config.context_length - shorter))
    hold_activations(config, windows, precision, segment, frozen, quick)


@pytest.mark.parametrize("seq", [64, 150, 300])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("positions", "batch"), [("sinusoidal", 2), ("rotary", 2), ("rotary", 1), ("alibi", 2)]
)
@pytest.mark.parametrize("quick", [False, True])
def test_activations_of_attention_in_blocks(
    seq: int, precision: str, positions: str, batch: int, quick: bool
) -> None:
    speed = "auto" if quick and loops.available() else "plain"
    config = ModelConfig(
        vocab_size=9,
        context_length=seq,
        num_layers=1,
        num_heads=2,
        hidden_size=6,
        head_dim=4,
        positions=positions,
    )
    step, _ = step_of(config, precision=precision, speed=speed)
    windows = full_batch(config, batch, seq)
    measured = saved_bytes(lambda: step.loss(windows)[0], step.model.parameters())
    assert (
        activation_bytes(config, batch, precision=precision, quick=speed == "auto")["total"]
        == measured
    )


def test_a_layer_by_hand() -> None:
    """2 windows of 8 tokens, hidden 6, 2 heads of 3, inner 24, in float32, no dropout."""
    config = ModelConfig(
        vocab_size=30, context_length=8, num_layers=1, num_heads=2, hidden_size=6, dropout=0.0
    )
    assert activation_bytes(config, 2) == {
        "embedding": 16 * 8,  # the ids
        "dropout": 0,
        "norms": 2 * (2 * 16 * 6 + 16) * 4,
        "loss": (16 * 6 + 16 * 30) * 4 + 16 * 8,  # input, log-probabilities, labels
        "projections": (16 * 6 + 3 * 16 * 6 + 16 * 6) * 4,
        "pattern": 2 * 2 * 8 * 8 * 4,
        "feed-forward": (16 * 6 + 16 * 24) * 4,
        "copies": 0,
        "total": 128 + 1664 + 2432 + 1920 + 1024 + 1920,
    }


SHAPES: tuple[dict[str, Any], ...] = (
    {},
    {"hidden_size": 128, "num_heads": 4, "context_length": 128, "dropout": 0.0},
    {"activation": "gelu", "norm_placement": "pre", "num_layers": 4, "positions": "rotary"},
    {"vocab_size": 3000, "tie_embeddings": True, "positions": "learned"},
)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("batch", "settings"),
    [
        (16, {}),
        (16, {"precision": "bf16"}),
        (16, {"gradient_checkpointing": 1}),
        (16, {"speed": "plain"}),
        (4, {"speed": "plain", "precision": "bf16", "accumulation_steps": 2}),
        (1, {"optimizer": "sgd"}),
        (4, {"accumulation_steps": 2}),
    ],
)
def test_the_estimated_peak_is_near_the_measured_one(
    shape: dict[str, Any], batch: int, settings: dict[str, Any]
) -> None:
    sizes = {"vocab_size": 1000, "num_layers": 2, "num_heads": 8, "hidden_size": 192}
    config = ModelConfig(**{**sizes, **shape})
    hold_peak(config, full_batch(config, batch, config.context_length), **settings)


def test_a_frozen_embedding_has_neither_gradient_nor_moments() -> None:
    config, training = ModelConfig(vocab_size=10_000), TrainingConfig(batch_size=1)
    whole, frozen = step_peak(config, training), step_peak(config, training, frozen_embedding=True)
    table = 4 * 10_000 * 300
    assert whole.moments - frozen.moments == 2 * table
    assert whole.weights == frozen.weights
    assert whole.total - frozen.total >= 2 * table


@given(configs(), st.integers(1, 40), st.integers(0, 2))
def test_the_largest_batch_fits_and_one_more_does_not(
    config: ModelConfig, batch: int, segment: int
) -> None:
    training = TrainingConfig(batch_size=batch, gradient_checkpointing=segment)
    memory = step_peak(config, training).total
    most = largest_batch(config, training, memory)
    assert most >= batch
    assert step_peak(config, replace(training, batch_size=most)).total <= memory
    assert step_peak(config, replace(training, batch_size=most + 1)).total > memory
    weights = step_peak(config, training).weights
    assert largest_batch(config, training, weights) == 0
    assert largest_batch(config, training, float("inf")) > 2**60
