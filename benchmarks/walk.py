"""How far one edit travels through our own code: calls, files, and moves between files.

    python -m napari_atomicity.cli.display python benchmarks/walk.py [--json FILE] [--trace 200]
        [--show]

All docks of the workbench are made. A folder with one small image is opened as a project and
analysed with the default model. Then two edits are followed, with everything that comes of them
until the window is idle:

- *label key*: a number key is pressed while three clusters are selected;
- *Classify*: the button is clicked after another model was chosen.

The window stays hidden: no dock paints, and docks leave what only a visible dock needs until they
are shown. With ``--show`` the window is shown, and the docks in front do that work too. The figures
of the label key are the same at every run; those of *Classify* vary by some percent, because
progress is reported at most every 50 ms.

What counts:

- *calls*: calls of functions and methods (properties too) whose code lies in a file of the package,
  in every thread. Bodies of modules and classes, lambdas and comprehensions do not count, nor does
  generated code, such as the ``__init__`` of a dataclass. A generator counts once, when it is made,
  and not each time it is resumed.
- *frames*: the same with lambdas, comprehensions, and every resumption of a generator.
- *files*: files with at least one of these frames.
- *moves*: calls out of one file into another. The caller is the nearest function of the package on
  the stack: a signal that passes through Qt, psygnal or napari on its way is a move.
- *entered*: how often a file is entered: moves into it, and calls of its functions by others than
  the package, such as the event loop.

Methods that override those of Qt (their names are in camel case) do not count when Qt calls them,
nor does what they call: Qt paints and lays out when it likes. Each edit is made several times, and
the run with the fewest calls counts: so a timer that has nothing to do with the edit (the look of
the window is noted every 2 s) does not count unless the edit takes longer. The first run is never
counted, because it imports modules. UMAP is a stand-in, as it is compiled for half a minute.
"""

from __future__ import annotations

import inspect
import os
import re
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dis import opname
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any, NamedTuple

import numpy as np
import tifffile
from qtpy.QtCore import QSettings, Qt, QThreadPool
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QComboBox, QDockWidget, QPushButton, QWidget

import napari_atomicity
from measuring import machine, options, write

# All that this script knows of the package; a user knows these names too.
PACKAGE = Path(napari_atomicity.__file__).parent
PLUGIN, WORKBENCH = "napari-atomicity", "Workbench"
ANALYSE, CLASSIFY = "Analyse", "Classify"
"""Titles of docks, and texts of their buttons."""
MODELS = ("default", "pt-raw")
"""Data of two items of the combo box for the model."""
ENVIRONMENT = {"ATOMICITY_MODELS": os.devnull}
ID_COLUMN, LABEL_COLUMN, CONFIDENCE_COLUMN = "cluster_id", "label", "confidence"
"""Features of the layer with a point for each cluster."""

PIXEL_SIZE_NM = 0.05
SELECTED = 3
QUIET_S, QUIET_TURNS = 0.3, 10
"""The window is idle after so long, and so many turns of its loop, without a call of ours."""
TIMEOUT_S = 60.0
MOST_ENTERED = 10
_GENERATOR = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_OVERRIDES_QT = re.compile("[a-z][A-Z]")


class Call(NamedTuple):
    """One call: its thread, depth among the functions of the package, file and function."""

    thread: int
    depth: int
    file: str
    function: str


class Walk:
    """Counts calls of functions whose code lies in a folder.

    Parameters
    ----------
    folder : Path
        Folder of the package.
    """

    def __init__(self, folder: Path) -> None:
        self._prefix = str(folder) + os.sep
        self._known: dict[CodeType, str | None] = {}
        self.last_s = time.monotonic()
        self.clear()

    def clear(self) -> None:
        """Count from nothing."""
        self.calls: list[Call] = []
        self.frames: Counter[tuple[int, str]] = Counter()
        self.entered: Counter[str] = Counter()
        self.moves = 0

    @contextmanager
    def following(self) -> Iterator[None]:
        """Follow this thread, and those that `threading` starts, within the block."""
        threading.setprofile(self.event)
        sys.setprofile(self.event)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]

    def figures(self) -> dict[str, Any]:
        """What was counted, as it is written into a record."""
        window = threading.get_ident()
        return {
            "calls": len(self.calls),
            "calls_in_workers": sum(call.thread != window for call in self.calls),
            "frames": self.frames.total(),
            "frames_in_workers": sum(n for (t, _), n in self.frames.items() if t != window),
            "files": len({file for _, file in self.frames}),
            "moves": self.moves,
            "entered": dict(self.entered.most_common(MOST_ENTERED)),
        }

    def lines(self, count: int) -> Iterator[str]:
        """The first calls, indented by their depth."""
        names = {threading.get_ident(): "window"}
        thread = None
        for call in self.calls[:count]:
            if call.thread != thread:
                thread = call.thread
                yield f"[{names.setdefault(thread, f'worker {len(names)}')}]"
            yield f"{'  ' * (call.depth + 1)}{call.file}: {call.function}"

    def event(self, frame: FrameType, event: str, arg: object) -> None:
        """Count what begins; for `sys.setprofile`."""
        if event != "call":
            return
        file = self._file(frame.f_code)
        if file is None or _is_body(frame.f_code):
            return
        outermost, caller, depth, outer = frame.f_code, None, 0, frame.f_back
        while outer is not None:
            above = self._file(outer.f_code)
            if above is not None:
                outermost, caller = outer.f_code, caller or above
                depth += _is_function(outer.f_code)
            outer = outer.f_back
        if _OVERRIDES_QT.search(outermost.co_name):
            return
        self.last_s = time.monotonic()
        self.frames[threading.get_ident(), file] += 1
        if not _is_function(frame.f_code) or _is_resumed(frame):
            return
        if caller != file:
            self.entered[file] += 1
            self.moves += caller is not None
        self.calls.append(Call(threading.get_ident(), depth, file, frame.f_code.co_qualname))

    def _file(self, code: CodeType) -> str | None:
        """Path within the folder of the file that code lies in; None of other code."""
        if code not in self._known:
            path = code.co_filename
            inside = path.startswith(self._prefix)
            self._known[code] = Path(path[len(self._prefix) :]).as_posix() if inside else None
        return self._known[code]


