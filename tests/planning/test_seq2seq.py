"""What is planned of a sequence-to-sequence model against what is counted and measured of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from tinylm.config import ModelConfig, TrainingConfig
from tinylm.data.windows import IGNORED, Batch
from tinylm.evaluation.memory import peak_bytes, resting_bytes, saved_bytes
from tinylm.fast import loops
from tinylm.model.base import build
from tinylm.planning.activations import activation_bytes
from tinylm.planning.flops import decoding_flops, forward_flops, step_flops
from tinylm.planning.memory import kv_bytes, step_peak
from tinylm.planning.parameters import parameter_counts
from tinylm.planning.seq2seq import parts_of
from tinylm.tasks.language_modelling import next_token_loss
from tinylm.training.step import TrainingStep

KINDS = ("seq2seq-additive", "seq2seq-multiplicative")
NEAR = 0.15


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


def step_of(
    config: ModelConfig, frozen: bool = False, **settings: Any
) -> tuple[TrainingStep, TrainingConfig]:
    training = TrainingConfig(device="cpu", keep_freed_memory=False, **settings)
    model = build(config)
    model.embedding.weight.requires_grad_(not frozen)
    return TrainingStep(model.train(), next_token_loss, training), training


def full_batch(config: ModelConfig, batch: int, seq: int) -> Batch:
    """Half of every row is its source."""
    ids, labels = torch.randint(4, config.resolved_vocab_size, (2, batch, seq))
    given_ = torch.full((batch,), parts_of(seq)[0])
    labels = labels.masked_fill(torch.arange(seq) < given_[:, None] - 1, IGNORED)
    return Batch(ids.clone(), labels, given=given_)


@given(configs())
def test_parameters_are_those_of_the_built_model(config: ModelConfig) -> None:
    model = build(config)
    assert parameter_counts(config) == model.parameter_counts()
    assert model.parameter_counts()["total"] == sum(p.numel() for p in model.parameters())


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
    speed = "auto" if quick and loops.available() else "plain"
    frozen = frozen and not config.tie_embeddings
    step, _ = step_of(
        config, frozen, precision=precision, gradient_checkpointing=segment, speed=speed
    )
    windows = full_batch(config, batch, config.context_length)
    measured = saved_bytes(lambda: step.loss(windows)[0], step.model.parameters())
    parts = activation_bytes(config, batch, None, precision, segment, frozen, speed == "auto")
    assert parts.pop("total") == sum(parts.values()) == measured


@given(configs(), st.integers(1, 3), st.booleans())
def test_flops_are_those_that_torch_counts(config: ModelConfig, batch: int, frozen: bool) -> None:
    frozen = frozen and not config.tie_embeddings
    seq = config.context_length
    model = build(config)
    model.embedding.weight.requires_grad_(not frozen)
    ids = torch.randint(4, config.resolved_vocab_size, (batch, seq))
    source = torch.full((batch,), parts_of(seq)[0])

    def counted(run: Any) -> int:
        with FlopCounterMode(display=False) as counter:
            run()
        return int(counter.get_total_flops())

    assert counted(lambda: model(ids, given=source)) == batch * forward_flops(config, seq).total
    assert counted(lambda: model(ids, given=source).sum().backward()) == batch * step_flops(
        config, seq, frozen
    )


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
        model.residual(ids, given=torch.full((batch,), parts_of(tokens)[0]), cache=state)
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
    step, training = step_of(config, batch_size=batch, **settings)
    windows = full_batch(config, batch, config.context_length)
    batches = [windows] * training.accumulation_steps

    def take() -> None:
        step.backward(batches)
        step.update()

    take()
    step.optimizer.zero_grad(set_to_none=True)
    measured = resting_bytes(step.model, step.optimizer) + peak_bytes(take)
    estimated = step_peak(config, training)
    assert estimated.total == pytest.approx(measured, rel=NEAR)
