"""Positions of clusters in the map before the last adaptation or classification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from .rows import RowIndex

_MOVED = 1e-6
_MOST = 0.5


class _Places(NamedTuple):
    """Positions of the clusters of an image, in the order of its table."""

    ids: np.ndarray
    xy: np.ndarray
    models: np.ndarray


class Moves:
    """The current and the previous positions of each image.

    An image has previous positions if its model has changed, or if more than half of its clusters
    have moved; a cluster that was moved manually is no adaptation.
    """

    def __init__(self) -> None:
        self._last: dict[str, _Places] = {}
        self._before: dict[str, _Places] = {}

    def note(self, image: str, columns: Mapping[str, np.ndarray] | None) -> None:
        """Record the current columns of an image; None if the image was removed."""
        if columns is None:
            self._last.pop(image, None)
            self._before.pop(image, None)
            return
        now, last = _places(columns), self._last.get(image)
        if not np.isfinite(now.xy[:, 0]).any():
            return  # positions are still missing: keep the earlier ones
        if last is not None and all(map(_equal, last, now)):
            return  # a label, which is what changes most
        if last is not None and _share_moved(last, now) > (0 if _other_model(last, now) else
                                                           _MOST):  # fmt: skip
            before = self._before.get(image)
            if before is not None and _share_moved(before, now) == 0:
                del self._before[image]  # it was undone
            else:
                self._before[image] = last
        self._last[image] = now

    def forget(self) -> None:
        """Forget all positions, for another project."""
        self._last.clear()
        self._before.clear()

    def before(self, table: pd.DataFrame, rows: RowIndex) -> np.ndarray:
        """Return previous positions (N, 2); NaN where a previous or current one is missing."""
        out = np.full((len(table), 2), np.nan)
        ids = table["cluster_id"].to_numpy()
        for image, old in self._before.items():
            own = rows.of_image(image)
            mine = ids[own]
            if np.array_equal(mine, old.ids):
                out[own] = old.xy
            else:
                index = pd.Index(old.ids).get_indexer(mine)
                known = index >= 0
                out[own[known]] = old.xy[index[known]]
        now = np.column_stack([table["umap_1"], table["umap_2"]]).astype(float)
        out[~(np.isfinite(now) & np.isfinite(out)).all(axis=1)] = np.nan
        return out


def _places(columns: Mapping[str, np.ndarray]) -> _Places:
    xy = np.column_stack([columns["umap_1"], columns["umap_2"]]).astype(float)
    return _Places(columns["cluster_id"], xy, columns["model_id"])


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a is b or np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _other_model(a: _Places, b: _Places) -> bool:
    return set(a.models.tolist()) != set(b.models.tolist())


def _share_moved(a: _Places, b: _Places) -> float:
    """Return the share of clusters that have moved."""
    old, new = a.xy, b.xy
    if not np.array_equal(a.ids, b.ids):
        at = pd.Index(a.ids).get_indexer(b.ids)
        both = at >= 0
        old, new = old[at[both]], new[both]
    step = np.abs(new - old).max(axis=1, initial=0.0)
    step = step[np.isfinite(step)]
    return float((step > _MOVED).mean()) if len(step) else 0.0
