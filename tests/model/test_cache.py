from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.model.helpers import (
    ENCODINGS,
    NORM_PLACEMENTS,
    build_random,
    largest_difference,
    random_ids,
)
from tinylm.config import ModelConfig
from tinylm.errors import GenerationError
from tinylm.model.cache import KVCache
from tinylm.model.decoder import DecoderLM

Rows = list[list[tuple[int, bool]]]
"""For each sequence, its tokens: id, and whether it is real."""


def new_cache(model: DecoderLM, batch_size: int, capacity: int | None = None) -> KVCache:
    return KVCache(model.config, batch_size, capacity, dtype=torch.float64)


def check_newest(model: DecoderLM, rows: Rows, new: int, logits: Tensor) -> None:
    """Hold the logits of the newest tokens equal to those of each row read alone, unpadded."""
    for b, row in enumerate(rows):
        ids = [token for token, real in row if real]
        fresh = [real for _, real in row[-new:]]
        if not any(fresh):
            continue
        alone = model(torch.tensor([ids]))[0, -sum(fresh) :]
        assert largest_difference(logits[b][torch.tensor(fresh)], alone) < 1e-12


@settings(max_examples=150, deadline=None)
@given(
    positions=st.sampled_from(ENCODINGS),
    norm_placement=st.sampled_from(NORM_PLACEMENTS),
    seed=st.integers(0, 100),
    data=st.data(),
)
def test_any_run_of_reading_reordering_and_truncating_equals_no_cache(
    positions: str, norm_placement: str, seed: int, data: st.DataObject
) -> None:
    model = build_random(seed, positions=positions, norm_placement=norm_placement)
    rows: Rows = [[] for _ in range(data.draw(st.integers(1, 3), label="batch"))]
    cache = new_cache(model, len(rows))

    def read() -> None:
        room = cache.capacity - cache.length
        new = data.draw(st.integers(1, min(6, room)), label="read")
        masks = st.lists(st.booleans(), min_size=new, max_size=new)
        real = [[True] * new for _ in rows]
        if data.draw(st.booleans(), label="with padding"):
            real = [data.draw(masks, label="real") for _ in rows]
        ids = data.draw(
            st.integers(0, 10_000).map(lambda s: random_ids(model, len(rows), new, seed=s))
        )
        for b, row in enumerate(rows):
            row.extend(zip(ids[b].tolist(), real[b], strict=True))
        everything_real = all(map(all, real))
        logits = model(ids, real=None if everything_real else torch.tensor(real), cache=cache)
        check_newest(model, rows, new, logits)

    def reorder() -> None:
        order = data.draw(
            st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=4), label="reorder"
        )
        rows[:] = [list(rows[i]) for i in order]
        cache.reorder(torch.tensor(order))

    def truncate() -> None:
        length = data.draw(st.integers(0, cache.length), label="truncate")
        rows[:] = [row[:length] for row in rows]
        cache.truncate(length)

    with torch.no_grad():
        read()
        for _ in range(data.draw(st.integers(1, 5), label="operations")):
            operations: list[Callable[[], None]] = [reorder, truncate]
            if cache.length < cache.capacity:
                operations += [read, read]
            data.draw(st.sampled_from(operations), label="operation")()
            assert cache.length == len(rows[0])
            assert cache.batch_size == len(rows)
            assert cache.real.tolist() == [[real for _, real in row] for row in rows]


