"""The link between the marks of a plot and selected clusters or atoms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ...core.tables.cluster_table import Key
from ...reporting.plots.base import Plot
from .mouse import ADD, REMOVE, REPLACE
from .rows import RowIndex
from .view import PlotView

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
