"""What differs between napari 0.8 and 0.9, and what napari does too late or too often."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, partial
from typing import Any

import numpy as np
from napari.layers import Points, Shapes
from napari.settings import get_settings
from qtpy.compat import isalive
from qtpy.QtCore import QTimer

from ...controls.chart import load_matplotlib

AFTER_START_MS = 3000
"""First, the window shows what there is."""
_CORNERS = np.array([[0.0, 0.0], [0.0, 9.0], [8.0, 9.0], [7.0, 1.0]])


def scale_bar(viewer: Any) -> Any:
    """Return the overlay with the scale bar."""
    overlays = getattr(getattr(viewer, "canvas", None), "overlays", None)
    return viewer.scale_bar if overlays is None else overlays.scale_bar


def text_overlay(viewer: Any) -> Any:
    """Return the overlay with text in a corner of the canvas."""
    overlays = getattr(getattr(viewer, "canvas", None), "overlays", None)
    return viewer.text_overlay if overlays is None else overlays.text


def camera(viewer: Any) -> Any:
    """Return the camera."""
    scene = getattr(viewer, "scene", None)
    return viewer.camera if scene is None else scene.camera


def grid(viewer: Any) -> Any:
    """Return the grid in which layers can be arranged."""
    found = getattr(getattr(viewer, "canvas", None), "grid", None)
    return viewer.grid if found is None else found


def canvas_size(viewer: Any) -> tuple[float, float]:
    """Return height and width of the canvas in screen pixels."""
    size = getattr(getattr(viewer, "canvas", None), "size", None)
    height, width = viewer._canvas_size if size is None else size
    return float(height), float(width)


def on_canvas_size(viewer: Any, run: Callable[..., object]) -> None:
    """Call a method whenever the canvas has got another size; napari 0.8 does not tell it."""
    events = getattr(getattr(viewer, "canvas", None), "events", None)
    if hasattr(events, "size"):
        events.size.connect(run)


def is_dragging(viewer: Any) -> bool:
    """Whether a person holds the mouse pressed on the canvas, to draw or to move something."""
    targets = (viewer, *viewer.layers)
    return any(target._mouse_drag_gen for target in targets)  # napari has no public name for it


@cache
def compile_shapes_soon() -> None:
    """Compile what napari compiles with numba for the first polygon of a process, in a thread.

    In the window's thread, this would take seconds when a person begins to draw.
    """
    QTimer.singleShot(AFTER_START_MS, partial(_run_in_thread, compile_shapes))


@cache
def import_soon() -> None:
    """Import what the first analysis and the first figure need, in a thread."""
    QTimer.singleShot(AFTER_START_MS, partial(_run_in_thread, _import_rest))


def _import_rest() -> None:
    from ....models import inference  # noqa: F401  # with PyTorch, which takes seconds

    load_matplotlib()


def _run_in_thread(run: Callable[[], None]) -> None:
    # Not a daemon: the compiler must not be at work while the process ends.
    threading.Thread(target=run, name=run.__name__).start()


def compile_shapes() -> None:
    """Draw polygons and a path in layers that nobody sees, of an image and of a stack."""
    crossing = _CORNERS[[0, 2, 1, 3]]
    for ndim in (2, 3):  # arrays of a stack are not contiguous: other functions
        layer = Shapes(ndim=ndim)
        first = np.zeros((ndim - 2, len(_CORNERS)))
        corners, crossed = (np.column_stack([*first, places]) for places in (_CORNERS, crossing))
        layer.add_paths([corners])
        layer.add_polygons([corners, crossed])


def has_window(viewer: Any) -> bool:
    """Return whether the window of a viewer is there, and not closed or deleted."""
    window = getattr(viewer.window, "_qt_window", None)  # napari has no public name for it
    return window is not None and isalive(window)


def is_shown(viewer: Any) -> bool:
    """Return whether a person sees the window of a viewer, and can answer a question."""
    return has_window(viewer) and viewer.window._qt_window.isVisible()


def hide_selection_markers(viewer: Any, layer: Any) -> None:
    """Hide napari's own marks of selected points, whose colour may be that of a class."""
    window = getattr(viewer.window, "_qt_viewer", None)  # napari has no public name for it
    visual = None if window is None else window.canvas.layer_to_visual.get(layer)
    if visual is not None:
        visual.node.selection_markers.visible = False


def pick_nearest(layer: Points) -> None:
    """Let Shift+click, drags and the status line mean the point whose centre is nearest.

    napari takes the one that is drawn last, also at the centre of another one. The status line asks
    in a thread: so only arrays of napari's slice are read, unlike in `PointsView.id_at`.
    """
    reference = weakref.ref(layer)

    def index_at(position: Any) -> int | None:
        points = reference()
        if points is None or not len(points._view_data):
            return None
        place = [position[i] for i in points._slice_input.displayed]
        away = np.linalg.norm(points._view_data - place, axis=1) / (points._view_size / 2)
        nearest = int(np.argmin(away))
        return int(points._view_indices[nearest]) if away[nearest] <= 1 else None

    layer._get_value = index_at  # napari has no public name for it


def end_drags(viewer: Any) -> None:
    """End clicks and drags whose button is still down: it is released over another image."""
    end_drag(viewer)
    for layer in viewer.layers:
        if isinstance(layer, Points):
            end_drag(layer)
            layer._is_selecting, layer._drag_start, layer._drag_box = False, None, None


