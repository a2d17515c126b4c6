"""``tinylm patch``: the table, the numbers as JSON, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tinylm.interpretability.pair_runs import TokenPair, run_pair
from tinylm.interpretability.patching import sweep
from tinylm.language_model import LanguageModel

CLEAN, CORRUPTED = "Lily saw the ball. The", "Lily saw the kite. The"


def arguments(run: Path, **changes: str) -> list[str]:
    given = {"clean": CLEAN, "corrupted": CORRUPTED, "answer": "ball", "wrong": "kite"}
    return [str(run), *(part for key, text in (given | changes).items()
                        for part in (f"--{key}", text))]  # fmt: skip


def test_the_numbers_are_those_of_the_patches(tinylm: Command, tiny_run: Path) -> None:
    status, out, err = tinylm("patch", *arguments(tiny_run), "--json")
    assert status == 0, err
    result = json.loads(out)
    lm = LanguageModel.load(tiny_run)
    clean, corrupted = ((2, *lm.tokenizer.encode(text)) for text in (CLEAN, CORRUPTED))
    runs = run_pair(lm.model, TokenPair(clean, corrupted, clean[4], corrupted[4]))
    assert result["clean"] == pytest.approx(runs.clean_difference)
    values = sweep(runs, "noising", ["layers.0.input"])["layers.0.input"]
    assert result["stream"]["noising"][0] == pytest.approx((1 - values).tolist(), abs=1e-3)
    values = sweep(runs, "denoising", ["layers.0.attention.mixed"], by_position=False)
    assert result["heads"]["denoising"][0] == pytest.approx(
        values["layers.0.attention.mixed"].tolist(), abs=1e-3
    )
    assert result["tokens"]["corrupted"][3:5] == ["the", "kite"]

    status, out, err = tinylm("patch", *arguments(tiny_run))
    assert status == 0, err
    assert "ball / kite" in out
    assert f"clean: {runs.clean_difference:+.2f}" in out
    percent = round(100 * result["stream"]["denoising"][0][4])
    row = next(line for line in out.splitlines() if "ball / kite" in line)
    assert str(percent) in row


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"corrupted": "Lily saw the kite."},
            "the clean prompt has 6 tokens and the corrupted one 5",
        ),
        ({"corrupted": CLEAN}, "the two prompts are the same to the model"),
        ({"clean": ""}, "the clean prompt is empty"),
        ({"clean": "Lily saw the Qqq. The"}, "the clean prompt holds 'Qqq.', which the vocabular"),
        ({"answer": "ball was"}, "the right answer 'ball was' is 2 tokens"),
        ({"answer": "kite"}, "the right and the wrong answer are the same token"),
        (
            {"clean": "Lily " * 30, "corrupted": "Anna " * 30},
            "31 tokens does not fit into model.con",
        ),
        ({"clean": "was", "corrupted": "met", "answer": "is", "wrong": "is"}, "the right and"),
    ],
)
def test_what_is_no_pair_is_refused_in_a_line(
    tinylm: Command, tiny_run: Path, changes: dict[str, str], message: str
) -> None:
    status, out, err = tinylm("patch", *arguments(tiny_run, **changes))
    assert status != 0
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
