"""What is planned of other masks than the causal one against what is counted and measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from tests.planning.measured import (
    hold_activations,
    hold_flops,
    hold_parameters,
    hold_peak,
    step_of,
)
from tinylm.config import ModelConfig
from tinylm.data.views import VIEWS
from tinylm.data.windows import Batch
from tinylm.evaluation.memory import saved_bytes
from tinylm.fast import loops
from tinylm.generation.stepper import Stepper
from tinylm.model.base import build
from tinylm.planning.activations import activation_bytes, layer_activation_bytes
from tinylm.planning.flops import decoding_flops, forward_flops
from tinylm.planning.limits import model_parts
from tinylm.planning.memory import kv_bytes
from tinylm.planning.parameters import parameter_counts
from tinylm.registry import ACTIVATIONS, MODELS, POSITIONS

KINDS = ("prefix-lm", "masked")


def configs() -> st.SearchStrategy[ModelConfig]:
    return st.builds(
        ModelConfig,
        kind=st.sampled_from(KINDS),
        vocab_size=st.integers(9, 40),
        context_length=st.integers(2, 16),
        num_layers=st.integers(1, 3),
        num_heads=st.integers(1, 3),
        hidden_size=st.integers(3, 20),
        head_dim=st.sampled_from([2, 4]),
        ffn_size=st.sampled_from([None, 7]),
        dropout=st.sampled_from([0.0, 0.1]),
        positions=st.sampled_from(list(POSITIONS)),
        norm_placement=st.sampled_from(["pre", "post"]),
        activation=st.sampled_from(list(ACTIVATIONS)),
        tie_embeddings=st.booleans(),
        bias=st.booleans(),
    )


def planned_batch(config: ModelConfig, batch: int, seq: int) -> Batch:
    """Windows of which half are given, or some tokens hidden, as planning counts them."""
    ids, labels = torch.randint(4, config.resolved_vocab_size, (2, batch, seq))
    source = torch.full((batch,), max(1, seq // 2))
    hidden = torch.rand(batch, seq) < 0.3
    if MODELS.load(config.kind).view == "hidden":
        return Batch(ids.clone(), labels.clone(), hidden=hidden)
    return Batch(ids.clone(), labels.clone(), given=source)


@given(configs())
def test_parameters_are_those_of_the_built_model(config: ModelConfig) -> None:
    hold_parameters(config)


@settings(max_examples=60)
@given(configs(), st.integers(1, 3), st.integers(0, 2), st.booleans(), st.booleans())
def test_activations_are_those_that_autograd_saves(
    config: ModelConfig, batch: int, segment: int, frozen: bool, quick: bool
) -> None:
    windows = planned_batch(config, batch, config.context_length)
    hold_activations(config, windows, "fp32", segment, frozen, quick)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seq", [64, 150, 300])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("quick", [False, True])
def test_activations_and_flops_of_attention_in_blocks(
    kind: str, seq: int, precision: str, quick: bool
) -> None:
    speed = "auto" if quick and loops.available() else "plain"
    config = ModelConfig(
        kind=kind,
        vocab_size=9,
        context_length=seq,
        num_layers=2,
        num_heads=2,
        hidden_size=6,
        head_dim=4,
    )
    step, _ = step_of(config, precision=precision, speed=speed)
    windows = planned_batch(config, 2, seq)
    measured = saved_bytes(lambda: step.loss(windows)[0], step.model.parameters())
    planned = activation_bytes(config, 2, precision=precision, quick=speed == "auto")
    assert planned["total"] == measured
    layer = layer_activation_bytes(config, 2, precision=precision, quick=speed == "auto")
    assert planned["pattern"] == 2 * layer["pattern"]


@given(configs(), st.integers(1, 3), st.booleans())
def test_flops_are_those_that_torch_counts(config: ModelConfig, batch: int, frozen: bool) -> None:
    hold_flops(config, planned_batch(config, batch, config.context_length), frozen)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize(("prompt", "new"), [(1, 5), (7, 1), (30, 34)])
def test_decoding_costs_what_it_is_counted_to(
    kind: str, cached: bool, prompt: int, new: int
) -> None:
    config = ModelConfig(
        kind=kind, vocab_size=9, context_length=70, num_layers=2, num_heads=2, hidden_size=8
    )
    stepper = Stepper(
        build(config).eval(), [[4, 5] * (prompt // 2) + [6] * (prompt % 2)], 0, cached
    )
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        for token in torch.randint(4, 9, (new,)).tolist():
            stepper.logits()
            stepper.append([token])
    # Up to one block of queries the planned, quick model computes what the plain one does.
    assert counter.get_total_flops() == decoding_flops(config, prompt, new, cached)


def test_the_source_of_a_prompt_is_paid_once_with_a_cache() -> None:
    """200 tokens of source: blocks of 64 queries that see 200 keys, not 64, 128 and 192."""
    sizes: dict[str, Any] = {"vocab_size": 9, "hidden_size": 8, "num_layers": 2, "num_heads": 2}
    decoder = ModelConfig(context_length=400, **sizes)
    prefix = ModelConfig(kind="prefix-lm", context_length=400, **sizes)
    more = 64 * ((200 - 64) + (200 - 128) + (200 - 192)) * 2 * 2 * 2 * 8
    for cached, reads in ((True, 1), (False, 30)):
        apart = decoding_flops(prefix, 200, 30, cached) - decoding_flops(decoder, 200, 30, cached)
        assert apart == reads * more
    assert decoding_flops(prefix, 60, 30) == decoding_flops(decoder, 60, 30)
    assert kv_bytes(prefix, 3, 50) == kv_bytes(decoder, 3, 50)
    apart = forward_flops(prefix, 400).total - forward_flops(decoder, 400).total
    assert apart == more  # half of the row is the source


def test_a_masked_model_by_hand() -> None:
    """One layer, one head of 4, hidden 4, inner 16, 9 types: each token reads all before it."""
    config = ModelConfig(
        kind="masked", vocab_size=9, hidden_size=4, num_layers=1, num_heads=1, context_length=50
    )

    def read(places: int) -> int:
        projections, feed = 4 * 4 * 4, 2 * 4 * 16
        return 2 * places * (projections + feed) + 2 * 2 * places**2 * 4

    expected = sum(read(tokens + 1) + 2 * 4 * 9 for tokens in (10, 11, 12))
    assert decoding_flops(config, 10, 3) == decoding_flops(config, 10, 3, False) == expected
    assert forward_flops(config, 10).total == read(11) + 10 * 2 * 4 * 9
    assert kv_bytes(config, 3, 50) == 3 * 50 * 8
    assert parameter_counts(config)["mask"] == 4
    longer = replace(config, kind="decoder", context_length=51)  # the added place has a position
    assert model_parts(config)["positions"] == model_parts(longer)["positions"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("context", [64, 200])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"precision": "bf16"},
        {"gradient_checkpointing": 1},
        {"speed": "plain"},
        {"accumulation_steps": 2},
    ],
)
def test_the_estimated_peak_is_near_the_measured_one(
    kind: str, context: int, changes: dict[str, Any]
) -> None:
    config = ModelConfig(
        kind=kind,
        vocab_size=1000,
        num_layers=2,
        num_heads=8,
        hidden_size=192,
        context_length=context,
    )
    hold_peak(config, planned_batch(config, 16, context), **changes)


def test_every_view_is_one_of_a_kind() -> None:
    assert {MODELS.load(name).view for name in MODELS} == set(VIEWS)
