"""Background and noise of a frame, estimated locally and robustly.

Vacuum edges, thickness steps and scan-line streaks are normal, so neither is assumed uniform.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

from .filters import STRIP_PIXELS, run_in_strips

_WINDOW_VALUES = 1 << 16  # sorted at a time
_MAD_TO_SIGMA = 1.4826


def without_gaps(frame: np.ndarray) -> np.ndarray:
    """Return the frame (Y, X) with each non-finite pixel replaced by its nearest finite one."""
    bad = ~np.isfinite(frame)
    if not bad.any():
        return frame
    nearest = ndimage.distance_transform_edt(bad, return_distances=False, return_indices=True)
    return np.asarray(frame[tuple(nearest)])


def fill_gaps(values: np.ndarray) -> np.ndarray:
    """Return `without_gaps`, or zeros if no value is finite."""
    return without_gaps(values) if np.isfinite(values).any() else np.zeros_like(values)


def block_mean(frame: np.ndarray, factor: int) -> np.ndarray:
    """Average over blocks of factor × factor pixels.

    A remainder at the far edges belongs to the last block.
    """
    if factor <= 1:
        return frame
    rows, columns = (np.arange(0, max(n - n % factor, 1), factor) for n in frame.shape)
    ends = [*rows[1:], frame.shape[0]]
    strips = [frame[a:b].sum(axis=0, dtype=float) for a, b in zip(rows, ends, strict=True)]
    total = np.add.reduceat(np.array(strips), columns, axis=1)
    heights, widths = np.diff([*rows, frame.shape[0]]), np.diff([*columns, frame.shape[1]])
    return np.asarray(total / np.outer(heights, widths), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class BackgroundGrid:
    """Values on a coarse grid of blocks.

    Values are interpolated linearly between block centres and constant beyond the outer ones.
    """

    values: np.ndarray  # (rows, columns): value of each block
    block: tuple[float, float]  # height and width of a block in pixels

    def at(
        self,
        y: np.ndarray,  # rows in pixels
        x: np.ndarray,  # columns in pixels
    ) -> np.ndarray:  # (len(y), len(x)), float32
        """Evaluate the grid at all combinations of rows and columns."""
        low, high, weight = neighbouring_blocks(y, self.block[0], len(self.values))
        first = self.values[low]
        first = first + (self.values[high] - first) * weight[:, None]
        low, high, weight = neighbouring_blocks(x, self.block[1], first.shape[1])
        starts = np.flatnonzero(np.diff(low, prepend=-1))  # of the pixels of the same two blocks
        number = np.diff(starts, append=len(low))
        step = first[:, high[starts]] - first[:, low[starts]]
        first = first[:, low[starts]]
        out = np.empty((len(y), len(x)), first.dtype)

        def fill(top: int, bottom: int) -> None:
            part = out[top:bottom]
            np.multiply(np.repeat(step[top:bottom], number, axis=1), weight, out=part)
            part += np.repeat(first[top:bottom], number, axis=1)

        run_in_strips(fill, len(y), STRIP_PIXELS // max(1, len(x)))
        return out

    def at_points(
        self,
        # y, x, each (N,): coordinates in pixels
        y: np.ndarray,
        x: np.ndarray,
    ) -> np.ndarray:  # (N,), float32
        """Evaluate the grid at points."""
        top, bottom, down = neighbouring_blocks(y, self.block[0], self.values.shape[0])
        left, right, across = neighbouring_blocks(x, self.block[1], self.values.shape[1])
        above, below = (
            self.values[row, left] * (1 - across) + self.values[row, right] * across
            for row in (top, bottom)
        )
        return np.asarray(above * (1 - down) + below * down)


def neighbouring_blocks(
    position: np.ndarray,  # coordinates in pixels
    block: float,  # length of a block in pixels
    n: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the two blocks whose centres enclose a position along an axis.

    The results are the indices of both, and the weight of the second one, between 0 and 1.
    """
    place = np.clip((position + 0.5) / block - 0.5, 0, n - 1)
    low = np.minimum(place.astype(int), max(n - 2, 0))
    return low, np.minimum(low + 1, n - 1), (place - low).astype(np.float32)


