"""The cluster tables of many images as one table with fast updates of single images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from . import cluster_table as tables

Columns = dict[str, np.ndarray]

_WRITES_COPY = int(pd.__version__.partition(".")[0]) >= 3
"""Whether pandas copies data before writing to them, so that tables can share their memory."""

_MANY = 0.1
"""Fraction of changed images above which all are joined again."""


class TableCache:
    """One table per image, and their concatenation, which is made when it is needed.

    A correction changes two columns of one image, and only these are updated.
    """

    def __init__(self) -> None:
        self._parts: dict[str, Columns] = {}
        self._lengths: dict[str, int] = {}
        self._joined: Columns | None = None
        self._table: pd.DataFrame | None = None
        self._blocks: dict[str, slice] = {}
        # Images whose columns have changed since the join, with their previous columns.
        self._stale: dict[str, Columns] = {}

    @classmethod
    def of(cls, columns: Mapping[str, Columns]) -> TableCache:
        """Return a cache of many images, joined in this order; for a worker."""
        cache = cls()
        cache._parts = dict(columns)
        cache._lengths = {image: len(part["cluster_id"]) for image, part in columns.items()}
        filled = [image for image, n in cache._lengths.items() if n]
        if filled:
            cache._join(filled)
        return cache

    def set(self, image: str, columns: Columns | None) -> None:
        """Set the table of an image."""
        before = self._parts.get(image)
        if columns is None:
            self._parts.pop(image, None)
            self._lengths.pop(image, None)
            self._joined = None if before is not None else self._joined
            return
        n = len(columns["cluster_id"])
        same_rows = before is not None and self._lengths[image] == n
        self._parts[image], self._lengths[image] = columns, n
        if before is not None and same_rows and before.keys() == columns.keys():
            self._stale.setdefault(image, before)
        else:
            self._joined = None

    def columns(self, image: str) -> Columns | None:
        """Return the arrays of the table of an image, None if there is none."""
        return self._parts.get(image)

    def relabel(self, image: str, table: pd.DataFrame) -> None:
        """Update ``label`` and ``label_corrected`` of the clusters of an image."""
        before = self._parts[image]
        self._stale.setdefault(image, before)
        self._parts[image] = {
            **before, **{name: table[name].to_numpy() for name in ("label", "label_corrected")}
        }  # fmt: skip

    def _refresh(self) -> None:
        """Write changes into the joined columns.

        Only columns that differ are written, in copies: tables made before share the arrays.
        """
        stale, self._stale = self._stale, {}
        self._table = None if stale else self._table
        if len(stale) > _MANY * len(self._blocks):  # joining them again is faster
            self._joined = None
        if self._joined is None:
            return
        copied: set[str] = set()
        for image, before in stale.items():
            block = self._blocks.get(image)
            if block is None or image not in self._parts:
                continue
            for name, values in self._parts[image].items():
                if values is before[name] or _equal(values, before[name]):
                    continue
                if name not in copied:
                    self._joined[name] = self._joined[name].copy()
                    copied.add(name)
                self._joined[name][block] = values

    def table(self, order: Iterable[str]) -> pd.DataFrame:
        """Return the concatenated tables of the images in this order, as a new frame."""
        names = [name for name in order if self._lengths.get(name)]
        self._refresh()
        if self._joined is None or names != list(self._blocks):
            self._join(names)
        assert self._joined is not None
        if not names:
            return tables.empty()
        if self._table is None:
            self._table = table_of(self._joined)
        return self._table.copy(deep=not _WRITES_COPY)

    def _join(self, names: list[str]) -> None:
        ends = np.cumsum([self._lengths[n] for n in names], dtype=int).tolist()
        self._blocks = {
            name: slice(end - self._lengths[name], end)
            for name, end in zip(names, ends, strict=True)
        }
        wanted = _in_order([self._parts[n] for n in names])
        self._joined = {
            column: np.concatenate([self._part(n, column) for n in names]) for column in wanted
        }
        self._table = None

    def _part(self, image: str, column: str) -> np.ndarray:
        found = self._parts[image].get(column)
        return _missing(column, self._lengths[image]) if found is None else found


def columns_of(table: pd.DataFrame) -> Columns:
    """Return the arrays of a table by name; pandas takes half a millisecond for this."""
    return {str(name): table[name].to_numpy() for name in table.columns}


def table_of(columns: Columns) -> pd.DataFrame:
    """Return arrays as a table that shares their memory."""
    # With explicit types: otherwise pandas converts objects to strings.
    index = pd.RangeIndex(len(next(iter(columns.values()))))
    series = {k: pd.Series(v, index, dtype=v.dtype, copy=False) for k, v in columns.items()}
    table = pd.DataFrame(series, index, copy=False)
    table.columns = pd.Index(list(columns), dtype=object)  # as `cluster_table.conform` has it
    return table


def _in_order(parts: list[Columns]) -> list[str]:
    """Return the columns of all parts in the order of the schema, additional ones at the end."""
    names: dict[str, None] = {}
    for part in parts:
        names.update(dict.fromkeys(part))
    classes = [name[2:] for name in names if name.startswith("p_")]
    contract = [name for name in tables.columns(classes) if name in names]
    return [*contract, *(name for name in names if name not in contract)]


def _missing(name: str, n: int) -> np.ndarray:
    column = tables.column_of(name)
    return np.full(n, np.nan) if column is None else column.fill(n)


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    if a.dtype != b.dtype:
        return False
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))
