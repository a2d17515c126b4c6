"""`tinylm compress`: what it says, writes and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., tuple[int, str, str]]
QUICK = [
    *("-o", "steps=2", "-o", "shares=[0.5]", "-o", "widths=[[4,8],[2,2]]"),
    *("-o", "calibration=6", "-o", "windows=5"),
]


def test_the_smaller_run_is_a_run_like_any_other(
    tinylm: Command, tiny_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "small"
    status, printed, said = tinylm("compress", tiny_run, "--out", out, "--max-loss", "900%", *QUICK)
    assert status == 0, said
    assert printed == f"{out}\n"
    assert "the whole model, float weights: " in said
    about = json.loads((out / "compression.json").read_text())
    assert about["command"] == "compress"
    assert about["details"]["max_loss"] == 9
    times = about["before"]["bytes"] / about["after"]["bytes"]
    assert f"{times:.1f} times smaller; perplexity " in said
    for arguments in (
        ("generate", out, "the dog", "--max-new-tokens", "5"),
        ("evaluate", out, "--json"),
        ("verify", out),
        ("finetune", out, "--data", "letters", "--steps", "2"),
    ):
        status, _, said = tinylm(*arguments)
        assert status == 0, said
    status, _, said = tinylm("train", "--resume", out)
    assert status == 1
    assert "was made by `tinylm compress` of " in said


@pytest.mark.parametrize(
    ("given", "size"), [("500", 500), ("6kB", 6000), ("0.5KiB", 512), ("6_000", 6000)]
)
def test_sizes_are_read_as_they_are_written(
    given: str, size: int, tinylm: Command, tiny_run: Path, tmp_path: Path
) -> None:
    """The smallest that is tried is larger than all of these."""
    out = tmp_path / "small"
    status, _, said = tinylm("compress", tiny_run, "--out", out, "--target-bytes", given, *QUICK)
    assert status == 1
    assert not out.exists()
    assert f"--target-bytes {size}: the smallest that is tried has " in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what is wanted: --target-bytes, such as 600kB, or --max-loss, such as 2%"),
        (["--target-bytes", "1MB", "--max-loss", "2%"], "such as 2%, not both"),
        (["--target-bytes", "small"], "--target-bytes 'small': give a number of bytes"),
        (["--target-bytes", "-5"], "--target-bytes '-5': give a number of bytes"),
        (["--target-bytes", "1e400"], "--target-bytes '1e400': give a number of bytes"),
        (["--max-loss", "2"], "--max-loss '2': give how much higher perplexity may be, in per"),
        (["--max-loss", "-2%"], "--max-loss '-2%': give how much higher"),
        (["--max-loss", "nan%"], "--max-loss 'nan%': give how much higher"),
        (["--max-loss", "2%", "-o", "shares=[1.5]"], "shares"),
        (["--max-loss", "2%", "-o", "widths=[[5,5]]"], "widths"),
        (
            ["--max-loss", "2%", "-o", "shares=[]", "-o", "steps=9"],
            "steps has no effect with shares",
        ),
        (
            ["--max-loss", "2%", "-o", "steps=0", "-o", "rate=9"],
            "rate has no effect with steps = 0",
        ),
        (["--max-loss", "2%", "-o", "parts=[magnitude]"], "magnitude removes nothing"),
        (
            ["--max-loss", "2%", "-o", "parts=[heads,heads]"],
            "heads and heads: give each of them once",
        ),
        (
            ["--max-loss", "2%", "-o", "distillation=both"],
            "give one of word, reverse, hidden, on-p",
        ),
        (["--max-loss", "10000%"], "from 0% to below 10000%"),
        (["--max-loss", "2%", "-o", "method=nf4"], "it has one width"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    arguments: list[str], message: str, tinylm: Command, tiny_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "small"
    status, _, said = tinylm("compress", tiny_run, "--out", out, *arguments)
    assert (status, said.count("\n")) == (1, 1), said
    assert message in said
    assert not out.exists()
