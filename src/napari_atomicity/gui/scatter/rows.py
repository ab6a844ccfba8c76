"""Index of the rows of a table by the keys of their clusters or atoms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
import pandas as pd

from ...core.tables.cluster_table import MODEL_MAP, Key
from ...models.analysis import Analysis
from ...reporting.plots.base import Plot
from ...state.cluster_rows import ids_by_image
from .mouse import ADD, REMOVE, REPLACE
from .view import PlotView


class RowIndex:
    """Index of the rows of each image in a table."""

    def __init__(self, table: pd.DataFrame, id_column: str = "cluster_id") -> None:
        self._id_column = id_column
        self._images = table["image"].to_numpy()
        self._ids = table[id_column].to_numpy()
        self._of_image: dict[str, np.ndarray] = (
            dict(table.groupby("image", sort=False).indices) if len(table) else {}
        )
        self._code_of = {image: code for code, image in enumerate(self._of_image)}
        self._codes = np.empty(len(table), np.int64)  # of the image of each row
        for code, rows in enumerate(self._of_image.values()):
            self._codes[rows] = code
        self._known_ids, ids = np.unique(self._ids, return_inverse=True)
        # An image and an id as one number.
        self._numbers = self._codes * len(self._known_ids) + ids

    def __len__(self) -> int:
        return len(self._ids)

    def fits(self, table: pd.DataFrame) -> bool:
        """Return whether a table has the same clusters in the same order."""
        return _equal(self._ids, table[self._id_column]) and _equal(self._images, table["image"])

    def of_image(self, image: str) -> np.ndarray:
        """Return the rows of an image."""
        return self._of_image.get(image, np.empty(0, np.int64))

    def of(self, keys: Iterable[Key]) -> np.ndarray:
        """Return the rows of clusters; skip those that are not in the table."""
        by_image = ids_by_image(frozenset(keys))
        known = [(self._code_of[n], ids) for n, ids in by_image.items() if n in self._code_of]
        if not known:
            return np.empty(0, np.int64)
        wanted = np.fromiter(chain.from_iterable(ids for _, ids in known), np.int64)
        codes = np.repeat([code for code, _ in known], [len(ids) for _, ids in known])
        n = len(self._known_ids)
        place = np.clip(np.searchsorted(self._known_ids, wanted), 0, n - 1)
        numbers = (codes * n + place)[self._known_ids[place] == wanted]
        rows = np.flatnonzero(np.isin(self._numbers, numbers))
        return rows[np.argsort(self._codes[rows], kind="stable")]

    def keys(self, rows: np.ndarray) -> set[Key]:
        """Return the keys of the clusters in some rows."""
        return set(zip(self._images[rows].tolist(), self._ids[rows].tolist(), strict=True))


def _equal(known: np.ndarray, values: pd.Series) -> bool:
    """Return whether a column has these values; at once if it is in the same memory."""
    now = values.to_numpy()
    same = known.shape == now.shape and known.ctypes.data == now.ctypes.data
    return same or np.array_equal(known, now)


# ---- positions of clusters in the map before the last adaptation or classification

_MIN_STEP = 1e-6
_MIN_SHARE_MOVED = 0.5


def earlier_places(table: pd.DataFrame, rows: RowIndex, earlier: Iterable[Analysis]) -> np.ndarray:
    """Return the positions before the last adaptation or classification of each image.

    An earlier analysis counts if its model was another one, or if more than half of its clusters
    were at other positions; a cluster that was moved manually is no adaptation.
    """
    now = table[list(MODEL_MAP)].to_numpy(float)
    ids, models = table["cluster_id"].to_numpy(), table["model_id"].to_numpy(object)
    before = np.full_like(now, np.nan)
    found: set[str] = set()
    for old in earlier:
        image = old.micrograph.name
        own = rows.of_image(image)
        if image in found or not len(own):
            continue
        places = np.column_stack([old.column(name) for name in MODEL_MAP])
        old_ids = old.column("cluster_id")
        if not np.array_equal(old_ids, ids[own]):
            at = pd.Index(old_ids).get_indexer(ids[own])
            places = places[at]
            places[at < 0] = np.nan
        step = np.abs(places - now[own]).max(axis=1)
        step = step[np.isfinite(step)]
        other_model = set(old.column("model_id").tolist()) != set(models[own].tolist())
        share_moved = float((step > _MIN_STEP).mean()) if len(step) else 0.0
        if share_moved > (0.0 if other_model else _MIN_SHARE_MOVED):
            found.add(image)
            before[own] = np.where(np.isfinite(now[own]), places, np.nan)
    return before


# ---- points that are linked to the clusters of the window
HINT = "Click or drag to select, Shift adds, Ctrl removes."


class Linked:
    """Links the marks of a `PlotView` to the rows of its table."""

    def __init__(
        self, view: PlotView, id_column: str = "cluster_id", what: str = "cluster"
    ) -> None:
        self._view, self._id_column, self._what = view, id_column, what
        self._rows = RowIndex(pd.DataFrame({"image": [], id_column: []}), id_column)
        self._member = np.empty(0, np.int64)
        self._size: np.ndarray = np.empty(0)  # how many each mark holds

    def show(
        self, plot: Plot, table: pd.DataFrame, data: pd.DataFrame, classes: Sequence[str] = ()
    ) -> None:
        """Show a plot of data that were computed from a table."""
        self._rows = RowIndex(table, self._id_column)
        assert plot.members is not None
        self._member = plot.members(table, data)
        self._size = np.bincount(self._member[self._member >= 0], minlength=len(data))
        self._view.setAccessibleName(plot.title)
        self._view.show_plot(plot, data, classes)

    @property
    def holds(self) -> bool:
        """Whether marks have members; points of a curve have none."""
        return bool(self._size.any())

    def mark(self, selection: frozenset[Key]) -> str:
        """Mark the selection, and return it as text."""
        member = self._member[self._rows.of(selection)]
        chosen = np.bincount(member[member >= 0], minlength=len(self._size))
        self._view.mark(chosen / np.maximum(self._size, 1))
        of = f"{len(selection)} selected {self._what}{'s' * (len(selection) != 1)}"
        drawn = int(chosen.sum())
        missing = "" if drawn else ": not in this plot"
        return f"{drawn} of {of} marked{missing}." if selection else HINT

    def selection_after(
        self, rows: Sequence[int], mode: str, selection: frozenset[Key]
    ) -> frozenset[Key]:
        """Return the selection after some rows of the data were picked; see `PlotView`."""
        keys = self._rows.keys(np.flatnonzero(np.isin(self._member, rows)))
        return frozenset({REPLACE: keys, ADD: selection | keys, REMOVE: selection - keys}[mode])
