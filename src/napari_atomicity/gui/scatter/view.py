"""A plot of `reporting.plots` in a window, drawn by matplotlib, with selection by mouse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from qtpy.QtCore import QPoint, QPointF, QRect, Qt, Signal
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QRubberBand, QSizePolicy, QWidget

from ...reporting.plots.base import Look, Plot, draw_selection
from ...reporting.plots.registry import style
from ..controls.chart import Chart
from .mouse import ADD, REMOVE, REPLACE, selection_mode
from .scatter import PICK_RADIUS_PX

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DRAG_PX = 4
_COLUMN_PX = 30
_MAX_DESCRIBED = 30
"""Largest number of marks that the accessible description contains."""


def nearest(boxes: np.ndarray, x: float, y: float) -> tuple[int, float]:
    """Find the box nearest to a position."""
    if not len(boxes):
        return -1, np.inf
    aside = np.maximum(np.maximum(boxes[:, 0] - x, x - boxes[:, 1]), 0)
    above = np.maximum(np.maximum(boxes[:, 2] - y, y - boxes[:, 3]), 0)
    distance = np.nan_to_num(np.hypot(aside, above), nan=np.inf)
    row = int(np.argmin(distance))
    return (row, float(distance[row])) if np.isfinite(distance[row]) else (-1, np.inf)


def touched(boxes: np.ndarray, area: QRect) -> np.ndarray:
    """Return the boxes that intersect an area."""
    return np.flatnonzero(
        (boxes[:, 0] <= area.right())
        & (boxes[:, 1] >= area.left())
        & (boxes[:, 2] <= area.bottom())
        & (boxes[:, 3] >= area.top())
    )


class PlotView(Chart):
    """One plot in the size of the widget and the colours of the theme.

    A click picks a bar or a point, or the column of a plot with columns; a drag picks all marks
    that it touches. Shift adds to the selection, Ctrl removes from it. Marks of a plot without
    members have tooltips only.

    Signals: ``picked(rows of the data, mode)`` with mode "replace", "add" or "remove".
    """

    picked = Signal(object, str)

    def __init__(self, parent: QWidget | None = None, lines: float | None = None) -> None:
        super().__init__(parent, lines or 18.0)
        self._plot: Plot | None = None
        self._data = pd.DataFrame()
        self._share = np.empty(0)
        self._boxes = np.empty((0, 4))  # of the marks, in logical pixels, y downwards
        self._bare: object = None  # the picture without marks
        self._press: QPoint | None = None
        self._band: QRubberBand | None = None
        if lines is None:
            self.setMinimumSize(180, 150)
            self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    # ---- what is shown
    @property
    def data(self) -> pd.DataFrame:
        """The data of the plot."""
        return self._data

    @property
    def boxes(self) -> np.ndarray:
        """Left, right, top and bottom of the marks in logical pixels, (n, 4)."""
        return self._boxes

    @property
    def share(self) -> np.ndarray:
        """Selected share of each mark, 0 to 1, (n,)."""
        return self._share

    def show_plot(self, plot: Plot, data: pd.DataFrame, classes: Sequence[str]) -> None:
        """Show a plot of some data without a selection."""

        def draw(figure: Figure, look: Look) -> None:
            figure.set_layout_engine("constrained")
            plot.draw(figure.add_subplot(), data, replace(look, classes=tuple(classes)))

        self._plot, self._data = plot, data
        self._share = np.zeros(len(data))
        self.show_chart(draw)

    def mark(self, share: np.ndarray) -> None:
        """Show the selected share of each mark, without drawing the plot again."""
        if not np.array_equal(share, self._share):
            self._share = np.asarray(share, float)
            if self._canvas is not None:
                self._draw_marks()

    def _on_drawn(self) -> None:
        assert self._plot is not None and self._canvas is not None
        figure = self._canvas.figure
        self._bare = self._canvas.copy_from_bbox(figure.bbox)
        self._boxes = self._on_screen()
        axes = figure.axes[0]
        words = [str(axes.get_label()), *(text.get_text() for text in axes.texts)]
        if len(self._data) <= _MAX_DESCRIBED:
            words += [f"{self._plot.words(row)};" for row in self._data.to_dict("records")]
        self.setAccessibleDescription(" ".join(words).replace("\n", " ").strip(" ;"))
        self._draw_marks()

    def _on_screen(self) -> np.ndarray:
        assert self._plot is not None and self._canvas is not None
        if not len(self._data):
            return np.empty((0, 4))
        places = self._plot.places(self._data).astype(float)
        if "count" in self._data.columns:  # an empty bar is nowhere
            places[self._data["count"].to_numpy() == 0] = np.nan
        axes, ratio = self._canvas.figure.axes[0], self.devicePixelRatioF()
        ends = [axes.transData.transform(places[:, c]) / ratio for c in ([0, 2], [1, 3])]
        low, high = np.minimum(*ends), np.maximum(*ends)  # an axis may go downwards
        return np.stack(
            [low[:, 0], high[:, 0], self.height() - high[:, 1], self.height() - low[:, 1]], axis=1
        )

    def _draw_marks(self) -> None:
        if self._canvas is None or self._plot is None:
            return
        canvas, axes = self._canvas, self._canvas.figure.axes[0]
        canvas.restore_region(self._bare)
        if len(self._share) == len(self._data) and (self._share > 0).any():
            places = self._plot.places(self._data)
            with style():
                for artist in draw_selection(axes, self.look(), places, self._share):
                    axes.draw_artist(artist)
                    artist.remove()
        self._show_pixels()

    # ---- picking
    def rows_at(self, place: QPointF) -> np.ndarray:
        """Return the rows near a position: a mark, or all marks of its column."""
        none = np.empty(0, np.int64)
        if self._canvas is None or self._plot is None or not len(self._boxes):
            return none
        row, distance = nearest(self._boxes, place.x(), place.y())
        if row >= 0 and distance <= PICK_RADIUS_PX * 0.6:
            return np.array([row])
        if not self._plot.column or not self._among_axes(place):
            return none
        tall = self._boxes.copy()
        tall[:, 2:] = np.where(np.isfinite(tall[:, 2:]), [-np.inf, np.inf], np.nan)
        row, distance = nearest(tall, place.x(), place.y())
        if row < 0 or distance > _COLUMN_PX:
            return none
        values = self._data[self._plot.column].to_numpy()
        return np.flatnonzero(values == values[row])

    def _caption_at(self, place: QPointF) -> str:
        """Return the caption for a place above the axes, if these show only a part of it."""
        if self._canvas is None:
            return ""
        axes, ratio = self._canvas.figure.axes[0], self.devicePixelRatioF()
        above = place.y() * ratio < self._canvas.figure.bbox.height - axes.bbox.y1
        caption = str(axes.get_label())
        shown = axes.get_title(loc="left").replace("\n", " ")
        return caption if above and caption != shown else ""

    def _among_axes(self, place: QPointF) -> bool:
        assert self._canvas is not None
        box, ratio = self._canvas.figure.axes[0].bbox, self.devicePixelRatioF()
        x, y = place.x() * ratio, (self.height() - place.y()) * ratio
        return bool(box.x0 <= x <= box.x1 and box.y0 <= y <= box.y1)

    # ---- events
    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        if self._plot is None or self._plot.members is None:
            return
        # While another picture is drawn, the visible one does not match the data.
        if event.button() == Qt.MouseButton.LeftButton and self._canvas is not None:
            self._press = event.position().toPoint()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        if self._press is None:
            return
        here = event.position().toPoint()
        if self._band is None and (here - self._press).manhattanLength() >= _DRAG_PX:
            self._band = QRubberBand(QRubberBand.Shape.Rectangle, self)
            self._band.show()
        if self._band is not None:
            self._band.setGeometry(QRect(self._press, here).normalized())

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        press, band = self._press, self._band
        self._press = self._band = None
        if band is not None:
            band.hide()
            band.deleteLater()
        if press is None or event.button() != Qt.MouseButton.LeftButton or self._canvas is None:
            return
        mode = selection_mode(event.modifiers())
        if band is not None:
            area = QRect(press, event.position().toPoint()).normalized()
            rows = touched(self._boxes, area)
        else:
            rows = self.rows_at(event.position())
            if mode == ADD and len(rows) and (self._share[rows] >= 1).all():
                mode = REMOVE  # a second Shift-click takes it back
        if len(rows) or mode == REPLACE:
            self.picked.emit(rows, mode)

    def text_at(self, place: QPointF) -> str:
        rows = self.rows_at(place)
        if self._plot is None or not len(rows):
            return self._caption_at(place)
        return "\n".join(map(self._plot.words, self._data.iloc[rows[:8]].to_dict("records")))
