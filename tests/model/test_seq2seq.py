"""Sequence-to-sequence models: torch's modules and loops over single numbers as the reference."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tinylm.compression.calibration import linear_maps, observe
from tinylm.config import ModelConfig
from tinylm.data.windows import pad_rows
from tinylm.errors import ConfigError, GenerationError
from tinylm.generation.stepper import Stepper
from tinylm.model.base import build
from tinylm.model.decoder import record
from tinylm.model.recurrent.attention import (
    additive_scores,
    context_vectors,
    multiplicative_scores,
    weights_of,
)
from tinylm.model.recurrent.attentive import Attending, Recurrence, attentive_steps
from tinylm.model.recurrent.cells import PLAIN_PRODUCTS
from tinylm.model.recurrent.division import divide

KINDS = ("seq2seq-additive", "seq2seq-multiplicative")
EVERY = pytest.mark.parametrize("kind", KINDS)


def made(kind: str, seed: int = 0, **sizes: Any) -> Any:
    torch.manual_seed(seed)
    config = ModelConfig(kind=kind, **{"vocab_size": 20, "num_layers": 2, "hidden_size": 7,
                                       "dropout": 0.0, "context_length": 12, **sizes})  # fmt: skip
    model = build(config).double()
    with torch.no_grad():
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.4)
    return model


# The worked example of the course, and the two scores by hand.


def test_the_context_vector_of_the_worked_example() -> None:
    states = torch.tensor([[2.0, -1.0, 0.0], [-1.0, 2.0, 1.0], [1.0, 1.0, -1.0]])
    weights = torch.tensor([[0.4, 0.3, 0.3]])
    torch.testing.assert_close(context_vectors(weights, states), torch.tensor([[0.8, 0.5, 0.0]]))


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**31))
def test_scores_and_weights_are_those_of_single_numbers(
    target: int, source: int, size: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    query, keys, vector = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((2, target, size), (2, source, size), (size,))
    )
    additive, multiplicative = (
        additive_scores(query, keys, vector),
        multiplicative_scores(query, keys),
    )
    blocked = torch.rand(2, source, generator=generator) > 0.6
    blocked[:, 0] = False
    pattern = weights_of(additive, blocked[:, None])
    for text in range(2):
        for t in range(target):
            scores = [
                sum(
                    float(vector[i]) * float(torch.tanh(query[text, t, i] + keys[text, j, i]))
                    for i in range(size)
                )
                for j in range(source)
            ]
            for j in range(source):
                assert float(additive[text, t, j]) == pytest.approx(scores[j], abs=1e-12)
                dot = sum(float(query[text, t, i] * keys[text, j, i]) for i in range(size))
                assert float(multiplicative[text, t, j]) == pytest.approx(dot, abs=1e-12)
            seen = [j for j in range(source) if not blocked[text, j]]
            total = sum(math.exp(scores[j]) for j in seen)
            for j in range(source):
                share = math.exp(scores[j]) / total if j in seen else 0.0
                assert float(pattern[text, t, j]) == pytest.approx(float(share), abs=1e-12)


# The function of the attentive GRU: its gradient is autograd's through the plain loop.


def attentive_inputs(
    target: int, source: int, batch: int, size: int, bias: bool, padded: bool, seed: int
) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    blocked = torch.rand(batch, source, generator=generator) > 0.5
    blocked[:, 0] = False
    real = torch.rand(target, batch, 1, generator=generator) > 0.4
    return {
        "given": drawn(target, batch, 3 * size),
        "weight": drawn(3 * size, size),
        "bias": drawn(3 * size) if bias else None,
        "to_query": drawn(size, size),
        "from_context": drawn(3 * size, size),
        "vector": drawn(size),
        "keys": drawn(batch, source, size),
        "memory": drawn(batch, source, size),
        "blocked": blocked if padded else None,
        "real": real if padded else None,
        "ways": (PLAIN_PRODUCTS, Attending),
        "first": drawn(batch, size),
    }


SIZES = {"target": st.integers(1, 5), "source": st.integers(1, 5), "batch": st.integers(1, 3),
         "size": st.integers(1, 5), "bias": st.booleans(), "padded": st.booleans(),
         "seed": st.integers(0, 2**31)}  # fmt: skip


@given(**SIZES)
def test_the_attentive_gradient_is_that_of_autograd_through_the_plain_loop(**sizes: Any) -> None:
    own = attentive_inputs(**sizes)
    linear = nn.functional.linear
    states, contexts, _ = attentive_steps(
        own["given"], (own["first"],), own["keys"], own["memory"], own["blocked"], own["real"],
        lambda h: linear(h, own["weight"], own["bias"]), lambda h: linear(h, own["to_query"]),
        lambda c: linear(c, own["from_context"]), own["vector"],
    )  # fmt: skip
    ways = ((states, contexts), Recurrence.apply(*own.values()))
    leaves = [v for v in own.values() if isinstance(v, Tensor) and v.requires_grad]
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(2, *states.shape, generator=generator, dtype=torch.float64)
    gradients = []
    for way in ways:
        for ours, plain in zip(way, ways[0], strict=True):
            torch.testing.assert_close(ours, plain, rtol=0, atol=1e-12)
        gradients.append(torch.autograd.grad((weights * torch.stack(way)).sum(), leaves))
    scale = max(1.0, *(float(g.abs().max()) for g in gradients[0]))
    for plain, ours in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, plain, rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize("padded", [False, True])
def test_attentive_gradients_agree_with_finite_differences(padded: bool) -> None:
    own = attentive_inputs(3, 3, 2, 2, True, padded, 3)
    assert torch.autograd.gradcheck(Recurrence.apply, tuple(own.values()))


# The whole model, one row at a time: torch's recurrent modules with the same weights, and the
# attention as sums over places.


def torchs(layer: Any) -> Any:
    """torch's GRU or LSTM with the maps of a layer."""
    theirs: Any = nn.GRU if layer.cell.label == "GRU" else nn.LSTM
    module = theirs(layer.input.in_features, layer.recurrent.in_features).double()
    zeros = torch.zeros(layer.input.out_features, dtype=torch.float64)
    own = layer.recurrent.bias
    parts = {"weight_ih_l0": layer.input.weight, "weight_hh_l0": layer.recurrent.weight,
             "bias_ih_l0": zeros if layer.input.bias is None else layer.input.bias,
             "bias_hh_l0": zeros if own is None else own}  # fmt: skip
    return lambda *x: torch.func.functional_call(module, parts, x)


