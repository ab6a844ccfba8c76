"""Order and groups of the clusters in the gallery, without Qt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...core.tables.cluster_table import UNKNOWN, shown_values
from ..controls.cluster_rows import label_order

# ---- orders of clusters by their positions in the map of the embedding

_BITS = 10


def distance_to_selection(places: np.ndarray, selected: np.ndarray) -> np.ndarray:
    """Compute the distances (N,) from the mean of the selected clusters in the map.

    Places (N, 2) and distances are NaN without a position, or without one of a selected cluster.
    """
    there = selected & np.isfinite(places).all(axis=1)
    if not there.any():
        return np.full(len(places), np.nan)
    return np.linalg.norm(places - places[there].mean(axis=0), axis=1)


def hilbert_index(places: np.ndarray) -> np.ndarray:
    """Compute the indices (N,) of the places (N, 2) along a Hilbert curve through the map.

    The curve (D. Hilbert, Mathematische Annalen 38, 459, 1891) keeps neighbourhoods together:
    clusters with similar indices are similar. NaN without a position.
    """
    out = np.full(len(places), np.nan)
    there = np.isfinite(places).all(axis=1)
    if not there.any():
        return out
    low = places[there].min(axis=0)
    # The same scale along both axes preserves distances in the map.
    extent = max(float(np.ptp(places[there], axis=0).max()), 1e-12)
    cells = ((places[there] - low) / extent * (2**_BITS - 1)).round().astype(np.int64)
    x, y = cells[:, 0], cells[:, 1]
    along = np.zeros(len(x), np.int64)
    for bit in range(_BITS - 1, -1, -1):
        side = 1 << bit
        right, up = (x & side) > 0, (y & side) > 0
        along += side * side * ((3 * right) ^ up)
        # Rotate the quadrant so that the curve continues in it.
        flip = ~up & right
        x, y = (
            np.where(flip, side - 1 - (x & (side - 1)), x),
            np.where(flip, side - 1 - (y & (side - 1)), y),
        )
        x, y = np.where(up, x, y), np.where(up, y, x)
    out[there] = along
    return out


DOUBTFUL_BELOW = 0.7
"""Clusters below this confidence are doubtful."""

ANY_LABEL = "any label"
NO_LABEL = "no label"
_CONFIDENCE_STEPS = (0.5, DOUBTFUL_BELOW, 0.9)
_DIAMETER_STEP_NM = 0.2
_ATOMS_STEP = 10


@dataclass(frozen=True)
class GalleryOrder:
    """Grouping, order and filter of the gallery."""

    # group, sort: A name in `GROUPINGS` and in `SORTINGS`
    group: str = "label"
    sort: str = "confidence"
    descending: bool = False  # whether the largest comes first; missing values always come last
    label: str | None = None  # only this label ("" for unlabelled clusters); all labels by default
    state: str = "all"


@dataclass(frozen=True, eq=False)
class Arrangement:
    """Rows in an order, and the groups that they form."""

    order: np.ndarray  # rows of the table that are shown
    group: np.ndarray  # index into ``names`` of every row of the table, shown or not
    names: tuple[str, ...]

    def counts(self) -> np.ndarray:
        """Count the shown rows of each group."""
        return np.bincount(self.group[self.order], minlength=len(self.names))


def arrange(
    table: pd.DataFrame, classes: Sequence[str], request: GalleryOrder, selected: np.ndarray
) -> Arrangement:
    """Filter, group and sort the rows of a table."""
    group, names = GROUPINGS[request.group](table, classes)
    values = SORTINGS[request.sort].values(table, classes, selected)
    values = -values if request.descending else values
    # lexsort is stable and puts NaN last: equals stay as they are in the table.
    order = np.lexsort((values, group))
    return Arrangement(order[wanted(table, request)[order]], group, tuple(names))


def wanted(table: pd.DataFrame, request: GalleryOrder) -> np.ndarray:
    """Return which rows pass the filter, (N,) bool."""
    mask = STATES[request.state].of(table)
    if request.label is not None:
        mask = mask & (table["label"] == request.label).to_numpy(bool)
    return mask


# ---- groups: a code per row, and the names of the codes
def _by_nothing(table: pd.DataFrame, classes: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    return np.zeros(len(table), int), [""]


def _by_label(table: pd.DataFrame, classes: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    codes, found = pd.factorize(table["label"])
    names = label_order(classes, found)
    rank = {name: i for i, name in enumerate(names)}
    ranks = np.array([rank[name] for name in found], int)
    return _taken(ranks, codes), [name or NO_LABEL for name in names]


def _by_image(table: pd.DataFrame, classes: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    codes, names = pd.factorize(table["image"])
    return codes, [str(name) for name in names]


def _by_confidence(table: pd.DataFrame, classes: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    confidence = shown_values(table, "confidence").to_numpy()
    low, middle, high = _CONFIDENCE_STEPS
    names = [
        f"confidence below {low:g}",
        f"confidence {low:g} to {middle:g}",
        f"confidence {middle:g} to {high:g}",
        f"confidence {high:g} to 1",
        "no confidence",
    ]
    codes = np.searchsorted(_CONFIDENCE_STEPS, confidence, side="right")
    return np.where(np.isnan(confidence), len(names) - 1, codes), names


def _by_diameter(table: pd.DataFrame, classes: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    step = _DIAMETER_STEP_NM
    return _in_steps(
        table["diameter_nm"], step, lambda i: f"{i * step:.1f} to {(i + 1) * step:.1f} nm"
    )


def _by_atoms(table: pd.DataFrame, classes: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    step = _ATOMS_STEP
    return _in_steps(_atoms(table), step, lambda i: f"{i * step:d} to {(i + 1) * step - 1:d} atoms")


def _by_person(table: pd.DataFrame, classes: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    return (table["label_corrected"] == "").to_numpy(int), ["corrected", "not corrected"]


def _in_steps(
    values: pd.Series | np.ndarray, step: float, name: Callable[[int], str]
) -> tuple[np.ndarray, list[str]]:
    numbers = np.asarray(values, float)
    known = np.isfinite(numbers)
    # The least step over: 1.2 / 0.2 is a little less than 6.
    steps = np.floor(numbers[known] / step + 1e-9).astype(int)
    found, codes = np.unique(steps, return_inverse=True)
    group = np.full(len(numbers), len(found))
    group[known] = codes
    return group, [*(name(int(i)) for i in found), "not known"]


def _taken(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    return values[codes] if len(values) else codes


def _atoms(table: pd.DataFrame) -> np.ndarray:
    if "n_atoms" not in table.columns:
        return np.full(len(table), np.nan)
    return table["n_atoms"].to_numpy(float)


GROUPINGS: dict[str, Callable[[pd.DataFrame, Sequence[str]], tuple[np.ndarray, list[str]]]] = {
    "label": _by_label,
    "image": _by_image,
    "confidence": _by_confidence,
    "diameter": _by_diameter,
    "atoms": _by_atoms,
    "correction": _by_person,
    "nothing": _by_nothing,
}
"""Groupings of the tiles by name."""


# ---- order within the groups: a number per row
@dataclass(frozen=True)
class Sorting:
    """Numbers that increase along the order, and an explanation."""

    values: Callable[[pd.DataFrame, Sequence[str], np.ndarray], np.ndarray]
    tooltip: str


def _column(name: str) -> Callable[[pd.DataFrame, Sequence[str], np.ndarray], np.ndarray]:
    return lambda table, classes, selected: table[name].to_numpy(float)


def _by_similarity(table: pd.DataFrame, classes: Sequence[str], selected: np.ndarray) -> np.ndarray:
    places = table[["umap_1", "umap_2"]].to_numpy(float)
    near = distance_to_selection(places, selected)
    return near if np.isfinite(near).any() else hilbert_index(places)


SORTINGS: dict[str, Sorting] = {
    "confidence": Sorting(
        lambda table, classes, selected: shown_values(table, "confidence").to_numpy(),
        "The least certain first; last those without confidence, such as unknown ones.",
    ),
    "label": Sorting(
        lambda table, classes, selected: _by_label(table, classes)[0].astype(float),
        "In the order of the classes.",
    ),
    "diameter": Sorting(_column("diameter_nm"), "By the diameter in nm, the smallest first."),
    "intensity": Sorting(
        _column("integrated_intensity"),
        "By the integrated intensity in counts × nm², the faintest first. Not comparable "
        "between images with different recording conditions.",
    ),
    "atoms": Sorting(
        lambda table, classes, selected: _atoms(table),
        "By the number of atoms on a continuous scale, the fewest first: the intensity in units "
        "of one atom, comparable between images.",
    ),
    "image": Sorting(
        lambda table, classes, selected: _by_image(table, classes)[0].astype(float),
        "As in the table: image by image, by number.",
    ),
    "similarity": Sorting(
        _by_similarity,
        "By the position in the UMAP: by the distance from the selected cluster, or from the mean "
        "of several selected ones. Without a selection, along a path through the whole map that "
        "keeps similar clusters together.",
    ),
}
"""Orders of the tiles within their group, by name."""


# ---- which ones
@dataclass(frozen=True)
class StateFilter:
    """Function that returns the rows in a state, (N,) bool, and an explanation."""

    of: Callable[[pd.DataFrame], np.ndarray]
    tooltip: str


def doubtful(table: pd.DataFrame) -> np.ndarray:
    """Return which clusters are doubtful and not corrected, (N,) bool."""
    less_sure = table["confidence"].to_numpy(float) < DOUBTFUL_BELOW
    codes, sets = pd.factorize(table["prediction_set"])
    several = _taken(np.array(["|" in str(s) for s in sets], bool), codes).astype(bool)
    mask = less_sure | several
    if "conditions_differ" in table.columns:
        mask = mask | table["conditions_differ"].to_numpy(bool)
    return mask & ~_corrected(table)


def _corrected(table: pd.DataFrame) -> np.ndarray:
    return (table["label_corrected"] != "").to_numpy(bool)


STATES: dict[str, StateFilter] = {
    "all": StateFilter(lambda table: np.ones(len(table), bool), "All clusters."),
    "corrected": StateFilter(_corrected, "Label corrected manually."),
    "not corrected": StateFilter(lambda table: ~_corrected(table), "Label not corrected manually."),
    "doubtful": StateFilter(
        doubtful,
        f"Not corrected, and confidence below {DOUBTFUL_BELOW:g}, more than one label possible, "
        "or imaging conditions other than those of the training.",
    ),
    "unknown": StateFilter(
        lambda table: (table["label"] == UNKNOWN).to_numpy(bool), "Labelled as unknown."
    ),
}
"""Filters of the tiles by state."""


OF_MODEL = frozenset({"confidence", "atoms", "similarity", "doubtful"})
"""Groupings, orders and filters by what the model says, which blind annotators must not see."""


def moved(fresh: Arrangement, now: Arrangement) -> np.ndarray:
    """Return the shown rows whose group has changed."""
    then = np.array(now.names, object)[now.group[now.order]] if len(now.order) else np.empty(0)
    today = np.array(fresh.names, object)[fresh.group[now.order]] if len(now.order) else then
    return now.order[np.asarray(then != today, bool)]


def regrouped(fresh: Arrangement, before: Arrangement, was: np.ndarray) -> Arrangement:
    """Return the current groups, with earlier rows in the group in which they are shown."""
    names = list(fresh.names)
    rank = {name: i for i, name in enumerate(names)}
    for name in before.names:
        if name not in rank:
            rank[name] = len(names)
            names.append(name)
    code = np.array([rank[name] for name in before.names] or [0], int)
    group = fresh.group.copy()
    there = was >= 0
    group[there] = code[before.group[was[there]]]
    return Arrangement(fresh.order, group, tuple(names))
