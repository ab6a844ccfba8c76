"""Positions of clusters in the map before the last adaptation or classification."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from ...core.cluster_table import MODEL_MAP
from ...models.analysis import Analysis
from .rows import RowIndex

_MIN_STEP = 1e-6
_MIN_SHARE_MOVED = 0.5


def earlier_places(table: pd.DataFrame, rows: RowIndex, earlier: Iterable[Analysis]) -> np.ndarray:
    """Return the positions before the last adaptation or classification of each image.

    An earlier analysis counts if its model was another one, or if more than half of its clusters
    were at other positions; a cluster that was moved manually is no adaptation.
    """
    now = table[list(MODEL_MAP)].to_numpy(float)
    ids, models = table["cluster_id"].to_numpy(), table["model_id"].to_numpy(object)
    before = np.full_like(now, np.nan)
    found: set[str] = set()
    for old in earlier:
        image = old.micrograph.name
        own = rows.of_image(image)
        if image in found or not len(own):
            continue
        places = np.column_stack([old.column(name) for name in MODEL_MAP])
        old_ids = old.column("cluster_id")
        if not np.array_equal(old_ids, ids[own]):
            at = pd.Index(old_ids).get_indexer(ids[own])
            places = places[at]
            places[at < 0] = np.nan
        step = np.abs(places - now[own]).max(axis=1)
        step = step[np.isfinite(step)]
        other_model = set(old.column("model_id").tolist()) != set(models[own].tolist())
        share_moved = float((step > _MIN_STEP).mean()) if len(step) else 0.0
        if share_moved > (0.0 if other_model else _MIN_SHARE_MOVED):
            found.add(image)
            before[own] = np.where(np.isfinite(now[own]), places, np.nan)
    return before
