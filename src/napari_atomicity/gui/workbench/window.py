"""The switch between the workspaces, and the ways to open one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import napari
from PIL import Image
from qtpy.QtCore import QEvent, QObject, QSize, QTimer
from qtpy.QtWidgets import (
    QApplication,
    QButtonGroup,
    QHBoxLayout,
    QMenu,
    QPushButton,
    QWidget,
)

from ...core.errors import AtomicityError
from ...io.files import atomic_write, png_mark
from ...models.analysis import Analysis
from ..controls.settings import settings
from ..panels.dock_windows import main_window, open_docks, show_dock
from ..panels.workbench_bar import workbench_bar
from ..viewer.binding import Binding, binding_of, unwrapped
from ..viewer.layers import compat
from ..viewer.layers.micrographs import layer_data
from .layout import (
    WORKSPACES,
    WorkflowSteps,
    Workspace,
    remember_layout,
    reopen_dock,
    reset_layout,
    show_layout,
    workspace,
)

# ---- the window of ``atomicity demo``: an analysed image in the workspace of clusters

_PAINT_TIMEOUT_S = 60.0
_SCALE_BAR_AFTER_MS = 100
"""In a turn after that of the docks: napari reads the definitions of all units first."""


def show_analysis(viewer: Any, analysis: Analysis) -> Binding:
    """Show an analysed image in a viewer, with one cluster selected.

    Corrections of the analysis are added to those of a viewer that shows the image already.
    """
    binding = binding_of(viewer)
    image = analysis.micrograph.name
    if binding.canvas.source_layer(image) is None:
        data, options, _ = layer_data(analysis.micrograph)
        binding.canvas.ensure_image(viewer.add_image(data, **options))
    binding.state.clusters.set_analysis(analysis, f"analyse {image}")
    corrected = analysis.table[analysis.table["label_corrected"] != ""]
    now = binding.state.table(image).set_index("cluster_id")["label_corrected"].to_dict()
    labels = zip(corrected["cluster_id"].tolist(), corrected["label_corrected"], strict=True)
    changed = {(image, i): label for i, label in labels if now.get(i, label) != label}
    if changed:
        binding.state.clusters.relabel_each(changed)
    binding.label_mode.on = True
    typical = _typical_cluster(analysis)
    if typical is not None:
        binding.state.select({(image, typical)})
    return binding


def _typical_cluster(analysis: Analysis) -> int | None:
    """Return a typical cluster to look at first: complete, isolated, and rather certain."""
    table = analysis.table
    whole = table[~(table["touches_border"] | table["touches_neighbour"])]
    chosen = whole if len(whole) else table
    if not len(chosen):
        return None
    order = chosen.sort_values("confidence", ascending=False, kind="stable")
    return int(order["cluster_id"].iloc[len(order) // 4])


def open_demo(analysis: Analysis, screenshot: str | Path | None = None, block: bool = True) -> Any:
    """Open a window with an analysed image in the workspace of clusters.

    Raises `AtomicityError` if the window is not painted within a minute.
    """
    viewer = napari.Viewer(title="Atomicity", show_welcome_screen=False)
    main = main_window(viewer)
    available = QApplication.primaryScreen().availableGeometry().size()
    main.resize(available.boundedTo(QSize(1600, 1000)))
    open_workbench(viewer, "Clusters")
    binding = show_analysis(viewer, analysis)
    image = analysis.micrograph.name
    _process_until(lambda: _complete(binding, image, analysis))
    viewer.reset_view(margin=0.02)
    _process_until(lambda: binding.settled)
    if screenshot is not None:
        pixels = viewer.window.screenshot(flash=False, canvas_only=False)
        with atomic_write(screenshot) as temporary:
            Image.fromarray(pixels).save(temporary, "PNG", pnginfo=png_mark())
    if block:
        napari.run()
    return viewer


def _complete(binding: Binding, image: str, analysis: Analysis) -> bool:
    points = binding.canvas.layer(image, "clusters")
    maps = [binding.canvas.layer(image, f"class map {c}") for c in analysis.class_maps]
    return (
        points is not None
        and len(points.data) == len(analysis.table)
        and all(m is not None for m in maps)
        and binding.settled
    )


def _process_until(done: Callable[[], bool]) -> None:
    """Process events until a condition holds and the event loop is idle.

    Raises `AtomicityError` after a minute.
    """
    limit = time.monotonic() + _PAINT_TIMEOUT_S
    with _idle_flag() as idle:
        while not (done() and idle()):
            if time.monotonic() > limit:
                raise AtomicityError(
                    "the window was not painted in time",
                    advice="The display may be very slow; try again",
                )
            QApplication.processEvents()


@contextmanager
def _idle_flag() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether the event loop was idle several times."""
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1

    timer = QTimer()
    timer.timeout.connect(tick)
    timer.start(0)
    try:
        yield lambda: count > 20
    finally:
        timer.stop()


