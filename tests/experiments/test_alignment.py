"""The experiment on alignment, on a run of a second."""

from __future__ import annotations

import json
import math
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.experiments.test_efficiency import with_settings
from tests.training.tiny import tiny_run
from tinylm.config import RunConfig, from_dict
from tinylm.errors import ConfigError
from tinylm.experiments.alignment import measure
from tinylm.experiments.alignment.comparing import (
    TooFar,
    after_the_best,
    attainable,
    average,
    best_place,
    gained,
    on_the_way,
    path,
    share_of_attainable,
    too_far,
)
from tinylm.experiments.alignment.figures import alignment_figure
from tinylm.experiments.alignment.settings import AlignmentExperiment
from tinylm.experiments.context import Context, run_experiment
from tinylm.experiments.training.measure import StoppedBySignalError
from tinylm.registry import ALIGNMENTS
from tinylm.training import loop

SETTINGS = AlignmentExperiment(
    methods=("reinforce", "dpo"),
    rule="no-repetition",
    seeds=2,
    tokens=600,
    prompt_tokens=3,
    prompts=4,
    responses=2,
    start_responses=4,
    validations=2,
    windows=4,
    rankings=8,
    wrong=0.0,
    reward_steps=2,
    learned_tokens=600,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """A trained run that is short."""
    folder = tmp_path_factory.mktemp("alignment")
    made = tiny_run(
        folder / "run",
        folder / "cache",
        *("model.context_length=24", "training.max_steps=20", "training.learning_rate=3e-3"),
    )
    run_experiment("training", made)
    return with_settings(made, alignment=SETTINGS)


@pytest.fixture(scope="module")
def result(whole: Context) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(measure.run(whole)))
    return made


def test_each_method_has_a_policy_of_each_seed(whole: Context, result: dict[str, Any]) -> None:
    assert [method["name"] for method in result["methods"]] == ["reinforce", "dpo"]
    for method in result["methods"]:
        assert [policy["seed"] for policy in method["policies"]] == [0, 1]
        assert method["label"] == ALIGNMENTS.load(method["name"]).label
        for policy in method["policies"]:
            assert 0 <= policy["reward"] <= 1
            assert policy["generated"] > 0
            assert policy["curve"][0]["step"] == 0
            assert abs(policy["curve"][0]["KL"]) < 1e-4
            assert math.isfinite(policy["learned"])
    assert set(result["sample"]["texts"]) == {"start", "reinforce", "dpo"}
    assert len(result["learned"]["policies"]) == 2
    for policy in result["learned"]["policies"]:
        assert {"kl", "learned", "true"} <= policy["curve"][0].keys()
        assert 0 <= policy["reward_model"]["accuracy"][0] <= 1
    assert not (whole.folder / "alignment").exists()
    assert alignment_figure(result).axes


def test_about_as_many_tokens_are_generated(result: dict[str, Any]) -> None:
    reinforce, dpo = result["methods"]
    of_a_phase = reinforce["settings"]["prompts"] * reinforce["settings"]["samples"]
    length = result["start"]["length"]
    for policy in reinforce["policies"]:
        assert policy["generated"] >= 0.5 * of_a_phase * length
    assert dpo["settings"]["ranked_prompts"] == round(
        SETTINGS.tokens / (dpo["settings"]["responses"] * length)
    )


def test_the_frontier_begins_at_the_start_and_lies_above_the_best_of_n(
    result: dict[str, Any],
) -> None:
    curve = result["frontier"]
    assert curve[0][0] == pytest.approx(0, abs=0.02)
    assert curve[0][1] == pytest.approx(result["start"]["reward"], abs=0.05)
    for best in result["best_of"]:
        assert best["reward"] <= attainable(result, best["kl"]) + 1e-6
    rewards = [each["reward"] for each in result["best_of"]]
    assert rewards == sorted(rewards)


def made_up(**learned: list[list[float]]) -> dict[str, Any]:
    """A result whose policies by the learned reward have these curves, key -> (seeds, places)."""
    seeds = len(next(iter(learned.values())))
    return {
        "start": {"reward": 0.2},
        "frontier": [[0.0, 0.2], [1.0, 0.6], [2.0, 1.0]],
        "learned": {
            "policies": [
                {"curve": [dict(zip(learned, row, strict=True)) for row in zip(
                    *(values[seed] for values in learned.values()), strict=True)]}
                for seed in range(seeds)
            ]
        },
    }  # fmt: skip


def test_where_to_stop_is_chosen_by_the_other_seeds() -> None:
    true = [[0.2, 0.6, 0.4], [0.2, 0.5, 0.3], [0.3, 0.4, 0.5]]
    result = made_up(true=true, learned=[[0.0, 1.0, 2.0]] * 3)
    assert on_the_way(result, "true") == true
    assert best_place(true) == 1
    # Without the first seed 0.45 and 0.4, without the second 0.5 and 0.45, without the third 0.55.
    fall = after_the_best(result, "true")
    assert fall.value == pytest.approx((-0.2 - 0.2 + 0.1) / 3)
    assert after_the_best(result, "learned").value == pytest.approx(1)


