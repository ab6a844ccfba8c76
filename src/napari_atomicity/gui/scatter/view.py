"""A plot of `reporting.plots` in a window, drawn by matplotlib, with selection by mouse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from qtpy.QtCore import QEvent, QPoint, QPointF, QRect, QSize, Qt, QTimer, Signal
from qtpy.QtGui import (
    QHelpEvent,
    QImage,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPalette,
    QResizeEvent,
    QShowEvent,
)
from qtpy.QtWidgets import QRubberBand, QSizePolicy, QToolTip, QWidget

from ...reporting.plot_base import Look, Plot, draw_selection
from ...reporting.plots import plot_figure, style
from .mouse import ADD, REMOVE, REPLACE, selection_mode
from .scatter import PICK_RADIUS_PX

_DRAG_PX = 4
_RESIZE_MS = 40
_COLUMN_PX = 30
_FAINT = 0.4


def nearest(boxes: np.ndarray, x: float, y: float) -> tuple[int, float]:
    """Find the box nearest to a position.

    Parameters
    ----------
    boxes : ndarray of shape (n, 4)
        Boxes as x from, x to, y from, y to; boxes that are not finite are ignored.
    x, y : float
        The position.

    Returns
    -------
    tuple of (int, float)
        The box and its distance; -1 without a box.
    """
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


class PlotView(QWidget):
    """One plot in the size of the widget and the colours of the theme.

    A click picks a bar or a point, or the column of a plot with columns; a drag picks all marks
    that it touches. Shift adds to the selection, Ctrl removes from it.

    Signals: ``picked(rows of the data, mode)`` with mode "replace", "add" or "remove".
    """

    picked = Signal(object, str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._plot: Plot | None = None
        self._data = pd.DataFrame()
        self._classes: Sequence[str] = ()
        self._share = np.empty(0)
        self._boxes = np.empty((0, 4))  # of the marks, in logical pixels, y downwards
        self._canvas: FigureCanvasAgg | None = None
        self._bare: object = None  # the picture without marks
        self._image: QImage | None = None
        self._press: QPoint | None = None
        self._band: QRubberBand | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._go_on)
        self._work: Iterator[None] | None = None
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
        """Show a plot of some data without a selection.

        Parameters
        ----------
        plot : Plot
            The plot.
        data : pandas.DataFrame
            Its data.
        classes : sequence of str
            The classes in order.
        """
        self._plot, self._data, self._classes = plot, data, tuple(classes)
        self._share = np.zeros(len(data))
        self._stale()

    def mark(self, share: np.ndarray) -> None:
        """Show the selected share of each mark, without drawing the plot again."""
        if not np.array_equal(share, self._share):
            self._share = np.asarray(share, float)
            if self._canvas is not None:
                self._draw_marks()

    def _stale(self, wait_ms: int = 0) -> None:
        self._canvas = self._work = None
        if self.isVisible():
            self._timer.start(wait_ms)

    def look(self) -> Look:
        """Return the style that matches the theme."""
        palette = self.palette()
        ink = palette.color(QPalette.ColorRole.WindowText).name()
        paper = palette.color(QPalette.ColorRole.Window).name()
        size = self.font().pointSizeF()
        return Look(self._classes, ink, paper, size if size > 0 else 9.0)

    def draw_now(self) -> None:
        """Draw the plot without delay."""
        self._timer.stop()
        for _ in self._steps():
            pass
        self._work = None

    def _go_on(self) -> None:
        """Run the next step of drawing, and let the window handle events between steps."""
        if self._work is None:
            self._work = self._steps()
        try:
            next(self._work)
        except StopIteration:
            self._work = None
        else:
            self._timer.start(0)

    def _steps(self) -> Iterator[None]:
        """Draw the plot in steps: figure, layout, painting."""
        if self._plot is None or self.width() < 2 or self.height() < 2:
            return
        ratio, look = self.devicePixelRatioF(), self.look()
        dpi = self.logicalDpiX() * ratio
        size = self.width() * ratio / dpi, self.height() * ratio / dpi
        figure = plot_figure(self._plot, self._data, look, size, dpi)
        canvas = FigureCanvasAgg(figure)
        yield
        with style():
            figure.get_layout_engine().execute(figure)
            figure.set_layout_engine("none")
        yield
        with style():
            canvas.draw()
        self._canvas, self._bare = canvas, canvas.copy_from_bbox(figure.bbox)
        self._boxes = self._on_screen()
        axes = figure.axes[0]
        words = [axes.get_title(loc="left"), *(text.get_text() for text in axes.texts)]
        self.setAccessibleDescription(" ".join(words).replace("\n", " ").strip())
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
        pixels = np.asarray(canvas.buffer_rgba())
        height, width, _ = pixels.shape
        image = QImage(pixels.data, width, height, 4 * width, QImage.Format.Format_RGBA8888)
        self._image = image.copy()  # Qt does not keep the array alive
        self._image.setDevicePixelRatio(self.devicePixelRatioF())
        self.update()

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

    def _among_axes(self, place: QPointF) -> bool:
        assert self._canvas is not None
        box, ratio = self._canvas.figure.axes[0].bbox, self.devicePixelRatioF()
        x, y = place.x() * ratio, (self.height() - place.y()) * ratio
        return bool(box.x0 <= x <= box.x1 and box.y0 <= y <= box.y1)

    # ---- events
    def sizeHint(self) -> QSize:  # noqa: N802
        return QSize(380, 300)

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
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

    def event(self, event: QEvent) -> bool:
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            rows = self.rows_at(QPointF(event.pos()))
            if len(rows) and self._plot is not None:
                shown = self._data.iloc[rows[:8]].to_dict("records")
                words = "\n".join(self._plot.words(row) for row in shown)
                QToolTip.showText(event.globalPos(), words, self)
            else:
                QToolTip.hideText()
            return True
        return super().event(event)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        super().resizeEvent(event)
        self._stale(_RESIZE_MS)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        super().showEvent(event)
        if self._canvas is None:
            self._timer.start(0)

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        super().changeEvent(event)
        kinds = QEvent.Type
        if event.type() in (kinds.StyleChange, kinds.PaletteChange, kinds.FontChange):
            self._stale()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        if self._image is None:
            return
        painter = QPainter(self)
        if not self.isEnabled():  # the content is outdated
            painter.setOpacity(_FAINT)
        if self._canvas is None:  # of another size until the next one is there
            painter.drawImage(self.rect(), self._image)
        else:
            painter.drawImage(QPoint(0, 0), self._image)
        painter.end()
