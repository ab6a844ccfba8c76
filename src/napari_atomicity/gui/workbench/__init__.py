"""The workbench: workspaces of docks, and the entry of the menu that opens the last one."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module
from threading import Thread
from typing import Any

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

_NEEDED = f"{__name__}.window"


class Workbench(QWidget):
    """The entry of the menu: open the workspace that was used last, and close itself.

    What the docks need takes seconds to import: a thread does it, so that napari stays usable.
    """

    _imported = Signal()

    def __init__(self, napari_viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = napari_viewer
        QVBoxLayout(self).addWidget(QLabel("Opening the workbench…"))
        if _NEEDED in sys.modules:
            # Not at once: napari is about to put this widget into a dock of its own.
            QTimer.singleShot(0, self._open)
        else:
            self._imported.connect(self._open)
            Thread(target=self._import, daemon=True).start()

    def _import(self) -> None:
        with suppress(Exception):  # raised again where it is shown
            import_module(_NEEDED)
        with suppress(RuntimeError):  # the widget is deleted
            self._imported.emit()

    def _open(self) -> None:
        from ..viewer.binding import unwrapped
        from .window import open_workbench

        viewer, self._viewer = unwrapped(self._viewer), None
        open_workbench(viewer)
        viewer.window.remove_dock_widget(self)
        self.deleteLater()
