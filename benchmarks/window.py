"""How long the window is blocked by what a person does: the longest turn of the event loop.

    python -m napari_atomicity.cli.display python benchmarks/window.py [--clusters 200 2000 20000]
    ... benchmarks/window.py --without scene       # without one measure for a responsive window

A real window with every dock open and an analysis made up in memory, so that neither detection
nor the network is waited for. Every event that Qt delivers is timed. Three figures per action:

- *turn*: the longest single event handler, in milliseconds of the clock. This is what blocks.
- *CPU*: the same of the thread of the window. On a busy machine the clock says more than is due.
- *painting*: the longest paint event. With a virtual display a processor draws what a graphics
  card would, so this is no measure of a real screen.
- *done*: from the action until nothing is left to do, tasks in the background included.

The best of several repeats is printed. ``--without`` switches one of our measures for a responsive
window off (`MEASURES`), so that its gain in a turn is the difference between two runs.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from qtpy.QtCore import QEvent, QObject, QSettings, Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from measuring import machine, write
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.core.tables.cluster_table import conform
from napari_atomicity.models.analysis import Analysis

CLASSES = ["Pt19", "Pt30", "Pt41", "Pt55", "Pt70"]
PIXEL_SIZE_NM = 0.036
_PAINTING = {QEvent.Type.Paint, QEvent.Type.UpdateRequest, QEvent.Type.Expose}


@dataclass(frozen=True)
class Turns:
    """The longest turns of one action, and how long the whole of it took, in milliseconds."""

    turn: float
    cpu: float
    painting: float
    done: float


class Timed(QApplication):
    """An application that times every event it delivers."""

    def __init__(self) -> None:
        super().__init__([])
        self._depth = 0
        self.handled: list[tuple[float, float]] = []
        self.painted: list[float] = []

    def notify(self, receiver: QObject, event: QEvent) -> bool:
        if self._depth:
            return super().notify(receiver, event)
        self._depth += 1
        kind, wall, cpu = event.type(), time.perf_counter(), time.thread_time()
        try:
            return super().notify(receiver, event)
        finally:
            self._depth -= 1
            spent = 1e3 * (time.perf_counter() - wall), 1e3 * (time.thread_time() - cpu)
            if kind in _PAINTING:
                self.painted.append(spent[0])
            else:
                self.handled.append(spent)


def made_up(
    n: int, size_px: int, name: str = "field", seed: int = 0, image: np.ndarray | None = None
) -> Analysis:
    """N clusters of five classes with patches, class maps, outlines and places in a map."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(n)))
    step = size_px / side
    cells = np.stack(np.divmod(np.arange(n), side), axis=1) + 0.5
    centres = cells * step + rng.uniform(-0.2, 0.2, (n, 2)) * step
    kind = rng.integers(0, len(CLASSES), n)
    label = np.array(CLASSES, object)[kind]
    p = rng.dirichlet(np.ones(len(CLASSES)), n) * 0.5
    p[np.arange(n), kind] += 0.5
    diameter = 0.9 + 0.12 * kind + rng.normal(0, 0.05, n)
    angle = 2 * np.pi * kind / len(CLASSES)
    table = pd.DataFrame(p, columns=[f"p_{c}" for c in CLASSES]).assign(
        image=name,
        cluster_id=np.arange(1, n + 1),
        y_px=centres[:, 0],
        x_px=centres[:, 1],
        y_nm=centres[:, 0] * PIXEL_SIZE_NM,
        x_nm=centres[:, 1] * PIXEL_SIZE_NM,
        diameter_nm=diameter,
        label=label,
        label_predicted=label,
        confidence=p.max(axis=1),
        prediction_set=label,
        ood_score=0.5,
        umap_1=5 + 4 * np.cos(angle) + rng.normal(0, 0.5, n),
        umap_2=5 + 4 * np.sin(angle) + rng.normal(0, 0.5, n),
        model_id="made-up",
    )
    turn = np.linspace(0, 2 * np.pi, 110)  # as many corners as outlines really have
    ring = np.column_stack([np.sin(turn), np.cos(turn)]) / (2 * PIXEL_SIZE_NM)
    if image is None:
        image = rng.normal(100, 5, (size_px, size_px)).astype(np.float32)
    return Analysis(
        Micrograph(image, PIXEL_SIZE_NM, name),
        conform(table, CLASSES),
        [centre + ring * d for centre, d in zip(centres, diameter, strict=True)],
        patches={c: rng.random((n, 56, 56), np.float32) for c in ("raw", "LCN")},
        embedding=rng.normal(size=(n, 64)).astype(np.float32),
        class_maps={c: rng.random((n, 14, 14), np.float32) for c in ("raw", "LCN")},
        field_of_view_nm=2.8,
        parameters={"model": {"model_id": "made-up", "classes": CLASSES}, "device": "cpu"},
    )


