"""Arrays that lie in several files, read as one; nothing is copied but what is asked for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


class Joined:
    """The rows of several arrays one after the other, with what of an array reading needs.

    Indexed as an array is, by a number, a slice, numbers of any shape or a mask along the first
    axis, and what NumPy does along the others. ``np.asarray`` reads all of it into memory.
    """

    def __init__(self, parts: Sequence[npt.NDArray[Any]], added: Sequence[int] | None = None):
        """Join arrays.

        Args:
            parts: one or more, of one type and one shape but for the first axis.
            added: what is added to the numbers of each, such as where its file begins.
        """
        self._parts = list(parts)
        self._added = list(added) if added is not None else [0] * len(self._parts)
        self._bounds = [0]
        for part in self._parts:
            self._bounds.append(self._bounds[-1] + len(part))
        self.dtype = self._parts[0].dtype
        self.shape = (self._bounds[-1], *self._parts[0].shape[1:])
        self.ndim = len(self.shape)
        self.itemsize = self.dtype.itemsize

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._bounds[-1]

    def __getitem__(self, key: Any) -> Any:
        """Return rows; of a slice that lies in one file, the mapped rows themselves."""
        if isinstance(key, tuple):
            rows = self[key[0]]
            return rows[(slice(None),) * (rows.ndim - self.ndim + 1) + key[1:]]
        if isinstance(key, slice):
            first, last, step = map(int, key.indices(len(self)))
            if step != 1:
                return self[np.arange(first, last, step)]
            return self._between(first, max(first, last))
        if isinstance(key, int | np.integer):
            index = int(key)
            index += len(self) if index < 0 else 0
            if not 0 <= index < len(self):
                raise IndexError(f"row {key} of {len(self)}")
            return self._between(index, index + 1)[0]
        places = np.asarray(key)
        if places.dtype == bool:
            places = np.flatnonzero(places)
        return self._at(places.astype(np.int64, copy=False))

    def _between(self, first: int, last: int) -> npt.NDArray[Any]:
        part = bisect_right(self._bounds, first, hi=len(self._parts)) - 1
        rows = []
        while True:
            begin = self._bounds[part]
            rows.append(self._values(part, slice(first - begin, last - begin)))
            part += 1
            first = self._bounds[part]
            if first >= last:
                return rows[0] if len(rows) == 1 else np.concatenate(rows)

    def _at(self, places: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        flat = np.where(places < 0, places + len(self), places).ravel()
        if len(flat) and not (flat.min() >= 0 and flat.max() < len(self)):
            raise IndexError(f"rows {flat.min()} to {flat.max()} of {len(self)}")
        parts = np.searchsorted(self._bounds, flat, side="right") - 1
        values = np.empty((len(flat), *self.shape[1:]), self.dtype)
        for part in np.unique(parts).tolist():
            chosen = parts == part
            values[chosen] = self._values(part, flat[chosen] - self._bounds[part])
        return values.reshape(*places.shape, *self.shape[1:])

    def _values(self, part: int, key: Any) -> npt.NDArray[Any]:
        values: npt.NDArray[Any] = self._parts[part][key]
        return values + self._added[part] if self._added[part] else values

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        """Return all rows in memory."""
        whole = np.concatenate(
            [
                part + more if more else part
                for part, more in zip(self._parts, self._added, strict=True)
            ]
        )
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def tolist(self) -> list[Any]:
        """Return all rows as lists."""
        rows: list[Any] = np.asarray(self).tolist()
        return rows
