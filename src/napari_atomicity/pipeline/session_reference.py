"""Reference conditions of an acquisition session: the chart, and its reference on disk."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.from_dict import dataclass_from_json
from ..io.files import read_document, write_json
from ..models.domain_shift import FeatureSummary
from .control_chart import FIRST, ControlChart, Reading

REFERENCE = "live.json"
"""File with the time from which images belong to the reference of the conditions."""


@dataclass(frozen=True)
class _Reference:
    reference_since: float


class SessionReference:
    """Control chart of a session, whose reference a user may replace.

    Raises `ValueError` if the number of images is too small.
    """

    def __init__(self, folder: Path, n_images: int = FIRST) -> None:
        self._chart = ControlChart(n_images)
        self._path = folder / REFERENCE
        self._outliers: list[tuple[float, FeatureSummary]] = []
        self._accepted = threading.Event()

    def accept(self) -> None:
        """Request the current conditions as the new reference; thread-safe."""
        self._accepted.set()

    def since(self) -> float:
        """Return the time from which images belong to the reference; -inf if it is not set."""
        try:
            return dataclass_from_json(_Reference, read_document(self._path)).reference_since
        except (OSError, ValueError):
            return -np.inf

    def start_at(self, since: float) -> None:
        """Store the time from which images belong to the reference."""
        write_json(self._path, {"reference_since": since})

    def apply_accepted(self) -> bool:
        """Replace the reference by the images since the change, if `accept` was called."""
        if not self._accepted.is_set():
            return False
        self._accepted.clear()
        outliers, self._outliers = self._outliers, []
        self._chart.begin_anew()
        for when, where in outliers:
            self.add(when, where)
        self.start_at(outliers[0][0] if outliers else time.time())
        return True

    def add(self, when: float, where: FeatureSummary | None) -> Reading:
        """Add the next image to the chart."""
        reading = self._chart.add(where)
        if reading.joined:
            self._outliers = []
        elif where is not None:
            self._outliers.append((when, where))
        return reading
