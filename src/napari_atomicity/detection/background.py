"""Background and noise of a field, from the field itself.

Vacuum edges, thickness steps and scan-line streaks are normal, so both are local and robust.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

_WINDOW_VALUES = 1 << 22  # sorted at a time
_MAD_TO_SIGMA = 1.4826


def without_gaps(frame: np.ndarray) -> np.ndarray:
    """The frame (Y, X) with pixels that are not finite replaced by their nearest finite one."""
    bad = ~np.isfinite(frame)
    if not bad.any():
        return frame
    nearest = ndimage.distance_transform_edt(bad, return_distances=False, return_indices=True)
    return np.asarray(frame[tuple(nearest)])


def filled(values: np.ndarray) -> np.ndarray:
    """`without_gaps`, and zero where there is nothing at all."""
    return without_gaps(values) if np.isfinite(values).any() else np.zeros_like(values)


def block_mean(frame: np.ndarray, factor: int) -> np.ndarray:
    """Means over blocks of factor × factor pixels; a remainder at the far edges joins the last."""
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
    """Values on a coarse grid of blocks, linear in between and constant beyond the outer middles.

    Parameters
    ----------
    values
        (rows, columns) float32.
    block
        Height and width of a block in pixels.
    """

    values: np.ndarray
    block: tuple[float, float]

    def at(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Values at the crossings of rows y and columns x, in pixels: (len(y), len(x)) float32."""
        out = self.values
        for axis, position in enumerate((y, x)):  # an axis at a time: a few large operations
            low, high, weight = between(position, self.block[axis], out.shape[axis])
            weight = weight[:, None] if axis == 0 else weight
            first = np.take(out, low, axis)
            out = first + (np.take(out, high, axis) - first) * weight
        return out

    def at_points(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Values at points in pixels: (N,) float32."""
        top, bottom, down = between(y, self.block[0], self.values.shape[0])
        left, right, across = between(x, self.block[1], self.values.shape[1])
        above, below = (
            self.values[row, left] * (1 - across) + self.values[row, right] * across
            for row in (top, bottom)
        )
        return np.asarray(above * (1 - down) + below * down)


def between(
    position: np.ndarray, block: float, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two blocks whose middles lie around a position, and how near it is to the second."""
    place = np.clip((position + 0.5) / block - 0.5, 0, n - 1)
    low = np.minimum(place.astype(int), max(n - 2, 0))
    return low, np.minimum(low + 1, n - 1), (place - low).astype(np.float32)


def blocks_of_background(pixel_nm: float, window_nm: float) -> int:
    """Edge of the blocks, in pixels, over whose means the median of the background is taken."""
    return max(1, int(window_nm / 15 / pixel_nm))


def background_of_blocks(
    means: np.ndarray, block: int, pixel_nm: float, window_nm: float
) -> BackgroundGrid:
    """Slowly varying support: a median over ``window_nm``, which keeps edges where they are.

    Parameters
    ----------
    means
        Mean intensities of blocks (rows, columns), finite.
    block
        Edge of a block in pixels.
    pixel_nm
        Edge length of a pixel in nm.
    window_nm
        Width of the window; several times the largest cluster.
    """
    size = max(3, 2 * round(window_nm / (block * pixel_nm) / 2) + 1)
    size = min(size, 2 * min(means.shape) - 1)
    # A little below the median: clusters are bright and may cover a good part of a window.
    smooth = _percentile(means, 40, size)
    return BackgroundGrid(ndimage.gaussian_filter(smooth, 0.5, mode="nearest"), (block, block))


def _percentile(image: np.ndarray, percentage: int, size: int) -> np.ndarray:
    """`scipy.ndimage.percentile_filter`, many windows at a time."""
    half, rank = size // 2, size**2 * percentage // 100
    padded = np.pad(image, half, mode="symmetric")
    strip = max(1, _WINDOW_VALUES // (size**2 * image.shape[1]))
    out = np.empty_like(image)
    for top in range(0, len(image), strip):
        rows = padded[top : top + strip + 2 * half]
        windows = sliding_window_view(rows, (size, size)).reshape(-1, image.shape[1], size**2)
        out[top : top + strip] = np.partition(windows, rank, axis=-1)[..., rank]
    return out


def background(frame: np.ndarray, pixel_size_nm: float, window_nm: float) -> np.ndarray:
    """Slowly varying support of a frame: see `background_of_blocks`.

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
    block = blocks_of_background(pixel_size_nm, window_nm)
    grid = background_of_blocks(block_mean(frame, block), block, pixel_size_nm, window_nm)
    return grid.at(*(np.arange(n) for n in frame.shape))


def enlarge(coarse: np.ndarray, shape: tuple[int, ...], factor: tuple[float, ...]) -> np.ndarray:
    """Bilinear interpolation of block values, ``factor`` pixels a block, to pixels of ``shape``."""
    out = coarse.astype(np.float32)
    if out.shape == tuple(shape):
        return out
    return BackgroundGrid(out, (factor[0], factor[1])).at(*(np.arange(n) for n in shape))


def local_noise(response: np.ndarray, block_px: int) -> np.ndarray:
    """Robust local standard deviation of a filtered image: see `noise_of_sample`.

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
    step = noise_step(block_px)
    grid = noise_of_sample(
        response[::step, ::step], block_px, response.shape, np.abs(response).max(initial=0.0)
    )
    return grid.at(*(np.arange(n) for n in response.shape))


def noise_step(block_px: int) -> int:
    """Every how many pixels a sample is taken for the noise: enough for a median."""
    return max(1, block_px // 24)


def noise_of_sample(
    sample: np.ndarray, block_px: int, shape: tuple[int, ...], largest: float
) -> BackgroundGrid:
    """Robust local standard deviation of a filtered image, on a grid of blocks.

    The median absolute deviation of each block, then the median over neighbouring blocks: a few
    clusters in a block do not count as noise. Never below a thousandth of the largest response,
    so that a noise-free image has no infinite significance.

    Parameters
    ----------
    sample
        Every `noise_step`-th pixel of every `noise_step`-th row.
    block_px
        Edge of a block in pixels.
    shape
        Of the image.
    largest
        Largest absolute value in it.
    """
    size = max(4, block_px // noise_step(block_px))
    edges = [_even(n, max(1, round(n / size))) for n in sample.shape]
    grid = np.array(
        [[_deviation(sample[a:b, c:d]) for c, d in edges[1]] for a, b in edges[0]], np.float32
    )
    grid = ndimage.median_filter(grid, 3, mode="nearest") * _MAD_TO_SIGMA
    grid = np.maximum(grid, 1e-3 * float(largest) + np.finfo(np.float32).tiny)
    return BackgroundGrid(grid, (shape[0] / grid.shape[0], shape[1] / grid.shape[1]))


def _even(n: int, parts: int) -> list[tuple[int, int]]:
    """Ends of ``parts`` nearly equal parts of n, the longer ones first."""
    edges = np.cumsum([0] + [len(part) for part in np.array_split(np.empty(n), parts)])
    return list(pairwise(edges.tolist()))


def _deviation(part: np.ndarray) -> float:
    """Median absolute deviation from the median."""
    values = part.flatten()
    middle = values.size // 2
    values.partition(middle)  # in place, which takes half the time
    values -= values[middle]
    np.abs(values, out=values)
    values.partition(middle)
    return float(values[middle])
