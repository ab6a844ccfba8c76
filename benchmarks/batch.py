"""Many small images on one worker and on two, beside one after the other in one process.

    python benchmarks/batch.py [--images 1000] [--workers 1 2] [--json FILE]

Simulated fields of 384 × 384 pixels, each in the eight orientations of the square, written as
files. All in one run on the same machine; the same files into a folder of their own each time. The
*rate* is that between the first and the last result, so without the seconds in which workers start
and the report is drawn; *whole* is the command from beginning to end. *Efficiency* is the rate over
the number of workers times that of one. Memory is the resident set of the client and of the largest
worker, sampled every second: the median of the second tenth of the run, of the last, and the
highest.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
import tifffile

from napari_atomicity.many.batch import run_batch
from napari_atomicity.many.cluster import cores_at_hand
from napari_atomicity.model.classifier import load_classifier
from napari_atomicity.runs import Request, analyse_one, named_inputs
from napari_atomicity.simulation.fields import draw_recipe, write_recipe

SIZE_PX, PIXEL_NM = 384, 0.05
ORIENTATIONS = 8
REQUEST = Request(device="cpu", umap=False)


def write_fields(folder: Path, n: int, seed: int = 0) -> list[Path]:
    """Write n images; every eighth is simulated, the others are it, turned and mirrored."""
    folder.mkdir(parents=True)
    overrides = {"shape_px": (SIZE_PX, SIZE_PX), "pixel_size_nm": PIXEL_NM}
    n_fields = -(-n // ORIENTATIONS)
    recipe = draw_recipe(n_fields, ("Pt19", "Pt30", "Pt41", "Pt55", "Pt70"), seed, 6, overrides)
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--serial", type=int, default=100, help="images one after the other")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    folder = Path(tempfile.mkdtemp(prefix="atomicity-batch-"))
    try:
        paths = write_fields(folder / "images", options.images)
        load_before = os.getloadavg()[0]
        found = [measure(paths, folder / f"out-{n}", n) for n in options.workers]
        report = (folder / f"out-{options.workers[0]}" / "report.html").stat().st_size / 2**20
        start = time.perf_counter()
        again = run_batch(paths, folder / f"out-{options.workers[0]}", REQUEST)
        again_s = time.perf_counter() - start
        assert again.reused == len(paths)
        serial = one_after_the_other(paths[: options.serial])
    finally:
        shutil.rmtree(folder, ignore_errors=True)

    one = found[0].rate / found[0].workers
    print(
        f"{options.images} images of {SIZE_PX} × {SIZE_PX} pixels, {found[0].clusters} clusters\n"
        f"{platform.machine()}, {cores_at_hand()} cores, load {load_before:.1f} before\n"
    )
    print("| workers | images per s | efficiency | whole (s) | client (MiB) | worker (MiB) |")
    print("|---|---|---|---|---|---|")
    for f in found:
        print(
            f"| {f.workers} | {f.rate:.2f} | {f.rate / (f.workers * one):.2f} | {f.whole_s:.0f} | "
            f"{f.client_early:.0f} → {f.client_late:.0f}, at most {f.client_most:.0f} | "
            f"{f.worker_early:.0f} → {f.worker_late:.0f}, at most {f.worker_most:.0f} |"
        )
    print(f"| none: one after the other | {serial:.2f} | | | | |")
    print(f"\nA second run, with nothing to do: {again_s:.1f} s. Report: {report:.1f} MiB.")
    values = {
        "batches": [{**asdict(f), "efficiency": f.rate / (f.workers * one)} for f in found],
        "serial_rate": serial,
        "second_run_s": again_s,
        "report_mib": report,
        "load_before": load_before,
        "cores": cores_at_hand(),
    }
    print(json.dumps(values))
    if options.json is not None:
        options.json.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
