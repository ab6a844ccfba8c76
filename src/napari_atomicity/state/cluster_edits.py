"""What a person or a model does to the clusters of a window, as edits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from ..core.micrograph import Micrograph, is_replaced
from ..core.tables import cluster_table as tables
from ..core.tables.cluster_table import Key
from ..core.text import pluralise
from ..models.analysis import Analysis
from ..project import EditKind, ImageEdit
from ..tracking.tracks import tracking_of
from .analysis_store import inherit, still_there, with_predictions
from .chunked_steps import is_long
from .cluster_rows import ClusterRows, bare_rows, ids_of, insert_rows, take_rows
from .edits import (
    AddClusters,
    Edit,
    Relabel,
    RemoveClusters,
    ReplaceClusters,
    SetAnalysis,
    SetRegions,
    SetSessionRecord,
    SetTracks,
)
from .history import History
from .project_saver import ClusterChange
from .window_images import WindowImages

REMOVED_PLACES = "removed_places"
"""Key of the parameters of an analysis: frame, (y, x) in nm as in the log, and (y, x) in pixels of
clusters that a person removed at another pixel size."""


class ClusterEdits:
    """Changes the clusters of a window, each time by one step of its history."""

    def __init__(
        self, state: WindowImages, history: History, add_image: Callable[[Micrograph], object]
    ) -> None:
        self._state = state
        self._history = history
        self._add_image = add_image

    # ---- by a model
    def set_analysis(
        self,
        analysis: Analysis,
        description: str = "analyse",
        undoable: bool = True,  # false for a first result that is not a step of undo
        soon: bool = False,  # whether it may run in parts (`chunked_steps`)
        records: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Replace the analysis of an image by a new result.

        Its session may tell something new of other images, too (`records`). Clusters that
        were known before keep their ids and corrections, and excluded regions stay. Clusters that a
        person has added or labelled stay even if they were not found again; clusters that a person
        has removed do not come back.
        """
        state, image = self._state, analysis.micrograph.name
        state.steps.finish()
        if image not in state.images:
            self._add_image(analysis.micrograph)
        state.ensure_writable()
        edits = chain(self._new_analysis(analysis, description), self._new_records(records or {}))
        before = state.store.get(image)
        # Undo would put the clusters of a file that was replaced on the new picture.
        known = None if before is None else before.micrograph.sha256
        can_be_undone = not is_replaced(known, analysis.micrograph.sha256)
        if (undoable or before is not None) and can_be_undone:
            self._history.ensure_not_blind()
            self._history.run(edits, description, long=soon)
        elif not state.blind:
            self._history.apply_without_undo(edits, soon)

    def _new_analysis(self, analysis: Analysis, description: str) -> Iterator[Edit]:
        """Yield the edit that sets a new result with the corrections of the old one."""
        image = analysis.micrograph.name
        before = self._state.store.get(image)
        yield SetAnalysis(image, before, self.with_edits(analysis), description)

    def with_edits(self, analysis: Analysis) -> Analysis:
        """Return a new detection or result with what a person did to the clusters of its image.

        A worker may call it: clusters count in the scale of an image and its session as they are
        after the edits.
        """
        store, image = self._state.store, analysis.micrograph.name
        before = store.get(image)
        first_free_id = store.first_free_id(image)
        if first_free_id > 1:
            added, removed = self._manual_edits(image)
            removed, places = self._at_pixel_size(removed, before, analysis)
            known = before or self._labelled_clusters(image)
            analysis = inherit(known, analysis, first_free_id, added, removed)
            others = {k: v for k, v in analysis.parameters.items() if k != REMOVED_PLACES}
            told = {REMOVED_PLACES: places} if places else {}
            analysis = replace(analysis, parameters=others | told)
        if before is not None:
            analysis = replace(analysis, regions=before.regions)
        return analysis

    def _labelled_clusters(self, image: str) -> Analysis | None:
        """Return clusters with their labels, of an image whose analysis is damaged in the file."""
        project = self._state.project
        return None if project is None else project.labelled_clusters(image)

    def _at_pixel_size(
        self, removed: pd.DataFrame, before: Analysis | None, analysis: Analysis
    ) -> tuple[pd.DataFrame, list[list[float]]]:
        """Return removed clusters with positions in lengths of the pixel size of an analysis.

        The log has lengths only, of the pixel size at that time. Pixels are known of clusters that
        were removed in this window, and of `REMOVED_PLACES`; others are of the analysis before.
        Places whose lengths in the log are of another size come second, for the next analysis.
        """
        size_nm = analysis.micrograph.pixel_size_nm
        if not len(removed) or size_nm is None:
            return removed, []
        columns = ["frame", "y_nm", "x_nm", "y_px", "x_px"]
        image = analysis.micrograph.name
        edits = (e for e in self._history.edits_of(image) if isinstance(e, RemoveClusters))
        kept = before.parameters.get(REMOVED_PLACES, []) if before else []
        tables_before = [edit.before.table[columns] for edit in edits]
        known = pd.concat([pd.DataFrame(kept, columns=columns, dtype=float), *tables_before])
        known = known.astype({"frame": removed["frame"].dtype})
        known = known.drop_duplicates(columns[:3], keep="last")
        found = removed.merge(known, how="left", on=columns[:3])
        before_nm = (before and before.micrograph.pixel_size_nm) or size_nm
        for axis in ("y", "x"):
            found[f"{axis}_px"] = found[f"{axis}_px"].fillna(found[f"{axis}_nm"] / before_nm)
        now = size_nm * found[["y_px", "x_px"]].to_numpy(float)
        other = ~np.isclose(now, found[["y_nm", "x_nm"]].to_numpy(float), rtol=1e-6).all(axis=1)
        places = found.loc[other, columns].to_numpy(float).tolist()
        return found.assign(y_nm=now[:, 0], x_nm=now[:, 1])[removed.columns], places

    def _manual_edits(self, image: str) -> tuple[frozenset[int], pd.DataFrame]:
        """Return clusters that a person has added or moved, and positions of removed ones."""
        project = self._state.project
        in_log: tuple[frozenset[int], pd.DataFrame] | None = None
        if project is not None and project.has(image):
            in_log = project.manual_edits(image, moved=True)
            if not self._history.has_unsaved_clusters(image):
                return in_log
        made: set[int] = set()
        gone: dict[int, pd.DataFrame] = {}
        for edit in self._history.edits_of(image):
            if isinstance(edit, ReplaceClusters):  # also by pieces, or by what was merged
                before, after = ids_of(edit.before), ids_of(edit.after)
                made |= after if after == before else after - before
            if isinstance(edit, RemoveClusters):
                gone |= dict.fromkeys(edit.cluster_ids, edit.before.table)
        columns = ["frame", "y_nm", "x_nm"]
        places = [t.loc[t["cluster_id"] == i, columns] for i, t in gone.items()]
        if in_log is not None:
            made |= in_log[0]
            places = [in_log[1], *places]
        none = pd.DataFrame(columns=columns)
        return frozenset(made), pd.concat(places, ignore_index=True) if places else none

    def add_predictions(self, result: Analysis) -> None:
        """Add a model's predictions of clusters that had none; not a step of undo."""
        self._state.steps.finish()
        image = result.micrograph.name
        analysis = self._state.store.get(image)
        if analysis is not None and not self._state.blind:
            rows = still_there(analysis, result)
            edit = ImageEdit(image, EditKind.ANALYSIS, self._state.annotator, ids_of(rows))
            change = ClusterChange(edit, analysis, insert_rows(analysis, rows))
            self._history.record_by_model(change)

    def replace_predictions(
        self,
        result: Analysis,
        description: str = "classify",
        records: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Replace the predictions of the clusters of an image, as one step.

        Its session may tell something new of other images, too (`records`).
        """
        self._state.steps.finish()
        edits = list(self._new_predictions([result], description))
        self._history.do(*edits, *self._new_records(records or {}), description=description)

    def replace_all_predictions(
        self,
        results: Iterable[Analysis],
        description: str,
        analyses: Iterable[Analysis] = (),
        group: object = None,  # of the step from which they follow (`Step`)
        undoable: bool = True,
    ) -> None:
        """Replace the predictions of several images, as one step that may run in parts.

        Those that belong to first results are not ``undoable``: no step of undo.
        """
        self._state.ensure_writable()
        self._history.ensure_not_blind()
        new = (edit for a in analyses for edit in self._new_analysis(a, description))
        edits = chain(new, self._new_predictions(results, description))
        if undoable:
            self._history.run(edits, description, group, long=True)
        else:
            self._history.apply_without_undo(edits, long=True)

    def set_session(self, image: str, session: Mapping[str, Any]) -> None:
        """Set what the session of an image tells of it; not a step of undo."""
        self._state.steps.finish()
        analysis = self._state.store.get(image)
        if analysis is not None and analysis.parameters.get("session") != session:
            edit = ImageEdit(image, EditKind.ANALYSIS, self._state.annotator, frozenset())
            parameters = {**analysis.parameters, "session": dict(session)}
            after = replace(analysis, parameters=parameters)
            self._history.record_by_model(ClusterChange(edit, analysis, after))

    def _new_predictions(self, results: Iterable[Analysis], description: str) -> Iterator[Edit]:
        for result in results:
            image = result.micrograph.name
            analysis = self._state.store.get(image)
            if analysis is not None:
                after = with_predictions(analysis, result)
                yield SetAnalysis(image, analysis, after, description, EditKind.PREDICTION)

    def _new_records(self, records: Mapping[str, Mapping[str, Any]]) -> Iterator[Edit]:
        for image, record in records.items():
            analysis = self._state.store.get(image)
            if analysis is not None and (before := analysis.parameters.get("session")) != record:
                yield SetSessionRecord(image, before, record)

    # ---- by a person
    def add(self, image: str, table: pd.DataFrame, outlines: list[np.ndarray]) -> list[int]:
        """Add measured clusters that a person points to; they get new ids."""
        self._state.steps.finish()
        rows = self._new_rows(image, table, outlines)
        edit = AddClusters(image, None, rows)
        self._history.do(edit)
        return rows.table["cluster_id"].tolist()

    def _new_rows(self, image: str, table: pd.DataFrame, outlines: list[np.ndarray]) -> ClusterRows:
        ids = [self._state.store.next_cluster_id(image) for _ in range(len(table))]
        table = table.drop(columns="track_id", errors="ignore")  # new clusters are not linked yet
        return bare_rows(table.assign(image=image, cluster_id=ids), outlines)

    def replace(
        self,
        image: str,
        cluster_ids: Iterable[int],
        table: pd.DataFrame,  # the new clusters, measured; the ids in it do not matter
        outlines: list[np.ndarray],
        verb: str,
        group: object = None,  # steps of one group that follow each other are one
    ) -> list[int]:
        """Replace clusters by others: split one into several, or merge several into one."""
        self._state.steps.finish()
        analysis, replaced = self._state.store.get(image), set(cluster_ids)
        if analysis is None or not replaced <= set(analysis.table["cluster_id"]):
            return []
        before = take_rows(analysis, replaced)
        after = self._new_rows(image, table, outlines)
        self._history.do(ReplaceClusters(image, before, after, verb), group=group)
        return after.table["cluster_id"].tolist()

    def move(self, image: str, table: pd.DataFrame, outlines: list[np.ndarray]) -> None:
        """Replace clusters by new measurements at another position; they lose predictions."""
        self._state.steps.finish()
        analysis = self._state.store.get(image)
        if analysis is None:
            return
        # A cluster that was removed in the meantime must not come back.
        exists = table["cluster_id"].isin(analysis.table["cluster_id"]).to_numpy()
        outlines = [outline for outline, keep in zip(outlines, exists, strict=True) if keep]
        table = table[exists]
        if not len(table):
            return
        before = take_rows(analysis, table["cluster_id"])
        corrected = before.table.set_index("cluster_id")["label_corrected"]
        table = table.assign(
            image=image, label_corrected=table["cluster_id"].map(corrected), label_predicted=""
        )
        if "track_id" in before.table.columns:
            track = before.table.set_index("cluster_id")["track_id"]
            table = table.assign(track_id=table["cluster_id"].map(track))
        after = bare_rows(tables.settle_labels(table), outlines)
        self._history.do(ReplaceClusters(image, before, after))

    def set_tracks(self, tracked: Analysis) -> None:
        """Set which clusters of different frames are the same, as one step."""
        self._state.steps.finish()
        image = tracked.micrograph.name
        analysis = self._state.store.get(image)
        if analysis is not None:
            edit = SetTracks(image, tracking_of(analysis), tracking_of(tracked))
            self._history.do(edit)

    def set_movie_times(self, image: str, frame_time_s: float | None, rate: float | None) -> None:
        """Set frame time and rate of changes of a tracked stack, as one step."""
        tracking = tracking_of(self._state.store.get(image))
        if tracking is not None:
            after = tracking.with_settings({"frame_time_s": frame_time_s, "rate": rate})
            self._history.do(SetTracks(image, tracking, after, "set the times of a movie"))

    def regions(self, image: str) -> tuple[np.ndarray, ...]:
        """Return the excluded regions, polygons (M, 2) in pixels (y, x)."""
        analysis = self._state.store.get(image)
        return () if analysis is None else analysis.regions

    def set_regions(self, image: str, polygons: Iterable[np.ndarray]) -> None:
        """Exclude these regions of an image and no others."""
        self._state.steps.finish()
        analysis = self._state.store.get(image)
        if analysis is not None:
            after = tuple(np.asarray(p, float) for p in polygons)
            n = len(after) - len(analysis.regions)
            verb = "include" if n < 0 else "exclude" if n else "change"
            again = " again" if n < 0 else ""
            text = f"{verb} {pluralise(abs(n) or len(after), 'region')} of {image}{again}"
            self._history.do(SetRegions(image, analysis.regions, after, text))

    def relabel(self, keys: Iterable[Key], label: str) -> None:
        """Label clusters, as one step."""
        self.relabel_each(dict.fromkeys(keys, label))

    def relabel_each(self, labels: Mapping[Key, str], description: str | None = None) -> None:
        """Label each of these clusters with its own label, as one step."""
        self._state.ensure_writable()
        by_image: dict[str, dict[int, str]] = {}
        for (image, cluster_id), label in labels.items():
            by_image.setdefault(image, {})[cluster_id] = label
        self._history.run(self._relabels(by_image), description, long=is_long(by_image))

    def _relabels(self, by_image: Mapping[str, Mapping[int, str]]) -> Iterator[Edit]:
        for image, new in by_image.items():
            table = self._state.store.table(image)
            known = table[table["cluster_id"].isin(list(new))]
            before = dict(zip(known["cluster_id"], known["label_corrected"], strict=True))
            # Without a manual label there is none to remove.
            before = {i: label for i, label in before.items() if label or new[i]}
            if before:
                yield Relabel(image, before, {i: new[i] for i in before})

    def remove(self, keys: Iterable[Key]) -> None:
        """Remove what a person says is not a cluster, as one step."""
        self._state.ensure_writable()
        by_image: dict[str, list[int]] = {}
        for image, cluster_id in keys:
            by_image.setdefault(image, []).append(cluster_id)
        self._history.run(self._removals(by_image), long=is_long(by_image))

    def _removals(self, by_image: Mapping[str, Sequence[int]]) -> Iterator[Edit]:
        for image, ids in by_image.items():
            analysis = self._state.store.get(image)
            rows = None if analysis is None else take_rows(analysis, ids)
            if rows is not None and len(rows.table):
                yield RemoveClusters(image, rows)

    def remove_ids(self, image: str, cluster_ids: Iterable[int]) -> None:
        """Remove clusters of one image, as one step."""
        self.remove((image, i) for i in cluster_ids)
