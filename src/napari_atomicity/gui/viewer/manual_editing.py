"""Points that a person adds, moves and deletes: measured, classified, and edits of the session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Points
from napari.layers.base import ActionType
from napari.utils.notifications import show_error, show_info

from ...core.errors import AtomicityError
from ...detection import Detection
from ...models.analysis import Analysis
from ...state.cluster_rows import only, take_rows, unclassified
from ...state.window_state import WindowState
from .. import tasks
from .jobs import Engine, classify_some, exchanged_clusters, measure_places
from .layers import ImageLayers


@dataclass
class _Known:
    """What is remembered of an image."""

    engine: Engine | None = None
    # Clusters that were once sent to the model; one that it can't do is not sent for ever.
    tried: set[tuple[int, float, float]] = field(default_factory=set)
    removing: tuple[int, ...] = ()


class ManualEditing:
    """Turns what happens to a points layer into edits; a new place is measured in a worker.

    Parameters
    ----------
    session
        Gets the edits.
    refresh
        Called with the name of an image whose points must be written again from the session.
    """

    def __init__(self, state: WindowState, refresh: Callable[[str], None]) -> None:
        self.state = state
        self._refresh = refresh
        self._known: dict[str, _Known] = {}
        self._measuring: list[tuple[tasks.Task, ImageLayers]] = []
        self._n_measured = 0

    def engine(self, image: str) -> Engine | None:
        """The model and device that were chosen for an image."""
        return self._of(image).engine

    def set_engine(self, image: str, engine: Engine) -> None:
        """The model and device that clusters added by hand will be shown to."""
        self._known[image] = _Known(engine)

    def forget(self, image: str) -> None:
        """The image is gone."""
        self._known.pop(image, None)

    def _of(self, image: str) -> _Known:
        return self._known.setdefault(image, _Known())

    # ---- what happens to points
    def on_points(self, layers: ImageLayers, event: Any) -> None:
        """The data of the points layer have changed, and it was not us."""
        layer, image = event.source, layers.image
        if self.state.analysis(image) is None:
            return
        known = self._of(image)
        if event.action == ActionType.REMOVING:
            ids = layer.features["cluster_id"].to_numpy()
            known.removing = tuple(ids[list(event.data_indices)])
        elif event.action == ActionType.REMOVED:
            ids, known.removing = known.removing, ()
            try:
                gone = [int(i) for i in ids if i == i and i > 0]
                self.state.clusters.remove_ids(image, gone)
            except AtomicityError as error:
                show_error(str(error))
                self._refresh(image)
        elif event.action == ActionType.ADDED:
            # napari counts them from the end.
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

    # ---- two that are one, one that is two
    def split(self, image: str, cluster_ids: list[int]) -> None:
        """Each of these clusters is two."""
        self._exchange(image, [[i] for i in cluster_ids], "split")

    def merge(self, image: str, cluster_ids: list[int]) -> None:
        """These clusters are one."""
        if len(cluster_ids) < 2:
            show_info("Select the two or more clusters that are one.")
        else:
            self._exchange(image, [cluster_ids], "merge")

    def _exchange(self, image: str, groups: list[list[int]], verb: str) -> None:
        state, analysis = self.state, self.state.analysis(image)
        if analysis is None or not groups:
            show_info("Select a cluster first: click it in the image.")
            return
        settings = analysis.parameters.get("detection", {})

        def done(ids: list[int], found: Detection) -> None:
            new = state.clusters.replace(image, ids, found.table, found.outlines, verb)
            state.select((image, i) for i in new)

        for ids in groups:
            rows = take_rows(analysis, ids)
            self._n_measured += 1
            tasks.start(
                state,
                exchanged_clusters,
                analysis.micrograph,
                int(rows.table["frame"].iloc[0]),
                rows.outlines,
                settings,
                message=f"Looking at the clusters to {verb}",
                on_result=partial(done, ids),
                key=f"measure {self._n_measured}",
                about=image,
            )

    # ---- measuring
    def _measure(self, layers: ImageLayers, places: np.ndarray, ids: list[int] | None) -> None:
        """Measure clusters at new places in a worker; then it is an edit of the session."""
        image, state = layers.image, self.state
        known = state.analysis(image)
        settings = known.parameters.get("detection", {}) if known else {}
        self._n_measured += 1

        def done(found: Detection) -> None:
            if state.analysis(image) is None:
                return
            if ids is None:
                new = state.clusters.add(image, found.table, found.outlines)
                state.select((image, i) for i in new)
            else:
                state.clusters.move(image, found.table.assign(cluster_id=ids), found.outlines)

        task = tasks.start(
            state,
            measure_places,
            # as the others were measured, should the pixel size have been changed since
            state.micrograph(image) if known is None else known.micrograph,
            places,
            settings,
            message="Measuring",
            on_result=done,
            on_error=lambda _: self._refresh(image),
            key=f"measure {self._n_measured}",
            about=image,
        )
        task.finished.connect(lambda: self._refresh(image) if task.cancelled else None)
        self._measuring = [(t, of) for t, of in self._measuring if t.running]
        self._measuring.append((task, layers))

    def take_back(self) -> bool:
        """Give up the point that is still being measured; whether there was one."""
        while self._measuring:
            task, layers = self._measuring.pop()
            if task.running:
                task.cancel()
                self._refresh(layers.image)
                return True
        return False

    def classify_new(self, image: str, analysis: Analysis) -> None:
        """Clusters that were added or moved are shown to the model that did the others."""
        known = self._of(image)
        table = analysis.table.set_index("cluster_id").loc[unclassified(analysis)]
        places = zip(table.index, table["y_px"], table["x_px"], strict=True)
        new = [place[0] for place in places if place not in known.tried]
        if not new or self.state.blind:  # to whom no prediction is shown
            return

        def done(result: Analysis) -> None:
            for row in result.table.itertuples():
                known.tried.add((row.cluster_id, row.y_px, row.x_px))
            self.state.clusters.add_predictions(result)

        tasks.start(
            self.state,
            classify_some,
            only(analysis, new),
            known.engine,
            message="Classifying what is new",
            on_result=done,
            key=f"classify new of {image}",
            about=image,
        )
