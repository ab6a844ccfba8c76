"""Style of clusters in the image: from the cluster table to arrays for layers of napari.

Each function returns arrays with one row per row of the table and imports no layer.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb

from ....core import palette
from ....core.tables.cluster_table import SCHEMA, class_confidence, format_rows, is_excluded
from ....models.analysis import Analysis

_FIRST_FEATURES = ("cluster_id", "label", "label_predicted", "label_corrected", "confidence")
FEATURES = (
    *_FIRST_FEATURES,
    *(c.name for c in SCHEMA if c.in_viewer and c.name not in _FIRST_FEATURES),
)
"""Columns of the table that the points show in napari's own features table."""
TEXT_FEATURES = ("count", "otherwise")
"""Features with text: the number of atoms and differing labels. napari shows all features of the
point under the mouse in its status bar."""
ALL_FEATURES = (*FEATURES, *TEXT_FEATURES)

# A ring outside the outline: what is inside it is to be judged.
_POINT_PER_DIAMETER = 1.4
# An outline has a hundred corners, and napari draws each stroke: the more outlines, the fewer. Of
# ten thousand outlines one sees no corners, and twice the strokes would take twice a turn.
_MAX_STROKES = 40_000
_STROKES_PER_OUTLINE = (16, 64)
_MAX_STROKES_IN_ALL = 160_000
_MIN_STROKES = 8
_DEFAULT_DIAMETER_NM = 1.2
_BORDER_PX = 1.3
_CORRECTED_BORDER_PX = 2.6
_EXCLUDED_ALPHA = 0.3
_SCALE_PERCENTILE = 95


class _LabelStyles(NamedTuple):
    """Style of each label; that of labels that are not known comes last."""

    labels: pd.Index
    symbols: np.ndarray
    rgb: np.ndarray


@lru_cache(maxsize=16)
def _label_styles(classes: tuple[str, ...]) -> _LabelStyles:
    """Return symbol and colour of each label."""
    symbols = [*palette.symbols(classes).values(), palette.UNKNOWN_SYMBOL]
    colours = [*palette.colours(classes).values(), palette.UNKNOWN_COLOUR]
    return _LabelStyles(
        pd.Index(list(palette.symbols(classes)), dtype=object),
        np.array(symbols, object),
        np.array([to_rgb(colour) for colour in colours]),
    )


