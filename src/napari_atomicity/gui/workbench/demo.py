"""The window of ``atomicity demo``: an analysed image in the workspace of clusters."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import napari
from PIL import Image
from qtpy.QtCore import QSize, QTimer
from qtpy.QtWidgets import QApplication

from ...core.errors import AtomicityError
from ...io.files import atomic_write
from ...io.own_files import png_mark
from ...models.analysis import Analysis
from ..docks.analyse import typical_cluster
from ..panels.dock_windows import main_window
from ..viewer.binding import Binding, binding_of
from ..viewer.layer_data import layer_data
from .window import open_workbench

_PAINT_TIMEOUT_S = 60.0


def show_analysis(viewer: Any, analysis: Analysis) -> Binding:
    """Show an analysed image in a viewer, with one cluster selected.

    Corrections of the analysis are added to those of a viewer that shows the image already.
    """
    binding = binding_of(viewer)
    image = analysis.micrograph.name
    if binding.source_layer(image) is None:
        data, options, _ = layer_data(analysis.micrograph)
        binding.ensure_image(viewer.add_image(data, **options))
    binding.state.clusters.set_analysis(analysis, f"analyse {image}")
    corrected = analysis.table[analysis.table["label_corrected"] != ""]
    now = binding.state.table(image).set_index("cluster_id")["label_corrected"].to_dict()
    labels = zip(corrected["cluster_id"].tolist(), corrected["label_corrected"], strict=True)
    changed = {(image, i): label for i, label in labels if now.get(i, label) != label}
    if changed:
        binding.state.clusters.relabel_each(changed)
    binding.label_mode.on = True
    typical = typical_cluster(analysis)
    if typical is not None:
        binding.state.select({(image, typical)})
    return binding


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
