"""The analyses of a window: tables, generations and ids of clusters; changed in one place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from ..core.micrograph import Micrograph
from ..core.tables import cluster_table as tables
from ..core.tables.table_cache import Columns, TableCache, columns_of
from ..detection.given import inside_any
from ..models.analysis import Analysis
from ..statistics.scores import atoms_of
from ..tracking.tracks import MOVIE, MOVIE_TIMES, entered_times, tracking_of, with_tracking
from .cluster_rows import ClusterRows, bare_rows, insert_rows, join_rows, remove_rows, take_rows


# ---- A new result, excluded regions or blind mode, put together with what is known of an image
def still_there(analysis: Analysis, result: Analysis) -> ClusterRows:
    """Return the rows of a result whose clusters have not moved, with the corrections of today."""
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
    """Return the analysis with the predictions of a result, for clusters that have not moved.

    The result of a task may be outdated: clusters may have been added, moved, removed or corrected
    since it was started. These stay as they are.
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
        predictions=result.predictions,
        parameters=_parameters(analysis, result),
        seconds={**analysis.seconds, **result.seconds},
    )
    return insert_rows(frame, still_there(analysis, result))


def _parameters(analysis: Analysis, result: Analysis) -> dict[str, Any]:
    """Of a new classification; what clusters were linked by is that of the clusters at hand.

    What a session told of the labels before ends with them.
    """
    told = {k: v for k, v in result.parameters.items() if k != MOVIE}
    return {**analysis.own_parameters, **told}


