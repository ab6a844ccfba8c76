"""A napari window with the workbench, someone who works in it, and a camera in front of it.

`make_screenshots.py` says what is done; here is how: by clicks, keys and answers to dialogs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import napari
import numpy as np
import pandas as pd
from napari._qt.dialogs.qt_notification import NapariQtNotification
from PIL import Image
from qtpy.QtCore import QEvent, QPoint, QPointF, QRect, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QFileDialog, QScrollArea, QWidget

from napari_atomicity.gui.panels.dock_windows import open_docks, show_dock
from napari_atomicity.gui.panels.workbench_bar import WorkbenchBar, workbench_bar
from napari_atomicity.gui.viewer.binding import Binding, binding_of
from napari_atomicity.gui.viewer.layers import compat
from napari_atomicity.gui.workbench.layout import reset_layout, workspace
from napari_atomicity.gui.workbench.window import open_workbench

DENSITY = 2
"""Pixels of a picture for each pixel of the window, in each direction."""
SCREEN_PX = (1600, 1000)
DOCK_WIDTH_PX = 400
THEMES = ("dark", "light")
QUALITY = 76
"""Of WebP; text stays sharp, and the noise of images does not fill the repository."""
TIMEOUT_S = 900.0
LEFT = Qt.MouseButton.LeftButton
PLAIN = Qt.KeyboardModifier.NoModifier


class Studio:
    """A window with the workbench; pictures of it go into a folder."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.takes = True
        """Whether pictures are taken, or things are done only."""
        self.viewer = napari.Viewer(title="napari", show_welcome_screen=False)
        self.main = self.viewer.window._qt_window
        self.main.resize(*SCREEN_PX)
        open_workbench(self.viewer)
        self.binding: Binding = binding_of(self.viewer)
        self.state = self.binding.state
        self.settle()

    @property
    def bar(self) -> WorkbenchBar:
        """The bar at the top of the window."""
        return workbench_bar(self.viewer)

    # ---- time
    def settle(self) -> None:
        """Let the window work until nothing runs and everything is painted."""
        end, quiet = time.monotonic() + TIMEOUT_S, 0
        while quiet < 5:
            if time.monotonic() > end:
                raise SystemExit("the window is still busy")
            QTest.qWait(60)
            quiet = quiet + 1 if self.binding.settled else 0

    def wait_until(self, true: Callable[[], bool], what: str) -> None:
        """Wait for something that the person sees happen."""
        end = time.monotonic() + TIMEOUT_S
        while not true():
            if time.monotonic() > end:
                raise SystemExit(f"this did not happen: {what}")
            QTest.qWait(60)
        self.settle()

    # ---- furniture
    def widget(self, kind: type[Any]) -> Any:
        """A dock that is open somewhere, built if need be."""
        found = self.main.findChild(kind)
        return self.front(kind) if found is None else found

    def front(self, kind: type[Any]) -> Any:
        """A dock, in front of the others."""
        found = show_dock(self.viewer, kind.__name__)
        self.settle()
        return found

    @contextmanager
    def alone(
        self,
        kind: type[Any],
        size_px: tuple[int, int] = SCREEN_PX,
        width_px: int = DOCK_WIDTH_PX,
        height_px: int | None = None,
    ) -> Iterator[Any]:
        """One dock with all the room of its side, or with this height below the image."""
        widget = self.front(kind)
        docks = open_docks(self.viewer).values()
        dock = next(d for d in docks if d.isAncestorOf(widget))
        for other in docks:
            other.setVisible(other is dock)
        self.main.resize(*size_px)
        self.main.resizeDocks([dock], [width_px], Qt.Orientation.Horizontal)
        self.main.resizeDocks([dock], [height_px or size_px[1]], Qt.Orientation.Vertical)
        self.settle()
        yield widget
        self.arrange()

    def arrange(self, name: str = "Clusters") -> None:
        """A workspace as the workbench opens it."""
        self.main.resize(*SCREEN_PX)
        open_workbench(self.viewer, name)
        reset_layout(self.viewer, workspace(name))
        self.settle()

    # ---- pictures
    def window(self) -> Image.Image:
        for note in self.main.findChildren(NapariQtNotification):
            note.close()
        shot = self.viewer.window.screenshot(flash=False, canvas_only=False)
        return Image.fromarray(np.asarray(shot)).convert("RGB")

    def part(self, widget: QWidget) -> Image.Image:
        """What of the window a widget takes up; of one that is scrolled, what is seen."""
        picture = self.window()
        seen = widget.visibleRegion().boundingRect()
        place = QRect(widget.mapTo(self.main, seen.topLeft()), seen.size())
        return picture.crop(_box(place, picture.width / self.main.width()))

    def both(self, name: str, take: Callable[[], Image.Image], top: QWidget | None = None) -> None:
        """A picture in either theme, with a widget at the top of its dock."""
        if not self.takes:
            return
        for theme in THEMES:
            self.viewer.theme = theme
            self.settle()
            if top is not None:
                self.scroll_to(top)
            save(self.out / f"{name}-{theme}.webp", take())
        self.viewer.theme = THEMES[0]
        self.settle()

    def of_dock(self, name: str, kind: type[Any], width_px: int = DOCK_WIDTH_PX) -> None:
        """A picture of a dock in either theme, as high as what it shows."""
        with self.alone(kind, width_px=width_px) as widget:
            self.both(name, lambda: trimmed(self.part(widget)))

    def scroll_to(self, widget: QWidget) -> None:
        """Have a widget of a dock at its top."""
        parent = widget.parentWidget()
        while parent is not None and not isinstance(parent, QScrollArea):
            parent = parent.parentWidget()
        if parent is not None:
            top = widget.mapTo(parent.widget(), QPoint(0, 0)).y()
            parent.verticalScrollBar().setValue(top - 6)
        self.settle()

    @property
    def canvas(self) -> QWidget:
        return self.viewer.window._qt_viewer.canvas.native

    # ---- what there is
    def table(self) -> pd.DataFrame:
        """Of the image that is looked at."""
        return self.state.table(self.state.current)

    def classes(self) -> list[str]:
        return self.state.classes()

    # ---- what a person does
    def click(self, widget: QWidget) -> None:
        if not widget.isEnabled():
            raise SystemExit(f"this can't be clicked: {widget.accessibleName() or widget}")
        QTest.mouseClick(widget, LEFT)
        self.settle()

    @contextmanager
    def answering(self, question: str, answer: str | list[str]) -> Iterator[None]:
        """Whoever asks for a file or folder meanwhile gets this one."""
        said = answer if question == "getExistingDirectory" else (answer, "")
        with patch.object(QFileDialog, question, lambda *a, **k: said):
            yield

    def choose(self, combo: Any, data: object) -> None:
        index = combo.findData(data)
        combo.setCurrentIndex(index if index >= 0 else combo.findText(str(data)))
        self.settle()

    def press(self, key: Qt.Key, modifiers: Any = PLAIN, on: QWidget | None = None) -> None:
        """A key in the canvas, or in another widget."""
        target = on or self.canvas
        target.setFocus()
        QTest.keyClick(target, key, modifiers)
        self.settle()

    def press_number(self, number: int) -> None:
        self.press(Qt.Key(Qt.Key.Key_0.value + number))

    def select(self, *cluster_ids: int) -> None:
        image = self.state.current
        self.state.select((image, int(i)) for i in cluster_ids)
        self.settle()

    def look_at(self, y_nm: float, x_nm: float, width_nm: float) -> None:
        """Move the view to a place; the canvas then shows so much of the sample."""
        camera = compat.camera(self.viewer)
        camera.center = (*camera.center[:-2], y_nm, x_nm)
        camera.zoom = compat.canvas_size(self.viewer)[1] / width_nm
        self.settle()

    def on_canvas(self, y_nm: float, x_nm: float) -> QPoint:
        """Where a place of the sample is in the canvas."""
        camera, size = compat.camera(self.viewer), compat.canvas_size(self.viewer)
        y, x = (np.array([y_nm, x_nm]) - camera.center[-2:]) * camera.zoom + np.array(size) / 2
        return QPoint(round(x), round(y))

    def click_at(self, y_nm: float, x_nm: float, modifiers: Any = PLAIN) -> None:
        """A click into the image."""
        place = self.on_canvas(y_nm, x_nm)
        move(self.canvas, QPointF(place), Qt.MouseButton.NoButton)
        QTest.mouseClick(self.canvas, LEFT, modifiers, place)
        self.settle()

    def drag_along(
        self, widget: QWidget, places: Sequence[QPointF], modifiers: Any = PLAIN
    ) -> None:
        """Press at the first place, move along the others; the button stays down."""
        QTest.mousePress(widget, LEFT, modifiers, places[0].toPoint())
        for a, b in pairwise(places):
            for step in (0.5, 1.0):
                move(widget, a + (b - a) * step, LEFT, modifiers)
                QTest.qWait(8)  # napari takes no more of them than a screen shows

    def let_go(self, widget: QWidget, place: QPointF, modifiers: Any = PLAIN) -> None:
        QTest.mouseRelease(widget, LEFT, modifiers, place.toPoint())
        self.settle()

    def show_class_maps(self, *channels: str) -> None:
        """Have the layers of these channels visible, and no others."""
        for channel in ("raw", "LCN"):
            layer = self.binding.canvas.layer(self.state.current, f"class map {channel}")
            if layer is not None:
                layer.visible = channel in channels
        self.settle()


