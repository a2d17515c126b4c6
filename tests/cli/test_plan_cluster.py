"""``tinylm plan cluster``: a layout's step, memory, traffic, failures and cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tinylm.config import load_config
from tinylm.planning.activations import activation_bytes
from tinylm.planning.parameters import parameter_counts

Command = Callable[..., tuple[int, str, str]]
GPT3 = (
    *("--gpus", 1024, "--parameters", 174.6e9, "--tensor-parallel", 8, "--pipeline-parallel", 8),
    *("--batch", 1536, "--card", "a100"),
)


@pytest.fixture
def plan(tinylm: Command) -> Command:
    """Run ``tinylm plan cluster ARGS``: exit status, stdout, stderr."""
    return lambda *args: tinylm("plan", "cluster", *args)


def result(plan: Command, *args: object) -> dict[str, dict[str, float]]:
    status, out, err = plan(*args, "--json")
    assert status == 0, err
    parsed: dict[str, dict[str, float]] = json.loads(out)
    return parsed


def test_the_parts_make_the_whole(plan: Command) -> None:
    told = result(plan, *GPT3, "--tokens", 300e9, "--price", 2)
    for part in ("step", "memory"):
        sizes = {k: v for k, v in told[part].items() if k not in ("total", "fits")}
        assert sum(sizes.values()) == pytest.approx(told[part]["total"])
    assert told["layout"]["data"] == 16  # what is left of the cards
    assert told["layout"]["micro_batches"] == 96
    step, run = told["step"]["total"], told["run"]
    assert told["tokens_per_second"] == pytest.approx(1536 * 2048 / step)
    assert run["seconds_without_failures"] == pytest.approx(run["steps"] * step)
    share = told["failures"]["useful_share"]
    assert run["seconds"] == pytest.approx(run["seconds_without_failures"] / share)
    assert run["cost"] == pytest.approx(run["seconds"] / 3600 * 1024 * 2)
    assert told["utilisation"] == pytest.approx(told["model_flops_per_second"] / 312e12)


def test_the_table_says_what_limits(plan: Command) -> None:
    status, out, _ = plan(*GPT3, "--tokens", 300e9, "--price", 2)
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == "174.6 billion parameters: 96 layers, width 12,288, 96 heads, 2,048 places"
    assert lines[1] == "1,024 x A100 80 GB: data 16 x tensor 8 x pipeline 8; ZeRO stage 0"
    assert "the rate of matrix products" in lines[lines.index("Limited by") + 1]
    assert "pipeline bubble" in out
    assert "cost" in out
    _, out, _ = plan("--gpus", 8, "--parameters", 70e9)
    assert "memory: a card would hold 1," in out
    assert "GiB and has 80.0 GiB" in out


def test_a_run_of_tinylm_has_its_own_numbers(plan: Command) -> None:
    settings = ("-o", "model.vocab_size=1000", "-o", "training.accumulation_steps=3")
    told = result(plan, "--gpus", 4, "--preset", "baseline", *settings)
    config = load_config(preset="baseline", overrides=[*settings[1::2]], of_run=False)
    assert told["shape"]["parameters"] == parameter_counts(config.model)["total"]
    assert told["layout"]["micro_batch"] == config.training.batch_size
    assert told["layout"]["batch"] == 4 * 3 * config.training.batch_size
    own = activation_bytes(
        config.model, config.training.batch_size, precision="bf16",
        quick=config.training.speed == "auto",
    )  # fmt: skip
    assert told["memory"]["activations_as_tinylm_keeps_them"] == own["total"]
    assert told["links"]["per_node"] == 4
    _, out, _ = plan("--gpus", 4, "--preset", "baseline", *settings)
    assert "activations, as tinylm keeps them" in out
    # Shared among cards there is no such step here.
    told = result(plan, "--gpus", 4, "--preset", "baseline", "--tensor-parallel", 2, *settings)
    assert "activations_as_tinylm_keeps_them" not in told["memory"]


def test_a_file_takes_a_vocabulary_that_it_may_have(plan: Command, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("model:\n  num_layers: 2\n")
    told = result(plan, "--gpus", 1, "--config", tmp_path / "run.yaml")
    assert told["shape"]["layers"] == 2
    assert told["shape"]["vocabulary"] > 1000


def test_every_figure_can_be_stated(plan: Command) -> None:
    figures = {
        "--peak": 100, "--attainable": 0.5, "--memory": 24, "--memory-bandwidth": 1000,
        "--per-node": 4, "--link-within": 30, "--link-between": 3, "--latency-within": 5,
        "--latency-between": 50,
    }  # fmt: skip
    arguments = [word for option in figures.items() for word in option]
    sizes = ("--layers", 4, "--hidden", 256, "--heads", 4, "--context", 128, "--vocabulary", 500)
    told = result(plan, "--gpus", 8, *sizes, *arguments, "--card-hours", 100, "--restart", 5,
                  "--storage", 2)  # fmt: skip
    card, links = told["card"], told["links"]
    assert (card["peak"], card["memory"], card["bandwidth"]) == (1e14, 24 * 2**30, 1e12)
    assert card["attainable"] == 0.5
    assert (links["per_node"], links["within"], links["between"]) == (4, 30e9, 3e9)
    assert links["latency_within"] == pytest.approx(5e-6)
    assert links["latency_between"] == pytest.approx(5e-5)
    failures = told["failures"]
    assert failures["seconds_between"] == pytest.approx(100 * 3600 / 8)
    assert failures["checkpoint_seconds"] == pytest.approx(failures["checkpoint_bytes"] / 2e9)
    assert told["shape"]["ffn"] == 1024


def test_llama_by_its_sizes(plan: Command) -> None:
    sizes = (
        *("--layers", 126, "--hidden", 16_384, "--heads", 128, "--key-heads", 8),
        *("--ffn", 53_248, "--gated", "--context", 8192, "--vocabulary", 128_256),
    )
    layout = ("--tensor-parallel", 8, "--pipeline-parallel", 16, "--zero", 2, "--batch", 2048)
    told = result(plan, "--gpus", 8192, *sizes, *layout, "--interleave", 8)
    assert told["shape"]["parameters"] == 405_853_388_800
    assert told["model_flops_per_second"] == pytest.approx(430e12, rel=0.1)


def test_experts(plan: Command) -> None:
    sizes = ("--layers", 4, "--hidden", 256, "--heads", 4, "--experts", 8)
    told = result(plan, "--gpus", 8, *sizes, "--expert-parallel", 8)
    assert told["shape"]["active"] == 2
    assert told["step"]["expert"] > 0
    assert told["traffic"]["expert"] > 0


def test_published_runs(plan: Command) -> None:
    status, out, _ = plan("--published")
    assert status == 0
    assert "43 of 54 within 20 %" in out
    rows = json.loads(plan("--published", "--json")[1])
    assert len(rows) == 54
    assert sum(row["within"] for row in rows) == 43
    assert all(abs(row["error"]) <= 0.2 for row in rows if row["within"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --gpus N, or --published alone"),
        (["--gpus", "7", "--parameters", "1e9", "--tensor-parallel", "2"],
         "--data-parallel 3 x --tensor-parallel 2 x --pipeline-parallel 1 x --context-parallel 1 "
         "is 6 and not --gpus 7"),
        (["--gpus", "8", "--layers", "4", "--hidden", "64"],
         "a model by its sizes needs --heads too"),
        (["--gpus", "8", "--parameters", "1e9", "--layers", "4"], "--parameters chooses the sizes"),
        (["--gpus", "8", "--parameters", "1e9", "--preset", "quick"],
         "--parameters describes a model, and so do --preset, --config and -o: give either"),
        (["--gpus", "8", "--card", "a200"], "--card 'a200' is not known; did you mean"),
        (["--gpus", "8", "--preset", "quick", "-o", "model.kind=gru"],
         "model.kind = gru is not laid out over cards"),
        (["--gpus", "8", "--layers", "4", "--hidden", "64", "--heads", "4", "--key-heads", "3"],
         "--heads 4 is not divisible by --key-heads 3"),
        (["--gpus", "8", "--layers", "4", "--hidden", "64", "--heads", "4", "--active-experts",
          "2"], "--active-experts has no effect without --experts"),
        (["--gpus", "8", "--layers", "4", "--hidden", "64", "--heads", "4", "--active-experts",
          "3", "--experts", "2"], "--active-experts 3 is more than --experts 2"),
        (["--gpus", "16", "--preset", "quick", "--pipeline-parallel", "16"],
         "layers are not divisible by --pipeline-parallel 16"),
        (["--gpus", "8", "--parameters", "1e9", "--card-hours", "0.001"],
         "no run would end; raise --storage or --card-hours, or lower --restart"),
        (["--gpus", "8", "--parameters", "1e9", "--overlap", "nan"],
         "--overlap nan is no number to plan with"),
        (["--gpus", "8", "--parameters", "1e9", "--tokens", "inf"], "--tokens inf is no number"),
        (["--gpus", "8", "--parameters", "1e99"], "is more than 1e+15, the most planned"),
        (["--gpus", "1", "--parameters", "1e9", "--batch", "9" * 30], "--batch: 1e+30 is more"),
        (["--gpus", "eight"], "invalid value for '--gpus'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(plan: Command, arguments: list[str], message: str) -> None:
    status, out, err = plan(*arguments)
    assert status != 0
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