def properties(
    table: pd.DataFrame, pixel_size_nm: float, classes: Sequence[str], hidden: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """Return the properties of the points: a value per cluster for each property of the layer.

    A ring outside the outline has the colour of the label. It is thicker where a person has given
    the label, and faint for excluded clusters.
    """
    corrected = (table["label_corrected"] != "").to_numpy()
    drawn = shown(table, hidden)
    # napari applies `shown` in stacks only: it draws all points of a single image.
    alpha = np.where(is_excluded(table), _EXCLUDED_ALPHA, 1.0) * drawn
    return {
        "size": 2 * radius_px(table, pixel_size_nm),
        "border_color": np.column_stack([label_colours(table, classes), alpha]),
        "border_width": np.where(corrected, _CORRECTED_BORDER_PX, _BORDER_PX),
        "shown": drawn,
    }


def radius_px(table: pd.DataFrame, pixel_size_nm: float) -> np.ndarray:
    """Return the radius in pixels of the ring around each cluster."""
    diameter = table["diameter_nm"].fillna(_DEFAULT_DIAMETER_NM).to_numpy(float)
    return np.asarray(size_px(pixel_size_nm, np.maximum(diameter, 0.4)) / 2)


def label_colours(table: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """Return the colour of each cluster's label, (N, 3)."""
    styles = _label_styles(tuple(classes))
    # -1, the last one, if it is not known
    return styles.rgb[styles.labels.get_indexer(table["label"])]


def label_symbols(table: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """Return the symbol of each cluster's label."""
    styles = _label_styles(tuple(classes))
    return styles.symbols[styles.labels.get_indexer(table["label"])]


def size_px(pixel_size_nm: float, diameter_nm: Any = _DEFAULT_DIAMETER_NM) -> Any:
    """Return the diameter in pixels of the point of a cluster, which is larger than the cluster."""
    return _POINT_PER_DIAMETER * diameter_nm / pixel_size_nm


def texts(table: pd.DataFrame) -> list[str]:
    """Return the text next to each cluster: ``Pt41 0.93``, or ``Pt41*`` for a manual label."""
    labels = table["label"]
    templates = np.full(len(table), "{} {:.2f}", object)
    templates[np.isnan(class_confidence(labels, table["confidence"]))] = "{}"
    templates[table["label_corrected"] != ""] = "{}*"
    templates[is_excluded(table)] = "excluded"
    return list(map(str.format, templates, labels, table["confidence"].tolist()))


def shown(table: pd.DataFrame, hidden: Collection[str]) -> np.ndarray:
    """Return which clusters are drawn: those whose label is not hidden."""
    return ~table["label"].isin(list(hidden)).to_numpy(bool)


def features(table: pd.DataFrame) -> pd.DataFrame:
    """Return the features of the points: columns of the table, and texts."""
    out = table[list(FEATURES)].reset_index(drop=True)
    for name, text in zip(TEXT_FEATURES, format_rows(table), strict=True):
        # None rather than "": napari leaves it out of the status line
        values = np.array(text, object)
        out[name] = pd.Series(np.where(values == "", None, values), dtype=object)
    return out


def outline_colours(
    table: pd.DataFrame, classes: Sequence[str], hidden: Collection[str]
) -> np.ndarray:
    """Return RGBA (N, 4): the label's colour, transparent where the label is hidden."""
    return np.column_stack([label_colours(table, classes), shown(table, hidden)])


def outline_vectors(analysis: Analysis, ndim: int) -> tuple[np.ndarray, np.ndarray]:
    """Return outlines as short strokes, which napari draws faster than thousands of polygons."""
    n = max(len(analysis.table), 1)
    most = int(np.clip(_MAX_STROKES // n, *_STROKES_PER_OUTLINE))
    most = min(most, max(_MAX_STROKES_IN_ALL // n, _MIN_STROKES))
    frames = analysis.table["frame"].to_numpy(float)
    starts, steps, owner = [], [], []
    for i, outline in enumerate(analysis.outlines):
        ring = np.asarray(outline, float).reshape(-1, 2)
        ring = ring[:: max(1, -(-len(ring) // most))]
        if len(ring) > 1:
            starts.append(ring)
            steps.append(np.roll(ring, -1, axis=0) - ring)
            owner.append(np.full(len(ring), i))
    if not starts:
        return np.zeros((0, 2, ndim), np.float32), np.zeros(0, int)
    index = np.concatenate(owner)
    vectors = np.stack([np.concatenate(starts), np.concatenate(steps)], axis=1, dtype=np.float32)
    if ndim == 3:
        depth = np.zeros((len(index), 2, 1), np.float32)
        depth[:, 0, 0] = frames[index]
        vectors = np.concatenate([depth, vectors], axis=2)
    return vectors, index


def class_map_scale(analysis: Analysis) -> float:
    """Return the value at which class maps of an image are brightest, the same for all clusters.

    A few clusters, whose maps are the strongest, do not determine it.
    """
    peaks = [
        np.percentile(_within_image(analysis, maps).max(axis=(1, 2)), _SCALE_PERCENTILE)
        for maps in analysis.class_maps.values()
        if maps.size
    ]
    return max([float(peak) for peak in peaks if peak > 0], default=1.0)


def _within_image(analysis: Analysis, maps: np.ndarray) -> np.ndarray:
    """Return class maps without negative values, and beyond the image as at its border."""
    maps = np.clip(np.nan_to_num(maps), 0, None)
    half_px = analysis.field_of_view_nm / analysis.micrograph.calibrated() / 2
    centre = analysis.table[["y_px", "x_px"]].to_numpy(float)
    distance = np.minimum(centre, np.array(analysis.micrograph.shape_px) - 1 - centre).min(axis=1)
    rows = np.flatnonzero(distance < half_px)
    maps[rows] = analysis.maps_within_image(maps[rows], rows)
    return maps


def class_map_image(
    analysis: Analysis,
    maps: np.ndarray,
    scale: float | None = None,
    shown: np.ndarray | None = None,  # of which clusters; all by default
) -> np.ndarray:
    """Return the class maps of clusters as one image in register with the micrograph.

    Each map is resampled linearly into the footprint of its patch; where footprints overlap the
    larger value wins.
    """
    maps = _within_image(analysis, maps)
    shape = analysis.micrograph.shape
    out = np.zeros(shape if len(shape) == 3 else (1, *shape), np.float32)
    extent_px = analysis.field_of_view_nm / analysis.micrograph.calibrated()
    columns = analysis.table[["frame", "y_px", "x_px"]].to_numpy(float)
    if shown is not None:
        columns, maps = columns[shown], maps[shown]
    for (frame, y, x), cam in zip(columns, maps, strict=True):
        top = float(cam.max()) if scale is None else scale
        if cam.max() <= 0 or top <= 0:
            continue
        rows, down = _footprint(y, extent_px, out.shape[1], cam.shape[0])
        cols, across = _footprint(x, extent_px, out.shape[2], cam.shape[1])
        target = out[int(frame), rows, cols]
        np.maximum(target, down @ (cam / top) @ across.T, out=target)
    return np.minimum(out, 1.0, out=out).reshape(shape)


def _footprint(
    centre: float, extent_px: float, length: int, map_length: int
) -> tuple[slice, np.ndarray]:
    """Return the pixels of an axis within a patch, and their weights (n, map_length) in its map."""
    first = max(0, int(np.ceil(centre - extent_px / 2)))
    end = max(first, min(length - 1, int(np.floor(centre + extent_px / 2))) + 1)
    # The first map pixel is centred half a map pixel inside the edge of the patch.
    at = ((np.arange(first, end) - centre) / extent_px + 0.5) * map_length - 0.5
    at = np.clip(at, 0, map_length - 1)
    weights = np.clip(1 - np.abs(at[:, None] - np.arange(map_length)), 0, None)
    return slice(first, end), weights.astype(np.float32)
