"""Close a real window as a person does; run by test_closing.

By its button in the middle of Analyse all again, or by Ctrl+Q with a label in memory only.
"""

from __future__ import annotations

import ctypes
import sys
import time
from pathlib import Path

import napari
import pytest
from brightness import BrightnessClassifier, offer
from napari._app_model import get_app_model
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QMessageBox
from synthetic import made_up

from napari_atomicity.gui.docks.browse.dock import Browse
from napari_atomicity.gui.docks.embedding.dock import Embedding

CLIENT_MESSAGE = 33


class SlowClassifier(BrightnessClassifier):
    """Takes long when everything is analysed again."""

    seconds = 0.0

    def predict(self, *args, **options):
        time.sleep(self.seconds)
        return super().predict(*args, **options)


class ClientMessage(ctypes.Structure):
    """An event of X11."""

    _fields_ = (
        ("type", ctypes.c_int), ("serial", ctypes.c_ulong), ("send_event", ctypes.c_int),
        ("display", ctypes.c_void_p), ("window", ctypes.c_ulong), ("kind", ctypes.c_ulong),
        ("format", ctypes.c_int), ("values", ctypes.c_long * 5), ("rest", ctypes.c_long * 24),
    )  # fmt: skip


def click_close_button(window_id: int) -> None:
    """Send what a window manager sends when a person clicks the window's close button."""
    x11 = ctypes.CDLL("libX11.so.6")
    x11.XOpenDisplay.restype = ctypes.c_void_p
    x11.XInternAtom.restype = ctypes.c_ulong
    display = ctypes.c_void_p(x11.XOpenDisplay(None))
    kind, delete = (
        x11.XInternAtom(display, name, 0) for name in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW")
    )
    values = (ctypes.c_long * 5)(delete, 0, 0, 0, 0)
    event = ClientMessage(CLIENT_MESSAGE, 0, 1, display, window_id, kind, 32, values)
    x11.XSendEvent(display, ctypes.c_ulong(window_id), 0, ctypes.c_long(0), ctypes.byref(event))
    x11.XFlush(display)


def main(folder: Path, by_key: bool) -> None:
    """Print the questions that are asked."""
    classifier = SlowClassifier()
    offer(pytest.MonkeyPatch(), classifier)
    viewer = napari.Viewer()
    browse, embedding = Browse(viewer), Embedding(viewer)
    for dock in (browse, embedding):
        viewer.window.add_dock_widget(dock, name=type(dock).__name__)
    window, state = viewer.window._qt_window, browse.state

    def answer() -> None:
        dialog = QApplication.activeModalWidget()
        if isinstance(dialog, QMessageBox):
            print(f"asked: {dialog.text()!r}", flush=True)
            buttons = dialog.standardButtons()
            kinds = dialog.StandardButton
            yes = next(b for b in (kinds.Yes, kinds.Close, kinds.Discard) if b & buttons)
            dialog.button(yes).click()
        elif dialog is not None:
            print(f"asked: {dialog.windowTitle()!r}", flush=True)
            dialog.accept()

    def steps():
        browse.open(str(folder))
        while state.project is None or not browse.binding.settled:
            yield
        browse.analyse_all()
        while browse.batch.running or not browse.binding.settled:
            yield
        state.clusters.relabel([(state.images[0], 1)], "Pt41")
        if by_key:
            state.clusters.set_analysis(made_up(6, "in memory"))
            state.clusters.relabel([("in memory", 1)], "Pt41")
            get_app_model().commands.execute_command("napari.window.file.quit_dialog")
            return
        classifier.seconds = 0.5
        browse.analyse_all()
        while not browse.batch.running:
            yield
        click_close_button(int(window.winId()))
        while True:
            yield

    going = steps()
    timers = [QTimer(), QTimer()]
    for timer, slot in zip(timers, (answer, lambda: next(going, None)), strict=True):
        timer.timeout.connect(slot)
        timer.start(50)
    napari.run()
    print("ended", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), by_key="--quit" in sys.argv)
