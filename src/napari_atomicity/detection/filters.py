"""Separable filters on parts of an image; the result at a pixel depends on its neighbourhood.

Each filter sums shifted copies, in the same order at every pixel, so an image in tiles gives the
same bits as the whole. For the few taps that a pyramid requires, NumPy was the fastest of the
options tried (docs/explanation/performance.md). Each filter removes the margin that it requires
from its input.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import TypeVar

import numpy as np

T = TypeVar("T")
R = TypeVar("R")

STRIP_PIXELS = 1 << 16
"""Number of pixels of the input of a strip, which stays in the cache."""
LAPLACIAN = np.array([-5 / 2, 4 / 3, -1 / 12], np.float32)
"""Weights of the centre and of one side: a second derivative of fourth order."""
TRUNCATE = 4.0
"""Half width of a Gaussian in units of its standard deviation."""


def mirror_indices(start: int, stop: int, n: int) -> np.ndarray:
    """Return the indices from start to stop of an axis of n pixels that is mirrored at its ends.

    Parameters
    ----------
    start, stop : int
        Range of positions, which may exceed the axis.
    n : int
        Number of pixels.

    Examples
    --------
    >>> mirror_indices(-2, 5, 4).tolist()
    [2, 1, 0, 1, 2, 3, 2]
    """
    index = np.arange(start, stop)
    if n == 1:
        return np.zeros_like(index)
    index = np.abs(index) % (2 * n - 2)
    return np.where(index < n, index, 2 * n - 2 - index)


def select(image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:  # may be a view
    """Return ``image[rows][:, columns]``, fast for indices of few runs as of `mirror_indices`."""
    runs = [_runs(index) for index in (rows, columns)]
    view = image[runs[0][0][1], runs[1][0][1]]
    if view.shape == (len(rows), len(columns)):
        return view
    out = np.empty((len(rows), len(columns)), image.dtype)

    def fill(top: int, bottom: int) -> None:
        part = image[rows[top:bottom]]
        for place, source in runs[1]:
            out[top:bottom, place] = part[:, source]

    run_in_strips(fill, len(rows), STRIP_PIXELS // max(1, len(columns)))
    return out


def _runs(index: np.ndarray) -> list[tuple[slice, slice]]:
    """Return the runs of an index with equal steps: their places, and their values."""
    starts = [0, *(np.flatnonzero(np.diff(index, 2)) + 2).tolist(), len(index)]
    runs = []
    for start, end in pairwise(starts):
        first, last = int(index[start]), int(index[end - 1])
        step = (last - first) // max(1, end - start - 1) or 1
        stop = last + (1 if step > 0 else -1)
        runs.append((slice(start, end), slice(first, stop if stop >= 0 else None, step)))
    return runs


def reach(sigma_px: float) -> int:
    """Return the radius in pixels of a truncated Gaussian of ``sigma_px``; 0 for no blur."""
    return round(TRUNCATE * sigma_px) if sigma_px > 0.2 else 0


def gaussian_weights(sigma_px: float) -> np.ndarray:
    """Return the weights (`reach` + 1,) of the centre and of one side; both sides sum to 1."""
    weights = np.exp(-0.5 * (np.arange(reach(sigma_px) + 1) / sigma_px) ** 2)
    return np.asarray(weights / (weights[0] + 2 * weights[1:].sum()), np.float32)


def gaussian(image: np.ndarray, sigma_px: float, every: int = 1) -> np.ndarray:
    """Blur an image by a Gaussian.

    Parameters
    ----------
    image : ndarray of shape (Y, X)
        Pixels with a margin of `reach` on every side.
    sigma_px : float
        Standard deviation in pixels.

    Returns
    -------
    ndarray
        Smaller by `reach` on every side.
    """
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

    run_in_strips(fill, height, STRIP_PIXELS // max(1, image.shape[1]))
    return out


def laplacian(image: np.ndarray) -> np.ndarray:
    """Compute ∂²/∂y² + ∂²/∂x² by fourth-order central differences; smaller by 2 on every side."""
    out = np.empty((image.shape[0] - 4, image.shape[1] - 4), np.float32)

    def fill(top: int, bottom: int) -> None:
        rows = image[top : bottom + 4]
        np.add(
            _symmetric(rows[:, 2:-2], LAPLACIAN, 0), _symmetric(rows[2:-2], LAPLACIAN, 1),
            out=out[top:bottom],
        )  # fmt: skip

    run_in_strips(fill, len(out), STRIP_PIXELS // max(1, image.shape[1]))
    return out


def find_local_maxima(
    image: np.ndarray,  # (Y, X)
) -> tuple[np.ndarray, np.ndarray]:
    """Find the positive pixels that none of their eight neighbours exceeds.

    The results are the rows and columns (N,) in the image without its outermost pixels, from top to
    bottom.
    """
    found = np.empty((image.shape[0] - 2, image.shape[1] - 2), bool)

    def fill(top: int, bottom: int) -> None:
        near = image[top : bottom + 2]
        highest = np.maximum(np.maximum(near[:-2], near[1:-1]), near[2:])
        highest = np.maximum(np.maximum(highest[:, :-2], highest[:, 1:-1]), highest[:, 2:])
        own = inner(near, 1)
        np.logical_and(own == highest, own > 0, out=found[top:bottom])

    run_in_strips(fill, len(found), STRIP_PIXELS // max(1, image.shape[1]))
    y, x = np.divmod(np.flatnonzero(found), found.shape[1])
    return y, x


def run_in_strips(fill: Callable[[int, int], None], n: int, size: int) -> None:
    """Call ``fill(top, bottom)`` for strips of rows, several at a time.

    A strip fits into the processor's cache, and NumPy releases the lock of the interpreter.
    """
    size = max(1, size)
    run_in_threads(lambda top: fill(top, min(n, top + size)), range(0, n, size))


def map_strips(
    function: Callable[..., np.ndarray],
    *images: np.ndarray,
    dtype: type = np.float32,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Apply a function of pixels to images of one shape, in strips of rows.

    Parameters
    ----------
    function : callable
        Returns the pixels of a strip from those of the images.
    *images : ndarray of shape (Y, X)
        The images.
    out : ndarray of shape (Y, X), optional
        Array for the result.

    Returns
    -------
    ndarray of shape (Y, X)
    """
    result = np.empty(images[0].shape, dtype) if out is None else out

    def fill(top: int, bottom: int) -> None:
        result[top:bottom] = function(*(image[top:bottom] for image in images))

    run_in_strips(fill, len(result), STRIP_PIXELS // max(1, result.shape[1]))
    return result


def run_in_threads(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Return ``work`` of every item, in order, several at a time.

    ``work`` must not call this function.
    """
    if len(items) < 2 or thread_count() == 1:
        return [work(item) for item in items]
    return list(_pool().map(work, items))


def thread_count() -> int:
    """Return the number of threads: ``OMP_NUM_THREADS``, or the number of cores of this process.

    Programs that run several processes set the former, because PyTorch requires it as well.
    """
    requested = os.environ.get("OMP_NUM_THREADS", "")
    if requested.isdigit() and int(requested) > 0:
        return int(requested)
    available = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(available(0)) if available else os.cpu_count() or 1


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_count(), thread_name_prefix="filters")


if hasattr(os, "register_at_fork"):  # threads do not survive a fork
    os.register_at_fork(after_in_child=_pool.cache_clear)


def _symmetric(image: np.ndarray, weights: np.ndarray, axis: int, every: int = 1) -> np.ndarray:
    """Correlate along an axis with symmetric weights: of the centre and of one side."""
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
    """Average over factor × factor pixels; the image must consist of whole blocks."""
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
    """Remove ``margin`` pixels on every side."""
    return image[margin : image.shape[0] - margin, margin : image.shape[1] - margin]


def cubic_weights(t: np.ndarray | float) -> tuple[np.ndarray | float, ...]:
    """Return the weights of the four pixels around a position that is t after the second one.

    Keys, IEEE Trans. ASSP 29, 1153 (1981).
    """
    return (
        ((2 - t) * t - 1) * t / 2,
        ((3 * t - 5) * t * t + 2) / 2,
        ((4 - 3 * t) * t + 1) * t / 2,
        (t - 1) * t * t / 2,
    )


def cubic_at(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Interpolate at points (N, 2), at least 1 pixel from the first and 2 from the last pixels."""
    low = np.floor(points).astype(int)
    down, across = (cubic_weights(t) for t in (points - low).T)
    total = np.zeros(len(points))
    for i in range(4):
        for k in range(4):
            total += image[low[:, 0] + i - 1, low[:, 1] + k - 1] * down[i] * across[k]
    return total
