"""``KVCache.reorder``: what it must give, and what it must not copy."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.model.helpers import build_random
from tinylm.errors import GenerationError
from tinylm.model.cache import KVCache


def filled(rows: int, length: int, room: int = 0, groups: list[int] | None = None) -> KVCache:
    """A cache of random numbers, the same first half in rows of a group."""
    cache = KVCache(build_random().config, rows, 12, dtype=torch.float64, max_batch_size=room)
    cache.extend(torch.randint(9, (rows, length)), torch.rand(rows, length) < 0.7)
    for buffer in (cache._keys, cache._values):
        buffer.normal_()
    if groups is not None:
        first = torch.tensor([groups.index(group) for group in groups])
        for buffer in cache._buffers():
            buffer[: length // 2, :rows] = buffer[: length // 2, first]
    return cache


def held(cache: KVCache) -> tuple[Tensor, ...]:
    """All that the cache holds for its sequences, copied."""
    places = (slice(None), slice(cache.length), slice(cache.batch_size))
    tensors = (cache._keys[places], cache._values[places], cache.positions, cache.real)
    return tuple(tensor.clone() for tensor in tensors)


def selected(tensors: tuple[Tensor, ...], rows: list[int]) -> tuple[Tensor, ...]:
    index = torch.tensor(rows, dtype=torch.long)
    return tuple(t.index_select(2 if t.ndim == 5 else 0, index) for t in tensors)


@given(
    groups=st.lists(st.integers(0, 2), min_size=1, max_size=5),
    length=st.integers(0, 12),
    room=st.integers(0, 7),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_reorder_equals_selecting_from_full_copies(
    groups: list[int], length: int, room: int, seed: int, data: st.DataObject
) -> None:
    """Any rows, twice in a row, with and without what is shared, also into new buffers."""
    torch.manual_seed(seed)
    cache = filled(len(groups), length, room, groups)
    for _ in range(2):
        shared = data.draw(st.sampled_from([0, length // 2]), label="shared")
        row = st.integers(0, len(groups) - 1)
        rows = data.draw(st.lists(row, max_size=7), label="rows")
        if shared:  # sequences that there are already take one of their own group
            same = [[j for j, g in enumerate(groups) if g == group] for group in groups]
            rows = [
                data.draw(st.sampled_from(same[i])) if i < len(groups) else source
                for i, source in enumerate(rows)
            ]
        before = held(cache)
        cache.reorder(torch.tensor(rows, dtype=torch.long), shared)
        assert cache.batch_size == len(rows)
        for buffer, expected in zip(held(cache), selected(before, rows), strict=True):
            assert torch.equal(buffer, expected)
        groups = [groups[source] for source in rows]
        if not groups:
            break


def test_a_row_is_read_before_another_is_written_over_it() -> None:
    cache = filled(4, 8, room=6)
    before = held(cache)
    cache.reorder(torch.tensor([1, 2, 3, 0, 0, 3]))  # a circle, and two more of those in it
    for buffer, expected in zip(held(cache), selected(before, [1, 2, 3, 0, 0, 3]), strict=True):
        assert torch.equal(buffer, expected)


class CopiedNumbers(TorchDispatchMode):
    """Counts the floating-point numbers that operations read into or write to memory."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0
        self.written = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name == "index_select" and result.is_floating_point():
            self.read += result.numel()
        elif name == "index_copy_" and result.is_floating_point():
            self.written += args[3].numel()
        else:
            # Nothing else may copy: all that is left are views and the little index tensors.
            is_view = func.is_view or not (torch.is_tensor(result) and result.is_floating_point())
            assert is_view, name
        return result


@pytest.mark.parametrize(
    ("rows", "shared", "sequences_and_tokens"),
    [
        ([0, 1, 2, 3], 0, []),  # nothing moves
        ([0, 1], 0, []),  # the last leave
        ([0, 1, 2, 2], 0, [(1, 9)]),
        ([0, 0, 3, 3], 6, [(2, 3)]),
        ([1, 0, 2, 3], 9, []),  # all is shared
        ([0, 1, 2, 3, 3], 6, [(1, 9)]),  # a new one lacks what is shared as well
        ([1, 1, 2, 3, 0], 6, [(1, 3), (1, 9)]),
    ],
)
def test_reorder_copies_no_number_that_it_need_not(
    rows: list[int], shared: int, sequences_and_tokens: list[tuple[int, int]]
) -> None:
    cache = filled(4, 9, room=5)
    with CopiedNumbers() as copied:
        cache.reorder(torch.tensor(rows), shared)
    tokens = sum(sequences * length for sequences, length in sequences_and_tokens)
    # Keys and values of 2 layers, 3 heads of 4.
    assert copied.read == copied.written == tokens * 2 * 2 * 3 * 4


def test_shared_and_unused_columns_are_left_as_they_are() -> None:
    """Poison where nothing may be read or written: it stays, and goes nowhere else."""
    cache = filled(3, 8)
    for buffer in (cache._keys, cache._values):
        for row in range(3):
            buffer[:, :3, row] = 100 + row  # shared by promise, though the rows differ
            buffer[:, 8:, row] = 200 + row  # beyond the length
    data = cache._keys.data_ptr()
    before = held(cache)
    cache.reorder(torch.tensor([2, 1, 1]), shared=3)
    assert cache._keys.data_ptr() == data
    expected = selected(before, [2, 1, 1])
    for after, moved in zip(held(cache)[:2], expected[:2], strict=True):
        assert torch.equal(after[:, 3:], moved[:, 3:])
    for buffer in (cache._keys, cache._values):
        for row in range(3):
            assert (buffer[:, :3, row] == 100 + row).all()
            assert (buffer[:, 8:, row] == 200 + row).all()


def test_new_buffers_are_given_no_unused_column() -> None:
    cache = filled(2, 8)
    cache._keys[:, 8:] = 7.0
    cache.reorder(torch.tensor([1, 0, 1]))
    assert (cache._keys[:, 8:] == 0).all()


@pytest.mark.parametrize("rows", [[0, 2], [-1]])
def test_a_row_that_is_not_there_is_refused_and_changes_nothing(rows: list[int]) -> None:
    """Also where the buffers still hold one that left."""
    cache = filled(4, 5)
    cache.reorder(torch.tensor([0, 1]))
    with pytest.raises(GenerationError, match=r"cannot take sequences .* of a cache of 2"):
        cache.reorder(torch.tensor(rows))
    assert cache.batch_size == 2
