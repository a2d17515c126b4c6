"""How losses changed, with intervals, and how long training took with all that was interrupted."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tests.training.tiny import tiny_run, tiny_trainer
from tinylm.checkpoint import load_training_state
from tinylm.experiments.context import run_experiment
from tinylm.experiments.training.measure import changes
from tinylm.training.tracking import Tracker, read_metrics

WEIGHTS = {"block_losses": [20] * 12, "training_block_losses": [20] * 9}


def record(seed: int, mean: float) -> dict[str, object]:
    random = np.random.default_rng(seed)
    return {
        "loss": mean,
        "block_losses": (20 * random.normal(mean, 0.1, 12)).tolist(),
        "training_block_losses": (20 * random.normal(mean - 0.5, 0.1, 9)).tolist(),
    }


def test_changes_have_students_intervals_over_blocks_of_windows() -> None:
    records = [record(seed, mean) for seed, mean in enumerate((5.0, 3.0, 2.0, 2.1))]
    result = changes(records, records[2], WEIGHTS)
    losses = np.array([each["block_losses"] for each in records]) / 20
    for name, first, second in (
        ("first_to_best", 0, 2), ("best_to_last", 2, 3), ("previous_to_last", 2, 3),
    ):  # fmt: skip
        low, high = stats.ttest_rel(losses[second], losses[first]).confidence_interval()
        assert result[name] == pytest.approx([(losses[second] - losses[first]).mean(), low, high])
    seen = np.array(records[3]["training_block_losses"]) / 20
    low, high = stats.ttest_ind(losses[3], seen, equal_var=False).confidence_interval()
    expected = [losses[3].mean() - seen.mean(), low, high]
    assert result["training_to_validation"] == pytest.approx(expected)
    learned = np.array(records[2]["training_block_losses"]) / 20
    low, high = stats.ttest_rel(seen, learned).confidence_interval()
    expected = [(seen - learned).mean(), low, high]
    assert result["training_best_to_last"] == pytest.approx(expected)
    low, high = stats.ttest_1samp(losses[2], 0).confidence_interval()
    assert result["best"] == pytest.approx([losses[2].mean(), low, high])


def test_what_an_older_version_did_not_measure_is_unknown() -> None:
    old = {"loss": 3.0}
    new = record(0, 2.0)
    result = changes([old, new], new, WEIGHTS)
    assert result["first_to_best"] is result["previous_to_last"] is None
    assert result["best_to_last"] is not None
    assert changes([old], old, WEIGHTS)["best"] is None


def test_the_losses_of_the_blocks_add_up_to_the_one_logged(tmp_path: Path, cache: Path) -> None:
    context = tiny_run(tmp_path / "run", cache, "training.validation_windows=null")
    result = run_experiment("training", context)
    logged = [line for line in read_metrics(context.folder) if line["kind"] == "validation"]
    assert result["changes"]["best"][0] == pytest.approx(result["best"]["loss"], abs=1e-4)
    for line, kept in zip(logged, result["validations"], strict=True):
        assert "block_losses" in line and "block_losses" not in kept
    last = logged[-1]
    assert result["changes"]["training_to_validation"][0] == pytest.approx(
        last["loss"] - last["training_loss"], abs=1e-4
    )


def test_total_time_has_what_an_interrupted_session_took(tmp_path: Path, cache: Path) -> None:
    settings = ("training.checkpoint_interval=6", "training.log_interval=2")
    context = tiny_run(tmp_path / "run", cache, *settings)
    run_experiment("training", context)
    # As if it had been killed before the last checkpoint, after steps that took 5,000 seconds.
    (context.results / "training.json").unlink()
    shutil.rmtree(context.folder / "checkpoints/step-12")
    tracker = Tracker(context.folder, context.config.training, 12)
    tracker.write("train", {"step": 13, "loss": 1.0, "seconds": 5_000.0})
    tracker.close()
    result = run_experiment("training", context)
    assert result["steps"] == 12
    assert 4_000 < result["seconds"] < 6_000
    assert result["seconds_training"] < 1_000


def test_a_checkpoint_keeps_the_time_of_earlier_sessions(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path)
    trainer.count_lost(5_000.0)
    trainer.run()
    state = load_training_state(tmp_path / "checkpoints/step-6")
    again = tiny_trainer(tmp_path)
    again.restore(state)
    assert 5_000 < again.session_seconds < 6_000
    del state.numbers["session_seconds"]  # of a run that an older version began
    again.restore(state)
    assert again.session_seconds < 1_000