# ---- measures for a responsive window, and how each is switched off
def _without_scene() -> None:
    from napari_atomicity.gui.viewer.layers import compat

    compat.one_update_of_scene = lambda _: contextlib.nullcontext()


def _without_insertion() -> None:
    from napari_atomicity.gui.viewer.layers import compat

    def insert(layers: object, index: int, layer: object) -> None:
        active = layers.selection.active
        layers.insert(index, layer)
        if active is not None:
            layers.selection.active = active

    compat.insert_without_activating = insert


def _without_parts() -> None:
    from napari_atomicity.state.chunked_steps import ChunkedSteps

    run = ChunkedSteps.run
    ChunkedSteps.run = lambda self, work, long: run(self, work, False)


def _without_batch() -> None:
    from napari_atomicity.gui.viewer.layers import compat

    compat.batched_update = lambda _: contextlib.nullcontext()


def _without_turns() -> None:
    from napari_atomicity.gui.controls.refresher import TurnQueue

    TurnQueue.add = lambda self, key, work: work()


def _without_writing_in_place() -> None:
    from napari_atomicity.gui.viewer.layers import layers, points

    def write(layer: object, properties: dict) -> list[str]:
        for name, values in properties.items():
            setattr(layer, name, values)
        return list(properties)

    layers.write_properties = points.write_properties = write


MEASURES = {
    "scene": _without_scene,  # one update of the scene for all layers that are shown or hidden
    "insertion": _without_insertion,  # a new layer is not activated
    "parts": _without_parts,  # changes of thousands of clusters in parts
    "batch": _without_batch,  # one update of the scene for all layers that are removed
    "turns": _without_turns,  # layers of an image are written one in each turn
    "in place": _without_writing_in_place,  # colours of points are written into napari's arrays
}


def settle(app: Timed, state: object) -> None:
    """Let the window work until no task runs and nothing is left in the queue."""
    from napari_atomicity.gui import tasks

    quiet = 0
    while quiet < 8:
        start = time.perf_counter()
        app.processEvents()
        idle = not tasks.running(state) and time.perf_counter() - start < 0.003
        quiet = quiet + 1 if idle else 0
        time.sleep(0.008)


def measure(app: Timed, state: object, action: Callable[[], object]) -> Turns:
    """One action in the queue of the window, and all that follows from it."""
    settle(app, state)
    app.handled.clear()
    app.painted.clear()
    start = time.perf_counter()
    QTimer.singleShot(0, action)
    settle(app, state)
    done = 1e3 * (time.perf_counter() - start) - 8 * 8  # the quiet at the end is not its doing
    turn, cpu = (max(column) for column in zip(*app.handled, strict=True))
    return Turns(turn, cpu, max(app.painted, default=0.0), max(done, turn))


