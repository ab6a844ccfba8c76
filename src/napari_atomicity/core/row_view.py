"""Rows of large arrays without a copy of them.

The patches of an image with many clusters are half a gigabyte, and a person who deletes one of
them should not have to wait for a copy of all others. So rows that leave and come back are picked
from arrays that stay whole, and are read where they are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_LARGE_BYTES = 1 << 23
"""Smaller arrays are copied in a millisecond or two, and are simpler."""
_WRITING = frozenset(
    {"fill", "itemset", "partition", "put", "resize", "setfield", "setflags", "sort"}
)
"""Methods of an array that change it."""


class RowView(np.lib.mixins.NDArrayOperatorsMixin):
    """Rows of one or several arrays, standing for an array that is never written to.

    Rows of it are picked in turn, without a copy. Everything else that can be done with an array
    is done with a copy, which `numpy.asarray` makes.

    Parameters
    ----------
    bases
        Arrays of one type whose rows have one shape.
    which, row
        (N,) the base that each row comes from, and which of its rows it is.
    """

    def __init__(self, bases: Sequence[np.ndarray], which: np.ndarray, row: np.ndarray) -> None:
        self.bases = bases
        self.which = which
        self.row = row

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.row), *self.bases[0].shape[1:]

    @property
    def dtype(self) -> np.dtype:
        return self.bases[0].dtype

    @property
    def ndim(self) -> int:
        return self.bases[0].ndim

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return len(self.row)

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
            raise ValueError("rows that are picked become an array by a copy only")
        out = np.empty(self.shape, self.dtype if dtype is None else dtype)
        for i, base in enumerate(self.bases):
            here = self.which == i
            out[here] = base[self.row[here]]
        return out

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if any(isinstance(x, RowView) for x in options.get("out", ())):
            raise TypeError("rows that are picked are not written to")
        plain = [np.asarray(x) if isinstance(x, RowView) else x for x in inputs]
        return getattr(ufunc, method)(*plain, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in _WRITING or not hasattr(np.ndarray, name):
            raise AttributeError(name)
        return getattr(np.asarray(self), name)

    def __reduce__(self) -> Any:
        """Another process gets these rows and no others."""
        return np.asarray, (np.asarray(self),)


def select_rows(array: Any, index: np.ndarray) -> Any:
    """Rows (N,) of an ndarray or `RowView`: a copy, or `RowView` themselves if the array is
    large."""
    if isinstance(array, RowView) or array.nbytes <= _LARGE_BYTES:
        return array[index]
    return RowView([array], np.zeros(len(index), int), index)


def stack(arrays: Sequence[Any], order: np.ndarray) -> Any:
    """Arrays on top of each other, then with their rows in another order.

    Of large ones nothing is copied; what is all rows of one as they were is this very array.

    Parameters
    ----------
    arrays
        Each an ndarray or `RowView`, with rows of one shape.
    order
        (N,) rows of all of them.
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
    """These rows from no more bases than it takes: the large ones, and one with all the rest."""
    used = set(np.unique(which).tolist())
    kept = [i for i, base in enumerate(bases) if i in used and base.nbytes > _LARGE_BYTES]
    rest = ~np.isin(which, kept)
    few = np.asarray(RowView(bases, which[rest], row[rest]))
    if not kept:
        return few
    if len(few):
        which[rest], row[rest] = len(bases), np.arange(len(few))
        kept, bases = [*kept, len(bases)], [*bases, few]
    only = bases[kept[0]]
    if len(kept) == 1 and np.array_equal(row, np.arange(len(only))):
        return only
    return RowView([bases[i] for i in kept], np.searchsorted(kept, which), row)
