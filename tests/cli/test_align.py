"""`tinylm align`: a run that is aligned, interrupted and gone on with, and what is refused."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.conftest import Command
from tests.cli.test_finetune import files
from tinylm.checkpoint import load_checkpoint
from tinylm.config import load_config
from tinylm.experiments.records import read_compression
from tinylm.language_model import LanguageModel
from tinylm.model.base import build
from tinylm.training import loop
from tinylm.training.tracking import read_metrics

LITTLE = (
    *("--method", "reinforce", "--rewards", "happy-end", "--steps", 4, "--batch-size", 6),
    *("-o", "prompt_tokens=3", "-o", "max_new_tokens=12", "-o", "held_out_prompts=4"),
    *("-o", "prompts=6", "-o", "samples=1"),
)


@pytest.fixture
def run(tmp_path: Path, tiny_run: Path) -> Path:
    """A copy of the tiny run."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run", symlinks=True))


def align(tinylm: Command, run: Path, out: str, *more: object) -> str:
    status, printed, err = tinylm("align", run, "--out", out, *LITTLE, *more)
    assert (status, printed) == (0, f"{out}\n"), err
    return err


def test_it_is_a_run_that_measured_what_it_became(tinylm: Command, run: Path) -> None:
    before = files(run)
    err = align(tinylm, run, "aligned", "--judge", "happy-end")
    assert files(run) == before
    assert "before: reward" in err
    assert "after: reward" in err
    assert "true reward" in err
    written = read_compression(Path("aligned"))
    assert written is not None
    assert (written["command"], written["method"]) == ("align", "reinforce")
    details = written["details"]
    assert details["steps"] == 4
    assert details["stopped"] is None
    assert details["before"]["KL"] == pytest.approx(0, abs=1e-4)
    assert details["after"].keys() == details["before"].keys()
    assert details["differences"].keys() == {"reward", "true reward"}
    assert 0 < details["generated"] <= 4 * 6 * 13
    assert not Path("aligned/aligning").exists()
    assert not Path("aligned/alignment.json").exists()
    records = read_metrics(Path("aligned"))
    validations = [record for record in records if record["kind"] == "validation"]
    assert [record["step"] for record in validations] == [0, 1, 2, 3, 4]
    assert all("perplexity" not in record for record in records)
    steps = [record for record in records if record["kind"] == "train"]
    assert all({"reward", "KL", "length"} <= record["measures"].keys() for record in steps)
    for command in (("generate", "aligned", "the dog"), ("evaluate", "aligned", "--json")):
        status, printed, err = tinylm(*command)
        assert status == 0, err
        assert printed


def test_an_adapter_is_moved_into_the_weights(tinylm: Command, run: Path) -> None:
    align(tinylm, run, "adapted", "--adapter", "lora", "-o", "adapter.rank=2")
    kept = load_checkpoint("adapted")
    assert not kept.changes
    plain = build(kept.config)
    plain.load_state_dict(kept.weights)
    ids = torch.randint(4, 40, (2, 9), generator=torch.Generator().manual_seed(0))
    assert torch.equal(plain.eval()(ids), LanguageModel.load("adapted").model.eval()(ids))
    record = read_compression(Path("adapted"))
    assert record is not None
    assert record["details"]["adapter"]["settings"]["rank"] == 2


def test_dropout_is_off_while_it_is_aligned_and_the_run_keeps_it(
    tinylm: Command, run: Path
) -> None:
    assert load_config(run / "config.yaml").model.dropout > 0
    align(tinylm, run, "first")
    align(tinylm, run, "second")
    assert load_config(Path("first/config.yaml")).model.dropout > 0
    assert files(Path("first/checkpoints")) == files(Path("second/checkpoints"))
    status, printed, err = tinylm("finetune", "first", "--method", "full", "--data", "letters",
                                  "--steps", 1)  # fmt: skip
    assert status == 0, err
    assert printed


