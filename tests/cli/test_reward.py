"""`tinylm reward`: a folder that holds a reward model, which `tinylm align` is rewarded by."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.conftest import Command
from tests.training.tiny import stop_training
from tinylm.alignment.reward_model import RewardModel, rewards_of
from tinylm.checkpoint import TrainingState, load_checkpoint
from tinylm.checkpoint.writing import save_checkpoint
from tinylm.data.preferences import read_preferences
from tinylm.errors import AlignmentError
from tinylm.experiments.reward_models import load_reward_model, read_about
from tinylm.fingerprints import file_sha256
from tinylm.language_model import LanguageModel
from tinylm.reading import signed

QUICK = ("--steps", 4, "--batch-size", 3)
OWN = ("-o", "ranked_prompts=16", "-o", "max_new_tokens=12", "-o", "prompt_tokens=4")
RULE = ("--rule", "no-repetition", "-o", "rule.length=1", "-o", "rule.least_words=0", *OWN)

RESPONSES = ["was happy .", "was very very very happy .", "was very happy ."]


def rows(count: int = 12) -> list[Any]:
    """Rankings of two and three responses in which the shorter is better."""
    words = ("cat", "dog", "bird", "boy", "girl", "ball")
    return [
        {
            "prompt": f"one day the {words[i % 6]} {'was ' * (i // 6)}",
            "responses": ["was happy .", "was very very very happy .", "was very happy ."][
                : 2 + i % 2
            ],
            "ranking": [0, 1] if i % 2 == 0 else [0, 2, 1],
        }
        for i in range(count)
    ]


@pytest.fixture
def preferences(tmp_path: Path) -> Path:
    path = tmp_path / "prefs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows()), "utf-8")
    return path


def weights(folder: str) -> bytes:
    return load_checkpoint(folder).path.joinpath("model.safetensors").read_bytes()


def test_given_rankings_make_a_reward_model(
    tinylm: Command, tiny_run: Path, preferences: Path
) -> None:
    judge = ("--judge", "short", "-o", "judge.most_words=1", "-o", "judge.least_words=0")
    status, out, err = tinylm(
        "reward", tiny_run, "--preferences", preferences, "--out", "made", *QUICK, *judge
    )
    assert (status, out) == (0, "made\n"), err
    assert "11 rankings to train on" in err
    assert "validation loss" in err
    assert "accuracy" in err
    about = read_about(Path("made"))
    lm = LanguageModel.load(tiny_run)
    model = load_reward_model(Path("made"), lm.tokenizer)
    context = lm.model.config.context_length
    given = read_preferences(preferences, lm.tokenizer, context)
    rewards = [rewards_of(model, ranking.texts()) for ranking in given.train]
    means = [sum(own) / len(own) for own in rewards]
    assert sum(means) / len(means) == pytest.approx(0, abs=1e-6)  # each prompt stands there once
    measured = about["measured"]
    assert measured["pairs"] == sum(len(list(each.pairs())) for each in given.validation)
    held_out = [rewards_of(model, ranking.texts()) for ranking in given.validation]
    right = [
        own[i] > own[j]
        for own, each in zip(held_out, given.validation, strict=True)
        for i, j in each.pairs()
    ]
    assert measured["accuracy"][0] == pytest.approx(sum(right) / len(right))
    assert measured["true"]["accuracy"][0] == measured["accuracy"][0]  # the rule says the same
    assert {path.name for path in Path("made").iterdir()} >= {"reward.json", "checkpoints"}
    assert not Path("made/rewarding").exists()
    assert about["training"]["steps"] == 4
    with pytest.raises(AlignmentError, match="was trained with tokenizer"):
        load_reward_model(Path("made"), _other_tokenizer())


def _other_tokenizer() -> Any:
    from tests.training.tiny import tiny_tokenizer

    return tiny_tokenizer()


@pytest.mark.parametrize(
    "options",
    [
        ("-o", "body=frozen", "--learning-rate", 0.1),
        ("--adapter", "lora", "-o", "adapter.rank=2", "--learning-rate", 0.01),
        ("-o", "loss=plackett-luce", "-o", "centre=0.1"),
    ],
)
def test_a_stopped_training_goes_on_bit_for_bit(
    tinylm: Command, tiny_run: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[object, ...]
) -> None:
    def made(out: str) -> tuple[int, str, str]:
        return tinylm("reward", tiny_run, *RULE, "--out", out, *QUICK, *options)

    with monkeypatch.context() as patch:
        stop_training(patch, 1)
        status, _, err = made("stopped")
    assert status != 0
    assert "prompts were answered" in err
    assert not Path("stopped/reward.json").exists()
    status, _, err = tinylm("align", tiny_run, "--rewards", "stopped", "--out", "x")
    assert status == 1
    assert "stopped is no reward model: it has no reward.json" in err
    status, _, err = made("stopped")
    assert status == 0, err
    assert "prompts were answered" not in err
    assert made("whole")[0] == 0
    assert weights("stopped") == weights("whole")
    assert read_about(Path("stopped")) == read_about(Path("whole"))
    base = LanguageModel.load(tiny_run).model.state_dict()
    model = load_checkpoint("whole").build_model()
    assert isinstance(model, RewardModel)
    kept = {name.removeprefix("body."): tensor for name, tensor in model.state_dict().items()}
    changed = [n for n, tensor in base.items() if n in kept and not torch.equal(kept[n], tensor)]
    assert bool(changed) == ("loss=plackett-luce" in options)
    status, _, err = made("whole")
    assert status == 1
    assert "whole is not empty" in err


def test_a_policy_is_aligned_by_it(tinylm: Command, tiny_run: Path, preferences: Path) -> None:
    status, _, err = tinylm(
        "reward", tiny_run, "--preferences", preferences, "--out", "made", *QUICK
    )
    assert status == 0, err
    aligned = ("-o", "held_out_prompts=3", "-o", "least_variety=0", "--steps", 1)
    status, _, err = tinylm(
        "align", tiny_run, "--method", "reinforce", "--rewards", "made", "--judge", "short",
        "--out", "done", "--batch-size", 4, *aligned,
    )  # fmt: skip
    assert status == 0, err
    details = json.loads(Path("done/compression.json").read_text("utf-8"))["details"]
    assert set(details["after"]) >= {"reward", "true reward"}
    assert details["rewards"] == {"reward_model": file_sha256(
        load_checkpoint("made").path / "model.safetensors"
    )}  # fmt: skip
    status, _, err = tinylm("align", tiny_run, "--rewards", "made", "-o", "rewards.words=[dog]",
                            "--out", "x")  # fmt: skip
    assert status == 1
    assert "made is a reward model, which has no settings" in err
    _spoil(Path("made"))
    status, _, err = tinylm(
        "align", tiny_run, "--method", "reinforce", "--rewards", "made", "--out", "y", *aligned
    )
    assert status == 1
    assert re.search(
        "the reward model made gives (-?inf|nan) to a response: rewards", err.splitlines()[-1]
    )
    assert not any(path.name == "config.yaml" for path in Path().glob("y/*"))


def _spoil(folder: Path) -> None:
    """Make a reward model whose rewards overflow, in files that vouch for each other."""
    checkpoint = load_checkpoint(folder)
    model = checkpoint.build_model()
    assert isinstance(model, RewardModel)
    with torch.no_grad():
        model.head.weight.fill_(3e38)
    shutil.rmtree(folder / "checkpoints")
    path = save_checkpoint(folder / "checkpoints", model, checkpoint.tokenizer, TrainingState(1))
    about = dict(read_about(folder)) | {"sha256": file_sha256(path / "model.safetensors")}
    (folder / "reward.json").write_text(json.dumps(signed(about)), "utf-8")


def test_a_damaged_folder_is_one_line(tinylm: Command, tiny_run: Path, preferences: Path) -> None:
    status, _, err = tinylm(
        "reward", tiny_run, "--preferences", preferences, "--out", "made", *QUICK
    )
    assert status == 0, err
    whole = Path("made/reward.json").read_text("utf-8")
    for content, message in (
        (whole.replace('"context_length": 24', '"context_length": 25'), "has changed since it was"),
        ("{}", "carries no checksum"),
        (json.dumps(signed({"format": 3})), "reward.json"),
        (json.dumps(signed(json.loads(whole) | {"format": "x"})), "reward.json"),
    ):
        assert content != whole
        Path("made/reward.json").write_text(content, "utf-8")
        status, _, err = tinylm("align", tiny_run, "--method", "reinforce", "--rewards", "made",
                                "--out", "x")  # fmt: skip
        assert (status, len(err.splitlines())) == (1, 1)
        assert message in err
    Path("made/reward.json").write_text(whole, "utf-8")
    shutil.rmtree("made/checkpoints")
    shutil.copytree(tiny_run / "checkpoints", "made/checkpoints", symlinks=True)
    with pytest.raises(AlignmentError, match="is of another checkpoint"):
        load_reward_model(Path("made"), LanguageModel.load(tiny_run).tokenizer)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "give either --preferences FILE, or --rule RULE"),
        (("--preferences", "prefs.jsonl", "--rule", "short"), "give either --preferences FILE, or"),
        (("--rule", "shrt"), "--rule 'shrt': unknown rule; did you mean short"),
        (("--rule", "short", "--judge", "short"), "--judge: the true reward is that of --rule"),
        (("--preferences", "no.jsonl"), "no.jsonl does not exist"),
        (("--preferences", "prefs.jsonl", "-o", "wrong=0.1"), "wrong=0.1 has no effect with"),
        (
            ("--preferences", "prefs.jsonl", "-o", "rule.words=[dog]"),
            "is about --rule: name",
        ),
        (("--preferences", "prefs.jsonl", "-o", "adapter.rank=2"), "is about --adapter: name one"),
        (("--preferences", "prefs.jsonl", "-o", "tie_share=0.3"), "tie_share has no effect with"),
        (
            ("--preferences", "prefs.jsonl", "-o", "loss=plackett-luce", "-o", "margin=1"),
            "margin has no effect with loss = plackett-luce: give loss=bradley-terry, or leave it",
        ),
        (
            ("--preferences", "prefs.jsonl", "--adapter", "lora", "-o", "body=frozen"),
            "-o body=frozen trains the head alone: leave it, or --adapter, out",
        ),
        (("--preferences", "prefs.jsonl", "--out", "."), "is not empty: give --out a new folder"),
    ],
)
def test_what_cannot_be_is_one_line(
    tinylm: Command, tiny_run: Path, preferences: Path, options: tuple[object, ...], message: str
) -> None:
    status, out, err = tinylm("reward", tiny_run, "--out", "made", *QUICK, *options)
    assert (status, out) == (1, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not Path("made").exists()
    assert preferences.exists()
