"""The logit lens: TransformerLens on the same weights, float64 by hand, and what is often wrong."""

from __future__ import annotations

import math
from typing import Any, get_args, get_type_hints

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.interpretability.hooked import build_both
from tests.model.helpers import NORM_PLACEMENTS, build, build_random, largest_difference
from tinylm.config import ModelConfig
from tinylm.errors import ConfigError
from tinylm.interpretability.attribution import logit_attribution
from tinylm.interpretability.lens import NO_NEXT, READ, STREAM, lens, place_label, read_stream
from tinylm.interpretability.trace import trace
from tinylm.model.decoder import DecoderLM

TEXTS = [[2, 5, 9, 4, 7], [2, 8, 6]]


@pytest.mark.parametrize("tie_embeddings", [False, True])
def test_every_place_is_read_as_transformer_lens_reads_it(tie_embeddings: bool) -> None:
    model, twin = build_both(tie_embeddings=tie_embeddings, num_layers=3)
    ids = [2, 5, 9, 4, 7, 11]
    with torch.no_grad():
        logits, cache = twin.run_with_cache(torch.tensor([ids]))
        stream = cache.accumulated_resid(layer=-1, incl_mid=True, apply_ln=False)
        theirs = torch.stack([twin.unembed(twin.ln_final(x)) for x in stream]).log_softmax(-1)
    read = lens(trace(model, [ids]), top=23)
    ours = torch.zeros_like(theirs)
    ours.scatter_(-1, read.top_ids, read.top_probabilities.log())
    assert len(read.places) == len(theirs) == 7
    assert largest_difference(ours, theirs) < 1e-12
    expected = (logits.softmax(-1) * (logits.log_softmax(-1) - theirs)).sum(-1)
    assert largest_difference(read.divergences, expected) < 1e-12
    following = theirs[:, 0, torch.arange(5), ids[1:]]  # (places, seq - 1)
    assert largest_difference(read.probabilities[:, 0, :-1], following.exp()) < 1e-12
    order = theirs[:, 0, :-1].argsort(-1, descending=True)
    ranks = (order == torch.tensor(ids[1:])[None, :, None]).nonzero()[:, -1].view(7, 5) + 1
    assert torch.equal(read.ranks[:, 0, :-1], ranks)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("norm_placement", NORM_PLACEMENTS)
def test_the_last_row_is_what_the_model_says_bit_for_bit(
    norm_placement: str, dtype: torch.dtype
) -> None:
    model = build_random(norm_placement=norm_placement).to(dtype)
    traced = trace(model, TEXTS)
    _, stream = traced.residual_stream()
    with torch.no_grad():
        assert torch.equal(read_stream(model, stream[-1]), traced.logits)
    read = lens(traced, top=23)
    last = traced.logits.softmax(-1)
    assert torch.equal(read.top_ids[-1], traced.logits.topk(23).indices)
    assert largest_difference(read.top_probabilities[-1], last.topk(23).values) < 1e-6
    assert torch.equal(read.divergences[-1], torch.zeros(2, 5, dtype=dtype))
    assert read.agrees[-1].all()


def test_in_a_post_norm_model_exactly_the_unembedding_is_applied() -> None:
    model = build_random(norm_placement="post")
    traced = trace(model, TEXTS)
    places, stream = traced.residual_stream()
    read = lens(traced, top=1)
    for i in range(len(places)):
        logits = stream[i] @ model.unembedding.weight.T + model.unembedding.bias
        assert (
            largest_difference(read.top_probabilities[i, ..., 0], logits.softmax(-1).amax(-1))
            < 1e-12
        )
    # Normalising a second time would be another reading: weights and biases of norms are random.
    twice = model.unembedding(model.layers[1].feed_forward_norm(stream[-1]))  # type: ignore[operator]
    assert largest_difference(twice, traced.logits) > 0.1


