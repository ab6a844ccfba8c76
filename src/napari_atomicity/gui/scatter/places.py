"""Positions of clusters in the map before the last adaptation or classification."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from .rows import RowIndex

_MIN_STEP = 1e-6
_MIN_SHARE_MOVED = 0.5


def earlier_places(
    table: pd.DataFrame, rows: RowIndex, earlier: Iterable[tuple[str, pd.DataFrame]]
) -> np.ndarray:
    """Return the positions before the last adaptation or classification of each image.

    An earlier table counts if its model was another one, or if more than half of its clusters were
    at other positions; a cluster that was moved manually is no adaptation.

    Parameters
    ----------
    table : pandas.DataFrame
        Cluster table of all images.
    rows : RowIndex
        Index of its rows.
    earlier : iterable of (str, pandas.DataFrame)
        Image and earlier table of it, the newest first.

    Returns
    -------
    ndarray of shape (n_clusters, 2)
        NaN where an earlier or the current position is missing.
    """
    now = table[["umap_1", "umap_2"]].to_numpy(float)
    ids, models = table["cluster_id"].to_numpy(), table["model_id"].to_numpy(object)
    before = np.full_like(now, np.nan)
    found: set[str] = set()
    for image, old in earlier:
        own = rows.of_image(image)
        if image in found or not len(own):
            continue
        at = pd.Index(old["cluster_id"]).get_indexer(ids[own])
        places = old[["umap_1", "umap_2"]].to_numpy(float)[at]
        places[at < 0] = np.nan
        step = np.abs(places - now[own]).max(axis=1)
        step = step[np.isfinite(step)]
        other_model = set(old["model_id"]) != set(models[own])
        share_moved = float((step > _MIN_STEP).mean()) if len(step) else 0.0
        if share_moved > (0.0 if other_model else _MIN_SHARE_MOVED):
            found.add(image)
            before[own] = np.where(np.isfinite(now[own]), places, np.nan)
    return before
