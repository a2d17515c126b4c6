"""The samples experiment: the same prompts at several settings, and measures of these texts."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinylm.config import GenerationConfig
from tinylm.evaluation.diversity import distinct, repetition
from tinylm.experiments import samples
from tinylm.experiments.context import Context, SilentConsole, open_run
from tinylm.language_model import LanguageModel

PROMPTS = ("Once upon a time", "The dog was sad", "zyxwv")


@pytest.fixture(scope="module")
def context(tiny_run: Path) -> Context:
    listed = "[Once upon a time, The dog was sad, zyxwv]"
    settings = [f"report.prompts={listed}", "generation.max_new_tokens=24"]
    return open_run(tiny_run, SilentConsole(), settings)


@pytest.fixture(scope="module")
def result(context: Context) -> dict[str, Any]:
    return samples.run(context)


def test_settings_differ_in_one_thing_each() -> None:
    base = GenerationConfig(top_k=7, repetition_penalty=2, seed=3, max_new_tokens=11)
    compared = samples.settings(base)
    assert len(set(compared.values())) == len(compared) == 6
    for name, one in compared.items():
        assert (one.seed, one.max_new_tokens, one.repetition_penalty) == (3, 11, 1)
        changed = [one.temperature != 1, one.top_k != 0, one.top_p != 1, one.strategy == "greedy"]
        assert sum(changed) == (name != "temperature 1.0")
        if name.startswith("temperature"):
            assert name == f"temperature {one.temperature:.1f}"
    assert compared["top-k 50"].top_k == 50
    assert compared["top-p 0.9"].top_p == 0.9


def test_every_setting_shows_a_text_of_every_prompt(result: dict[str, Any]) -> None:
    assert json.loads(json.dumps(result)) == result
    assert result["max_new_tokens"] == 24
    assert [one["name"] for one in result["settings"]] == [*samples.settings(GenerationConfig())]
    for one in result["settings"]:
        assert [output["prompt"] for output in one["outputs"]] == list(PROMPTS)
        for output in one["outputs"]:
            assert output["text"].startswith(output["prompt"])
            assert output["num_tokens"] <= 24
            assert output["finished"] == (output["num_tokens"] < 24)


@pytest.mark.parametrize(("name", "seeds"), [("greedy", 1), ("temperature 1.5", 4)])
def test_measures_are_those_of_the_generated_texts(
    context: Context, result: dict[str, Any], tiny_lm: LanguageModel, name: str, seeds: int
) -> None:
    (one,) = [one for one in result["settings"] if one["name"] == name]
    settings = samples.settings(GenerationConfig(max_new_tokens=24))[name]
    outputs = tiny_lm.generate(list(PROMPTS) * seeds, settings)
    assert [output.text for output in outputs[:3]] == [out["text"] for out in one["outputs"]]
    texts = [output.ids for output in outputs]
    metrics = one["metrics"]
    for n in (1, 2):  # of one text a prompt at a time, so that sets of like size are compared
        groups = [distinct(texts[i : i + 3], n) for i in range(0, len(texts), 3)]
        assert len(groups) == seeds
        assert metrics[f"distinct_{n}"] == pytest.approx(sum(groups) / seeds)
    assert metrics["repetition"] == repetition(texts)
    assert metrics["unk_rate"] == 0
    assert metrics["mean_length"] == np.mean([len(text) for text in texts])
    assert metrics["finished_share"] == np.mean([output.finished for output in outputs])
    if all(len(output.ids) + 5 < 24 for output in outputs):
        total = sum(output.log_probability for output in outputs)
        count = sum(len(output.ids) + output.finished for output in outputs)
        assert metrics["perplexity"] == pytest.approx(math.exp(-total / count), rel=1e-4)
    assert metrics["perplexity"] > 1


def test_hotter_texts_are_more_varied_and_less_likely(result: dict[str, Any]) -> None:
    metrics = {one["name"]: one["metrics"] for one in result["settings"]}
    order = ["temperature 0.7", "temperature 1.0", "temperature 1.5"]
    perplexities = [metrics[name]["perplexity"] for name in order]
    assert perplexities == sorted(perplexities)
    assert metrics["temperature 0.7"]["distinct_1"] < metrics["temperature 1.5"]["distinct_1"]


def test_perplexity_is_of_the_continuation_alone(tiny_lm: LanguageModel) -> None:
    prompts = ["The dog was", "Tom"]
    outputs = tiny_lm.generate(prompts, max_new_tokens=9, seed=2)
    total = sum(output.log_probability for output in outputs)
    count = sum(len(output.ids) + output.finished for output in outputs)
    found = samples._perplexity(tiny_lm, prompts, prompts, outputs)
    assert found == pytest.approx(math.exp(-total / count), rel=1e-4)


def test_the_reference_is_measured_on_true_stories(result: dict[str, Any]) -> None:
    reference = result["reference"]
    assert 0 < reference["mean_length"] <= 24
    assert reference["repetition"] < 0.1
    assert reference["perplexity"] > 1
