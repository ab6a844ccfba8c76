"""Rows of an analysis: clusters that leave it and come back as they were.

Rows of large arrays are taken without a copy (`core.tables.row_view`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd

from ..core.tables import cluster_table as tables
from ..core.tables.cluster_table import Key
from ..core.tables.row_view import select_rows, stack
from ..models.analysis import Analysis


# ---- keys of clusters or atoms, grouped by image
@lru_cache(maxsize=4)
def ids_by_image(keys: frozenset[Key]) -> Mapping[str, frozenset[int]]:
    """Return the ids of each image among some keys.

    Every view groups the selection, which may have all clusters of a project: it is grouped once.
    """
    found: dict[str, list[int]] = defaultdict(list)
    for image, number in keys:
        found[image].append(number)
    return {image: frozenset(ids) for image, ids in found.items()}


def ids_of_image(keys: frozenset[Key], image: str | None) -> frozenset[int]:
    """Return the ids of one image among some keys."""
    return ids_by_image(keys).get(image or "", frozenset())


@dataclass(frozen=True, eq=False)
class ClusterRows:
    """Full rows of an analysis, so that clusters can leave and come back as they were."""

    table: pd.DataFrame
    outlines: list[np.ndarray]
    patches: dict[str, np.ndarray]
    embedding: np.ndarray
    class_maps: dict[str, np.ndarray]


def ids_of(rows: ClusterRows | None) -> frozenset[int]:
    """Return the ids of the clusters of some rows; none for None."""
    return frozenset() if rows is None else frozenset(rows.table["cluster_id"].tolist())


def take_rows(analysis: Analysis, cluster_ids: Iterable[int]) -> ClusterRows:
    """Return the rows of these clusters, in table order."""
    index = np.flatnonzero(analysis.table["cluster_id"].isin(list(cluster_ids)))
    if len(index) == len(analysis.table):  # the arrays are large and never written to
        return ClusterRows(
            analysis.table.reset_index(drop=True),
            analysis.outlines,
            analysis.patches,
            analysis.embedding,
            analysis.class_maps,
        )
    return ClusterRows(
        analysis.table.iloc[index].reset_index(drop=True),
        [analysis.outlines[i] for i in index],
        {k: select_rows(v, index) for k, v in analysis.patches.items()},
        select_rows(analysis.embedding, index) if len(analysis.embedding) else analysis.embedding,
        {k: select_rows(v, index) for k, v in analysis.class_maps.items()},
    )


def join_rows(analysis: Analysis, parts: list[ClusterRows]) -> Analysis:
    """Return the rows of all parts, ordered by id; arrays that a part lacks are filled with NaN."""
    lengths = [len(p.table) for p in parts]
    joined = [p.table for p in parts if len(p.table)]
    table = pd.concat(joined, ignore_index=True) if joined else analysis.table.iloc[:0]
    order = np.argsort(table["cluster_id"].to_numpy(), kind="stable")
    nothing = np.empty((0, 0), np.float32)

    def channelwise(name: str) -> dict[str, np.ndarray]:
        return {
            channel: _stacked(
                like, [getattr(p, name).get(channel, nothing) for p in parts], lengths, order
            )
            for channel, like in getattr(analysis, name).items()
        }

    outlines = [o for p in parts for o in p.outlines]
    return replace(
        analysis,
        table=tables.conform(table.iloc[order], tables.classes_of(analysis.table)),
        outlines=[outlines[i] for i in order],
        patches=channelwise("patches"),
        class_maps=channelwise("class_maps"),
        embedding=_stacked(analysis.embedding, [p.embedding for p in parts], lengths, order),
    )


def _stacked(
    like: np.ndarray, arrays: list[np.ndarray], lengths: list[int], order: np.ndarray
) -> np.ndarray:
    """Return the arrays stacked, in this order; those of another shape become NaN."""
    shapes = [a.shape[1:] for a in [like, *arrays] if a.ndim > 1 and np.prod(a.shape[1:])]
    if not shapes:
        return like
    arrays = [array for array, n in zip(arrays, lengths, strict=True) if n]
    lengths = [n for n in lengths if n]
    fits = [a.shape == (n, *shapes[0]) for a, n in zip(arrays, lengths, strict=True)]
    if fits == [True] and np.array_equal(order, np.arange(len(order))):
        return arrays[0]
    if not arrays:
        return like[:0]
    nan = np.float32(np.nan)
    rows = [
        array if fit else np.broadcast_to(nan, (n, *shapes[0]))  # which takes no memory
        for array, fit, n in zip(arrays, fits, lengths, strict=True)
    ]
    return stack(rows, order)


def remove_rows(analysis: Analysis, cluster_ids: Iterable[int]) -> Analysis:
    """Return the analysis without these clusters."""
    keep = analysis.table.loc[~analysis.table["cluster_id"].isin(list(cluster_ids)), "cluster_id"]
    return join_rows(analysis, [take_rows(analysis, keep)])


def insert_rows(analysis: Analysis, rows: ClusterRows) -> Analysis:
    """Return the analysis with these clusters, which replace those with the same ids."""
    new = set(rows.table["cluster_id"])
    kept = take_rows(analysis, (i for i in analysis.table["cluster_id"] if i not in new))
    return join_rows(analysis, [kept, rows])


def bare_rows(table: pd.DataFrame, outlines: list[np.ndarray]) -> ClusterRows:
    """Return rows of clusters that have been measured and not yet classified."""
    return ClusterRows(tables.conform(table), list(outlines), {}, np.empty((0, 0), np.float32), {})


def only(analysis: Analysis, cluster_ids: Iterable[int]) -> Analysis:
    """Return the analysis of these clusters alone."""
    return remove_rows(analysis, set(analysis.table["cluster_id"]) - set(cluster_ids))


def unclassified(analysis: Analysis) -> list[int]:
    """Return the ids of clusters that no model has seen, in a classified analysis.

    Where a model has withheld a label, or can give none, there is a model without a label.
    """
    unseen = (analysis.column("label_predicted") == "") & (analysis.column("model_id") == "")
    # Tables of a project just opened are made when they are used: not for each of its images.
    if not unseen.any() or not tables.classes_of(analysis.table):
        return []
    ids: list[int] = analysis.column("cluster_id")[unseen].tolist()
    return ids
