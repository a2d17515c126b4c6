"""The hyperparameter experiment: one setting changes at a time, and an interrupted one goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.experiments.test_efficiency import tiny_run, with_settings
from tests.training.tiny import stop_training
from tinylm.config import to_dict
from tinylm.experiments.context import Context
from tinylm.experiments.hyperparameters import measure as hyperparameters
from tinylm.experiments.hyperparameters.settings import HyperparametersExperiment
from tinylm.experiments.training.measure import StoppedBySignalError

SETTINGS = HyperparametersExperiment(
    steps=3, seeds=2, num_layers=(1, 2), num_heads=(2, 4), learning_rate_factors=(0.5, 1.0),
    validation_windows=6,
)  # fmt: skip


@pytest.fixture
def context(tmp_path: Path) -> Context:
    config = tiny_run(
        tmp_path / "run", tmp_path / "cache", "model.num_layers=1", "model.num_heads=2"
    )
    return with_settings(config, hyperparameters=SETTINGS)


def test_one_setting_changes_at_a_time(context: Context) -> None:
    own = to_dict(hyperparameters.short(context.config))
    rate = context.config.training.learning_rate
    variants = list(hyperparameters.variants(hyperparameters.short(context.config)))
    assert [(varied, value) for varied, value, _ in variants] == [
        ("num_layers", 2), ("num_heads", 4), ("learning_rate", 0.5 * rate),
    ]  # fmt: skip
    for varied, value, config in variants:
        section = "training" if varied == "learning_rate" else "model"
        wanted = {**own, section: {**own[section], varied: value}}
        if varied == "num_heads":
            wanted["model"]["head_dim"] = None
        assert to_dict(config) == wanted


def test_trainings_are_measured_and_an_interrupted_one_goes_on(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = hyperparameters.run(context)
    assert len(whole["repeats"]) == 2
    assert whole["repeats"][0] == whole["own"]["validation_loss"] != whole["repeats"][1]
    layers, heads, rate = whole["changes"]
    assert layers["parameters"] > heads["parameters"] == whole["own"]["parameters"]
    assert len({row["validation_loss"] for row in (whole["own"], layers, heads, rate)}) == 4
    assert not (context.folder / "hyperparameters").exists()

    started = stop_training(monkeypatch, 3)
    with pytest.raises(StoppedBySignalError, match="tinylm experiment hyperparameters --run"):
        hyperparameters.run(context)
    again = hyperparameters.run(context)
    assert started == [0, 0, 0, 1, 0, 0]  # the first two are kept, the third goes on
    assert again["repeats"] == whole["repeats"]
    assert [row["validation_loss"] for row in again["changes"]] == [
        row["validation_loss"] for row in whole["changes"]
    ]
