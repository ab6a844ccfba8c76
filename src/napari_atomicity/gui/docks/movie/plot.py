"""Atomicity of the selected tracks, or the number of clusters of each label, against time.

This plot is painted by Qt: the line of the current frame follows the slider of the viewer, and a
click must find its point, at the rate of the mouse. matplotlib takes 30 ms for each figure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from qtpy.QtCore import QEvent, QPointF, QRectF, Qt, Signal
from qtpy.QtGui import (
    QColor,
    QFontMetricsF,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPolygonF,
)
from qtpy.QtWidgets import QToolTip, QWidget

from ....statistics.scores import atoms_of
from ....tracking.following import TrackedMovie
from ...controls.drawing import Drawing, readable, small

# ---- curves of the chosen tracks
MAX_CURVES = 6
"""Largest number of tracks that are drawn at once."""


@dataclass(frozen=True, eq=False)
class TrackCurve:
    """The atomicity of one track, at the N frames in which it was seen."""

    track_id: int
    # frames, cluster_ids: the frame and the cluster of each point
    frames: np.ndarray
    cluster_ids: np.ndarray
    # number of atoms counted in each frame alone, or the size of the label without a count
    raw: np.ndarray
    smoothed: np.ndarray  # number of atoms of the smoothed label; NaN where it is not a class
    # low, high: the ends of the interval
    low: np.ndarray
    high: np.ndarray
    words: tuple[str, ...]


def curves_of(movie: TrackedMovie, track_ids: Sequence[int]) -> tuple[TrackCurve, ...]:
    """Return the curves of these tracks, in this order."""
    of_track = dict(tuple(movie.table.groupby("track_id")))
    return tuple(_curve(t, of_track[t]) for t in track_ids if t in of_track)


def _curve(track_id: int, rows: pd.DataFrame) -> TrackCurve:
    raw = rows["n_atoms"].to_numpy(float)
    raw = np.where(np.isfinite(raw), raw, _sizes(rows["label"]))
    return TrackCurve(
        track_id,
        rows["frame"].to_numpy(int),
        rows["cluster_id"].to_numpy(int),
        raw,
        _sizes(rows["label_smoothed"]),
        rows["n_smoothed_low"].to_numpy(float),
        rows["n_smoothed_high"].to_numpy(float),
        tuple(_format_point(row) for row in rows.itertuples()),
    )


def _sizes(labels: pd.Series) -> np.ndarray:
    return np.array([np.nan if (n := atoms_of(x)) is None else n for x in labels], float)


def _format_point(row: object) -> str:
    time = "" if np.isnan(row.time_s) else f", {row.time_s:g} s"  # type: ignore[attr-defined]
    label = row.label or "no label"  # type: ignore[attr-defined]
    smoothed = row.label_smoothed  # type: ignore[attr-defined]
    p = f" ({row.p_smoothed:.2f})" if smoothed else ""  # type: ignore[attr-defined]
    return (
        f"track {row.track_id}, frame {row.frame}{time}: {label}, "  # type: ignore[attr-defined]
        f"smoothed {smoothed or 'no label'}{p}"
    )


def counts_over_time(movie: TrackedMovie, labels: Sequence[str]) -> dict[str, np.ndarray]:
    """Count the clusters of each smoothed label in each frame; leave out labels without clusters.

    A cluster that was missed in a frame is counted; one without a label is not.
    """
    n = movie.drift.n_frames
    counts = {label: np.zeros(n, int) for label in labels}
    for track in movie.tracks:
        for label in filter(None, dict.fromkeys(track.label.tolist())):
            at = track.frames[track.label == label]
            counts.setdefault(label, np.zeros(n, int))[at] += 1
    return {label: count for label, count in counts.items() if count.any()}


# Okabe and Ito's, told apart on dark and on light; dashes say it a second time.
_COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#0072b2")
_DASHES: tuple[list[float], ...] = ([], [5, 3], [1.5, 2], [6, 2, 1.5, 2], [9, 3], [3, 3])
_NEAR_PX = 14.0


class TimePlot(Drawing):
    """One panel over time, with a line for the frame that is looked at.

    Signals: ``picked(cluster_id)`` and ``frame_picked(frame)``: a point, or a place beside all of
    them, was clicked.
    """

    picked = Signal(int)
    frame_picked = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent, lines=15)
        self.curves: tuple[TrackCurve, ...] = ()
        self.counts: dict[str, np.ndarray] = {}
        self._colours: Mapping[str, str] = {}
        self._levels: tuple[tuple[str, float], ...] = ()
        self._n_frames, self._frame = 1, 0
        self._frame_time_s: float | None = None
        self._limits = (0.0, 1.0)
        self.title = ""
        self.setAccessibleName("Atomicity against time")
        self.setMouseTracking(True)

    # ---- what is shown
    def show_time(self, n_frames: int, frame_time_s: float | None) -> None:
        """Set the number and the duration of frames."""
        self._n_frames, self._frame_time_s = max(n_frames, 1), frame_time_s
        self.update()

    def show_frame(self, frame: int) -> None:
        """Mark the current frame."""
        if frame != self._frame:
            self._frame = frame
            self.update()

    def show_curves(
        self, curves: Sequence[TrackCurve], levels: Sequence[tuple[str, float]], title: str
    ) -> None:
        """Draw tracks; ``levels`` are the classes and their sizes."""
        self.curves, self.counts, self._levels = tuple(curves), {}, tuple(levels)
        self._say(title)

    def show_counts(
        self, counts: Mapping[str, np.ndarray], colours: Mapping[str, str], title: str
    ) -> None:
        """Draw how many clusters of each label there are."""
        self.curves, self.counts, self._colours = (), dict(counts), colours
        self._say(title)

    def _say(self, title: str) -> None:
        self.title = title
        self._limits = self._find_limits()
        self.setAccessibleDescription(title)
        self.update()

    # ---- geometry
    def box(self) -> QRectF:
        """Where lines are drawn."""
        metrics = QFontMetricsF(small(self.font()))
        line = metrics.height()
        left = metrics.horizontalAdvance("Pt000") + 6
        right = metrics.horizontalAdvance("aggregate") if self.counts else 0.0
        right = max(right, metrics.horizontalAdvance("000"))
        return QRectF(left, 1.4 * line, self.width() - left - right - 8, self.height() - 4.2 * line)

    def limits(self) -> tuple[float, float]:
        """Lowest and highest value."""
        return self._limits

    def _find_limits(self) -> tuple[float, float]:
        if self.counts:
            return 0.0, 1.1 * max(int(c.max()) for c in self.counts.values())
        values = [v for c in self.curves for v in (c.raw, c.smoothed, c.low, c.high)]
        sizes = np.array([size for _, size in self._levels])
        found = np.concatenate([*values, sizes]) if values or len(sizes) else np.zeros(1)
        found = found[np.isfinite(found)]
        if not len(found):
            return 0.0, 1.0
        # one point that went astray should not press all the others flat
        top = float(sizes.max()) * 1.6 if len(sizes) else float(found.max())
        low, high = max(float(found.min()), 0.0), min(float(found.max()), top)
        margin = 0.06 * max(high - low, 1.0)
        return max(low - margin, 0.0), high + margin

    def place(self, frame: float, value: float) -> QPointF:
        """Where a value lies."""
        x, y = self._places(np.array([frame]), np.array([value]))
        return QPointF(float(x[0]), float(y[0]))

    def _places(self, frames: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return x and y of values in the plot; NaN stays NaN."""
        box, (low, high) = self.box(), self._limits
        x = box.left() + box.width() * (frames + 0.5) / self._n_frames
        share = (np.clip(values, low, high) - low) / max(high - low, 1e-9)
        return x, box.bottom() - box.height() * share

    # ---- painting
    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        if not self.title:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(small(self.font()))
        self._frame_and_axes(painter)
        if self.counts:
            self._draw_counts(painter)
        else:
            self._draw_curves(painter)
        painter.end()

    def _frame_and_axes(self, painter: QPainter) -> None:
        box = self.box()
        line = QFontMetricsF(painter.font()).height()
        left = Qt.AlignmentFlag.AlignLeft
        self._write(painter, QRectF(2, 0, self.width() - 4, line), self.title, left)
        painter.setPen(QPen(self._ink(0.25), 1))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(box)
        x = self.place(self._frame, 0).x()
        painter.setPen(QPen(self._ink(0.6), 1, Qt.PenStyle.DotLine))
        painter.drawLine(QPointF(x, box.top()), QPointF(x, box.bottom()))
        for at, words in self._time_ticks():
            x = self.place(at, 0).x()
            painter.setPen(QPen(self._ink(0.4), 1))
            painter.drawLine(QPointF(x, box.bottom()), QPointF(x, box.bottom() + 3))
            place = QRectF(x - 40, box.bottom() + 3, 80, line)
            self._write(painter, place, words, Qt.AlignmentFlag.AlignHCenter)
        unit = "frame" if self._frame_time_s is None else "time (s)"
        below = QRectF(box.left(), box.bottom() + 1.2 * line, box.width(), line)
        self._write(painter, below, unit, Qt.AlignmentFlag.AlignHCenter)
        for value, words in self._value_ticks():
            y = self.place(0, value).y()
            painter.setPen(QPen(self._ink(0.15), 1))
            painter.drawLine(QPointF(box.left(), y), QPointF(box.right(), y))
            place = QRectF(0, y - line / 2, box.left() - 4, line)
            self._write(painter, place, words, Qt.AlignmentFlag.AlignRight)

    def _time_ticks(self) -> list[tuple[float, str]]:
        unit = self._frame_time_s or 1.0
        last = (self._n_frames - 1) * unit
        step = _round_step(last / 4 if last > 0 else 1.0, whole=self._frame_time_s is None)
        ticks = np.arange(0, last + 0.01 * step, step)
        return [(t / unit, f"{t:g}") for t in ticks.tolist()]

    def _value_ticks(self) -> list[tuple[float, str]]:
        low, high = self.limits()
        if self._levels and not self.counts:
            return [(size, name) for name, size in self._levels if low <= size <= high]
        step = _round_step((high - low) / 4, whole=True)
        return [(v, f"{v:g}") for v in np.arange(0, high + 0.01 * step, step).tolist() if v >= low]

    def _draw_curves(self, painter: QPainter) -> None:
        ends = []
        for i, curve in enumerate(self.curves):
            colour = QColor(_COLOURS[i % len(_COLOURS)])
            self._band(painter, curve, colour)
            faint = QColor(colour)
            faint.setAlphaF(0.75)
            # points with a round pen: thousands of ellipses would take their time
            pen = QPen(faint, 4.4)
            pen.setCapStyle(Qt.PenCapStyle.RoundCap)
            painter.setPen(pen)
            seen = np.isfinite(curve.raw)
            painter.drawPoints(_polygon(*self._places(curve.frames[seen], curve.raw[seen])))
            for part in _parts(curve.smoothed):
                self._steps(painter, curve.frames[part], curve.smoothed[part], colour, i)
            known = curve.smoothed[np.isfinite(curve.smoothed)]
            if len(known):
                ends.append((float(known[-1]), str(curve.track_id), colour))
        self._names(painter, ends)

    def _band(self, painter: QPainter, curve: TrackCurve, colour: QColor) -> None:
        faint = QColor(colour)
        faint.setAlphaF(0.22)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(faint)
        for part in _parts(curve.low):
            x, low = self._places(*_stairs(curve.frames[part], curve.low[part]))
            x_high, high = self._places(*_stairs(curve.frames[part], curve.high[part]))
            around = _polygon(np.r_[x_high, x[::-1]], np.r_[high - 2, low[::-1] + 2])
            painter.drawPolygon(around)

    def _steps(
        self, painter: QPainter, frames: np.ndarray, values: np.ndarray, colour: QColor, i: int
    ) -> None:
        points = _polygon(*self._places(*_stairs(frames, values)))
        pen = QPen(colour, 2.2)
        if _DASHES[i % len(_DASHES)]:
            pen.setDashPattern(_DASHES[i % len(_DASHES)])
            pen.setCapStyle(Qt.PenCapStyle.FlatCap)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(pen)
        painter.drawPolyline(points)

    def _names(self, painter: QPainter, ends: Sequence[tuple[float, str, QColor]]) -> None:
        """Write names at the ends of curves (value, name, colour) without overlap."""
        box, line = self.box(), QFontMetricsF(painter.font()).height()
        taken: list[float] = []
        for value, name, colour in ends:
            y = self.place(0, value).y() - line / 2
            while any(abs(y - other) < 0.9 * line for other in taken):
                y += 0.9 * line
            taken.append(y)
            painter.setPen(readable(colour, self.palette().window().color()))
            place = QRectF(box.right() + 4, y, self.width() - box.right() - 4, line)
            painter.drawText(place, Qt.AlignmentFlag.AlignVCenter, name)

    def _draw_counts(self, painter: QPainter) -> None:
        frames = np.arange(self._n_frames)
        ends = []
        ordered = sorted(self.counts.items(), key=lambda item: -int(item[1][-1]))
        for i, (label, count) in enumerate(ordered):
            colour = QColor(self._colours.get(label, "#8c8c8c"))
            self._steps(painter, frames, count.astype(float), colour, i)
            ends.append((float(count[-1]), label or "no label", colour))
        self._names(painter, ends)

    # ---- the mouse
    def nearest(self, place: QPointF) -> tuple[TrackCurve, int] | None:
        """Return the curve and point nearest to a position, if there is one near it."""
        best, found = _NEAR_PX, None
        for curve in self.curves:
            for values in (curve.raw, curve.smoothed):
                x, y = self._places(curve.frames, values)
                away = np.nan_to_num(np.hypot(x - place.x(), y - place.y()), nan=np.inf)
                i = int(np.argmin(away))
                if away[i] < best:
                    best, found = float(away[i]), (curve, i)
        return found

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        if event.button() != Qt.MouseButton.LeftButton or not self.title:
            return
        found = self.nearest(event.position())
        if found is not None:
            self.picked.emit(int(found[0].cluster_ids[found[1]]))
            return
        box = self.box()
        if box.contains(event.position()):
            share = (event.position().x() - box.left()) / box.width()
            self.frame_picked.emit(min(int(share * self._n_frames), self._n_frames - 1))

    def text_at(self, place: QPointF) -> str:
        found = self.nearest(place)
        return "" if found is None else found[0].words[found[1]]

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        QToolTip.showText(event.globalPosition().toPoint(), self.text_at(event.position()), self)

    def leaveEvent(self, event: QEvent) -> None:  # noqa: N802
        QToolTip.hideText()
        super().leaveEvent(event)


def _polygon(x: np.ndarray, y: np.ndarray) -> QPolygonF:
    return QPolygonF([QPointF(*place) for place in zip(x.tolist(), y.tolist(), strict=True)])


def _stairs(frames: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of a line that is level in each frame; none where it goes straight on."""
    x = np.repeat(frames, 2) + np.tile([-0.5, 0.5], len(frames))
    y = np.repeat(values, 2)
    corner = np.ones(len(y), bool)
    corner[1:-1] = (y[1:-1] != y[:-2]) | (y[1:-1] != y[2:])
    return x[corner], y[corner]


def _parts(values: np.ndarray) -> list[slice]:
    """Stretches in which there is a value."""
    known = np.concatenate([[False], np.isfinite(values), [False]])
    edges = np.flatnonzero(np.diff(known.astype(int)))
    return [slice(a, b) for a, b in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)]


def _round_step(about: float, whole: bool) -> float:
    """1, 2 or 5 times a power of ten."""
    if not math.isfinite(about) or about <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(about))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= about * 0.999)
    return max(step, 1.0) if whole else step
