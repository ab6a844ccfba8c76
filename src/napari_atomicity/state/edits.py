"""Edits: what a person did to the clusters of an image, and how to take it back.

Every edit is a value with `apply` and `revert`, plain functions from analysis to analysis; undo and
redo replay edits and never compare pictures. Rows of an analysis leave and come back whole; those
of large arrays without a copy (`picked`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree
from skimage.measure import points_in_poly

from ..core import cluster_table as tables
from ..core.row_view import select_rows, stack
from ..models.analysis import Analysis
from ..tracking.tracks import MOVIE, Tracking, with_tracking


class Edit(Protocol):
    """Something that a person did to one image, and how to take it back.

    ``knowing(analysis, undo)`` is the same edit just before it is applied again or reverted: it
    takes up what the machine has found out meanwhile (a cluster added by hand has since been
    classified), which would otherwise be lost by an undo and a redo.
    """

    @property
    def image(self) -> str: ...

    @property
    def description(self) -> str: ...

    def apply(self, analysis: Analysis | None) -> Analysis | None: ...

    def revert(self, analysis: Analysis | None) -> Analysis | None: ...

    def knowing(self, analysis: Analysis | None, undo: bool) -> Edit: ...

    @property
    def cluster_ids(self) -> frozenset[int] | None:
        """Clusters that it may change; None: any."""
        ...


@dataclass(frozen=True, eq=False)
class SetAnalysis:
    """A new result for an image takes the place of the old one."""

    image: str
    before: Analysis | None
    after: Analysis | None
    description: str = "analyse"
    only_predicted: bool = False
    """Whether clusters and labels are the same, and only what a model says is another."""

    def apply(self, analysis: Analysis | None) -> Analysis | None:
        return self.after

    def revert(self, analysis: Analysis | None) -> Analysis | None:
        return self.before

    def knowing(self, analysis: Analysis | None, undo: bool) -> SetAnalysis:
        return replace(self, after=analysis) if undo else replace(self, before=analysis)

    @property
    def cluster_ids(self) -> None:
        return None


@dataclass(frozen=True, eq=False)
class Relabel:
    """A person's label for some clusters ("" takes the correction away)."""

    image: str
    before: dict[int, str]
    after: dict[int, str]
    description: str = "relabel"

    def apply(self, analysis: Analysis | None) -> Analysis | None:
        return _with_corrections(analysis, self.after)

    def revert(self, analysis: Analysis | None) -> Analysis | None:
        return _with_corrections(analysis, self.before)

    def knowing(self, analysis: Analysis | None, undo: bool) -> Relabel:
        return self

    @property
    def cluster_ids(self) -> frozenset[int]:
        return frozenset(self.after)


@dataclass(frozen=True, eq=False)
class ClusterRows:
    """Full rows of an analysis, so that clusters can leave and come back as they were."""

    table: pd.DataFrame
    outlines: list[np.ndarray]
    patches: dict[str, np.ndarray]
    embedding: np.ndarray
    class_maps: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class AddClusters:
    """Clusters that a person points to."""

    image: str
    rows: ClusterRows
    description: str = "add"

    def apply(self, analysis: Analysis | None) -> Analysis | None:
        return None if analysis is None else insert_rows(analysis, self.rows)

    def revert(self, analysis: Analysis | None) -> Analysis | None:
        return None if analysis is None else remove_rows(analysis, self.rows.table["cluster_id"])

    def knowing(self, analysis: Analysis | None, undo: bool) -> AddClusters:
        return replace(self, rows=_renewed(self.rows, analysis)) if undo else self

    @property
    def cluster_ids(self) -> frozenset[int]:
        return ids_of(self.rows)


@dataclass(frozen=True, eq=False)
class RemoveClusters:
    """Clusters that a person says are none."""

    image: str
    rows: ClusterRows
    description: str = "delete"

    def apply(self, analysis: Analysis | None) -> Analysis | None:
        return None if analysis is None else remove_rows(analysis, self.rows.table["cluster_id"])

    def revert(self, analysis: Analysis | None) -> Analysis | None:
        return None if analysis is None else insert_rows(analysis, self.rows)

    def knowing(self, analysis: Analysis | None, undo: bool) -> RemoveClusters:
        return self if undo else replace(self, rows=_renewed(self.rows, analysis))

    @property
    def cluster_ids(self) -> frozenset[int]:
        return ids_of(self.rows)


