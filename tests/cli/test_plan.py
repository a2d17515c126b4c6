"""``tinylm plan``: the formulas' numbers, told before anything is trained."""

import json
from collections.abc import Callable

import pytest

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
    preset = ("--preset", "baseline", "--rate", 100, "--json", "-o", "training.precision=fp32")
    found = json.loads(plan(*preset, "--memory", 1)[1])["training_memory"]
    kept, peak = found["activations"], found["peak"]
    assert kept["total"] == sum(size for part, size in kept.items() if part != "total")
    assert kept["pattern"] == 3 * 32 * 8 * 64 * 64 * 4
    assert peak["total"] > 12 * 9_276_136 + kept["total"]  # weights, two moments, activations
    assert found["available"] == 2**30
    assert found["largest_batch"] > 32
    fewer = json.loads(plan(*preset, "--memory", 0.1)[1])["training_memory"]
    assert fewer["largest_batch"] == 0  # the optimizer's state alone does not fit
    wide = (*preset, "--memory", 1, "-o", "training.gradient_checkpointing=1")
    again = json.loads(plan(*wide)[1])["training_memory"]
    assert again["largest_batch"] > found["largest_batch"]


def test_the_rate_is_measured_if_it_is_not_given(plan: Command) -> None:
    _, output, _ = plan("-o", "model.vocab_size=100", "--json")
    result = json.loads(output)
    assert result["time"]["gflops_per_second"] > 0.1
    assert result["time"]["precision"] in ("fp32", "bf16")
    assert not result["vocab_size_assumed"]
    assert result["tokens"]["planned"] == result["tokens"]["compute_optimal"]


def test_the_tables(plan: Command) -> None:
    status, output, _ = plan("--rate", 100)
    assert status == 0
    for told in (
        "9,276,136",
        "7.125 KiB",
        "100 GFLOP/s",
        "40 %",
        "tokenizer.max_size",
        "peak with 32",
    ):
        assert told in output


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--tokens", 0], "--tokens"),
        (["--utilisation", 1.5], "--utilisation"),
        (["--rate", 0], "--rate"),
        (["--preset", "huge"], "unknown preset 'huge'"),
        (["-o", "model.num_head=3"], "did you mean model.num_heads"),
    ],
)
def test_what_cannot_be_is_one_line(plan: Command, args: list[object], told: str) -> None:
    status, output, error = plan(*args)
    assert status != 0
    assert output == ""
    assert told in error
    assert len(error.splitlines()) == 1
