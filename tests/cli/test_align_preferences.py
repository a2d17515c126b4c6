"""`tinylm align` by preferences: given ones, and rankings of own samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command
from tests.training.tiny import stop_training
from tinylm.data.preferences import read_rankings

QUICK = ("--steps", 3, "-o", "held_out_prompts=4", "-o", "least_variety=0")
OWN = ("-o", "ranked_prompts=30", "-o", "responses=6", "-o", "prompt_tokens=4")
PAIRS = [
    {"prompt": "Once upon a time, ", "chosen": f"the {animal} ran home .", "rejected": "sad ."}
    for animal in ("cat", "dog", "bird", "boy", "girl", "fish")
]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A file of pairs with two prompts."""
    path = tmp_path / "pairs.jsonl"
    rows = [row | {"prompt": prompt} for row in PAIRS for prompt in ("one day , ", "a little ")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_given_pairs_align_a_run(tinylm: Command, tiny_run: Path, pairs: Path) -> None:
    status, out, err = tinylm(
        "align", tiny_run, "--out", "done", "--method", "dpo", "--preferences", pairs, *QUICK
    )
    assert (status, out) == (0, "done\n"), err
    assert "6 rankings to train on (6 pairs), 6 held out (6 pairs)" in err
    details = json.loads(Path("done/compression.json").read_text("utf-8"))["details"]
    assert details["prompts"] == {"train": 1, "validation": 4}  # its own prompt, repeated
    assert "reward" not in details["after"]
    assert not Path("done/preferences.jsonl").exists()


def test_own_samples_are_ranked_once_for_an_interrupted_training(
    tinylm: Command, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def aligned(out: str) -> tuple[int, str, str]:
        rule = ("--method", "dpo", "--rewards", "short", "--seed", 3)
        return tinylm("align", tiny_run, "--out", out, *rule, *OWN, *QUICK)

    with monkeypatch.context() as patch:
        stop_training(patch, 1)
        status, _, err = aligned("stopped")
    assert status != 0
    assert "prompts were answered" in err
    kept = Path("stopped/preferences.jsonl").read_bytes()
    status, _, err = aligned("stopped")
    assert status == 0, err
    assert "prompts were answered" not in err
    assert Path("stopped/preferences.jsonl").read_bytes() == kept
    assert aligned("whole")[0] == 0
    assert Path("whole/preferences.jsonl").read_bytes() == kept
    weights = [
        (Path(each) / "checkpoints/last/model.safetensors").read_bytes()
        for each in ("stopped", "whole")
    ]
    assert weights[0] == weights[1]
    assert all(
        len(ranking.responses) >= 2 for ranking in read_rankings(Path("whole/preferences.jsonl"))
    )


def test_rankings_whose_file_is_gone_or_changed_are_not_gone_on_with(
    tinylm: Command, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = ("--method", "dpo", "--rewards", "short", *OWN, *QUICK)
    with monkeypatch.context() as patch:
        stop_training(patch, 1)
        tinylm("align", tiny_run, "--out", "out", *rule)
    path = Path("out/preferences.jsonl")
    rows = path.read_text("utf-8").splitlines()
    path.write_text("\n".join(rows[1:]), "utf-8")
    status, _, err = tinylm("align", tiny_run, "--out", "out", *rule)
    assert status != 0
    assert "Traceback" not in err
    path.unlink()
    status, _, err = tinylm("align", tiny_run, "--out", "out", *rule)
    assert status != 0
    assert "preferences.jsonl, the rankings that the training began with, is gone: delete" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-o", "wrong=0.1"), "-o wrong=0.1 has no effect with --preferences pairs.jsonl"),
        (("-o", "responses=3"), "-o responses=3 has no effect with"),
        (("-o", "prompt_tokens=3"), "-o prompt_tokens=3 has no effect with"),
        (("--rewards", "happy-end", "-o", "ranked_prompts=9"), "ranked_prompts=9 has no effect"),
        (("--method", "reinforce", "--rewards", "happy-end"), "reinforce learns from rewards"),
        (("--preferences", "no.jsonl"), "no.jsonl does not exist: give a .jsonl file, or a folder"),
    ],
)
def test_what_contradicts_itself_is_one_line(
    tinylm: Command, tiny_run: Path, pairs: Path, options: Any, message: str
) -> None:
    given = ("--method", "dpo", "--preferences", pairs, *options)
    status, out, err = tinylm("align", tiny_run, "--out", "out", *given, *QUICK)
    assert (status, out) == (1, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not Path("out").exists()


def test_responses_that_are_all_as_good_say_so(tinylm: Command, tiny_run: Path) -> None:
    few = ("-o", "ranked_prompts=1", "-o", "responses=2")
    status, _, err = tinylm(
        "align", tiny_run, "--out", "out", "--method", "dpo", "--rewards", "happy-end", *few, *QUICK
    )
    assert status == 1
    assert "there is nothing to prefer; give more responses, more prompts, or" in err
    assert not Path("out/aligning").exists()
