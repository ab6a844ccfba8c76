"""Clusters as rows of numbers, for the gallery and the table. Nothing here imports Qt.

Sets of keys are slow by the thousand, so a selection is a mask over the rows of the session's
table, and an order is an array of rows. What a person has just relabelled stays where it is:
an order is kept until it is asked for again, and only what is new is put where it belongs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from ...core.tables import cluster_table as tables
from ...core.tables.cluster_table import Key
from ...core.text import pluralise

# What the machine says of a cluster: where this is another, the cluster is put in order anew.
_MACHINE = ("label_predicted", "confidence", "model_id")


class SelectableRows:
    """The cluster table of a session, with which of its rows are selected."""

    def __init__(self) -> None:
        self.table = tables.empty()
        self.selected = np.zeros(0, bool)
        self._codes: dict[str, int] = {}
        self._numbers = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self.table)

    def take(self, table: pd.DataFrame, selection: Iterable[Key]) -> np.ndarray:
        """Go over to another table."""
        before, numbers_before = self.table, self._numbers
        self.table, self._numbers = table, self._number_of(table)
        if np.array_equal(numbers_before, self._numbers):
            was = np.arange(len(table))
        else:
            was = pd.Index(numbers_before).get_indexer(self._numbers)
        for name in _MACHINE:
            now, then = table[name].to_numpy(), before[name].to_numpy()
            there = was >= 0
            other = there.copy()
            other[there] = _differ(now[there], then[was[there]])
            was = np.where(other, -1, was)
        self.select(selection)
        return was

    def _number_of(self, table: pd.DataFrame) -> np.ndarray:
        """One number per cluster that is its own for as long as the window is open."""
        codes, names = pd.factorize(table["image"])
        known = [self._codes.setdefault(str(name), len(self._codes)) for name in names]
        image = np.array(known, np.int64)[codes] if known else np.zeros(0, np.int64)
        return (image << 32) | table["cluster_id"].to_numpy(np.int64)

    def select(self, selection: Iterable[Key]) -> None:
        """Take over a selection of the session."""
        self.selected = self.mask_of(selection)

    def mask_of(self, keys: Iterable[Key]) -> np.ndarray:
        """Which rows are those of some keys, (N,) bool."""
        codes = self._codes
        numbers = [(codes[image] << 32) | i for image, i in keys if image in codes]
        return np.isin(self._numbers, np.array(numbers, np.int64))

    def keys_of(self, rows: np.ndarray) -> set[Key]:
        """Return the keys of rows, given as indices or as a mask."""
        images = self.table["image"].to_numpy()[rows].tolist()
        return set(zip(images, self.table["cluster_id"].to_numpy()[rows].tolist(), strict=True))

    def key_of(self, row: int) -> Key:
        (key,) = self.keys_of(np.array([row]))
        return key

    def blocks(self) -> dict[str, int]:
        """Image → its first row; the rows of an image follow each other."""
        images, first = np.unique(self._numbers >> 32, return_index=True)
        names = list(self._codes)
        return {names[image]: int(row) for image, row in zip(images, first, strict=True)}


def _differ(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Where two arrays are not the same; NaN is the same as NaN."""
    different = np.asarray(a != b, bool)
    return different & ~((a != a) & (b != b))


def kept_order(
    fresh: np.ndarray,  # rows in the order that sorting now would give
    before: np.ndarray,  # rows in their present order
    new: np.ndarray,
    group: np.ndarray | None = None,
) -> np.ndarray:
    """Return the present order of rows, with new rows inserted where they belong."""
    place = np.full(len(new), -1)
    place[before] = np.arange(len(before))
    # Of a new one the place of the last before it that has one.
    last = np.maximum.accumulate(np.where(place[fresh] >= 0, np.arange(len(fresh)), -1))
    after = np.where(last >= 0, place[fresh][last], -1) if len(fresh) else last
    coming = new[fresh]
    rows = np.concatenate([before, fresh[coming]])
    at = np.concatenate([np.arange(len(before)), after[coming]])
    rank = np.concatenate([np.full(len(before), -1), np.arange(int(coming.sum()))])
    groups = np.zeros(len(rows)) if group is None else group[rows]
    return rows[np.lexsort((rank, at, groups))]


def position_to_show(selected: np.ndarray, first: int, past: int) -> int | None:
    """Return the selected row to scroll to: one in sight, else the first one."""
    positions = np.flatnonzero(selected)
    visible = positions[(positions >= first) & (positions < past)]
    if len(visible):
        return int(visible[len(visible) // 2])  # of several, one that is wholly in sight
    return int(positions[0]) if len(positions) else None


def after_click(
    chosen: np.ndarray, at: int, anchor: int | None, extend: bool = False, add: bool = False
) -> np.ndarray:
    """Return what is selected after a click; Shift extends to it, Ctrl adds it."""
    out = chosen.copy() if add else np.zeros_like(chosen)
    if extend and anchor is not None:
        out[min(at, anchor) : max(at, anchor) + 1] = True
    elif add:
        out[at] = not chosen[at]
    else:
        out[at] = True
    return out


def in_numbers(rows: SelectableRows, shown: int, selected: int, selected_elsewhere: int) -> str:
    """Format numbers of clusters: ``212 of 3000 clusters, 5 selected``.

    With a movie, they are detections: a cluster has one in each frame.
    """
    what = "detection" if (rows.table["frame"] > 0).any() else "cluster"
    words = ("" if shown == len(rows) else f"{shown} of ") + pluralise(len(rows), what)
    if selected:
        words += f", {selected} selected"
    if selected_elsewhere:
        words += f", {selected_elsewhere} selected not shown here"
    return words


def label_order(classes: Sequence[str], labels: Iterable[str]) -> list[str]:
    """Labels as they are listed: classes, those outside, others, none."""
    listed = dict.fromkeys([*classes, *tables.NON_CLASS_LABELS])
    others = sorted({label for label in labels if label and label not in listed})
    return [*listed, *others, ""]
