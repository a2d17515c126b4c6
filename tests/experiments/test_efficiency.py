"""The experiments on cache, accumulation and gradient checkpointing, on a run of a few seconds."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats

from tests.training.tiny import tiny_run
from tinylm import folders
from tinylm.config import (
    RunConfig,
)
from tinylm.data.windows import TokenWindows
from tinylm.errors import ConfigError
from tinylm.evaluation.perplexity import split_loss
from tinylm.experiments.accumulation import measure as accumulation
from tinylm.experiments.accumulation.settings import AccumulationExperiment
from tinylm.experiments.context import Context, run_experiment
from tinylm.experiments.gradient_checkpointing import measure as gradient_checkpointing
from tinylm.experiments.gradient_checkpointing.settings import GradientCheckpointingExperiment
from tinylm.experiments.kv_cache import measure as kv_cache
from tinylm.experiments.kv_cache.settings import KVCacheExperiment
from tinylm.experiments.preparation import prepare_data
from tinylm.experiments.training.measure import StoppedBySignalError
from tinylm.experiments.trials import Remedy, train_trial
from tinylm.language_model import LanguageModel
from tinylm.training.loop import Trainer
from tinylm.training.tracking import read_metrics


def with_settings(context: Context, **settings: Any) -> Context:
    config: RunConfig = context.config
    return replace(
        context, config=replace(config, experiments=replace(config.experiments, **settings))
    )


# --- KV cache ---


def test_the_cache_changes_no_text_and_takes_what_the_formula_says(tiny_context: Context) -> None:
    context = with_settings(tiny_context, kv_cache=KVCacheExperiment(4, 40, 1))
    result = kv_cache.run(context)
    samples = result["samples"]
    assert samples["identical"]
    assert samples["batch"] == 4
    for name in ("cached", "uncached"):
        assert samples[name]["tokens_per_second"] == pytest.approx(
            samples["tokens"] / samples[name]["median_s"]
        )
    growth = result["growth"]
    assert growth["lengths"] == [16, 32, 40]
    for name in ("cached", "uncached"):
        totals = growth[name]["total_s"]
        assert totals == sorted(totals)
        assert totals[0] > 0
        assert len(growth[name]["step_ms"]) == 3
        assert math.isfinite(growth[name]["exponent"][0])
        assert [timing["median_s"] for timing in growth[name]["totals"]] == totals
    # layers x 2 x heads x head_dim x bytes of a number: 1 x 2 x 2 x 8 x 4
    assert result["formula"]["kv_bytes_per_token"] == 128
    for row in result["memory"]:
        assert row["measured_bytes"] == row["formula_bytes"] == 4 * row["tokens"] * 128


@pytest.mark.parametrize("settings", [(10**12, 40), (4, 10**12)])
def test_texts_that_cannot_be_together_are_refused(
    tiny_context: Context, settings: tuple[int, int]
) -> None:
    context = with_settings(tiny_context, kv_cache=KVCacheExperiment(*settings, 1))
    with pytest.raises(ConfigError, match=r"of memory \(.*lower experiments\.kv_cache\.samples or"):
        kv_cache.run(context)


def test_exponents_are_those_of_the_curves() -> None:
    linear = kv_cache._curves([[0.1] * 64], [16, 64], 16)
    assert linear["exponent"] == [pytest.approx(1), None, None]
    assert linear["step_ms"] == pytest.approx([100, 100])
    # A step that costs as much as the text is long sums to n (n + 1) / 2.
    growing = kv_cache._curves([[float(n) for n in range(1, 1001)]], [16, 1000], 250)
    assert growing["exponent"][0] == pytest.approx(2, abs=0.01)
    assert growing["total_s"] == [16 * 17 / 2, 1000 * 1001 / 2]


def test_medians_are_taken_over_the_rounds() -> None:
    curves = kv_cache._curves([[1.0] * 16, [2.0] * 16, [9.0] * 16], [16], 4)
    assert curves["total_s"] == [32]
    assert curves["step_ms"] == [2000]
    assert curves["steps"][0]["seconds"] == [1, 2, 9]


def test_the_interval_of_an_exponent_is_that_of_the_rounds_own() -> None:
    linear, square = [1.0] * 64, [float(n) for n in range(1, 65)]
    own = [kv_cache._curves([seconds], [16, 64], 16)["exponent"][0] for seconds in (linear, square)]
    value, low, high = kv_cache._curves([linear, square], [16, 64], 16)["exponent"]
    assert value == pytest.approx(sum(own) / 2)
    reach = 12.706 * (own[1] - own[0]) / 2  # Student's quantile at one degree of freedom
    assert (low, high) == pytest.approx((value - reach, value + reach), rel=1e-3)


# --- gradient accumulation ---


@pytest.fixture
def trained_here(tmp_path: Path) -> Context:
    context = tiny_run(tmp_path / "run", tmp_path / "cache", "training.max_steps=4")
    return with_settings(
        context, accumulation=AccumulationExperiment(batch_size=2, steps=(1, 4), windows=16)
    )


def trained_tokens(context: Context) -> int:
    """Tokens that an epoch predicts."""
    return prepare_data(context.config, context.console).train.header.num_tokens - 1


def test_every_training_sees_the_same_tokens(
    trained_here: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove, kept = folders.remove, trained_here.folder / "accumulation"
    monkeypatch.setattr(folders, "remove", lambda path: path == kept or remove(path))
    result = accumulation.run(trained_here)
    first, last = result["runs"]
    assert (first["steps"], last["steps"]) == (8, 2)
    assert (first["effective_batch"], last["effective_batch"]) == (2, 8)
    assert first["tokens"] == last["tokens"] == 16 * 16
    # One line for the same number of tokens, so that the curves have the same points.
    assert [point["tokens"] for point in first["curve"]] == [128, 256]
    assert [point["tokens"] for point in last["curve"]] == [128, 256]
    assert [point["step"] for point in first["curve"]] == [4, 8]
    # Accumulation holds one mini-batch's activations at a time, the whole batch all of them.
    assert first["peak_bytes"] == first["whole_batch_peak_bytes"]
    assert last["whole_batch_peak_bytes"] > 1.3 * last["peak_bytes"]
    for row in result["runs"]:
        assert row["validation_perplexity"] == pytest.approx(math.exp(row["validation_loss"]))
        epoch = row["epoch"]
        assert epoch["rounds"] == len(epoch["seconds"]) == 1  # the first line is not counted
        tokens = trained_tokens(trained_here)
        assert row["tokens_per_second"] * epoch["median_s"] == pytest.approx(tokens)
    losses_are_compared_window_by_window(trained_here, result["runs"])


def losses_are_compared_window_by_window(context: Context, rows: list[dict[str, Any]]) -> None:
    data = prepare_data(context.config, context.console)
    windows = TokenWindows(data.validation, context.config.model.context_length)
    subset = windows.fixed_subset(context.config.training.validation_windows)
    trials = [context.folder / f"accumulation/steps-{row['accumulation_steps']}" for row in rows]
    measured = []
    for row, trial in zip(rows, trials, strict=True):
        model = LanguageModel.load(trial / "checkpoints/last").model
        losses = split_loss(model, windows, 3, subset)
        assert losses.windows is not None and losses.mean == pytest.approx(row["validation_loss"])
        measured.append(losses.windows.numpy())
    (first, tokens), (second, _) = (each.T for each in measured)
    gaps = second - first
    left = (gaps.sum() - gaps) / (tokens.sum() - tokens)  # without each window
    error = math.sqrt((len(left) - 1) / len(left) * ((left - left.mean()) ** 2).sum())
    reach = stats.t.ppf(0.975, len(left) - 1) * error
    expected = [gaps.sum() / tokens.sum() + way * reach for way in (0, -1, 1)]
    first, last = (row["beside"] for row in rows)
    assert last["first"] == last["previous"] == pytest.approx(expected, abs=1e-4)
    assert first["previous"] is None and first["first"] == [0, 0, 0]
    # After two steps, which the last makes in all.
    early = [
        line["loss"]
        for trial in trials
        for line in read_metrics(trial)
        if line["kind"] == "validation" and line["step"] == 2
    ]
    assert [row["equal_steps"] for row in rows] == [
        {"step": 2, "validation_loss": loss} for loss in early
    ]
    assert early[1] == rows[1]["validation_loss"]
    assert last["equal_steps"][0] == pytest.approx(early[1] - early[0], abs=1e-4)


def test_validations_stay_few(tiny_context: Context) -> None:
    settings = AccumulationExperiment(batch_size=1, steps=(1, 64), windows=128)
    context = with_settings(tiny_context, accumulation=settings)
    trainings = [accumulation._config(context.config, steps, 100, 2).training for steps in (1, 64)]
    assert [training.max_steps for training in trainings] == [128, 2]
    assert [training.validation_interval for training in trainings] == [128, 2]


def test_an_interrupted_training_goes_on(
    trained_here: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the second training, the first is not trained again and the second goes on."""
    whole = accumulation.run(trained_here)
    assert not (trained_here.folder / "accumulation").exists()
    started: list[tuple[int, int]] = []
    run = Trainer.run

    def stopping(self: Trainer) -> Any:
        started.append((self.config.accumulation_steps, self.step))
        if self.config.accumulation_steps == 4 and self.step == 0:
            self.total_steps = 1
            outcome = run(self)
            return replace(outcome, reason="SIGTERM")
        return run(self)

    monkeypatch.setattr(Trainer, "run", stopping)
    with pytest.raises(StoppedBySignalError, match="tinylm experiment accumulation --run") as error:
        accumulation.run(trained_here)
    assert error.value.exit_status == 143
    again = accumulation.run(trained_here)
    assert started == [(1, 0), (4, 0), (4, 1)]
    for before, after in zip(whole["runs"], again["runs"], strict=True):
        assert before["validation_loss"] == after["validation_loss"]
        assert before["curve"][-1] == after["curve"][-1]


