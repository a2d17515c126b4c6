"""Scores of heads on repeated random tokens: the planted heads, a head made by hand, the usual rule
and what is wrong with it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformer_lens.head_detector import (
    compute_head_attention_similarity_score,
    get_induction_head_detection_pattern,
)

from tests.interpretability.hooked import build_both
from tests.interpretability.planted import INDUCTION, PREVIOUS, SOS, VOCAB, planted_model
from tests.model.helpers import NORM_PLACEMENTS, build_random, largest_difference
from tinylm.errors import ConfigError, GenerationError
from tinylm.interpretability.head_scores import SCORES, head_scores, repeated_tokens
from tinylm.interpretability.trace import trace
from tinylm.interpretability.weights import head_weights
from tinylm.model.decoder import DecoderLM

TYPES = [i for i in range(VOCAB) if i != SOS]
LENGTH = 8
PARTS = ("attention", "feed_forward")


def repeated(texts: int = 5, length: int = LENGTH, seed: int = 0) -> Tensor:
    return repeated_tokens(TYPES, length, texts, SOS, seed)


def test_the_texts_are_the_first_token_and_the_same_different_tokens_twice() -> None:
    ids = repeated(20)
    assert ids.shape == (20, 17)
    assert (ids[:, 0] == SOS).all()
    assert torch.equal(ids[:, 1:9], ids[:, 9:])
    assert all(len(set(row[1:9])) == 8 for row in ids.tolist())
    assert set(ids[:, 1:].flatten().tolist()) == set(TYPES)
    assert torch.equal(ids, repeated(20))
    assert not torch.equal(ids, repeated(20, seed=1))


def test_the_planted_heads_score_one_and_the_others_what_is_even() -> None:
    scores = head_scores(planted_model(), repeated())
    assert float(scores.previous_token[PREVIOUS]) > 0.999
    assert float(scores.prefix_matching[INDUCTION]) > 0.999
    assert float(scores.copying[INDUCTION]) > 0.999
    assert float(scores.first_token[INDUCTION]) < 0.001
    assert scores.best("previous_token") == [PREVIOUS]
    assert scores.best("prefix_matching") == [INDUCTION]
    even = float((1 / torch.arange(LENGTH + 2.0, 2 * LENGTH + 2)).mean())
    for layer in range(2):
        for head in range(3):
            place = (layer, head)
            for name in ("previous_token", "duplicate_token", "prefix_matching", "first_token"):
                value = float(getattr(scores, name)[place])
                if place not in (PREVIOUS, INDUCTION):
                    assert value == pytest.approx(even, abs=0.02), (name, place)
    # Of two keys out of nine with the same token before, one is what followed.
    assert float(scores.duplicate_token.max()) < 0.2


def test_a_perfect_head_scores_one_where_the_usual_rules_give_less() -> None:
    """The numbers that a diagonal of the whole pattern, and division by all attention, give."""
    model, ids = planted_model(), repeated(1)
    ours = float(head_scores(model, ids).prefix_matching[INDUCTION])
    assert ours == pytest.approx(1, abs=1e-3)
    layer, head = INDUCTION
    pattern = trace(model, ids.tolist()).pattern(layer)[0, head]
    assert float(pattern.diagonal(1 - LENGTH).mean()) == pytest.approx(0.9, abs=1e-3)
    theirs = compute_head_attention_similarity_score(
        pattern,
        get_induction_head_detection_pattern(ids),
        exclude_bos=False,
        exclude_current_token=False,
        error_measure="mul",
    )
    assert theirs == pytest.approx(0.47, abs=0.01)


@pytest.mark.parametrize("norm_placement", NORM_PLACEMENTS)
def test_scores_by_hand(norm_placement: str) -> None:
    """Each entry is looked up, and the copying score comes from what each key writes at its end."""
    model = build_random(norm_placement=norm_placement, num_layers=3)
    ids = repeated_tokens(range(4, 23), 5, 3, 2)
    ours = head_scores(model, ids)
    expected: dict[str, Any] = {name: torch.zeros(3, 3).double() for name in vars(ours)}
    traced = trace(model, ids.tolist())
    for layer in range(3):
        pattern = traced.pattern(layer)
        for text in range(3):
            for row in range(6, 11):
                entries = pattern[text, :, row] / 15
                expected["previous_token"][layer] += entries[:, row - 1]
                expected["duplicate_token"][layer] += entries[:, row - 5]
                expected["prefix_matching"][layer] += entries[:, row - 4]
                expected["first_token"][layer] += entries[:, 0]
    for name in ("previous_token", "duplicate_token", "prefix_matching", "first_token"):
        assert largest_difference(getattr(ours, name), expected[name]) < 1e-12, name
    assert largest_difference(ours.copying, copying_by_hand(model, ids)) < 1e-9


def copying_by_hand(model: DecoderLM, ids: Tensor) -> Tensor:
    """Send what each key's value writes through the model's own norms and unembedding."""
    length = (ids.shape[1] - 1) // 2
    traced = trace(model, ids.tolist())
    layers, post = range(model.config.num_layers), model.config.norm_placement == "post"
    result = torch.zeros(len(layers), model.config.num_heads).double()
    for layer in layers:
        norms = [f"layers.{i}.{part}_norm" for i in layers[layer:] for part in PARTS if post]
        for head, weights in enumerate(head_weights(model, layer)):
            value = traced[f"layers.{layer}.attention.value"][:, head] - weights.value_bias
            x = value @ weights.output  # (texts, keys, hidden)
            for place in norms or ["final_norm"]:
                x = traced.norm(place)(x) - traced.norm(place).bias
            top = bottom = 0.0
            for text, row in enumerate(ids):
                received = traced.pattern(layer)[text, head, length + 1 :].sum(0)
                for key in range(1, len(row)):
                    logits = (x[text, key].detach() @ model.unembedding.weight.detach().T)[
                        row[1 : length + 1]
                    ]
                    raised = (logits - logits.mean()).clamp(min=0)
                    share = raised[(key - 1) % length] / raised.sum()
                    top += float(received[key] * share)
                    bottom += float(received[key])
            result[layer, head] = top / bottom
    return result


def test_patterns_and_scores_are_transformer_lens_s() -> None:
    """Its scores take all rows of one text; ours, of the same text, the rows that have a target."""
    model, twin = build_both(vocab_size=23, context_length=18)
    ids = repeated_tokens(range(4, 23), 8, 1, 2)
    _, cache = twin.run_with_cache(ids)
    ours = head_scores(model, ids)
    for layer in range(2):
        pattern = cache["pattern", layer][0]
        for name, offset in (
            ("previous_token", -1), ("duplicate_token", -8), ("prefix_matching", -7),
        ):  # fmt: skip
            # The last rows of its diagonals are those of the second R.
            theirs = pattern.diagonal(offset, -2, -1)[:, -8:].mean(-1)
            assert largest_difference(getattr(ours, name)[layer], theirs) < 1e-12


def test_a_longer_batch_is_the_mean_of_its_texts() -> None:
    model = build_random()
    ids = repeated_tokens(range(4, 23), 4, 40, 2)
    whole, alone = head_scores(model, ids), [head_scores(model, row[None]) for row in ids]
    for name in SCORES[:3]:
        mean = torch.stack([getattr(each, name) for each in alone]).mean(0)
        assert largest_difference(getattr(whole, name), mean) < 1e-12


@pytest.mark.parametrize(
    ("length", "texts", "message"),
    [
        (1, 3, "1 different random tokens"),
        (20, 3, "the 19 types that there are"),
        (3, 0, "0 texts"),
    ],
)
def test_texts_that_cannot_be_made_are_refused(length: int, texts: int, message: str) -> None:
    with pytest.raises(GenerationError, match=message):
        repeated_tokens(TYPES, length, texts, SOS)


@pytest.mark.parametrize("ids", [[[2, 5, 6, 5, 7]], [[2, 5, 6, 5]], [[2, 5, 5]], [[2]]])
def test_other_texts_are_refused(ids: list[list[int]]) -> None:
    with pytest.raises(GenerationError, match="two times the same tokens"):
        head_scores(build_random(), torch.tensor(ids))


def test_a_score_that_is_not_there_is_refused_with_what_is_near() -> None:
    with pytest.raises(ConfigError, match=r"no score 'prefix'.*prefix_matching"):
        head_scores(planted_model(), repeated()).best("prefix")
