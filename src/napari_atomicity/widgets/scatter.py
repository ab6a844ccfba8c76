"""A scatter plot for very many points: pick, lasso, hover; drawn by vispy.

It knows rows and colours, neither clusters nor the session.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.path import Path as Polygon
from qtpy.QtCore import QEvent, QObject, Qt, QTimer, Signal
from qtpy.QtGui import QCursor, QKeyEvent, QMouseEvent, QPalette, QWheelEvent
from qtpy.QtWidgets import QSizePolicy, QToolTip, QVBoxLayout, QWidget
from scipy.spatial import cKDTree
from vispy import scene

PICK_RADIUS_PX = 10
"""How near to a point the mouse must be, in logical pixels of the screen."""

_DRAG_PX = 4
_LASSO_STEP_PX = 2
_ZOOM_PER_NOTCH = 1.15
_MARGIN = 0.06

# Symbols that cover less of their box are drawn larger, so that all weigh the same.
_SIZE = {"star": 1.5, "triangle_up": 1.2, "triangle_down": 1.2, "diamond": 1.25, "cross": 1.15}

REPLACE, ADD, REMOVE = "replace", "add", "remove"


def rows_in_polygon(xy: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Indices of the points that lie in a closed polygon.

    Parameters
    ----------
    xy
        (N, 2) positions; those that are not finite are in no polygon.
    polygon
        (M, 2) corners in the same coordinates.

    Returns
    -------
    numpy.ndarray
        Sorted indices, int64.
    """
    if len(polygon) < 3 or not len(xy):
        return np.empty(0, np.int64)
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    # The box first: it is cheap and leaves few candidates. NaN compares false.
    near = np.flatnonzero(((xy >= low) & (xy <= high)).all(axis=1))
    return near[Polygon(polygon).contains_points(xy[near])]


def marker_size(n: int) -> float:
    """Diameter of the points in logical pixels, smaller where there are very many."""
    return float(np.clip(16.0 - 2.3 * np.log10(max(n, 1)), 4.0, 11.0))


def extent(*clouds: np.ndarray) -> tuple[float, float, float, float] | None:
    """Left, bottom, width and height around all finite points, with a margin; None if none."""
    finite = [c[np.isfinite(c).all(axis=1)] for c in clouds if len(c)]
    points = np.concatenate(finite) if finite else np.empty((0, 2))
    if not len(points):
        return None
    low, high = points.min(axis=0), points.max(axis=0)
    size = np.maximum(high - low, 1e-3 + 0.05 * np.abs(high - low).max())
    low = low - (size - (high - low)) / 2 - _MARGIN * size
    width, height = size * (1 + 2 * _MARGIN)
    return float(low[0]), float(low[1]), float(width), float(height)