def _is_body(code: CodeType) -> bool:
    """Whether code is that of a module or a class."""
    return not code.co_flags & inspect.CO_OPTIMIZED


def _is_function(code: CodeType) -> bool:
    """Whether code is that of a named function: no lambda, no comprehension."""
    return not _is_body(code) and not code.co_name.startswith("<")


def _is_resumed(frame: FrameType) -> bool:
    """Whether a generator goes on after a yield."""
    code = frame.f_code
    if not code.co_flags & _GENERATOR or frame.f_lasti < 0:
        return False
    instruction, argument = code.co_code[frame.f_lasti : frame.f_lasti + 2]
    return not (opname[instruction] == "RESUME" and argument == 0)


def follow_workers(walk: Walk) -> None:
    """Follow napari's workers too: Qt starts their threads without Python's `threading`."""
    from napari.qt.threading import WorkerBase

    run = WorkerBase.run

    def followed(worker: Any) -> None:
        sys.setprofile(walk.event)
        try:
            run(worker)
        finally:
            sys.setprofile(None)

    WorkerBase.run = followed


# ---- the window
class Window:
    """A window with the workbench, and what a person does in it.

    Parameters
    ----------
    app : QApplication
        The application.
    walk : Walk
        Says when the last function of the package was called.
    show : bool
        Whether the window is shown.
    """

    def __init__(self, app: QApplication, walk: Walk, show: bool) -> None:
        import napari

        self.app, self.walk = app, walk
        self.viewer = napari.Viewer(show=show, show_welcome_screen=False)
        self.main = self.viewer.window._qt_window
        self.main.resize(1600, 1000)
        self.canvas = self.viewer.window._qt_viewer.canvas.native
        self.viewer.window.add_plugin_dock_widget(PLUGIN, WORKBENCH)
        self.settle()
        # A dock is built when it is seen, which it is not in a hidden window.
        for dock in self.main.findChildren(QDockWidget):
            if hasattr(dock.widget(), "build"):
                dock.widget().build()
        self.settle()

    def settle(self) -> None:
        """Let the window work until it is idle.

        Raises
        ------
        SystemExit
            If it is still busy after `TIMEOUT_S`.
        """
        walk, turns = self.walk, 0
        start = last_s = walk.last_s = time.monotonic()
        while time.monotonic() - walk.last_s < QUIET_S or turns < QUIET_TURNS:
            self.app.processEvents()
            if QThreadPool.globalInstance().activeThreadCount():
                walk.last_s = time.monotonic()
            turns = turns + 1 if walk.last_s == last_s else 0
            last_s = walk.last_s
            if time.monotonic() - start > TIMEOUT_S:
                raise SystemExit("the window is still busy")
            time.sleep(0.002)

    def wait_until(self, true: Callable[[], bool], what: str) -> None:
        """Let the window work until something is so, and then until it is idle.

        Raises
        ------
        SystemExit
            If it does not happen within `TIMEOUT_S`.
        """
        limit = time.monotonic() + TIMEOUT_S
        while not true():
            if time.monotonic() > limit:
                raise SystemExit(f"this did not happen: {what}")
            self.app.processEvents()
            time.sleep(0.002)
        self.settle()

    def widget(self, title: str, kind: type[Any], match: Callable[[Any], bool]) -> Any:
        """The widget in the dock of that title."""
        docks = self.main.findChildren(QDockWidget)
        found: list[QWidget] = next(d for d in docks if d.windowTitle() == title).findChildren(kind)
        return next(widget for widget in found if match(widget))

    def button(self, text: str) -> QPushButton:
        """The button with that text in the dock Analyse."""
        return self.widget(ANALYSE, QPushButton, lambda button: button.text() == text)

    def click(self, text: str) -> None:
        """Click that button."""
        QTest.mouseClick(self.button(text), Qt.MouseButton.LeftButton)

    def choose(self, title: str, model: str) -> None:
        """Choose a model in a dock."""
        combo = self.widget(title, QComboBox, lambda combo: combo.findData(model) >= 0)
        combo.setCurrentIndex(combo.findData(model))
        self.settle()

    @property
    def clusters(self) -> Any:
        """The layer with a point for each cluster; None where there is none."""
        layers = self.viewer.layers
        return next((x for x in layers if ID_COLUMN in getattr(x, "features", ())), None)

    def column(self, name: str) -> list[Any]:
        """Values of the clusters."""
        return list(self.clusters.features[name])

    def open(self, folder: Path) -> None:
        """Open a folder as a project, and analyse its image."""
        self.viewer.open(str(folder), plugin=PLUGIN)
        self.wait_until(lambda: self.button(ANALYSE).isEnabled(), "the image is there")
        self.click(ANALYSE)
        self.wait_until(lambda: self.clusters is not None, "clusters are there")

    def press_label_key(self, number: int) -> None:
        """Press a number key in the canvas."""
        self.canvas.setFocus()
        QTest.keyClick(self.canvas, Qt.Key(Qt.Key.Key_0.value + number))


