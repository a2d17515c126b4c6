"""The compiled loops of decoding against the layers in turn, and against torch's operations."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tinylm.config import GenerationConfig, ModelConfig
from tinylm.fast import Numbers, for_decoding, loops
from tinylm.fast.cache import StepCache
from tinylm.fast.decoding import FEW
from tinylm.generation.engine import Generated, SpecialIds, generate
from tinylm.model.cache import KVCache
from tinylm.model.decoder import DecoderLM
from tinylm.model.positions import Positions
from tinylm.model.reading import Reading
from tinylm.numbers.integers import INT8
from tinylm.registry import ACTIVATIONS, POSITIONS

pytestmark = [
    pytest.mark.skipif(not loops.available(), reason="no numba, or not on Linux"),
    pytest.mark.usefixtures("keep_threads"),
]
SPECIAL = SpecialIds(pad=0, sos=2, eos=3, unk=1)
CONFIG = ModelConfig(
    vocab_size=131, hidden_size=27, num_heads=4, head_dim=7, num_layers=3, context_length=24
)


def build(**changes: Any) -> DecoderLM:
    torch.manual_seed(0)
    model = DecoderLM(replace(CONFIG, **changes)).eval()
    for parameter in model.parameters():  # biases and norms, too, unlike those of a new model
        nn.init.normal_(parameter, 0.5 if parameter.dim() < 2 else 0.0, 0.3)
    return model


class Turned(Positions):
    """Turns by a matrix of each position's and head's own."""

    def rotate(self, vectors: Tensor, positions: Tensor) -> Tensor:
        size = vectors.shape[-1]
        generator = torch.Generator().manual_seed(5)
        every = torch.randn(
            CONFIG.context_length, CONFIG.num_heads, size, size, generator=generator
        )
        turn = every[positions].transpose(1, 2)  # (batch or 1, heads, seq, size, size)
        return (vectors[..., None, :] @ turn / size**0.5)[..., 0, :]


class ByPlace(Positions):
    """Biases by the place of the key, not the distance: nothing for a table of distances."""

    def bias(self, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        return 0.3 * key_positions[:, None, None, :].float().expand(-1, CONFIG.num_heads, -1, -1)


class Squared(Positions):
    """Not linear: nothing for a matrix."""

    def rotate(self, vectors: Tensor, positions: Tensor) -> Tensor:
        return vectors * vectors.abs()


ENCODINGS: dict[str, type[Positions] | None] = {
    **dict.fromkeys(POSITIONS),
    "turned": Turned,
}


def with_encoding(name: str, **changes: Any) -> DecoderLM:
    kind = ENCODINGS[name]
    model = build(positions=name if kind is None else "sinusoidal", head_dim=8, **changes)
    if kind is not None:
        model.positions = kind(model.config)
    return model


def steps(model: DecoderLM, rows: int, padded: bool = False) -> Tensor:
    """Read a prompt, take some steps with texts changing places, and return the last streams."""
    ids = torch.randint(4, 131, (rows, 12), generator=torch.Generator().manual_seed(1))
    real = (torch.arange(5) >= torch.arange(rows)[:, None] % 5) if padded else None
    streams = []
    with torch.inference_mode():
        state = model.decoding_state(rows)
        model.residual(ids[:, :5], real=real, cache=state)
        for t in range(5, 12):
            streams.append(model.residual(ids[:, t : t + 1], cache=state))
            state.reorder((torch.arange(rows) * (t + 1)) % rows)
    return torch.cat(streams, 1)


def one_call(model: DecoderLM) -> bool:
    """Whether a step of a quick copy is one call."""
    state = for_decoding(model).decoding_state(1)
    return isinstance(state, StepCache) and state.layers is not None and state.tables is not None


@pytest.mark.parametrize("norm_placement", ["pre", "post"])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias", [False, True])
def test_all_layers_at_once_equal_the_layers_in_turn(
    norm_placement: str, encoding: str, activation: str, bias: bool
) -> None:
    """What the loops say of a layer once more, in every combination of what a layer can be."""
    model = with_encoding(encoding, norm_placement=norm_placement, activation=activation, bias=bias)
    assert one_call(model)
    for rows, padded in ((1, False), (3, True), (FEW + 3, True)):
        result, expected = steps(for_decoding(model), rows, padded), steps(model, rows, padded)
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 3, FEW, FEW + 3])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("changes", [{}, {"num_layers": 1, "head_dim": 16}])
def test_however_many_threads(rows: int, padded: bool, changes: dict[str, Any]) -> None:
    model = build(**changes)
    expected = steps(model, rows, padded)
    for threads in (1, 2, 5):  # more than there may be processors
        torch.set_num_threads(threads)
        result = steps(for_decoding(model), rows, padded)
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)


def pieces(model: DecoderLM, texts: int, padded: bool) -> Tensor:
    """Read several new tokens of each text at once, and return all streams but those of padding."""
    ids = torch.randint(4, 131, (texts, 12), generator=torch.Generator().manual_seed(1))
    real = torch.ones(texts, 4, dtype=torch.bool)
    if padded:
        real = torch.arange(4) >= torch.arange(texts)[:, None] % 4
    streams, kept = [], torch.ones(texts, 12, dtype=torch.bool)
    kept[:, :4] = real
    with torch.inference_mode():
        state = model.decoding_state(texts, max_batch_size=texts)
        for first, last in ((0, 4), (4, 5), (5, 8), (8, 10), (10, 12)):
            new = real if padded and first == 0 else None
            streams.append(model.residual(ids[:, first:last], real=new, cache=state))
            if first > 0:
                state.reorder(torch.arange(texts).flip(0))
    return torch.cat(streams, 1)[kept]


@pytest.mark.parametrize("norm_placement", ["pre", "post"])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("texts", [1, 2])
@pytest.mark.parametrize("padded", [False, True])
def test_several_new_tokens_of_a_text_go_through_all_layers_at_once(
    norm_placement: str, encoding: str, texts: int, padded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(2)
    model = with_encoding(encoding, norm_placement=norm_placement)
    expected = pieces(model, texts, padded)
    quick = for_decoding(model)
    monkeypatch.setattr("tinylm.fast.decoder.FastDecoderLM.run_layers", None)  # not in turn
    result = pieces(quick, texts, padded)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("padded", [False, True])
def test_tokens_that_all_see_each_other_go_through_all_layers_at_once(
    encoding: str, padded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(2)
    model = with_encoding(encoding)
    ids = torch.randint(4, 131, (2, 4), generator=torch.Generator().manual_seed(1))
    real = torch.tensor([[True] * 4, [False, True, True, True]]) if padded else None
    quick = for_decoding(model)

    def read(each: DecoderLM) -> Tensor:
        with torch.inference_mode():
            state = each.decoding_state(2)
            whole = each.residual(ids, causal=False, real=real, cache=state)
            then = each.residual(ids[:, :2], cache=state)  # sees what stands before it alone
        return torch.cat([whole if real is None else whole * real[..., None], then], 1)

    expected = read(model)
    if not type(model.positions).biases():  # what a later key's bias is no table says
        monkeypatch.setattr("tinylm.fast.decoder.FastDecoderLM.run_layers", None)  # not in turn
    torch.testing.assert_close(read(quick), expected, rtol=1e-4, atol=1e-4)


def test_other_threads_are_woken_where_there_is_enough_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By how much a matrix holds, in any format, and how many rows it multiplies."""
    from tinylm.fast.loops import launch
    from tinylm.fast.loops.matrices import Matrix

    monkeypatch.setattr(launch, "WAKING", 150_000)
    torch.set_num_threads(3)
    assert launch.threads_for(149_999) == 1
    assert launch.threads_for(150_000) == 3
    bias = torch.zeros(1)
    small, large = (Matrix(torch.empty(n, 300), bias) for n in (1000, 10_000))
    half = Matrix(torch.empty(10_000, 300, dtype=torch.bfloat16), bias)
    assert small.nanoseconds(1) == half.nanoseconds(1) / 5 == large.nanoseconds(1) / 10 == 25_000
    assert small.nanoseconds(7) == 4 * small.nanoseconds(1)