def test_batches_that_cannot_be_are_refused_before_anything_is_trained(
    trained_here: Context,
) -> None:
    for settings in ({"batch_size": 10**12, "steps": (1,)}, {"steps": (1, 10**12)}):
        context = with_settings(trained_here, accumulation=AccumulationExperiment(**settings))
        with pytest.raises(ConfigError, match=r"a training step with [\d,]+ windows .* of memory"):
            accumulation.run(context)
        assert not (context.folder / "accumulation").exists()


def test_settings_that_changed_start_anew(trained_here: Context) -> None:
    """What an interrupted experiment of other settings left behind is not gone on with."""
    (trained_here.folder / "accumulation").mkdir(parents=True)
    other = with_settings(
        trained_here, accumulation=AccumulationExperiment(batch_size=4, steps=(1,), windows=8)
    )
    inner = accumulation._config(other.config, 1, 100, 2)
    train_trial(other, inner, "accumulation", "steps-1", Remedy("", "training.seed=1"))
    result = accumulation.run(trained_here)
    assert [row["tokens"] for row in result["runs"]] == [256, 256]


# --- gradient checkpointing ---


def test_recomputation_keeps_less(trained_here: Context) -> None:
    context = with_settings(
        trained_here,
        gradient_checkpointing=GradientCheckpointingExperiment(
            depths=(2, 4), context_lengths=(8, 16), segments=(1, 2, 3), repeats=1
        ),
    )
    state = torch.get_num_threads()
    result = gradient_checkpointing.run(context)
    assert torch.get_num_threads() == state
    assert [(row["num_layers"], row["segment"]) for row in result["depth"]] == [
        *((2, segment) for segment in (0, 1, 2)),  # three layers a segment do not fit into two
        *((4, segment) for segment in (0, 1, 2, 3)),
    ]
    assert [(row["context_length"], row["batch_size"]) for row in result["context"]] == [
        *((8, 8) for _ in range(3)),  # the same tokens at every context length
        *((16, 4) for _ in range(3)),
    ]
    rows = {(row["num_layers"], row["segment"]): row for row in result["depth"]}
    stream = 4 * 16 * 16 * 4  # batch x seq x hidden x bytes
    assert rows[4, 1]["saved_bytes"] - rows[2, 1]["saved_bytes"] == 2 * stream
    assert rows[4, 1]["saved_bytes"] - rows[4, 2]["saved_bytes"] == 2 * stream
    assert rows[4, 0]["saved_bytes"] - rows[2, 0]["saved_bytes"] > 10 * 2 * stream
    for (_, segment), row in rows.items():
        assert row["peak_bytes"] > row["state_bytes"]
        assert row["step"]["rounds"] == 1
        if segment:
            assert row["peak_bytes"] < rows[row["num_layers"], 0]["peak_bytes"]
    # Weights, gradients and Adam's two moments, and its step counts.
    model = replace(context.config.model, num_layers=4)
    from tinylm.model.decoder import DecoderLM

    weights = 4 * sum(p.numel() for p in DecoderLM(model).parameters())
    assert 0 <= rows[4, 0]["state_bytes"] - 4 * weights < 1000


def test_results_are_kept_as_long_as_their_own_settings_stay(trained_here: Context) -> None:
    small = GradientCheckpointingExperiment((1,), (8,), (1,), repeats=1)
    context = with_settings(trained_here, gradient_checkpointing=small)
    first = run_experiment("gradient-checkpointing", context)
    other = with_settings(context, kv_cache=KVCacheExperiment(samples=3))
    assert run_experiment("gradient-checkpointing", other) == first
    changed = with_settings(context, gradient_checkpointing=replace(small, repeats=2))
    assert run_experiment("gradient-checkpointing", changed)["repeats"] == 2
