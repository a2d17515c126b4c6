"""The lab on digits, small: its claims hold by other means, and nothing is changed on the way."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from tinylm.config import RunConfig
from tinylm.data.images import load_digits
from tinylm.errors import ConfigError, DataError
from tinylm.experiments.context import Context, SilentConsole, run_experiment
from tinylm.experiments.lab_mnist import measure as lab_mnist
from tinylm.experiments.lab_mnist.digits import (
    LAYERS,
    Pixels,
    accuracies,
    adapter_check,
    confusion,
    draw_batches,
    finetune,
    network,
    train,
)
from tinylm.experiments.lab_mnist.settings import MnistLab

SETTINGS = MnistLab(
    hidden_size=24,
    baseline_steps=60,
    steps=40,
    seeds=2,
    rank=2,
    ranks=(1, 4),
    learning_rates=(3e-2, 1e-2),
)


def context(folder: Path, settings: MnistLab = SETTINGS) -> Context:
    experiments = replace(RunConfig().experiments, lab_mnist=settings)
    return Context(folder, RunConfig(experiments=experiments))


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return lab_mnist.run(context(tmp_path_factory.mktemp("digits")))


@pytest.fixture(scope="module")
def digits() -> Pixels:
    data = load_digits(None, 0.2, 0)
    return Pixels.of(data.train, data.levels)


@pytest.fixture(scope="module")
def base(digits: Pixels) -> torch.nn.Module:
    model = network(64, 24, 0)
    train(model, digits, draw_batches(digits.labels, 60, 64, 0), 1e-3)
    return model.eval()


def test_it_is_json_and_the_same_every_time(tmp_path: Path, result: dict[str, Any]) -> None:
    json.dumps(result, allow_nan=False)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    again = lab_mnist.run(context(tmp_path))
    assert torch.equal(torch.get_rng_state(), state)

    def untimed(result: dict[str, Any]) -> dict[str, Any]:
        rows = [row | {"seconds": 0} for row in result["methods"]]
        return result | {"methods": rows, "network": result["network"] | {"seconds": 0}}

    assert untimed(again) == untimed(result)


def test_hard_classes_are_the_worst_on_validation(result: dict[str, Any]) -> None:
    baseline = result["baseline"]
    mean = np.mean([seed["classes"] for seed in baseline["validation"]], axis=0)
    hard = baseline["hard"]
    assert len(hard) == SETTINGS.hard_classes
    assert mean[hard].max() <= np.delete(mean, hard).min()


def test_confusions_are_counted_from_the_table(result: dict[str, Any]) -> None:
    table = np.array(result["baseline"]["confusion"])
    assert table.sum() == SETTINGS.seeds * result["data"]["images"]["validation"]
    wrong = table - np.diag(table.diagonal())
    counts = [pair["count"] for pair in result["baseline"]["confusions"]]
    assert counts == sorted(wrong.flatten(), reverse=True)[: len(counts)]
    for pair in result["baseline"]["confusions"]:
        assert pair["true"] != pair["predicted"]
        assert pair["count"] == table[pair["true"], pair["predicted"]]
        assert pair["share"] == pytest.approx(pair["count"] / table[pair["true"]].sum())
    for example in result["examples"]:
        assert example["before"] != example["true"]


def test_methods_are_the_networks_own_sizes(result: dict[str, Any]) -> None:
    shapes = [(24, 64), (24, 24), (10, 24)]
    rows = {row["name"]: row for row in result["methods"]}
    assert list(rows) == ["head", "lora-1", "lora-2", "lora-4", "full", "full-ordinary"]
    for rank in (1, 2, 4):
        expected = sum(rank * (m + n) for m, n in shapes)
        assert rows[f"lora-{rank}"]["parameters"] == expected
    whole = sum(m * n + m for m, n in shapes)
    assert rows["full"]["parameters"] == result["network"]["parameters"] == whole
    assert rows["head"]["parameters"] == 10 * 24 + 10
    for row in rows.values():
        assert row["bytes"] >= 4 * row["parameters"]
        assert row["learning_rate"] in SETTINGS.learning_rates
        assert len(row["test"]) == len(row["seconds"]) == SETTINGS.seeds


def test_lora_lifts_the_hard_classes(result: dict[str, Any]) -> None:
    hard = result["baseline"]["hard"]
    (lora,) = [row for row in result["methods"] if row["name"] == "lora-4"]

    def on_hard(tests: list[dict[str, Any]]) -> float:
        return float(np.mean([np.array(test["classes"])[hard] for test in tests]))

    assert on_hard(lora["test"]) > on_hard(result["baseline"]["test"]) + 0.05


def test_flips_account_for_the_change_of_accuracy(result: dict[str, Any]) -> None:
    (lora,) = [row for row in result["methods"] if row["name"] == "lora-2"]
    images = result["data"]["images"]["test"]
    for before, after, gained, lost in zip(
        result["baseline"]["test"],
        lora["test"],
        result["flips"]["gained"],
        result["flips"]["lost"],
        strict=True,
    ):
        assert round(images * (after["all"] - before["all"])) == gained - lost
    tables = {when: np.array(table) for when, table in result["confusion"].items()}
    for table, tests in (
        (tables["before"], result["baseline"]["test"]),
        (tables["after"], lora["test"]),
    ):
        assert table.trace() / table.sum() == pytest.approx(
            np.mean([test["all"] for test in tests])
        )


def test_merged_and_unmerged_are_the_same(result: dict[str, Any]) -> None:
    check = result["check"]
    for way in ("merged", "folded"):
        assert check[way] < 1e-5 * check["largest_logit"]
    assert check["same_predictions"]
    for way in ("unmerged", "inactive", "reloaded"):
        assert check[f"{way}_identical"], way


def test_an_adapter_that_is_not_merged_right_is_seen(
    base: torch.nn.Module, digits: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = draw_batches(digits.labels, 5, 64, 1)
    tuned = finetune(base, "lora-2", digits, batches, 1e-2, 0).model
    assert adapter_check(base, tuned, digits)["merged"] < 1e-4

    def spoil(model: torch.nn.Module) -> None:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1)

    monkeypatch.setattr("tinylm.experiments.lab_mnist.digits.merge", spoil)
    check = adapter_check(base, tuned, digits)
    assert check["merged"] > 0.1
    assert not check["unmerged_identical"]
    assert not check["inactive_identical"]


@pytest.mark.parametrize("name", ["head", "lora-1", "full"])
def test_the_base_is_left_alone(base: torch.nn.Module, digits: Pixels, name: str) -> None:
    before = safetensors.torch.save(base.state_dict())
    batches = draw_batches(digits.labels, 3, 16, 1)
    tuned = finetune(base, name, digits, batches, 1e-2, 0)
    assert safetensors.torch.save(base.state_dict()) == before
    changed = {
        key
        for key, value in tuned.model.state_dict().items()
        if key in base.state_dict() and not torch.equal(value, base.state_dict()[key])
    }
    layers = {key.partition(".")[0] for key in changed}
    assert layers == {"head": {"output"}, "lora-1": set(), "full": set(LAYERS)}[name]


def test_a_rank_above_the_last_layers_is_refused(base: torch.nn.Module, digits: Pixels) -> None:
    batches = draw_batches(digits.labels, 1, 4, 1)
    with pytest.raises(ConfigError, match="rank 11: the output layer has 10 rows"):
        finetune(base, "lora-11", digits, batches, 1e-2, 0)


def test_hard_classes_get_their_share_of_the_batches() -> None:
    labels = torch.arange(10).repeat_interleave(torch.tensor([50, 9, 30, 12, 7, 80, 20, 4, 60, 33]))
    drawn = labels[draw_batches(labels, 200, 100, 0, [1, 7], 0.4)]
    counts = torch.bincount(drawn.flatten(), minlength=10) / drawn.numel()
    assert counts[[1, 7]].tolist() == pytest.approx([0.2, 0.2], abs=0.01)
    rest = [digit for digit in range(10) if digit not in (1, 7)]
    assert counts[rest].tolist() == pytest.approx([0.6 / 8] * 8, abs=0.01)
    plain = labels[draw_batches(labels, 200, 100, 0)]
    shares = torch.bincount(plain.flatten()) / plain.numel()
    assert shares.tolist() == pytest.approx(
        (torch.bincount(labels) / len(labels)).tolist(), abs=0.01
    )


def test_accuracies_are_those_of_the_predictions(base: torch.nn.Module, digits: Pixels) -> None:
    predicted = base(digits.images).argmax(1)
    measured = accuracies(base, digits)
    assert measured["all"] == pytest.approx(float((predicted == digits.labels).float().mean()))
    for digit, share in enumerate(measured["classes"]):
        own = predicted[digits.labels == digit]
        assert share == pytest.approx(float((own == digit).float().mean()))
    assert measured["mean"] == pytest.approx(sum(measured["classes"]) / 10)
    assert int(torch.tensor(confusion(base, digits)).sum()) == len(digits.labels)


def test_test_images_choose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With other test images, hard classes and learning rates stay what they were."""
    settings = replace(SETTINGS, seeds=1, ranks=(), steps=10)
    first = lab_mnist.run(context(tmp_path, settings))
    original = load_digits

    def other(*arguments: Any) -> Any:
        data = original(*arguments)
        noise = np.random.default_rng(0).integers(0, 17, data.test.images.shape).astype(np.uint8)
        return replace(data, test=replace(data.test, images=noise))

    monkeypatch.setattr(lab_mnist, "load_digits", other)
    second = lab_mnist.run(context(tmp_path, settings))
    assert second["baseline"]["test"] != first["baseline"]["test"]
    assert second["baseline"]["hard"] == first["baseline"]["hard"]
    rates = [[row["learning_rate"] for row in result["methods"]] for result in (first, second)]
    assert rates[0] == rates[1]


