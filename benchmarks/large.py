"""A field of 16,384 × 16,384 pixels (float32, 1 GiB): time, peak memory, the same as untiled.

    python benchmarks/large.py [--size 16384] [--clusters 5000] [--folder WITH_4_GIB_OF_ROOM]

Each case runs in a process of its own: the image in memory, as a memory map, as a tiled zarr array
and as a tiled, compressed TIFF. *Peak* is the resident memory of the process at its highest,
*above start* is without what Python, PyTorch and the model take before an image is there; pages of
a memory map that are in memory count as well, though the system may drop them at any time. The
tables of all cases are compared.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from fields import paste, places, stamps
from measuring import machine, options, write

ROWS = 2048

CASE = """
import json, resource, sys, time
import numpy as np
from napari_atomicity import analyse, load
from napari_atomicity.pipeline.analysis import Analysis
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.models.inference import load_classifier

case, path, pixel_nm, table = sys.argv[1:5]
classifier = load_classifier("default", "cpu")
warm = np.random.default_rng(0).normal(size=(256, 256))
warm[120:140, 120:140] += 30
analyse(Micrograph(warm, 0.05), classifier, umap=False)
def peak():
    # of this program alone; getrusage counts what the process was before it became this one
    try:
        with open("/proc/self/status") as file:
            return int(next(x for x in file if x.startswith("VmHWM")).split()[1]) / 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

before = peak()
start = time.perf_counter(), time.process_time()
if case == "in memory":
    data = np.load(path)
    micrograph = Micrograph(data, float(pixel_nm))
else:
    micrograph = load(path, float(pixel_nm))
read = time.perf_counter() - start[0]
told = []
result = analyse(
    micrograph, classifier, umap=False, progress=lambda *a: told.append(time.perf_counter())
)
found = result.table.drop(columns="image")
found.to_pickle(table)
json.dump({
    "clusters": len(found), "opening_s": read, "wall_s": time.perf_counter() - start[0],
    "cpu_s": time.process_time() - start[1], "stages": result.seconds,
    "start_mib": before, "peak_mib": peak(),
    "longest_without_progress_s": float(np.diff([start[0] + read, *told]).max()),
}, sys.stdout)
"""


def make(folder: Path, size: int, clusters: int) -> tuple[dict[str, Path], float]:
    """The same image in every form, written strip by strip."""
    import tifffile
    import zarr

    of = stamps()
    rng = np.random.default_rng(0)
    image = np.lib.format.open_memmap(folder / "image.npy", "w+", np.float32, (size, size))
    for top in range(0, size, ROWS):
        strip = rng.standard_normal((min(ROWS, size - top), size), np.float32)
        image[top : top + ROWS] = strip * np.float32(of.noise) + np.float32(of.level)
    paste(image, places(size, clusters, rng), of, rng)
    image.flush()
    array = zarr.create_array(
        folder / "image.zarr", shape=image.shape, chunks=(1024, 1024), dtype="f4"
    )
    for top in range(0, size, ROWS):
        array[top : top + ROWS] = image[top : top + ROWS]
    tifffile.imwrite(
        folder / "image.tif", image, tile=(512, 512), compression="zlib", bigtiff=True,
        compressionargs={"level": 1},
    )  # fmt: skip
    cases = {
        "in memory": folder / "image.npy",
        "memory map": folder / "image.npy",
        "zarr": folder / "image.zarr",
        "tiled TIFF, compressed": folder / "image.tif",
    }
    return cases, of.pixel_nm


def main() -> None:
    import pandas as pd

    given = options(__doc__, size=16_384, clusters=5000, folder=None)
    about = machine()
    folder = Path(tempfile.mkdtemp(dir=given.folder))
    cases: dict[str, Any] = {}
    tables = {}
    try:
        files, pixel_nm = make(folder, given.size, given.clusters)
        for name, path in files.items():
            table = folder / "table.pkl"
            done = subprocess.run(
                [sys.executable, "-c", CASE, name, path, str(pixel_nm), table],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                raise RuntimeError(done.stderr)
            cases[name] = json.loads(done.stdout)
            tables[name] = pd.read_pickle(table)  # our own, of a moment ago
            cases[name]["same_table"] = tables[name].equals(tables["in memory"])
            print(f"{name}: {cases[name]['wall_s']:.1f} s", flush=True)
    finally:
        shutil.rmtree(folder)
    mib = given.size**2 * 4 / 2**20
    write("large", {"size": given.size, "clusters": given.clusters, "image_mib": mib,
                    "cases": cases}, about)  # fmt: skip


if __name__ == "__main__":
    main()
