"""``tinylm plan``: the formulas' numbers, told before anything is trained."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.tiny import tiny_config
from tinylm.config import dump_yaml
from tinylm.experiments import prediction
from tinylm.measurement import Measurement
from tinylm.training.snapshots import snapshots_of

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def plan(tinylm: Command) -> Command:
    """Run ``tinylm plan ARGS``: exit status, stdout, stderr."""
    return lambda *args: tinylm("plan", *args)


def test_the_numbers_of_the_baseline(plan: Command) -> None:
    status, output, _ = plan("--preset", "baseline", "--rate", 100, "--tokens", 1e6, "--json")
    assert status == 0
    result = json.loads(output)
    assert result["vocab_size_assumed"]
    assert result["parameters"]["total"] == 9_276_136
    assert result["bytes"]["weights"] == 4 * 9_276_136
    assert result["bytes"]["training_state"] == 16 * 9_276_136  # gradient and two moments more
    assert result["bytes"]["kv_cache_per_token"] == 3 * 2 * 8 * 38 * 4
    flops = result["flops_per_token"]
    assert flops["forward_and_backward"] == 3 * flops["forward"]
    time = result["time"]
    assert time["tokens_per_second"] == pytest.approx(100e9 * 0.4 / flops["forward_and_backward"])
    assert time["seconds"] == pytest.approx(1e6 / time["tokens_per_second"])
    assert result["tokens"]["compute_optimal"] == 20 * 9_276_136


def test_the_memory_of_a_training_step(plan: Command) -> None:
    preset = (
        *("--preset", "baseline", "--rate", 100, "--tokens", 1e6, "--json"),
        *("-o", "training.precision=fp32"),
    )
    memory = json.loads(plan(*preset, "--memory", 1)[1])["training_memory"]
    kept, peak = memory["activations"], memory["peak"]
    assert kept["total"] == sum(size for part, size in kept.items() if part != "total")
    assert kept["pattern"] == 3 * 32 * 8 * 64 * 64 * 4
    assert peak["total"] > 12 * 9_276_136 + kept["total"]  # weights, two moments, activations
    assert memory["available"] == 2**30
    assert memory["largest_batch"] > 32
    fewer = json.loads(plan(*preset, "--memory", 0.1)[1])["training_memory"]
    assert fewer["largest_batch"] == 0  # the optimizer's state alone does not fit
    wide = (*preset, "--memory", 1, "-o", "training.gradient_checkpointing=1")
    again = json.loads(plan(*wide)[1])["training_memory"]
    assert again["largest_batch"] > memory["largest_batch"]


def test_the_rate_is_measured_if_it_is_not_given(plan: Command) -> None:
    _, output, _ = plan("-o", "model.vocab_size=100", "--tokens", 1e6, "--json")
    result = json.loads(output)
    assert result["time"]["gflops_per_second"] > 0.1
    assert result["time"]["precision"] in ("fp32", "bf16")
    assert not result["vocab_size_assumed"]
    assert result["tokens"]["planned"] == 1e6


def test_snapshots_are_counted_and_their_size_told(plan: Command) -> None:
    preset = ("--preset", "baseline", "--rate", 100, "--tokens", 1e6)
    result = json.loads(plan(*preset, "-o", "training.snapshots=8", "--json")[1])
    assert result["snapshots"] == {"count": 8, "bytes_each": 4 * 9_276_136}
    status, output, _ = plan(*preset, "-o", "training.snapshots=8")
    assert status == 0
    assert "8 snapshots of 35.39 MiB each, in all" in output
    assert "283.1 MiB" in output  # 8 * 4 * 9,276,136 / 2**20
    assert "snapshots" not in plan(*preset)[1]


def test_the_tables(plan: Command) -> None:
    status, output, _ = plan("--rate", 100, "--tokens", 1e6)
    assert status == 0
    for text in (
        "9,276,136",
        "7.125 KiB",
        "100 GFLOP/s",
        "40 %",
        "model.vocab_size is empty: 10,000 is assumed",
        "peak with 32",
    ):
        assert text in output


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--tokens", 0], "--tokens"),
        (["--utilisation", 1.5], "--utilisation"),
        (["--rate", 0], "--rate"),
        (["--preset", "huge"], "unknown preset 'huge'"),
        (["-o", "model.num_head=3"], "did you mean model.num_heads"),
    ],
)
def test_what_cannot_be_is_one_line(plan: Command, args: list[object], message: str) -> None:
    status, output, error = plan(*args)
    assert status != 0
    assert output == ""
    assert message in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    "settings",
    [
        ("training.max_steps=12", "training.snapshots=4"),
        ("training.max_steps=null", "training.epochs=1", "training.validations=5"),
        (
            *("training.max_steps=null", "training.epochs=2", "training.accumulation_steps=3"),
            *("training.batch_size=5", "training.validation_interval=4"),
        ),
        (
            *("training.max_steps=40", "training.batch_size=7", "training.accumulation_steps=2"),
            "training.validation_windows=null",
        ),
    ],
)
def test_the_plan_of_a_run_is_what_the_run_does(
    tinylm: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    tmp_path.joinpath("tiny.yaml").write_text(
        dump_yaml(tiny_config(tmp_path / "cache", "data.train_stories=25", *settings)), "utf-8"
    )
    status, output, error = tinylm("plan", "--config", "tiny.yaml", "--json")
    assert status == 0, error
    planned = json.loads(output)
    status, _, error = tinylm("train", "--config", "tiny.yaml", "--name", "tiny")
    assert status == 0, error
    result = json.loads((tmp_path / "runs/tiny/results/training.json").read_text("utf-8"))
    run = planned["run"]
    for name in ("steps", "epochs", "tokens_seen", "windows_per_epoch"):
        assert run[name] == result[name], name
    assert run["validations"] == len(result["validations"])
    assert planned["snapshots"]["count"] == len(snapshots_of(tmp_path / "runs/tiny"))
    assert planned["tokens"]["planned"] == result["tokens_seen"]
    assert planned["vocab_size"] == result["uniform_perplexity"]
    assert planned["parameters"]["total"] == result["parameters"]["total"]
    assert planned["time"]["precision"] == result["precision"]
    assert not planned["vocab_size_assumed"]


def test_time_is_that_of_all_steps_and_validations(
    plan: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step takes 2 s here and a validation 30 s; the machine makes 1 GFLOP/s."""
    asked: list[tuple[int, int]] = []

    def timed(works: dict[str, Callable[[], None]], rounds: int, warmup: int) -> object:
        (name, work), = works.items()  # fmt: skip
        work()
        asked.append((rounds, warmup))
        seconds = [30.0] if name == "validation" else [1.0, 2.0, 9.0]
        return {name: Measurement.of(seconds)}

    monkeypatch.setattr(prediction, "run_interleaved", timed)
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_yaml(tiny_config(tmp_path / "cache", "training.validations=5")), "utf-8")
    args = ("--config", path, "--rate", 1)
    result = json.loads(plan(*args, "--json")[1])
    assert result["time"]["seconds"] == 12 * 2 + 6 * 30
    tokens, flops = result["run"]["tokens_seen"], result["flops_per_token"]["forward_and_backward"]
    assert result["time"]["tokens_per_second"] == pytest.approx(tokens / 24)
    assert result["time"]["utilisation"] == pytest.approx(tokens / 24 * flops / 1e9)
    assert asked == [(1, 3), (5, 0), (1, 0)]  # as many steps as ten seconds have
    output = plan(*args)[1]
    for text in ("2,000.0 ms", "6 of 30 s", "0:03:24", "something else kept the machine busy"):
        assert text in output
    assert "is assumed" not in output


