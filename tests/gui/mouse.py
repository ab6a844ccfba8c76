"""A mouse for tests: where things are on the screen, and dragging between them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_atomicity.gui.scatter.scatter import Scatter
from napari_atomicity.gui.viewer.layers import compat

LEFT = Qt.MouseButton.LeftButton
PLAIN = Qt.KeyboardModifier.NoModifier


def on_canvas(viewer, layer, index: int) -> QPoint:
    """Where a point is in napari's canvas, in logical pixels."""
    world = layer.data_to_world(layer.data[index])
    camera, size = compat.camera(viewer), compat.canvas_size(viewer)
    y, x = (np.asarray(world[-2:]) - camera.center[-2:]) * camera.zoom + np.array(size) / 2
    return QPoint(round(x), round(y))


def at(scatter: Scatter, xy) -> QPoint:
    """Where a place of the map is in the scatter's canvas."""
    x, y = scatter.to_canvas(xy)[0]
    return QPoint(round(x), round(y))


def drag(scatter: Scatter, corners, modifiers=PLAIN) -> None:
    """Press at the first corner, move along the others, release at the last."""
    native = scatter.canvas.native
    # Where they are now: the map may move under the mouse.
    places = [at(scatter, corner) for corner in corners]
    QTest.mousePress(native, LEFT, modifiers, places[0])
    for a, b in pairwise(places):
        for step in range(1, 6):
            move(native, a + (b - a) * (step / 5), modifiers)
    QTest.mouseRelease(native, LEFT, modifiers, places[-1])


def move(native, here: QPoint, modifiers=PLAIN) -> None:
    """Move with the left button down, which QTest.mouseMove can't."""
    place = QPointF(here)
    event = QMouseEvent(
        QEvent.Type.MouseMove, place, native.mapToGlobal(place), LEFT, LEFT, modifiers
    )
    QApplication.sendEvent(native, event)
