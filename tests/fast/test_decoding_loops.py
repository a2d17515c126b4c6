"""The compiled loops of decoding against the layers in turn, and against torch's operations."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tinylm.config import GenerationConfig, ModelConfig
from tinylm.fast import loops
from tinylm.generation.engine import Generated, SpecialIds, generate
from tinylm.model.cache import KVCache
from tinylm.model.decoder import DecoderLM, in_turn, layers_run_by
from tinylm.model.packed import packed
from tinylm.model.reading import Reading
from tinylm.model.steps import FEW, can_step, matrix_of, step_runner

pytestmark = pytest.mark.skipif(not loops.available(), reason="no numba, or not on Linux")
SPECIAL = SpecialIds(pad=0, sos=2, eos=3, unk=1)
CONFIG = ModelConfig(
    vocab_size=131, hidden_size=27, num_heads=4, head_dim=7, num_layers=3, context_length=24
)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def build(**changes: Any) -> DecoderLM:
    torch.manual_seed(0)
    model = DecoderLM(replace(CONFIG, **changes)).eval()
    for parameter in model.parameters():  # biases and norms, too, unlike those of a new model
        nn.init.normal_(parameter, 0.5 if parameter.dim() < 2 else 0.0, 0.3)
    return model


def steps(model: DecoderLM, rows: int, runner: Any, padded: bool, dtype: torch.dtype) -> Tensor:
    """Read a prompt, take some steps with texts changing places, and return the last streams."""
    ids = torch.randint(4, 131, (rows, 12), generator=torch.Generator().manual_seed(1))
    real = (torch.arange(5) >= torch.arange(rows)[:, None] % 5) if padded else None
    cache = KVCache(model.config, rows, dtype=dtype)
    found = []
    with torch.inference_mode():
        model.residual(ids[:, :5], real=real, cache=cache)
        for t in range(5, 12):
            with layers_run_by(model, runner):
                found.append(model.residual(ids[:, t : t + 1], cache=cache))
            order = (torch.arange(rows) * (t + 1)) % rows
            (cache.reorder if runner is in_turn else cache.redirect)(order)
    return torch.cat(found, 1)


@pytest.mark.parametrize("rows", [1, 3, FEW, FEW + 3])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm_placement": "pre", "activation": "gelu"},
        {"activation": "gelu-tanh", "bias": False, "positions": "learned"},
        {"num_layers": 1, "norm_placement": "pre", "head_dim": 16},
    ],
)
def test_all_layers_at_once_equal_the_layers_in_turn(
    rows: int, padded: bool, changes: dict[str, Any]
) -> None:
    model = build(**changes)
    expected = steps(model, rows, in_turn, padded, torch.float32)
    for threads in (1, 2, 5):  # more than there may be processors
        torch.set_num_threads(threads)
        found = steps(model, rows, step_runner(model, torch.float32), padded, torch.float32)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("numbers", [torch.bfloat16, torch.int8])
@pytest.mark.parametrize("rows", [1, FEW])
def test_rounded_matrices_are_multiplied_as_what_they_stand_for(
    numbers: torch.dtype, rows: int
) -> None:
    model = build()
    rounded = copy.deepcopy(model)
    for part in rounded.layers.modules():
        if isinstance(part, nn.Linear):
            matrix = matrix_of(part, numbers)
            part.weight.data = matrix.weight.float() * matrix.scale[:, None]
            step = part.weight.data.abs().amax(1) / 127
            if numbers == torch.int8:  # nearest
                original = dict(model.layers.named_modules())[name_of(rounded, part)]
                assert isinstance(original, nn.Linear)
                assert ((part.weight - original.weight).abs() <= step[:, None] * 0.501).all()
    expected = steps(rounded, rows, in_turn, False, torch.float32)
    found = steps(model, rows, step_runner(model, numbers), False, torch.float32)
    # The prompt was read with the exact matrices in one, with the rounded ones in the other.
    exact = steps(model, rows, in_turn, False, torch.float32)
    assert (found - expected).norm() < (exact - expected).norm()
    assert (found - expected).norm() < 0.05 * expected.norm()


def name_of(model: DecoderLM, part: nn.Module) -> str:
    return next(name for name, one in model.layers.named_modules() if one is part)


def test_threads_change_no_bit() -> None:
    model = build()
    runner = step_runner(model, torch.float32)
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        x = torch.linspace(-1, 1, 2 * 27).view(2, 1, 27)
        cache = KVCache(model.config, 2)
        cache.extend(torch.zeros(2, 1, dtype=torch.long), None)
        found.append(
            runner(model.layers, x, Reading(model.positions, torch.zeros(2, 1), None, cache))
        )
    assert torch.equal(*found)


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
    assert can_step(build())
    assert not can_step(build(positions="rotary", head_dim=8))
    assert not can_step(build().double())
    watched = build()
    watched.layers[1].attention.output.register_forward_hook(lambda *_: None)  # type: ignore[union-attr, operator]
    assert not can_step(watched)
    other = build()
    other.layers[0].feed_forward.expand = nn.Sequential(nn.Linear(27, 108))  # type: ignore[union-attr]
    assert not can_step(other)
    assert packed(other).layer_runner is None
    assert packed(build()).layer_runner is not None


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
    from tinylm.fast.loops.choosing import likeliest

    count = min(count, vocab - 1)
    forbidden = data.draw(
        st.lists(st.integers(0, vocab - 1), max_size=vocab - count, unique=True), label="forbidden"
    )
    torch.manual_seed(vocab)
    logits = torch.randn(rows, vocab) * 5
    logits = (logits.round() if ties else logits).to(number)
    ids, found = likeliest(logits, forbidden, count)
    probabilities = logits.double().log_softmax(-1)
    probabilities[:, forbidden] = -torch.inf
    expected = probabilities.topk(count)
    torch.testing.assert_close(found.double(), expected.values, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(probabilities.gather(1, ids), expected.values, rtol=1e-5, atol=1e-5)
    assert all(len(set(row)) == count for row in ids.tolist())


@settings(max_examples=60, deadline=None)
@given(data=st.data(), room=st.integers(1, 6), seed=st.integers(0, 100))
def test_redirecting_is_reordering_without_moving(
    data: st.DataObject, room: int, seed: int
) -> None:
    """Whatever comes in between, what a layer is given is the same."""
    torch.manual_seed(seed)
    caches = [KVCache(CONFIG, 2, 12, max_batch_size=room) for _ in range(2)]
    moved, noted = caches
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
                    keys, values, _, _ = cache.layout()
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
        moved.reorder(order)
        noted.redirect(order)
        assert torch.equal(moved.positions, noted.positions)
        assert torch.equal(moved.real, noted.real)
        keys, values, slots, _ = noted.layout()
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
            for one, other in zip(
                moved.store(layer, *given[layer]), noted.store(layer, *given[layer]), strict=True
            ):
                assert torch.equal(one, other)
