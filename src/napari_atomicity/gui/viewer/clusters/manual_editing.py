"""Manual editing: points that are added, moved or deleted by hand are measured and classified."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Points
from napari.layers.base import ActionType
from psygnal import Signal
from skimage.measure import points_in_poly

from ....core.tables.cluster_table import Key
from ....core.text import listed
from ....detection import Detection, DetectionSettings
from ....models.analysis import Analysis
from ....state.cluster_rows import only, take_rows, unclassified
from ....state.window_state import WindowState
from ... import tasks
from ...controls.questions import attempt, show_info
from ..layers.layers import ImageLayers
from ..overlays import Engine, classify_each, classify_some, measure_places, split_or_merge

THERE_ALREADY = "There is a cluster already. It is selected."
_SAME_PLACE = 0.25
"""A cluster added within so many diameters of the centre of another one would count twice."""
NOT_MEASURABLE = (
    "No cluster can be measured there. It is unknown and does not count unless you label it."
)
KEEPS_LABEL = (
    "No cluster can be measured there. It keeps the manual label {} and counts as before: undo the "
    "move, or delete it, if there is none."
)
LABELS_GONE = (
    "Clusters before this {} had the manual label {}. The new ones have none: label them, or undo."
)


@dataclass
class _ImageRecord:
    """Engine and pending edits of an image."""

    engine: Engine | None = None
    removing: tuple[int, ...] = ()


@dataclass
class _Measurement:
    """What is measured for one edit of an image, and the clusters that the result replaces."""

    image: str
    tasks: list[tasks.Task]
    replaces: frozenset[Key] = frozenset()


class ManualEditing:
    """Turn changes of a points layer into edits; a worker measures new places.

    Signals: ``refused(image)`` when an edit was refused or cancelled, so that the points of the
    image must be written again.
    """

    refused = Signal(str)

    def __init__(self, state: WindowState) -> None:
        self.state = state
        self._records: dict[str, _ImageRecord] = {}
        self._measuring: list[_Measurement] = []
        self._n_measured = 0
        self._selected: frozenset[Key] = frozenset()  # by the last measurement

    def engine(self, image: str) -> Engine | None:
        """Return the model and device that were chosen for an image."""
        return self._of(image).engine

    def set_engine(self, image: str, engine: Engine) -> None:
        """Choose the model and device that classify clusters added by hand."""
        self._records[image] = _ImageRecord(engine)

    def forget(self, image: str) -> None:
        """Forget an image that was removed."""
        self._records.pop(image, None)

    def _of(self, image: str) -> _ImageRecord:
        return self._records.setdefault(image, _ImageRecord())

    # ---- points
    def on_points(self, layers: ImageLayers, event: Any) -> None:
        """Edit the state after the data of a points layer were changed by hand."""
        layer, image = event.source, layers.image
        if self.state.analysis(image) is None:
            return
        known = self._of(image)
        if event.action == ActionType.REMOVING:
            ids = layer.features["cluster_id"].to_numpy()
            known.removing = tuple(ids[list(event.data_indices)])
        elif event.action == ActionType.REMOVED:
            ids, known.removing = known.removing, ()
            removed = [int(i) for i in ids if i == i and i > 0]
            attempt(
                lambda: self.state.clusters.remove_ids(image, removed),
                lambda: self.refused.emit(image),
            )
        elif event.action == ActionType.ADDED:
            # napari gives negative indices.
            indices = np.arange(len(layer.data))[list(event.data_indices)]
            places = layer.data[indices].copy()
            layers.mark_as_unmeasured(indices)
            self._measure(layers, places, None)
        elif event.action == ActionType.CHANGED:
            self._on_moved(layers, layer)

    def _on_moved(self, layers: ImageLayers, layer: Points) -> None:
        table = self.state.table(layers.image)
        ids = layer.features["cluster_id"].to_numpy()
        rows = pd.Index(table["cluster_id"]).get_indexer(ids)
        was = table[["y_px", "x_px"]].to_numpy(float)[rows]
        far = (np.abs(was - layer.data[:, -2:]) > 1e-6).any(axis=1)
        moved = np.flatnonzero((rows >= 0) & far)
        if len(moved):
            self._measure(layers, layer.data[moved].copy(), [int(i) for i in ids[moved]])

    # ---- split and merge
    def split(self, image: str, cluster_ids: list[int]) -> None:
        """Split each of these clusters into two."""
        self._split_or_merge(image, [[i] for i in cluster_ids], "split")

    def merge(self, image: str, cluster_ids: list[int]) -> None:
        """Merge these clusters into one in each frame."""
        table = self.state.table(image)
        chosen = table[table["cluster_id"].isin(cluster_ids)]
        frames = [ids.tolist() for _, ids in chosen.groupby("frame")["cluster_id"]]
        groups = [ids for ids in frames if len(ids) > 1]
        if groups:
            self._split_or_merge(image, groups, "merge")
        else:
            of_frame = " of the same frame" if len(frames) > 1 else ""
            show_info(f"Select two or more clusters{of_frame} to merge.")

    def _split_or_merge(self, image: str, groups: list[list[int]], verb: str) -> None:
        state, analysis = self.state, self.state.analysis(image)
        if analysis is None or not groups:
            show_info("Select a cluster first: click it in the image.")
            return
        state.history.ensure_not_blind()  # before the pieces are measured
        settings = analysis.parameters.get("detection", {})
        group, all_new, asked = object(), list[int](), state.selection

        def done(ids: list[int], found: Detection) -> None:
            if lost := _manual_labels(state.table(image), ids):
                show_info(LABELS_GONE.format(verb, listed(lost)))
            with self._selecting(image, all_new, asked):
                all_new.extend(
                    state.clusters.replace(image, ids, found.table, found.outlines, verb, group)
                )

        keys = frozenset((image, i) for ids in groups for i in ids)
        measurement = _Measurement(image, [], keys)
        self._measuring.append(measurement)
        for ids in groups:
            rows = take_rows(analysis, ids)
            self._n_measured += 1
            task = tasks.start(
                state,
                split_or_merge,
                analysis.micrograph,
                int(rows.table["frame"].iloc[0]),
                rows.outlines,
                settings,
                message=f"Measuring the clusters to {verb}",
                on_result=partial(done, ids),
                key=f"measure {self._n_measured}",
                about=image,
            )
            measurement.tasks.append(task)

    # ---- measuring
    def _measure(self, layers: ImageLayers, places: np.ndarray, ids: list[int] | None) -> None:
        """Measure clusters at new places in a worker, then edit the state."""
        image, state = layers.image, self.state
        known, asked = state.analysis(image), state.selection
        settings = known.parameters.get("detection", {}) if known else {}
        self._n_measured += 1

        def done(found: Detection) -> None:
            if state.analysis(image) is None:
                return
            table = state.table(image)
            there = _at_the_same_place(table[~table["cluster_id"].isin(ids or [])], found)
            if there:
                self.refused.emit(image)
                with self._selecting(image, there, asked):
                    show_info(THERE_ALREADY)
                return
            if found.table["diameter_nm"].isna().any():
                labels = _manual_labels(table, ids or [])
                show_info(KEEPS_LABEL.format(listed(labels)) if labels else NOT_MEASURABLE)
            if ids is None:
                new = list[int]()
                with self._selecting(image, new, asked):
                    new.extend(state.clusters.add(image, found.table, found.outlines))
            else:
                state.clusters.move(image, found.table.assign(cluster_id=ids), found.outlines)

        task = tasks.start(
            state,
            measure_places,
            # as the other clusters, even if the pixel size was changed since
            state.micrograph(image) if known is None else known.micrograph,
            places,
            settings,
            message="Measuring",
            on_result=done,
            on_error=lambda _: self.refused.emit(image),
            key=f"measure {self._n_measured}",
            about=image,
        )
        task.finished.connect(lambda: self.refused.emit(image) if task.cancelled else None)
        self._measuring.append(_Measurement(image, [task]))

    @contextmanager
    def _selecting(self, image: str, ids: list[int], asked: frozenset[Key]) -> Iterator[None]:
        """Select clusters after the block, unless a person has selected others since they asked.

        A key that is meant for these, or for another image, must not label new clusters.
        """
        state = self.state
        still = state.selection <= asked or state.selection == self._selected
        yield
        if still and state.current == image:
            known = set(state.table(image)["cluster_id"])
            state.select((image, i) for i in ids if i in known)
            self._selected = state.selection

    def _running(self) -> list[_Measurement]:
        self._measuring = [m for m in self._measuring if any(t.running for t in m.tasks)]
        return self._measuring

    def replaces(self, keys: frozenset[Key]) -> bool:
        """Whether one of these clusters is being split or merged."""
        return any(measurement.replaces & keys for measurement in self._running())

    def cancel_last(self) -> bool:
        """Cancel the last measurement that is running, and return whether there was one."""
        if not self._running():
            return False
        last = self._measuring.pop()
        for task in last.tasks:
            task.cancel()
        self.refused.emit(last.image)
        return True

    def classify_new(self, image: str, analysis: Analysis) -> None:
        """Classify clusters that were added or moved, with the model of the others."""
        new = unclassified(analysis)
        if not new or self.state.blind:  # a blind annotator sees no prediction
            return
        tasks.start(
            self.state,
            classify_some,
            only(analysis, new),
            self.engine(image),
            message="Classifying new clusters",
            on_result=self.state.clusters.add_predictions,
            key=f"classify new of {image}",
            about=image,
        )

    def on_new_model(self) -> None:
        """Classify clusters that have waited for a model; those of another one go on waiting."""
        self.classify_opened(quiet=True)

    def classify_opened(self, quiet: bool = False) -> None:
        """Classify such clusters in all images of a project that was opened: they count, too."""
        found = [self.state.analysis(image) for image in self.state.images]
        classified = [a for a in found if a is not None and a.model_id]
        waiting = [only(a, new) for a in classified if (new := unclassified(a))]
        if waiting and not self.state.blind:
            tasks.start(
                self.state,
                classify_each,
                waiting,
                message="Classifying new clusters",
                on_result=lambda _: None,
                on_part=self.state.clusters.add_predictions,
                key="classify new",
                quiet_errors=quiet,
            )


def _manual_labels(table: pd.DataFrame, ids: list[int]) -> list[str]:
    """Return the different manual labels of clusters."""
    return sorted({*table.loc[table["cluster_id"].isin(ids), "label_corrected"]} - {""})


def _at_the_same_place(known: pd.DataFrame, added: Detection) -> list[int]:
    """Return the ids of clusters that were added again: their centre lies in the outline."""
    there: list[int] = []
    for row, outline in zip(added.table.itertuples(), added.outlines, strict=True):
        same_frame = known[known["frame"] == row.frame]
        distance_nm = np.hypot(same_frame["y_nm"] - row.y_nm, same_frame["x_nm"] - row.x_nm)
        diameter_nm = same_frame["diameter_nm"].fillna(DetectionSettings().diameter_min_nm)
        inside = points_in_poly(same_frame[["y_px", "x_px"]].to_numpy(float), outline)
        found = inside | (distance_nm < _SAME_PLACE * diameter_nm).to_numpy()
        there += same_frame.loc[found, "cluster_id"].tolist()
    return there