def test_interrupted_the_same_command_ends_as_it_would_have(
    tinylm: Command, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    align(tinylm, run, "whole")
    take_step = loop.Trainer._take_step

    def interrupted(self: loop.Trainer) -> bool:
        ended = take_step(self)
        if self.step == 2:
            signal.raise_signal(signal.SIGINT)
        return ended

    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "_take_step", interrupted)
        status, _, err = tinylm("align", run, "--out", "parts", *LITTLE)
    assert status == 130
    assert "stopped by SIGINT after step 2, saved; go on: tinylm align" in err
    assert not Path("parts/config.yaml").exists()
    status, _, err = tinylm("align", run, "--out", "parts", *LITTLE, "--learning-rate", 0.5)
    assert status == 1
    assert "was begun with another training.learning_rate" in err
    err = align(tinylm, run, "parts")
    assert "Going on after step 2 of 4" in err
    assert files(Path("whole/checkpoints")) == files(Path("parts/checkpoints"))
    status, _, err = tinylm("align", run, "--out", "parts", *LITTLE)
    assert (status, err) == (1, "tinylm: parts is not empty: give --out a new folder\n")


def test_it_stops_where_it_goes_too_far(tinylm: Command, run: Path) -> None:
    learned = ("--rewards", "no-repetition", "--learning-rate", 0.1)
    err = align(tinylm, run, "far", "-o", "kl_limit=1e-9", *learned)
    assert "warning: stopped after step " in err
    assert "the KL from the start is" in err
    assert "kl_limit is 1e-09: the best checkpoint before is kept" in err
    record = read_compression(Path("far"))
    assert record is not None
    assert record["details"]["best_step"] == 0
    before, after = (LanguageModel.load(folder).model for folder in (run, Path("far")))
    for name, weight in before.state_dict().items():
        assert torch.equal(weight, after.state_dict()[name])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--method", "reinforce"), "reinforce learns from rewards: give --rewards"),
        (("--method", "dop"), "unknown alignment method 'dop'; did you mean dpo?"),
        (
            ("--method", "reinforce", "--rewards", "hapy-end"),
            "--rewards 'hapy-end': unknown rule; did you mean happy-end or",
        ),
        (
            ("--method", "reinforce", "--rewards", "happy-end", "-o", "prompt_tokens=24"),
            "-o prompt_tokens=24 leaves no room in the context of 24: give 23 at most",
        ),
        (
            ("--method", "reinforce", "--rewards", "happy-end", "-o", "bta=1"),
            "-o: unknown key bta",
        ),
        (
            ("--method", "reinforce", "--rewards", "happy-end", "-o", "adapter.rank=2"),
            "-o adapter.rank=2 is about --adapter: name one, or leave it out",
        ),
        *(
            (
                ("--method", "reinforce", "--rewards", "happy-end", "--adapter", adapter),
                f"--adapter {adapter}: the aligned run has what is trained in its weights, and "
                "that cannot be (adapter 'default' is no update of the weights",
            )
            for adapter in ("bottleneck", "prefix", "prompt")
        ),
        (
            (
                "--method",
                "ppo",
                "--rewards",
                "happy-end",
                "--adapter",
                "lora",
                "-o",
                "adapter.size=2",
            ),
            "-o adapter: size is a setting of bottleneck, not of lora: leave it out, or give "
            "--adapter bottleneck",
        ),
        (
            (
                "--method",
                "ppo",
                "--rewards",
                "happy-end",
                "-o",
                "prompts=3",
                "-o",
                "samples=2",
                "-o",
                "minibatches=7",
            ),
            "-o minibatches=7: a phase has 6 responses",
        ),
        (
            ("--method", "reinforce", "-o", "rewards.words=[a]"),
            "-o rewards.words=[a] is about --rewards",
        ),
        (
            ("--method", "reinforce", "--rewards", "happy-end", "--preferences", "nowhere.jsonl"),
            "--preferences: reinforce learns from rewards",
        ),
        (("--method", "dpo"), "dpo learns from preferences: give --preferences FILE, or --rewards"),
        (
            ("--method", "reinforce", "--rewards", "happy-end", "--steps", 0),
            "--steps",
        ),
    ],
)
def test_what_cannot_be_is_one_line_and_nothing_is_written(
    tinylm: Command, run: Path, options: tuple[Any, ...], words: str
) -> None:
    before = files(run)
    status, printed, err = tinylm("align", run, "--out", "out", *options)
    assert status in (1, 2)
    assert printed == ""
    assert err.startswith("tinylm: ")
    assert err.count("\n") == 1
    assert words in err
    assert not Path("out").exists()
    assert files(run) == before
