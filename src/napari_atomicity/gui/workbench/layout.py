"""The layout of a workspace: as designed at first, later as the user left it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from qtpy.QtCore import QByteArray, Qt
from qtpy.QtGui import QFont, QFontMetrics
from qtpy.QtWidgets import (
    QDockWidget,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QScrollBar,
    QTabWidget,
)

from ...core.from_dict import dataclass_from_json
from ...statistics.ratios.track_counts import count_clusters
from ..controls.refresher import FollowingWidget
from ..controls.settings import settings
from ..panels.dock_windows import (
    NOT_PLACED,
    RIGHT,
    dock_names,
    main_window,
    open_dock,
    open_docks,
    show_dock,
    skip_when_hidden,
)
from ..viewer.binding import Binding


# ---- the workspaces: which docks each opens, and where
@dataclass(frozen=True)
class Workspace:
    """Docks for one kind of work, by their names in the manifest."""

    name: str
    tooltip: str
    # groups from top to bottom at the right of the canvas; the docks of a group are tabs
    right: tuple[tuple[str, ...], ...]
    below: tuple[str, ...] = ()
    left: tuple[str, ...] = ("Browse",)  # docks tabbed with the layer list of napari
    shares: tuple[int, ...] = (1, 1)  # relative heights of the groups at the right
    is_of_atoms: bool = False  # whether keys and mouse are for atoms where there are clusters too

    @property
    def docks(self) -> tuple[str, ...]:
        """The names of all docks."""
        return (*self.left, *(name for group in self.right for name in group), *self.below)


WORKSPACES = (
    Workspace(
        "Clusters",
        "Find clusters, label and review them, and export class ratios.",
        right=(("Analyse", "Review", "Ratios"), ("Explain",)),
        below=("Overview",),
    ),
    Workspace(
        "Atoms",
        "Find single atoms, mark and compare them, and measure their dispersion.",
        right=(("Atoms", "Annotators"), ("Dispersion",)),
        shares=(3, 2),  # the result of Annotators is below its form
        is_of_atoms=True,
    ),
    Workspace(
        "Movies and live",
        "Follow clusters through the frames of a movie, and watch a folder of new images.",
        right=(("Analyse", "Live", "Ratios"), ("Movie",)),
    ),
    Workspace(
        "Model",
        "Train a model, adapt one to the images of this session, and compare models and methods.",
        right=(("Train", "Adapt", "Validate"),),
    ),
)


def workspace(name: str) -> Workspace:
    """Return the workspace of a name; the first one if there is none of that name."""
    return next((w for w in WORKSPACES if w.name == name), WORKSPACES[0])


# ---- the way through the work with clusters: what is done, and what is next

STEPS = {"Analyse": "Analyse", "Review": "Review", "Export": "Ratios"}
"""Steps in their order, and the dock in which each is done."""
DONE = "✓"
_MARGIN_PX = 4


class WorkflowSteps(FollowingWidget):
    """A button for each step, which opens its dock; the next step is emphasised."""

    follows = ("changed", "images_changed", "project_changed")

    def __init__(self, binding: Binding) -> None:
        super().__init__(binding.refresher)
        self.state = binding.state
        self._counted: dict[str, tuple[int, int, int]] = {}  # generation, clusters, reviewed ones
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
        self.buttons: dict[str, QPushButton] = {}
        for number, (step, dock) in enumerate(STEPS.items(), start=1):
            if number > 1:
                row.addWidget(QLabel("→"))
            button = self.buttons[step] = QPushButton(f"{number} {step}")
            button.setFlat(True)
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
            button.clicked.connect(partial(self._open, binding.viewer, dock))
            # Room for the mark of a step that is done, so that nothing moves.
            bold = QFont(button.font())
            bold.setBold(True)
            room = QFontMetrics(bold).horizontalAdvance(f"{number} {step} {DONE}")
            button.setFixedWidth(room + 2 * _MARGIN_PX)
            row.addWidget(button)

    def _open(self, viewer: Any, dock: str) -> None:
        show_dock(viewer, dock)
        if dock == STEPS["Export"]:
            show_dock(viewer, "Report")  # a section of it

    def refresh(self) -> None:
        counts = [self._count(image) for image in self.state.images]
        analysed = [count for count in counts if count is not None]
        clusters, reviewed = (sum(count[i] for count in analysed) for i in (1, 2))
        waiting, failed = self.state.not_analysed()
        why = f" ({len(failed)} failed)" if failed else ""
        done = len(counts) - len(waiting) - len(failed)
        self._show("Analyse", done, len(counts), f"images are analysed{why}")
        self._show("Review", reviewed, clusters, "clusters are reviewed")
        self.buttons["Export"].setToolTip("Write ratios, tables and a report: open Ratios.")
        # Some clusters are reviewed to know how right the others are: all are too many.
        steps = ["Analyse"] * (bool(waiting) or not analysed) + ["Review"] * (reviewed == 0)
        following = [*steps, "Export"][0]
        for step, button in self.buttons.items():
            font = button.font()
            font.setBold(step == following)
            button.setFont(font)
            button.setAccessibleDescription("next step" if step == following else "")

    def _show(self, step: str, done: int, total: int, what: str) -> None:
        """Show how much of a step is done."""
        mark = f" {DONE}" if done == total > 0 else ""
        self.buttons[step].setText(f"{list(STEPS).index(step) + 1} {step}{mark}")
        self.buttons[step].setToolTip(f"{done} of {total} {what}: open {STEPS[step]}.")

    def _count(self, image: str) -> tuple[int, int, int] | None:
        """Count the clusters of an image and those that a person has labelled; None without any."""
        columns = self.state.columns(image)
        if columns is None:
            return None
        generation = self.state.generation(image)
        known = self._counted.get(image)
        if known is None or known[0] != generation:
            known = self._counted[image] = generation, *count_clusters(columns)
        return known


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
            # closed ones too: Qt remembers a place of its own for them, a low strip
            dock.setProperty(NOT_PLACED, dock in known and dock not in docks.values())
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


def reopen_dock(viewer: Any, workspace: Workspace | None, name: str) -> None:
    """Show a dock; one that was closed gets the side again that its workspace gives it."""
    known = name in open_docks(viewer)
    show_dock(viewer, name)
    if known or workspace is None:
        return
    main, dock = main_window(viewer), open_docks(viewer)[name]
    layers = getattr(viewer.window._qt_viewer, "dockLayerList", None)
    if name in workspace.below:
        main.addDockWidget(BOTTOM, dock)
    elif name in workspace.left and layers is not None:
        main.tabifyDockWidget(layers, dock)
    dock.raise_()


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
    for dock in group:  # napari's own, too
        skip_when_hidden(dock)
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
    # Not those of lists and tables, which follow the current image and the selection.
    return [area.verticalScrollBar() for area in dock.findChildren(QScrollArea)]