@dataclass(frozen=True, eq=False)
class ReplaceClusters:
    """Rows take the place of others: moved and measured again, split, or merged."""

    image: str
    before: ClusterRows
    after: ClusterRows
    description: str = "move"

    def apply(self, analysis: Analysis | None) -> Analysis | None:
        return _exchanged(analysis, self.before, self.after)

    def revert(self, analysis: Analysis | None) -> Analysis | None:
        return _exchanged(analysis, self.after, self.before)

    def knowing(self, analysis: Analysis | None, undo: bool) -> ReplaceClusters:
        if undo:
            return replace(self, after=_renewed(self.after, analysis))
        return replace(self, before=_renewed(self.before, analysis))

    @property
    def cluster_ids(self) -> frozenset[int]:
        return ids_of(self.before) | ids_of(self.after)


@dataclass(frozen=True, eq=False)
class SetRegions:
    """What lies in these polygons, (M, 2) in pixels (y, x), does not count."""

    image: str
    before: tuple[np.ndarray, ...]
    after: tuple[np.ndarray, ...]
    description: str = "exclude regions"

    def apply(self, analysis: Analysis | None) -> Analysis | None:
        return None if analysis is None else replace(analysis, regions=self.after)

    def revert(self, analysis: Analysis | None) -> Analysis | None:
        return None if analysis is None else replace(analysis, regions=self.before)

    def knowing(self, analysis: Analysis | None, undo: bool) -> SetRegions:
        return self

    @property
    def cluster_ids(self) -> frozenset[int]:
        return frozenset()


@dataclass(frozen=True, eq=False)
class SetTracks:
    """Which clusters of different frames are one."""

    image: str
    before: Tracking | None
    after: Tracking | None
    description: str = "track"

    def apply(self, analysis: Analysis | None) -> Analysis | None:
        return None if analysis is None else with_tracking(analysis, self.after)

    def revert(self, analysis: Analysis | None) -> Analysis | None:
        return None if analysis is None else with_tracking(analysis, self.before)

    def knowing(self, analysis: Analysis | None, undo: bool) -> SetTracks:
        return self

    @property
    def cluster_ids(self) -> frozenset[int]:
        return frozenset(i for one in (self.before, self.after) if one for i in one.track)


def ids_of(rows: ClusterRows) -> frozenset[int]:
    return frozenset(rows.table["cluster_id"].tolist())


def _exchanged(analysis: Analysis | None, out: ClusterRows, into: ClusterRows) -> Analysis | None:
    if analysis is None:
        return None
    gone = ids_of(out) - ids_of(into)
    return insert_rows(remove_rows(analysis, gone) if gone else analysis, into)


def _renewed(rows: ClusterRows, analysis: Analysis | None) -> ClusterRows:
    return rows if analysis is None else take_rows(analysis, rows.table["cluster_id"])


def _with_corrections(analysis: Analysis | None, labels: dict[int, str]) -> Analysis | None:
    if analysis is None:
        return None
    # As arrays: a step may concern hundreds of images.
    table = analysis.table
    corrected = table["label_corrected"].to_numpy(object, copy=True)
    for row, cluster_id in enumerate(table["cluster_id"].tolist()):
        if cluster_id in labels:
            corrected[row] = labels[cluster_id]
    label = np.where(corrected != "", corrected, table["label_predicted"].to_numpy(object))
    return replace(
        analysis,
        table=table.assign(
            label_corrected=pd.Series(corrected, table.index, dtype=object),
            label=pd.Series(label, table.index, dtype=object),
        ),
    )


def take_rows(analysis: Analysis, cluster_ids: Iterable[int]) -> ClusterRows:
    """The rows of these clusters, in table order."""
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


def _rebuilt(analysis: Analysis, parts: list[ClusterRows]) -> Analysis:
    """The rows of all parts, ordered by id; arrays that a part lacks are filled with NaN."""
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
    """The arrays on top of each other, in this order; those of another shape become NaN."""
    shapes = [a.shape[1:] for a in [like, *arrays] if a.ndim > 1 and np.prod(a.shape[1:])]
    if not shapes:
        return like
    fits = [a.shape == (n, *shapes[0]) for a, n in zip(arrays, lengths, strict=True)]
    if fits == [True] and np.array_equal(order, np.arange(len(order))):
        return arrays[0]
    nan = np.float32(np.nan)
    rows = [
        array if fit else np.broadcast_to(nan, (n, *shapes[0]))  # which takes no memory
        for array, fit, n in zip(arrays, fits, lengths, strict=True)
    ]
    return stack(rows, order)


def remove_rows(analysis: Analysis, cluster_ids: Iterable[int]) -> Analysis:
    """The analysis without these clusters."""
    keep = analysis.table.loc[~analysis.table["cluster_id"].isin(list(cluster_ids)), "cluster_id"]
    return _rebuilt(analysis, [take_rows(analysis, keep)])


