"""The experiments on cost: exponents, what is measured and planned, and number formats."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.tiny import tiny_run, tiny_windows
from tinylm.config import RunConfig, load_config
from tinylm.errors import TrainingError
from tinylm.experiments.context import Context, run_experiment
from tinylm.experiments.efficiency import measure as efficiency
from tinylm.experiments.efficiency.settings import EfficiencyExperiment
from tinylm.experiments.growth import exponent, random_batch, resized, sizes
from tinylm.experiments.precision import measure as precision
from tinylm.experiments.precision.settings import PrecisionExperiment
from tinylm.language_model import LanguageModel
from tinylm.model.decoder import DecoderLM
from tinylm.training.step import TrainingStep


def with_settings(context: Context, **settings: Any) -> Context:
    config: RunConfig = context.config
    experiments = replace(config.experiments, **settings)
    return replace(context, config=replace(config, experiments=experiments))


@pytest.mark.parametrize("power", [-0.5, 0.0, 1.0, 2.3])
def test_the_exponent_of_a_power_is_found(power: float) -> None:
    places = [3, 8, 20, 100]
    assert exponent(places, [7 * n**power for n in places]) == pytest.approx(power, abs=1e-12)


def test_one_size_has_no_exponent() -> None:
    assert math.isnan(exponent([4], [1.0]))
    assert math.isnan(exponent([4, 4], [1.0, 2.0]))


@pytest.mark.parametrize("name", ["batch_size", "context_length", "num_layers", "vocab_size"])
def test_one_size_is_changed_and_no_other(name: str) -> None:
    config = load_config(overrides=["model.vocab_size=50"])
    other = resized(config, name, 9)
    assert sizes(other) == sizes(config) | {name: 9}


def test_random_tokens_are_none_of_the_special_ones() -> None:
    config = load_config(overrides=["model.vocab_size=7", "model.context_length=20"])
    batch = random_batch(config)
    assert batch.ids.shape == batch.labels.shape == (32, 20)
    assert set(batch.ids.unique().tolist()) == {4, 5, 6}
    assert batch.real is None


def test_costs_are_measured_beside_planned(tiny_context: Context) -> None:
    shown: list[float] = []

    class Counting(type(tiny_context.console)):  # type: ignore[misc]
        def task(self, description: str, total: float | None = None) -> Any:
            from contextlib import nullcontext

            assert total == 2 * (1 + 2 + 1 + 2 + 2)
            return nullcontext(shown.append)

    context = with_settings(
        replace(tiny_context, console=Counting()),
        efficiency=EfficiencyExperiment((2, 4), (8,), (1, 2), (40, 160), repeats=1),
    )
    threads = torch.get_num_threads()
    result = efficiency.run(context)
    assert torch.get_num_threads() == threads
    assert shown == sorted(shown) and shown[-1] == 16
    own = result["own"]
    for key in ("parameters", "flops_per_token", "saved_bytes", "kv_bytes"):
        assert own["measured"][key] == own["planned"][key], key
    assert own["utilisation"] == pytest.approx(own["least_seconds"] / own["step"]["median_s"])
    assert [series["varied"] for series in result["growth"]] == [
        *("batch_size", "context_length", "num_layers", "vocab_size")
    ]
    batch, context_length, layers, _ = result["growth"]
    assert [row["batch_size"] for row in batch["rows"]] == [2, 4]
    assert batch["exponents"]["step"]["planned"] == pytest.approx(1)
    assert context_length["exponents"]["step"] == {"measured": None, "planned": None}
    for series in result["growth"]:
        for row in series["rows"]:
            assert row["measured"]["saved_bytes"] == row["planned"]["saved_bytes"]
            assert row["measured"]["step"] > 0 and row["measured"]["generation"] > 0
    fitted = layers["exponents"]["saved_bytes"]
    assert fitted["measured"] == fitted["planned"]
    json.dumps(result, allow_nan=False)


# --- number formats ---


def test_the_same_training_in_two_formats(tiny_context: Context) -> None:
    context = with_settings(tiny_context, precision=PrecisionExperiment(6, 4))
    result = precision.run(context)
    plain, low = result["trained"]["fp32"], result["trained"]["bf16"]
    assert len(plain["curve"]) == len(low["curve"]) == 6
    assert plain["curve"] != low["curve"]
    # The first loss comes from the same weights, windows and masks.
    assert low["curve"][0] == pytest.approx(plain["curve"][0], rel=1e-3)
    assert low["curve"] == pytest.approx(plain["curve"], rel=0.01)
    assert plain["curve"][-1] < plain["curve"][0]
    assert 0 < result["loss_difference"] < precision.LOSS_TOLERANCE
    value, low_end, high_end = result["loss_change"]
    assert value == pytest.approx(low["validation_loss"] - plain["validation_loss"], abs=1e-9)
    assert low_end < value < high_end
    assert result["failed"] == []
    for parts in result["agreement"].values():
        assert set(parts) == {
            *("all", "embedding", "attention", "norms", "feed-forward", "unembedding")
        }
        for part in parts.values():
            assert 0 < part["error"] < precision.ERROR_TOLERANCE
            # However long the other gradient is, it is no nearer than along the shortest way.
            assert 1 - part["cosine"] ** 2 <= part["error"] ** 2 * (1 + 1e-6)
        # The two whole gradients have nearly the same length, so that one follows from the other.
        whole = parts["all"]
        assert 1 - whole["cosine"] == pytest.approx(whole["error"] ** 2 / 2, rel=0.05)
    json.dumps(result, allow_nan=False)


def test_training_in_float32_is_that_of_a_run(tmp_path: Path) -> None:
    """Same start, windows, rates and clipping: without dropout the losses are the run's own."""
    context = tiny_run(
        tmp_path / "run",
        tmp_path / "cache",
        *("model.dropout=0.0", "training.max_steps=5", "training.log_interval=1"),
        *("training.schedule=cosine", "training.warmup_steps=2", "training.accumulation_steps=2"),
        "training.learning_rate=1e-2",
    )
    logged = run_experiment("training", context)["curve"]
    context = with_settings(context, precision=PrecisionExperiment(5, 2))
    curve = precision.run(context)["trained"]["fp32"]["curve"]
    assert curve == pytest.approx([record["loss"] for record in logged], rel=1e-6)


