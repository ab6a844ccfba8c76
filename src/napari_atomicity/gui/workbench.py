"""The workbench: all docks, arranged, and the window of ``atomicity demo``."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import napari
from napari.viewer import Viewer
from qtpy.QtCore import QSize, Qt, QTimer
from qtpy.QtWidgets import QApplication, QDockWidget, QWidget

from ..core.errors import AtomicityError
from ..models.analysis import Analysis
from .controls.forms import keep_room
from .controls.garbage_collection import settle_collector
from .docks.adapt.dock import Adapt
from .docks.analyse import Analyse, typical_cluster
from .docks.annotators.dock import Annotators
from .docks.atoms.dock import Atoms
from .docks.browse.dock import Browse
from .docks.classify import Classify
from .docks.detect import Detect
from .docks.dispersion.dock import Dispersion
from .docks.embedding.dock import Embedding
from .docks.explain.dock import Explain
from .docks.gallery import Gallery
from .docks.live.dock import Live
from .docks.movie.dock import Movie
from .docks.plots import Plots
from .docks.ratios.dock import Ratios
from .docks.report import Report
from .docks.review.dock import Review
from .docks.table import Table
from .docks.train.dock import Train
from .panels.dock_windows import dock_name, main_window
from .viewer import compat
from .viewer.binding import Binding, binding_of, unwrapped
from .viewer.layer_data import layer_data

RIGHT, BOTTOM, LEFT = (
    Qt.DockWidgetArea.RightDockWidgetArea,
    Qt.DockWidgetArea.BottomDockWidgetArea,
    Qt.DockWidgetArea.LeftDockWidgetArea,
)
Groups = tuple[tuple[type[QWidget], ...], ...]
DOCKS: Groups = (
    (Analyse, Review, Adapt, Train, Detect, Classify, Report),
    (Explain, Ratios, Atoms, Annotators),
    (Embedding, Dispersion, Movie),
)
"""Groups from top to bottom on the right; the docks of a group are tabs."""

SMALL_SCREEN_DOCKS: Groups = (DOCKS[0], (*DOCKS[1], *DOCKS[2]))
"""Groups for a screen that is too small for three."""

BELOW: tuple[type[QWidget], ...] = (Gallery, Table, Plots)
"""Tabs below the canvas."""

WITH_LAYER_LIST: tuple[type[QWidget], ...] = (Browse, Live)
"""Docks tabbed with the layer list of napari."""

_MIN_HEIGHT_FOR_THREE = 900
# Height of the layer controls of napari, enough for points.
_CONTROLS_HEIGHT = 250
_PAINT_TIMEOUT_S = 60.0


def all_docks() -> tuple[type[QWidget], ...]:
    """Every dock, in the order of the window."""
    return (*WITH_LAYER_LIST, *(kind for group in DOCKS for kind in group), *BELOW)


def _open_docks(viewer: Any) -> dict[str, QDockWidget]:
    """Open the docks that are missing and show those that are hidden."""
    window = viewer.window
    main = main_window(viewer)
    there = {d.objectName() or d.windowTitle(): d for d in main.findChildren(QDockWidget)}
    by_name = {d.windowTitle(): d for d in there.values()} | there
    docks: dict[str, QDockWidget] = {}
    for kind in all_docks():
        name = dock_name(kind)
        dock = by_name.get(name)
        if dock is None:
            area = "bottom" if kind in BELOW else "left" if kind in WITH_LAYER_LIST else "right"
            dock = window.add_dock_widget(
                kind(viewer), name=name, area=area, add_vertical_stretch=False
            )
            keep_room(dock.widget())  # so that the docks keep their sizes
            dock.visibilityChanged.connect(partial(_rest, dock))
        dock.setWindowTitle(kind.__name__)  # a tab is narrow
        dock.show()
        docks[name] = dock
    return docks


def _rest(dock: QDockWidget, seen: bool) -> None:
    """Hide the content of a dock whose tab is behind others, which Qt treats as visible.

    So a dock works only while it is visible.
    """
    content = dock.widget()
    if content is not None and content.isHidden() == seen:
        content.setVisible(seen)


def open_workbench(viewer: Any = None) -> Any:
    """Open all docks in a viewer, arranged.

    Parameters
    ----------
    viewer : napari.Viewer, optional
        The viewer; by default a new one.

    Returns
    -------
    napari.Viewer
        The viewer.
    """
    viewer = napari.Viewer() if viewer is None else unwrapped(viewer)
    main = main_window(viewer)
    # Docks are stacked until they become tabs, which enlarges a small window.
    size = main.size()
    docks = _open_docks(viewer)
    three = size.height() >= _MIN_HEIGHT_FOR_THREE
    arrangement = DOCKS if three else SMALL_SCREEN_DOCKS
    groups = [[docks[dock_name(kind)] for kind in group] for group in arrangement]
    for group in groups:
        for dock in group:
            dock.setFloating(False)
            main.addDockWidget(RIGHT, dock)
    firsts = [group[0] for group in groups]
    for upper, lower in itertools.pairwise(firsts):
        main.splitDockWidget(upper, lower, Qt.Orientation.Vertical)
    for group in groups:
        for one, following in itertools.pairwise(group):
            main.tabifyDockWidget(one, following)
        group[0].raise_()
    below = [docks[dock_name(kind)] for kind in BELOW]
    for dock in below:
        dock.setFloating(False)
        main.addDockWidget(BOTTOM, dock)
    for one, following in itertools.pairwise(below):
        main.tabifyDockWidget(one, following)
    below[0].raise_()
    _join_layer_list(viewer, [docks[dock_name(kind)] for kind in WITH_LAYER_LIST])
    at_top = main.tabPosition(Qt.DockWidgetArea.TopDockWidgetArea)
    for area in (RIGHT, BOTTOM, LEFT):
        main.setTabPosition(area, at_top)
    # The right column is as high as the window; docks below are as wide as the canvas.
    main.setCorner(Qt.Corner.BottomRightCorner, RIGHT)
    main.setCorner(Qt.Corner.BottomLeftCorner, LEFT)
    if main.size() != size:
        # The minimum size is still that of stacked docks.
        main.layout().activate()
        main.resize(size)
    heights = [250, 450, 240] if three else [300, 400]
    main.resizeDocks(firsts, heights, Qt.Orientation.Vertical)
    main.resizeDocks(firsts, [400] * len(firsts), Qt.Orientation.Horizontal)
    main.resizeDocks(below[:1], [260 if three else 190], Qt.Orientation.Vertical)
    compat.show_scale_bar(viewer)
    settle_collector()
    return viewer


def _join_layer_list(viewer: Any, docks: list[QDockWidget]) -> None:
    """Tab docks with the layer list of napari, the first one in front."""
    main = main_window(viewer)
    # napari has no public names for its own docks.
    layers = getattr(viewer.window._qt_viewer, "dockLayerList", None)
    controls = getattr(viewer.window._qt_viewer, "dockLayerControls", None)
    for dock in docks:
        dock.setFloating(False)
        if layers is not None and not layers.isHidden():
            main.tabifyDockWidget(layers, dock)
    for dock in docks[:1]:
        dock.raise_()
    if controls is not None and not controls.isHidden() and docks:
        height = main.height()
        controls_height = min(_CONTROLS_HEIGHT, height // 3)
        heights = [controls_height, height - controls_height]
        main.resizeDocks([controls, docks[0]], heights, Qt.Orientation.Vertical)


def browse_in(viewer: Any, path: str, patience: int = 40) -> None:
    """Open a folder or a project in Browse, with all docks.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer.
    path : str
        Folder or project file.
    patience : int, default 40
        How often to wait 50 ms for the window to be shown; before, it has no size.
    """
    main = main_window(viewer)
    if not main.isVisible() and patience > 0:
        QTimer.singleShot(50, partial(browse_in, viewer, path, patience - 1))
        return
    available = QApplication.primaryScreen().availableGeometry().size()
    if not main.isMaximized():
        main.resize(main.size().boundedTo(available))
    open_workbench(viewer)
    binding_of(viewer).projects.open(path)


class Workbench(QWidget):
    """The entry of the menu: open all docks and close itself."""

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = unwrapped(napari_viewer)
        # Not at once: napari is about to put this widget into a dock of its own.
        QTimer.singleShot(0, self._open)

    def _open(self) -> None:
        viewer, self._viewer = self._viewer, None
        open_workbench(viewer)
        viewer.window.remove_dock_widget(self)
        self.deleteLater()


def show_analysis(viewer: Any, analysis: Analysis) -> Binding:
    """Show an analysed image in a viewer, with one cluster selected."""
    binding = binding_of(viewer)
    data, options, _ = layer_data(analysis.micrograph)
    layer = viewer.add_image(data, **options)
    image = binding.ensure_image(layer)
    binding.state.clusters.set_analysis(analysis, f"analyse {image}")
    binding.label_mode.on = True
    typical = typical_cluster(analysis)
    if typical is not None:
        binding.state.select({(image, typical)})
    return binding


def open_demo(analysis: Analysis, screenshot: str | Path | None = None, block: bool = True) -> Any:
    """Open a window with an analysed image and all docks.

    Parameters
    ----------
    analysis : Analysis
        The analysed image.
    screenshot : str or Path, optional
        PNG file for a screenshot of the painted window.
    block : bool, default True
        Whether to wait until the window is closed.

    Returns
    -------
    napari.Viewer
        The viewer; closed already if ``block``.

    Raises
    ------
    AtomicityError
        If the window is not painted within a minute.
    """
    viewer = napari.Viewer(title="Atomicity", show_welcome_screen=False)
    main = main_window(viewer)
    available = QApplication.primaryScreen().availableGeometry().size()
    main.resize(available.boundedTo(QSize(1600, 1000)))
    open_workbench(viewer)
    binding = show_analysis(viewer, analysis)
    image = analysis.micrograph.name
    _process_until(lambda: _complete(binding, image, analysis))
    viewer.reset_view(margin=0.02)
    _process_until(lambda: binding.settled)
    if screenshot is not None:
        viewer.window.screenshot(str(screenshot), flash=False, canvas_only=False)
    if block:
        napari.run()
    return viewer


def _complete(binding: Binding, image: str, analysis: Analysis) -> bool:
    points = binding.points_layer(image)
    maps = [binding.class_map_layer(image, c) for c in analysis.class_maps]
    return (
        points is not None
        and len(points.data) == len(analysis.table)
        and all(m is not None for m in maps)
        and binding.settled
    )


def _process_until(done: Callable[[], bool]) -> None:
    """Process events until a condition holds and the event loop is idle.

    Raises
    ------
    AtomicityError
        After a minute.
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
