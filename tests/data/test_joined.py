"""Arrays of several files are indexed as one array is."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinylm.data.joined import Joined

Lengths = st.lists(st.integers(0, 5), min_size=1, max_size=5).filter(any)


def joined(lengths: list[int], width: int | None) -> tuple[Joined, npt.NDArray[np.int64]]:
    """Rows in parts, to each of which something is added, and the array that they make."""
    shape = (sum(lengths),) if width is None else (sum(lengths), width)
    whole = np.arange(np.prod(shape)).reshape(shape)
    bounds = np.cumsum([0, *lengths])
    added = [7 * number for number in range(len(lengths))]
    parts = [whole[a:b] - more for a, b, more in zip(bounds, bounds[1:], added, strict=False)]
    return Joined(parts, added), whole


@given(lengths=Lengths, width=st.none() | st.integers(1, 3), data=st.data())
def test_every_way_of_indexing(lengths: list[int], width: int | None, data: st.DataObject) -> None:
    rows, whole = joined(lengths, width)
    size = len(whole)
    assert (len(rows), rows.shape, rows.ndim) == (size, whole.shape, whole.ndim)
    assert (rows.dtype, rows.itemsize) == (whole.dtype, whole.itemsize)
    shapes = hnp.array_shapes(max_dims=2, max_side=4)
    keys: list[Any] = [
        data.draw(st.integers(-size, size - 1)),
        np.int64(data.draw(st.integers(0, size - 1))),
        data.draw(st.slices(size)),
        slice(None),
        data.draw(hnp.arrays(np.int64, shapes, elements=st.integers(-size, size - 1))),
        data.draw(hnp.arrays(np.bool_, size)),
        [0, -1, 0],
        np.empty(0, np.int64),
    ]
    if width is not None:
        keys += [(keys[0], 0), (slice(None), width - 1), (keys[4], 0), (keys[5], slice(None))]
    for key in keys:
        np.testing.assert_array_equal(rows[key], whole[key])
    np.testing.assert_array_equal(np.asarray(rows), whole)
    assert np.asarray(rows, dtype=np.float32).dtype == np.float32
    assert rows.tolist() == whole.tolist()


@pytest.mark.parametrize("key", [6, -7, [0, 6], np.array([-7])])
def test_a_row_that_is_not_there(key: Any) -> None:
    with pytest.raises(IndexError):
        joined([2, 4], None)[0][key]


def test_rows_of_one_file_are_not_copied() -> None:
    parts = [np.arange(5), np.arange(5)]
    rows = Joined(parts)
    assert np.shares_memory(rows[1:4], parts[0])
    assert np.shares_memory(rows[5:10], parts[1])
    assert not np.shares_memory(rows[4:6], parts[1])
