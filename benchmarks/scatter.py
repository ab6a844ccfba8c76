"""How fast the map of the embedding is: frames per second, and what a person does to it.

    python -m napari_atomicity.cli.display python benchmarks/scatter.py [--points 1000 10000 100000]

The scatter of the dock *Embedding* beside the obvious way, a matplotlib scatter that is drawn again
at every change. The best of several repeats counts.

- *pan*, *zoom*: frames per second while the map is dragged and zoomed, as they are painted.
- *whole*: one picture of all points, at rest.
- *lasso*: which points lie in a polygon of 200 corners around a fifth of the map.
- *highlight*: ring a tenth of the points; *relabel*: other colours and symbols of the points, in
  either case until the picture is there.
- *dock*: the part of a relabel of 20 clusters in the dock alone, from the session's signal to what
  is sent to the graphics card: tables, colours, legend, names.

With a virtual display a processor draws what a graphics card would: then frames are slow, and
*Embedding* draws as many points as there is time for while the map moves.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.path import Path
from qtpy.QtWidgets import QApplication

from measuring import best_of, machine, options, write
from napari_atomicity.core.palette import colours, symbols
from napari_atomicity.gui.scatter.mouse import rows_in_polygon

CLASSES = ["Pt19", "Pt30", "Pt41", "Pt55", "Pt70"]
WIDTH, HEIGHT = 420, 480
_MARKERS = {"disc": "o", "square": "s", "triangle_up": "^", "diamond": "D", "star": "*"}


def best_ms(action: Callable[[], object], repeats: int) -> float:
    return 1e3 * best_of(action, repeats)


class Ours:
    """The scatter of the dock."""

    def __init__(self, app: QApplication, xy: np.ndarray, kind: np.ndarray) -> None:
        from napari_atomicity.gui.scatter.scatter import Scatter

        self.app = app
        self.scatter = Scatter()
        self.scatter.resize(WIDTH, HEIGHT)
        self.scatter.show()
        self.scatter.set_points(xy)
        self.relabel(kind)
        self.scatter.fit()
        self.show()

    def show(self) -> None:
        self.scatter.canvas.update()
        self.app.processEvents()

    def pan(self) -> None:
        self.scatter._view.camera.pan((0.01, 0))
        self.scatter._frame_limiter.hurry()
        self.show()

    def zoom(self) -> None:
        self.scatter._view.camera.zoom(0.999, (0, 0))
        self.scatter._frame_limiter.hurry()
        self.show()

    def whole(self) -> None:
        self.scatter._frame_limiter.rest()
        self.show()

    def lasso(self, polygon: np.ndarray) -> None:
        rows_in_polygon(self.scatter.positions, polygon)

    def highlight(self, rows: np.ndarray) -> None:
        self.scatter.set_highlight(rows)
        self.show()

    def relabel(self, kind: np.ndarray) -> None:
        palette, shapes = colours(CLASSES), symbols(CLASSES)
        rgb = [[int(palette[c][i : i + 2], 16) / 255 for i in (1, 3, 5)] + [1] for c in CLASSES]
        names = np.array([shapes[c] for c in CLASSES], object)
        self.scatter.set_style(np.array(rgb)[kind], names[kind], kind == -1)
        self.show()

    def close(self) -> None:
        self.scatter.close()
        self.app.processEvents()


class Obvious:
    """matplotlib's scatter, one per class, drawn anew."""

    def __init__(self, app: QApplication, xy: np.ndarray, kind: np.ndarray) -> None:
        self.xy = xy
        self.figure = Figure((WIDTH / 100, HEIGHT / 100), dpi=100)
        self.canvas = FigureCanvasAgg(self.figure)
        self.rings = None
        self.relabel(kind)

    def show(self) -> None:
        self.canvas.draw()

    def pan(self) -> None:
        low, high = self.axes.get_xlim()
        self.axes.set_xlim(low + 0.01, high + 0.01)
        self.show()

    def zoom(self) -> None:
        low, high = self.axes.get_xlim()
        self.axes.set_xlim(0.999 * low, 0.999 * high)
        self.show()

    whole = show

    def lasso(self, polygon: np.ndarray) -> None:
        np.flatnonzero(Path(polygon).contains_points(self.xy))

    def highlight(self, rows: np.ndarray) -> None:
        if self.rings is not None:
            self.rings.remove()
        self.rings = self.axes.scatter(*self.xy[rows].T, s=30, facecolor="none", edgecolor="k")
        self.show()

    def relabel(self, kind: np.ndarray) -> None:
        self.figure.clear()
        self.axes, self.rings = self.figure.add_subplot(), None
        for i, name in enumerate(CLASSES):
            own = self.xy[kind == i]
            shape = _MARKERS[symbols(CLASSES)[name]]
            self.axes.scatter(*own.T, s=16, marker=shape, c=colours(CLASSES)[name])
        self.show()

    def close(self) -> None:
        pass