class Scatter(QWidget):
    """Points in a plane, with a background cloud, a highlight and a lasso.

    Drag pans (with the middle button always), the wheel zooms, a click picks the nearest point;
    Shift and drag, or drag while `lasso` is on, draws a lasso, which Escape ends. Shift adds to
    what is picked, Ctrl takes away.

    Signals: ``picked(rows, mode)`` with mode "replace", "add" or "remove"; ``activated(row)`` at
    a double click.
    """

    picked = Signal(object, str)
    activated = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.tooltip: Callable[[int], str] | None = None
        """The words for the point under the mouse."""
        self._xy = np.empty((0, 2), np.float32)
        self._rows = np.empty(0, np.int64)  # of the points that are drawn
        self._tree: cKDTree | None = None
        self._background = np.empty((0, 2), np.float32)
        self._highlighted = np.empty(0, np.int64)
        self._hovered = -1
        self._lasso = False
        self._press: np.ndarray | None = None
        self._last = np.zeros(2)
        self._dragging = False
        self._path: list[np.ndarray] | None = None
        self._user_moved = False
        kinds = QEvent.Type
        self._handlers: dict[QEvent.Type, Callable[..., bool]] = {
            kinds.MouseButtonPress: self._on_press,
            kinds.MouseMove: self._on_move,
            kinds.MouseButtonRelease: self._on_release,
            kinds.MouseButtonDblClick: self._on_double_click,
            kinds.Wheel: self._on_wheel,
            kinds.Leave: self._on_leave,
            kinds.KeyPress: self._on_key,
        }

        self._style: tuple[np.ndarray, Sequence[str] | np.ndarray, np.ndarray] | None = None
        self._ground: tuple | None = None

        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.setMinimumSize(120, 120)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self._renewal = QTimer(self)
        self._renewal.setSingleShot(True)
        self._renewal.timeout.connect(self._renew_canvas)
        self._make_canvas()
        self._apply_theme()

    def _make_canvas(self) -> None:
        self.canvas = scene.SceneCanvas(keys=None, show=False)
        self._initialised = False
        self.canvas.events.initialize.connect(self._on_initialise)
        view = self.canvas.central_widget.add_view()
        view.camera = scene.PanZoomCamera(aspect=1)
        self._view = view
        self._behind = self._markers(view.scene, order=0)
        self._points = self._markers(view.scene, order=1)
        self._rings = self._markers(view.scene, order=2)
        self._names = scene.visuals.Text(
            parent=view.scene, font_size=9, bold=True, anchor_y="bottom"
        )
        self._names.order = 3
        self._names.visible = False
        self._line = scene.visuals.Line(parent=self.canvas.scene, width=1.5, antialias=True)
        self._line.visible = False

        native = self.canvas.native
        native.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        native.setMouseTracking(True)
        # Before vispy, which drops moves that follow one another quickly and renders the scene at
        # each click to find out what was hit.
        native.installEventFilter(self)
        self.layout().addWidget(native)
        self.lasso = self._lasso

    def _on_initialise(self, event) -> None:
        # Qt makes a new OpenGL context when the dock floats or returns; what vispy has sent to
        # the old one is gone.
        if self._initialised:
            self.canvas.events.draw.block()
            self._renewal.start(0)
        self._initialised = True

    def _renew_canvas(self) -> None:
        """The same picture on a new canvas."""
        old, rect, moved = self.canvas, self._view.camera.rect, self._user_moved
        old.native.removeEventFilter(self)
        self.layout().removeWidget(old.native)
        old.events.initialize.disconnect(self._on_initialise)
        self._end_drag()
        self._make_canvas()
        old.close()
        old.native.deleteLater()
        if self._ground is not None:
            self.set_background(*self._ground)
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
        """New positions, (N, 2); the highlight is gone, and `set_style` must follow."""
        self._xy = np.ascontiguousarray(xy, np.float32).reshape(-1, 2)
        self._rows = np.flatnonzero(np.isfinite(self._xy).all(axis=1))
        self._tree = None
        self._hovered = -1
        self._points.visible = False
        self._style = None
        self.set_highlight(np.empty(0, np.int64))

    def set_style(
        self, face: np.ndarray, symbol: Sequence[str] | np.ndarray, emphasised: np.ndarray
    ) -> None:
        """Looks of all N points; the positions stay.

        Parameters
        ----------
        face
            (N, 4) RGBA in 0 to 1.
        symbol
            N names of napari symbols.
        emphasised
            (N,) bool: those with a strong edge.
        """
        self._style = face, symbol, emphasised
        rows = self._rows
        if not len(rows):
            self._points.visible = False
            return
        strong = np.asarray(emphasised, bool)[rows]
        edge = np.where(strong[:, None], self._ink, [0, 0, 0, 0.6])
        shapes = np.asarray(symbol, object)[rows]
        size = np.ones(len(rows), np.float32)
        for name, factor in _SIZE.items():
            size[shapes == name] = factor
        size[strong] *= 1.35  # room for the edge
        self._points.set_data(
            self._xy[rows],
            size=marker_size(len(rows)) * size,
            face_color=np.asarray(face, np.float32)[rows],
            edge_color=edge.astype(np.float32),
            edge_width=np.where(strong, 1.4, 0.5).astype(np.float32),
            symbol=shapes,
        )
        self._points.visible = True
        self.canvas.update()

    def set_background(
        self,
        xy: np.ndarray,
        face: np.ndarray,
        names: Sequence[str] = (),
        at: np.ndarray | None = None,
    ) -> None:
        """A faint cloud behind the points, with names written over it.

        Parameters
        ----------
        xy, face
            (M, 2) positions and (M, 4) RGBA.
        names, at
            K words and where to write them, (K, 2).
        """
        self._ground = xy, face, names, at
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
        self._names.visible = len(names) > 0
        if len(names):
            self._names.text = list(names)
            self._names.pos = np.asarray(at, np.float32)
        self.canvas.update()

    @property
    def highlighted(self) -> np.ndarray:
        """Rows that are ringed, sorted; those that are not drawn are left out."""
        return self._highlighted

    def set_highlight(self, rows: np.ndarray) -> None:
        """Ring these rows and no others; nothing else is drawn anew."""
        rows = np.unique(np.asarray(rows, np.int64))
        rows = rows[np.isfinite(self._xy[rows]).all(axis=1)]
        self._highlighted = rows
        self._rings.visible = len(rows) > 0
        if len(rows):
            self._rings.set_data(
                self._xy[rows],
                size=marker_size(len(self._rows)) + 5,
                face_color=(0, 0, 0, 0),
                edge_color=tuple(self._ink),
                edge_width=2.0,
                symbol="disc",
            )
        self.canvas.update()

    # ---- view
    @property
    def lasso(self) -> bool:
        """Whether a plain drag draws a lasso; otherwise it pans."""
        return self._lasso

    @lasso.setter
    def lasso(self, on: bool) -> None:
        self._lasso = bool(on)
        self.canvas.native.setCursor(
            Qt.CursorShape.CrossCursor if on else Qt.CursorShape.ArrowCursor
        )

    @property
    def user_moved(self) -> bool:
        """Whether somebody has panned or zoomed since the last `fit`."""
        return self._user_moved

    def fit(self) -> None:
        """Show all points and the whole background."""
        rect = extent(self._xy, self._background)
        if rect is not None:
            self._view.camera.rect = rect
        self._user_moved = False

    def to_canvas(self, xy: np.ndarray) -> np.ndarray:
        """Positions (N, 2) → logical pixels (N, 2) of the canvas, origin in its top left corner."""
        xy = np.atleast_2d(np.asarray(xy, float))
        mapped = self._view.scene.transform.map(np.column_stack([xy, np.zeros(len(xy))]))
        return mapped[:, :2] / mapped[:, 3:4]

    def to_data(self, px: np.ndarray) -> np.ndarray:
        """The inverse of `to_canvas`."""
        px = np.atleast_2d(np.asarray(px, float))
        mapped = self._view.scene.transform.imap(np.column_stack([px, np.zeros(len(px))]))
        return mapped[:, :2] / mapped[:, 3:4]

    def row_at(self, px: Sequence[float]) -> int:
        """The row nearest to a place on the canvas within `PICK_RADIUS_PX`, or -1."""
        if not len(self._rows):
            return -1
        if self._tree is None:
            self._tree = cKDTree(self._xy[self._rows])
        here, beside = self.to_data(np.array([px, np.add(px, (PICK_RADIUS_PX, 0))]))
        # Equal scales along x and y: the nearest in the plane is the nearest on the screen.
        _, index = self._tree.query(here, distance_upper_bound=np.hypot(*(beside - here)))
        return int(self._rows[index]) if index < len(self._rows) else -1

    # ---- mouse and keys
    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Take the events of the canvas that are for the plot; vispy sees the others."""
        handle = self._handlers.get(event.type())
        return handle(event) if handle is not None else False

    def _on_press(self, event: QMouseEvent) -> bool:
        QToolTip.hideText()
        self._end_drag()
        if event.button() in (Qt.MouseButton.LeftButton, Qt.MouseButton.MiddleButton):
            self._press = self._last = _place(event)
            keys = _SHIFT | _CONTROL
            drawing = self._lasso or bool(event.modifiers() & keys)
            if drawing and event.button() == Qt.MouseButton.LeftButton:
                self._path = [self._press]
        return True

    def _on_move(self, event: QMouseEvent) -> bool:
        here = _place(event)
        if self._press is None:
            self._hover(here)
        elif self._dragging or np.hypot(*(here - self._press)) >= _DRAG_PX:
            self._dragging = True
            self._drag_to(here)
        return True

    def _drag_to(self, here: np.ndarray) -> None:
        if self._path is None:
            before, now = self.to_data(np.array([self._last, here]))
            self._view.camera.pan(before - now)
            self._user_moved = True
        elif np.hypot(*(here - self._path[-1])) >= _LASSO_STEP_PX:
            self._path.append(here)
            self._line.set_data(pos=np.array([*self._path, self._path[0]]), color=self._ink)
            self._line.visible = True
            self.canvas.update()
        self._last = here

    def _on_release(self, event: QMouseEvent) -> bool:
        path, dragged, press = self._path, self._dragging, self._press
        self._end_drag()
        mode = _mode(event.modifiers())
        if press is None or event.button() != Qt.MouseButton.LeftButton:
            return True
        if not dragged:
            row = self.row_at(press)
            if mode == ADD and row in self._highlighted:
                mode = REMOVE  # a second Shift-click takes it back
            if row >= 0 or mode == REPLACE:
                self.picked.emit(np.array([row] if row >= 0 else [], np.int64), mode)
        elif path is not None:
            self.picked.emit(rows_in_polygon(self._xy, self.to_data(np.array(path))), mode)
        return True

    def _on_double_click(self, event: QMouseEvent) -> bool:
        row = self.row_at(_place(event))
        if event.button() == Qt.MouseButton.LeftButton and row >= 0:
            self.activated.emit(row)
        return True

    def _on_wheel(self, event: QWheelEvent) -> bool:
        centre = self.to_data(_place(event))[0]
        notches = event.angleDelta().y() / 120
        self._view.camera.zoom(_ZOOM_PER_NOTCH**-notches, tuple(centre))
        self._user_moved = True
        return True

    def _on_leave(self, event: QEvent) -> bool:
        self._hovered = -1
        return False

    def _on_key(self, event: QKeyEvent) -> bool:
        if event.key() != Qt.Key.Key_Escape or self._press is None:
            return False
        self._end_drag()
        return True

    def _end_drag(self) -> None:
        self._press, self._path, self._dragging = None, None, False
        self._line.visible = False
        self.canvas.update()

    def _hover(self, here: np.ndarray) -> None:
        row = self.row_at(here)
        if row == self._hovered:
            return
        self._hovered = row
        if row >= 0 and self.tooltip is not None:
            QToolTip.showText(QCursor.pos(), self.tooltip(row), self.canvas.native)
        else:
            QToolTip.hideText()

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
        self._names.color = self._ink
        self.set_highlight(self._highlighted)


_SHIFT = Qt.KeyboardModifier.ShiftModifier
_CONTROL = Qt.KeyboardModifier.ControlModifier


def _mode(modifiers: Qt.KeyboardModifier) -> str:
    if modifiers & _CONTROL:
        return REMOVE
    return ADD if modifiers & _SHIFT else REPLACE


def _place(event: QMouseEvent | QWheelEvent) -> np.ndarray:
    """Where the mouse is, in logical pixels of the canvas."""
    return np.array([event.position().x(), event.position().y()])
