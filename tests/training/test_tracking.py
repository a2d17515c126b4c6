"""metrics.jsonl, TensorBoard, Weights & Biases, and what a resumed run does with them."""

import contextlib
import json
import shutil
import sys
import threading
import types
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.training.tiny import tiny_run
from tinylm.config import TrainingConfig
from tinylm.errors import ConfigError, DataError, TrainingError
from tinylm.experiments.context import run_experiment
from tinylm.reading import refusal, signed, verified
from tinylm.training.tracking import Tracker, read_metrics

PLAIN = TrainingConfig(tensorboard=False)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def without_checksum(line: str) -> dict[str, Any]:
    return verified(json.loads(line), refusal("metrics.jsonl"))


def test_a_folder_that_is_gone_is_told_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    hook = threading.excepthook
    tracker = Tracker(folder, TrainingConfig(), -1)
    shutil.rmtree(folder)
    with pytest.raises(TrainingError, match="was removed or renamed while its training wrote"):
        for step in range(200):
            tracker.write("train", {"step": step, "loss": 1.0})
            with contextlib.suppress(OSError):
                tracker._board.flush()
    with contextlib.suppress(TrainingError):
        tracker.close()
    assert threading.excepthook is hook
    assert "Traceback" not in capfd.readouterr().err


def test_lines_of_a_run(tmp_path: Path, cache: Path) -> None:
    settings = (
        "training.log_interval=4",
        "training.max_steps=10",
        "training.validation_interval=5",
    )
    context = tiny_run(tmp_path / "run", cache, *settings, "training.tensorboard=true")
    result = run_experiment("training", context)
    records = [without_checksum(line) for line in (context.folder / "metrics.jsonl").open()]
    assert [(record["kind"], record["step"]) for record in records] == [
        ("train", 4),
        ("validation", 5),
        ("train", 8),
        ("train", 10),
        ("validation", 10),
    ]
    assert set(records[0]) == {
        *("kind", "step", "epoch", "tokens", "loss", "perplexity", "learning_rate"),
        *("gradient_norm", "tokens_per_second", "seconds"),
    }
    assert records == read_metrics(context.folder)
    assert result["curve"] == [record for record in records if record["kind"] == "train"]
    assert result["validations"] == [
        {key: value for key, value in record.items() if not key.endswith("block_losses")}
        for record in records
        if record["kind"] != "train"
    ]

    kept = scalars(context.folder)
    for kind, name in (("train", "loss"), ("train", "learning_rate"), ("validation", "perplexity")):
        expected = [(r["step"], r[name]) for r in records if r["kind"] == kind]
        assert [step for step, _ in kept[f"{kind}/{name}"]] == [step for step, _ in expected]
        values = [value for _, value in kept[f"{kind}/{name}"]]
        assert values == pytest.approx([value for _, value in expected], rel=1e-6)


def test_tensorboard_is_not_written_unless_asked_for(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, PLAIN, 0)
    tracker.write("train", {"step": 1, "loss": 2.0})
    tracker.close()
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_each_line_is_on_disk_at_once(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, PLAIN, 0)
    tracker.write("train", {"step": 1, "loss": 2.0})
    assert read_metrics(tmp_path) == [{"kind": "train", "step": 1, "loss": 2.0}]
    tracker.close()


def test_a_resumed_run_drops_what_lies_behind_its_checkpoint(tmp_path: Path) -> None:
    config = TrainingConfig()
    tracker = Tracker(tmp_path, config, 0)
    for step in range(1, 6):
        tracker.write("train", {"step": step, "loss": float(step)})
    tracker.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "step": 6, "lo')  # the process was killed while writing
    assert [record["step"] for record in read_metrics(tmp_path)] == [1, 2, 3, 4, 5]
    tracker = Tracker(tmp_path, config, 3)
    assert [record["step"] for record in read_metrics(tmp_path)] == [1, 2, 3]
    tracker.write("train", {"step": 4, "loss": 40.0})
    tracker.close()
    assert [record["loss"] for record in read_metrics(tmp_path)] == [1.0, 2.0, 3.0, 40.0]
    assert scalars(tmp_path)["train/loss"] == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 40.0)]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    good = json.dumps(signed({"kind": "train", "step": 1, "loss": 2.5})).encode() + b"\n"
    for bad, problem in (
        (b"\0\0\0\xff", "not UTF-8 at byte 3"),
        (b"{}", "kind is missing"),
        (b'"x"', "holds 'x': expected keys with values"),
        (b"[" * 200_000, "is nested more than 32 deep"),
        (b"[" * 60_000, "is nested more than 32 deep"),
        (good[:-1].replace(b"2.5", b"2.6"), "has changed since it was written"),
        (good[:-1].replace(b"checksum", b"checksun"), "unknown key checksun"),
        (b'{"kind": "train", "step": 1.5, "loss": 2}', "step = 1.5: expected a whole number"),
        (b'{"kind": "train", "step": -1, "loss": 2}', "step = -1: must be at least 0"),
        (b'{"kind": "train", "step": 1, "loss": "2"}', "loss = '2': expected a number"),
        (b'{"kind": "train", "step": 1, "loss": NaN}', "NaN is no number of JSON"),
        (b'{"kind": "other", "step": 1, "loss": 2}', "kind = 'other': expected train or valid"),
    ):
        path.write_bytes(good + bad + b"\n" + good)
        with pytest.raises(DataError) as error:
            read_metrics(tmp_path)
        assert str(error.value).startswith(f"{path}, line 2: {problem}")
        assert str(error.value).endswith("; delete the line")
    assert read_metrics(tmp_path / "nowhere") == []


def test_lines_of_older_versions_are_read(tmp_path: Path) -> None:
    records = [{"kind": "train", "step": 1, "loss": 2.0}, {"kind": "train", "step": 2, "loss": 1.0}]
    text = "".join(json.dumps(record) + "\n" for record in records)
    (tmp_path / "metrics.jsonl").write_text(text)
    assert read_metrics(tmp_path) == records


def test_lines_are_read_by_step_and_the_last_of_two_counts(tmp_path: Path) -> None:
    records = [
        {"kind": kind, "step": step, "loss": loss}
        for kind, step, loss in (
            ("validation", 10, 1.0),
            ("train", 5, 3.0),
            ("train", 10, 2.0),
            ("validation", 0, 9.0),
            ("train", 10, 2.5),
        )
    ]
    text = "".join(json.dumps(signed(record)) + "\n" for record in records)
    (tmp_path / "metrics.jsonl").write_text(text)
    assert read_metrics(tmp_path) == [records[3], records[1], records[4], records[0]]


def test_wandb_asked_for_but_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError) as caught:
        Tracker(tmp_path / "run", TrainingConfig(wandb=True), 0)
    assert str(caught.value) == (
        "training.wandb is true but wandb is not installed: pip install 'tinylm[wandb]'"
    )
    assert not (tmp_path / "run").exists()


def test_wandb_gets_every_number_under_the_runs_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    run = types.SimpleNamespace(
        log=lambda numbers, step: calls.append((step, numbers)),
        finish=lambda: calls.append("finished"),
    )
    module = types.ModuleType("wandb")
    module.init = lambda **settings: calls.append(settings) or run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    tracker = Tracker(tmp_path / "run-7", TrainingConfig(wandb=True, tensorboard=False), 0)
    tracker.write("validation", {"step": 3, "loss": 1.5})
    tracker.close()
    assert calls[0]["id"] == calls[0]["name"] == "run-7"
    assert calls[0]["resume"] == "allow"
    assert calls[1:] == [(3, {"validation/loss": 1.5}), "finished"]
