"""Positions of clusters in the map, and the reference points of the map."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd
from qtpy.QtCore import QObject, Signal

from ....core.progress import Progress, Stop, report
from ....core.table_cache import Columns
from ....models import embedding as umap
from ....models.analysis import Analysis
from ....pipeline.analysis import embed_clusters
from ....state.window_state import WindowState
from ...tasks import start
from ...viewer.models import classifier_of

logger = logging.getLogger(__name__)


def count_unplaced(analysis: Analysis, columns: Columns) -> int:
    """Return the number of clusters that have an embedding and no position in the map."""
    placed = np.isfinite(columns["umap_1"]) & np.isfinite(columns["umap_2"])
    if analysis.embedding.size == 0 or placed.all():
        return 0
    embedded = np.isfinite(analysis.embedding).all(axis=1)
    return int((embedded & ~placed).sum())


# ---- functions that run in a worker
def place_clusters(
    analyses: Sequence[Analysis], progress: Progress | None = None, stop: Stop | None = None
) -> list[Analysis]:
    """Place the clusters of each analysis in the map of its model.

    Parameters
    ----------
    analyses : sequence of Analysis
        The analyses, classified.
    progress, stop : callable, optional
        See `core.progress`.

    Returns
    -------
    list of Analysis
        Each with positions in the map.
    """
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


def _model_id(analysis: Analysis) -> str | None:
    return analysis.parameters.get("model", {}).get("model_id")


class MapPositions(QObject):
    """Finds positions of clusters that have none, and the reference points of the map.

    Signals: ``placed``, when the search for positions has ended; ``reference_changed``, when
    `reference` is another table.

    Parameters
    ----------
    state : WindowState
        The state of the window.
    parent : QObject
        The owner; workers end with it.
    """

    placed = Signal()
    reference_changed = Signal()

    def __init__(self, state: WindowState, parent: QObject) -> None:
        super().__init__(parent)
        self.reference: pd.DataFrame | None = None
        self._state = state
        self._model_id: str | None = None
        # Image → analysis and number of clusters without a position.
        self._unplaced: dict[str, tuple[Analysis, int]] = {}

    def count_unplaced(self) -> int:
        """Count the clusters without a position; each analysis is counted once."""
        known, self._unplaced = self._unplaced, {}
        for image in self._state.images:
            analysis, columns = self._state.analysis(image), self._state.columns(image)
            if analysis is None or columns is None:
                continue
            before = known.get(image)
            n = before[1] if before and before[0] is analysis else count_unplaced(analysis, columns)
            self._unplaced[image] = analysis, n
        return sum(n for _, n in self._unplaced.values())

    def place(self) -> bool:
        """Place the clusters without a position in a worker; return whether there are any."""
        self.count_unplaced()
        unplaced = [analysis for analysis, n in self._unplaced.values() if n]
        if not unplaced:
            return False
        task = start(
            self._state,
            place_clusters,
            unplaced,
            message="Placing the clusters in the UMAP",
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
            if now is not None and _model_id(now) == _model_id(result):
                self._state.clusters.add_predictions(result)

    def follow_model(self) -> None:
        """Load the reference points if the first classified image has another model."""
        analyses = (self._state.analysis(image) for image in self._state.images)
        analysis = next((a for a in analyses if a is not None and a.embedding.size), None)
        model_id = None if analysis is None else _model_id(analysis)
        if model_id is None or model_id == self._model_id:
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
