"""``tinylm plan zero``: what each stage holds and sends, and on which cards it fits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tinylm.config import ModelConfig
from tinylm.planning.parameters import parameter_counts

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def plan(tinylm: Command) -> Command:
    """Run ``tinylm plan zero ARGS``: exit status, stdout, stderr."""
    return lambda *args: tinylm("plan", "zero", *args)


def cells(out: str, first: str) -> list[str]:
    """The cells of the row of a table that begins so."""
    (line,) = [line for line in out.splitlines() if line.startswith(f"│ {first}")]
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_seven_billion_parameters_on_eight_gpus(plan: Command) -> None:
    status, out, err = plan("--parameters", "7e9", "--gpus", 8)
    assert (status, err) == (0, "")
    assert out.startswith("7,000,000,000 parameters that are trained, 8 GPUs, bfloat16, states and")
    assert cells(out, "0") == [
        *("0: nothing", "14 GB", "14 GB", "84 GB", "112 GB", "24.5 GB"),
    ]
    assert cells(out, "3")[-2:] == ["14 GB", "36.75 GB"]
    assert cells(out, "16 GB")[1:] == ["no", "no", "from 49 GPUs", "yes"]
    assert cells(out, "141 GB")[1:] == ["yes"] * 4


def test_the_document_shows_what_is_printed(plan: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs/zero.md").read_text("utf-8")
    monkeypatch.setenv("COLUMNS", "80")
    out = plan("--parameters", "7e9", "--gpus", 8)[1]
    lines = [line.rstrip() for line in out.splitlines()]
    assert "\n".join(["```", *lines, "```"]) in text


def test_the_worked_example_of_the_paper(plan: Command) -> None:
    planned = json.loads(plan("--parameters", "7.5e9", "--gpus", 64, "--json")[1])
    totals = [row["bytes"]["total"] / 1e9 for row in planned["stages"]]
    assert totals == pytest.approx([120, 31.4, 16.6, 1.9], abs=0.05)
    numbers = [row["sent"]["numbers"] / 7.5e9 * 64 / 63 for row in planned["stages"]]
    assert numbers == pytest.approx([2, 2, 2, 3], rel=1e-12)


def test_a_preset_has_its_parameters_and_micro_batches(plan: Command) -> None:
    options = (
        "--preset",
        "quick",
        "-o",
        "training.accumulation_steps=4",
        "-o",
        "model.vocab_size=100",
    )
    planned = json.loads(plan(*options, "--gpus", 2, "--precision", "fp32", "--json")[1])
    assert planned["micro_batches"] == 4
    stages = planned["stages"]
    parameters = planned["parameters"]
    assert stages[2]["sent"]["numbers"] == 5 * parameters / 2
    assert stages[3]["sent"]["bytes"] == 4 * 3 * 4 * parameters / 2
    assert stages[1]["bytes"]["total"] == 12 * parameters
    own = json.loads(plan(*options, "--micro-batches", 1, "--json")[1])
    assert own["micro_batches"] == 1


def test_an_embedding_that_is_not_trained_has_no_states(plan: Command, tmp_path: Path) -> None:
    sizes = {"vocab_size": 50, "hidden_size": 8, "num_layers": 1, "num_heads": 2}
    settings = [f"model.{name}={value}" for name, value in sizes.items()]
    options = [
        part for setting in [*settings, "vectors.trainable=false"] for part in ("-o", setting)
    ]
    counts = parameter_counts(ModelConfig(**sizes))
    planned = json.loads(plan(*options, "--gpus", 2, "--json")[1])
    assert planned["frozen"] == 400
    assert planned["parameters"] == counts["total"] - 400
    assert planned["stages"][1]["bytes"]["gradients"] == 2 * (counts["total"] - 400)
    out = plan(*options, "--gpus", 1)[1]
    assert f"{counts['total'] - 400:,} parameters that are trained, 400 that are not, 1 GPU," in out


def test_a_vocabulary_that_is_assumed_is_told(plan: Command) -> None:
    out = plan("--preset", "baseline")[1]
    assert "model.vocab_size is empty: 10,000 is assumed" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--parameters", "7e9", "--preset", "quick"], "leave out either it or --preset"),
        (["--parameters", "7e9", "-o", "model.num_layers=2"], "leave out either it or --preset"),
        (["--parameters", "1.5"], "--parameters 1.5 is no whole number, such as 7e9"),
        (["--parameters", "many"], "Input should be a valid number"),
        (["--parameters", "inf"], "no whole number"),
        (["--parameters", "0"], "greater than or equal to 1"),
        (["--parameters", "7e9", "--gpus", "0"], "--gpus"),
        (["--parameters", "7e9", "--precision", "fp8"], "fp8"),
    ],
)
def test_what_cannot_be_is_one_line(plan: Command, arguments: list[str], message: str) -> None:
    status, out, err = plan(*arguments)
    assert status != 0
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
