"""Measurements of one's own: functions that add a column to the cluster table.

A package offers them by an entry point of the group `GROUP`; the name of the entry point is the
name of the column. The command line and `napari_atomicity.analyse` compute them for every image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from importlib.metadata import entry_points
from typing import TypeVar

import numpy as np
from skimage.draw import polygon2mask

from ..core.cluster_table import OPTIONAL_SCHEMA, SCHEMA
from ..core.errors import TableError
from ..core.failed_statistics import add_failed, attempt
from ..models.analysis import Analysis

GROUP = "napari_atomicity.measurements"
MARGIN_NM = 0.5
"""Width of the surroundings that a measurement receives."""
Measurement = Callable[[np.ndarray, np.ndarray, float], float]
"""``measurement(pixels, mask, pixel_size_nm)`` returns a number for one cluster: ``pixels`` are the
cluster and its surroundings, ``mask`` is True inside its outline, both of shape (h, w)."""

A = TypeVar("A", bound=Analysis)


@cache
def installed_measurements() -> dict[str, Callable[[], Measurement]]:
    """Return the measurements of installed packages: column → function that imports it."""
    return {point.name: point.load for point in entry_points(group=GROUP)}


def measure_clusters(analysis: A, **measurements: Measurement) -> A:
    """Add a column to the cluster table for each measurement.

    Parameters
    ----------
    analysis : Analysis
        Detected clusters of a calibrated image.
    **measurements : callable
        Column → `Measurement`. NaN where it is not defined.

    Returns
    -------
    Analysis
        With the columns, of type float64.

    Raises
    ------
    TableError
        If a column belongs to the cluster table already.
    """
    own = {column.name for column in (*SCHEMA, *OPTIONAL_SCHEMA)}
    taken = [name for name in measurements if name in own or name.startswith(("p_", "label_"))]
    if taken:
        raise TableError(
            f"the cluster table has its own column {taken[0]}",
            advice="Choose another name for the measurement",
        )
    values = {name: np.full(len(analysis.table), np.nan) for name in measurements}
    size = analysis.micrograph.calibrated()
    for row, frame in enumerate(analysis.table["frame"]):
        pixels, mask = _surroundings(analysis, row, int(frame), MARGIN_NM / size)
        for name, measurement in measurements.items():
            values[name][row] = float(measurement(pixels, mask, size))
    return replace(analysis, table=analysis.table.assign(**values))


def _surroundings(
    analysis: Analysis, row: int, frame: int, margin_px: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels (h, w) in and around a cluster, and where its outline contains them."""
    outline = np.asarray(analysis.outlines[row], float)
    limits = np.array(analysis.micrograph.shape_px)
    start = np.clip(np.floor(outline.min(axis=0) - margin_px), 0, limits - 1).astype(int)
    stop = np.clip(np.ceil(outline.max(axis=0) + margin_px) + 1, start + 1, limits).astype(int)
    view = analysis.micrograph.frame(frame)
    pixels = np.asarray(view[start[0] : stop[0], start[1] : stop[1]], np.float32)
    return pixels, polygon2mask(pixels.shape, outline - start)


def add_installed(analysis: A) -> A:
    """Add the measurements of installed packages; those that fail are named in the parameters."""
    failed: dict[str, str] = {}
    for name, load in installed_measurements().items():
        step = partial(_load_and_measure, analysis, name, load)
        analysis = attempt(failed, f"measurement {name}", step) or analysis
    return replace(analysis, parameters=add_failed(analysis.parameters, failed))


def _load_and_measure(analysis: A, name: str, load: Callable[[], Measurement]) -> A:
    return measure_clusters(analysis, **{name: load()})