def _unpredicted(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table without what a model gives; tracks and measurements of one's own stay."""
    mine = ["label_corrected", "label", "label_predicted"]
    kept = (set(tables.BEFORE_PROBABILITIES) - {"confidence"}) | {"track_id", *tables.RECORDING}
    gone = set(table.columns) - kept - set(tables.own_columns(table))
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
    """Return a new detection with the ids and corrections of the old one.

    Two clusters are the same if they are mutual nearest neighbours within half a diameter.
    Clusters that a person has added, moved or labelled stay, and so do the times of a movie that
    were entered; removed ones do not come back, and neither do those that were split or merged. A
    cluster that takes the place of several, or several that take the place of one, are left out if
    a person has labelled one of those before. To apply this to its result changes nothing.
    """
    if removed is not None and len(removed):
        found, after = after, _without_removed(after, before, removed)
        after = _count_outlines(found, after, "on_removed")
    old = tables.empty() if before is None else before.table
    by_hand = (old["cluster_id"].isin(list(added)) | (old["label_corrected"] != "")).to_numpy()
    if before is not None and len(before.outlines) == len(old):
        replacing, replaced = _replacing(after, before, by_hand)
        if replacing.any():
            by_hand = by_hand | replaced  # their places are empty otherwise
            found, after = after, remove_rows(after, after.table.loc[replacing, "cluster_id"])
            after = _count_outlines(found, after, "on_split_or_merged")
    after = _with_entered_times(before, after)
    new = after.table
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
        lost = set(old.loc[by_hand, "cluster_id"]) - set(ids.tolist())
        if lost:  # the model that did the others has to look at them again
            kept = take_rows(before, lost)
            bare = _unpredicted(kept.table).drop(columns="track_id", errors="ignore")
            bare = _at_pixel_size(bare, before.micrograph, after.micrograph)
            parts.append(bare_rows(bare, kept.outlines))
    return join_rows(after, parts)


def _at_pixel_size(table: pd.DataFrame, before: Micrograph, now: Micrograph) -> pd.DataFrame:
    """Return clusters with what was measured of them in units of another pixel size."""
    if not before.pixel_size_nm or not now.pixel_size_nm:
        return table
    factor = now.pixel_size_nm / before.pixel_size_nm
    lengths = {n: table[n] * factor for n in ("y_nm", "x_nm", "diameter_nm")}
    return table.assign(**lengths, integrated_intensity=table["integrated_intensity"] * factor**2)


def _with_entered_times(before: Analysis | None, after: Analysis) -> Analysis:
    """Return a stack with the times that were entered for it before, where it has none."""
    entered, tracking = entered_times(before), tracking_of(after)
    if not entered:
        return after
    if tracking is None:  # for its next tracks
        return replace(after, parameters={**after.parameters, MOVIE_TIMES: entered})
    return with_tracking(after, tracking.with_settings(entered | entered_times(after)))


def _count_outlines(found: Analysis, after: Analysis, why: str) -> Analysis:
    """Return the analysis with how many outlines of another program were left out, and why."""
    given, n = after.parameters.get("outlines"), len(found.table) - len(after.table)
    if given is None or not n:
        return after
    counted = {**given, why: given.get(why, 0) + n}
    return replace(after, parameters={**after.parameters, "outlines": counted})


def _are_there(found: pd.DataFrame, before: Analysis | None) -> np.ndarray:
    """Return which clusters are exactly where there is a cluster: it is not a removed one."""
    place = ["frame", "y_px", "x_px"]
    known = (tables.empty() if before is None else before.table)[place]
    same = pd.MultiIndex.from_frame(found[place]).isin(pd.MultiIndex.from_frame(known))
    return np.asarray(same)


def _without_removed(after: Analysis, before: Analysis | None, removed: pd.DataFrame) -> Analysis:
    """Return a detection without clusters at positions where a person has removed one."""
    table = after.table[~_are_there(after.table, before)]
    gone: list[int] = []
    for frame in np.intersect1d(table["frame"], removed["frame"]):
        places = removed.loc[removed["frame"] == frame, ["y_nm", "x_nm"]].to_numpy(float)
        own = table[table["frame"] == frame]
        distance, _ = cKDTree(places).query(own[["y_nm", "x_nm"]].to_numpy(float))
        near = distance <= 0.5 * np.nan_to_num(own["diameter_nm"].to_numpy(float))
        gone += own.loc[near, "cluster_id"].tolist()
    return remove_rows(after, gone) if gone else after


def _replacing(after: Analysis, before: Analysis, by_hand: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return which clusters of a detection replace those of a person, and which they would replace.

    Such a cluster covers the centres of several clusters, one of which a person has made or
    labelled, or its centre and that of another one are in the outline of one of a person.
    """
    old, new = before.table, after.table
    is_new = ~_are_there(new, before)
    at_old, at_new = (table[["y_px", "x_px"]].to_numpy(float) for table in (old, new))
    replacing, replaced = np.zeros(len(new), bool), np.zeros(len(old), bool)
    for frame in np.unique(old.loc[by_hand, "frame"]):
        here = np.flatnonzero(old["frame"] == frame)
        mine = here[by_hand[here]]
        found = np.flatnonzero(is_new & (new["frame"] == frame))
        if not len(found):
            continue
        # Only neighbours: there may be thousands of others.
        reach = _longest_px([before.outlines[i] for i in mine] + [after.outlines[i] for i in found])
        neighbours = cKDTree(at_old[here]).query_ball_point(at_new[found], reach)
        for i, near in zip(found, neighbours, strict=True):
            covered = here[near][inside_any(at_old[here[near]], [after.outlines[i]])]
            if len(covered) > 1 and by_hand[covered].any():
                replacing[i] = replaced[covered] = True
        neighbours = cKDTree(at_new[found]).query_ball_point(at_old[mine], reach)
        for i, near in zip(mine, neighbours, strict=True):
            parts = found[near][inside_any(at_new[found[near]], [before.outlines[i]])]
            replacing[parts] |= len(parts) > 1
    return replacing, replaced


def _longest_px(outlines: list[np.ndarray]) -> float:
    """Return the longest diagonal of the boxes around outlines in pixels."""
    corners = [outline for outline in outlines if len(outline)]
    if not corners:
        return 0.0
    starts = np.cumsum([0, *map(len, corners[:-1])])
    joined = np.concatenate(corners)
    extent = np.maximum.reduceat(joined, starts) - np.minimum.reduceat(joined, starts)
    return float(np.hypot(*extent.T).max())


def _everything(analysis: Analysis) -> ClusterRows:
    return take_rows(analysis, analysis.table["cluster_id"])


def mark_excluded(analysis: Analysis) -> Analysis:
    """Return the analysis with the column ``excluded`` according to its regions.

    A cluster whose centre is in a region is excluded, in every frame. Without regions, and where
    there never were any, there is no such column.
    """
    table = analysis.table
    if not analysis.regions and "excluded" not in table.columns:
        return analysis
    centres = table[["y_px", "x_px"]].to_numpy(float)
    inside = inside_any(centres, analysis.regions)
    if "excluded" in table.columns and np.array_equal(table["excluded"], inside):
        return analysis
    return replace(analysis, table=table.assign(excluded=inside))


def blinded(analysis: Analysis, labels: dict[int, str]) -> Analysis:
    """Return the analysis as a blind annotator sees it."""
    table = _unpredicted(analysis.table.assign(label_corrected=""))
    table["label_corrected"] = table["cluster_id"].map(labels).astype(object).fillna("")
    return replace(
        analysis,
        table=tables.conform(tables.settle_labels(table), tables.classes_of(analysis.table)),
        class_maps={},
        embedding=np.empty((0, 0), np.float32),
        scale=None,
    )


def with_micrograph(analysis: Analysis, micrograph: Micrograph) -> Analysis:
    """Return the analysis of another micrograph; it keeps the pixel size of its clusters."""
    size_nm = analysis.micrograph.pixel_size_nm
    if micrograph.pixel_size_nm != size_nm:
        micrograph = micrograph.with_pixel_size(size_nm)
    return replace(analysis, micrograph=micrograph)


class AnalysisStore:
    """Analyses by image, with the columns of their tables at hand."""

    def __init__(self) -> None:
        self._analyses: dict[str, Analysis] = {}
        self._cache = TableCache()
        self._generation: dict[str, int] = {}
        self._next_id: dict[str, int] = {}
        self._classes: tuple[str, ...] | None = None

    @property
    def analyses(self) -> dict[str, Analysis]:
        """Image → analysis; change it by `install` only."""
        return self._analyses

    def get(self, image: str) -> Analysis | None:
        """Return the analysis of an image, if there is one."""
        return self._analyses.get(image)

    def generation(self, image: str) -> int:
        """Return a number that grows with every change of an image's analysis."""
        return self._generation.get(image, 0)

    def table(self, image: str) -> pd.DataFrame:
        """Return the cluster table of an image."""
        found = self._analyses.get(image)
        return tables.empty() if found is None else found.table

    def joined_table(self, images: Iterable[str]) -> pd.DataFrame:
        """Return the cluster tables of some images as one."""
        return self._cache.table(images)

    def columns(self, image: str) -> Columns | None:
        """Return the cluster table of an image as read-only arrays by name."""
        return self._cache.columns(image)

    def classes(self, hidden: Mapping[str, Analysis] | None) -> list[str]:
        """Return the classes of the analyses, or of those that blind mode hides, in order.

        Those of several models are in order of their sizes: colours and keys hardly change when
        another model has labelled an image.
        """
        if self._classes is None:
            of_models: dict[tuple[str, ...], None] = {}
            for image, analysis in (hidden or self._analyses).items():
                columns = self.columns(image) if hidden is None else None
                names = analysis.table.columns if columns is None else columns
                of_models[tuple(tables.classes_among(names))] = None
            found = list(dict.fromkeys(chain.from_iterable(of_models)))
            sizes = {name: n for name in found if (n := atoms_of(name)) is not None}
            if len(of_models) > 1 and len(sizes) == len(found):
                found.sort(key=sizes.__getitem__)
            self._classes = tuple(found)
        return list(self._classes)

    # ---- ids
    def next_cluster_id(self, image: str) -> int:
        """Return an id that no cluster of this image ever had."""
        value = self._next_id.get(image, 1)
        self._next_id[image] = value + 1
        return value

    def first_free_id(self, image: str) -> int:
        """Return the id that the next new cluster gets, without using it."""
        return self._next_id.get(image, 1)

    def reserve_ids(self, next_ids: Mapping[str, int]) -> None:
        """Use no ids below these."""
        for image, number in next_ids.items():
            self._next_id[image] = max(number, self._next_id.get(image, 1))

    def set_next_ids(self, next_ids: Mapping[str, int]) -> None:
        """Forget all ids but those of these images; use no ids below these."""
        self._next_id = {n: max(i, self._next_id.get(n, 1)) for n, i in next_ids.items()}

    # ---- changes
    def install(
        self,
        image: str,
        analysis: Analysis | None,
        columns: Columns | None = None,
        only_labels: bool = False,
    ) -> None:
        """Replace the analysis of an image; the one place where an analysis changes."""
        if analysis is None:
            self._analyses.pop(image, None)
            self._cache.set(image, None)
            self._classes = None
        elif only_labels and image in self._analyses:
            self._analyses[image] = analysis
            self._cache.relabel(image, analysis.table)
        else:
            self._put(image, analysis, columns)
        self._generation[image] = self._generation.get(image, 0) + 1

    def _put(self, image: str, analysis: Analysis, columns: Columns | None) -> None:
        before = self._analyses.get(image)
        if before is None or not before.table.columns.equals(analysis.table.columns):
            self._classes = None
        self._analyses[image] = analysis
        known = columns_of(analysis.table) if columns is None else columns
        self._cache.set(image, known)
        if len(known["cluster_id"]):
            newest = int(known["cluster_id"].max())
            self._next_id[image] = max(self._next_id.get(image, 1), newest + 1)

    def replace_all(
        self, analyses: Mapping[str, Analysis], images: Iterable[str], cache: TableCache | None
    ) -> None:
        """Hold these analyses and no others."""
        self._cache = TableCache() if cache is None else cache
        self._analyses = {}
        self._classes = None
        for image, analysis in analyses.items():
            known = self._cache.columns(image)
            if known is None or analysis.regions or "excluded" in known:
                marked = mark_excluded(analysis)
                known = known if marked is analysis else None
                analysis = marked
            self._put(image, analysis, known)
        for image in {*self._generation, *images}:
            self._generation[image] = self._generation.get(image, 0) + 1

    def set_micrograph(self, image: str, micrograph: Micrograph) -> None:
        """Replace the micrograph of an analysis; its clusters and their pixel size stay."""
        if image in self._analyses:
            self._analyses[image] = with_micrograph(self._analyses[image], micrograph)
