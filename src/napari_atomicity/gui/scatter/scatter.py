"""A scatter plot of many points, drawn by vispy; it knows rows and colours only."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakMethod

import numpy as np
import pandas as pd
from qtpy.QtCore import QEvent, QObject, Qt, QTimer, Signal
from qtpy.QtGui import QCursor, QPalette
from qtpy.QtWidgets import QSizePolicy, QToolTip, QVBoxLayout, QWidget
from scipy.spatial import cKDTree
from vispy import gloo, scene

from ..controls.refresher import single_shot
from .mouse import PAN, ScatterMouse, extent, marker_size, smoothing

# ---- text over a map, readable on any background

_AROUND = np.array([(x, y) for x in (-1.4, 0, 1.4) for y in (-1.4, 0, 1.4) if x or y])
"""Offsets of the halo of a text in pixels."""


class Names:
    """Texts with a halo in the colour of the background.

    Positions are in pixels of the canvas, so that the halo has the same width at any zoom;
    `follow` updates them.
    """

    def __init__(self, parent: scene.Node, order: int) -> None:
        self.halo, self.ink = (
            scene.visuals.Text(parent=parent, font_size=9, bold=True) for _ in range(2)
        )
        self.halo.order, self.ink.order = order, order + 1
        self._at = np.empty((0, 2))
        self._px = np.empty((0, 2))
        self.halo.visible = self.ink.visible = False

    @property
    def visible(self) -> bool:
        return bool(self.ink.visible)

    def show(self, texts: Sequence[str], at: np.ndarray) -> None:
        """Show texts at positions of the map, (K, 2); call `follow` afterwards."""
        self._at, self._px = np.reshape(np.asarray(at, float), (-1, 2)), np.empty((0, 2))
        if len(texts):
            self.ink.text = list(texts)
            self.halo.text = [text for text in texts for _ in _AROUND]
        self.halo.visible = self.ink.visible = len(texts) > 0

    def follow(self, to_canvas: Callable[[np.ndarray], np.ndarray]) -> None:
        """Update the positions; ``to_canvas(positions)`` returns pixels, (K, 2)."""
        if not self.visible:
            return
        px = to_canvas(self._at)
        if not np.array_equal(px, self._px):
            self._px = px
            self.ink.pos = px
            self.halo.pos = (px[:, None] + _AROUND).reshape(-1, 2)

    def paint(self, ink: np.ndarray, paper: np.ndarray) -> None:
        """Set the colours of the theme, RGBA."""
        self.ink.color, self.halo.color = ink, paper


# ---- motion in a plot of many points, with fewer points where drawing is slow

FRAME_MS = 40.0
"""Largest duration of a frame during motion; above it, only some points are drawn."""

MOVE_MS = 300
"""Duration of a transition."""

MIN_POINTS = 5000
"""Smallest number of points that are drawn."""

_STEP_MS = 16
_REST_MS = 150


class Transition(QObject):
    """Animated transition from one set of positions to another."""

    def __init__(self, show: Callable[[np.ndarray], object], parent: QObject) -> None:
        super().__init__(parent)
        self._show = show
        self._way: tuple[np.ndarray, np.ndarray] | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(_STEP_MS)
        self._timer.timeout.connect(self._step)

    def start(self, here: np.ndarray, there: np.ndarray, duration_ms: int = MOVE_MS) -> None:
        """Start a transition; a running one stops at its current positions."""
        self._way = here, there
        self._duration_s = max(duration_ms / 1000, 1e-3)
        self._until_s = time.monotonic() + self._duration_s
        self._timer.start()

    def arrive(self) -> None:
        """Jump to the final positions."""
        if self._way is not None:
            _, there = self._way
            self._way = None
            self._timer.stop()
            self._show(there)

    def _step(self) -> None:
        left = max(0.0, self._until_s - time.monotonic()) / self._duration_s
        if self._way is None or left <= 0:
            self._timer.stop()
            self.arrive()
            return
        here, there = self._way
        share = (1 - left) ** 2 * (1 + 2 * left)  # starts and stops gently
        self._show(here + (there - here) * np.float32(share))


class FrameLimiter(QObject):
    """Chooses how many points to draw during motion, from the duration of a full frame."""

    def __init__(self, draw_some: Callable[[np.ndarray | None], object], parent: QObject) -> None:
        super().__init__(parent)
        self._draw_some = draw_some
        self._n = 0
        self._whole_ms = 0.0
        self.hurried = False  # whether some points are left out
        self._rest = single_shot(self.rest, _REST_MS, owner=self)

    def begin(self, n: int) -> None:
        """Start with n new points."""
        self.rest()
        self._n, self._whole_ms = n, 0.0

    @property
    def wants_time(self) -> bool:
        """Whether the duration of the next frame is needed."""
        return self._n > MIN_POINTS and not self.hurried

    def note(self, frame_ms: float) -> None:
        """Record the duration of a frame of all points."""
        self._whole_ms = frame_ms

    def hurry(self) -> None:
        """Draw fewer points during motion if needed."""
        if not self.hurried and self._whole_ms > FRAME_MS:
            n = max(MIN_POINTS, int(self._n * FRAME_MS / self._whole_ms))
            if n < self._n:
                self.hurried = True
                # In their order, so that the stacking of points is kept.
                chosen = np.random.default_rng(0).choice(self._n, n, replace=False)
                self._draw_some(np.sort(chosen))
        if self.hurried:
            self._rest.start()

    def rest(self) -> None:
        """Draw all points again after motion."""
        self._rest.stop()
        if self.hurried:
            self.hurried = False
            self._draw_some(None)


PICK_RADIUS_PX = 10
"""Largest distance of the mouse from a point, in logical pixels."""

# Symbols that cover less of their box are drawn larger, so that all weigh the same.
_SIZE = {"star": 1.5, "triangle_up": 1.2, "triangle_down": 1.2, "diamond": 1.25, "cross": 1.15}


class Scatter(QWidget):
    """Points in a plane, with a background cloud, a highlight, a lasso and a rectangle.

    Drag pans (with the middle button always), the wheel zooms, a click picks the nearest point;
    Shift and drag, or drag with another `tool`, draws a lasso or a rectangle, which Escape ends.
    Shift adds to what is picked, Ctrl takes away.

    Signals: ``picked(rows, mode)`` with mode "replace", "add" or "remove"; ``activated(row)`` at
    a double click.
    """

    picked = Signal(object, str)
    activated = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._tooltip: WeakMethod[Callable[[int], str]] | None = None
        self._xy = np.empty((0, 2), np.float32)
        self._rows = np.empty(0, np.int64)  # of the points that are drawn
        self._tree: cKDTree | None = None
        self._background = np.empty((0, 2), np.float32)
        self._highlighted = np.empty(0, np.int64)
        self._user_moved = False
        self._mouse = ScatterMouse(self, self)
        self._mouse.picked.connect(self.picked)
        self._mouse.activated.connect(self.activated)

        self._style: tuple[np.ndarray, Sequence[str] | np.ndarray, np.ndarray] | None = None
        self._frame_start_s = 0.0
        self._frame_limiter = FrameLimiter(self._draw_some, self)
        self._transition = Transition(self._show_places, self)
        self._background_style: tuple[np.ndarray, np.ndarray] | None = None
        self._name_positions: tuple[list[str], np.ndarray] = [], np.empty((0, 2))

        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.setMinimumSize(120, 120)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self._renewal = single_shot(self._renew_canvas, owner=self)
        self._make_canvas()
        self._apply_theme()

    def set_tooltip(self, method: Callable[[int], str]) -> None:
        """Set the bound method that returns the tooltip of a row, as text or rich text.

        It is held weakly: a dock in a cycle of references is left to the garbage collector, which
        crashes with PySide6.
        """
        self._tooltip = WeakMethod(method)

    def _make_canvas(self) -> None:
        self.canvas = scene.SceneCanvas(keys=None, show=False)
        self._initialised = False
        self.canvas.events.initialize.connect(self._on_initialise)
        self.canvas.events.draw.connect(self._before_frame, position="first")
        self.canvas.events.draw.connect(self._after_frame, position="last")
        view = self.canvas.central_widget.add_view()
        view.camera = scene.PanZoomCamera(aspect=1)
        self._view = view
        self._behind = self._markers(view.scene, order=0)
        self._points = self._markers(view.scene, order=1)
        self._rings = self._markers(view.scene, order=2)
        self._names = Names(self.canvas.scene, order=3)
        self._line = scene.visuals.Line(parent=self.canvas.scene, width=1.5, antialias=True)
        self._line.visible = False

        native = self.canvas.native
        native.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        native.setMouseTracking(True)
        # Before vispy, which drops moves that follow one another quickly and renders the scene at
        # each click to find out what was hit.
        native.installEventFilter(self._mouse)
        self.layout().addWidget(native)
        self.tool = self._mouse.tool

    def _on_initialise(self, event: Any) -> None:
        # Qt makes a new OpenGL context when the dock floats or returns; what vispy has sent to
        # the old one is gone.
        if self._initialised:
            self.canvas.events.draw.block()
            # What still waits to be sent belongs to the old one as well.
            self.canvas.context.glir.clear()
            self._renewal.start(0)
        self._initialised = True

    def _renew_canvas(self) -> None:
        """Replace the canvas by a new one with the same content."""
        old, rect, moved = self.canvas, self._view.camera.rect, self._user_moved
        old.native.removeEventFilter(self._mouse)
        self.layout().removeWidget(old.native)
        old.events.initialize.disconnect(self._on_initialise)
        old.events.draw.disconnect(self._before_frame)
        old.events.draw.disconnect(self._after_frame)
        self._mouse.end_drag()
        self._make_canvas()
        old.close()
        old.native.deleteLater()
        if self._background_style is not None:
            self.set_background(*self._background_style)
        self.set_names(*self._name_positions)
        self._apply_theme()
        if self._style is not None:
            self.set_style(*self._style)
        self._view.camera.rect = rect
        self._user_moved = moved

    @staticmethod
    def _markers(parent: scene.Node, order: int) -> scene.visuals.Markers:
        markers = scene.visuals.Markers(parent=parent)
        markers.set_gl_state("translucent", depth_test=False)
        markers.order = order
        markers.visible = False
        return markers

    # ---- data
    @property
    def positions(self) -> np.ndarray:
        """(N, 2) float32; rows that are not finite are not drawn."""
        return self._xy

    def set_points(self, xy: np.ndarray) -> None:
        """Set positions, (N, 2), and clear the highlight; call `set_style` afterwards."""
        self._transition.arrive()
        self._xy = np.ascontiguousarray(xy, np.float32).reshape(-1, 2)
        self._rows = np.flatnonzero(np.isfinite(self._xy).all(axis=1))
        self._tree = None
        self._mouse.forget_hovered()
        self._points.visible = False
        self._points.set_data(None)
        self._style = None
        self._frame_limiter.begin(len(self._rows))
        self.set_highlight(np.empty(0, np.int64))

    def set_style(
        self, face: np.ndarray, symbol: Sequence[str] | np.ndarray, emphasised: np.ndarray
    ) -> None:
        """Set the style of all points; the positions are kept."""
        self._style = face, symbol, emphasised
        rows = self._rows
        if not len(rows):
            self._points.visible = False
            return
        points = self._points
        if points._data is None:
            points.set_data(self._xy[rows])
        data = points._data
        strong = np.asarray(emphasised, bool)[rows]
        code, shapes = pd.factorize(np.asarray(symbol, object)[rows])
        size = np.array([_SIZE.get(name, 1.0) for name in shapes], np.float32)[code]
        size[strong] *= 1.35  # room for the edge
        # Written into vispy's buffer, because its set_data checks the symbols one by one.
        data["a_size"] = marker_size(len(rows)) * size
        data["a_bg_color"] = np.asarray(face, np.float32)[rows]
        data["a_fg_color"] = [0, 0, 0, 0.6]
        data["a_fg_color"][strong] = self._ink
        points.antialias = smoothing(len(rows))
        data["a_edgewidth"] = np.where(strong, 1.4, 0.5 * points.antialias)
        values = points._symbol_shader_values
        data["a_symbol"] = np.array([values[name] for name in shapes], np.float32)[code]
        self._send()
        points.visible = True

    def _send(self) -> None:
        """Send the points to the graphics card with the next frame."""
        self._points._vbo.set_data(self._points._data)
        self._points.update()
        self.canvas.update()

    def move_to(self, xy: np.ndarray, duration_ms: int = MOVE_MS) -> None:
        """Animate the points to other positions, (N, 2), finite for all points.

        Style, highlight and view are kept. Frames that would be late are skipped.
        """
        end = np.where(np.isfinite(self._xy), np.asarray(xy, np.float32), np.nan)
        if end.shape != self._xy.shape or np.isnan(end[self._rows]).any():
            raise ValueError("points can only move between finite positions")
        self._transition.start(self._xy, end, duration_ms)

    def _show_places(self, xy: np.ndarray) -> None:
        self._xy, self._tree = xy, None
        if self._points._data is not None:
            self._frame_limiter.hurry()
            self._points._data["a_position"][:, :2] = xy[self._rows]
            self._send()
        if len(self._highlighted):
            self.set_highlight(self._highlighted)

    def set_background(self, xy: np.ndarray, face: np.ndarray) -> None:
        """Set a faint cloud behind the points."""
        self._background_style = xy, face
        keep = np.isfinite(xy).all(axis=1)
        self._background = np.ascontiguousarray(xy[keep], np.float32)
        self._behind.visible = bool(keep.any())
        if keep.any():
            self._behind.set_data(
                self._background,
                size=4.0,
                face_color=np.asarray(face, np.float32)[keep],
                edge_width=0,
                symbol="disc",
            )
        self.canvas.update()

    def set_names(self, names: Sequence[str], at: np.ndarray) -> None:
        """Set the texts over the points."""
        self._name_positions = list(names), np.reshape(np.asarray(at, float), (-1, 2))
        self._names.show(*self._name_positions)
        self._names.follow(self.to_canvas)
        self.canvas.update()

    @property
    def names(self) -> tuple[list[str], np.ndarray]:
        """Texts over the points, and their positions, (K, 2)."""
        return self._name_positions

    @property
    def highlighted(self) -> np.ndarray:
        """Rows with a ring, sorted, without rows that are not drawn."""
        return self._highlighted

    def set_highlight(self, rows: np.ndarray) -> None:
        """Draw rings around these rows only."""
        rows = np.unique(np.asarray(rows, np.int64))
        rows = rows[np.isfinite(self._xy[rows]).all(axis=1)]
        self._highlighted = rows
        self._rings.visible = len(rows) > 0
        if len(rows):
            # Many rings are thinner, so that the points stay visible.
            width = float(np.clip(2.4 - 0.5 * np.log10(len(rows)), 0.8, 2.0))
            self._rings.antialias = smoothing(len(rows))
            self._rings.set_data(
                self._xy[rows],
                size=marker_size(len(self._rows)) + 1 + 2 * width,
                face_color=(0, 0, 0, 0),
                edge_color=tuple(self._ink),
                edge_width=width,
                symbol="disc",
            )
        self.canvas.update()

    # ---- view
    @property
    def tool(self) -> str:
        """Action of a plain drag: `PAN`, `LASSO` or `RECTANGLE`."""
        return self._mouse.tool

    @tool.setter
    def tool(self, tool: str) -> None:
        self._mouse.tool = tool
        self.canvas.native.setCursor(
            Qt.CursorShape.ArrowCursor if tool == PAN else Qt.CursorShape.CrossCursor
        )

    @property
    def user_moved(self) -> bool:
        """Whether the user has panned or zoomed since the last `fit`."""
        return self._user_moved

    @property
    def view(self) -> tuple[float, float, float, float]:
        """Left, bottom, width and height of the visible region."""
        rect = self._view.camera.rect
        return rect.left, rect.bottom, rect.width, rect.height

    @view.setter
    def view(self, view: tuple[float, float, float, float]) -> None:
        self._view.camera.rect = view
        self._user_moved = True

    def fit(self) -> None:
        """Show all points and the whole background."""
        rect = extent(self._xy, self._background)
        if rect is not None:
            self._view.camera.rect = rect
        self._user_moved = False

    def to_canvas(self, xy: np.ndarray) -> np.ndarray:
        """Convert positions (N, 2) to logical pixels (N, 2) from the top left of the canvas."""
        xy = np.atleast_2d(np.asarray(xy, float))
        mapped = self._view.scene.transform.map(np.column_stack([xy, np.zeros(len(xy))]))
        return mapped[:, :2] / mapped[:, 3:4]

    def to_data(self, px: np.ndarray) -> np.ndarray:
        """Convert logical pixels to positions, the inverse of `to_canvas`."""
        px = np.atleast_2d(np.asarray(px, float))
        mapped = self._view.scene.transform.imap(np.column_stack([px, np.zeros(len(px))]))
        return mapped[:, :2] / mapped[:, 3:4]

    def row_at(self, px: Sequence[float]) -> int:
        """Return the row nearest to a canvas position within `PICK_RADIUS_PX`, or -1."""
        if not len(self._rows):
            return -1
        if self._tree is None:
            # Balance takes longer to make than it saves.
            self._tree = cKDTree(self._xy[self._rows], compact_nodes=False, balanced_tree=False)
        here, beside = self.to_data(np.array([px, np.add(px, (PICK_RADIUS_PX, 0))]))
        # Equal scales along x and y: the nearest in the plane is the nearest on the screen.
        _, index = self._tree.query(here, distance_upper_bound=np.hypot(*(beside - here)))
        return int(self._rows[index]) if index < len(self._rows) else -1

    # ---- what the mouse does, see `mouse.ScatterMouse`
    def pan(self, offset: np.ndarray) -> None:
        """Move the view by an offset in data coordinates, (2,)."""
        self._view.camera.pan(offset)
        self._user_moved = True
        self._frame_limiter.hurry()

    def zoom(self, factor: float, centre: np.ndarray) -> None:
        """Enlarge what is shown by a factor around a centre in data coordinates, (2,)."""
        self._view.camera.zoom(1 / factor, tuple(centre))
        self._user_moved = True
        self._frame_limiter.hurry()

    def show_path(self, path: list[np.ndarray]) -> None:
        """Draw a closed path of canvas positions; an empty one hides the line."""
        self._line.visible = bool(path)
        if path:
            self._line.set_data(pos=np.array([*path, path[0]]), color=self._ink)
            self._frame_limiter.hurry()
        self.canvas.update()

    def show_tooltip(self, row: int) -> None:
        """Show the tooltip of a row at the mouse; hide it for row -1."""
        text_of = None if self._tooltip is None else self._tooltip()
        if row >= 0 and text_of is not None:
            QToolTip.showText(QCursor.pos(), text_of(row), self.canvas.native)
        else:
            QToolTip.hideText()

    # ---- frames
    def _before_frame(self, event: object) -> None:
        self._names.follow(self.to_canvas)
        self._frame_start_s = time.perf_counter()

    def _after_frame(self, event: object) -> None:
        if self._frame_limiter.wants_time:
            gloo.gl.glFinish()  # wait for the graphics card
            self._frame_limiter.note(1000 * (time.perf_counter() - self._frame_start_s))

    def _draw_some(self, rows: np.ndarray | None) -> None:
        some = None if rows is None else gloo.IndexBuffer(rows.astype(np.uint32))
        self._points._index_buffer = some
        self.canvas.update()

    # ---- theme
    theme_changed = Signal()

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        super().changeEvent(event)
        if event.type() in (QEvent.Type.StyleChange, QEvent.Type.PaletteChange):
            self._apply_theme()
            self.theme_changed.emit()

    def _apply_theme(self) -> None:
        palette = self.palette()
        self._paper = np.array(palette.color(QPalette.ColorRole.Window).getRgbF())
        self._ink = np.array(palette.color(QPalette.ColorRole.WindowText).getRgbF())
        self.canvas.bgcolor = self._paper
        self._names.paint(self._ink, self._paper)
        self.set_highlight(self._highlighted)
