"""Separable filters on parts of an image: what a pixel gets depends on its surroundings only.

A sum over shifted copies, pixel by pixel in the same order wherever the pixel lies: an image in
tiles gives the same bits as the whole, and for the few taps that a pyramid needs, NumPy is the
quickest of those tried (docs/performance.md). Each filter takes the margin it needs off its input.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import numpy as np

T = TypeVar("T")
R = TypeVar("R")

_STRIP_PIXELS = 1 << 17  # of the input, so that a strip stays in the cache
LAPLACIAN = np.array([-5 / 2, 4 / 3, -1 / 12], np.float32)
"""Weights of the middle and of one side: a second derivative of fourth order."""
TRUNCATE = 4.0
"""Half width of a Gaussian in units of its standard deviation."""


def mirrored(start: int, stop: int, n: int) -> np.ndarray:
    """Indices start to stop of an axis of n pixels that is mirrored at its ends.

    Examples
    --------
    >>> mirrored(-2, 5, 4).tolist()
    [2, 1, 0, 1, 2, 3, 2]
    """
    index = np.arange(start, stop)
    if n == 1:
        return np.zeros_like(index)
    index = np.abs(index) % (2 * n - 2)
    return np.where(index < n, index, 2 * n - 2 - index)


def reach(sigma_px: float) -> int:
    """How many pixels beyond a pixel a Gaussian of ``sigma_px`` asks for; 0 for no blur."""
    return round(TRUNCATE * sigma_px) if sigma_px > 0.2 else 0


def gaussian_weights(sigma_px: float) -> np.ndarray:
    """(`reach` + 1,) float32: of the middle and of one side; both sides sum to 1."""
    weights = np.exp(-0.5 * (np.arange(reach(sigma_px) + 1) / sigma_px) ** 2)
    return np.asarray(weights / (weights[0] + 2 * weights[1:].sum()), np.float32)


def gaussian(image: np.ndarray, sigma_px: float, every: int = 1) -> np.ndarray:
    """The image blurred, smaller by `reach` on every side; of that every n-th row and column."""
    half = reach(sigma_px)
    if half == 0:
        return image[::every, ::every]
    weights = gaussian_weights(sigma_px)
    height, width = (-(-(n - 2 * half) // every) for n in image.shape)
    out = np.empty((height, width), np.float32)

    def fill(top: int, bottom: int) -> None:
        rows = image[top * every : (bottom - 1) * every + 2 * half + 1]
        blurred = _symmetric(rows, weights, 0, every)
        out[top:bottom] = _symmetric(blurred, weights, 1, every)

    in_strips(fill, height, _STRIP_PIXELS // max(1, image.shape[1]))
    return out


def laplacian(image: np.ndarray) -> np.ndarray:
    """∂²/∂y² + ∂²/∂x² by central differences of fourth order, smaller by 2 on every side."""
    out = np.empty((image.shape[0] - 4, image.shape[1] - 4), np.float32)

    def fill(top: int, bottom: int) -> None:
        rows = image[top : bottom + 4]
        np.add(
            _symmetric(rows[:, 2:-2], LAPLACIAN, 0), _symmetric(rows[2:-2], LAPLACIAN, 1),
            out=out[top:bottom],
        )  # fmt: skip

    in_strips(fill, len(out), _STRIP_PIXELS // max(1, image.shape[1]))
    return out


def in_strips(fill: Callable[[int, int], None], n: int, size: int) -> None:
    """Call ``fill(top, bottom)`` for strips of n rows, several at a time.

    A strip stays in the processor's cache, and NumPy lets other threads compute meanwhile.
    """
    size = max(1, size)
    in_threads(lambda top: fill(top, min(n, top + size)), range(0, n, size))


def in_threads(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """``work`` of every item, in order, several at a time; it must not come here itself."""
    if len(items) < 2 or threads() == 1:
        return [work(item) for item in items]
    return list(_pool().map(work, items))


def threads() -> int:
    """How many threads to use: ``OMP_NUM_THREADS``, or as many as there are cores for this process.

    Whoever runs several processes sets the former, for PyTorch's sake anyway.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    available = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(available(0)) if available else os.cpu_count() or 1


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads(), thread_name_prefix="filters")


if hasattr(os, "register_at_fork"):  # the threads of a pool don't come along
    os.register_at_fork(after_in_child=_pool.cache_clear)


def _symmetric(image: np.ndarray, weights: np.ndarray, axis: int, every: int = 1) -> np.ndarray:
    """Correlation with weights of the middle and of one side."""
    half = len(weights) - 1
    image = image if axis == 0 else image.T
    n = image.shape[0] - half
    out = image[half:n:every] * weights[0]
    both = np.empty_like(out)
    for k in range(1, half + 1):
        np.add(image[half - k : n - k : every], image[half + k : n + k : every], out=both)
        both *= weights[k]
        out += both
    return out if axis == 0 else out.T


def block_means(image: np.ndarray, factor: int) -> np.ndarray:
    """Means over factor × factor pixels; the image must be whole blocks."""
    if factor == 1:
        return image
    rows, columns = (n // factor for n in image.shape)
    total = image.reshape(rows, factor, columns * factor).sum(axis=1)
    out = total[:, 0::factor].copy()
    for k in range(1, factor):
        out += total[:, k::factor]
    out *= np.float32(1 / factor**2)
    return out


def inner(image: np.ndarray, margin: int) -> np.ndarray:
    """Without ``margin`` pixels on every side."""
    return image[margin : image.shape[0] - margin, margin : image.shape[1] - margin]


def cubic_weights(t: np.ndarray | float) -> tuple[np.ndarray | float, ...]:
    """Of the pixels before, at, after and two after a place that lies t after a pixel.

    Keys, IEEE Trans. ASSP 29, 1153 (1981).
    """
    return (
        ((2 - t) * t - 1) * t / 2,
        ((3 * t - 5) * t * t + 2) / 2,
        ((4 - 3 * t) * t + 1) * t / 2,
        (t - 1) * t * t / 2,
    )


def cubic_at(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Values at points (N, 2), each at least 1 from the first and 2 from the last pixels."""
    low = np.floor(points).astype(int)
    down, across = (cubic_weights(t) for t in (points - low).T)
    total = np.zeros(len(points))
    for i in range(4):
        for k in range(4):
            total += image[low[:, 0] + i - 1, low[:, 1] + k - 1] * down[i] * across[k]
    return total
