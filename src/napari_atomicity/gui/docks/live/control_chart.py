"""Three panels over the images of a live session: running ratios, confidence, drift."""

from __future__ import annotations

import math
from collections.abc import Sequence

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFontMetricsF, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QWidget

from ....core.palette import colours
from ...controls.drawing import Panels, height_in, small
from .history import LiveHistory, last_finite

# Of Okabe and Ito: told apart by everybody, and by the style of the line as well.
_CONFIDENCE, _UNKNOWN, _DRIFT, _CHANGE = "#56b4e9", "#d55e00", "#cc79a7", "#e69f00"
_LINES = 30
"""Height in lines of text."""


class ControlChart(Panels):
    """Plot class ratios, confidence and conditions of a live session over its images.

    Ratios have intervals; confidence comes with the share of unknown clusters; the change within
    the session and the drift from the training are in units of their limits. Images with an alarm
    are marked.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._history = LiveHistory()
        self.setAccessibleName("Figures of the live session over its images")
        self.setToolTip(
            "Change: difference of the conditions from those of the first images of the session. "
            "Drift: difference from the training of the model. Both in units of their limits."
        )

    def show_history(self, history: LiveHistory) -> None:
        """Draw this, which may have grown."""
        self._history = history
        parts = [
            f"{name} {100 * share:.0f} %"
            for name in history.classes
            if math.isfinite(share := last_finite(history.values(f"fraction_{name}")))
        ]
        self.setAccessibleDescription(
            f"{len(history.rows)} images; ratios now: {', '.join(parts) or 'none'}; change of the "
            f"session now {last_finite(history.change()):.2f} of its limit, drift from the "
            f"training {last_finite(history.drift()):.2f}"
        )
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:  # noqa: N802
        return QSize(240, math.ceil(_LINES * QFontMetricsF(small(self.font())).height()))

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        if not self._history.rows:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(small(self.font()))
        metrics = QFontMetricsF(painter.font())
        line = metrics.height()
        names = [*self._history.classes, "unknown"]
        self._left = metrics.horizontalAdvance("100 %") + 6
        self._right = self.width() - max(map(metrics.horizontalAdvance, names)) - 8
        room = self.height() - 6 * line
        top = 1.3 * line
        for share, draw in ((0.5, self._ratios), (0.25, self._confidence), (0.25, self._drift)):
            box = QRectF(self._left, top, self._right - self._left, share * room)
            draw(painter, box)
            top = box.bottom() + 1.6 * line
        self._ground(painter, box, line)
        painter.end()

    # ---- panels
    def _ratios(self, painter: QPainter, box: QRectF) -> None:
        history = self._history
        shares = {name: history.values(f"fraction_{name}") for name in history.classes}
        highs = [history.values(f"high_{name}") for name in history.classes]
        highest = max((x for v in highs for x in v if math.isfinite(x)), default=1.0)
        top = min(1.0, math.ceil(10 * highest) / 10)
        title = "Running ratios of all images, 95 %"
        self._frame(painter, box, title, "0 %", f"{100 * top:.0f} %")
        paint = colours(history.classes)
        ends = []
        for name, values in shares.items():
            low, high = history.values(f"low_{name}"), history.values(f"high_{name}")
            self._band(painter, box, low, high, top, paint[name])
            self._curve(painter, box, values, (0.0, top), paint[name], Qt.PenStyle.SolidLine)
            ends.append((height_in(box, last_finite(values), (0.0, top)), name))
        self._name(painter, box, ends, paint)

    def _confidence(self, painter: QPainter, box: QRectF) -> None:
        self._frame(painter, box, "Mean confidence; unknown (dashed)", "0 %", "100 %")
        history = self._history
        solid, dashed = Qt.PenStyle.SolidLine, Qt.PenStyle.DashLine
        limits = (0.0, 1.0)
        self._curve(painter, box, history.values("mean_confidence"), limits, _CONFIDENCE, solid)
        self._curve(painter, box, history.values("ood_share"), limits, _UNKNOWN, dashed)

    def _drift(self, painter: QPainter, box: QRectF) -> None:
        change, drift = self._history.change(), self._history.drift()
        top = max(1.5, 1.1 * max((x for x in (*change, *drift) if math.isfinite(x)), default=1.0))
        words = "Change of the session; drift (dashed); limits dotted"
        self._frame(painter, box, words, "0", f"{top:.2g}")
        painter.setPen(QPen(self._ink(0.8), 1, Qt.PenStyle.DotLine))
        y = height_in(box, 1.0, (0.0, top))
        painter.drawLine(QPointF(box.left(), y), QPointF(box.right(), y))
        self._curve(painter, box, drift, (0.0, top), _DRIFT, Qt.PenStyle.DashLine)
        self._curve(painter, box, change, (0.0, top), _CHANGE, Qt.PenStyle.SolidLine)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(_UNKNOWN))
        for i, alarm in enumerate(self._history.alarms):
            if alarm:
                x = self._x(box, i)
                painter.drawPolygon(
                    QPolygonF([QPointF(x - 4, box.bottom()), QPointF(x + 4, box.bottom()),
                               QPointF(x, box.bottom() - 7)])
                )  # fmt: skip

    def _ground(self, painter: QPainter, box: QRectF, line: float) -> None:
        place = QRectF(box.left(), box.bottom() + 0.1 * line, box.width(), line)
        n = int(last_finite(self._history.values("images")))  # some may not be kept
        self._write(painter, place, f"{n} images", Qt.AlignmentFlag.AlignRight)
        if any(self._history.alarms):
            self._write(painter, place, "▲ alarm", Qt.AlignmentFlag.AlignLeft)

    # ---- parts of panels
    def _x(self, box: QRectF, i: int) -> float:
        return box.left() + box.width() * (i + 0.5) / len(self._history.rows)

    def _curve(
        self,
        painter: QPainter,
        box: QRectF,
        values: Sequence[float],
        limits: tuple[float, float],
        colour: str,
        style: Qt.PenStyle,
    ) -> None:
        points = [
            QPointF(self._x(box, i), height_in(box, v, limits))
            for i, v in enumerate(values)
            if math.isfinite(v)
        ]
        self._line(painter, points, colour, style)

    def _band(
        self,
        painter: QPainter,
        box: QRectF,
        low: Sequence[float],
        high: Sequence[float],
        top: float,
        colour: str,
    ) -> None:
        ends = [
            (self._x(box, i), a, b)
            for i, (a, b) in enumerate(zip(low, high, strict=True))
            if math.isfinite(a) and math.isfinite(b)
        ]
        upper = [QPointF(x, height_in(box, b, (0.0, top))) for x, _, b in ends]
        lower = [QPointF(x, height_in(box, a, (0.0, top))) for x, a, _ in reversed(ends)]
        shade = QColor(colour)
        shade.setAlphaF(0.2)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(shade)
        painter.drawPolygon(QPolygonF([*upper, *lower]))

    def _name(
        self, painter: QPainter, box: QRectF, ends: list[tuple[float, str]], paint: dict[str, str]
    ) -> None:
        """Names at the ends of the lines, apart from each other."""
        line = QFontMetricsF(painter.font()).height()
        ends = sorted((y, name) for y, name in ends if math.isfinite(y))
        lowest = box.bottom() + line / 2 - line * len(ends)
        y = box.top() - line / 2
        for i, (wanted, name) in enumerate(ends):
            y = min(max(wanted - line / 2, y), lowest + i * line)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(paint[name]))
            painter.drawEllipse(QPointF(box.right() + 4, y + line / 2), 2.5, 2.5)
            place = QRectF(box.right() + 8, y, self.width() - box.right() - 8, line)
            self._write(painter, place, name, Qt.AlignmentFlag.AlignLeft)
            y += line
