"""How smoothly ten thousand patches scroll: the gallery beside a list of ready-made icons.

    python -m napari_atomicity.display python benchmarks/gallery.py [--clusters 10000]

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

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable

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

from napari_atomicity.session import Session
from window import made_up

SIDE_PX = 72
WINDOW = QSize(900, 800)
PER_IMAGE = 250
JUMPS = 200


def session_of(n: int) -> Session:
    """A session of images of 250 clusters each."""
    session = Session()
    for k in range(n // PER_IMAGE):
        session.set_analysis(made_up(PER_IMAGE, 64, f"field_{k:03d}", seed=k))
    return session


def gallery(session: Session) -> tuple[QAbstractScrollArea, Callable[[], bool]]:
    """The view of the dock, and whether its last frame lacks something."""
    from napari_atomicity.widgets.gallery.model import GalleryModel
    from napari_atomicity.widgets.gallery.view import GalleryView

    model = GalleryModel(session)
    model.refresh()
    view = GalleryView(model)
    view.resize(WINDOW)
    view.relayout()
    return view, view.waiting


def icon_list(session: Session) -> tuple[QAbstractScrollArea, Callable[[], bool]]:
    """A list widget that is given everything first."""
    from napari_atomicity.widgets.gallery.pictures import compose_many, picture
    from napari_atomicity.widgets.viewer.marks import texts

    view = QListWidget()
    view.setViewMode(QListView.ViewMode.IconMode)
    view.setResizeMode(QListView.ResizeMode.Adjust)
    view.setUniformItemSizes(True)
    view.setIconSize(QSize(SIDE_PX, SIDE_PX))
    view.setVerticalScrollMode(QListView.ScrollMode.ScrollPerPixel)
    view.resize(WINDOW)
    for image in session.images:
        analysis = session.analysis(image)
        pixels = compose_many(analysis.patches["raw"])
        for patch, words in zip(pixels, texts(analysis.table), strict=True):
            view.addItem(QListWidgetItem(QIcon(picture(patch, SIDE_PX, 1.0)), str(words)))
    return view, lambda: False


WAYS = {"gallery": gallery, "list": icon_list}


def megabytes() -> float:
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


def run(way: str, n: int) -> None:
    """Measure one way and print its line."""
    app = QApplication([])
    session = session_of(n)
    before, start = megabytes(), time.perf_counter()
    view, unfinished = WAYS[way](session)
    view.show()
    while not view.windowHandle().isExposed():
        app.processEvents()
    view.viewport().repaint()
    ready = 1e3 * (time.perf_counter() - start)
    bottom = view.verticalScrollBar().maximum()
    notch = max(3 * view.verticalScrollBar().singleStep(), 60)
    scrolling, late = frames(view, np.arange(0, bottom, notch), unfinished)
    jumping, later = frames(view, np.random.default_rng(0).integers(0, bottom, JUMPS), unfinished)
    print(
        f"{way:<8} {n:8d} {ready:9.0f} {np.median(scrolling):10.1f} {scrolling.max():8.1f}"
        f" {np.median(jumping):10.1f} {jumping.max():8.1f} {late + later:11d}"
        f" {megabytes() - before:10.0f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clusters", type=int, nargs="+", default=[10_000])
    parser.add_argument("--way", choices=list(WAYS), help="in this process, this one alone")
    options = parser.parse_args()
    os.environ["NAPARI_ATOMICITY_WARM_UP"] = "0"
    if options.way:
        run(options.way, options.clusters[0])
        return
    print(
        f"{'way':<8} {'clusters':>8} {'ready':>9} {'scrolling':>10} {'max':>8} {'jumping':>10}"
        f" {'max':>8} {'unfinished':>11} {'memory':>10}   ms, MB",
        flush=True,
    )
    for n in options.clusters:
        for way in WAYS:
            command = [sys.executable, __file__, "--way", way, "--clusters", str(n)]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
