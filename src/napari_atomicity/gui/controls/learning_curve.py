"""Learning curves: loss and held-out accuracy by epoch, in the colours of the theme."""

from __future__ import annotations

import math
from collections.abc import Sequence

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QFontMetricsF, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QWidget

from .drawing import Panels, height_in, small

History = Sequence[dict[str, float]]

# Okabe and Ito's orange and blue: seen on dark and on light, and told apart by everybody.
_TRAINING, _HELD_OUT = "#e69f00", "#56b4e9"


class LearningCurve(Panels):
    """Two panels over the epochs: accuracy on held-out images, and the loss of both sides.

    The line of the training is dashed, so that colour does not carry it alone; a vertical line
    marks the epoch whose weights are kept.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._history: tuple[dict[str, float], ...] = ()
        self._epochs = 0
        self.setAccessibleName("Learning curve")

    @property
    def history(self) -> tuple[dict[str, float], ...]:
        return self._history

    def show_history(self, history: History, epochs: int) -> None:
        """Draw what `training.fit.fit_network` reports; ``epochs`` is how many there may be."""
        self._history, self._epochs = tuple(history), max(epochs, len(history))
        if self._history:
            last = self._history[-1]
            self.setAccessibleDescription(
                f"epoch {last['epoch']:.0f} of {self._epochs}: held-out accuracy "
                f"{last['accuracy']:.3f}, loss {last['loss']:.3f}, held-out loss "
                f"{last['held_out_loss']:.3f}"
            )
        self.update()

    def sizeHint(self) -> QSize:  # noqa: N802
        return QSize(240, math.ceil(12 * QFontMetricsF(self.font()).height()))

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        if not self._history:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = small(self.font())
        painter.setFont(font)
        metrics = QFontMetricsF(font)
        line = metrics.height()
        left = metrics.horizontalAdvance("100 %") + 6
        width = self.width() - left - metrics.averageCharWidth()
        height = (self.height() - 4.6 * line) / 2
        last = self._history[-1]
        accuracy = [h["accuracy"] for h in self._history]
        low = math.floor(10 * min(accuracy)) / 10 if min(accuracy) < 1 else 0.9
        self._panel(
            painter,
            QRectF(left, 1.2 * line, width, height),
            f"Held-out accuracy: {100 * last['accuracy']:.1f} %",
            [(accuracy, _HELD_OUT, Qt.PenStyle.SolidLine)],
            (low, 1.0),
            (f"{100 * low:.0f} %", "100 %"),
        )
        losses = [[h[k] for h in self._history] for k in ("loss", "held_out_loss")]
        highest = max(x for values in losses for x in values if math.isfinite(x)) * 1.05 or 1.0
        self._panel(
            painter,
            QRectF(left, height + 3.1 * line, width, height),
            f"Loss: held out {last['held_out_loss']:.3f}, training {last['loss']:.3f} (dashed)",
            [
                (losses[0], _TRAINING, Qt.PenStyle.DashLine),
                (losses[1], _HELD_OUT, Qt.PenStyle.SolidLine),
            ],
            (0.0, highest),
            ("0", f"{highest:.2g}"),
        )
        self._write(
            painter,
            QRectF(left, self.height() - 1.2 * line, width, line),
            f"epoch {last['epoch']:.0f} of {self._epochs}",
            Qt.AlignmentFlag.AlignRight,
        )
        painter.end()

    def _x(self, box: QRectF, epoch: float) -> float:
        return box.left() + box.width() * epoch / max(self._epochs, 1)

    def _panel(
        self,
        painter: QPainter,
        box: QRectF,
        title: str,
        lines: Sequence[tuple[Sequence[float], str, Qt.PenStyle]],
        limits: tuple[float, float],
        ticks: tuple[str, str],
    ) -> None:
        self._frame(painter, box, title, *ticks)
        held_out = [h["held_out_loss"] for h in self._history]
        kept = len(held_out) - held_out[::-1].index(min(held_out))
        painter.setPen(QPen(self._ink(0.6), 1, Qt.PenStyle.DotLine))
        x = self._x(box, kept)
        painter.drawLine(QPointF(x, box.top()), QPointF(x, box.bottom()))
        for values, colour, style in lines:
            points = [
                QPointF(self._x(box, i + 1), height_in(box, v, limits))
                for i, v in enumerate(values)
                if math.isfinite(v)
            ]
            self._line(painter, points, colour, style)
