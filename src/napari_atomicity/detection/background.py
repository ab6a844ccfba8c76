"""Background and noise of a field, from the field itself.

Vacuum edges, thickness steps and scan-line streaks are normal, so both are local and robust.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_MAD_TO_SIGMA = 1.4826


def without_gaps(frame: np.ndarray) -> np.ndarray:
    """The frame (Y, X) with pixels that are not finite replaced by their nearest finite one."""
    bad = ~np.isfinite(frame)
    if not bad.any():
        return frame
    nearest = ndimage.distance_transform_edt(bad, return_distances=False, return_indices=True)
    return np.asarray(frame[tuple(nearest)])


def block_mean(frame: np.ndarray, factor: int) -> np.ndarray:
    """Means over blocks of factor × factor pixels; a remainder at the far edges joins the last."""
    if factor <= 1:
        return frame
    edges = [np.arange(0, max(n - n % factor, 1), factor) for n in frame.shape]
    total = np.add.reduceat(np.add.reduceat(frame.astype(np.float64), edges[0], 0), edges[1], 1)
    lengths = [np.diff([*e, n]) for e, n in zip(edges, frame.shape, strict=True)]
    return (total / np.outer(*lengths)).astype(np.float32)


def background(frame: np.ndarray, pixel_size_nm: float, window_nm: float) -> np.ndarray:
    """Slowly varying support: a median over ``window_nm``, which keeps edges where they are.

    Parameters
    ----------
    frame
        Intensities (Y, X), finite.
    pixel_size_nm
        Edge length of a pixel in nm.
    window_nm
        Width of the window; several times the largest cluster.

    Returns
    -------
    ndarray
        (Y, X) float32.
    """
    factor = max(1, int(window_nm / 15 / pixel_size_nm))
    coarse = block_mean(frame, factor)
    size = max(3, 2 * round(window_nm / (factor * pixel_size_nm) / 2) + 1)
    size = min(size, 2 * min(coarse.shape) - 1)
    # A little below the median: clusters are bright and may cover a good part of a window.
    smooth = ndimage.percentile_filter(coarse, 40, size=size, mode="reflect")
    smooth = ndimage.gaussian_filter(smooth, 0.5, mode="nearest")
    return enlarge(smooth, frame.shape, (factor, factor))


def enlarge(coarse: np.ndarray, shape: tuple[int, ...], factor: tuple[float, ...]) -> np.ndarray:
    """Bilinear interpolation of block values, ``factor`` pixels a block, to pixels of ``shape``."""
    out = coarse.astype(np.float32)
    if out.shape == tuple(shape):
        return out
    for axis, n in enumerate(shape):  # an axis at a time: a few large vector operations
        last = out.shape[axis] - 1
        position = np.clip((np.arange(n) + 0.5) / factor[axis] - 0.5, 0, last)
        low = np.minimum(position.astype(int), max(last - 1, 0))
        weight = (position - low).astype(np.float32)
        weight = weight[:, None] if axis == 0 else weight
        high = np.minimum(low + 1, last)
        out = np.take(out, low, axis) * (1 - weight) + np.take(out, high, axis) * weight
    return out


def local_noise(response: np.ndarray, block_px: int) -> np.ndarray:
    """Robust local standard deviation of a filtered image, on a grid of blocks.

    The median absolute deviation of each block, then the median over neighbouring blocks: a few
    clusters in a block do not count as noise. Never below a thousandth of the largest response,
    so that a noise-free image has no infinite significance.

    Parameters
    ----------
    response
        (Y, X), of mean near zero.
    block_px
        Edge of a block.

    Returns
    -------
    ndarray
        (Y, X) float32.
    """
    step = max(1, block_px // 24)  # a subsample is enough for a median
    sample = response[::step, ::step]
    size = max(4, block_px // step)
    rows = max(1, round(sample.shape[0] / size))
    columns = max(1, round(sample.shape[1] / size))
    grid = np.array(
        [
            [
                np.median(np.abs(part - np.median(part)))
                for part in np.array_split(strip, columns, axis=1)
            ]
            for strip in np.array_split(sample, rows, axis=0)
        ],
        dtype=np.float32,
    )
    grid = ndimage.median_filter(grid, 3, mode="nearest") * _MAD_TO_SIGMA
    floor = 1e-3 * float(np.abs(response).max(initial=0.0)) + np.finfo(np.float32).tiny
    grid = np.maximum(grid, floor)
    blocks = tuple(n / g for n, g in zip(response.shape, grid.shape, strict=True))
    return enlarge(grid, response.shape, blocks)
