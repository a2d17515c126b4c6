"""The experiment on ZeRO, made small: measured is planned with what the formulas leave out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.report.figure_check import faults
from tinylm.config import load_config
from tinylm.errors import ConfigError, TrainingError
from tinylm.experiments.context import Context
from tinylm.experiments.zero import measure
from tinylm.experiments.zero.figures import draw
from tinylm.experiments.zero.settings import ZeroExperiment
from tinylm.planning import limits
from tinylm.training.zero.collectives import Collectives

SETTINGS = ZeroExperiment(
    ranks=(2, 1, 2), micro_batches=(2, 1, 2), batch_size=1, steps=2, num_layers=1, hidden_size=8,
    num_heads=2, vocab_size=21, context_length=6,
)  # fmt: skip


def context_of(settings: ZeroExperiment) -> Context:
    config = load_config(overrides=[])
    experiments = replace(config.experiments, zero=settings)
    return Context(Path("none"), replace(config, experiments=experiments))


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(measure.run(context_of(SETTINGS))))
    return made


def test_every_setting_has_a_row(result: dict[str, Any]) -> None:
    keys = ("ranks", "precision", "micro_batches", "stage")
    rows = [tuple(row[key] for key in keys) for row in result["rows"]]
    assert len(rows) == len(set(rows)) == 2 * 3 * 2 * 4


def test_measured_is_planned_with_padding_and_counters(result: dict[str, Any]) -> None:
    rows = [row for row in result["rows"] if row["precision"] != "fp64"]
    assert all(row["held"] == row["padded"]["held"] for row in rows)
    assert all(row["sent"] == row["padded"]["sent"] for row in rows)
    padded = [row for row in rows if row["padding"]]
    assert padded and all(row["ranks"] == 2 for row in padded)
    for row in padded:
        assert sum(row["held"].values()) > sum(row["planned"]["held"].values())
        assert sum(row["sent"].values()) > sum(row["planned"]["sent"].values())


def test_what_is_planned_is_of_all_parameters(result: dict[str, Any]) -> None:
    parameters = result["parameters"]
    for row in result["rows"]:
        if row["precision"] != "fp64" and row["stage"] == 0:
            assert sum(row["planned"]["held"].values()) == 16 * parameters
            assert sum(row["planned"]["sent"].values()) == parameters * 2 * (row["ranks"] - 1) / 2


def test_ranks_are_near_one_process_and_it_is_itself(result: dict[str, Any]) -> None:
    for row in result["rows"]:
        difference = row["difference"]
        if row["ranks"] == 1:
            assert difference["parameters"] == difference["loss"] == 0
        elif row["precision"] == "fp64":
            assert difference["parameters"] <= SETTINGS.steps * 1e-12
            assert difference["loss"] <= 1e-12
        assert difference["moved"] > SETTINGS.learning_rate


def test_the_figures_are_in_order(result: dict[str, Any]) -> None:
    drawn = dict(draw(result, load_config(overrides=[])))
    assert drawn.keys() == {"zero-memory", "zero-traffic"}
    assert not [fault for figure in drawn.values() for fault in faults(figure)]
    alone = result | {"rows": [row for row in result["rows"] if row["ranks"] == 1]}
    assert dict(draw(alone, load_config(overrides=[]))).keys() == {"zero-memory"}


def test_bars_are_as_high_as_what_is_held(result: dict[str, Any]) -> None:
    figure = dict(draw(result, load_config(overrides=[])))["zero-memory"]
    panel = figure.axes[1]
    assert panel.get_title(loc="left") == "bfloat16, N = 2"
    tops = sorted({round(bar.get_y() + bar.get_height(), 1) for bar in panel.patches})
    assert {8.0, 9.0, 10.0, 16.0} <= set(tops)


def test_what_does_not_fit_is_refused_before_a_process_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "machine_memory", lambda: 10**6)
    monkeypatch.setattr(measure, "run_ranks", lambda *_, **__: pytest.fail("started"))
    with pytest.raises(ConfigError, match=r"experiment zero on 2 ranks needs .* lower experiments"):
        measure.run(context_of(replace(SETTINGS, hidden_size=64)))


def _failing(collectives: Collectives, settings: ZeroExperiment) -> None:
    raise ValueError(f"of rank {collectives.rank}")


def test_a_rank_that_fails_ends_the_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "work", _failing)
    with pytest.raises(TrainingError, match=r"^rank 0 failed: ValueError: of rank 0$"):
        measure.run(context_of(replace(SETTINGS, ranks=(1,))))
