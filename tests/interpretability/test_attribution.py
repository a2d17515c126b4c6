"""Direct logit attribution: exact sums, and TransformerLens on the same weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.interpretability.hooked import build_both, hooked
from tests.model.helpers import ENCODINGS, NORM_PLACEMENTS, build_random, largest_difference
from tinylm.errors import ConfigError
from tinylm.interpretability.attribution import logit_attribution
from tinylm.interpretability.parts import parts_of
from tinylm.interpretability.trace import trace

TEXTS = [[2, 5, 9, 4, 7], [2, 8, 6]]
ANSWERS = torch.tensor([[5, 9, 4, 7, 1], [8, 6, 3, 0, 0]])
OTHERS = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]])


def at(logits: Tensor, ids: Tensor) -> Tensor:
    return logits.gather(-1, ids[..., None])[..., 0]


@pytest.mark.parametrize("norm_placement", NORM_PLACEMENTS)
@pytest.mark.parametrize("tie_embeddings", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("positions", ENCODINGS)
def test_the_parts_sum_to_the_logit_to_a_difference_and_to_a_centred_logit(
    norm_placement: str, tie_embeddings: bool, bias: bool, positions: str
) -> None:
    model = build_random(
        norm_placement=norm_placement, tie_embeddings=tie_embeddings, bias=bias, positions=positions
    )
    traced = trace(model, TEXTS)
    logits = traced.logits
    own = logit_attribution(traced, ANSWERS).values.sum(0)
    assert largest_difference(own, at(logits, ANSWERS)) < 1e-10
    difference = logit_attribution(traced, ANSWERS, OTHERS).values.sum(0)
    assert largest_difference(difference, at(logits, ANSWERS) - at(logits, OTHERS)) < 1e-10
    centred = logit_attribution(traced, ANSWERS, "mean").values.sum(0)
    assert largest_difference(centred, at(logits, ANSWERS) - logits.mean(-1)) < 1e-10


@pytest.mark.parametrize("difference", [False, True])
def test_each_part_adds_what_transformer_lens_says(difference: bool) -> None:
    model, _ = build_both(num_layers=3)
    twin = hooked(model, fold_final_norm=True)
    ids = torch.tensor([[2, 5, 9, 4, 7]])
    answers, others = ANSWERS[:1], OTHERS[:1] if difference else None
    with torch.no_grad():
        _, cache = twin.run_with_cache(ids)
        heads, head_names = cache.stack_head_results(layer=-1, return_labels=True)
        parts, part_names = cache.decompose_resid(layer=-1, return_labels=True)
        by_head = cache.logit_attrs(heads, answers, incorrect_tokens=others)
        by_part = cache.logit_attrs(parts, answers, incorrect_tokens=others)
    ours = logit_attribution(trace(model, ids.tolist()), answers, others)
    assert len(head_names) == 9
    for name, expected in zip(head_names, by_head, strict=True):
        layer, head = name[1:].split("H")
        assert largest_difference(ours[f"layers.{layer}.head.{head}"], expected) < 1e-12
    named = dict(zip(part_names, by_part, strict=True))
    assert largest_difference(ours["embedding"], named.pop("embed")) < 1e-12
    assert largest_difference(ours["positions"], named.pop("pos_embed")) < 1e-12
    for layer in range(3):
        pieces = [f"head.{head}" for head in range(3)] + ["attention.bias"]
        attention = sum(ours[f"layers.{layer}.{piece}"] for piece in pieces)
        assert isinstance(attention, Tensor)
        assert largest_difference(attention, named.pop(f"{layer}_attn_out")) < 1e-12
        written = ours[f"layers.{layer}.feed_forward"] + ours[f"layers.{layer}.feed_forward.bias"]
        assert largest_difference(written, named.pop(f"{layer}_mlp_out")) < 1e-12
    assert not named  # theirs have no other part
    # What is left is the bias of the unembedding, into which theirs has put that of the norm.
    bias = twin.unembed.b_U[answers] - (0 if others is None else twin.unembed.b_U[others])
    assert largest_difference(ours["norms"] + ours["unembedding.bias"], bias) < 1e-12


def test_in_a_post_norm_model_the_frozen_scales_are_those_of_every_norm() -> None:
    """Each part by hand: through the norms after it, their scales as they were."""
    model = build_random(norm_placement="post")
    traced = trace(model, TEXTS)
    ours = logit_attribution(traced, ANSWERS, OTHERS)
    for head in range(3):
        value = traced.head_outputs(0)[:, head]
        for place in (
            "layers.0.attention_norm",
            "layers.0.feed_forward_norm",
            "layers.1.attention_norm",
            "layers.1.feed_forward_norm",
        ):
            x, norm = traced.before_norm(place), traced.norm(place)
            deviation = (x.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
            value = (value - value.mean(-1, keepdim=True)) / deviation * norm.weight
        weight = model.unembedding.weight
        expected = (value * (weight[ANSWERS] - weight[OTHERS])).sum(-1)
        assert largest_difference(ours[f"layers.0.head.{head}"], expected) < 1e-12


def test_one_position_by_name() -> None:
    traced = trace(build_random(), TEXTS)
    attribution = logit_attribution(traced, ANSWERS)
    shares = attribution.at(2, text=1)
    assert list(shares) == [*parts_of(traced).names, "unembedding.bias"]
    assert shares["layers.1.feed_forward"] == float(attribution["layers.1.feed_forward"][1, 2])
    assert abs(sum(shares.values()) - float(traced.logits[1, 2, 3])) < 1e-10


def test_one_answer_stands_for_every_position() -> None:
    traced = trace(build_random(), TEXTS)
    everywhere = logit_attribution(traced, torch.tensor(4)).values
    assert torch.equal(everywhere, logit_attribution(traced, torch.full((2, 5), 4)).values)


@pytest.mark.parametrize("wrong", [-1, 23])
def test_tokens_that_are_not_there_are_refused(wrong: int) -> None:
    traced = trace(build_random(), TEXTS)
    with pytest.raises(ConfigError, match=f"token id {wrong} is outside the vocabulary of 23"):
        logit_attribution(traced, torch.tensor(wrong))
    with pytest.raises(ConfigError, match=f"token id {wrong} is outside the vocabulary of 23"):
        logit_attribution(traced, ANSWERS, torch.tensor(wrong))
    with pytest.raises(ConfigError, match="others = 'median': give token ids, or 'mean'"):
        logit_attribution(traced, ANSWERS, "median")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"no part 'layers.9.head.0'; there are: embedding"):
        logit_attribution(traced, ANSWERS)["layers.9.head.0"]
