"""The samples experiment: the same prompts at several settings, and measures of these texts."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinylm.config import GenerationConfig
from tinylm.evaluation.continuations import generate_in_batches, story_prompts
from tinylm.evaluation.diversity import distinct, repetition
from tinylm.experiments.context import Context, SilentConsole, open_run
from tinylm.experiments.preparation import encoded_split
from tinylm.experiments.samples import measure as samples
from tinylm.language_model import LanguageModel
from tinylm.tokenizers.base import SOS_ID

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
    for name, setting in compared.items():
        assert (setting.seed, setting.max_new_tokens, setting.repetition_penalty) == (3, 11, 1)
        changed = [
            setting.temperature != 1,
            setting.top_k != 0,
            setting.top_p != 1,
            setting.strategy == "greedy",
        ]
        assert sum(changed) == (name != "temperature 1.0")
        if name.startswith("temperature"):
            assert name == f"temperature {setting.temperature:.1f}"
    assert compared["top-k 50"].top_k == 50
    assert compared["top-p 0.9"].top_p == 0.9


def test_every_setting_shows_a_text_of_every_prompt(result: dict[str, Any]) -> None:
    assert json.loads(json.dumps(result)) == result
    assert result["max_new_tokens"] == 24
    assert [setting["name"] for setting in result["settings"]] == [
        *samples.settings(GenerationConfig())
    ]
    for setting in result["settings"]:
        assert [output["prompt"] for output in setting["outputs"]] == list(PROMPTS)
        for output in setting["outputs"]:
            assert output["text"].startswith(output["prompt"])
            assert output["num_tokens"] <= 24
            assert output["finished"] == (output["num_tokens"] < 24)


@pytest.mark.parametrize("name", ["greedy", "temperature 1.5"])
def test_measures_are_those_of_continued_validation_stories(
    context: Context, result: dict[str, Any], tiny_lm: LanguageModel, name: str
) -> None:
    (setting,) = [setting for setting in result["settings"] if setting["name"] == name]
    settings = samples.settings(GenerationConfig(max_new_tokens=24))[name]
    config, tokenizer = context.config, tiny_lm.tokenizer
    validation = encoded_split(config.data, tokenizer, "validation", SilentConsole())
    wanted = replace(config.evaluation, max_new_tokens=24)
    prompts = story_prompts(validation, wanted, 24).prompts
    assert len(prompts) == result["num_stories"] == len(setting["texts"]) == 6
    generated = generate_in_batches(tiny_lm.model, prompts, settings, 32)
    texts = [text.ids for text in generated]
    metrics = setting["metrics"]
    for n in (1, 2):
        assert metrics[f"distinct_{n}"] == distinct(texts, n)
    assert metrics["repetition"] == repetition(texts)
    assert metrics["unk_rate"] == 0
    assert metrics["mean_length"] == np.mean([len(text) for text in texts])
    assert metrics["finished_share"] == np.mean([text.finished for text in generated])
    outputs = tiny_lm.generate(list(PROMPTS), settings)
    assert [output.text for output in outputs] == [out["text"] for out in setting["outputs"]]


def test_hotter_texts_are_more_varied_and_less_likely(result: dict[str, Any]) -> None:
    metrics = {setting["name"]: setting["metrics"] for setting in result["settings"]}
    order = ["temperature 0.7", "temperature 1.0", "temperature 1.5"]
    perplexities = [metrics[name]["perplexity"] for name in order]
    assert perplexities == sorted(perplexities)
    assert metrics["temperature 0.7"]["distinct_1"] < metrics["temperature 1.5"]["distinct_1"]


def test_perplexity_is_of_the_continuation_alone(tiny_lm: LanguageModel) -> None:
    prompts = ["The dog was", "Tom"]
    outputs = tiny_lm.generate(prompts, max_new_tokens=9, seed=2)
    total = sum(output.log_probability for output in outputs)
    count = sum(len(output.ids) + output.finished for output in outputs)
    framed = [[SOS_ID, *tiny_lm.tokenizer.encode(prompt)] for prompt in prompts]
    finished = [output.finished for output in outputs]
    own = samples._scored(tiny_lm, framed, [output.ids for output in outputs], finished)
    perplexity = samples._measures(own, finished)["perplexity"]
    assert perplexity == pytest.approx(math.exp(-total / count), rel=1e-4)


def test_the_reference_is_how_the_stories_truly_go_on(result: dict[str, Any]) -> None:
    reference = result["reference"]
    assert 0 < reference["mean_length"] <= 24
    assert reference["repetition"] < 0.1
    assert reference["perplexity"] > 1


def test_settings_are_compared_story_by_story(result: dict[str, Any]) -> None:
    pairs = result["differences"]["log_probability_per_token"]
    value, low, high = pairs["temperature 0.7"]["temperature 1.5"]
    metrics = {setting["name"]: setting["metrics"] for setting in result["settings"]}
    logs = [math.log(metrics[f"temperature {t}"]["perplexity"]) for t in ("1.5", "0.7")]
    assert value == pytest.approx(logs[0] - logs[1])
    assert low < value < high
    assert set(result["differences"]["distance"]) == set(metrics)
