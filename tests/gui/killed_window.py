"""Windows that correct labels by keys until they are killed; run by window_kills.

A server imports everything, and forks a window for each line ``path seed analyse`` of its input. A
window prints each correction once the program has saved it. If ``analyse`` is 1, it runs *Analyse
all* meanwhile.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import os
import pkgutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import napari
import napari._app_model
import napari._qt.qt_main_window
import napari._vispy
import numpy as np
import OpenGL.arrays
import pytest
from brightness import BrightnessClassifier, offer
from napari.components import ViewerModel
from npe2 import PluginManifest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_atomicity.gui.docks.browse.dock import Browse
from napari_atomicity.pipeline import analysis as _imported_before_the_fork  # noqa: F401

_FIRST_KEY = Qt.Key.Key_1.value
_N_CLASSES = 5
SIZE_PX = 700, 500
_TIMEOUT_S = 60.0
_NETWORK_S = 0.3


class SlowClassifier(BrightnessClassifier):
    """Takes as long as a network would, so that *Analyse all* runs while labels are corrected."""

    def predict(self, *args, **options):
        time.sleep(_NETWORK_S)
        return super().predict(*args, **options)


class KilledWindow:
    """A window with an open project, whose first image has clusters.

    Parameters
    ----------
    path : Path
        Project file.
    """

    def __init__(self, path: Path) -> None:
        self._viewer = napari.Viewer(show_welcome_screen=False)
        self._viewer.window._qt_window.resize(*SIZE_PX)
        self._browse = Browse(self._viewer)
        self._viewer.window.add_dock_widget(self._browse, name="Browse")
        self._binding, self._state = self._browse.binding, self._browse.state
        self._browse.open(str(path))
        self._wait_until(lambda: self._state.project is not None and self._binding.settled)
        self._image = self._state.project.names[0]
        self._state.current = self._image
        self._wait_until(lambda: self._binding.settled)
        self._binding.label_mode.on = True
        self._canvas = self._viewer.window._qt_viewer.canvas.native

    def _wait_until(self, true: Callable[[], bool]) -> None:
        end = time.monotonic() + _TIMEOUT_S
        while not true():
            assert time.monotonic() < end, "the window does not get ready"
            QApplication.processEvents()
            time.sleep(0.001)

    def analyse_all(self) -> None:
        """Click *Analyse all*, and wait until it runs."""
        button = self._browse.analyse_button
        self._wait_until(button.isEnabled)
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)
        self._wait_until(lambda: self._browse.batch.running)
        self._browse.batch.changed.connect(self._on_batch)

    def _on_batch(self) -> None:
        if not self._browse.batch.running:
            print("analysed", flush=True)

    def correct(self, seed: int) -> None:
        """Correct labels for ever."""
        i = seed
        while True:
            i += 1
            ids = self._state.table(self._image)["cluster_id"].tolist()
            chosen = ids[i % len(ids)]
            self._state.select([(self._image, chosen)])
            QApplication.processEvents()
            kind = i % 7
            if kind == 5 and len(ids) > 6:
                self._press(Qt.Key.Key_X)
                print(f"gone {chosen}", flush=True)
            elif kind == 6:
                self._press(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
                print("undone", flush=True)
            else:
                self._press(Qt.Key(_FIRST_KEY + i % _N_CLASSES))
                table = self._state.table(self._image).set_index("cluster_id")
                print(f"said {chosen} {table.loc[chosen, 'label_corrected']}", flush=True)

    def _press(self, key: Qt.Key, *modifiers: Qt.KeyboardModifier) -> None:
        """Press a key, and wait until the window says that all is saved."""
        QTest.keyClick(self._canvas, key, *modifiers)
        self._wait_until(lambda: not self._state.busy)
        assert self._state.unsaved == "", self._state.unsaved


def warm_up() -> None:
    """Import what a window imports late, and read what it reads once; needs no application."""
    for package in (napari._qt, napari._vispy, napari._app_model, OpenGL.arrays):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not {"_tests", "tests", "__main__"} & set(found.name.split(".")):
                with contextlib.suppress(Exception):  # of systems and libraries that are not here
                    importlib.import_module(found.name)
    PluginManifest.discover = functools.cache(PluginManifest.discover)
    model = ViewerModel()
    model.add_image(np.zeros((8, 8)), scale=(0.1, 0.1), units=("nm", "nm"))
    model.add_points(np.zeros((2, 2)))
    model.add_shapes([np.zeros((3, 2))], shape_type="polygon")
    gc.collect()
    gc.freeze()


def main(path: str, seed: int, analyse: bool) -> None:
    """Open a window and correct labels in it until the process is killed."""
    print(f"began {os.getpid()}", flush=True)
    offer(pytest.MonkeyPatch(), SlowClassifier())
    window = KilledWindow(Path(path))
    print("ready", flush=True)
    if analyse:
        window.analyse_all()
        print("analysing", flush=True)
    window.correct(seed)


def serve() -> None:
    """Fork a window for each line of the input, and say when it has ended."""
    warm_up()
    for line in sys.stdin:
        path, seed, analyse = line.rstrip("\n").rsplit(" ", 2)
        window = os.fork()
        if window == 0:
            main(path, int(seed), analyse == "1")
        _, status = os.waitpid(window, 0)
        print(f"ended {os.waitstatus_to_exitcode(status)}", flush=True)


if __name__ == "__main__":
    serve()
