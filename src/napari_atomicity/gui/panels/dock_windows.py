"""Docks of the window, by the names of the manifest."""

from __future__ import annotations

from functools import partial
from typing import Any

from napari.utils.theme import get_theme
from npe2 import PluginManager
from qtpy.QtCore import QObject, Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QApplication,
    QDockWidget,
    QMainWindow,
    QScrollArea,
    QTabBar,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from ..controls.drawing import faint, mix
from ..controls.forms import CollapsibleSection, keep_room
from ..controls.refresher import follow_event
from ..controls.shortcuts import hide_focus, show_focus
from ..viewer.binding import Binding, binding_of, unwrapped

# ---- the look of docks and of the bar: colours of the theme, and visible keyboard focus


# ---- colours that napari's themes leave too faint to read
def style_of(theme: str) -> str:
    """Return a style sheet for docks and the bar: disabled text and hints in a readable colour."""
    colours = get_theme(theme)
    # Of all backgrounds of controls this is the one nearest to the text.
    text = faint(_qt(colours.text), _qt(colours.primary)).name()
    kinds = ("QWidget", "QPushButton", "QComboBox", "QAbstractSpinBox", "QLineEdit", "QLabel")
    disabled = ", ".join(f"{kind}:disabled" for kind in kinds)
    # An entry of a menu has no other sign that it is disabled.
    entry = mix(_qt(colours.text), _qt(colours.background), 0.55).name()
    return (
        f"{disabled} {{ color: {text}; }} QLineEdit {{ placeholder-text-color: {text}; }} "
        f"QMenu::item:disabled {{ color: {entry}; }} "
        # The border of napari would make a disabled button larger, and move what is beside it.
        "QPushButton:disabled { border: 0px; }"
    )


def _qt(colour: object) -> QColor:
    return QColor(*colour.as_rgb_tuple()[:3])  # type: ignore[attr-defined]


class PanelStyle(QObject):
    """Gives a panel readable colours, and a ring to that of its controls that has the focus."""

    def __init__(self, panel: QWidget, binding: Binding) -> None:
        super().__init__(panel)
        # Only Qt refers to the panel: a cycle of references would leave it to the collector.
        self._binding = binding
        self._apply_theme()
        follow_event(self, binding.viewer.events.theme, self._apply_theme)
        QApplication.instance().focusChanged.connect(self._on_focus)

    def _apply_theme(self, *_: object) -> None:
        self.parent().setStyleSheet(style_of(self._binding.viewer.theme))

    def _on_focus(self, before: QWidget | None, now: QWidget | None) -> None:
        """Show which of the controls has the focus."""
        panel = self.parent()
        if before is not None and panel.isAncestorOf(before):
            hide_focus(before)
        if now is not None and panel.isAncestorOf(now):
            show_focus(now)


DISTRIBUTION = "napari-atomicity"
RIGHT = Qt.DockWidgetArea.RightDockWidgetArea
NOT_PLACED = "not placed"
"""Property of a hidden dock that the open workspace has no place for."""
_SUFFIX = " (Atomicity)"
"""What napari adds to the name of a dock, by which the menu finds it."""


def main_window(viewer: Any) -> QMainWindow:
    """Return the main window of a viewer."""
    # napari has no public name for it, and there may be no dock whose parent it is.
    return viewer.window._qt_window


def dock_names() -> list[str]:
    """Return the names of all docks of the manifest, in the order of the menu."""
    widgets = PluginManager.instance().iter_widgets()
    names = [w.display_name for w in widgets if w.plugin_name == DISTRIBUTION]
    return [name for name in names if name != "Workbench"]  # it opens docks and is none


def dock_class(display_name: str) -> type[QWidget]:
    """Find the class of a dock by its name in the manifest.

    Raises `KeyError` if the manifest has no dock of that name.
    """
    for widget in PluginManager.instance().iter_widgets():
        if widget.plugin_name == DISTRIBUTION and widget.display_name == display_name:
            kind: Any = widget.get_callable()
            return kind
    raise KeyError(display_name)


def open_docks(viewer: Any) -> dict[str, QDockWidget]:
    """Return the docks of this plugin that the window has, hidden ones too, by display name."""
    return _docks_of(main_window(viewer))


def _docks_of(main: QMainWindow) -> dict[str, QDockWidget]:
    docks = main.findChildren(QDockWidget)
    return {
        dock.objectName().removesuffix(_SUFFIX): dock
        for dock in docks
        if dock.objectName().endswith(_SUFFIX)
    }