def reference(model: Any, row: Tensor, count: int) -> Tensor:
    """Logits of the places from the last token of the source on, (places, vocab)."""
    x = model.embedding.weight[row] * model.embedding_scale
    source, target = x[:count], x[count - 1 :]
    for layer in model.layers:
        if hasattr(layer.encoder, "rightward"):
            right, _ = torchs(layer.encoder.rightward)(source)
            left, end = torchs(layer.encoder.leftward)(source.flip(0))
            encoded = torch.cat([right, left.flip(0)], 1)
            start = torch.tanh(layer.start(end))
        else:
            encoded, start = torchs(layer.encoder)(source)
        if not hasattr(layer, "attention"):
            source, target = encoded, torchs(layer.decoder)(target, start)[0]
            continue
        key, outputs = layer.attention.key, []
        states = None if hasattr(layer, "context") else torchs(layer.decoder)(target, start)[0]
        state = start if states is None else None
        for t, token in enumerate(target):
            s = state[0] if states is None else states[t]
            scores = []
            for h in encoded:
                if states is None:
                    inner = torch.tanh(layer.attention.query(s) + key(h))
                    scores.append((layer.attention.vector * inner).sum())
                else:
                    scores.append((s * key(h)).sum())
            top = torch.stack(scores).exp()
            context = sum(e / top.sum() * h for e, h in zip(top, encoded, strict=True))
            if states is None:
                # torch's cell, given the context's products as a part of its input's bias.
                maps, cell = layer.decoder, nn.GRUCell(len(token), len(token)).double()
                none = torch.zeros(3 * len(token), dtype=torch.float64)
                shift = none if maps.input.bias is None else maps.input.bias
                own = none if maps.recurrent.bias is None else maps.recurrent.bias
                parts = {"weight_ih": maps.input.weight, "weight_hh": maps.recurrent.weight,
                         "bias_ih": shift + layer.context.weight @ context,
                         "bias_hh": own}  # fmt: skip
                state = torch.func.functional_call(cell, parts, (token[None], state))
                joined = torch.cat([state[0], context, token])
            else:
                joined = torch.cat([s, context])
            outputs.append(torch.tanh(layer.combine(joined)))
        target = torch.stack(outputs)
    logits: Tensor = model.unembedding(target)
    return logits


@EVERY
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("sizes", [{}, {"num_layers": 1, "bias": False}, {"num_layers": 3}])
def test_outputs_and_gradients_are_those_of_torchs_modules_row_by_row(
    kind: str, left: bool, sizes: dict[str, Any]
) -> None:
    model = made(kind, **sizes)
    texts = [[4, 5, 6, 7, 8, 9, 10], [7, 5, 11], [6], [12, 13, 14, 15, 16]]
    counts = [3, 3, 1, 2]
    ids, real = pad_rows(texts, left=left)
    logits = model(ids, real=real, given=torch.tensor(counts))
    ours, theirs = [], []
    for row, (text, count) in enumerate(zip(texts, counts, strict=True)):
        ours.append(logits[row][real[row]][count - 1 :])
        theirs.append(reference(model, torch.tensor(text), count))
        torch.testing.assert_close(ours[-1], theirs[-1], rtol=0, atol=1e-12)
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(t.shape, generator=generator, dtype=torch.float64) for t in theirs]
    parameters = list(model.parameters())
    gradients = [
        torch.autograd.grad(
            torch.stack([(w * t).sum() for w, t in zip(weights, way, strict=True)]).sum(),
            parameters,
        )
        for way in (ours, theirs)
    ]
    for own, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(own, wanted, rtol=0, atol=1e-11)
        assert wanted.any()