_LAST = "workspace/last"
"""Key of the workspace that was used last."""


class WorkspaceSwitch(QWidget):
    """A button for each workspace, and a menu of all docks; in the bar of the window."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._binding = binding_of(viewer)
        self.current: Workspace | None = None
        self.buttons: dict[str, QPushButton] = {}
        group = QButtonGroup(self)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        for space in WORKSPACES:
            button = QPushButton(space.name)
            button.setToolTip(space.tooltip)
            button.setAccessibleName(f"Workspace {space.name}")
            button.setCheckable(True)
            button.clicked.connect(partial(self._choose, space))
            group.addButton(button)
            row.addWidget(button)
            self.buttons[space.name] = button
        self.steps = WorkflowSteps(self._binding)
        self.more = QPushButton("Docks")
        self.more.setToolTip("Open or close single docks. A workspace remembers them.")
        self.menu = QMenu(self.more)
        self.menu.aboutToShow.connect(self._fill_menu)
        self.more.setMenu(self.menu)
        row.addWidget(self.more)
        row.addWidget(self.steps)
        main_window(viewer).installEventFilter(self)

    def _choose(self, space: Workspace, *_: object) -> None:
        """Open another workspace; the open one stays as it is, with its zoom."""
        if space is not self.current:
            self.show_workspace(space)

    def show_workspace(self, space: Workspace, *_: object) -> None:
        """Open a workspace; the one that was open is remembered as it is."""
        self._binding.stop_drawing()  # its buttons may be out of sight
        self.remember()
        self.current = space
        settings().setValue(_LAST, space.name)
        self.buttons[space.name].setChecked(True)
        self.steps.setVisible("Review" in space.docks)
        show_layout(self._binding.viewer, space)
        self._binding.prefer_atoms(space.is_of_atoms)

    def remember(self) -> None:
        """Save the layout of the workspace that is open."""
        if self.current is not None:
            remember_layout(self._binding.viewer, self.current)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        if event.type() == QEvent.Type.Close:
            self.remember()
        return False

    # ---- the menu
    def _fill_menu(self) -> None:
        """List the docks of each workspace, each once; parts of other docks are left out."""
        self.menu.clear()
        there = open_docks(self._binding.viewer)
        listed: set[str] = set()
        for space in WORKSPACES:
            self.menu.addSection(space.name)
            for name in space.docks:
                if name not in listed:
                    action = self.menu.addAction(name)
                    action.setCheckable(True)
                    action.setChecked(name in there and not there[name].isHidden())
                    action.toggled.connect(partial(self._toggle, name))
            listed.update(space.docks)
        self.menu.addSeparator()
        self.menu.addAction("Reset the layout").triggered.connect(self._reset)

    def show_scale_bar(self) -> None:
        """Show the scale bar of napari, unless the window was closed."""
        if self._binding.canvas.is_open:
            compat.show_scale_bar(self._binding.viewer)

    def _toggle(self, name: str, on: bool) -> None:
        if on:
            reopen_dock(self._binding.viewer, self.current, name)
        else:
            open_docks(self._binding.viewer)[name].hide()

    def _reset(self) -> None:
        if self.current is not None:
            reset_layout(self._binding.viewer, self.current)


def open_workbench(viewer: Any = None, name: str | None = None) -> Any:
    """Open a workspace in a viewer."""
    viewer = napari.Viewer() if viewer is None else unwrapped(viewer)
    bar = workbench_bar(viewer)
    switch = bar.findChild(WorkspaceSwitch)
    if switch is None:
        switch = WorkspaceSwitch(viewer)
        bar.add_at_left(switch)
        QTimer.singleShot(_SCALE_BAR_AFTER_MS, switch.show_scale_bar)
    open_now = switch.current
    last = str(settings().value(_LAST))
    space = workspace(name or (last if open_now is None else open_now.name))
    if space is not open_now:
        switch.show_workspace(space)
    return viewer


def browse_in(viewer: Any, path: str, patience: int = 40) -> None:
    """Open a folder or a project in Browse, in a workspace."""
    main = main_window(viewer)
    if not main.isVisible() and patience > 0:
        QTimer.singleShot(50, partial(browse_in, viewer, path, patience - 1))
        return
    available = QApplication.primaryScreen().availableGeometry().size()
    if not main.isMaximized():
        main.resize(main.size().boundedTo(available))
    open_workbench(viewer)
    show_dock(viewer, "Browse").take([path])
