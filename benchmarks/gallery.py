"""How smoothly ten thousand patches scroll: the gallery beside a list of ready-made icons.

    python -m napari_atomicity.cli.display python benchmarks/gallery.py [--clusters 10000]

A window of 900 × 800 pixels with tiles of 72, first scrolled through from top to bottom, a notch
of the wheel at a time, then sent to places at random, as by dragging the scroll bar. Each frame is
painted at once and timed by the processor's clock for the thread of the window: on a busy machine
that of the wall says more than is due. Both ways show the same pictures and texts, and each runs
in a process of its own:

- *gallery*: the view of the dock: pictures are made when they are painted, for at most 20 ms a
  frame (the rest comes in the next one), and a limited number is kept;
- *list*: the obvious way, a `QListWidget` with an icon and a text for each cluster.

*scrolling* and *jumping* are the median and the longest frame of either, during which the window
can do nothing else. *ready* is the time from the data to the first frame, *memory* what the
process has grown by at the end, *unfinished* the frames in which some tile had to wait for the
next. A frame in which Python happens to collect all its garbage takes some 50 ms more.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
from qtpy.QtCore import QSize
from qtpy.QtGui import QIcon
from qtpy.QtWidgets import (
    QAbstractScrollArea,
    QApplication,
    QListView,
    QListWidget,
    QListWidgetItem,
)

from measuring import machine, options, write
from napari_atomicity.state.window_state import WindowState
from window import made_up

SIDE_PX = 72
WINDOW = QSize(900, 800)
PER_IMAGE = 250
JUMPS = 200


def state_of(n: int) -> WindowState:
    """A session of images of 250 clusters each."""
    state = WindowState()
    for k in range(n // PER_IMAGE):
        state.clusters.set_analysis(made_up(PER_IMAGE, 64, f"field_{k:03d}", seed=k))
    return state


def gallery(state: WindowState) -> tuple[QAbstractScrollArea, Callable[[], bool]]:
    """The view of the dock, and whether its last frame lacks something."""
    from napari_atomicity.gui.gallery.model import GalleryModel
    from napari_atomicity.gui.gallery.view import GalleryView

    model = GalleryModel(state)
    model.refresh()
    view = GalleryView(model)
    view.resize(WINDOW)
    view.relayout()
    return view, view.waiting


def icon_list(state: WindowState) -> tuple[QAbstractScrollArea, Callable[[], bool]]:
    """A list widget that is given everything first."""
    from napari_atomicity.gui.gallery.model import picture
    from napari_atomicity.gui.viewer.layers.point_style import texts
    from napari_atomicity.reporting.patch_pictures import compose

    view = QListWidget()
    view.setViewMode(QListView.ViewMode.IconMode)
    view.setResizeMode(QListView.ResizeMode.Adjust)
    view.setUniformItemSizes(True)
    view.setIconSize(QSize(SIDE_PX, SIDE_PX))
    view.setVerticalScrollMode(QListView.ScrollMode.ScrollPerPixel)
    view.resize(WINDOW)
    for image in state.images:
        analysis = state.analysis(image)
        pixels = compose(analysis.patches["raw"])
        for patch, words in zip(pixels, texts(analysis.table), strict=True):
            view.addItem(QListWidgetItem(QIcon(picture(patch, SIDE_PX, 1.0)), str(words)))
    return view, lambda: False


WAYS = {"gallery": gallery, "list": icon_list}


def mebibytes() -> float:
    return psutil.Process().memory_info().rss / 2**20


def frames(
    view: QAbstractScrollArea, places: np.ndarray, unfinished: Callable[[], bool]
) -> tuple[np.ndarray, int]:
    """Milliseconds of each frame along some places, and how many were not finished."""
    spent, waiting = [], 0
    for place in places:
        view.verticalScrollBar().setValue(int(place))
        start = time.thread_time()
        view.viewport().repaint()
        spent.append(1e3 * (time.thread_time() - start))
        waiting += unfinished()
    return np.array(spent), waiting


def run(way: str, n: int) -> dict[str, Any]:
    """The figures of one way."""
    app = QApplication([])
    state = state_of(n)
    before, start = mebibytes(), time.perf_counter()
    view, unfinished = WAYS[way](state)
    view.show()
    while not view.windowHandle().isExposed():
        app.processEvents()
    view.viewport().repaint()
    ready = 1e3 * (time.perf_counter() - start)
    bottom = view.verticalScrollBar().maximum()
    notch = max(3 * view.verticalScrollBar().singleStep(), 60)
    scrolling, late = frames(view, np.arange(0, bottom, notch), unfinished)
    jumping, later = frames(view, np.random.default_rng(0).integers(0, bottom, JUMPS), unfinished)
    return {
        "way": way,
        "clusters": n,
        "ready": ready,
        "scrolling": float(np.median(scrolling)),
        "scrolling_most": float(scrolling.max()),
        "jumping": float(np.median(jumping)),
        "jumping_most": float(jumping.max()),
        "unfinished": late + later,
        "memory_mib": mebibytes() - before,
    }


def main() -> None:
    given = options(__doc__, clusters=[10_000], way="")  # --way: in this process, this one alone
    if given.way:
        print(json.dumps(run(given.way, given.clusters[0])))
        return
    about = machine()
    ways = []
    for n in given.clusters:
        for way in WAYS:
            command = [sys.executable, __file__, "--way", way, "--clusters", str(n)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            ways.append(json.loads(done.stdout.splitlines()[-1]))
    write("gallery", {"ways": ways}, about)


if __name__ == "__main__":
    main()