def measure(plot: Ours | Obvious, kind: np.ndarray, repeats: int) -> dict[str, float]:
    """Milliseconds of each action."""
    n = len(kind)
    rng = np.random.default_rng(1)
    turn = np.linspace(0, 2 * np.pi, 200)
    polygon = np.column_stack([6 + 4 * np.cos(turn), 4 * np.sin(turn)])
    others = [rng.permutation(kind) for _ in range(2)]
    flips = iter(range(10**6))
    frames = 5

    def several(action: Callable[[], object]) -> Callable[[], object]:
        return lambda: [action() for _ in range(frames)]

    plot.whole()
    out = {"whole": best_ms(plot.whole, repeats)}
    out["pan"] = best_ms(several(plot.pan), repeats) / frames
    out["zoom"] = best_ms(several(plot.zoom), repeats) / frames
    plot.whole()
    out["lasso"] = best_ms(lambda: plot.lasso(polygon), repeats)
    chosen = rng.choice(n, n // 10, replace=False)
    out["highlight"] = best_ms(lambda: plot.highlight(chosen), repeats)
    out["relabel"] = best_ms(lambda: plot.relabel(others[next(flips) % 2]), repeats)
    return out


def dock_ms(app: QApplication, n: int, repeats: int) -> tuple[float, float]:
    """Milliseconds in the dock of a relabel of 20 clusters, and of a selection of a tenth."""
    import napari

    from napari_atomicity.core.micrograph import Micrograph
    from napari_atomicity.gui.docks.embedding.dock import Embedding
    from napari_atomicity.gui.viewer.binding import state_of
    from napari_atomicity.models.analysis import Analysis
    from window import made_up

    viewer = napari.Viewer(show=False, show_welcome_screen=False)
    state = state_of(viewer)
    images = max(1, n // 500)
    for i in range(images):
        made = made_up(n // images, 64, f"image {i}", seed=i)
        small = Micrograph(np.zeros((64, 64), np.float32), 0.036, f"image {i}")
        state.clusters.set_analysis(
            Analysis(small, made.table, made.outlines, embedding=made.embedding)
        )
    dock = Embedding(viewer)
    dock.resize(WIDTH, HEIGHT)
    dock.show()
    app.processEvents()
    flips = iter(range(10**6))
    some = [("image 0", i + 1) for i in range(20)]
    keys = [(f"image {i % images}", i // images + 1) for i in range(n // 10)]
    relabelled, selected = [], []
    for _ in range(repeats):
        state.clusters.relabel(some, CLASSES[next(flips) % 2])
        relabelled.append(best_ms(dock.update_now, 1))
        state.select(keys if next(flips) % 2 else [])
        selected.append(best_ms(dock.update_now, 1))
        state.select(keys)
        selected.append(best_ms(dock.update_now, 1))
        state.select([])
    dock.close()
    viewer.close()
    return min(relabelled), max(selected)


def main() -> None:
    given = options(__doc__, points=[1000, 10_000, 100_000], repeats=5)
    app = QApplication.instance() or QApplication([])
    about, rows, docks = machine(), [], []
    for n in given.points:
        rng = np.random.default_rng(0)
        kind = rng.integers(0, len(CLASSES), n)
        angle = 2 * np.pi * kind / len(CLASSES)
        xy = 6 * np.column_stack([np.cos(angle), np.sin(angle)]) + rng.normal(0, 0.8, (n, 2))
        found = []
        for way in (Ours, Obvious):
            plot = way(app, xy, kind)
            found.append(measure(plot, kind, given.repeats))
            plot.close()
        ours, theirs = found
        rows += [
            {"points": n, "action": action, "ours_ms": ms, "matplotlib_ms": theirs[action]}
            for action, ms in ours.items()
        ]
        relabel, select = dock_ms(app, n, given.repeats)
        docks.append({"points": n, "relabel_ms": relabel, "select_ms": select})
    write("scatter", {"rows": rows, "docks": docks}, about)


if __name__ == "__main__":
    main()