def write_idx(path: Path, content: np.ndarray[Any, Any]) -> None:
    sizes = struct.pack(f">{content.ndim}I", *content.shape)
    whole = bytes([0, 0, 8, content.ndim]) + sizes + content.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(whole) if path.suffix == ".gz" else whole)


def test_a_result_of_other_images_is_stale(tmp_path: Path) -> None:
    data = load_digits(None, 0.2, 0).train
    folder = tmp_path / "mnist"
    folder.mkdir()
    write_idx(folder / "t10k-images-idx3-ubyte.gz", data.images)
    write_idx(folder / "t10k-labels-idx1-ubyte", data.labels)
    settings = replace(SETTINGS, data=str(folder), seeds=1, steps=3, baseline_steps=20, ranks=())
    run = context(tmp_path / "run", settings)
    result = run_experiment("lab-mnist", run)
    assert "10,000" not in result["data"]["description"]
    assert f"{len(data):,} test images" in result["data"]["description"]
    assert run_experiment("lab-mnist", run) == result
    write_idx(folder / "t10k-images-idx3-ubyte.gz", data.images[::-1])
    other = run_experiment("lab-mnist", run)
    assert other["data"]["fingerprint"] != result["data"]["fingerprint"]
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte"):
        run_experiment("lab-mnist", run)
    shutil.rmtree(folder)
    assert run_experiment("lab-mnist", run) == other
    assert isinstance(run.console, SilentConsole)
    assert run.console.warnings[-1].endswith("results count as made from the images that was there")