def insert_rows(analysis: Analysis, rows: ClusterRows) -> Analysis:
    """The analysis with these clusters, which replace those with the same ids."""
    new = set(rows.table["cluster_id"])
    kept = take_rows(analysis, (i for i in analysis.table["cluster_id"] if i not in new))
    return _rebuilt(analysis, [kept, rows])


def bare_rows(table: pd.DataFrame, outlines: list[np.ndarray]) -> ClusterRows:
    """Rows of clusters that have been measured and not yet classified."""
    return ClusterRows(tables.conform(table), list(outlines), {}, np.empty((0, 0), np.float32), {})


def only(analysis: Analysis, cluster_ids: Iterable[int]) -> Analysis:
    """The analysis of these clusters alone."""
    return remove_rows(analysis, set(analysis.table["cluster_id"]) - set(cluster_ids))


def unclassified(analysis: Analysis) -> list[int]:
    """Ids of the clusters that the model has not seen, in an analysis that has been classified."""
    if not tables.classes_of(analysis.table):
        return []
    return analysis.table.loc[analysis.table["label_predicted"] == "", "cluster_id"].tolist()


def still_there(analysis: Analysis, result: Analysis) -> ClusterRows:
    """Rows of the result whose clusters are still where they were, with today's corrections."""
    place = ["cluster_id", "frame", "y_px", "x_px"]
    known = analysis.table[place].merge(result.table[place], on=place)["cluster_id"]
    rows = take_rows(result, known)
    corrected = analysis.table.set_index("cluster_id")["label_corrected"]
    table = rows.table.assign(
        label_corrected=rows.table["cluster_id"].map(corrected).astype(object)
    )
    if "track_id" in analysis.table.columns:
        track = analysis.table.set_index("cluster_id")["track_id"]
        table = table.assign(track_id=rows.table["cluster_id"].map(track).astype("int64"))
    else:
        table = table.drop(columns="track_id", errors="ignore")
    return replace(rows, table=tables.settle_labels(table))


def with_predictions(analysis: Analysis, result: Analysis) -> Analysis:
    """The analysis with what a model said of its clusters, wherever they still lie there.

    The result of a task may be of yesterday: clusters may have been added, moved, deleted or
    corrected while it was computed. These stay as the person left them.

    Parameters
    ----------
    analysis
        What is at hand.
    result
        The same image classified, perhaps with other clusters.
    """
    # The frame of the arrays is the result's: another model may see other channels and classes.
    frame = replace(
        analysis,
        table=tables.conform(_unpredicted(analysis.table), tables.classes_of(result.table)),
        patches={k: _all_nan(analysis, v) for k, v in result.patches.items()},
        class_maps={k: _all_nan(analysis, v) for k, v in result.class_maps.items()},
        embedding=_all_nan(analysis, result.embedding),
        field_of_view_nm=result.field_of_view_nm,
        scale=result.scale,
        parameters=_parameters(analysis, result),
        seconds={**analysis.seconds, **result.seconds},
    )
    return insert_rows(frame, still_there(analysis, result))


def _parameters(analysis: Analysis, result: Analysis) -> dict[str, Any]:
    """Of a new classification; what clusters were linked by is that of the clusters at hand."""
    told = {k: v for k, v in result.parameters.items() if k != MOVIE}
    return {**analysis.parameters, **told}


def _unpredicted(table: pd.DataFrame) -> pd.DataFrame:
    """Without what a model says; which clusters are one over time is no matter of a model."""
    mine = ["label_corrected", "label", "label_predicted"]
    kept = (set(tables.BEFORE_PROBABILITIES) - {"confidence"}) | {"track_id"}
    gone = set(table.columns) - kept
    return tables.settle_labels(
        table.drop(columns=[*gone, *mine[1:]]).assign(label_predicted="", label="")
    )


def _all_nan(analysis: Analysis, like: np.ndarray) -> np.ndarray:
    if like.ndim < 2 or like.shape[-1] == 0:
        return like
    nan = np.array(np.nan, like.dtype)
    return np.broadcast_to(nan, (len(analysis.table), *like.shape[1:]))  # which takes no memory


