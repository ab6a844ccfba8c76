"""What the points of the map look like: from a table to colours and the legend that explains them.

Nothing here draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import to_hex, to_rgba
from scipy import ndimage

from ...core.cluster_table import NON_CLASS_LABELS
from ...core.palette import UNKNOWN_COLOUR, UNKNOWN_SYMBOL, colours, symbols
from .legend import ColourScale, Entry

NO_LABEL = "no label"
NOTHING = "none"
MISSING_RGBA = to_rgba(UNKNOWN_COLOUR)
DIMMED = 0.25
"""Opacity of clusters in an excluded region."""

_CELLS = 20
_MIN_OF_ISLAND = 5
_SHARE_OF_ISLAND = 0.15


@dataclass(frozen=True, eq=False)
class Looks:
    """(N, 4) RGBA of the points, the legend, and (N,) which of its entries each point is of."""

    face: np.ndarray
    legend: list[Entry] | ColourScale
    entry: np.ndarray

    def rows_of(self, name: str) -> np.ndarray:
        """Rows of one entry of the legend."""
        if isinstance(self.legend, ColourScale):
            return np.empty(0, np.int64)
        names = [entry.name for entry in self.legend]
        return np.flatnonzero(self.entry == names.index(name) if name in names else [])


Colouring = Callable[[pd.DataFrame, Sequence[str]], Looks]


def by_names(
    values: pd.Series,
    palette: Mapping[str, str],
    shapes: Mapping[str, str] | None = None,
    words: Mapping[str, str] | None = None,
) -> Looks:
    """Each name in its colour; the legend has those that occur, in the order of the palette.

    Parameters
    ----------
    values
        (N,) names; those that the palette lacks are grey and come last.
    palette, shapes
        Name → colour, and → symbol of the legend, a square where None.
    words
        Name → how the legend calls it.
    """
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
    """A way to colour by a column of labels: each class in its colour."""

    def look(table: pd.DataFrame, classes: Sequence[str]) -> Looks:
        return by_names(table[column], colours(classes), symbols(classes), {"": nothing})

    return look


by_label = by_class("label")


def by_text(column: str) -> Colouring:
    """A way to colour by a column of words: in the colours of the classes where it holds labels."""

    def look(table: pd.DataFrame, classes: Sequence[str]) -> Looks:
        values = table[column].astype(str)
        names = [str(name) for name in values.unique()]
        if set(names) <= {*classes, *NON_CLASS_LABELS, ""}:
            return by_class(column, NOTHING)(table, classes)
        palette = {n: c for n, c in colours(names).items() if n in names}
        return by_names(values, palette, words={"": NOTHING})

    return look


def by_kinds(column: str, kinds: Mapping[str, tuple[str, str]], missing: str) -> Colouring:
    """A way to colour by a column of yes and no, in words.

    Parameters
    ----------
    kinds
        "True" and "False" → words and colour.
    missing
        The words for all where the table lacks the column.
    """

    def look(table: pd.DataFrame, classes: Sequence[str]) -> Looks:
        if column not in table.columns:
            values = pd.Series([missing] * len(table), dtype=object)
            return by_names(values, {missing: UNKNOWN_COLOUR})
        said = table[column]
        values = (said if said.dtype == bool else said != "").astype(str)
        palette = {name: colour for name, (_, colour) in kinds.items()}
        return by_names(values, palette, words={name: words for name, (words, _) in kinds.items()})

    return look


def by_number(
    column: str, title: str, colormap: str, limits: tuple[float, float] | None = None
) -> Colouring:
    """A way to colour by a column of numbers, over its range or within fixed limits."""

    def look(table: pd.DataFrame, classes: Sequence[str]) -> Looks:
        values = table[column].to_numpy(float)
        finite = values[np.isfinite(values)]
        low, high = limits or ((finite.min(), finite.max()) if len(finite) else (0.0, 1.0))
        # 256 shades are all that a colormap has: looked up, not computed.
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
"""What the points can be coloured by beside the columns of the table; more is one more entry."""

_COVERED = frozenset(
    ("label", "label_predicted", "confidence", "diameter_nm", "image", "conditions_differ",
     "model_id", "label_corrected", "umap_1", "umap_2", "cluster_id")
)  # fmt: skip


def columns_of(table: pd.DataFrame) -> list[str]:
    """The columns that points can be coloured by and that no entry of `COLOURINGS` covers."""
    return [str(name) for name in table.columns if name not in _COVERED]


def looks_of(table: pd.DataFrame, name: str, classes: Sequence[str]) -> Looks:
    """The points coloured by an entry of `COLOURINGS` or by a column of the table."""
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
    if "excluded" in table.columns:
        looks.face[table["excluded"].to_numpy(bool), 3] = DIMMED
    return looks


def hex_colours(face: np.ndarray) -> np.ndarray:
    """(N, 4) RGBA → N times ``#rrggbb``."""
    known, where = np.unique(np.rint(255 * face[:, :3]).astype(int), axis=0, return_inverse=True)
    return np.array([to_hex(rgb / 255) for rgb in known], object)[where.ravel()]


