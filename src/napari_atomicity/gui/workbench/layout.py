"""The layout of a workspace: as designed at first, later as the user left it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from qtpy.QtCore import QByteArray, Qt
from qtpy.QtWidgets import QAbstractScrollArea, QDockWidget, QScrollBar, QTabWidget

from ...core.from_dict import dataclass_from_json
from ..controls.settings import settings
from ..panels.dock_windows import NOT_PLACED, RIGHT, dock_names, main_window, open_dock, open_docks
from .workspaces import Workspace

BOTTOM, LEFT = Qt.DockWidgetArea.BottomDockWidgetArea, Qt.DockWidgetArea.LeftDockWidgetArea
_NOWHERE = Qt.DockWidgetArea.NoDockWidgetArea
MIN_HEIGHT_FOR_GROUPS = 900
"""Height of the window in pixels from which the docks at the right form more than one group."""
_VERSION = 1
# Height of the layer controls of napari, enough for points.
_CONTROLS_HEIGHT = 250
_LEFT_WIDTH, _RIGHT_WIDTH = 260, 370


@dataclass(frozen=True)
class _Layout:
    """A layout as the user left it; the default is that of a workspace that was never opened."""

    docks: list[str] = field(default_factory=list)
    state: str = ""
    """Places and sizes of the docks as Qt saves them, in base64."""
    tabs: dict[str, list[int]] = field(default_factory=dict)
    """Front tab of each tab widget within a dock."""
    scrolled: dict[str, list[int]] = field(default_factory=dict)
    """Position of each scroll bar within a dock."""


def show_layout(viewer: Any, workspace: Workspace) -> None:
    """Open a workspace as the user left it, or as designed if it was never opened."""
    main = main_window(viewer)
    main.setAnimated(False)  # sizes are needed at once
    left = _remembered(viewer, workspace)
    names = [n for n in left.docks if n in dock_names()] or list(workspace.docks)
    # Docks are stacked until they become tabs, which enlarges a small window.
    size = main.size()
    known = list(open_docks(viewer).values())
    painted = main.updatesEnabled()
    main.setUpdatesEnabled(False)
    try:
        removed = _remove_docks(main)
        docks = {name: open_dock(viewer, name) for name in names}
        _shape_areas(main)  # Qt does not store where the tabs are
        if not _restore(viewer, left):
            _arrange(viewer, workspace, size.height(), [d for d, (_, on) in removed.items() if on])
        for dock, (area, on) in removed.items():
            not_placed = main.dockWidgetArea(dock) == _NOWHERE
            dock.setProperty(NOT_PLACED, not_placed and dock in known)
            if not_placed:
                # Hidden ones too, so that the menus can show them again.
                main.addDockWidget(area, dock)
                dock.setVisible(on and dock not in known)
        main.layout().activate()
        main.resize(size)
        _leave_half_to_canvas(main)
        _restore_views(docks, left)
    finally:
        main.setUpdatesEnabled(painted)


def _remove_docks(main: Any) -> dict[QDockWidget, tuple[Any, bool]]:
    """Remove all docks from the layout, and return where each was and whether it was shown.

    Qt leaves tab bars behind if it restores a state while others are in use.
    """
    removed = {}
    for dock in main.findChildren(QDockWidget):
        if main.dockWidgetArea(dock) != _NOWHERE and not dock.isFloating():
            removed[dock] = (main.dockWidgetArea(dock), not dock.isHidden())
            main.removeDockWidget(dock)
            dock.setParent(main)  # otherwise Python's garbage collection deletes it
    main.layout().activate()
    return removed


def reset_layout(viewer: Any, workspace: Workspace) -> None:
    """Open a workspace as designed."""
    settings().remove(_key(viewer, workspace))
    show_layout(viewer, workspace)


# ---- as designed
def _arrange(viewer: Any, workspace: Workspace, height: int, others: Sequence[QDockWidget]) -> None:
    """Put the docks of a workspace, and those of napari, where they belong."""
    main = main_window(viewer)
    docks = open_docks(viewer)
    groups: list[list[Any]] = [[docks[name] for name in group] for group in workspace.right]
    below = [docks[name] for name in workspace.below]
    left: list[Any] = [docks[name] for name in workspace.left]
    for dock in (*itertools.chain(*groups), *below, *left):
        dock.setFloating(False)
        dock.show()
    # napari has no public names for its own docks.
    layers = getattr(viewer.window._qt_viewer, "dockLayerList", None)
    controls: Any = getattr(viewer.window._qt_viewer, "dockLayerControls", None)
    left += [d for d in (layers,) if d in others]
    if height < MIN_HEIGHT_FOR_GROUPS:
        # The layer controls are wide: at the right they take nothing from the image.
        groups = [[*itertools.chain(*groups), *(d for d in (controls,) if d in others)]]
    elif controls in others:
        main.addDockWidget(LEFT, controls)
        controls.show()
    firsts = [group[0] for group in groups]
    for dock in firsts:
        main.addDockWidget(RIGHT, dock)
    for upper, lower in itertools.pairwise(firsts):
        main.splitDockWidget(upper, lower, Qt.Orientation.Vertical)
    for dock in below[:1]:
        main.addDockWidget(BOTTOM, dock)
    main.addDockWidget(LEFT, left[0])
    for group in (*groups, below, left):
        _as_tabs(main, group)
    shares = workspace.shares[: len(firsts)]
    heights = [height * share // sum(shares) for share in shares]
    main.resizeDocks(firsts, heights, Qt.Orientation.Vertical)
    widths = [_LEFT_WIDTH, *[_RIGHT_WIDTH] * len(firsts)]
    main.resizeDocks([left[0], *firsts], widths, Qt.Orientation.Horizontal)
    for dock in below[:1]:
        main.resizeDocks([dock], [height // 4], Qt.Orientation.Vertical)
    if controls in others and main.dockWidgetArea(controls) == LEFT:
        heights = [_CONTROLS_HEIGHT, height - _CONTROLS_HEIGHT]
        main.resizeDocks([controls, left[0]], heights, Qt.Orientation.Vertical)


def _as_tabs(main: Any, group: list[QDockWidget]) -> None:
    """Make docks tabs of the first one, which is in front."""
    for one, following in itertools.pairwise(group):
        main.tabifyDockWidget(one, following)
        following.show()
    for dock in group[:1]:
        dock.raise_()


def _leave_half_to_canvas(main: Any) -> None:
    """Make the docks at the right narrower if the canvas has less than half of the width."""
    missing = main.width() // 2 - main.centralWidget().width()
    docks = main.findChildren(QDockWidget)
    right = [d for d in docks if main.dockWidgetArea(d) == RIGHT and not d.isHidden()]
    shown = [d for d in right if not d.isFloating()]
    if missing > 0 and shown:
        widths = [d.width() - missing for d in shown]
        main.resizeDocks(shown, widths, Qt.Orientation.Horizontal)


def _shape_areas(main: Any) -> None:
    """Put tabs at the top; docks at the sides are as high as the window."""
    for area in (RIGHT, BOTTOM, LEFT):
        main.setTabPosition(area, QTabWidget.TabPosition.North)
    main.setCorner(Qt.Corner.BottomRightCorner, RIGHT)
    main.setCorner(Qt.Corner.BottomLeftCorner, LEFT)


# ---- as the user left it
def _key(viewer: Any, workspace: Workspace) -> str:
    """Return the key of the layout: one for small windows, and one for large ones."""
    large = main_window(viewer).height() >= MIN_HEIGHT_FOR_GROUPS
    return f"workspace/{workspace.name}/{'large' if large else 'small'}"


def _remembered(viewer: Any, workspace: Workspace) -> _Layout:
    try:
        return dataclass_from_json(_Layout, str(settings().value(_key(viewer, workspace)) or "{}"))
    except ValueError:
        return _Layout()


def remember_layout(viewer: Any, workspace: Workspace) -> None:
    """Save which docks are open and where, which are in front, and how far each is scrolled."""
    docks = {n: d for n, d in open_docks(viewer).items() if not d.isHidden()}
    left = _Layout(
        docks=list(docks),
        state=bytes(main_window(viewer).saveState(_VERSION).toBase64().data()).decode(),
        tabs={n: [t.currentIndex() for t in _tabs(d)] for n, d in docks.items()},
        scrolled={n: [b.value() for b in _scroll_bars(d)] for n, d in docks.items()},
    )
    settings().setValue(_key(viewer, workspace), json.dumps(asdict(left)))


def _restore(viewer: Any, left: _Layout) -> bool:
    """Restore places and sizes of the docks; return False if there are none or they are damaged."""
    state = QByteArray.fromBase64(left.state.encode())
    return not state.isEmpty() and bool(main_window(viewer).restoreState(state, _VERSION))


def _restore_views(docks: dict[str, QDockWidget], left: _Layout) -> None:
    """Restore the tabs within docks, and how far they are scrolled."""
    for name, dock in docks.items():
        indices = left.tabs.get(name, [])
        for tabs, index in zip(_tabs(dock), indices, strict=False):
            tabs.setCurrentIndex(index)
        values = left.scrolled.get(name, [])
        for bar, value in zip(_scroll_bars(dock), values, strict=False):
            bar.setValue(value)


def _tabs(dock: QDockWidget) -> list[QTabWidget]:
    return dock.findChildren(QTabWidget)


def _scroll_bars(dock: QDockWidget) -> list[QScrollBar]:
    return [area.verticalScrollBar() for area in dock.findChildren(QAbstractScrollArea)]
