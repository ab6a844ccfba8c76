"""Learning curves: loss and held-out accuracy by epoch, in the colours of the theme."""

from __future__ import annotations

import math
from collections.abc import Sequence

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFontMetricsF, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QWidget

from .drawing import Drawing, small

History = Sequence[dict[str, float]]

# Okabe and Ito's orange and blue: seen on dark and on light, and told apart by everybody.
_TRAINING, _HELD_OUT = "#e69f00", "#56b4e9"


class LearningCurve(Drawing):
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
        line = QFontMetricsF(painter.font()).height()
        above = QRectF(box.left(), box.top() - 1.15 * line, box.width(), line)
        self._write(painter, above, title, Qt.AlignmentFlag.AlignLeft)
        ink = self._ink(0.25)
        painter.setPen(QPen(ink, 1))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(box)
        for words, y in zip(ticks, (box.bottom(), box.top()), strict=True):
            place = QRectF(0, y - line / 2, box.left() - 4, line)
            self._write(painter, place, words, Qt.AlignmentFlag.AlignRight)
        held_out = [h["held_out_loss"] for h in self._history]
        kept = len(held_out) - held_out[::-1].index(min(held_out))
        painter.setPen(QPen(self._ink(0.6), 1, Qt.PenStyle.DotLine))
        x = self._x(box, kept)
        painter.drawLine(QPointF(x, box.top()), QPointF(x, box.bottom()))
        low, high = limits
        for values, colour, style in lines:
            points = QPolygonF(
                [
                    QPointF(
                        self._x(box, i + 1),
                        box.bottom() - box.height() * min(max((v - low) / (high - low), 0), 1),
                    )
                    for i, v in enumerate(values)
                    if math.isfinite(v)
                ]
            )
            # A rim of ink under a full line: it must be seen on a light ground, too. Dashes would
            # drown in it.
            rim = [QPen(self._ink(0.35), 3.2)] if style == Qt.PenStyle.SolidLine else []
            for pen in (*rim, QPen(QColor(colour), 2.0, style)):
                painter.setPen(pen)
                painter.drawPolyline(points)
            painter.setPen(QPen(self._ink(0.35), 0.7))
            painter.setBrush(QColor(colour))
            for point in points if len(points) <= 3 else [points[-1]]:
                painter.drawEllipse(point, 3.0, 3.0)