def test_data_that_are_not_there_can_be_left_out(plan: Command, tmp_path: Path) -> None:
    missing = ("--preset", "quick", "--data", tmp_path / "none.txt", "--rate", 100)
    status, output, error = plan(*missing)
    assert (status, output) == (1, "")
    assert "none.txt" in error and "--tokens N" in error and len(error.splitlines()) == 1
    assert plan(*missing, "--tokens", 1e6)[0] == 0


def test_data_that_a_plan_for_tokens_leaves_out_are_told(plan: Command, tmp_path: Path) -> None:
    wanted = ("--preset", "baseline", "--rate", 100, "--tokens", 1e6, "--json")
    status, output, errors = plan(*wanted, "--data", tmp_path / "stories.txt")
    assert status == 0
    assert errors.count("\n") == 1
    assert f"{tmp_path / 'stories.txt'} is not read" in errors
    assert (status, output, "") == plan(*wanted)


def test_a_setting_given_twice_is_told(plan: Command) -> None:
    wanted = ("--preset", "baseline", "--rate", 100, "--tokens", 1e6, "--json")
    status, output, errors = plan(*wanted, "-o", "model.num_layers=2", "-o", "model.num_layers=4")
    assert status == 0
    assert errors == "-o model.num_layers is given 2 times: only the last counts, 4\n"
    assert (status, output, "") == plan(*wanted, "-o", "model.num_layers=4")
    assert (status, output, "") == plan(*wanted, *("-o", "model.num_layers=4") * 2)
