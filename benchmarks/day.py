"""A day at the bench, timed turn by turn: which turns of the event loop block, and whose they are.

    python -m napari_atomicity.cli.display python benchmarks/day.py
        [--clusters 3000 20000 100000] [--labels 50]

A folder of images is opened in a real window with every dock; the results are made up in memory,
so that neither detection nor the network is waited for, and everything else is real: project file,
layers, gallery, scatter, plots, table. Then: from image to image, some clusters reviewed by keys, a
lasso of half the map, labels by key in the gallery, an adaptation taken over and shown before and
after, undo and redo of it, tables and report exported, the project closed and opened again. After
each action the turns over 50 ms are listed with their cause (`tools/slow_turns.py`). The times
until the first image with its clusters, and the ratios of an image, are displayed are measured as
well, and the peak of the resident memory for each project. A process of its own makes each project,
and another one measures it, because napari keeps closed windows in memory.

Painting on a virtual display is done by a processor in place of a graphics card, and is listed
apart.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from napari.layers import Image, Points
from qtpy.QtCore import Qt, QTimer
from qtpy.QtTest import QTest

from measuring import machine, options, write
from napari_atomicity.core.processes import spawn_pool
from napari_atomicity.io.images import load
from napari_atomicity.models.analysis import Analysis
from napari_atomicity.project import EditKind, ImageEdit, Project
from napari_atomicity.project.opening import thumbnail
from window import PIXEL_SIZE_NM, made_up, settle

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from slow_turns import Block, Watched

PER_IMAGE = 50
MAX_IMAGES = 500
"""Larger projects have more clusters in each image."""
N_FILES = 12
"""Different image files; the others are links to these."""
SIZE_PX = 1024
FILE = "day.atomicity"
QUIET_MS = 8 * 8
"""How long `settle` looks whether something is left to do, which is no part of an action."""


def make_project(folder: Path, n_images: int, per_image: int) -> None:
    """Image files and a project of them, as *Analyse all* would leave it."""
    files = []
    with Project(folder / FILE) as project:
        # Nothing here must survive a power cut: the disk is not waited for.
        project._file.connect().execute("PRAGMA synchronous = OFF")
        for i in range(n_images):
            name = f"image_{i:03d}.tif"
            pixels = files[i % N_FILES].data if i >= N_FILES else None
            analysis = made_up(per_image, SIZE_PX, name, seed=i, image=pixels)
            if pixels is None:
                tifffile.imwrite(
                    folder / name, analysis.micrograph.data.astype(np.uint16), imagej=True,
                    resolution=(1 / PIXEL_SIZE_NM,) * 2, metadata={"unit": "nm"},
                )  # fmt: skip
                files.append(load(folder / name))
            else:
                os.link(files[i % N_FILES].path, folder / name)
            micrograph = replace(files[i % N_FILES], path=folder / name, name=name)
            project.add_paths([folder / name])
            project.image_files.update_metadata(micrograph, thumbnail(files[i % N_FILES]))
            project.record(
                ImageEdit(name, EditKind.ANALYSIS, "bench"),
                None,
                replace(analysis, micrograph=micrograph),
            )
            project.flush()


def call_elsewhere(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own, whose memory nobody has used before."""
    with spawn_pool(1) as pool:
        return pool.submit(function, *arguments).result()


def forget_peak() -> None:
    """Let the peak of the memory start again, where the system can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def memory_mib(what: str) -> float:
    """Resident memory of this process now (VmRSS) or at most (VmHWM); NaN where it is unknown."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(x.split()[1]) / 1024 for x in lines if x.startswith(what)), float("nan"))


