"""Style of clusters in the image: from the cluster table to arrays for layers of napari.

Each function returns arrays with one row per row of the table and imports no layer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb

from ...core import palette
from ...core.cluster_table import NON_CLASS_LABELS, format_rows
from ...models.analysis import Analysis

FEATURES = (
    "cluster_id",
    "label",
    "label_predicted",
    "label_corrected",
    "confidence",
    "diameter_nm",
    "integrated_intensity",
    "eccentricity",
    "touches_border",
    "touches_neighbour",
    "prediction_set",
    "ood_score",
)
"""Columns of the table that the points show in napari's own features table."""
TEXT_FEATURES = ("count", "otherwise")
"""Features with text: the number of atoms and differing labels. napari shows all features of the
point under the mouse in its status bar."""

_MARK_PER_DIAMETER = 1.5
# An outline has a hundred corners, and napari draws each stroke: the more outlines, the fewer. Of
# ten thousand outlines one sees no corners, and twice the strokes would take twice a turn.
_MAX_STROKES = 40_000
_STROKES_PER_OUTLINE = (16, 64)
_MAX_STROKES_IN_ALL = 160_000
_MIN_STROKES = 8
_DEFAULT_DIAMETER_NM = 1.2
# Larger than discs, so that they are as easily told apart; the outline says where the cluster ends.
_SYMBOL_SCALE = {
    "diamond": 1.2,
    "triangle_up": 1.25,
    "triangle_down": 1.25,
    "star": 1.35,
    "cross": 1.25,
    "x": 1.25,
    "clobber": 1.25,
}
_CORRECTED_BORDER = (1.0, 1.0, 1.0)
_EXCLUDED_ALPHA = 0.3


def positions(table: pd.DataFrame, ndim: int) -> np.ndarray:
    """Return centres in pixels, (N, 2) as (y, x) or (N, 3) as (frame, y, x)."""
    names = ["y_px", "x_px"] if ndim == 2 else ["frame", "y_px", "x_px"]
    # A copy that can be written to: napari moves points in place.
    return table[names].to_numpy(float, copy=True)


def sizes_px(table: pd.DataFrame, pixel_size_nm: float, classes: Sequence[str]) -> np.ndarray:
    """Return the diameters of the marks in pixels, larger than the clusters."""
    diameter = table["diameter_nm"].fillna(_DEFAULT_DIAMETER_NM).to_numpy(float)
    symbol_of = _symbols(classes)
    wider = _by_label(table, lambda label: _SYMBOL_SCALE.get(symbol_of(label), 1.0))
    return _MARK_PER_DIAMETER * wider * np.maximum(diameter, 0.4) / pixel_size_nm


def default_size_px(pixel_size_nm: float) -> float:
    """Return the diameter in pixels of the mark of a cluster that is not measured yet."""
    return _MARK_PER_DIAMETER * _DEFAULT_DIAMETER_NM / pixel_size_nm