@EVERY
def test_the_source_s_other_places_give_nothing_and_later_tokens_change_nothing(kind: str) -> None:
    model = made(kind)
    ids = torch.randint(4, 20, (2, 9))
    count = torch.tensor([4, 6])
    x = model.residual(ids, given=count)
    assert not x[0, :3].any()
    assert not x[1, :5].any()
    assert x[0, 3:].abs().sum(-1).all()
    changed = ids.clone()
    changed[:, 7] = (changed[:, 7] + 1) % 16 + 4
    y = model.residual(changed, given=count)
    torch.testing.assert_close(y[:, :7], x[:, :7], rtol=0, atol=0)
    assert (y[:, 7:] - x[:, 7:]).abs().amax(-1).gt(1e-9).all()
    # Any token of the source changes every output.
    changed = ids.clone()
    changed[:, 0] = (changed[:, 0] + 1) % 16 + 4
    y = model.residual(changed, given=count)
    for row in range(2):
        places = slice(int(count[row]) - 1, None)
        assert (y - x)[row, places].abs().amax(-1).gt(1e-9).all()


@given(
    kind=st.sampled_from(KINDS),
    lengths=st.lists(st.integers(0, 8), min_size=1, max_size=4),
    left=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_rows_of_any_lengths_and_sources_are_as_alone(
    kind: str, lengths: list[int], left: bool, seed: int
) -> None:
    model = made(kind, seed)
    generator = torch.Generator().manual_seed(seed)
    texts = [torch.randint(4, 20, (n,), generator=generator).tolist() for n in lengths]
    counts = [int(torch.randint(1, max(n, 1) + 1, (), generator=generator)) for n in lengths]
    ids, real = pad_rows(texts, left=left, width=max(1, *lengths))
    x = model.residual(ids, real=real, given=torch.tensor(counts))
    assert torch.isfinite(x).all()
    assert not x[~real].any()
    for row, (text, count) in enumerate(zip(texts, counts, strict=True)):
        if text:
            alone = model.residual(torch.tensor([text]), given=torch.tensor([count]))
            torch.testing.assert_close(x[row][real[row]], alone[0], rtol=0, atol=1e-12)


@EVERY
def test_a_source_is_one_token_at_least_and_no_text_is_read_backwards(kind: str) -> None:
    model = made(kind)
    ids = torch.tensor([[4, 5], [6, 7]])
    with pytest.raises(GenerationError, match="row 1 has a source of 0 tokens: it takes one"):
        model(ids, given=torch.tensor([1, 0]))
    with pytest.raises(GenerationError, match="either ids or embeddings"):
        model()
    with pytest.raises(GenerationError, match="no token sees those after it"):
        model(ids, causal=False)
    state = model.decoding_state(2)
    with pytest.raises(GenerationError, match="row 0 has a source of 3 tokens and 2 are read"):
        model(ids, given=torch.tensor([3, 1]), cache=state)
    model.config = replace(model.config, context_length=2)
    with pytest.raises(GenerationError, match="read the last window again"):
        model(torch.tensor([[4, 5, 6]]), cache=model.decoding_state(1))


def test_an_encoder_of_two_directions_needs_two_numbers() -> None:
    config = ModelConfig(kind=KINDS[0], vocab_size=9, hidden_size=1)
    with pytest.raises(ConfigError, match=r"model\.hidden_size = 1: an encoder that reads from b"):
        build(config)
    assert build(replace(config, kind=KINDS[1])).parameter_counts()["total"] > 0


@EVERY
@pytest.mark.parametrize("left", [False, True])
def test_a_state_holds_the_source_once_and_texts_change_places(kind: str, left: bool) -> None:
    model = made(kind).eval()
    texts = [[4, 5, 6, 7], [8, 9], [10, 11, 12]]
    more = torch.tensor([[13, 14], [15, 16], [17, 18]])
    ids, real = pad_rows(texts, left=left)
    state = model.decoding_state(3)
    counts = torch.tensor([len(text) for text in texts])
    model.residual(ids, real=real, given=counts, cache=state)
    assert (state.length, state.capacity, state.batch_size) == (4, 12, 3)
    before = state.num_bytes
    rows = [2, 0, 0, 1]
    state.reorder(torch.tensor(rows))
    assert state.batch_size == 4
    assert state.num_bytes == before // 3 * 4
    x = model.residual(more[rows], cache=state)
    assert state.num_bytes == before // 3 * 4  # what is written adds nothing
    assert state.length == 6
    for row, text in enumerate(rows):
        whole = torch.tensor([[*texts[text], *more[text].tolist()]])
        alone = model.residual(whole, given=counts[[text]])
        torch.testing.assert_close(x[[row]], alone[:, -2:], rtol=0, atol=1e-12)
    with pytest.raises(GenerationError, match=r"cannot take texts \[4\] of a state of 4"):
        state.reorder(torch.tensor([4]))


@EVERY
def test_a_prompt_is_the_source_when_text_is_made(kind: str) -> None:
    model = made(kind).eval()
    prompts = [[4, 5, 6, 7, 8], [9, 10]]
    stepper = Stepper(model, prompts, pad=0)
    written = [list(prompt) for prompt in prompts]
    for token in (11, 12, 13, 14):
        logits = stepper.logits()
        for row, (text, prompt) in enumerate(zip(written, prompts, strict=True)):
            alone = reference(model, torch.tensor(text), len(prompt))[-1]
            torch.testing.assert_close(logits[row], alone, rtol=0, atol=1e-12)
            text.append(token + row)
        stepper.append([token, token + 1])


@EVERY
def test_activations_can_be_seen_and_replaced(kind: str) -> None:
    model = made(kind)
    ids = torch.randint(4, 20, (2, 7))
    count = torch.tensor([3, 5])
    logits, kept = record(model, "*", ids, given=count)
    torch.testing.assert_close(logits, model(ids, given=count), rtol=0, atol=1e-12)
    pattern = kept["layers.1.attention.pattern"]  # (batch, target, source)
    assert pattern.shape == (2, 5, 5)
    torch.testing.assert_close(pattern.sum(-1), torch.ones(2, 5).double())
    assert not pattern[0, :, 3:].any()
    # All weight on the first token of the source: its state is the context.
    first = torch.zeros_like(pattern)
    first[..., 0] = 1
    seen: dict[str, Tensor] = {}
    hooks = model.hooks(
        {
            "layers.1.attention.pattern": lambda name, x: first,
            "layers.1.attention.context": seen.__setitem__,
        }
    )
    other = model(ids, given=count, hooks=hooks)
    context = seen["layers.1.attention.context"]
    torch.testing.assert_close(context, context[:, :1].expand_as(context), rtol=0, atol=0)
    assert (other - logits).abs().max() > 1e-3
    # Without an effect on the weights nothing changes.
    same = model(ids, given=count, hooks=model.hooks({"*": lambda name, x: x.clone()}))
    torch.testing.assert_close(same, logits, rtol=0, atol=0)


def test_a_division_puts_every_token_where_it_belongs() -> None:
    real = torch.tensor([[False, True, True, True, True], [True, True, True, False, False]])
    division = divide((2, 5), real, torch.tensor([3, 1]), real.device)
    assert division.source == 3
    assert division.places.T.tolist() == [[1, 2, 3, 3, 4, 0], [0, 1, 2, 0, 1, 2]]
    assert division.real is not None
    assert division.real.tolist() == [
        [True, True, True, True, True, False],
        [True, False, False, True, True, True],
    ]
    assert (~division.absent.T).tolist() == [
        [False, False, False, True, True],
        [True, True, True, False, False],
    ]
    x = torch.arange(10.0).view(2, 5, 1)
    back = division.put_back(division.take(x)[:, 3:])
    assert back[..., 0].tolist() == [[0, 0, 0, 3, 4], [5, 6, 7, 0, 0]]


@EVERY
@pytest.mark.parametrize("left", [False, True])
def test_statistics_of_padded_texts_are_those_of_each_alone(kind: str, left: bool) -> None:
    model = made(kind).eval()
    texts = [[4, 5, 6, 7, 8, 9, 10], [7, 5, 11], [6], [12, 13, 14, 15, 16]]

    def inputs(batches: list[tuple[Tensor, Tensor | None]]) -> dict[str, Tensor]:
        """The inputs of each map, in ascending order."""
        rows: dict[str, Rows] = {path: Rows() for path in linear_maps(model)}
        for ids, real in batches:
            observe(model, ids, {path: [own] for path, own in rows.items()}, real)
        return {
            path: torch.stack(sorted(torch.cat(own.seen), key=lambda x: x.tolist()))
            for path, own in rows.items()
        }

    together = inputs([pad_rows(texts, left=left)])
    alone = inputs([(torch.tensor([text]), None) for text in texts])
    for path, expected in alone.items():
        torch.testing.assert_close(together[path], expected, rtol=0, atol=1e-12)


class Rows:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def add(self, rows: Tensor) -> None:
        self.seen.append(rows)
