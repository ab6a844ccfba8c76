"""How long a person waits at the beginning: imports, commands, the first result, the map.

    python benchmarks/startup.py [--repeats 5] [--size 1024]
        [--embedded 1000 10000 100000] [--no-window]

Everything is timed in processes of their own, as a person meets it. Of the map, *place* puts so
many clusters into that of the model, and *fit* makes a new one of as many; the first fit includes
the imports and the compilation of UMAP.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from fields import field
from measuring import machine, options, write

IMPORTS = {
    "python": "pass",
    "import napari_atomicity": "import napari_atomicity",
    "import napari": "import napari",
    "import torch": "import torch",
}

MAP = """
import json, sys, time
import numpy as np
from napari_atomicity.models.embedding import fit_map, place
from napari_atomicity.models.inference import load_classifier
classifier = load_classifier("default", "cpu")
known = classifier.reference_embedding.astype(np.float32)
rng = np.random.default_rng(0)
def like(n):
    of = known[rng.integers(len(known), size=n)]
    return (of + rng.normal(0, 0.1, of.shape) * known.std(axis=0)).astype(np.float32)
out = {"references": len(known)}
for n in map(int, sys.argv[1:]):
    some = like(n)
    start = time.perf_counter(), time.process_time()
    place(some, classifier)
    out[f"place_{n}_s"] = time.perf_counter() - start[0]
    out[f"place_{n}_cpu_s"] = time.process_time() - start[1]
for n in map(int, sys.argv[1:]):
    some = like(n)
    start = time.perf_counter(), time.process_time()
    fit_map(some)
    out[f"fit_{n}_s"] = time.perf_counter() - start[0]
    out[f"fit_{n}_cpu_s"] = time.process_time() - start[1]
json.dump(out, sys.stdout)
"""

WINDOW = """
import json, sys, time
start = time.perf_counter()
from qtpy.QtWidgets import QApplication
app = QApplication.instance() or QApplication([])
import napari
viewer = napari.Viewer()
shown = time.perf_counter()
turns = [shown]
def until(there, seconds=120):
    end = time.perf_counter() + seconds
    while not there() and time.perf_counter() < end:
        app.processEvents()
        turns.append(time.perf_counter())
        time.sleep(0.002)
viewer.window.add_plugin_dock_widget("napari-atomicity", "Workbench")
until(lambda: viewer.canvas.overlays.scale_bar.visible)  # which comes last
workbench = {"workbench_s": turns[-1] - shown,
             "workbench_turn_s": max(b - a for a, b in zip(turns, turns[1:]))}
from napari_atomicity import load
from napari_atomicity.simulation.example_data import example_path
from napari_atomicity.gui.reader import layer_data
from napari_atomicity.gui.viewer.binding import binding_of
from napari_atomicity.gui.panels.dock_windows import show_dock
dock = show_dock(viewer, "Analyse")
data, options, _ = layer_data(load(example_path()))
viewer.add_image(data, **options)
state = binding_of(viewer).state
until(lambda: dock.button.isEnabled())
until(lambda: False, seconds=5)  # in which a person reads what is there
clicked = time.perf_counter()
dock.button.click()
def placed():
    table = state.table()
    return len(table) and table["umap_1"].notna().any()
until(lambda: placed() and any(layer.name.endswith("clusters") for layer in viewer.layers))
result = time.perf_counter()
json.dump({"window_s": shown - start, **workbench, "result_s": result - clicked,
           "placed": bool(placed()), "layers": [layer.name for layer in viewer.layers]}, sys.stdout)
sys.stdout.flush()
import os
os._exit(0)
"""


def write_field(folder: Path, size: int) -> Path:
    """A calibrated image with as many clusters as are usual."""
    micrograph, path = field(size, 50), folder / "field.tif"
    tifffile.imwrite(
        path, micrograph.data.clip(0, 65535).astype(np.uint16), imagej=True,
        resolution=(1 / micrograph.pixel_size_nm,) * 2, metadata={"unit": "nm"},
    )  # fmt: skip
    return path


def seconds(command: list[str], repeats: int) -> float:
    """Median time of a process."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def of_script(code: str, *arguments: str, prefix: tuple[str, ...] = ()) -> dict[str, Any]:
    done = subprocess.run(
        [*prefix, sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    given = options(
        __doc__, repeats=5, size=1024, embedded=[1000, 10_000, 100_000], no_window=False
    )
    about = machine()
    processes = {
        name: seconds([sys.executable, "-c", code], given.repeats) for name, code in IMPORTS.items()
    }
    command = str(Path(sys.executable).parent / "atomicity")
    processes["atomicity --help"] = seconds([command, "--help"], given.repeats)
    with tempfile.TemporaryDirectory() as folder:
        image = write_field(Path(folder), given.size)
        analyse = [command, "analyse", str(image), "--out", str(Path(folder) / "out")]
        processes["atomicity analyse"] = seconds(analyse, given.repeats)
    figures: dict[str, Any] = {"processes": processes, "size_px": given.size}
    figures["map"] = of_script(MAP, *map(str, given.embedded))
    if not given.no_window:
        figures["window"] = of_script(
            WINDOW, prefix=(sys.executable, "-m", "napari_atomicity.cli.display")
        )
    write("startup", figures, about)


if __name__ == "__main__":
    main()