def planted(final_scale_falls: float) -> DecoderLM:
    """Return a model whose embedding of token 5 speaks for token 7, and whose only layer writes
    much in another direction."""
    model = build(norm_placement="pre", num_layers=1, positions="learned", scale_embeddings=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.fill_(1)
        model.embedding.weight[5, :2] = torch.tensor([1.0, -1.0])
        model.unembedding.weight[7, :2] = torch.tensor([1.0, -1.0]) * 4.75
        model.unembedding.bias[7] = -7.75
        layer: Any = model.layers[0]
        layer.feed_forward.contract.bias[2:4] = torch.tensor([1.0, -1.0]) * final_scale_falls
    return model


def test_a_norm_computed_anew_and_one_that_is_frozen_are_not_mixed() -> None:
    """The same place gives a word 99.997 % by the lens and 0.002 % by the scale of the end."""
    model = planted(final_scale_falls=1e4)
    traced = trace(model, [[5]])
    read = lens(traced, top=1)
    assert read.places[0] == "layers.0.input"
    assert read.top_ids[0, 0, 0, 0] == 7
    assert round(100 * float(read.top_probabilities[0, 0, 0, 0]), 3) == 99.997
    # What attribution says that the embedding adds, with the final scale frozen.
    frozen = torch.stack([
        sum(logit_attribution(traced, torch.tensor([[i]]))[part][0, 0]
            for part in ("embedding", "positions", "norms", "unembedding.bias"))
        for i in range(23)
    ])  # fmt: skip
    assert round(100 * float(frozen.softmax(0)[7]), 3) == 0.002
    # The last place is the model itself, which the layer has silenced.
    assert read.top_ids[-1, 0, 0, 0] != 7


@given(shift=st.floats(-5, 5), seed=st.integers(0, 50))
def test_centring_the_unembedding_changes_logits_and_no_probability(
    shift: float, seed: int
) -> None:
    model = build_random(seed, norm_placement="pre")
    before = lens(trace(model, TEXTS), top=23)
    logits = trace(model, TEXTS).logits
    with torch.no_grad():
        model.unembedding.weight.sub_(model.unembedding.weight.mean(0) + shift)
        model.unembedding.bias.sub_(model.unembedding.bias.mean())
    after = lens(trace(model, TEXTS), top=23)
    assert largest_difference(trace(model, TEXTS).logits, logits) > 1e-3
    assert largest_difference(after.top_probabilities, before.top_probabilities) < 1e-11
    assert largest_difference(after.divergences, before.divergences) < 1e-11


def test_texts_of_different_lengths_are_read_as_they_are_alone() -> None:
    model = build_random()
    both, alone = lens(trace(model, TEXTS)), lens(trace(model, TEXTS[1:]))
    assert both.next_ids.tolist() == [[5, 9, 4, 7, NO_NEXT], [8, 6, NO_NEXT, NO_NEXT, NO_NEXT]]
    assert largest_difference(both.divergences[:, 1:, :3], alone.divergences) < 1e-12
    assert torch.equal(both.ranks[:, 1, 2:], torch.zeros(5, 3, dtype=torch.int64))
    assert both.probabilities[:, 1, 2:].isnan().all()
    assert not both.probabilities[:, 1, :2].isnan().any()


def test_no_tensor_of_all_places_is_made() -> None:
    model = build_random(vocab_size=400)
    traced = trace(model, TEXTS, names=STREAM)
    largest = 0

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if isinstance(result, Tensor):
                largest = max(largest, result.numel())
            return result

    with Watch():
        lens(traced)
    assert largest == 2 * 5 * 400


def test_what_is_read_is_told_for_every_placement_of_norms() -> None:
    assert set(READ) == set(get_args(get_type_hints(ModelConfig)["norm_placement"]))


def test_labels_of_places_count_layers_from_one() -> None:
    names = ["layers.0.input", "layers.0.middle", "layers.2.residual"]
    assert [place_label(name) for name in names] == ["embedding", "1 attention", "3 feed-forward"]


@pytest.mark.parametrize("top", [0, 24])
def test_a_number_of_words_that_there_are_not_is_refused(top: int) -> None:
    with pytest.raises(
        ConfigError, match=f"top = {top}: give a number from 1 to the vocabulary's 23"
    ):
        lens(trace(build_random(), TEXTS), top)


def test_an_impossible_word_adds_nothing_to_the_divergence() -> None:
    model = build_random(norm_placement="pre")
    with torch.no_grad():
        model.unembedding.bias[3] = -math.inf
    read = lens(trace(model, TEXTS), top=23)
    assert read.divergences.isfinite().all()
    assert (read.divergences[0] > 0).all()
