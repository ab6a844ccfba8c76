"""A chart in a window: a matplotlib figure in the colours and the font of the theme."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QPoint
from qtpy.QtGui import QImage, QPainter, QPaintEvent, QPalette, QResizeEvent, QShowEvent
from qtpy.QtWidgets import QWidget

from ...reporting.plots.base import Look
from ...reporting.plots.registry import style
from .drawing import Drawing
from .refresher import single_shot

if TYPE_CHECKING:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

_RESIZE_MS = 40
_MIN_PX = 60
"""Smallest side of a figure: a smaller widget has not got its size yet."""
_FAINT = 0.4


def load_matplotlib() -> None:
    """Import what a figure needs, which takes 0.1 s: in a thread, before the first figure."""
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401


class Chart(Drawing):
    """A matplotlib figure in the size of the widget.

    The figure is drawn only while the widget is visible, at most once per turn of the event loop,
    and in steps (figure, layout, painting), between which the window handles events. matplotlib's
    figures are imported when the first one is drawn. It is painted through an image instead of
    matplotlib's own canvas widget, which would take wheel events from the scroll area around it.
    """

    def __init__(self, parent: QWidget | None = None, lines: float = 12.0) -> None:
        super().__init__(parent, lines)
        self._draw: Callable[[Figure, Look], object] | None = None
        self._canvas: FigureCanvasAgg | None = None
        self._image: QImage | None = None
        self._work: Iterator[None] | None = None
        self._timer = single_shot(self._go_on, owner=self)

    def show_chart(
        self, draw: Callable[[Figure, Look], object] | None, description: str = ""
    ) -> None:
        """Show a figure."""
        self._draw = draw
        self.setAccessibleDescription(description)
        self.redraw()

    @property
    def figure(self) -> Figure | None:
        """The figure that is visible; None until it is drawn."""
        return None if self._canvas is None else self._canvas.figure

    def look(self) -> Look:
        """Return the colours and the font size of the theme."""
        palette, size = self.palette(), self.font().pointSizeF()
        return Look(
            ink=palette.color(QPalette.ColorRole.WindowText).name(),
            paper=palette.color(QPalette.ColorRole.Window).name(),
            font_pt=size if size > 0 else 9.0,
        )

    # ---- drawing
    def redraw(self, wait_ms: int = 0) -> None:
        """Draw the figure again, at once or after some time."""
        self._canvas = self._work = None
        if self.isVisible():
            self._timer.start(wait_ms)

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
        """Draw the figure in steps: content, layout, painting."""
        if self._draw is None or min(self.width(), self.height()) < _MIN_PX:
            self._image = None
            self.update()
            return
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        ratio, look = self.devicePixelRatioF(), self.look()
        dpi = self.logicalDpiX() * ratio
        size = self.width() * ratio / dpi, self.height() * ratio / dpi
        with style(look):
            figure = Figure(size, dpi=dpi)
            canvas = FigureCanvasAgg(figure)
            self._draw(figure, look)
        yield
        layout = figure.get_layout_engine()
        if layout is not None:
            with style(look):
                layout.execute(figure)
                figure.set_layout_engine("none")
            yield
        with style(look):
            canvas.draw()
        self._canvas = canvas
        self._on_drawn()

    def _on_drawn(self) -> None:
        """Show the figure that was drawn."""
        self._show_pixels()

    def _show_pixels(self) -> None:
        """Paint the pixels of the canvas."""
        assert self._canvas is not None
        pixels = np.asarray(self._canvas.buffer_rgba())
        height, width, _ = pixels.shape
        image = QImage(pixels.data, width, height, 4 * width, QImage.Format.Format_RGBA8888)
        self._image = image.copy()  # Qt does not keep the array alive
        self._image.setDevicePixelRatio(self.devicePixelRatioF())
        self.update()

    # ---- events
    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        super().resizeEvent(event)
        self.redraw(_RESIZE_MS)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        super().showEvent(event)
        if self._canvas is None:
            self._timer.start(0)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        if self._image is None:
            return
        painter = QPainter(self)
        if not self.isEnabled():  # the content is outdated
            painter.setOpacity(_FAINT)
        if self._canvas is None:  # the old image, scaled, until the next one is drawn
            painter.drawImage(self.rect(), self._image)
        else:
            painter.drawImage(QPoint(0, 0), self._image)
        painter.end()