@pytest.mark.parametrize("kind", [ByPlace, Squared])
def test_an_encoding_that_no_table_can_hold_is_run_as_it_is(kind: type[Positions]) -> None:
    model = build()
    model.positions = kind(model.config)
    assert not one_call(model)
    for rows, padded in ((1, False), (3, True), (FEW + 3, True)):
        result, expected = steps(for_decoding(model), rows, padded), steps(model, rows, padded)
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("numbers", ["bfloat16", "int8"])
@pytest.mark.parametrize("rows", [1, FEW])
def test_rounded_matrices_are_multiplied_as_what_they_stand_for(
    numbers: Numbers, rows: int
) -> None:
    model = build()
    rounded = copy.deepcopy(model)
    for name, part in rounded.layers.named_modules():
        if isinstance(part, nn.Linear):
            if numbers == "int8":
                part.weight.data = INT8.rounded(part.weight.data)
            else:
                part.weight.data = part.weight.data.bfloat16().float()
            step = part.weight.data.abs().amax(1) / 127
            if numbers == "int8":  # nearest
                original = model.layers.get_submodule(name)
                assert isinstance(original, nn.Linear)
                assert ((part.weight - original.weight).abs() <= step[:, None] * 0.501).all()
    expected = steps(rounded, rows)
    result = steps(for_decoding(model, numbers), rows)
    exact = steps(model, rows)
    # The prompt was read with other roundings, and the cache holds bfloat16.
    assert (result - expected).norm() < (exact - expected).norm()
    assert (result - expected).norm() < 0.05 * expected.norm()