def over(true: list[list[float]], learned: list[list[float]]) -> TooFar:
    """What is said of a policy whose texts have these rewards, (validations, texts)."""
    return too_far(
        {
            "curve": [
                {"texts": {"true": a, "learned": b}} for a, b in zip(true, learned, strict=True)
            ]
        }
    )


def test_a_policy_has_gone_too_far_if_the_true_reward_falls_while_the_learned_one_rises() -> None:
    rising = [[0.0] * 4, [1.0, 1.1, 0.9, 1.0], [2.0, 2.0, 2.1, 1.9]]
    falling = [[0.2] * 4, [0.8, 0.9, 0.8, 0.9], [0.1, 0.0, 0.1, 0.2]]
    far = over(falling, rising)
    assert far.place == 1
    assert far.over_optimised
    assert far.true.value == pytest.approx(-0.75)
    assert far.learned.value == pytest.approx(1.0)
    assert not over(rising, rising).over_optimised
    assert not over(falling, falling).over_optimised
    assert not over([[0.2] * 4, [0.9, 0.1, 0.9, 0.1], [0.1, 0.7, 0.2, 0.8]], rising).over_optimised


def test_the_best_place_of_a_text_is_chosen_by_the_others() -> None:
    """Rewards without any trend: the best of many places would always seem to have been better."""
    draw = np.random.default_rng(0)
    falls = [
        over(draw.random((9, 64)).tolist(), np.arange(9)[:, None].repeat(64, 1).tolist())
        for _ in range(300)
    ]
    values = [far.true.value for far in falls]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))
    assert sum(far.over_optimised for far in falls) < 0.06 * len(falls)


def test_a_gain_is_a_share_of_what_its_divergence_allows() -> None:
    result = made_up(true=[[0.0]])
    method = {
        "policies": [
            {"kl": 0.5, "reward": 0.3, "start_reward": 0.25, "curve": [{"KL": 0, "reward": 0.2}]},
            {"kl": 1.5, "reward": 0.5, "start_reward": 0.15, "curve": [{"KL": 2, "reward": 0.4}]},
        ]
    }
    assert average(method, "kl") == 1
    assert gained(method).value == pytest.approx((0.05 + 0.35) / 2)
    assert share_of_attainable(result, method) == pytest.approx((0.4 - 0.2) / (0.6 - 0.2))
    assert path(method) == [(1, pytest.approx(0.3))]


def test_interrupted_it_goes_on(whole: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    take_step, taken = loop.Trainer._take_step, []

    def interrupted(self: loop.Trainer) -> bool:
        ended = take_step(self)
        taken.append(str(self.checkpoints))
        if len(taken) == 4:
            signal.raise_signal(signal.SIGINT)
        return ended

    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "_take_step", interrupted)
        with pytest.raises(StoppedBySignalError, match="tinylm experiment alignment --run"):
            measure.run(whole)
    kept = {path.name for path in (whole.folder / "alignment").iterdir()}
    assert {"reward-0", "reward-1"} <= kept
    reward = whole.folder / "alignment/reward-0/reward.json"
    before = reward.read_bytes()
    replaced = replace(SETTINGS, seeds=1, methods=("reinforce", "reinforce"))
    made = measure.run(with_settings(whole, alignment=replaced))
    assert [len(method["policies"]) for method in made["methods"]] == [1]
    assert before  # it was read, and deleted with the rest
    assert not (whole.folder / "alignment").exists()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"methods": []}, "experiments.alignment.methods"),
        ({"methods": ["dop"]}, "unknown alignment method 'dop'; did you mean dpo"),
        ({"rule": "hapy-end"}, "unknown rule 'hapy-end'; did you mean happy-end"),
        ({"seeds": 0}, "experiments.alignment.seeds = 0: must be at least 1"),
        ({"start_responses": 1}, "experiments.alignment.start_responses = 1: must be at least 2"),
        ({"wrong": 0.7}, "experiments.alignment.wrong = 0.7"),
    ],
)
def test_settings_that_cannot_be_are_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        from_dict(RunConfig, {"experiments": {"alignment": changed}}, "test")


def test_a_prompt_that_fills_the_context_is_refused(whole: Context) -> None:
    with pytest.raises(ConfigError, match="prompt_tokens"):
        measure.run(with_settings(whole, alignment=replace(SETTINGS, prompt_tokens=24)))
    assert not Path(whole.folder / "alignment" / "reward-0" / "reward.json").exists()


def test_a_method_that_follows_no_reward_is_refused(whole: Context) -> None:
    asked = replace(SETTINGS, learned_method="dpo")
    with pytest.raises(ConfigError, match=r"learned_method = dpo learns from preferences.*grpo"):
        measure.run(with_settings(whole, alignment=asked))