def inherit(
    before: Analysis | None,
    after: Analysis,
    first_free_id: int,
    added: frozenset[int] = frozenset(),
    removed: pd.DataFrame | None = None,
) -> Analysis:
    """A new detection with the ids and corrections of the old one, where clusters are the same.

    Two clusters are the same if each is the other's nearest and they lie within half a diameter.
    What a person has added or labelled stays, found again or not; what a person has removed does
    not come back.

    Parameters
    ----------
    before, after
        Two detections in the same image; without an old one all clusters are new.
    first_free_id
        From here on ids are given to clusters that were not known before.
    added
        Ids of clusters in the old detection that a person has added.
    removed
        Columns frame, y_nm, x_nm: where clusters lay that a person has removed.
    """
    if removed is not None and len(removed):
        after = _without_removed(after, removed)
    old, new = tables.empty() if before is None else before.table, after.table
    ids = np.zeros(len(new), int)
    corrected = np.full(len(new), "", object)
    for frame in np.intersect1d(old["frame"], new["frame"]):
        i_old = np.flatnonzero(old["frame"] == frame)
        i_new = np.flatnonzero(new["frame"] == frame)
        at_old = old.iloc[i_old][["y_px", "x_px"]].to_numpy(float)
        at_new = new.iloc[i_new][["y_px", "x_px"]].to_numpy(float)
        distance, nearest = cKDTree(at_old).query(at_new)
        _, back = cKDTree(at_new).query(at_old)
        limit = 0.5 * new.iloc[i_new]["diameter_nm"].to_numpy(float)
        distance_nm = distance * (after.micrograph.pixel_size_nm or 1.0)
        same = (back[nearest] == np.arange(len(i_new))) & (distance_nm <= np.nan_to_num(limit))
        ids[i_new[same]] = old.iloc[i_old[nearest[same]]]["cluster_id"].to_numpy()
        corrected[i_new[same]] = old.iloc[i_old[nearest[same]]]["label_corrected"].to_numpy()
    ids[ids == 0] = first_free_id + np.arange((ids == 0).sum())
    table = new.copy()
    table["cluster_id"] = ids
    table["label_corrected"] = corrected
    parts = [replace(_everything(after), table=tables.settle_labels(table))]
    if before is not None:
        mine = old["cluster_id"].isin(list(added)) | (old["label_corrected"] != "")
        lost = set(old.loc[mine, "cluster_id"]) - set(ids.tolist())
        if lost:  # the model that did the others has to look at them again
            kept = take_rows(before, lost)
            bare = _unpredicted(kept.table).drop(columns="track_id", errors="ignore")
            parts.append(bare_rows(bare, kept.outlines))
    return _rebuilt(after, parts)


def _without_removed(after: Analysis, removed: pd.DataFrame) -> Analysis:
    """A detection without what lies where a person has removed something."""
    table = after.table
    gone: list[int] = []
    for frame in np.intersect1d(table["frame"], removed["frame"]):
        places = removed.loc[removed["frame"] == frame, ["y_nm", "x_nm"]].to_numpy(float)
        own = table[table["frame"] == frame]
        distance, _ = cKDTree(places).query(own[["y_nm", "x_nm"]].to_numpy(float))
        near = distance <= 0.5 * np.nan_to_num(own["diameter_nm"].to_numpy(float))
        gone += own.loc[near, "cluster_id"].tolist()
    return remove_rows(after, gone) if gone else after


def _everything(analysis: Analysis) -> ClusterRows:
    return take_rows(analysis, analysis.table["cluster_id"])


def mark_excluded(analysis: Analysis) -> Analysis:
    """The analysis with the column ``excluded`` as its regions demand.

    A cluster whose centre lies in a region is excluded, in every frame. Without regions, and where
    there never were any, there is no such column.
    """
    table = analysis.table
    if not analysis.regions and "excluded" not in table.columns:
        return analysis
    centres = table[["y_px", "x_px"]].to_numpy(float)
    inside = np.zeros(len(table), bool)
    for polygon in analysis.regions:
        inside |= points_in_poly(centres, polygon)
    if "excluded" in table.columns and np.array_equal(table["excluded"], inside):
        return analysis
    return replace(analysis, table=table.assign(excluded=inside))


def blinded(analysis: Analysis, labels: dict[int, str]) -> Analysis:
    """The analysis as an annotator sees it who should not know what others and the machine say.

    Parameters
    ----------
    analysis
        With predictions and everybody's corrections.
    labels
        What this annotator has said blind: cluster_id → label.
    """
    table = _unpredicted(analysis.table.assign(label_corrected=""))
    table["label_corrected"] = table["cluster_id"].map(labels).fillna("").astype(object)
    return replace(
        analysis,
        table=tables.conform(tables.settle_labels(table), tables.classes_of(analysis.table)),
        class_maps={},
        embedding=np.empty((0, 0), np.float32),
        scale=None,
    )
