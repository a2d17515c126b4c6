"""The experiment on tokenizers, made small, and each of its parts by other means."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tinylm.config import RunConfig, load_config
from tinylm.errors import ConfigError, DataError
from tinylm.evaluation.restoring import Restoring
from tinylm.evaluation.text_bits import Parts, after_first_sentence, bits_per_byte, text_bits
from tinylm.experiments.context import Context
from tinylm.experiments.equal_budget import (
    Cut,
    cuts,
    flops_of_step,
    shape,
    steps_of,
    width_of,
)
from tinylm.experiments.tokenizers import measure
from tinylm.experiments.tokenizers.settings import TokenizersExperiment
from tinylm.experiments.tokenizers.sums import longest_beginning
from tinylm.language_model import LanguageModel
from tinylm.model.base import build
from tinylm.planning.flops import flops_per_token
from tinylm.registry import MODELS, TOKENIZERS
from tinylm.tokenizers.base import Tokenizer

SETTINGS = TokenizersExperiment(
    sizes=(400,), flops=3e7, num_layers=1, num_heads=2, hidden_size=8, context_length=32,
    batch_size=2, held_out=3, fitted=20, summed=2, prefixes=200, new_tokens=4, rounds=2, seeds=2,
    unseen=("unhelpful", "the"),
)  # fmt: skip
TEXTS = ["Tom saw a dog. The dog ran to Anna.", "Anna had a cat! It sat on the mat, and slept."]


def context_of(folder: Path, **settings: Any) -> Context:
    config = load_config(
        overrides=[
            f"data.cache_folder={folder / 'cache'}",
            "data.train_stories=60",
            "data.validation_stories=5",
            "training.threads=1",
        ]
    )
    experiments = replace(config.experiments, **settings)
    made: RunConfig = replace(config, experiments=experiments)
    return Context(folder / "run", made)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return context_of(tmp_path_factory.mktemp("tokenizers"), tokenizers=SETTINGS)


@pytest.fixture(scope="module")
def result(context: Context) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(measure.run(context), allow_nan=False))
    return made


def test_every_tokenizer_has_a_row_with_a_value_each_seed(
    result: dict[str, Any], context: Context
) -> None:
    rows = {row["name"]: row for row in result["tokenizers"]}
    assert list(rows) == [cut.name for cut in cuts((400,))]
    assert {row["kind"] for row in rows.values()} == set(TOKENIZERS)
    for row in rows.values():
        for key in ("bits_per_byte", "token_bits_per_byte", "perplexity", "tokens_per_second"):
            assert len(row[key]) == 2
        assert row["bits_per_byte"][0] != row["bits_per_byte"][1]
    assert rows["bytes"]["bytes_per_token"] == 1
    assert rows["bytes"]["unknown"] == 0
    assert not (context.folder / "tokenizers").exists()  # trainings are deleted


def test_all_trainings_take_the_same_flops(result: dict[str, Any]) -> None:
    for row in result["tokenizers"]:
        step = row["flops"] / row["steps"]
        assert abs(row["flops"] - SETTINGS.flops) <= step / 2
        assert row["tokens"] <= row["steps"] * 2 * 32
        assert row["flops_per_token"] == pytest.approx(step / (2 * 32))


def test_bits_are_tokens_and_what_they_leave_out(result: dict[str, Any]) -> None:
    for row in result["tokenizers"]:
        lossless = TOKENIZERS.load(row["kind"]).lossless
        assert (row["restored"] == 1) == lossless
        for whole, tokens in zip(row["bits_per_byte"], row["token_bits_per_byte"], strict=True):
            if lossless:
                assert whole - tokens < 1e-4
            else:
                assert whole - tokens > 0.01
        # A perplexity is 2 to the bits of a token, of which each text has one more for its end.
        per_text = result["texts"] * row["bytes_per_token"] / result["bytes"]
        bits = math.log2(row["perplexity"][0]) * (1 + per_text) / row["bytes_per_token"]
        assert bits == pytest.approx(row["token_bits_per_byte"][0])


def test_sums_are_of_tokenizers_with_several_ways(result: dict[str, Any]) -> None:
    assert [row["name"] for row in result["sums"]] == ["bpe 400", "unigram 400"]
    for row in result["sums"]:
        for group in ("texts", "words"):
            assert row[group]["segmentations"] > 1
            assert all(value >= 0 for value in row[group]["missed_bits"])
        shares = [way["share"] for way in row["example"]["likeliest"]]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) <= 1 + 1e-9
        assert shares[0] >= row["example"]["share"]


def test_words_that_were_read_are_not_shown(result: dict[str, Any]) -> None:
    assert [each["word"] for each in result["unseen"]] == ["unhelpful"]
    assert result["unseen"][0]["cuts"]["bytes"] == list("unhelpful")


def test_too_few_flops_are_refused_in_a_line(tmp_path: Path) -> None:
    small = context_of(tmp_path, tokenizers=replace(SETTINGS, flops=1e5))
    with pytest.raises(ConfigError, match=r"experiments\.tokenizers\.flops = 100000: .* or more"):
        measure.run(small)


def test_a_vocabulary_without_room_is_refused_by_its_setting(tmp_path: Path) -> None:
    small = context_of(tmp_path, tokenizers=replace(SETTINGS, sizes=(270,)))
    with pytest.raises(ConfigError, match=r"experiments\.tokenizers\.sizes, with tokenizer\.kind = unigram: .* no room for the alphabet"):  # fmt: skip  # noqa: E501
        measure.run(small)


@pytest.mark.parametrize("kind", MODELS)
def test_widths_cost_what_was_asked(kind: str) -> None:
    decoder = shape("decoder", SETTINGS, 500, 64)
    wanted = flops_of_step(SETTINGS, decoder)
    width = width_of(kind, SETTINGS, 500, wanted)
    assert width % (2 * SETTINGS.num_heads) == 0
    model = shape(kind, SETTINGS, 500, width)
    assert build(model).config.hidden_size == width
    assert flops_of_step(SETTINGS, model) == pytest.approx(wanted, rel=0.06)
    assert flops_of_step(SETTINGS, model) == 2 * 32 * flops_per_token(model)
    for other in (width - 4, width + 4):  # none is nearer
        cost = flops_of_step(SETTINGS, shape(kind, SETTINGS, 500, other))
        assert abs(math.log(cost / wanted)) >= abs(
            math.log(flops_of_step(SETTINGS, model) / wanted)
        )
    assert steps_of(replace(SETTINGS, flops=50.4 * wanted), decoder, "tokenizers") == 50


def test_a_beginning_is_as_long_as_it_may_be() -> None:
    tokenizer = _trained("bpe")
    text = "Tom saw a dog."
    ways = [longest_beginning(tokenizer, text, 99, most) for most in (2, 5, 20, 10**6)]
    assert all(text.startswith(way) for way in ways)
    assert ways == sorted(ways, key=len)
    assert ways[-1] == text
    assert longest_beginning(tokenizer, text, 4, 10**6) != text


# --- bits of texts ---


def _trained(kind: str) -> Tokenizer:
    made = TOKENIZERS.load(kind)
    options = {made.size_setting: 330} if made.size_setting else {}
    tokenizer: Tokenizer = made.train(TEXTS * 9, made.Settings(kind=kind, **options))
    return tokenizer


def _model(tokenizer: Tokenizer, kind: str = "decoder", context: int = 64) -> LanguageModel:
    sized = replace(SETTINGS, context_length=context)
    return LanguageModel(build(shape(kind, sized, tokenizer.vocab_size, 16)), tokenizer)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_whole_texts_cost_what_the_model_says_of_them(kind: str) -> None:
    lm = _model(_trained(kind))
    restoring = Restoring.of(lm.tokenizer, TEXTS)
    measured = text_bits(lm.model, lm.tokenizer, [Parts("", text) for text in TEXTS], restoring)
    for bits, text in zip(measured, TEXTS, strict=True):
        score = lm.score(text)
        assert bits.token_bits == pytest.approx(-score.log_probability / math.log(2), rel=1e-6)
        assert bits.num_tokens == score.num_tokens - 1
        assert bits.num_bytes == len(text.encode())
        decoded = lm.tokenizer.decode(lm.tokenizer.encode(text))
        assert bits.restoring_bits == pytest.approx(restoring.bits(decoded, text))
        assert bits.bits == bits.token_bits + bits.restoring_bits
    total = sum(bits.bits for bits in measured)
    assert bits_per_byte(measured) == pytest.approx(total / sum(map(len, TEXTS)))


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("model", [kind for kind in MODELS if MODELS.load(kind).scores_texts])
def test_the_rest_costs_what_follows_the_beginning(kind: str, model: str) -> None:
    """One forward pass over the whole text, of which the tokens of the beginning are left out."""
    lm = _model(_trained(kind), model)
    restoring = Restoring.of(lm.tokenizer, TEXTS)
    for text in TEXTS:
        parts = after_first_sentence(text)
        assert parts is not None
        assert parts.beginning + parts.rest == text
        [rest] = text_bits(lm.model, lm.tokenizer, [parts], restoring)
        [whole] = text_bits(lm.model, lm.tokenizer, [Parts("", text)], restoring)
        tokens = len(lm.tokenizer.encode(parts.beginning))
        ids = [2, *lm.tokenizer.encode(text), 3]
        for bits, given in ((rest, tokens), (whole, 0)):
            with torch.no_grad():
                source = torch.tensor([1 + given])
                said = lm.model.eval()(torch.tensor([ids[:-1]]), given=source)[0].double()
            costs = [
                -float(said[place].log_softmax(-1)[token])
                for place, token in enumerate(ids[1:])
                if place >= given
            ]
            assert bits.token_bits == pytest.approx(sum(costs) / math.log(2), rel=1e-5)
        assert rest.num_tokens == whole.num_tokens - tokens
        assert rest.num_bytes == len(parts.rest.encode())


def test_a_beginning_that_is_cut_otherwise_is_refused() -> None:
    lm = _model(_trained("bpe"))
    restoring = Restoring.of(lm.tokenizer, TEXTS)
    with pytest.raises(DataError, match="the beginning 'Tom s' has other tokens"):
        text_bits(lm.model, lm.tokenizer, [Parts("Tom s", "aw a dog.")], restoring)


@pytest.mark.parametrize(
    ("text", "beginning"),
    [
        ("One. Two.", "One."),
        ('"Hi!" she said. Bye.', '"Hi!"'),
        ("One day,\nit rained.\n\nTwo.", "One day,\nit rained."),
        ("3.5 is a number. Yes.", "3.5 is a number."),
    ],
)
def test_a_sentence_ends_before_white_space(text: str, beginning: str) -> None:
    parts = after_first_sentence(text)
    assert parts == Parts(beginning, text[len(beginning) :])


@pytest.mark.parametrize("text", ["", "No end", "One sentence.", "One sentence. "])
def test_a_text_of_one_sentence_has_no_rest(text: str) -> None:
    assert after_first_sentence(text) is None


def test_cuts_have_every_size_where_there_are_sizes() -> None:
    names = [cut.name for cut in cuts((600, 500, 600))]
    assert "bytes" in names
    assert [name for name in names if name.startswith("bpe")] == ["bpe 500", "bpe 600"]
    assert Cut("word", 500).settings.max_size == 500
    assert Cut("bpe", 500).settings.vocab_size == 500
