"""What is planned of an encoder–decoder against what is counted and measured of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from tests.planning.test_recurrent import NEAR, step_of
from tinylm.config import ModelConfig
from tinylm.data.windows import Batch
from tinylm.evaluation.memory import peak_bytes, resting_bytes, saved_bytes
from tinylm.fast import loops
from tinylm.generation.stepper import Stepper
from tinylm.model.base import build
from tinylm.planning.activations import activation_bytes
from tinylm.planning.encoder_decoder import halves
from tinylm.planning.flops import decoding_flops, forward_flops, step_flops
from tinylm.planning.memory import kv_bytes, step_peak
from tinylm.planning.parameters import parameter_counts
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
    windows = half_given(config, batch, config.context_length)
    measured = saved_bytes(lambda: step.loss(windows)[0], step.model.parameters())
    parts = activation_bytes(config, batch, None, precision, segment, frozen, speed == "auto")
    assert parts.pop("total") == sum(parts.values()) == measured


@given(configs(), st.integers(1, 3), st.booleans())
def test_flops_are_those_that_torch_counts(config: ModelConfig, batch: int, frozen: bool) -> None:
    frozen = frozen and not config.tie_embeddings
    seq = config.context_length
    model = build(config)
    model.embedding.weight.requires_grad_(not frozen)
    windows = half_given(config, batch, seq)

    def counted(run: Any) -> int:
        with FlopCounterMode(display=False) as counter:
            run()
        return int(counter.get_total_flops())

    def logits() -> torch.Tensor:
        return model.unembed(model.read(windows))

    assert counted(logits) == batch * forward_flops(config, seq).total
    assert counted(lambda: logits().sum().backward()) == batch * step_flops(config, seq, frozen)


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
    step, training = step_of(config, batch_size=batch, **settings)
    windows = half_given(config, batch, config.context_length)
    batches = [windows] * training.accumulation_steps

    def take() -> None:
        step.backward(batches)
        step.update()

    take()
    step.optimizer.zero_grad(set_to_none=True)
    measured = resting_bytes(step.model, step.optimizer) + peak_bytes(take)
    estimated = step_peak(config, training)
    assert estimated.total == pytest.approx(measured, rel=NEAR)