@settings(max_examples=25, deadline=None)
@given(
    positions=st.sampled_from(ENCODINGS),
    norm_placement=st.sampled_from(NORM_PLACEMENTS),
    lengths=st.lists(st.integers(1, 8), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
)
def test_left_padded_prompts_then_single_steps_equal_no_cache(
    positions: str, norm_placement: str, lengths: list[int], seed: int
) -> None:
    model = build_random(seed, positions=positions, norm_placement=norm_placement)
    longest, steps = max(lengths), 4
    ids = random_ids(model, len(lengths), longest + steps, seed=seed)
    real = torch.arange(longest + steps) >= longest - torch.tensor(lengths)[:, None]
    cache = new_cache(model, len(lengths))
    with torch.no_grad():
        parts = [model(ids[:, :longest], real=real[:, :longest], cache=cache)]
        for t in range(longest, longest + steps):
            parts.append(model(ids[:, t : t + 1], cache=cache))
        cached = torch.cat(parts, 1)
        assert largest_difference(cached[real], model(ids, real=real)[real]) < 1e-12
        for b, length in enumerate(lengths):
            alone = model(ids[b : b + 1, longest - length :])[0]
            assert largest_difference(cached[b, longest - length :], alone) < 1e-12
    expected = (torch.arange(longest + steps) - longest + torch.tensor(lengths)[:, None]).clamp(0)
    assert torch.equal(cache.positions, expected)


def test_beams_that_branch_equal_reading_each_of_them_anew() -> None:
    model = build_random()
    prompt = random_ids(model, 1, 4)
    cache = new_cache(model, 1)
    with torch.no_grad():
        model(prompt, cache=cache)
        cache.reorder(torch.tensor([0, 0, 0]))  # one prompt becomes three beams
        model(torch.tensor([[1], [2], [3]]), cache=cache)
        cache.reorder(torch.tensor([2, 0, 2]))  # the middle one dies, the last branches
        logits = model(torch.tensor([[4], [5], [6]]), cache=cache)
        for b, tail in enumerate([[3, 4], [1, 5], [3, 6]]):
            whole = torch.cat((prompt, torch.tensor([tail])), 1)
            assert largest_difference(logits[b, -1], model(whole)[0, -1]) < 1e-12


def test_rows_copied_by_reorder_are_apart_afterwards() -> None:
    model = build_random()
    cache = new_cache(model, 1)
    with torch.no_grad():
        model(random_ids(model, 1, 3), cache=cache)
        cache.reorder(torch.tensor([0, 0]))
        before = model(torch.tensor([[1], [2]]), cache=cache)
    assert not torch.equal(before[0], before[1])


def test_a_prefix_may_be_filled_at_positions_of_ones_own() -> None:
    # As prefix tuning does: keys and values first, the text's positions count on from theirs.
    model = build_random(positions="learned")
    cache = new_cache(model, 1)
    ids = random_ids(model, 1, 6)
    with torch.no_grad():
        model(ids[:, :2], positions=torch.tensor([[4, 9]]), cache=cache)
        logits = model(ids[:, 2:], cache=cache)
        places = torch.tensor([[4, 9, 10, 11, 12, 13]])
        assert largest_difference(logits, model(ids, positions=places)[:, 2:]) < 1e-12


def test_stored_keys_may_be_written_without_a_model() -> None:
    model = build_random()
    cache = new_cache(model, 2, capacity=5)
    cache.extend(torch.tensor([[0, 1]]), None)
    keys, values = torch.randn(2, 2, 3, 2, 4, dtype=torch.float64)
    held = cache.store(1, keys, values)
    assert torch.equal(held[0], keys)
    assert torch.equal(held[1], values)
    cache.extend(torch.tensor([[2]]), torch.tensor([[True], [False]]))
    more = cache.store(1, keys[:, :, :1], values[:, :, :1])
    assert torch.equal(more[0], torch.cat((keys, keys[:, :, :1]), 2))
    assert torch.equal(more[1], torch.cat((values, values[:, :, :1]), 2))
    assert cache.positions.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert cache.real.tolist() == [[True, True, True], [True, True, False]]


def test_reading_a_token_copies_nothing_that_is_held() -> None:
    model = build_random()
    cache = new_cache(model, 1)
    cache.extend(torch.tensor([[0]]), None)
    numbers = torch.ones(1, 3, 1, 4, dtype=torch.float64)
    first, _ = cache.store(0, numbers, numbers)
    cache.extend(torch.tensor([[1]]), None)
    second, _ = cache.store(0, numbers, numbers)
    assert first.data_ptr() == second.data_ptr()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("capacity", [None, 1, 100])
def test_memory_equals_the_formula(dtype: torch.dtype, capacity: int | None) -> None:
    config = ModelConfig(vocab_size=10_000)  # 3 layers, 8 heads of 38, context 64
    cache = KVCache(config, 5, capacity, dtype=dtype)
    tokens = capacity or 64
    assert cache.num_bytes == 3 * 2 * 5 * 8 * 38 * tokens * dtype.itemsize
    buffers = {
        t.untyped_storage().data_ptr(): t for t in vars(cache).values() if torch.is_tensor(t)
    }
    of_numbers = [t for t in buffers.values() if t.is_floating_point()]
    assert sum(t.untyped_storage().nbytes() for t in of_numbers) == cache.num_bytes


def test_memory_follows_the_most_rows_and_not_the_length() -> None:
    model = build_random()
    cache = new_cache(model, 4)
    whole = cache.num_bytes
    with torch.no_grad():
        model(random_ids(model, 4, 7), cache=cache)
    assert cache.num_bytes == whole
    cache.truncate(2)
    assert cache.num_bytes == whole
    cache.reorder(torch.tensor([3]))
    assert cache.num_bytes == whole  # room for those that left stays
    cache.reorder(torch.tensor([0, 0, 0, 0]))
    assert cache.num_bytes == whole
    cache.reorder(torch.tensor([0, 1, 2, 3, 3]))
    assert cache.num_bytes == whole // 4 * 5


def test_memory_made_for_beams_to_come_equals_the_formula_and_stays() -> None:
    config = ModelConfig(vocab_size=10_000)
    cache = KVCache(config, 2, 10, dtype=torch.float32, max_batch_size=6)
    assert cache.num_bytes == 3 * 2 * 6 * 8 * 38 * 10 * 4
    assert cache.batch_size == 2
    cache.reorder(torch.tensor([0, 0, 0, 1, 1, 1]))
    assert cache.num_bytes == 3 * 2 * 6 * 8 * 38 * 10 * 4
    assert KVCache(config, 5, 10, dtype=torch.float32, max_batch_size=3).num_bytes == (
        3 * 2 * 5 * 8 * 38 * 10 * 4
    )


def test_more_tokens_than_the_capacity_are_refused_and_change_nothing() -> None:
    model = build_random()
    cache = new_cache(model, 1, capacity=5)
    ids = random_ids(model, 1, 6)
    with torch.no_grad():
        model(ids[:, :4], cache=cache)
        with pytest.raises(GenerationError, match="holds 5 tokens and 6 are needed"):
            model(ids[:, 4:], cache=cache)
        assert cache.length == 4
        logits = model(ids[:, 4:5], cache=cache)
        assert largest_difference(logits[:, -1], model(ids[:, :5])[:, -1]) < 1e-12


@pytest.mark.parametrize("positions", ENCODINGS)
def test_a_large_cache_does_not_stretch_the_context(positions: str) -> None:
    model = build_random(positions=positions)
    cache = new_cache(model, 1, capacity=40)
    with torch.no_grad():
        model(random_ids(model, 1, 16), cache=cache)
        with pytest.raises(GenerationError, match=r"position 16 .* model\.context_length = 16"):
            model(random_ids(model, 1, 1), cache=cache)
    assert cache.length == 16


def test_padding_may_fill_a_large_cache_beyond_the_context() -> None:
    model = build_random()
    cache = new_cache(model, 2, capacity=40)
    ids = random_ids(model, 2, 16)
    with torch.no_grad():
        model(ids, cache=cache)
        cache.truncate(10)
        # Row 0 waits while row 1 goes on.
        waiting = torch.tensor([[False] * 6, [True] * 6])
        model(ids[:, 10:], real=waiting, cache=cache)
        going_on = torch.tensor([[True] * 6, [False] * 6])
        logits = model(ids[:, 10:], real=going_on, cache=cache)
        assert cache.length == 22
        assert largest_difference(logits[0], model(ids)[0, 10:]) < 1e-12


@pytest.mark.parametrize("length", [-1, 4])
def test_truncating_to_an_impossible_length_is_refused(length: int) -> None:
    model = build_random()
    cache = new_cache(model, 1)
    with torch.no_grad():
        model(random_ids(model, 1, 3), cache=cache)
    with pytest.raises(GenerationError, match=f"of 3 tokens to {length}"):
        cache.truncate(length)
