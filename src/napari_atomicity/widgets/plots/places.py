"""Where clusters lay in the map before another model placed them elsewhere."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .rows import Rows

_MOVED = 1e-6
_MOST = 0.5


class Moves:
    """The last places and those before, per image; told of every change, it keeps tables only.

    An image has places before if its model is another now, or if more than half of its clusters
    have moved: one that a person moved in the image is no adaptation.
    """

    def __init__(self) -> None:
        self._last: dict[str, pd.DataFrame] = {}
        self._before: dict[str, pd.DataFrame] = {}

    def note(self, image: str, table: pd.DataFrame | None) -> None:
        """The table of an image is this one now (never to be written to); None: it is gone."""
        if table is None:
            self._last.pop(image, None)
            self._before.pop(image, None)
            return
        last = self._last.get(image)
        if table is last or not np.isfinite(table["umap_1"].to_numpy(float)).any():
            return  # waits for its places: those of before stay known
        if last is not None and _same_places(last, table):
            self._last[image] = table
            return  # a label, which is what changes most
        if last is not None and _share_moved(last, table) > (0 if _other_model(last, table) else
                                                             _MOST):  # fmt: skip
            before = self._before.get(image)
            if before is not None and _share_moved(before, table) == 0:
                del self._before[image]  # it was undone
            else:
                self._before[image] = last
        self._last[image] = table

    def forget(self) -> None:
        """Another project: nothing is known of its clusters."""
        self._last.clear()
        self._before.clear()

    def before(self, table: pd.DataFrame, rows: Rows) -> np.ndarray:
        """(N, 2) places of before; NaN where there are none, or the cluster has no place now."""
        out = np.full((len(table), 2), np.nan)
        ids = table["cluster_id"].to_numpy()
        for image, old in self._before.items():
            own = rows.of_image(image)
            index = pd.Index(old["cluster_id"]).get_indexer(ids[own])
            known = index >= 0
            out[own[known]] = old[["umap_1", "umap_2"]].to_numpy(float)[index[known]]
        now = table[["umap_1", "umap_2"]].to_numpy(float)
        out[~(np.isfinite(now) & np.isfinite(out)).all(axis=1)] = np.nan
        return out


def _same_places(a: pd.DataFrame, b: pd.DataFrame) -> bool:
    """Whether the same rows have the same places, model and all."""
    return len(a) == len(b) and all(
        np.array_equal(a[name].to_numpy(), b[name].to_numpy(), equal_nan=name.startswith("umap"))
        for name in ("cluster_id", "umap_1", "umap_2", "model_id")
    )


def _other_model(a: pd.DataFrame, b: pd.DataFrame) -> bool:
    return set(a["model_id"].tolist()) != set(b["model_id"].tolist())


def _share_moved(a: pd.DataFrame, b: pd.DataFrame) -> float:
    """Of the clusters that both have placed."""
    old, new = (np.column_stack([t["umap_1"], t["umap_2"]]).astype(float) for t in (a, b))
    ids, others = a["cluster_id"].to_numpy(), b["cluster_id"].to_numpy()
    if not np.array_equal(ids, others):
        at = pd.Index(ids).get_indexer(others)
        both = at >= 0
        old, new = old[at[both]], new[both]
    step = np.abs(new - old).max(axis=1, initial=0.0)
    step = step[np.isfinite(step)]
    return float((step > _MOVED).mean()) if len(step) else 0.0
