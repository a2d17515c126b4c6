"""The attention experiment on the tiny run: one measure for the result, the page and the words."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from tinylm.errors import GenerationError
from tinylm.experiments.attention import measure as attention
from tinylm.experiments.attention.example_sentences import FEWEST, MOST
from tinylm.experiments.attention.settings import AttentionExperiment
from tinylm.experiments.context import Context
from tinylm.experiments.preparation import encoded_split
from tinylm.interpretability.attention_maps import attention_patterns
from tinylm.interpretability.head_ablation import head_worth
from tinylm.interpretability.head_measures import measure_heads
from tinylm.language_model import LanguageModel
from tinylm.tokenizers.base import SOS_ID, UNK_ID


@pytest.fixture(scope="module")
def context(tiny_context: Context) -> Context:
    config = tiny_context.config
    experiments = replace(config.experiments, attention=AttentionExperiment(stories=7))
    return replace(tiny_context, config=replace(config, experiments=experiments))


@pytest.fixture(scope="module")
def result(context: Context) -> dict[str, Any]:
    return attention.run(context)


def test_heads_are_measured_on_stories_spread_over_the_split(
    context: Context, tiny_lm: LanguageModel, result: dict[str, Any]
) -> None:
    assert json.loads(json.dumps(result)) == result
    file = encoded_split(context.config.data, tiny_lm.tokenizer, "validation", context.console)
    chosen = [0, 3, 6, 10, 13, 16, 19]  # 7 of 20
    texts = [file.story(i)[:24].tolist() for i in chosen]
    assert result["stories"] == 7
    marks = attention.punctuation_types(tiny_lm.tokenizer)
    measures, worth = measure_heads(tiny_lm.model, texts, marks), head_worth(tiny_lm.model, texts)
    expected = attention.heads_result(measures, worth, tiny_lm.tokenizer)
    assert {key: result[key] for key in expected} == expected
    assert [(head["layer"], head["head"]) for head in result["heads"]] == [(0, 0), (0, 1)]


def test_sentences_are_those_of_the_validation_split(
    tiny_lm: LanguageModel, result: dict[str, Any]
) -> None:
    assert 1 <= len(result["sentences"]) <= 3
    for sentence in result["sentences"]:
        ids = tiny_lm.tokenizer.encode(sentence["text"])
        assert FEWEST <= len(ids) <= MOST and UNK_ID not in ids
        assert sentence["ids"] == [SOS_ID, *ids]
        assert len(sentence["words"]) == len(sentence["ids"])
        patterns = attention_patterns(tiny_lm.model, sentence["ids"])
        torch.testing.assert_close(
            torch.tensor(sentence["patterns"]), patterns, atol=5.1e-5, rtol=0
        )
        assert sentence["reason"].startswith("the first")


def test_a_reader_may_name_sentences(context: Context, tiny_lm: LanguageModel) -> None:
    texts = ("The dog saw the cat.", "Tom ran home.")
    named = attention.attention(tiny_lm, context.config, context.console, texts)
    assert [(s["text"], s["reason"]) for s in named["sentences"]] == [
        (text, "named by the reader") for text in texts
    ]
    for wrong in ("", "the dog " * 30):
        with pytest.raises(GenerationError):
            attention.attention(tiny_lm, context.config, context.console, (wrong,))


def test_the_report_names_sentences_by_its_setting(context: Context) -> None:
    report = replace(context.config.report, attention_sentences=("The dog ran.",))
    named = attention.run(replace(context, config=replace(context.config, report=report)))
    assert [sentence["text"] for sentence in named["sentences"]] == ["The dog ran."]


def test_a_word_that_returns_is_told_with_the_head_that_looks_back_most() -> None:
    from tinylm.interpretability.attention_maps import SentenceAttention

    patterns = torch.zeros(2, 2, 6, 6)
    patterns[1, 0, 4, 1] = 0.75
    patterns[0, 1, 4, 1] = 0.25
    sentence = SentenceAttention(
        ("<sos>", "lily", "saw", "that", "lily", "ran"), tuple(range(6)), patterns
    )
    word = attention._returning("Lily saw that Lily ran", sentence)
    assert word == {"word": "lily", "head": "2.1", "weight": 0.75, "even": 0.2, "back": 3}
    assert attention._returning("Lily saw that Tom ran", sentence) is None
