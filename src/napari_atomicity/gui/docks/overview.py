"""The dock Overview: all clusters of all images."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QTabWidget, QWidget

from ..controls.forms import fill_column
from ..panels.dock_windows import LazyDock, PanelStyle
from ..viewer.binding import binding_of


class Overview(QWidget):
    """All clusters of all images: as pictures, as a table, in plots, and in the map."""

    parts = ("Gallery", "Table", "Plots", "Embedding")  # names of the docks in the manifest

    def __init__(self, napari_viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        PanelStyle(self, binding_of(napari_viewer))
        self.tabs = QTabWidget()
        self.tabs.setDocumentMode(True)
        self.tabs.setUsesScrollButtons(False)
        self.tabs.tabBar().setAccessibleName("Tabs of Overview")
        for name in self.parts:
            self.tabs.addTab(LazyDock(napari_viewer, name), name)
        fill_column(self, self.tabs)
        self.tabs.currentChanged.connect(self._build)
        self._build()

    def _build(self, *_: object) -> None:
        self.tabs.currentWidget().build()
