"""Rows of large arrays without copies.

The patches of an image with many clusters take half a gigabyte. Removing one cluster must not copy
the patches of all others: a view refers to rows of unchanged arrays and reads them when needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_LARGE_BYTES = 1 << 23
"""Size above which rows are not copied; smaller arrays are copied in a few milliseconds."""
_WRITING = frozenset(
    {"fill", "itemset", "partition", "put", "resize", "setfield", "setflags", "sort"}
)
"""Methods of an array that modify it."""


class ArrayView(np.lib.mixins.NDArrayOperatorsMixin):
    """A read-only array whose values are put together when they are needed.

    A subclass has `shape`, `dtype` and `__array__`. Operations use a copy made by `numpy.asarray`.
    """

    shape: tuple[int, ...]
    dtype: np.dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the values as an array."""
        raise NotImplementedError

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        """Size of the values in bytes."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if any(isinstance(x, ArrayView) for x in options.get("out", ())):
            raise TypeError("a view of an array is read-only")
        plain = [np.asarray(x) if isinstance(x, ArrayView) else x for x in inputs]
        return getattr(ufunc, method)(*plain, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in _WRITING or not hasattr(np.ndarray, name):
            raise AttributeError(name)
        return getattr(np.asarray(self), name)

    def __reduce__(self) -> Any:
        """Pickle the values."""
        return np.asarray, (np.asarray(self),)


class RowView(ArrayView):
    """A read-only view of rows of one or several arrays.

    Selecting rows of the view makes no copy.

    Parameters
    ----------
    bases : sequence of ndarray
        Arrays of the same type and row shape.
    which, row : ndarray of int, shape (n_rows,)
        Index of the array of each row, and of the row in this array.
    """

    def __init__(self, bases: Sequence[np.ndarray], which: np.ndarray, row: np.ndarray) -> None:
        self.bases = bases
        self.which = which
        self.row = row

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """Shape of the array."""
        return len(self.row), *self.bases[0].shape[1:]

    @property
    def dtype(self) -> np.dtype:  # type: ignore[override]
        """Type of the values."""
        return self.bases[0].dtype

    def __getitem__(self, key: Any) -> Any:
        rows, *within = key if isinstance(key, tuple) else (key,)
        several = isinstance(rows, list | np.ndarray) and np.ndim(rows) == 1
        simple = several or isinstance(rows, int | np.integer | slice)
        if not simple or not all(isinstance(k, int | np.integer | slice) for k in within):
            return np.asarray(self)[key]
        which, row = self.which[rows], self.row[rows]
        if row.ndim == 0:
            return self.bases[int(which)][(row, *within)]
        whole = slice(None)
        bases = [base[(whole, *within)] for base in self.bases] if within else self.bases
        return RowView(bases, which, row)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("a view of rows can not become an array without a copy")
        out = np.empty(self.shape, self.dtype if dtype is None else dtype)
        for i, base in enumerate(self.bases):
            here = self.which == i
            out[here] = base[self.row[here]]
        return out


def select_rows(array: Any, index: np.ndarray) -> Any:
    """Return rows of an ndarray or `RowView`: a copy, or a `RowView` of a large array."""
    if isinstance(array, RowView) or array.nbytes <= _LARGE_BYTES:
        return array[index]
    return RowView([array], np.zeros(len(index), int), index)


def stack(
    arrays: Sequence[Any],  # arrays with rows of the same shape
    order: np.ndarray,  # (n_rows,), int: indices of rows of the concatenated arrays
) -> Any:
    """Concatenate arrays and reorder their rows.

    Large arrays are not copied. If the result is all rows of one array in order, it is this array.
    """
    parts = [a if isinstance(a, RowView) else _whole(a) for a in arrays]
    bases = list({id(base): base for part in parts for base in part.bases}.values())
    place = {id(base): i for i, base in enumerate(bases)}
    which = [np.array([place[id(base)] for base in p.bases])[p.which] for p in parts]
    row = [part.row for part in parts]
    return _simplest(bases, np.concatenate(which)[order], np.concatenate(row)[order])


def _whole(array: np.ndarray) -> RowView:
    return RowView([array], np.zeros(len(array), int), np.arange(len(array)))


def _simplest(bases: list[np.ndarray], which: np.ndarray, row: np.ndarray) -> Any:
    """Return the rows from as few arrays as possible: the large ones, and one with all others."""
    used = set(np.unique(which).tolist())
    kept = [i for i, base in enumerate(bases) if i in used and base.nbytes > _LARGE_BYTES]
    rest = ~np.isin(which, kept)
    small = np.asarray(RowView(bases, which[rest], row[rest]))
    if not kept:
        return small
    if len(small):
        which[rest], row[rest] = len(bases), np.arange(len(small))
        kept, bases = [*kept, len(bases)], [*bases, small]
    only = bases[kept[0]]
    if len(kept) == 1 and np.array_equal(row, np.arange(len(only))):
        return only
    return RowView([bases[i] for i in kept], np.searchsorted(kept, which), row)