class LazyDock(QWidget):
    """Room for a dock, which is built when it is needed first."""

    def __init__(self, viewer: Any, display_name: str, **options: Any) -> None:
        super().__init__()
        self.display_name = display_name
        self._binding = binding_of(viewer)
        self._options = options
        QVBoxLayout(self).setContentsMargins(0, 0, 0, 0)

    def build(self) -> Any:
        """Return the dock; build it at the first call."""
        room = self.layout()
        if room.count() == 0:
            kind: Any = dock_class(self.display_name)
            room.addWidget(kind(self._binding.viewer, **self._options))
        return room.itemAt(0).widget()


_SKIPPED = "atomicity_skipped_when_hidden"


def open_dock(viewer: Any, display_name: str) -> QDockWidget:
    """Return a dock of the window, opened if need be; its content is built when it is seen."""
    dock = open_docks(viewer).get(display_name)
    if dock is None:
        dock = viewer.window.add_dock_widget(
            LazyDock(viewer, display_name),
            name=f"{display_name}{_SUFFIX}",
            area="right",
            add_vertical_stretch=False,
        )
        _make_tab(main_window(viewer), dock)
        keep_room(dock.widget())  # so that the docks keep their sizes
        dock.visibilityChanged.connect(partial(_rest, dock))
        skip_when_hidden(dock)
        # Workspaces remember where docks are; napari writes its settings at each move of a dock,
        # which would make the switch between workspaces several times slower.
        save_area = getattr(dock, "_update_default_dock_area", None)
        if save_area is not None:
            dock.dockLocationChanged.disconnect(save_area)
    dock.setWindowTitle(display_name)  # a tab is narrow
    return dock


def _make_tab(main: QMainWindow, dock: QDockWidget) -> None:
    """Make a dock a tab of the highest dock at the right: a low window has no room for one more."""
    others = [d for d in _docks_of(main).values() if d is not dock and not d.isHidden()]
    right = [d for d in others if main.dockWidgetArea(d) == RIGHT and not d.isFloating()]
    if right:
        main.tabifyDockWidget(max(right, key=QDockWidget.height), dock)


def _rest(dock: QDockWidget, seen: bool) -> None:
    """Hide the content of a dock whose tab is behind others, which Qt treats as visible.

    So a dock is built once it is visible, and works only while it is.
    """
    room = dock.widget()
    _scroll_tabs(dock.parent())
    if isinstance(room, LazyDock):
        if seen:
            room.build()
        if room.isHidden() == seen:
            room.setVisible(seen)


def skip_when_hidden(dock: QDockWidget) -> None:
    """Let Tab pass over a dock while its tab is behind others, which Qt treats as visible."""
    if not dock.property(_SKIPPED):
        dock.setProperty(_SKIPPED, True)
        dock.visibilityChanged.connect(partial(_set_enabled, dock))


def _set_enabled(dock: QDockWidget, seen: bool) -> None:
    for part in (dock.titleBarWidget(), dock.widget()):
        if part is not None:
            part.setEnabled(seen)


def _scroll_tabs(main: Any) -> None:
    """Let tabs that do not fit be scrolled; Qt cuts their titles."""
    option = Qt.FindChildOption.FindDirectChildrenOnly
    for bar in main.findChildren(QTabBar, options=option):
        bar.setUsesScrollButtons(True)
        bar.setElideMode(Qt.TextElideMode.ElideNone)


def show_dock(viewer: Any, display_name: str) -> Any:
    """Bring a dock to the front, opened if need be, and return what it holds.

    Docks do not import each other: this is how one opens another.
    """
    viewer = unwrapped(viewer)
    widget: Any = main_window(viewer).findChild(dock_class(display_name))
    if widget is None:
        parts = main_window(viewer).findChildren(LazyDock)
        rooms = [part for part in parts if part.display_name == display_name]
        room = rooms[0] if rooms else open_dock(viewer, display_name).widget()
        widget = room.build()
    _uncover(widget)
    return widget


def _uncover(widget: Any) -> None:
    """Show a dock that may be behind a tab, or in a section of another one that is closed."""
    parent, part = widget.parent(), widget
    while parent is not None:
        if isinstance(parent, QTabWidget):
            page = next(i for i in range(parent.count()) if parent.widget(i).isAncestorOf(widget))
            parent.setCurrentIndex(page)
        elif isinstance(parent, CollapsibleSection):
            parent.button.setChecked(True)
            part = parent
        elif isinstance(parent, QScrollArea):
            widget.scroll_to(part)  # once the section has got its room
        elif isinstance(parent, QDockWidget):
            parent.show()
            if parent.property(NOT_PLACED):
                parent.setProperty(NOT_PLACED, False)
                _make_tab(parent.parent(), parent)
            parent.raise_()
            return
        parent = parent.parent()