def test_threads_change_no_bit() -> None:
    model = for_decoding(build())
    streams = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        x = torch.linspace(-1, 1, 2 * 27).view(2, 1, 27)
        with torch.inference_mode():
            state = model.decoding_state(2)
            state.extend(torch.zeros(2, 1, dtype=torch.long), None)
            reading = Reading(model.positions, torch.zeros(2, 1, dtype=torch.long), None, state)
            streams.append(model.run_layers(x, reading))
    assert torch.equal(*streams)


def test_a_state_reads_the_weights_anew() -> None:
    model = build()
    quick = for_decoding(model)
    before = steps(quick, 2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    assert not torch.allclose(steps(quick, 2), before, rtol=1e-3)
    model.layers[1].feed_forward.expand.weight.data = torch.randn(108, 27)  # type: ignore[union-attr]
    torch.testing.assert_close(steps(quick, 2), steps(model, 2), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("strategy", ["greedy", "beam"])
@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize(
    "changes", [{}, {"norm_placement": "pre"}, {"positions": "rotary", "head_dim": 8}]
)
def test_whole_texts_are_those_of_the_plain_model(
    strategy: str, rows: int, changes: dict[str, Any]
) -> None:
    """Prompts of several lengths, texts that end, and one that outgrows the context."""
    model = build(**changes)
    prompts = [[2, *range(5, 6 + 2 * i)] for i in range(rows)]
    config = GenerationConfig(strategy=strategy, num_beams=3, max_new_tokens=26)

    def texts(linear: str, context: int = 0) -> list[Generated]:
        return generate(model, prompts, replace(config, linear=linear), SPECIAL)  # type: ignore[arg-type]

    for plain, compiled in zip(texts("plain"), texts("packed"), strict=True):
        assert compiled.ids == plain.ids
        assert compiled.log_probability == pytest.approx(plain.log_probability, rel=1e-4)
        assert compiled.slid == plain.slid


def test_who_is_watched_or_otherwise_made_takes_no_steps_at_once() -> None:
    assert one_call(build())
    assert for_decoding(build().double()).decoding_state(1).__class__ is KVCache
    watched = build()
    calls: list[int] = []
    watched.layers[1].attention.output.register_forward_hook(lambda *_: calls.append(1))  # type: ignore[union-attr, operator]
    assert not one_call(watched)
    steps(for_decoding(watched), 1)
    assert len(calls) == 8
    other = build()
    other.layers[0].feed_forward.expand = nn.Sequential(nn.Linear(27, 108))  # type: ignore[union-attr]
    assert not one_call(other)
    torch.testing.assert_close(steps(for_decoding(other), 3), steps(other, 3), rtol=1e-4, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 5),
    vocab=st.integers(3, 300),
    count=st.integers(1, 6),
    number=st.sampled_from([torch.float32, torch.bfloat16]),
    ties=st.booleans(),
    data=st.data(),
)
def test_the_likeliest_tokens(
    rows: int, vocab: int, count: int, number: torch.dtype, ties: bool, data: st.DataObject
) -> None:
    count = min(count, vocab - 1)
    forbidden = data.draw(
        st.lists(st.integers(0, vocab - 1), max_size=vocab - count, unique=True), label="forbidden"
    )
    torch.manual_seed(vocab)
    logits = torch.randn(rows, vocab) * 5
    logits = (logits.round() if ties else logits).to(number)
    ids, log_probabilities = loops.choosing.likeliest(logits, forbidden, count)
    probabilities = logits.double().log_softmax(-1)
    probabilities[:, forbidden] = -torch.inf
    expected = probabilities.topk(count)
    torch.testing.assert_close(log_probabilities.double(), expected.values, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(probabilities.gather(1, ids), expected.values, rtol=1e-5, atol=1e-5)
    assert all(len(set(row)) == count for row in ids.tolist())


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 5),
    vocab=st.integers(3, 300),
    number=st.sampled_from([torch.float32, torch.bfloat16]),
    temperature=st.sampled_from([1e-3, 0.5, 1.0, 3.0]),
    far=st.booleans(),
    data=st.data(),
)
def test_drawn_tokens(
    rows: int, vocab: int, number: torch.dtype, temperature: float, far: bool, data: st.DataObject
) -> None:
    forbidden = data.draw(
        st.lists(st.integers(0, vocab - 1), max_size=vocab - 1, unique=True), label="forbidden"
    )
    torch.manual_seed(vocab)
    logits = torch.randn(rows, vocab) * 5
    if far:  # what is left has a probability of e^-1000
        logits[:, forbidden] += 1000
    logits = logits.to(number)
    uniform = torch.rand(rows)
    ids, log_probabilities = loops.choosing.drawn(logits, forbidden, uniform, temperature)
    exact = logits.double()
    left = exact.clone()
    left[:, forbidden] = -torch.inf
    cumulative = (left / temperature).softmax(-1).cumsum(-1)
    before = torch.nn.functional.pad(cumulative, (1, 0)).gather(1, ids[:, None])[:, 0]
    after = cumulative.gather(1, ids[:, None])[:, 0]
    assert bool(((before <= uniform + 1e-5) & (uniform - 1e-5 <= after)).all())
    assert not set(ids.tolist()) & set(forbidden)
    expected = exact.log_softmax(-1).gather(1, ids[:, None])[:, 0].float()
    torch.testing.assert_close(log_probabilities, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-24])
