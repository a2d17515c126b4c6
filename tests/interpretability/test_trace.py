"""Traces of a model: activations, what follows from them, and the sum of the parts."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor

from tests.model.helpers import ENCODINGS, NORM_PLACEMENTS, build_random
from tinylm.errors import ConfigError, GenerationError
from tinylm.interpretability.attribution_patching import attributions
from tinylm.interpretability.pair_runs import TokenPair, run_pair
from tinylm.interpretability.parts import parts_of
from tinylm.interpretability.patching import sweep
from tinylm.interpretability.trace import Recorder, trace
from tinylm.interpretability.weights import affine, head_weights, maps_of

TEXTS = [[2, 5, 9, 4, 7], [2, 8, 6]]


def largest(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max().detach())


def test_a_trace_holds_every_activation_as_the_model_computes_it() -> None:
    model = build_random()
    traced = trace(model, TEXTS)
    shapes = model.activation_shapes(2, 5)
    assert set(traced) == set(shapes)
    assert {name: tuple(traced[name].shape) for name in traced} == shapes
    assert largest(traced.logits[0], model(torch.tensor(TEXTS[:1]))[0]) < 1e-12
    # A text alone is what it is beside a longer one.
    alone, cut = trace(model, TEXTS[1:]), traced.of(1)
    assert cut.words == (("2", "8", "6"),)
    for name in alone:
        assert largest(alone[name], cut[name]) < 1e-12


@pytest.mark.parametrize("norm_placement", NORM_PLACEMENTS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("positions", ENCODINGS)
def test_the_parts_sum_to_the_stream_and_to_every_logit(
    norm_placement: str, bias: bool, positions: str
) -> None:
    model = build_random(norm_placement=norm_placement, bias=bias, positions=positions)
    traced = trace(model, TEXTS)
    parts = parts_of(traced)
    assert largest(parts.values.sum(0), traced["final"]) < 1e-12
    weight, shift = affine(model.unembedding, 10)
    logits = torch.einsum("pbsh,hv->bsv", parts.values, weight) + shift
    assert largest(logits, traced.logits) < 1e-10


@pytest.mark.parametrize("norm_placement", NORM_PLACEMENTS)
def test_head_outputs_and_the_bias_sum_to_what_attention_adds(norm_placement: str) -> None:
    model = build_random(norm_placement=norm_placement)
    traced = trace(model, TEXTS)
    for layer in range(2):
        _, shift = affine(maps_of(model, layer)[1], 12)
        summed = traced.head_outputs(layer).sum(1) + shift
        assert largest(summed, traced[f"layers.{layer}.attention.output"]) < 1e-12


def test_heads_read_and_write_by_their_weights() -> None:
    model = build_random(norm_placement="pre")
    traced = trace(model, TEXTS)
    x, _ = traced.normalised("layers.1.attention_norm")
    for head, weights in enumerate(head_weights(model, 1)):
        for name in ("query", "key", "value"):
            expected = traced[f"layers.1.attention.{name}"][:, head]
            read = x @ getattr(weights, name) + getattr(weights, f"{name}_bias")
            assert largest(read, expected) < 1e-12
        mixed = traced["layers.1.attention.mixed"][:, head]
        assert largest(mixed @ weights.output, traced.head_outputs(1)[:, head]) < 1e-12


@pytest.mark.parametrize("norm_placement", NORM_PLACEMENTS)
def test_norms_are_recomputed_as_they_were(norm_placement: str) -> None:
    model = build_random(norm_placement=norm_placement)
    traced = trace(model, TEXTS)
    normalised, scale = traced.normalised("layers.0.feed_forward_norm")
    norm = traced.norm("layers.0.feed_forward_norm")
    x = traced.before_norm("layers.0.feed_forward_norm")
    by_scale = (x - x.mean(-1, keepdim=True)) * scale * norm.weight + norm.bias
    assert largest(by_scale, normalised) < 1e-12
    if norm_placement == "post":
        assert largest(normalised, traced["layers.0.residual"]) < 1e-12
        with pytest.raises(ConfigError, match="no norm 'final_norm'"):
            traced.normalised("final_norm")
    else:
        assert largest(traced.normalised("final_norm")[0], traced["final"]) < 1e-12


def test_the_residual_stream_by_place() -> None:
    traced = trace(build_random(), TEXTS)
    names, stream = traced.residual_stream()
    assert names[:3] == ["layers.0.input", "layers.0.middle", "layers.0.residual"]
    assert stream.shape == (5, 2, 5, 10)
    assert torch.equal(stream[-1], traced["layers.1.residual"])


def test_a_table_of_an_activation() -> None:
    traced = trace(build_random(), TEXTS, [["a", "b", "c", "d", "e"], ["f", "g", "h"]])
    table = traced.to_pandas("layers.0.attention.pattern")
    row = table[(table.text == 1) & (table["head"] == 2) & (table.position == 1) & (table.key == 0)]
    assert row.word.item() == "g"
    assert row.value.item() == traced.pattern(0)[1, 2, 1, 0].item()
    assert len(table) == 3 * (5 * 5 + 3 * 3)  # padding has no row
    for text, count in enumerate((5, 3)):
        for head in range(3):
            alone = table[(table.text == text) & (table["head"] == head)]
            expected = traced.pattern(0)[text, head, :count, :count]
            assert alone.value.tolist() == expected.reshape(-1).tolist()
            assert alone.position.tolist() == [i for i in range(count) for _ in range(count)]
    assert list(traced.to_pandas("logits").columns[:3]) == ["text", "position", "vocabulary"]


def test_a_text_read_in_pieces_through_a_cache_has_the_same_trace() -> None:
    model = build_random(norm_placement="pre")
    ids, recorder = [2, 5, 9, 4, 7, 11], Recorder(model)
    cache = model.decoding_state(1)
    for start, end in ((0, 3), (3, 4), (4, 6)):
        model.residual(torch.tensor([ids[start:end]]), cache=cache, hooks=recorder.hooks)
    pieces, whole = recorder.trace(ids, list("abcdef")), trace(model, [ids])
    assert set(pieces) == set(whole)
    for name in whole:
        if name.endswith(".scores"):  # of the keys that are seen
            seen = torch.ones(6, 6).tril().bool()
            assert largest(pieces[name][..., seen], whole[name][..., seen]) < 1e-12
        else:
            assert largest(pieces[name], whole[name]) < 1e-12
    assert largest(parts_of(pieces).values.sum(0), whole["final"]) < 1e-12


def test_pictures_and_the_page_of_a_notebook() -> None:
    traced = trace(build_random(), TEXTS, [["a", "b", "<i>$x$", "d", "e"], ["f", "g", "h"]])
    figure = traced.plot("layers.1.attention.pattern", text=1)
    maps = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in maps] == ["head 0", "head 1", "head 2"]
    assert [label.get_text() for label in maps[0].get_yticklabels()] == ["f", "g", "h"]
    shown = maps[2].images[0].get_array()
    assert shown is not None
    assert torch.equal(torch.tensor(shown), traced.pattern(1)[1, 2, :3, :3])
    for name in ("layers.0.attention.scores", "final", "logits"):
        figure = traced.plot(name)
        figure.canvas.draw()  # "$" is no mathematics
    assert figure.axes[0].get_xlabel() == "vocabulary"
    page = traced._repr_html_()
    assert "<code>&lt;i&gt;$x$</code>" in page
    assert "<td>text, head, position, key</td><td>2 &times; 3 &times; 5 &times; 5</td>" in page


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "there is no text"),
        ([[]], "at least one word"),
        ([[2] * 17], "17 tokens does not fit into model.context_length = 16"),
        ([[2, 23]], "token id 23 is outside the vocabulary of 23"),
    ],
)
def test_texts_that_cannot_be_read_are_refused(texts: Any, message: str) -> None:
    with pytest.raises(GenerationError, match=message):
        trace(build_random(), texts)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_model_whose_numbers_are_lost_is_drawn(value: float) -> None:
    model = build_random()
    with torch.no_grad():
        model.layers[1].feed_forward.contract.weight.fill_(value)
    traced = trace(model, TEXTS)
    assert not traced.logits.isfinite().any()
    for name in traced:
        traced.plot(name).canvas.draw()


def test_one_name_is_a_name_and_not_its_letters() -> None:
    model = build_random()
    assert set(trace(model, TEXTS, names="final")) == {"final"}
    assert len(trace(model, TEXTS, names="layers.*.input")) == 2
    recorder = Recorder(model, "layers.0.input")
    model.residual(torch.tensor([TEXTS[0]]), hooks=recorder.hooks)
    assert set(recorder.trace(TEXTS[0], "abcde")) == {"layers.0.input", "final", "logits"}
    runs = run_pair(model, TokenPair((2, 5, 7), (2, 6, 7), 4, 8))
    assert set(sweep(runs, "noising", "layers.0.input")) == {"layers.0.input"}
    assert set(attributions(runs, "noising", "layers.0.input")) == {"layers.0.input"}
    with pytest.raises(ConfigError, match="no activation is named 'inputs'"):
        trace(model, TEXTS, names="inputs")


def test_what_is_not_there_is_refused_with_what_is_near() -> None:
    model = build_random()
    with pytest.raises(ConfigError, match=r"no activation is named 'layers.7.\*'"):
        trace(model, TEXTS, names=["layers.7.*"])
    traced = trace(model, TEXTS, names=["layers.*.attention.pattern"])
    with pytest.raises(ConfigError, match=r"no activation .layers\.0\.attention\.patern.*pattern"):
        traced["layers.0.attention.patern"]
    with pytest.raises(ConfigError, match="no activation 0 in this trace"):
        traced[cast(str, 0)]
    with pytest.raises(ConfigError, match="there is no layer 2: the model has 2"):
        head_weights(model, 2)
    with pytest.raises(ConfigError, match="there is no text 2"):
        traced.of(2)
