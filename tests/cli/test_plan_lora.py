"""``tinylm plan lora``: the rank for a reduction, of one matrix or of a run's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def plan(tinylm: Command) -> Command:
    """Run ``tinylm plan lora ARGS``: exit status, stdout, stderr."""
    return lambda *args: tinylm("plan", "lora", *args)


def test_a_matrix_and_a_reduction(plan: Command) -> None:
    status, out, _ = plan("--shape", "120x120", "--reduction", 15)
    assert status == 0
    assert out == "rank 4: 120 x 120 = 14,400 weights against 240 r = 960 numbers, 15 times fewer\n"


def test_a_matrix_and_a_rank(plan: Command) -> None:
    planned = json.loads(plan("--shape", "300x1200", "--rank", 8, "--json")[1])
    assert (planned["weights"], planned["trained"], planned["bytes"]) == (360_000, 12_000, 48_000)
    assert planned["reduction"] == 30


def test_a_run(plan: Command, tiny_run: Path) -> None:
    status, out, _ = plan(tiny_run, "--rank", 2)
    assert status == 0
    assert "layers.0.attention.query_key_value" in out
    planned = json.loads(plan(tiny_run, "--rank", 2, "--json")[1])
    assert planned["trained"] == sum(m["trained"] for m in planned["matrices"].values())
    only = json.loads(plan(tiny_run, "--rank", 2, "--target", "attention.output", "--json")[1])[
        "matrices"
    ]
    assert only
    assert all(name.endswith("attention.output") for name in only)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shape", "120x120"], "give either a reduction (such as 15) or a rank (such as 4)"),
        (["--shape", "120x120", "--reduction", "15", "--rank", "4"], "give either a reduction"),
        (["--shape", "120x120", "--reduction", "61"], "ask for 60 or less"),
        (["--shape", "120", "--rank", "4"], "write rows x columns, such as 120x120"),
        (["--shape", "4x9", "--rank", "5"], "matrix is 4 x 9 and has rank 4 at most"),
        (["--rank", "4"], "give either --shape MxN or a run's folder"),
        (["--shape", "4x9", "--rank", "2", "--target", "x"], "--target chooses among the matrices"),
        (["nowhere", "--rank", "4"], "nowhere"),
    ],
)
def test_what_cannot_be_is_one_line(plan: Command, arguments: list[str], message: str) -> None:
    status, out, err = plan(*arguments)
    assert status != 0
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_a_target_that_matches_nothing(plan: Command, tiny_run: Path) -> None:
    status, _, err = plan(tiny_run, "--rank", 2, "--target", "nowhere")
    assert status == 1
    assert "target 'nowhere' matches no linear map of the model" in err
    assert err.count("\n") == 1