def by_place(blocks: list[Block]) -> list[dict[str, Any]]:
    """The turns over the limit, by where the time went; of each place the one with most of the
    processor's time, for the clock also counts what others kept it busy with."""
    groups: dict[str, list[Block]] = {}
    for block in blocks:
        if not block.painting:
            groups.setdefault(block.ours.partition(":")[0], []).append(block)
    worst = {place: max(members, key=lambda b: b.cpu_ms) for place, members in groups.items()}
    return [
        {
            "times": len(groups[place]),
            "where": place or "napari and Qt",
            "line": block.ours.partition(":")[2],
            "cpu_ms": block.cpu_ms,
            "wall_ms": block.wall_ms,
            "event": block.event,
            "inside": block.inside,
        }
        for place, block in worst.items()
    ]


class Day:
    """A window, and what a person does in it."""

    def __init__(self, app: Watched, folder: Path, per_image: int, labels: int) -> None:
        import napari

        from napari_atomicity.gui.viewer.binding import binding_of
        from napari_atomicity.gui.workbench.window import open_workbench

        self.app, self.folder, self.per_image, self.labels = app, folder, per_image, labels
        self.actions: list[dict[str, Any]] = []
        self.ratios: Any = None
        self.viewer = napari.Viewer(show_welcome_screen=False)
        self.viewer.window._qt_window.resize(1366, 768)
        open_workbench(self.viewer)
        self.binding = binding_of(self.viewer)
        self.state = self.binding.state
        self.canvas = self.viewer.window._qt_viewer.canvas.native

    def dock(self, name: str) -> object:
        from napari_atomicity.gui.panels.dock_windows import show_dock

        return show_dock(self.viewer, name)

    def settle(self) -> None:
        settle(self.app, self.state)

    def measure(
        self,
        name: str,
        action: Callable[[], object],
        times: int = 1,
        until: Callable[[], bool] | None = None,
    ) -> None:
        """One action in the queue of the window, several times, and all that follows from it.

        With ``until`` the time is taken, too, after which it is true: what a person waits for is
        displayed.
        """
        self.settle()
        self.app.clear()
        shown: list[float] = []
        start = time.perf_counter()

        def look() -> None:
            if until is not None and until():
                shown.append(time.perf_counter() - start)
            elif not ended:
                QTimer.singleShot(5, look)

        ended: list[bool] = []
        if until is not None:
            QTimer.singleShot(0, look)
        for _ in range(times):
            QTimer.singleShot(0, action)
            self.settle()
        done = 1e3 * (time.perf_counter() - start) / times - QUIET_MS
        ended.append(True)
        turn, cpu = (max(column) for column in zip(*self.app.handled, strict=True))
        ms = [turn, cpu, max(self.app.painted, default=0.0), max(done, turn)]
        found = {"action": name, "ms": ms, "blocks": by_place(self.app.blocks)}
        self.actions.append(found | ({"shown_s": shown[0]} if shown else {}))

    def key(self, code: Qt.Key, *modifiers: Qt.KeyboardModifier) -> Callable[[], object]:
        return lambda: QTest.keyClick(self.canvas, code, *modifiers)

    def adapted(self) -> list[Analysis]:
        """The same clusters as another model sees them."""
        rng = np.random.default_rng(5)
        out = []
        for name in self.state.images:
            analysis = self.state.analysis(name)
            table = analysis.table.copy()
            table["confidence"] = np.clip(table["confidence"] + 0.05, 0, 1)
            table[["umap_1", "umap_2"]] += rng.normal(0, 0.3, (len(table), 2))
            table["model_id"] = "adapted"
            model = {"model_id": "adapted", "classes": self.state.classes()}
            out.append(
                replace(
                    analysis,
                    table=table,
                    embedding=analysis.embedding + 0.1,
                    parameters={**analysis.parameters, "model": model},
                )
            )
        return out

    def run(self) -> None:
        state, binding = self.state, self.binding
        control, shift = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier
        self.dock("Browse")
        self.measure("open the folder", self._open, until=self._shows_clusters)
        self.canvas.setFocus()
        for name in ("Gallery", "Embedding", "Plots", "Table", "Gallery", "Embedding"):
            self.measure(f"show {name}", lambda name=name: self.dock(name))
        self.measure("show Ratios", self._show_ratios, until=self._shows_ratios)
        self.canvas.setFocus()
        for _ in range(2):
            self.measure("next image", self.key(Qt.Key.Key_PageDown))
        self.measure("analyse again (one result)", self._renew)
        review = self.dock("Review")
        self.measure("start a review", review.start)
        self.canvas.setFocus()
        label = f"a label by key, in review (each of {self.labels})"
        self.measure(label, self.key(Qt.Key.Key_3), times=self.labels)
        self.measure("undo by key", self.key(Qt.Key.Key_Z, control))
        self.measure("redo by key", self.key(Qt.Key.Key_Z, control | shift))
        self.measure("end the review", self.key(Qt.Key.Key_Escape))
        self.measure("select half (as a lasso does)", self._select_half)
        self.measure("label these", lambda: state.clusters.relabel(state.selection, "Pt41"))
        self.measure("undo that", binding.edits.undo)
        self.measure("select one", lambda: state.select([(state.images[0], 3)]))
        results = self.adapted()
        replace_all = state.clusters.replace_all_predictions
        self.measure("adaptation", lambda: replace_all(results, "adapt"))
        self.settle()
        self.measure("undo the adaptation", binding.edits.undo)
        self.measure("redo the adaptation", binding.edits.redo)
        self.measure("export", self._export)
        self.measure("close the project", binding.projects.leave)
        self.measure("open it again", self._open, until=self._shows_clusters)

    def _open(self) -> None:
        self.binding.projects.open(self.folder / FILE)

    def _shows_clusters(self) -> bool:
        counts = [len(x.data) for x in self.viewer.layers if isinstance(x, Points) and x.visible]
        images = any(isinstance(x, Image) and x.visible for x in self.viewer.layers)
        return images and self.per_image in counts

    def _show_ratios(self) -> None:
        self.ratios = self.dock("Ratios")

    def _shows_ratios(self) -> bool:
        return self.ratios is not None and self.ratios.model.rowCount() > 0

    def _renew(self) -> None:
        name = self.state.current
        now = self.state.analysis(name)
        fresh = made_up(self.per_image, SIZE_PX, name, seed=991)
        self.state.clusters.set_analysis(replace(fresh, micrograph=now.micrograph), soon=True)

    def _select_half(self) -> None:
        table = self.state.table()
        half = table[table["umap_1"] > table["umap_1"].median()]
        self.state.select(zip(half["image"], half["cluster_id"].tolist(), strict=True))

    def _export(self) -> None:

        from napari_atomicity.gui.docks.report import write_all
        from napari_atomicity.gui.tasks import start
        from napari_atomicity.state.export import Choices, snapshot

        start(
            self.state,
            write_all,
            snapshot(self.state),
            self.folder / "report",
            Choices(),
            message="Writing the report",
            on_result=lambda files: None,
            key="report",
        )


def measure_project(folder: Path, n_images: int, per_image: int, labels: int) -> dict[str, Any]:
    """Measure a day with a project."""
    day = Day(Watched(), folder, per_image, labels)
    forget_peak()
    day.run()
    found = {"memory_mib": memory_mib("VmHWM"), "actions": day.actions}
    day.binding.projects.leave()
    day.settle()
    day.viewer.close()
    day.app.processEvents()
    return {"clusters": n_images * per_image, "images": n_images} | found


def main() -> None:
    given = options(__doc__, clusters=[3000, 20_000, 100_000], labels=50)
    about, projects = machine(), []
    for n in given.clusters:
        n_images = min(max(1, n // PER_IMAGE), MAX_IMAGES)
        with tempfile.TemporaryDirectory() as name:
            project = Path(name), n_images, n // n_images
            call_elsewhere(make_project, *project)
            projects.append(call_elsewhere(measure_project, *project, given.labels))
    write("day", {"projects": projects}, about)


if __name__ == "__main__":
    main()
