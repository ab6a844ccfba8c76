"""The bar of the window that holds what all docks share."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QToolBar, QWidget

from .dock_windows import main_window


class WorkbenchBar(QToolBar):
    """A tool bar at the top of the window."""

    def add_at_left(self, widget: QWidget) -> None:
        """Add a widget at the left end."""
        self.addWidget(widget)


def workbench_bar(viewer: Any) -> WorkbenchBar:
    """Return the bar of a viewer, which the first call makes."""
    main = main_window(viewer)
    bar = main.findChild(WorkbenchBar)
    if bar is None:
        bar = WorkbenchBar(main)
        bar.setObjectName("Atomicity workbench")
        main.addToolBar(bar)
    return bar
