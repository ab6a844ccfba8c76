"""A bar chart of classes or ratios, one row each: symbol, name, bar, interval, words.

It is painted by Qt: the rows are a legend with bars, as high as its text, and follow the selection
in Explain within a millisecond.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from qtpy.QtCore import QLineF, QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QWidget

from ...core.palette import colour_of, symbol_of
from ...core.tables.cluster_table import NON_CLASS_LABELS
from .drawing import Drawing, paint_glyph, small
from .settings import settings


@dataclass(frozen=True)
class Bar:
    """One row: a value between 0 and 1, its interval if there is one, and how it looks."""

    # label, value: name of the class and length of the bar; NaN draws none
    label: str
    value: float
    text: str  # what is written at the right
    # colour, symbol: as everywhere for this class
    colour: str
    symbol: str
    # low, high: ends of the interval; NaN draws none
    low: float = math.nan
    high: float = math.nan
    strong: bool = False  # whether the row is emphasised
    marked: bool = False  # whether a dot before the words marks the row
    tooltip: str = ""  # words for the mouse
    reference: float = math.nan  # where a mark says what the value should be; NaN draws none


class BarChart(Drawing):
    """Horizontal bars on a common scale from 0 to `limit`, in the colours of the theme."""

    def __init__(self, parent: QWidget | None = None, *, axis: bool = False) -> None:
        super().__init__(parent)
        self._bars: tuple[Bar, ...] = ()
        self._axis = axis

    @property
    def bars(self) -> tuple[Bar, ...]:
        return self._bars

    @bars.setter
    def bars(self, bars: Sequence[Bar]) -> None:
        self._bars = tuple(bars)
        self.setAccessibleDescription("; ".join(f"{b.label} {b.text}" for b in self._bars))
        self.updateGeometry()
        self.update()

    @property
    def limit(self) -> float:
        """Right end of the scale: 1, or less where all bars are short and there is an axis."""
        if not self._axis:
            return 1.0
        ends = [x for b in self._bars for x in (b.value, b.high, b.reference) if math.isfinite(x)]
        longest = max(ends, default=1.0)
        return next((limit for limit in (0.1, 0.2, 0.4, 0.6, 0.8) if longest <= limit), 1.0)

    def _row_height(self) -> float:
        return 1.55 * QFontMetricsF(self.font()).height()

    def sizeHint(self) -> QSize:  # noqa: N802
        rows = len(self._bars) + (0.85 if self._axis and self._bars else 0)
        return QSize(240, math.ceil(rows * self._row_height()) + 4)

    def text_at(self, place: QPointF) -> str:
        row = int((place.y() - 2) // self._row_height())
        return self._bars[row].tooltip if 0 <= row < len(self._bars) else ""

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        if not self._bars:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        bold = QFont(self.font())
        bold.setBold(True)
        metrics = QFontMetricsF(bold)
        height, gap = self._row_height(), metrics.averageCharWidth()
        glyph = 0.85 * metrics.ascent()
        label_width = max(metrics.horizontalAdvance(b.label) for b in self._bars)
        text_width = max(metrics.horizontalAdvance(b.text) for b in self._bars)
        mark_width = 1.6 * gap if any(b.marked for b in self._bars) else 0.0
        left = 2 + glyph + gap + label_width + gap
        track = QRectF(left, 2, self.width() - left - 2 * gap - mark_width - text_width - 2, 0)
        track.setWidth(max(track.width(), 8.0))

        if self._axis:
            self._paint_axis(painter, track, len(self._bars) * height + 2)
        for i, bar in enumerate(self._bars):
            top = 2 + i * height
            ink = self._ink(1.0 if bar.strong else 0.8)
            paint_glyph(
                painter,
                QRectF(2, top + (height - glyph) / 2, glyph, glyph),
                bar.symbol,
                bar.colour,
            )
            painter.setFont(bold if bar.strong else self.font())
            painter.setPen(ink)
            middle = Qt.AlignmentFlag.AlignVCenter
            painter.drawText(
                QRectF(2 + glyph + gap, top, label_width + gap, height),
                middle | Qt.AlignmentFlag.AlignLeft,
                bar.label,
            )
            painter.drawText(
                QRectF(self.width() - text_width - 4, top, text_width + 2, height),
                middle | Qt.AlignmentFlag.AlignRight,
                bar.text,
            )
            if bar.marked:
                painter.setBrush(ink)
                painter.setPen(Qt.PenStyle.NoPen)
                painter.drawEllipse(
                    QPointF(track.right() + gap + mark_width / 2, top + height / 2),
                    gap * 0.35,
                    gap * 0.35,
                )
            self._paint_bar(painter, bar, track, top, height)
        painter.end()

    def _paint_bar(
        self, painter: QPainter, bar: Bar, track: QRectF, top: float, height: float
    ) -> None:
        thick = 0.5 * height
        box = QRectF(track.left(), top + (height - thick) / 2, track.width(), thick)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(self._ink(0.10))
        painter.drawRoundedRect(box, 2, 2)
        if math.isfinite(bar.value):
            filled = QRectF(box)
            filled.setWidth(box.width() * min(bar.value / self.limit, 1.0))
            painter.setBrush(QColor(bar.colour))
            painter.setPen(QPen(QColor(0, 0, 0, 110), 0.7))
            painter.drawRoundedRect(filled, 2, 2)
        if math.isfinite(bar.reference):
            x = box.left() + box.width() * bar.reference / self.limit
            reach = 0.25 * thick
            self._rimmed(painter, [QLineF(x, box.top() - reach, x, box.bottom() + reach)], 2.4)
        if math.isfinite(bar.low) and math.isfinite(bar.high):
            low, high = (box.left() + box.width() * v / self.limit for v in (bar.low, bar.high))
            y, cap = box.center().y(), 0.3 * thick
            caps = [QLineF(x, y - cap, x, y + cap) for x in (low, high)]
            self._rimmed(painter, [QLineF(low, y, high, y), *caps], 1.6)

    def _paint_axis(self, painter: QPainter, track: QRectF, bottom: float) -> None:
        font = small(self.font())
        metrics = QFontMetricsF(font)
        painter.setFont(font)
        # As many ticks as can be read.
        steps = 4 if track.width() > 4 * metrics.horizontalAdvance("00 % ") else 2
        for i in range(steps + 1):
            x = track.left() + track.width() * i / steps
            painter.setPen(QPen(self._ink(0.18), 1))
            painter.drawLine(QPointF(x, 2), QPointF(x, bottom))
            words = f"{100 * self.limit * i / steps:g}" + (" %" if i == steps else "")
            self._tick(painter, x, bottom + metrics.ascent() + 2, words)


THIS_IMAGE, ALL_IMAGES = "this image", "all images"
KEEP_RATIOS = "ratios/keep"
"""Key of the setting whether fractions are given even if a session does not fit the classes."""


def keeps_ratios() -> bool:
    """Return whether fractions are given even if a session does not fit the classes."""
    return str(settings().value(KEEP_RATIOS, "false")) == "true"


def per_cent(fraction: float) -> str:
    """Format a fraction in per cent; NaN as a dash."""
    return f"{100 * fraction:.1f} %" if math.isfinite(fraction) else "–"


def interval(low: float, high: float) -> str:
    """Format an interval of fractions in per cent."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "–"
    return f"{100 * low:.1f}–{100 * high:.1f}"


def ratio_bars(
    ratios: pd.DataFrame, classes: Sequence[str], reference: Mapping[str, float] | None = None
) -> list[Bar]:
    """Return a bar for each class."""
    return [
        Bar(
            row["class"],
            row["fraction"],
            per_cent(row["fraction"]),
            colour_of(row["class"], classes),
            symbol_of(row["class"], classes),
            row["fraction_low"],
            row["fraction_high"],
            tooltip=f"{row['class']}: {row['count']} clusters, {per_cent(row['fraction'])}, "
            f"interval {interval(row['fraction_low'], row['fraction_high'])} % ({row['method']})",
            reference=reference.get(row["class"], 0.0) if reference else math.nan,
        )
        for _, row in ratios.iterrows()
        if row["class"] not in NON_CLASS_LABELS
    ]