def end_drag(target: Any) -> None:
    """Let a layer or the viewer hear nothing more of a button that is down."""
    target._mouse_drag_gen.clear()  # napari has no public name for it


def renew_extent_of_hidden(event: Any) -> None:
    """Let napari measure a layer that is not visible after its data or its place have changed.

    It keeps the extent of before, and the slider of the frames with it: frames of an image that was
    shown before would seem to be those of the next one.
    """
    if not event.source.visible:
        event.source._clear_extent()  # refresh(force=True) ignores such a layer


def drop_colours_of_removed_shapes(event: Any) -> None:
    """Remove the colours of shapes that napari has removed at an event of their data.

    It leaves them when it discards a drawing of fewer than three corners, or a shape whose corners
    are removed: each later shape would have the colour of another one.
    """
    layer = event.source
    for name in ("_edge_color", "_face_color"):
        colours = getattr(layer._data_view, name)  # napari has no public name for it
        if len(colours) > layer.nshapes:
            kept = np.delete(colours, list(event.data_indices), axis=0)
            setattr(layer._data_view, name, kept)


def continue_click_by_click(layer: Any) -> None:
    """Let clicks add corners to the polygon that is drawn, which has one corner yet."""
    selected = set(layer.selected_data)
    # A change of the mode would end the drawing, and so discard it.
    layer._is_creating = False
    layer.mode = "add_polygon"
    layer._is_creating = True
    layer.selected_data = selected  # napari moves the next corner of a selected shape only


def close_freehand_polygon(layer: Any) -> bool:
    """End the path that was drawn by dragging where it began; return whether it has an area.

    napari simplifies the path, then drops its last corner: that may be a corner of the region. It
    discards a path without an area, and warns of its own settings if there were many corners.
    """
    shape = layer._data_view.shapes[layer._moving_value[0]]
    closed = np.vstack([shape.data, shape.data[:1]])
    has_area = _count_corners(closed) > 3
    layer._data_view.edit(layer._moving_value[0], closed if has_area else closed[-3:])
    return has_area


def _count_corners(path: np.ndarray) -> int:
    """Count the corners that napari leaves of a path; all where its function has another name."""
    try:
        from napari.layers.shapes._shapes_utils import rdp
    except ImportError:
        return len(path)
    return len(rdp(path, get_settings().experimental.rdp_epsilon))


def take_back_corner(layer: Any) -> bool:
    """Remove the last corner of the polygon that is drawn by clicks, or the polygon without one.

    Returns whether a polygon is being drawn.
    """
    if not getattr(layer, "_is_creating", False):
        return False
    index = layer._moving_value[0]
    corners = layer._data_view.shapes[index].data  # the last one follows the mouse
    if len(corners) <= 2:
        layer._finish_drawing()  # discards what has no area
    elif layer.mode == "add_polygon":
        layer._value = layer._moving_value = (index, len(corners) - 2)
        # With one corner it is a path, as napari begins.
        kind = "path" if len(corners) == 3 else None
        layer._data_view.edit(index, np.delete(corners, -2, axis=0), new_type=kind)
        layer._last_cursor_position = None  # the next corner may be where this one was
        layer.refresh()
    return True


@contextmanager
def one_update_of_scene(viewer: Any) -> Iterator[None]:
    """Let napari update its scene once for all layers that this block shows or hides.

    It updates the scene with all its layers whenever the visibility of one of them changes: 40 ms
    more for an image among 40 others (``benchmarks/window.py --without scene``).
    """
    window = getattr(viewer.window, "_qt_viewer", None)  # napari has no public name for it
    canvas = getattr(window, "canvas", None)
    if getattr(canvas, "_pause_scene_graph", True):  # another napari, or paused already
        yield
        return
    canvas._pause_scene_graph = True
    try:
        yield
    finally:
        canvas._pause_scene_graph = False
        canvas._update_scenegraph()


def batched_update(layers: Any) -> AbstractContextManager[Any]:
    """Let napari update its scene once for the layers that are removed; 0.8 does it each time.

    It collects garbage at each update, which takes 300 ms.
    """
    batch: AbstractContextManager[Any] = getattr(layers, "batched_update", nullcontext)()
    return batch


def show_scale_bar(viewer: Any) -> None:
    """Switch the scale bar on, where no message of napari covers it."""
    bar = scale_bar(viewer)
    bar.position = "bottom_left"
    bar.visible = True
    bar.box = True


def show_colour_bar(layer: Any, size_px: tuple[float, float], on: bool = True) -> None:
    """Switch the colour bar of an image layer on or off; napari 0.8 has none."""
    bar = getattr(layer, "colorbar", None)
    if bar is not None:
        bar.position = "bottom_right"  # in a narrow canvas, the text at the top needs its width
        bar.size = size_px
        bar.visible = on


def insert_without_activating(layers: Any, index: int, layer: Any) -> None:
    """Insert a layer; the active layer does not change, as long as there is one.

    napari makes a new layer the active one. To activate it and then the previous layer takes half
    as long as to insert it.
    """
    active = layers.selection.active
    layers._activate_on_insert = active is None  # napari has no public name for it
    try:
        layers.insert(index, layer)
    finally:
        layers._activate_on_insert = True
    if active is not None:
        layers.selection.active = active
        layer.update_transform_box_visibility(False)
        layer.update_highlight_visibility(False)
