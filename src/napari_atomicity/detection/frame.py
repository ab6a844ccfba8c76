"""A frame that is read tile by tile, with results that do not depend on the tiling.

An image larger than memory is read in tiles. Quantities of the whole frame (background, noise,
extremes) are estimated on coarse grids first. Then each tile is read with the margin that the
filters require, and gives the same bits whichever tile contains it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.draw import polygon2mask

from .background import background_block_px, estimate_background_grid, fill_gaps
from .filters import block_means, map_strips, mirror_indices, select
from .recording import FAITHFUL, RecordingEffects

GAP_PX = 32
"""Maximum distance over which the nearest finite pixel replaces a non-finite one."""
STRIP_PX = 1024
"""Number of rows read at a time in a pass over the whole frame."""
CACHED_PIXELS = 1 << 24
"""Frames up to this size are cached after preparation; larger ones are prepared repeatedly."""


@dataclass(frozen=True)
class Tile:
    """A rectangle of a grid, which may extend beyond it."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns."""
        return self.bottom - self.top, self.right - self.left

    @property
    def origin(self) -> np.ndarray:
        """First row and column, as an array."""
        return np.array([self.top, self.left])

    def grown(self, margin: int) -> Tile:
        """Return the tile extended by a margin on every side."""
        return Tile(
            self.top - margin, self.bottom + margin, self.left - margin, self.right + margin
        )

    def within(self, shape: tuple[int, int]) -> Tile:
        """Return the part of the tile inside a grid of that shape."""
        return Tile(
            max(0, self.top), min(shape[0], self.bottom),
            max(0, self.left), min(shape[1], self.right),
        )  # fmt: skip

    def holds(self, points: np.ndarray) -> np.ndarray:
        """Return whether the tile contains each of the points (N, 2)."""
        y, x = points[:, 0], points[:, 1]
        return (y >= self.top) & (y < self.bottom) & (x >= self.left) & (x < self.right)


def tiles(shape: tuple[int, int], size: int) -> list[Tile]:
    """Return tiles of at most size × size pixels that cover a grid, row by row.

    A grid slightly larger than a tile is a single tile.
    """
    edges = [
        [0, n] if n <= size * 5 // 4 else [*range(0, n, size), n] for n in shape
    ]  # fmt: skip
    return [
        Tile(top, bottom, left, right)
        for top, bottom in zip(edges[0][:-1], edges[0][1:], strict=True)
        for left, right in zip(edges[1][:-1], edges[1][1:], strict=True)
    ]


def whole(shape: tuple[int, int]) -> Tile:
    """Return the tile that covers a grid."""
    return Tile(0, shape[0], 0, shape[1])