def label_key(window: Window, run: int) -> Callable[[], None]:
    """Select three clusters; what gives them a label that they do not have."""
    window.clusters.selected_data = set(range(SELECTED))
    window.settle()
    before = window.column(LABEL_COLUMN)[:SELECTED]
    number = 1 + run % 2

    def edit() -> None:
        window.press_label_key(number)
        now = window.column(LABEL_COLUMN)[:SELECTED]
        if run and (now == before or len(set(now)) > 1):
            raise SystemExit("the key gave no label")

    return edit


def classify(window: Window, run: int) -> Callable[[], None]:
    """Choose another model after a result of the first; what classifies the clusters with it."""

    def edit() -> None:
        before = window.column(CONFIDENCE_COLUMN)
        window.click(CLASSIFY)
        changed = lambda: window.column(CONFIDENCE_COLUMN) != before  # noqa: E731
        window.wait_until(changed, "clusters are classified")

    if run:
        window.choose(ANALYSE, MODELS[0])
        edit()
    window.choose(ANALYSE, MODELS[1])
    return edit


EDITS = {"label key": label_key, "Classify": classify}


def measure(window: Window, walk: Walk, runs: int, trace: int) -> dict[str, Any]:
    """Figures of each edit: those of the run with the fewest calls."""
    found = {}
    for name, prepare in EDITS.items():
        figures, lines = [], []
        for run in range(runs + 1):
            edit = prepare(window, run)
            walk.clear()
            edit()
            window.settle()
            if run:
                figures.append(walk.figures())
                lines.append(list(walk.lines(trace)))
        best = min(range(runs), key=lambda i: figures[i]["calls"])
        found[name] = figures[best]
        if trace:
            print(f"{name}:", *lines[best], sep="\n", end="\n\n")
    return found


# ---- stand-ins
def write_image(path: Path, rows: int = 3, columns: int = 4) -> None:
    """Write an image with Gaussian blobs of rising brightness on noise, calibrated in nm."""
    y, x = np.mgrid[: 80 * rows, : 80 * columns]
    image = np.random.default_rng(0).normal(100, 1, y.shape)
    for i in range(rows * columns):
        row, column = divmod(i, columns)
        squared = (y - 80 * row - 40) ** 2 + (x - 80 * column - 40) ** 2
        image += 40 * (1 + i / 4) * np.exp(-squared / (2 * 6.0**2))
    tifffile.imwrite(
        path, image.astype(np.uint16), imagej=True,
        resolution=(1 / PIXEL_SIZE_NM,) * 2, metadata={"unit": "nm"},
    )  # fmt: skip


class UMAP:
    """Has the methods of UMAP, and gives the first two dimensions."""

    def __init__(self, **options: Any) -> None:
        pass

    def fit(self, embedding: np.ndarray) -> UMAP:
        return self

    def transform(self, embedding: np.ndarray) -> np.ndarray:
        return embedding[:, :2].copy()

    fit_transform = transform


def replace_umap() -> None:
    """Let `import umap` find the stand-in."""
    module = ModuleType("umap")
    module.UMAP = UMAP  # type: ignore[attr-defined]
    sys.modules["umap"] = module


def main() -> None:
    given = options(__doc__, runs=3, trace=0, json=None, show=False)
    os.environ.update(ENVIRONMENT)
    replace_umap()
    about = machine()
    walk = Walk(PACKAGE)
    with tempfile.TemporaryDirectory() as temporary:
        QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, temporary)
        folder = Path(temporary) / "images"
        folder.mkdir()
        write_image(folder / "image.tif")
        app = QApplication.instance() or QApplication([])
        follow_workers(walk)
        with walk.following():
            window = Window(app, walk, given.show)
            window.open(folder)
            found = measure(window, walk, given.runs, given.trace)
        window.viewer.close()
        app.processEvents()
    path = write("walk", {"shown": given.show, "edits": found}, about)
    if given.json is not None:
        shutil.copyfile(path, given.json)


if __name__ == "__main__":
    main()
