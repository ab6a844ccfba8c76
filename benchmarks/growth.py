"""How the cost grows with the side of an image, with its clusters, and with the number of images.

    python benchmarks/growth.py [--sides 1024 … 16384] [--side 8192 --clusters 10 … 20000]
        [--images 1 10 100]

An exponent is the slope of the logarithm of the time, without what is there for the least input,
over that of the pixels, clusters or images, by least squares: 1 is linear. Times are of the
processor, in all threads, which a busy machine changes least.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fields import field
from measuring import machine, options, timed, write
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.models.inference import load_classifier
from napari_atomicity.pipeline.analysis import analyse
from napari_atomicity.pipeline.run_request import RunRequest
from napari_atomicity.pipeline.runs.engine import analyse_images

STAGES = ("detect", "patches", "network")


def exponent(sizes: list[float], seconds: list[float]) -> float:
    """Slope in double logarithmic axes of what comes on top of the least input."""
    x, y = np.array(sizes, float), np.array(seconds, float)
    more = y[1:] - y[0]
    keep = more > 0
    if keep.sum() < 2:  # too little for a slope, as with small options
        return float("nan")
    return float(np.polyfit(np.log(x[1:][keep] - x[0]), np.log(more[keep]), 1)[0])


def measured(micrograph: Micrograph, classifier: Any, repeats: int) -> dict[str, Any]:
    runs = []
    for _ in range(repeats):
        wall, cpu, result = timed(lambda: analyse(micrograph, classifier, umap=False))
        runs.append((cpu, wall, result))
    cpu, wall, result = sorted(runs, key=lambda run: run[0])[len(runs) // 2]
    return {
        "side": micrograph.shape[0],
        "found": len(result.table),
        "cpu_s": cpu,
        "wall_s": wall,
        **{f"{name}_s": result.seconds[name] for name in STAGES},
    }


def many(folder: Path, n: int) -> dict[str, Any]:
    """A run over n files: tables, ratios, record and report as well."""
    files = folder / f"images-{n}"
    files.mkdir()
    for i in range(n):
        np.save(files / f"{i:04d}.npy", field(512, 15, seed=i % 20).data)
    request = RunRequest(pixel_size_nm=0.036, umap=False, device="cpu")
    wall, cpu, run = timed(lambda: analyse_images([files], folder / f"out-{n}", request))
    return {"images": n, "clusters": len(run.table), "cpu_s": cpu, "wall_s": wall}


def main() -> None:
    given = options(
        __doc__, sides=[1024, 2048, 4096, 8192, 16_384], clusters=[10, 100, 1000, 5000, 20_000],
        side=8192, images=[1, 10, 100, 1000], repeats=1, threads=2,
    )  # fmt: skip
    torch.set_num_threads(given.threads)
    about = machine()
    classifier = load_classifier("default", "cpu")
    analyse(field(512, 10), classifier, umap=False)  # warm
    sides, numbers, images = [], [], []
    for side in given.sides:
        sides.append(measured(field(side, 100), classifier, given.repeats))
        print(sides[-1], flush=True)
    for n in given.clusters:
        numbers.append(measured(field(given.side, n, binning=2), classifier, given.repeats))
        print(n, numbers[-1], flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for n in given.images:
            images.append(many(Path(folder), n))
            print(images[-1], flush=True)
    figures = {
        "sides": sides,
        "clusters": numbers,
        "images": images,
        "exponents": {
            "pixels": exponent([s["side"] ** 2 for s in sides], [s["cpu_s"] for s in sides]),
            "clusters": exponent([s["found"] for s in numbers], [s["cpu_s"] for s in numbers]),
            "images": exponent([s["images"] for s in images], [s["cpu_s"] for s in images]),
        },
    }
    write("growth", figures, about)


if __name__ == "__main__":
    main()
