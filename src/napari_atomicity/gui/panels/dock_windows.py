"""Docks of the window, by the names of the manifest."""

from __future__ import annotations

from typing import Any

from npe2 import PluginManager
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

from ..viewer.binding import unwrapped

PLUGIN = "Atomicity"
DISTRIBUTION = "napari-atomicity"


def dock_name(widget: type[QWidget]) -> str:
    """Return the name that napari gives a dock, so that the menu finds it."""
    return f"{widget.__name__} ({PLUGIN})"


def main_window(viewer: Any) -> QMainWindow:
    """Return the main window of a viewer."""
    # napari has no public name for it, and there may be no dock whose parent it is.
    return viewer.window._qt_window


def dock_class(display_name: str) -> type[QWidget]:
    """Find the class of a dock by its name in the manifest.

    Parameters
    ----------
    display_name : str
        Such as "Adapt".

    Returns
    -------
    type of QWidget

    Raises
    ------
    KeyError
        If the manifest has no dock of that name.
    """
    for widget in PluginManager.instance().iter_widgets():
        if widget.plugin_name == DISTRIBUTION and widget.display_name == display_name:
            return widget.get_callable()
    raise KeyError(display_name)


def show_dock(viewer: Any, display_name: str) -> QWidget:
    """Bring a dock to the front, opened if need be, and return what it holds.

    Docks do not import each other: this is how one opens another.

    Parameters
    ----------
    viewer : napari.Viewer
    display_name : str
        Name of the dock in the manifest, such as "Adapt".

    Returns
    -------
    QWidget
        The dock's content.
    """
    kind = dock_class(display_name)
    main = main_window(unwrapped(viewer))
    widget = main.findChild(kind)
    if widget is None:
        widget = kind(viewer)
        viewer.window.add_dock_widget(
            widget, name=dock_name(kind), area="right", add_vertical_stretch=False
        )
    dock = widget.parent()
    while dock is not None and not isinstance(dock, QDockWidget):
        dock = dock.parent()
    if dock is not None:
        dock.show()
        dock.raise_()
    return widget