def shapes_of(labels: pd.Series, classes: Sequence[str]) -> np.ndarray:
    """(N,) names of the napari symbols of labels."""
    codes, names = pd.factorize(labels)
    known = symbols(classes)
    return np.array([known.get(str(n), UNKNOWN_SYMBOL) for n in names], object)[codes]


# ---- names in the map
def typical_places(points: pd.DataFrame) -> tuple[list[str], np.ndarray]:
    """Each label of a map with the point nearest to the middle of its points, (K, 2).

    The middle itself may lie off a bent island.
    """
    names, places = [], []
    for name, rows in points.groupby("label", sort=False)[["umap_1", "umap_2"]]:
        xy = rows.to_numpy(float)
        xy = xy[np.isfinite(xy).all(axis=1)]
        if len(xy):
            names.append(str(name))
            places.append(_typical(xy))
    return names, np.reshape(places, (-1, 2))


def _typical(xy: np.ndarray) -> np.ndarray:
    return xy[np.argmin(((xy - np.median(xy, axis=0)) ** 2).sum(axis=1))]


def islands(points: pd.DataFrame) -> tuple[list[str], np.ndarray]:
    """Each island of each label with a name and a place on it, (K, 2).

    A label has an island wherever its points hang together at a twentieth of the map's extent; one
    with few of them, less than five or 15 % of the label, has no name.
    """
    xy = points[["umap_1", "umap_2"]].to_numpy(float)
    placed = np.isfinite(xy).all(axis=1) & ~points["label"].isin(["", *NON_CLASS_LABELS]).to_numpy(
        bool
    )
    xy, labels = xy[placed], points["label"][placed]
    if not len(xy):
        return [], np.empty((0, 2))
    low, size = xy.min(axis=0), max(float(np.ptp(xy, axis=0).max()), 1e-9)
    cell = np.clip(((xy - low) / size * _CELLS).astype(int), 0, _CELLS - 1)
    names, places = [], []
    for name, rows in labels.groupby(labels.to_numpy(), sort=False).indices.items():
        there = np.zeros((_CELLS, _CELLS), bool)
        there[tuple(cell[rows].T)] = True
        # A gap of a cell does not part an island.
        joined = ndimage.label(ndimage.binary_dilation(there), np.ones((3, 3)))[0]
        part = joined[tuple(cell[rows].T)]
        for number in np.unique(part):
            own = rows[part == number]
            if len(own) >= max(_MIN_OF_ISLAND, _SHARE_OF_ISLAND * len(rows)):
                names.append(str(name))
                places.append(_typical(xy[own]))
    return names, np.reshape(places, (-1, 2))


def named(
    own: tuple[list[str], np.ndarray], reference: tuple[list[str], np.ndarray], extent: float
) -> tuple[list[str], np.ndarray]:
    """The names of the session's islands, and those of the reference that say something else.

    Parameters
    ----------
    own, reference
        Names and places.
    extent
        Of the map: the same name nearer than an eighth of it is the same island.
    """
    names, places = list(own[0]), list(own[1])
    for name, at in zip(*reference, strict=True):
        near = [p for n, p in zip(*own, strict=True) if n == name]
        if all(np.hypot(*(at - p)) > extent / 8 for p in near):
            names.append(name)
            places.append(at)
    return names, np.reshape(places, (-1, 2))


def format_cluster(row: Mapping[str, object] | pd.Series) -> str:
    """A cluster as the mouse shows it."""
    label, confidence, diameter = row["label"] or NO_LABEL, row["confidence"], row["diameter_nm"]
    sure = f" {confidence:.2f}" if np.isfinite(confidence) else ""  # type: ignore[call-overload]
    corrected = " (corrected)" if row["label_corrected"] else sure
    size = f"\n{diameter:.2f} nm" if np.isfinite(diameter) else ""  # type: ignore[call-overload]
    return f"{label}{corrected}{size}\n{row['image']}, cluster {row['cluster_id']}"


def format_entries(entries: Iterable[Entry]) -> str:
    """A legend for those who don't see it."""
    return "; ".join(f"{e.name}: {e.count}" for e in entries)
