"""Colours and legend of the points of the map, from a table; nothing is drawn here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import to_hex, to_rgba
from scipy import ndimage

from ...core.palette import UNKNOWN_COLOUR, UNKNOWN_SYMBOL, colours, symbols
from ...core.tables.cluster_table import (
    NON_CLASS_LABELS,
    class_confidence,
    is_excluded,
    shown_values,
)
from .legend import ColourScale, Entry

NO_LABEL = "no label"
NOTHING = "none"
MISSING_RGBA = to_rgba(UNKNOWN_COLOUR)
NOT_IN_RATIOS = (
    "The numbers include clusters that are not counted in Ratios: cut by the border, in excluded\n"
    "regions, unknown, aggregates, or without a label."
)
"""What the map shows more than the ratios."""
DIMMED = 0.25
"""Opacity of clusters in an excluded region."""

_CELLS = 20
_MIN_OF_ISLAND = 5
_SHARE_OF_ISLAND = 0.15


@dataclass(frozen=True, eq=False)
class Looks:
    """Colours (N, 4) RGBA of the points, the legend, and the entry of each point, (N,)."""

    face: np.ndarray
    legend: list[Entry] | ColourScale
    entry: np.ndarray

    def rows_of(self, name: str) -> np.ndarray:
        """Return the rows of an entry of the legend."""
        if isinstance(self.legend, ColourScale):
            return np.empty(0, np.int64)
        names = [entry.name for entry in self.legend]
        return np.flatnonzero(self.entry == names.index(name) if name in names else [])


Colouring = Callable[[pd.DataFrame, Sequence[str]], Looks]


def by_names(
    values: pd.Series,  # names; names outside the palette are grey and come last
    palette: Mapping[str, str],
    shapes: Mapping[str, str] | None = None,
    words: Mapping[str, str] | None = None,
) -> Looks:
    """Colour points by name; the legend lists the names that occur, in palette order."""
    codes, found = pd.factorize(values)
    number = np.bincount(codes, minlength=len(found)) if len(codes) else np.zeros(0, int)
    count = dict(zip(map(str, found), number.tolist(), strict=True))
    order = [n for n in palette if n in count] + [n for n in count if n not in palette]
    legend = [
        Entry(
            (words or {}).get(name, name),
            palette.get(name, UNKNOWN_COLOUR),
            "square" if shapes is None else shapes.get(name, UNKNOWN_SYMBOL),
            count[name],
        )
        for name in order
    ]
    rgba = np.array([to_rgba(palette.get(str(n), UNKNOWN_COLOUR)) for n in found]).reshape(-1, 4)
    place = np.array([order.index(str(name)) for name in found], int)
    return Looks(rgba[codes], legend, place[codes])


def by_class(column: str, nothing: str = NO_LABEL) -> Colouring:
    """Return a colouring by a column of labels."""

    def look(table: pd.DataFrame, classes: Sequence[str]) -> Looks:
        return by_names(table[column], colours(classes), symbols(classes), {"": nothing})

    return look


by_label = by_class("label")


def by_text(column: str) -> Colouring:
    """Return a colouring by a column of text, with class colours if it holds labels."""

    def look(table: pd.DataFrame, classes: Sequence[str]) -> Looks:
        values = table[column].astype(str)
        names = [str(name) for name in values.unique()]
        if set(names) <= {*classes, *NON_CLASS_LABELS, ""}:
            return by_class(column, NOTHING)(table, classes)
        palette = {n: c for n, c in colours(names).items() if n in names}
        return by_names(values, palette, words={"": NOTHING})

    return look


def by_kinds(column: str, kinds: Mapping[str, tuple[str, str]], missing: str) -> Colouring:
    """Return a colouring by a boolean column."""

    def look(table: pd.DataFrame, classes: Sequence[str]) -> Looks:
        if column not in table.columns:
            values = pd.Series([missing] * len(table), dtype=object)
            return by_names(values, {missing: UNKNOWN_COLOUR})
        content = table[column]
        values = (content if content.dtype == bool else content != "").astype(str)
        palette = {name: colour for name, (_, colour) in kinds.items()}
        return by_names(values, palette, words={name: words for name, (words, _) in kinds.items()})

    return look


def by_number(
    column: str, title: str, colormap: str, limits: tuple[float, float] | None = None
) -> Colouring:
    """Return a colouring by a column of numbers."""

    def look(table: pd.DataFrame, classes: Sequence[str]) -> Looks:
        values = shown_values(table, column).to_numpy(float)
        finite = values[np.isfinite(values)]
        low, high = limits or ((finite.min(), finite.max()) if len(finite) else (0.0, 1.0))
        # A colormap has 256 colours: a look-up table is enough.
        shades = colormaps[colormap](np.linspace(0, 1, 256))
        share = np.clip(np.nan_to_num((values - low) / max(high - low, 1e-12)), 0, 1)
        face = shades[np.rint(255 * share).astype(int)]
        face[~np.isfinite(values)] = MISSING_RGBA
        decimals = int(np.clip(2 - np.floor(np.log10(max(high - low, 1e-12))), 0, 4))
        scale = ColourScale(title, float(low), float(high), colormap, min(decimals, 2) if limits
        else
                      decimals)  # fmt: skip
        return Looks(face, scale, np.full(len(table), -1))

    return look


_YES_NO = {"True": ("yes", "#e69f00"), "False": ("no", "#56b4e9")}

COLOURINGS: dict[str, Colouring] = {
    "label": by_label,
    "prediction": by_class("label_predicted", "not classified"),
    "confidence": by_number("confidence", "Confidence", "cividis", (0.0, 1.0)),
    "diameter": by_number("diameter_nm", "Diameter, nm", "viridis"),
    "image": by_text("image"),
    "domain": by_kinds(
        "conditions_differ",
        {
            "False": ("conditions as in training", "#56b4e9"),
            "True": ("conditions differ", "#d55e00"),
        },
        "not tested",
    ),
    "model": by_text("model_id"),
    "corrected": by_kinds(
        "label_corrected",
        {"True": ("labelled by a person", "#e69f00"), "False": ("predicted only", "#56b4e9")},
        "predicted only",
    ),
}
"""Colourings of the points, in addition to the columns of the table."""

_COVERED = frozenset(
    ("label", "label_predicted", "confidence", "diameter_nm", "image", "conditions_differ",
     "model_id", "label_corrected", "umap_1", "umap_2", "cluster_id")
)  # fmt: skip


def columns_of(table: pd.DataFrame) -> list[str]:
    """Return the columns for colouring that no entry of `COLOURINGS` covers."""
    return [str(name) for name in table.columns if name not in _COVERED]


def looks_of(table: pd.DataFrame, name: str, classes: Sequence[str]) -> Looks:
    """Colour the points by an entry of `COLOURINGS` or by a column of the table."""
    if name in COLOURINGS:
        looks = COLOURINGS[name](table, classes)
    elif name not in table.columns:
        looks = by_label(table, classes)
    elif table[name].dtype == bool:
        looks = by_kinds(name, _YES_NO, "")(table, classes)
    elif pd.api.types.is_numeric_dtype(table[name]):
        looks = by_number(name, name.replace("_", " "), "viridis")(table, classes)
    else:
        looks = by_text(name)(table, classes)
    looks.face[is_excluded(table), 3] = DIMMED
    return looks


def hex_colours(face: np.ndarray) -> np.ndarray:
    """Convert RGBA (N, 4) to N texts ``#rrggbb``."""
    known, where = np.unique(np.rint(255 * face[:, :3]).astype(int), axis=0, return_inverse=True)
    return np.array([to_hex(rgb / 255) for rgb in known], object)[where.ravel()]