def actions(viewer: object, size_px: int, n: int) -> dict[str, Callable[[], object]]:
    """What a person does, and what a worker brings; each leaves things as they were."""
    from napari_atomicity.gui.viewer.binding import binding_of
    from napari_atomicity.gui.viewer.layers import compat

    binding = binding_of(viewer)
    state = binding.state
    canvas = viewer.window._qt_viewer.canvas.native
    ids = state.table("field")["cluster_id"].tolist()
    rng = np.random.default_rng(1)
    control = Qt.KeyboardModifier.ControlModifier
    results = [made_up(n, size_px), made_up(n, size_px)]

    def select(count: int) -> Callable[[], object]:
        def act() -> None:
            state.select(("field", int(i)) for i in rng.choice(ids, count, replace=False))

        return act

    def key(code: Qt.Key, *modifiers: Qt.KeyboardModifier) -> Callable[[], object]:
        return lambda: QTest.keyClick(canvas, code, *modifiers)

    def camera() -> None:
        view = compat.camera(viewer)
        view.center = tuple(np.asarray(view.center) + rng.normal(0, 0.2, 3) * (0, 1, 1))

    def maps() -> None:
        layer = viewer.layers["field class map raw"]
        layer.visible = not layer.visible

    def renewed() -> None:
        result = results[rng.integers(2)]
        state.clusters.set_analysis(replace(result, outlines=list(result.outlines)), soon=True)

    return {
        "select one": select(1),
        "its label by key": key(Qt.Key.Key_3),
        "undo by key": key(Qt.Key.Key_Z, control),
        "select half": select(len(ids) // 2),
        "their label by key": key(Qt.Key.Key_2),
        "undo that by key": key(Qt.Key.Key_Z, control),
        "move the view": camera,
        "class map on or off": maps,
        "hide a label": lambda: setattr(
            binding.clusters, "hidden", binding.clusters.hidden ^ {"Pt41"}
        ),
        "delete one by hand": lambda: state.clusters.remove_ids("field", [ids[3]]),
        "undo the deletion": binding.edits.undo,
        "hide the image": binding.canvas.layers["field"].hide,
        "show the image": binding.canvas.layers["field"].unhide,
        "analyse again": renewed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clusters", type=int, nargs="+", default=[200, 2000, 20000])
    parser.add_argument(
        "--size", type=int, help="edge of the image in pixels; as many as the clusters need if None"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--without", choices=MEASURES)
    parser.add_argument("--others", type=int, default=0, help="number of other, hidden images")
    options = parser.parse_args()
    about, rows = machine(), []
    # As for a new user: the docks that somebody left open are not measured.
    remembered = tempfile.TemporaryDirectory()
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, remembered.name)
    app = Timed()
    if options.without is not None:
        MEASURES[options.without]()

    import napari

    from napari_atomicity.gui.viewer.binding import Binding, binding_of
    from napari_atomicity.gui.viewer.layers.micrographs import layer_data
    from napari_atomicity.gui.workbench.window import open_workbench

    print(f"{'clusters':>8}  {'action':<20} {'turn':>8} {'CPU':>8} {'painting':>9} {'done':>8}  ms")
    for n in options.clusters:
        size_px = options.size or max(2048, 1024 * round(np.sqrt(n) * 45 / 1024))
        viewer = napari.Viewer(show_welcome_screen=False)
        viewer.window._qt_window.resize(1600, 1000)
        open_workbench(viewer)
        binding = binding_of(viewer)
        settle(app, binding.state)
        found: dict[str, list[Turns]] = {}

        def note(name: str, turns: Turns, found: dict = found) -> None:
            found.setdefault(name, []).append(turns)

        analysis = made_up(n, size_px)

        for i in range(options.others):
            viewer.add_image(np.zeros((64, 64), np.uint16), name=f"other {i}", visible=False)
        data, layer_options, _ = layer_data(analysis.micrograph)
        layer = viewer.add_image(data.astype(np.uint16), **layer_options)
        settle(app, binding.state)

        def take(binding: Binding = binding, layer: object = layer) -> None:
            binding.canvas.ensure_image(layer)

        def show(binding: Binding = binding, analysis: Analysis = analysis) -> None:
            binding.state.clusters.set_analysis(analysis, soon=True)  # as the dock Analyse does
            then(binding)

        def then(binding: Binding) -> None:
            if binding.state.busy:
                QTimer.singleShot(0, lambda: then(binding))
            else:
                binding.label_mode.on = True

        note("take the image", measure(app, binding.state, take))
        note("first result", measure(app, binding.state, show))
        viewer.window._qt_viewer.canvas.native.setFocus()
        for _ in range(options.repeats):
            for name, action in actions(viewer, size_px, n).items():
                note(name, measure(app, binding.state, action))
        note(
            "remove its layers", measure(app, binding.state, binding.canvas.layers["field"].remove)
        )
        for name, runs in found.items():
            best = [min(getattr(r, f) for r in runs) for f in ("turn", "cpu", "painting", "done")]
            print(f"{n:8d}  {name:<20} {best[0]:8.1f} {best[1]:8.1f} {best[2]:9.1f} {best[3]:8.1f}")
            rows.append({"clusters": n, "action": name, "ms": best})
        viewer.close()
        app.processEvents()
    if options.without is None:
        write("window", {"rows": rows}, about)


if __name__ == "__main__":
    main()