class Frame:
    """One frame of a micrograph on a grid of ``factor`` × ``factor`` pixels.

    Intensities are in ``recording.unit``.

    Parameters
    ----------
    pixels : array_like of shape (Y, X)
        Anything that returns an array for a pair of slices: an array, a memory map, a zarr or dask
        array.
    pixel_nm : float
        Edge length of a pixel of the file in nm.
    factor : int
        Number of pixels of the file along the edge of a pixel of this grid; a remainder at the far
        edges is omitted.
    window_nm : float
        Width of the window of the background in nm.
    recording : RecordingEffects
        Effects of the recording, which are corrected in all pixels that the frame returns.

    Attributes
    ----------
    shape : tuple of int
        Shape of the grid.
    pixel_nm : float
        Edge length of a pixel of the grid in nm.
    low, mean, high : float
        Minimum, mean and maximum of the finite pixels; NaN if there are none.
    n_finite : int
        Number of finite pixels.
    """

    def __init__(
        self,
        pixels: Any,
        pixel_nm: float,
        factor: int = 1,
        window_nm: float = 12.0,
        recording: RecordingEffects = FAITHFUL,
    ) -> None:
        self._pixels = pixels
        self._file_pixel_nm = pixel_nm
        self.recording = recording
        self._factor = max(1, min(factor, *pixels.shape))
        self.shape = (pixels.shape[0] // self._factor, pixels.shape[1] // self._factor)
        self.pixel_nm = pixel_nm * self._factor
        self._kept: dict[int, np.ndarray] = {}
        self._block = background_block_px(self.pixel_nm, window_nm)
        means = self._survey()
        self.background = estimate_background_grid(means, self._block, self.pixel_nm, window_nm)

    def _survey(self) -> np.ndarray:
        """Compute the block means of the background, and the extremes and mean of all pixels."""
        edge = self._block * self._factor
        height, width = self._pixels.shape
        strip = max(1, STRIP_PX // edge) * edge
        starts = np.arange(0, max(height - height % edge, 1), edge)
        columns = np.arange(0, max(width - width % edge, 1), edge)
        means, low, high, total, count = [], np.inf, -np.inf, 0.0, 0
        for top in starts[:: strip // edge]:
            own = starts[(starts >= top) & (starts < top + strip)]
            bottom = height if own[-1] == starts[-1] else top + strip
            part = self._raw(top, bottom, 0, width)
            finite = None if _all_finite(part) else np.isfinite(part)
            values = part if finite is None else np.where(finite, part, np.float32(0))
            number = _block_sums(None if finite is None else finite, own - top, columns, part.shape)
            sums = _block_sums(values, own - top, columns, part.shape)
            with np.errstate(invalid="ignore"):
                means.append(sums / np.where(number > 0, number, np.nan))
            total, count = total + float(sums.sum()), count + int(number.sum())
            inside = part if finite is None else part[finite]
            if inside.size:
                low, high = min(low, float(inside.min())), max(high, float(inside.max()))
        self.low, self.high = low, high
        self.mean = total / count if count else float("nan")
        self.n_finite = count
        return fill_gaps(np.vstack(means).astype(np.float32))

    def _raw(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        """Return pixels of the file, corrected for the effects of the recording."""
        own = Tile(top, bottom, left, right)
        if self.recording.is_faithful:
            return self._recorded(own)
        own = own.within(self._pixels.shape)
        wide = own.grown(self.recording.margin_px(self._file_pixel_nm)).within(self._pixels.shape)
        part = self.recording.restore(
            self._recorded(wide), wide.top, wide.left, self._file_pixel_nm
        )
        return part[own.top - wide.top : own.bottom - wide.top, own.left - wide.left :][
            :, : own.shape[1]
        ]

    def _recorded(self, tile: Tile) -> np.ndarray:
        part = np.asarray(self._pixels[tile.top : tile.bottom, tile.left : tile.right])
        return self.recording.repair(part, tile.top, tile.left)

    def clipped_fraction(self, polygon_px: np.ndarray) -> float:
        """Return the fraction of the pixels inside a polygon (M, 2) of the file that are clipped.

        The polygon is in pixels of the file.
        """
        if self.recording.clipping is None:
            return 0.0
        low, high = np.floor(polygon_px.min(axis=0)), np.ceil(polygon_px.max(axis=0))
        tile = Tile(int(low[0]), int(high[0]) + 1, int(low[1]), int(high[1]) + 1)
        tile = tile.within(self._pixels.shape)
        inside = polygon2mask(tile.shape, polygon_px - tile.origin)
        clipped = self.recording.clipped(self._recorded(tile))
        return float(clipped[inside].mean()) if inside.any() else 0.0

    def flat(self, tile: Tile, step: int = 1) -> np.ndarray:
        """Return a tile minus its background, mirrored where it extends beyond the frame.

        Parameters
        ----------
        tile : Tile
            Tile of the grid of means over ``step`` × ``step`` pixels.
        step : int
            Edge length of the blocks of this grid in pixels.

        Returns
        -------
        ndarray of float32
            Must not be modified.
        """
        if self.shape[0] * self.shape[1] > CACHED_PIXELS:
            return self._flat(tile, step)
        if step not in self._kept:
            self._kept[step] = self._flat(whole(self._shape(step)), step)
        return select(self._kept[step], *self._indices(tile, step))

    def _flat(self, tile: Tile, step: int) -> np.ndarray:
        values = self._values(*self._indices(tile, step), step)
        return map_strips(np.subtract, values, self.level(tile, step))

    def level(self, tile: Tile, step: int = 1) -> np.ndarray:
        """Return the background of a tile, as `flat` subtracts it.

        Parameters
        ----------
        tile : Tile
            Tile of the grid of means over ``step`` × ``step`` pixels.
        step : int
            Edge length of the blocks of this grid in pixels.
        """
        rows, columns = self._indices(tile, step)
        return self.background.at((rows + 0.5) * step - 0.5, (columns + 0.5) * step - 0.5)

    def to_file_px(self, points: np.ndarray) -> np.ndarray:
        """Convert points of this grid to pixels of the file."""
        return np.asarray(points * self._factor + (self._factor - 1) / 2)

    def to_grid_px(self, points: np.ndarray) -> np.ndarray:
        """Convert points in pixels of the file to this grid."""
        return np.asarray((points - (self._factor - 1) / 2) / self._factor)

    def inside(self, points: np.ndarray) -> np.ndarray:
        """Return the nearest points (N, 2) inside the grid."""
        return np.clip(points, 0, np.array(self.shape) - 1)

    def values(self, tile: Tile) -> np.ndarray:
        """Return a tile as recorded, without gaps, mirrored where it extends beyond the frame."""
        return self._values(*self._indices(tile, 1), 1)

    def _indices(self, tile: Tile, step: int) -> tuple[np.ndarray, np.ndarray]:
        height, width = self._shape(step)
        return mirror_indices(tile.top, tile.bottom, height), mirror_indices(
            tile.left, tile.right, width
        )

    def _shape(self, step: int) -> tuple[int, int]:
        return max(1, self.shape[0] // step), max(1, self.shape[1] // step)

    def _values(self, rows: np.ndarray, columns: np.ndarray, step: int) -> np.ndarray:
        low = rows.min(), columns.min()
        high = rows.max() + 1, columns.max() + 1
        edge = self._factor * step
        part = self._finite(low[0] * edge, high[0] * edge, low[1] * edge, high[1] * edge)
        part = block_means(part, edge)
        return select(part, rows - low[0], columns - low[1])

    def _finite(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        """Return pixels of the file; the nearest finite ones replace non-finite ones."""
        part = self._raw(top, bottom, left, right)
        if _all_finite(part):
            return part
        wide = Tile(top, bottom, left, right).grown(GAP_PX).within(self._pixels.shape)
        part = self._raw(wide.top, wide.bottom, wide.left, wide.right)
        own = (slice(top - wide.top, bottom - wide.top), slice(left - wide.left, right - wide.left))
        bad = ~np.isfinite(part)
        if bad.all():
            return self._level(top, bottom, left, right)
        distance, nearest = ndimage.distance_transform_edt(bad, return_indices=True)
        part = part[tuple(nearest)][own]
        far = distance[own] > GAP_PX
        return np.where(far, self._level(top, bottom, left, right), part) if far.any() else part

    def _level(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        y, x = (
            (np.arange(a, b) + 0.5) / self._factor - 0.5 for a, b in ((top, bottom), (left, right))
        )
        return self.background.at(y, x)


def group_points(
    points: np.ndarray, shape: tuple[int, int], size: int, margin: int
) -> list[tuple[Tile, np.ndarray]]:
    """Group neighbouring points into boxes.

    The size of the boxes, at most ``size`` × ``size`` pixels, minimises the total number of pixels
    read: each box is read with a margin, and areas without points are not read.

    Parameters
    ----------
    points : ndarray of shape (N, 2)
        Points in the grid.
    shape : tuple of int
        Shape of the grid.
    size : int
        Maximum edge length of a box in pixels.
    margin : int
        Margin of each box in pixels.
    """
    if len(points) == 0:
        return []
    low = np.floor(points).astype(int)
    best: tuple[float, np.ndarray, np.ndarray, np.ndarray] | None = None
    largest = max(shape) if max(shape) <= size * 5 // 4 else size
    for edge in (largest, size // 2, size // 4, size // 8):
        cell = low // max(1, edge)
        number = cell[:, 0] * (shape[1] // max(1, edge) + 1) + cell[:, 1]
        order = np.argsort(number, kind="stable")
        starts = np.flatnonzero(np.diff(number[order], prepend=-1))
        first = np.minimum.reduceat(low[order], starts)
        last = np.maximum.reduceat(low[order], starts) + 1
        cost = float((last - first + 2 * margin).prod(axis=1).sum())
        if best is None or cost < best[0]:
            best = cost, order, starts, np.hstack([first, last])
    assert best is not None
    _, order, starts, boxes = best
    return [
        (Tile(top, bottom, left, right), np.sort(rows))
        for (top, left, bottom, right), rows in zip(
            boxes.tolist(), np.split(order, starts[1:]), strict=True
        )
    ]


def _all_finite(part: np.ndarray) -> bool:
    # A sum is finite only if all values are. It is much faster than `isfinite`.
    return part.dtype.kind in "biu" or bool(
        np.isfinite(part.sum(dtype=np.float32)) or np.isfinite(part).all()
    )


def _block_sums(
    values: np.ndarray | None, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """Sum over blocks that begin at these rows and columns; of ones without values."""
    if values is None:
        heights, widths = np.diff([*rows, shape[0]]), np.diff([*columns, shape[1]])
        return np.outer(heights, widths).astype(float)
    ends = [*rows[1:], shape[0]]
    strips = np.array([values[a:b].sum(axis=0) for a, b in zip(rows, ends, strict=True)], float)
    return np.add.reduceat(strips, columns, axis=1)


def iterate_tiles(
    frame: Frame,
    size: int,  # maximum edge length of a tile in pixels of that grid
    step: int = 1,  # edge length of the blocks
) -> Iterator[Tile]:
    """Yield the tiles of the grid of means over ``step`` × ``step`` pixels of a frame."""
    yield from tiles((max(1, frame.shape[0] // step), max(1, frame.shape[1] // step)), size)