def test_the_ends_of_what_is_drawn_from_are_tokens_that_can_be(uniform: float) -> None:
    logits = torch.tensor([[-200.0, 0.0, 1.0, -200.0, -torch.inf]])
    ids, _ = loops.choosing.drawn(logits, [0], torch.tensor([uniform]), 1.0)
    assert ids.tolist() == [1 if uniform == 0 else 2]


def test_numbers_that_are_none_are_not_drawn_by() -> None:
    logits = torch.tensor([[0.0, torch.nan, 1.0], [0.0, torch.inf, 1.0], [0.0, 0.5, 1.0]])
    _, log_probabilities = loops.choosing.drawn(logits, [], torch.tensor([0.1, 0.5, 0.9]), 1.0)
    assert log_probabilities.isfinite().tolist() == [False, False, True]


@settings(max_examples=60, deadline=None)
@given(data=st.data(), room=st.integers(1, 6), seed=st.integers(0, 100))
def test_redirecting_is_reordering_without_moving(
    data: st.DataObject, room: int, seed: int
) -> None:
    """Whatever comes in between, what a layer is given is the same."""
    torch.manual_seed(seed)
    moved = KVCache(CONFIG, 2, 12, max_batch_size=room)
    noted = StepCache(CONFIG, 2, 12, max_batch_size=room, tables=None)
    caches = moved, noted
    for _ in range(data.draw(st.integers(1, 4), label="rounds")):
        new = data.draw(st.integers(0, min(2, 12 - moved.length)), label="new")
        if new:
            batch = moved.batch_size
            positions = torch.randint(9, (batch, new))
            real = torch.rand(batch, new) < 0.7 if data.draw(st.booleans(), label="pad") else None
            given = torch.randn(3, 2, batch, 4, new, 7)
            settled = data.draw(st.booleans(), label="stored")
            for cache in caches:
                cache.extend(positions, real)
                if not settled and cache is noted:  # as a kernel writes, in the texts' own places
                    keys, values, *_ = noted.layout()
                    for held, numbers in ((keys, given[:, 0]), (values, given[:, 1])):
                        held[:, cache.length - new : cache.length, :batch] = numbers.permute(
                            0, 3, 1, 2, 4
                        )
                else:
                    for layer in range(3):
                        cache.store(layer, *given[layer])
        order = torch.tensor(
            data.draw(
                st.lists(st.integers(0, moved.batch_size - 1), min_size=1, max_size=6), label="rows"
            )
        )
        for cache in caches:
            cache.reorder(order)
        assert torch.equal(moved.positions, noted.positions)
        assert torch.equal(moved.real, noted.real)
        keys, values, slots, *_ = noted.layout()
        token = torch.arange(noted.length)[:, None]
        place = slots[: noted.length, : noted.batch_size]
        for own, others in ((moved._keys, keys), (moved._values, values)):
            for layer in range(3):
                expected = own[layer, : moved.length, : moved.batch_size]
                assert torch.equal(others[layer][token, place], expected)
    if moved.length < 12:
        batch = moved.batch_size
        given = torch.randn(3, 2, batch, 4, 1, 7)
        for cache in caches:
            cache.extend(torch.zeros(batch, 1, dtype=torch.long), None)
        for layer in range(3):
            for moved_part, noted_part in zip(
                moved.store(layer, *given[layer]), noted.store(layer, *given[layer]), strict=True
            ):
                assert torch.equal(moved_part, noted_part)