def background_block_px(pixel_nm: float, window_nm: float) -> int:
    """Return the edge length in pixels of the blocks whose means give the background."""
    return max(1, int(window_nm / 15 / pixel_nm))


def estimate_background_grid(
    means: np.ndarray,  # (rows, columns): mean intensities of blocks, finite
    block: int,  # edge length of a block in pixels
    pixel_nm: float,
    # Width of the window in nm; several times the diameter of the largest cluster
    window_nm: float,
) -> BackgroundGrid:
    """Estimate the slowly varying background: a percentile over a window, which preserves edges."""
    size = max(3, 2 * round(window_nm / (block * pixel_nm) / 2) + 1)
    size = min(size, 2 * min(means.shape) - 1)
    # A little below the median: clusters are bright and may cover a good part of a window.
    smooth = _percentile(means, 40, size)
    return BackgroundGrid(ndimage.gaussian_filter(smooth, 0.5, mode="nearest"), (block, block))


def _percentile(image: np.ndarray, percentage: int, size: int) -> np.ndarray:
    """Compute `scipy.ndimage.percentile_filter`, many windows at a time."""
    half, rank = size // 2, size**2 * percentage // 100
    padded = np.pad(image, half, mode="symmetric")
    out = np.empty_like(image)

    def fill(top: int, bottom: int) -> None:
        rows = padded[top : bottom + 2 * half]
        windows = sliding_window_view(rows, (size, size)).reshape(-1, image.shape[1], size**2)
        out[top:bottom] = np.partition(windows, rank, axis=-1)[..., rank]

    run_in_strips(fill, len(image), _WINDOW_VALUES // (size**2 * image.shape[1]))
    return out


def enlarge(coarse: np.ndarray, shape: tuple[int, ...], factor: tuple[float, ...]) -> np.ndarray:
    """Interpolate block values to pixels.

    Parameters
    ----------
    coarse : ndarray of shape (rows, columns)
        Values of blocks.
    shape : tuple of int
        Shape of the result.
    factor : tuple of float
        Height and width of a block in pixels.
    """
    out = coarse.astype(np.float32)
    if out.shape == tuple(shape):
        return out
    return BackgroundGrid(out, (factor[0], factor[1])).at(*(np.arange(n) for n in shape))


def noise_sampling_step(block_px: int) -> int:
    """Return the step in pixels at which the noise is sampled: small enough for a median."""
    return max(1, block_px // 24)


def estimate_noise_grid(
    sample: np.ndarray,  # every n-th pixel of every n-th row, with n from `noise_sampling_step`
    block_px: int,  # edge length of a block in pixels
    shape: tuple[int, ...],  # shape of the image
    largest: float,
) -> BackgroundGrid:
    """Estimate the robust local standard deviation of a filtered image, on a grid of blocks.

    The median absolute deviation of each block, then the median over neighbouring blocks, so that a
    few clusters in a block do not count as noise. At least a thousandth of the largest response, so
    that a noise-free image has no infinite significance.
    """
    size = max(4, block_px // noise_sampling_step(block_px))
    edges = [_split_evenly(n, max(1, round(n / size))) for n in sample.shape]
    grid = np.array(
        [[_median_absolute_deviation(sample[a:b, c:d]) for c, d in edges[1]] for a, b in edges[0]],
        np.float32,
    )
    grid = ndimage.median_filter(grid, 3, mode="nearest") * _MAD_TO_SIGMA
    grid = np.maximum(grid, 1e-3 * float(largest) + np.finfo(np.float32).tiny)
    return BackgroundGrid(grid, (shape[0] / grid.shape[0], shape[1] / grid.shape[1]))


def _split_evenly(n: int, parts: int) -> list[tuple[int, int]]:
    """Return the ends of ``parts`` nearly equal parts of n, the longer ones first."""
    edges = np.cumsum([0] + [len(part) for part in np.array_split(np.empty(n), parts)])
    return list(pairwise(edges.tolist()))


def _median_absolute_deviation(part: np.ndarray) -> float:
    """Return the median absolute deviation from the median."""
    values = part.flatten()
    middle = values.size // 2
    values.partition(middle)  # in place, which takes half the time
    values -= values[middle]
    np.abs(values, out=values)
    values.partition(middle)
    return float(values[middle])