def move(widget: QWidget, place: QPointF, button: Any, modifiers: Any = PLAIN) -> None:
    """Move the mouse; QTest.mouseMove presses no button."""
    kind = QEvent.Type.MouseMove
    none = Qt.MouseButton.NoButton
    event = QMouseEvent(kind, place, widget.mapToGlobal(place), none, button, modifiers)
    QApplication.sendEvent(widget, event)


# ---- pictures
def _box(place: QRect, ratio: float) -> tuple[int, int, int, int]:
    corners = (place.left(), place.top(), place.right() + 1, place.bottom() + 1)
    return tuple(round(ratio * c) for c in corners)  # type: ignore[return-value]


def save(path: Path, picture: Image.Image) -> None:
    """Write a picture."""
    picture.save(path, quality=QUALITY, method=6)
    print(f"{path.name}: {picture.width} × {picture.height}, {path.stat().st_size // 1000} kB")


def trimmed(picture: Image.Image, margin_px: int = 6 * DENSITY) -> Image.Image:
    """Without the empty part at the bottom."""
    pixels = np.asarray(picture)
    used = np.flatnonzero((pixels[:, : -14 * DENSITY] != pixels[-1, 0]).any(axis=(1, 2)))
    last = int(used[-1]) if len(used) else picture.height
    return picture.crop((0, 0, picture.width, min(last + 1 + margin_px, picture.height)))


def beside(*pictures: Image.Image, gap_px: int = 8 * DENSITY) -> Image.Image:
    """Pictures in a row; what is left free has the colour of the window."""
    height = max(p.height for p in pictures)
    width = sum(p.width for p in pictures) + gap_px * (len(pictures) - 1)
    out = Image.new("RGB", (width, height), pictures[-1].getpixel((0, pictures[-1].height - 1)))
    x = 0
    for picture in pictures:
        out.paste(picture, (x, 0))
        x += picture.width + gap_px
    return out


def square(picture: Image.Image) -> Image.Image:
    """Of a picture that is higher than wide, all but its top."""
    side = min(picture.size)
    return picture.crop((0, picture.height - side, side, picture.height))