def symbols(table: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """Return a symbol per cluster, by label."""
    return _by_label(table, _symbols(classes)).astype(object)


def label_colours(table: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """Return the colour of each cluster's label, (N, 3)."""
    known = palette.colours(classes)
    of_label = _by_label(table, lambda label: to_rgb(known.get(label, palette.UNKNOWN_COLOUR)))
    return of_label.astype(float).reshape(-1, 3)


def _symbols(classes: Sequence[str]) -> Callable[[str], str]:
    """Return a function from label to symbol."""
    known = palette.symbols(classes)
    # Marks are hollow here, and a hollow disc is a ring.
    known = {k: "disc" if v == "ring" else v for k, v in known.items()}
    return lambda label: known.get(label, palette.UNKNOWN_SYMBOL)


def _by_label(table: pd.DataFrame, of_label: Callable[[str], Any]) -> np.ndarray:
    """Return a value per cluster, computed once per label."""
    codes, labels = pd.factorize(table["label"].to_numpy(object))
    return np.array([of_label(label) for label in labels])[codes]


def border_colours(table: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """Return RGBA (N, 4): the label's colour, white for manual labels, faint if excluded."""
    rgb = label_colours(table, classes)
    rgb[(table["label_corrected"] != "").to_numpy()] = _CORRECTED_BORDER
    return np.column_stack([rgb, np.where(excluded(table), _EXCLUDED_ALPHA, 1.0)])


def excluded(table: pd.DataFrame) -> np.ndarray:
    """Which clusters do not count, because a person has excluded the region around them."""
    if "excluded" not in table.columns:
        return np.zeros(len(table), bool)
    return table["excluded"].to_numpy(bool)


def face_colours(table: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """RGBA, (N, 4): see-through for the machine's labels, tinted for a person's."""
    corrected = (table["label_corrected"] != "").to_numpy()
    alpha = np.where(corrected, 0.5, 0.0)
    return np.column_stack([label_colours(table, classes), alpha])


def texts(table: pd.DataFrame, wanted: np.ndarray | None = None) -> np.ndarray:
    """Return the text next to each cluster: ``Pt41 0.93``, or ``Pt41*`` for a manual label.

    Parameters
    ----------
    table : pandas.DataFrame
        The cluster table.
    wanted : ndarray, optional
        Boolean mask of the rows that get a text; the others get "". All, if None.
    """
    out = np.full(len(table), "", dtype=object)
    rows = np.arange(len(table)) if wanted is None else np.flatnonzero(wanted)
    columns = [table[c].to_numpy() for c in ("label", "label_corrected", "confidence")]
    away = excluded(table)
    for i in rows:
        label, corrected, confidence = (c[i] for c in columns)
        if away[i]:
            out[i] = "excluded"
        elif corrected:
            out[i] = f"{label}*"
        elif label in NON_CLASS_LABELS:  # there is no confidence in that
            out[i] = label
        elif label:
            out[i] = f"{label} {confidence:.2f}"
    return out.astype(str)


def looks(
    table: pd.DataFrame, pixel_size_nm: float, classes: Sequence[str]
) -> dict[str, np.ndarray]:
    """Property of the points → a value per cluster, (N, …)."""
    return {
        "size": sizes_px(table, pixel_size_nm, classes),
        "symbol": symbols(table, classes),
        "border_color": border_colours(table, classes),
        "face_color": face_colours(table, classes),
    }


def shown(table: pd.DataFrame, hidden: Collection[str]) -> np.ndarray:
    """Return which clusters are drawn: those whose label is not hidden."""
    return ~table["label"].isin(list(hidden)).to_numpy(bool)


def features(table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of the table that are features of the points."""
    out = table[list(FEATURES)].reset_index(drop=True)
    for name, words in zip(TEXT_FEATURES, format_rows(table), strict=True):
        # None rather than "": napari leaves it out of the status line
        out[name] = pd.Series([w or None for w in words], dtype=object)
    return out


def outline_colours(
    table: pd.DataFrame, classes: Sequence[str], hidden: Collection[str]
) -> np.ndarray:
    """Return RGBA (N, 4): the label's colour, transparent where the label is hidden."""
    return np.column_stack([label_colours(table, classes), shown(table, hidden)])


def outline_vectors(analysis: Analysis, ndim: int) -> tuple[np.ndarray, np.ndarray]:
    """Return outlines as short strokes, which napari draws faster than thousands of polygons.

    Parameters
    ----------
    analysis : Analysis
        Its outlines and table.
    ndim : int
        Number of axes of the layer, 2 or 3.

    Returns
    -------
    vectors : ndarray of float32, shape (n_strokes, 2, ndim)
        Start and step of each stroke, in pixels.
    rows : ndarray of int, shape (n_strokes,)
        Row of the table for each stroke.
    """
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


def class_map_image(analysis: Analysis, maps: np.ndarray) -> np.ndarray:
    """Return the class maps of all clusters as one image in register with the micrograph.

    Each map is resampled linearly into the footprint of its patch and divided by its largest
    value, so that faint ones can be seen too; where footprints overlap the larger value wins.

    Parameters
    ----------
    analysis : Analysis
        Its micrograph, table and field of view.
    maps : ndarray of shape (n_clusters, h, w)
        A map per row of the table; values that are negative or not finite count as 0.

    Returns
    -------
    ndarray of float32
        Values from 0 to 1, in the shape of the micrograph.
    """
    shape = analysis.micrograph.shape
    out = np.zeros(shape if len(shape) == 3 else (1, *shape), np.float32)
    extent_px = analysis.field_of_view_nm / analysis.micrograph.calibrated()
    columns = analysis.table[["frame", "y_px", "x_px"]].to_numpy(float)
    for (frame, y, x), cam in zip(columns, maps, strict=True):
        cam = np.clip(np.nan_to_num(cam), 0, None)
        if cam.max() <= 0:
            continue
        rows, down = _footprint(y, extent_px, out.shape[1], cam.shape[0])
        cols, across = _footprint(x, extent_px, out.shape[2], cam.shape[1])
        target = out[int(frame), rows, cols]
        np.maximum(target, down @ (cam / cam.max()) @ across.T, out=target)
    return out.reshape(shape)


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