def agreement(**parts: tuple[float, float]) -> dict[str, Any]:
    return {
        "start": {"all": {"cosine": 1.0, "error": 0.0}},
        "end": {name: {"cosine": pair[0], "error": pair[1]} for name, pair in parts.items()},
    }


@pytest.mark.parametrize(
    ("difference", "end", "failed"),
    [
        (0.005, {"all": (0.98, 0.2)}, []),
        (0.0051, {"all": (1.0, 0.0)}, ["loss"]),
        (math.nan, {"all": (1.0, 0.0)}, ["loss"]),
        (0.0, {"all": (1.0, 0.0), "norms": (0.979, 0.1)}, ["gradient at the end"]),
        (0.0, {"all": (1.0, 0.0), "norms": (0.99, 0.21)}, ["gradient at the end"]),
        (0.0, {"all": (math.nan, math.nan)}, ["gradient at the end"]),
    ],
)
def test_what_is_outside_the_tolerances(
    difference: float, end: dict[str, tuple[float, float]], failed: list[str]
) -> None:
    assert precision.outside(difference, agreement(**end)) == failed


def test_the_model_is_left_alone_and_a_missing_gradient_is_refused(
    tiny_lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(overrides=["training.device=cpu"])
    model: DecoderLM = tiny_lm.model
    batch = tiny_windows(tmp_path, 8).batch([0, 1])
    batch = replace(batch, ids=batch.ids % model.config.resolved_vocab_size)
    before, state = [p.clone() for p in model.parameters()], torch.get_rng_state()
    precision.gradient_agreement(config, model, batch)
    assert all(map(torch.equal, before, model.parameters()))
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)

    original = TrainingStep.backward

    def losing(self: TrainingStep, batches: Any) -> Any:
        gradients = original(self, batches)
        if self.precision == "bf16":
            self.model.embedding.weight.grad = None
        return gradients

    monkeypatch.setattr(TrainingStep, "backward", losing)
    with pytest.raises(TrainingError, match=r"embedding\.weight has a gradient in fp32 or bf16"):
        precision.gradient_agreement(config, model, batch)
