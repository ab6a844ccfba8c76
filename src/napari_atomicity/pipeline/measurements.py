"""Measurements of one's own: functions that add a column to the cluster table.

A package offers them by an entry point of the group `GROUP`; the name of the entry point is the
name of the column. `pipeline.analysis.detect_clusters` computes them for every image.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

import numpy as np
from skimage.draw import polygon2mask

from ..core.errors import TableError, add_failed, attempt, format_error
from ..core.progress import Stop, check
from ..core.tables.cluster_table import check_own_column
from ..models.analysis import Analysis

GROUP = "napari_atomicity.measurements"
MARGIN_NM = 0.5
"""Width of the surroundings that a measurement receives."""
Measurement = Callable[[np.ndarray, np.ndarray, float], float]
"""``measurement(pixels, mask, pixel_size_nm)`` returns a number for one cluster: ``pixels`` are the
cluster and its surroundings, ``mask`` is True inside its outline, both of shape (h, w)."""

A = TypeVar("A", bound=Analysis)


@cache
def installed_measurements() -> tuple[EntryPoint, ...]:
    """Return the measurements of installed packages."""
    return tuple(dict.fromkeys(entry_points(group=GROUP)))


def measure_clusters(analysis: A, /, **measurements: Measurement) -> A:
    """Add a column to the cluster table for each measurement.

    A measurement that fails gives a warning, and NaN for the clusters where it fails.

    Raises `TableError` if a name is not possible, or a column belongs to the cluster table already.
    """
    for name in measurements:
        check_own_column(name)
    analysis, failed = _measure(analysis, measurements, None)
    for name, reason in failed.items():
        warnings.warn(f"{name}: {reason}", stacklevel=2)
    return analysis


def add_installed(analysis: A, stop: Stop | None = None) -> A:
    """Add the measurements of installed packages.

    One that fails is named in the parameters, and its column is NaN where it fails.
    """
    points, failed = installed_measurements(), dict[str, str]()
    offers = Counter(point.name for point in points)
    measurements: dict[str, Measurement] = {}
    for point in points:
        load = partial(_load, point, offers[point.name])
        found = attempt(failed, f"measurement {point.name} ({point.value})", load)
        if found is not None:
            measurements[point.name] = found
    analysis, failures = _measure(analysis, measurements, stop)
    return replace(analysis, parameters=add_failed(analysis.parameters, failed | failures))


def _load(point: EntryPoint, n_offers: int) -> Measurement:
    """Import a measurement; its name must be free and offered by one package only."""
    check_own_column(point.name)
    if n_offers > 1:
        raise TableError(f"several packages have a measurement {point.name}")
    return point.load()


def _measure(
    analysis: A, measurements: Mapping[str, Measurement], stop: Stop | None
) -> tuple[A, dict[str, str]]:
    """Return the analysis with a column for each measurement, and the reasons of failures."""
    if not measurements:
        return analysis, {}
    table, size = analysis.table, analysis.micrograph.calibrated()
    values = {name: np.full(len(table), np.nan) for name in measurements}
    errors: dict[str, list[str]] = {}
    for row, frame in enumerate(table["frame"]):
        check(stop)
        pixels, mask = _surroundings(analysis, row, int(frame), MARGIN_NM / size)
        for name, function in measurements.items():
            try:  # copies: a measurement may write into its arrays
                values[name][row] = _as_number(function(pixels.copy(), mask.copy(), size))
            except Exception as error:  # whatever it is, the other values are valid
                errors.setdefault(name, []).append(format_error(error))
    failed = {
        f"measurement {name}": f"{len(found)} of {len(table)} clusters: {found[0]}"
        for name, found in errors.items()
    }
    return replace(analysis, table=table.assign(**values)), failed


def _as_number(value: Any) -> float:
    """Return a value as a number, NaN if it is infinite."""
    found = np.asarray(value, float)
    if found.size != 1:
        raise ValueError(f"it returned {found.size} values instead of one number")
    number = float(found.item())
    return number if np.isfinite(number) else np.nan


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