def shapes_of(labels: pd.Series, classes: Sequence[str]) -> np.ndarray:
    """Return the napari symbols of labels, (N,)."""
    codes, names = pd.factorize(labels)
    known = symbols(classes)
    return np.array([known.get(str(n), UNKNOWN_SYMBOL) for n in names], object)[codes]


# ---- names in the map
def typical_places(points: pd.DataFrame) -> tuple[list[str], np.ndarray]:
    """Return each label of a map and the point nearest to the median of its points, (K, 2).

    The median itself may be outside a curved island.
    """
    names, places = [], []
    for name, rows in points.groupby("label", sort=False)[["umap_1", "umap_2"]]:
        x, y = rows.to_numpy(float).T
        placed = np.isfinite(x) & np.isfinite(y)
        if placed.any():
            names.append(str(name))
            places.append(_typical(x[placed], y[placed]))
    return names, np.reshape(places, (-1, 2))


def _typical(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    nearest = np.argmin((x - np.median(x)) ** 2 + (y - np.median(y)) ** 2)
    return x[nearest], y[nearest]


def islands(points: pd.DataFrame) -> tuple[list[str], np.ndarray]:
    """Return the name of each island of each label, and a position on it, (K, 2).

    An island is a group of points of one label that are connected at a twentieth of the extent of
    the map. Islands with less than five points or 15 % of the label have no name.
    """
    x, y = (points[name].to_numpy(float) for name in ("umap_1", "umap_2"))
    codes, labels = pd.factorize(points["label"])
    is_class = np.array([name not in ("", *NON_CLASS_LABELS) for name in labels], bool)
    placed = np.isfinite(x) & np.isfinite(y) & np.append(is_class, False)[codes]
    x, y, codes = x[placed], y[placed], codes[placed]
    if not len(x):
        return [], np.empty((0, 2))
    cell = _cells(x, y)
    names, places = [], []
    for code in pd.unique(codes):
        rows = np.flatnonzero(codes == code)
        island = _island_of_cell(cell[rows])[cell[rows]]
        enough = max(_MIN_OF_ISLAND, _SHARE_OF_ISLAND * len(rows))
        for number in np.flatnonzero(np.bincount(island) >= enough):
            own = rows[island == number]
            names.append(str(labels[code]))
            places.append(_typical(x[own], y[own]))
    return names, np.reshape(places, (-1, 2))


def _cells(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the number of the cell of the grid over the map in which each point is, (N,)."""
    size = max(float(np.ptp(x)), float(np.ptp(y)), 1e-9)
    column, row = (
        np.minimum((_CELLS / size * (v - v.min())).astype(np.int64), _CELLS - 1) for v in (x, y)
    )
    return _CELLS * column + row


def _island_of_cell(cell: np.ndarray) -> np.ndarray:
    """Return the number of the island of each cell of the grid, from the cells of points."""
    there = np.bincount(cell, minlength=_CELLS**2).reshape(_CELLS, _CELLS) > 0
    # A gap of one cell does not separate islands.
    return ndimage.label(ndimage.binary_dilation(there), np.ones((3, 3)))[0].ravel()


def names_of_map(
    points: pd.DataFrame, reference: pd.DataFrame | None
) -> tuple[list[str], np.ndarray]:
    """Return the names of the islands of clusters, and those of the reference elsewhere."""
    behind = ([], np.empty((0, 2))) if reference is None else typical_places(reference)
    known = np.concatenate([points[["umap_1", "umap_2"]].to_numpy(float), behind[1]])
    known = known[np.isfinite(known).all(axis=1)]
    extent = float(np.ptp(known, axis=0).max()) if len(known) else 0.0
    return named(islands(points), behind, extent)


def named(
    own: tuple[list[str], np.ndarray], reference: tuple[list[str], np.ndarray], extent: float
) -> tuple[list[str], np.ndarray]:
    """Return the names of own islands, and of islands of the reference elsewhere.

    Where a label has both, the name of the reference says that it is that of training clusters.
    """
    names, places = list(own[0]), list(own[1])
    for name, at in zip(*reference, strict=True):
        near = [p for n, p in zip(*own, strict=True) if n == name]
        if all(np.hypot(*(at - p)) > extent / 8 for p in near):
            names.append(f"{name} (training)" if near else name)
            places.append(at)
    return names, np.reshape(places, (-1, 2))


def format_cluster(row: Mapping[str, object] | pd.Series) -> str:
    """Format a cluster for its tooltip."""
    label, diameter = row["label"] or NO_LABEL, row["diameter_nm"]
    confidence = class_confidence(row["label"], row["confidence"])
    sure = f" {confidence:.2f}" if np.isfinite(confidence) else ""
    corrected = " (corrected)" if row["label_corrected"] else sure
    size = f"\n{diameter:.2f} nm" if np.isfinite(diameter) else ""
    return f"{label}{corrected}{size}\n{row['image']}, cluster {row['cluster_id']}"
