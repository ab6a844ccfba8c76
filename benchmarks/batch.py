"""Many small images on one worker and on two, beside one after the other in one process.

    python benchmarks/batch.py [--images 1000] [--workers 1 2] [--serial 100]
    python benchmarks/batch.py --size 1024 --images 10000 --fields 50 --workers 2

Simulated fields of ``--size`` pixels, each in the eight orientations of the square, written as
files; with ``--fields``, more images are copies of those of so many fields. ``--serial`` of them
are analysed one after the other. All in one run on the same machine;
the same files into a folder of their own each time. The *rate* is that between the first and the
last result, so without the seconds in which workers start and the report is drawn; *whole* is the
command from beginning to end. *Efficiency* is the rate over the number of workers times that of
one. Memory is the resident set of the client and of the largest worker, sampled every second: the
median of the second tenth of the run, of the last, and the highest.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
import tifffile

from measuring import machine, options, timed, write
from napari_atomicity.io.inputs import named_inputs
from napari_atomicity.models.inference import load_classifier
from napari_atomicity.pipeline.run_request import RunRequest
from napari_atomicity.pipeline.runs.batch import run_batch
from napari_atomicity.pipeline.runs.one_image import analyse_one
from napari_atomicity.simulation.recipes import draw_recipe, write_recipe

PIXEL_NM = 0.05
ORIENTATIONS = 8
REQUEST = RunRequest(device="cpu", umap=False)


def write_fields(folder: Path, n: int, size_px: int, n_fields: int) -> list[Path]:
    """Write n images; every eighth is simulated, the others are it, turned and mirrored."""
    folder.mkdir(parents=True)
    overrides = {"shape_px": (size_px, size_px), "pixel_size_nm": PIXEL_NM}
    n_fields = n_fields or -(-n // ORIENTATIONS)
    recipe = draw_recipe(n_fields, ("Pt19", "Pt30", "Pt41", "Pt55", "Pt70"), 0, 6, overrides)
    raw = folder.parent / "simulated"
    write_recipe(raw, recipe, progress=None, device="cpu")
    paths = []
    for path in sorted(raw.glob("*.tif")):
        pixels = tifffile.imread(path)
        for turn in range(ORIENTATIONS):
            image = np.rot90(pixels.T if turn >= 4 else pixels, turn)
            paths.append(folder / f"{path.stem}_{turn}.tif")
            tifffile.imwrite(
                paths[-1],
                np.ascontiguousarray(image),
                imagej=True,
                resolution=(1 / PIXEL_NM,) * 2,
                metadata={"unit": "nm"},
            )
    for path in paths[n:]:
        path.unlink()
    for number in range(len(paths), n):
        original = paths[number % (ORIENTATIONS * n_fields)]
        paths.append(folder / f"{original.stem}_{number}.tif")
        # a file of the same content would not be analysed again
        paths[-1].write_bytes(original.read_bytes() + number.to_bytes(8, "little"))
    return paths[:n]


@dataclass(frozen=True)
class Figures:
    """Of one run; rates in images per second, memory in MiB."""

    workers: int
    images: int
    clusters: int
    whole_s: float
    rate: float
    client_early: float
    client_late: float
    client_most: float
    worker_early: float
    worker_late: float
    worker_most: float


class Memory:
    """Resident sets of this process and of its largest child, every second in a thread."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, float, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(1.0):
            children = [0]
            for child in me.children(recursive=True):
                try:
                    children.append(child.memory_info().rss)
                except psutil.Error:
                    continue
            mine = me.memory_info().rss
            self.samples.append((time.perf_counter(), mine / 2**20, max(children) / 2**20))

    def between(self, first: float, last: float) -> list[float]:
        """Early, late and highest, of this process and of the largest child."""
        found = np.array([s for s in self.samples if first <= s[0] <= last] or self.samples[-1:])
        n = len(found)
        early, late = found[n // 10 : max(n // 5, n // 10 + 1)], found[-max(1, n // 10) :]
        return [
            float(value)
            for i in (1, 2)
            for value in (np.median(early[:, i]), np.median(late[:, i]), found[:, i].max())
        ]


def measure(paths: list[Path], out: Path, workers: int) -> Figures:
    """One batch, timed."""
    times: list[float] = []
    with Memory() as memory:
        start = time.perf_counter()
        run = run_batch(
            paths,
            out,
            REQUEST,
            workers,
            on_outcome=lambda outcome, part: times.append(time.perf_counter()),
        )
        whole = time.perf_counter() - start
    assert not run.failed and len(times) == len(paths)
    rate = (len(times) - 1) / (times[-1] - times[0])
    return Figures(
        workers, len(paths), len(run.table), whole, rate, *memory.between(times[0], times[-1])
    )


def one_after_the_other(paths: list[Path]) -> float:
    """Images per second in one process with all cores, nothing drawn or kept."""
    classifier = load_classifier(REQUEST.model, REQUEST.device)
    items = named_inputs(paths)
    analyse_one(items[0], classifier, REQUEST)
    start = time.perf_counter()
    for item in items:
        analyse_one(item, classifier, REQUEST)
    return len(items) / (time.perf_counter() - start)


def main() -> None:
    given = options(__doc__, images=1000, workers=[1, 2], serial=100, size=384, fields=0)
    about = machine()
    folder = Path(tempfile.mkdtemp(prefix="atomicity-batch-"))
    try:
        paths = write_fields(folder / "images", given.images, given.size, given.fields)
        found = [measure(paths, folder / f"out-{n}", n) for n in given.workers]
        first = folder / f"out-{given.workers[0]}"
        report = (first / "report.html").stat().st_size / 2**20
        again_s, _, again = timed(lambda: run_batch(paths, first, REQUEST))
        assert again.reused == len(paths)
        serial = one_after_the_other(paths[: given.serial])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    one = found[0].rate / found[0].workers
    figures = {
        "size_px": given.size,
        "images": given.images,
        "batches": [{**asdict(f), "efficiency": f.rate / (f.workers * one)} for f in found],
        "serial_rate": serial,
        "second_run_s": again_s,
        "report_mib": report,
    }
    write("batch", figures, about)


if __name__ == "__main__":
    main()
