"""Positions of clusters in the map, and the reference points of the map."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd
from qtpy.QtCore import QObject, Signal

from ....core.cluster_table import MODEL_MAP, SESSION_MAP
from ....core.progress import Progress, Stop, report
from ....core.table_cache import Columns
from ....models import embedding as umap
from ....models.analysis import Analysis
from ....pipeline.analysis import embed_clusters
from ....pipeline.session_map import extend_session_map, fit_session_map
from ....state.window_state import WindowState
from ...tasks import start
from ...viewer.models import classifier_of

logger = logging.getLogger(__name__)


def count_unplaced(analysis: Analysis, columns: Columns, coordinates: tuple[str, str]) -> int:
    """Return the number of clusters that have an embedding and no position in a map."""
    placed = np.zeros(len(columns["cluster_id"]), bool)
    if set(coordinates) <= columns.keys():
        placed = np.isfinite([columns[name] for name in coordinates]).all(axis=0)
    if placed.all():  # most often: the embedding is not read
        return 0
    return int((analysis.is_embedded & ~placed).sum())


# ---- functions that run in a worker
def place_clusters(
    analyses: Sequence[Analysis], progress: Progress | None = None, stop: Stop | None = None
) -> list[Analysis]:
    """Place the clusters of each analysis in the map of its model."""
    placed = []
    for i, analysis in enumerate(analyses):
        report(progress, i, len(analyses), f"Placing {analysis.micrograph.name} in the UMAP")
        placed.append(embed_clusters(analysis, classifier_of(analysis), stop))
    return placed


def _reference_map(analysis: Analysis) -> pd.DataFrame | None:
    """Return the reference points of the map, or None if the model has none."""
    try:
        return umap.reference_map(classifier_of(analysis))
    except Exception as error:
        logger.info("no reference map: %s", error)
        return None


class MapPositions(QObject):
    """Finds positions of clusters that have none, and the reference points of the map.

    Signals: ``placed``, when the search for positions has ended; ``fitted``, when a map of the
    session has been fitted; ``reference_changed``, when `reference` is another table.
    """

    placed = Signal()
    fitted = Signal()
    reference_changed = Signal()

    def __init__(self, state: WindowState, parent: QObject) -> None:
        super().__init__(parent)
        self.reference: pd.DataFrame | None = None
        self._state = state
        self._model_id = ""
        # Image → analysis and number of clusters without a position.
        self._unplaced: dict[str, tuple[Analysis, int]] = {}
        self._coordinates = MODEL_MAP

    def count_unplaced(self, coordinates: tuple[str, str]) -> int:
        """Count the clusters without a position in a map; each analysis is counted once."""
        known = self._unplaced if coordinates == self._coordinates else {}
        self._coordinates, self._unplaced = coordinates, {}
        for image in self._state.images:
            analysis, columns = self._state.analysis(image), self._state.columns(image)
            if analysis is None or columns is None:
                continue
            before = known.get(image)
            if before is None or before[0] is not analysis:
                before = analysis, count_unplaced(analysis, columns, coordinates)
            self._unplaced[image] = before
        return sum(n for _, n in self._unplaced.values())

    def place(self, coordinates: tuple[str, str]) -> bool:
        """Place the clusters without a position in a worker; return whether there are any."""
        if not self.count_unplaced(coordinates):
            return False
        if coordinates == SESSION_MAP:
            function, analyses = extend_session_map, [a for a, _ in self._unplaced.values()]
        else:
            function, analyses = place_clusters, [a for a, n in self._unplaced.values() if n]
        task = start(
            self._state,
            function,
            analyses,
            message="Placing the clusters in the map",
            on_result=self._add_placed,
            key="umap",
            owner=self,
        )
        task.finished.connect(self.placed)
        return True

    def _add_placed(self, placed: list[Analysis]) -> None:
        for result in placed:
            now = self._state.analysis(result.micrograph.name)
            # Positions in the map of another model are of no use.
            if now is not None and now.model_id == result.model_id:
                self._state.clusters.add_predictions(result)

    def fit(self) -> None:
        """Fit a map to all classified clusters of the session in a worker."""
        analyses = [self._state.analysis(image) for image in self._state.images]
        start(
            self._state,
            fit_session_map,
            [a for a in analyses if a is not None],
            message="Fitting a map of these clusters",
            on_result=self._set_fitted,
            key="umap",
            owner=self,
        )

    def _set_fitted(self, fitted: list[Analysis]) -> None:
        self._state.clusters.replace_all_predictions(fitted, "new map")
        self.fitted.emit()

    def follow_model(self) -> None:
        """Load the reference points if the first classified image has another model."""
        analyses = (self._state.analysis(image) for image in self._state.images)
        analysis = next((a for a in analyses if a is not None and a.embedding.size), None)
        model_id = "" if analysis is None else analysis.model_id
        if not model_id or model_id == self._model_id:
            return
        self._model_id = model_id
        start(
            self._state,
            _reference_map,
            analysis,
            on_result=self._set_reference,
            key="reference map",
            owner=self,
        )

    def _set_reference(self, reference: pd.DataFrame | None) -> None:
        self.reference = None if reference is None or not len(reference) else reference
        self.reference_changed.emit()
