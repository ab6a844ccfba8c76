"""Images of any size and number of clusters for the benchmarks: the example's clusters, pasted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from napari_atomicity import load
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.detection.background import block_mean
from napari_atomicity.pipeline.analysis import detect_clusters
from napari_atomicity.simulation.example_data import example_path

RIM_NM = 0.3
"""How far beyond its radius a cluster is cut out; the cut is soft over the same length."""


@dataclass(frozen=True, eq=False)
class Stamps:
    """Clusters without their support, and the support's level and noise."""

    pixels: list[np.ndarray]
    level: float
    noise: float
    pixel_nm: float


@lru_cache(maxsize=2)
def stamps(binning: int = 1) -> Stamps:
    """The clusters of the example that stand alone, of binning × binning pixels each."""
    example = load(example_path())
    if binning > 1:
        pixels = block_mean(example.data, binning)
        example = Micrograph(pixels, example.calibrated() * binning)
    pixel_nm = example.calibrated()
    found = detect_clusters(example).table
    alone = found[~found["touches_border"] & ~found["touches_neighbour"]]
    level = float(np.median(example.data))
    below = example.data[example.data < level]
    pixels = []
    for row in alone.itertuples():
        radius = row.diameter_nm / 2 / pixel_nm
        half = int(np.ceil(radius + 2 * RIM_NM / pixel_nm))
        y, x = round(row.y_px), round(row.x_px)
        if min(y, x) < half or y + half >= example.shape[0] or x + half >= example.shape[1]:
            continue
        cut = example.data[y - half : y + half + 1, x - half : x + half + 1]
        away = np.hypot(*np.mgrid[-half : half + 1, -half : half + 1])
        mask = np.clip(1 - (away - radius - RIM_NM / pixel_nm / 2) * pixel_nm / RIM_NM, 0, 1)
        ring = (away > radius + RIM_NM / pixel_nm) & (away <= half)
        pixels.append(((cut - np.median(cut[ring])) * mask).astype(np.float32))
    return Stamps(pixels, level, float(np.sqrt(np.mean((below - level) ** 2))), pixel_nm)


def places(size: int, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """(N, 2) places on a jittered grid."""
    grid = int(np.ceil(np.sqrt(clusters)))
    step = size / grid
    chosen = rng.permutation(grid * grid)[:clusters]
    middle = (np.stack(np.divmod(chosen, grid), axis=1) + 0.5) * step
    return middle + rng.uniform(-0.1, 0.1, middle.shape) * step


def paste(image: np.ndarray, points: np.ndarray, of: Stamps, rng: np.random.Generator) -> None:
    """Add clusters at points (N, 2), in place; what falls outside is cut."""
    for y, x in np.round(points).astype(int):
        stamp = of.pixels[rng.integers(len(of.pixels))]
        half = len(stamp) // 2
        top, left = max(0, half - y), max(0, half - x)
        part = image[max(0, y - half) : y + half + 1, max(0, x - half) : x + half + 1]
        part += stamp[top : top + part.shape[0], left : left + part.shape[1]]


def field(size: int, clusters: int, seed: int = 0, binning: int | None = None) -> Micrograph:
    """An image of ``size`` × ``size`` pixels with so many clusters on white noise.

    Where they would lie closer than 100 pixels apart the magnification is halved, unless
    ``binning`` is given.
    """
    of = stamps(binning or (1 if size**2 >= 1e4 * clusters else 2))
    rng = np.random.default_rng(seed)
    image = rng.standard_normal((size, size), np.float32) * np.float32(of.noise)
    image += np.float32(of.level)
    paste(image, places(size, clusters, rng), of, rng)
    return Micrograph(image, of.pixel_nm, name="benchmark")
