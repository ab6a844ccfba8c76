"""Outlines of clusters by watershed, and their measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from contourpy import contour_generator
from scipy import ndimage
from skimage.segmentation import watershed

from .background import BackgroundGrid
from .filters import gaussian, inner, map_strips, reach, run_in_threads
from .frame import Frame, Tile

# ---- windows of an image stacked into one array, so that one operation processes many clusters

MAX_WINDOWS = 64
SHEET_PIXELS = 1 << 17
"""Largest number of windows of a sheet, and its usual number of pixels, which fit into the
processor's cache."""
MIN_SHEETS = 4
"""Number of sheets of a few windows, for several threads."""


class Sheet:
    """Windows of an image, stacked vertically, so that one operation processes many clusters.

    Parameters
    ----------
    labels : ndarray of shape (N,)
        Label of each window.
    boxes : ndarray of shape (N, 4)
        Top, bottom, left and right of each window; they may extend beyond the image.
    """

    def __init__(self, labels: np.ndarray, boxes: np.ndarray) -> None:
        self.labels = labels
        self.corners, self.ends = boxes[:, ::2], boxes[:, 1::2]
        heights, widths = (self.ends - self.corners).T
        self.tops = np.cumsum(heights) - heights
        self.shape = int(heights.sum()), int(widths.max())
        self.window = np.repeat(np.arange(len(boxes)), heights)  # of each row

    def of(
        self,
        image: np.ndarray,  # (Y, X)
        fill: float,  # value beyond the edges of the image
    ) -> np.ndarray:
        """Return the windows of an image."""
        out = np.full(self.shape, fill, image.dtype)
        first, last = np.maximum(self.corners, 0), np.minimum(self.ends, image.shape)
        places = [first, last, first - self.corners, last - self.corners]
        for top, (y, x, y_, x_, row, column, row_, column_) in zip(
            self.tops.tolist(), np.hstack(places).tolist(), strict=True
        ):
            out[top + row : top + row_, column:column_] = image[y:y_, x:x_]
        return out

    def pixels(self, mask: np.ndarray) -> SheetPixels:
        """Return the pixels of a mask, by window and from top to bottom."""
        index = np.flatnonzero(mask)
        row, column = np.divmod(index, self.shape[1])
        window = self.window[row]
        return SheetPixels(len(self.tops), index, window, row - self.tops[window], column)


class SheetPixels(NamedTuple):
    """Some pixels of a sheet of ``n`` windows, (K,) each.

    Position in the sheet, window, and row and column in the window.
    """

    n: int
    place: np.ndarray
    window: np.ndarray
    row: np.ndarray
    column: np.ndarray

    def where(self, keep: np.ndarray) -> SheetPixels:
        """Select pixels by a mask."""
        return SheetPixels(self.n, *(one[keep] for one in self[1:]))

    def number(self) -> np.ndarray:
        """Return the number (n,) of pixels in each window."""
        return np.bincount(self.window, minlength=self.n)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum values (K,) over each window: (n,).

        In double precision and in order, so the result does not depend on the other windows.
        """
        return np.bincount(self.window, values, self.n)

    def medians(
        self,
        values: np.ndarray,  # (K,): values of the pixels
        min_pixels: int = 1,  # minimum number of pixels of a window
    ) -> np.ndarray:  # (n,): NaN for windows with fewer pixels
        """Compute the median over each window."""
        ends = np.cumsum(self.number()).tolist()
        return np.array(
            [
                _median(values[start:end]) if end - start >= min_pixels else np.nan
                for start, end in pairwise([0, *ends])
            ]
        )


def _median(values: np.ndarray) -> float:
    """Compute `numpy.median` in a tenth of the time, for a few hundred values."""
    half = len(values) // 2
    values = values.copy()
    values.partition(half)
    if len(values) % 2:
        return float(values[half])
    return float((values[:half].max() + values[half]) / 2)


def make_sheets(
    image: np.ndarray,  # (Y, X), int: labels
    labels: np.ndarray | None,
    margin: int,  # margin of each window in pixels
) -> list[Sheet]:
    """Cut windows around labels of a label image."""
    boxes = ndimage.find_objects(image)
    some = range(1, len(boxes) + 1) if labels is None else [i for i in labels if i <= len(boxes)]
    own = np.array([i for i in some if boxes[i - 1] is not None])
    edges = np.array(
        [[end for s in boxes[i - 1] for end in (s.start - margin, s.stop + margin)] for i in own]
    )
    if not len(own):
        return []
    height, width = (edges[:, 1::2] - edges[:, ::2]).mean(axis=0)
    fitting = min(MAX_WINDOWS, int(SHEET_PIXELS / (height * width)), -(-len(own) // MIN_SHEETS))
    number = max(1, fitting)
    return [
        Sheet(own[start : start + number], edges[start : start + number])
        for start in range(0, len(own), number)
    ]


OUTLINE_SIGMA_NM = 0.12
"""Blur before outlining: joins the atoms of a cluster without widening it noticeably."""
OUTLINE_LEVEL = 0.4
"""Level of the outline as a fraction of the plateau of the cluster."""
_FLOOD_SIGMA_NM = 0.2
TAIL_NM = 0.2
"""Distance beyond the outline within which the tails of the probe count as intensity."""
RING_NM = 0.6
"""Width of the ring around the tails that gives the local background."""
_CROSS = ndimage.generate_binary_structure(2, 1)
_MIN_PIXELS = 4
_MIN_RING_PIXELS = 12  # for a local background
_MAX_POLYGONS = 500  # polygons at a time


@dataclass(frozen=True, eq=False)
class Outline:
    """Outline and measurements of one cluster on the frame's grid."""

    label: int  # label of its basin
    centre_px: np.ndarray  # (2,): intensity-weighted centre (y, x) in pixels of the grid
    diameter_nm: float  # diameter in nm of the disc of equal area
    integrated_intensity: float  # background-subtracted intensity in counts nm²
    eccentricity: float  # eccentricity of the ellipse with the same second moments
    touches_border: bool  # whether the image border cuts the cluster
    touches_neighbour: bool  # whether the tails of another cluster overlap
    polygon_px: np.ndarray  # (M, 2): closed polygon (y, x) in pixels of the grid
    # 1 if the intensity falls to the local background in all directions, 0 if it does not fall in
    # some direction, as at an edge
    isolation: float = 1.0


@dataclass(frozen=True, eq=False)
class Basins:
    """Basins of the clusters in a tile."""

    basins: np.ndarray  # (Y, X): 0 where there is no cluster, otherwise 1 + index of the seed
    # flat, smooth: (Y, X): the tile without background, and blurred
    flat: np.ndarray
    smooth: np.ndarray
    tile: Tile  # position of the tile in the frame
    shape: tuple[int, int]  # shape of the whole frame
    pixel_nm: float  # edge length of a pixel in nm


def grow_regions(
    frame: Frame, tile: Tile, seeds: np.ndarray, noise: BackgroundGrid, reach_nm: float
) -> Basins:
    """Grow the basin of each seed: the region above the noise around it, up to other basins.

    Parameters
    ----------
    seeds : ndarray of shape (N, 2)
        Positions (y, x) in the frame.
    noise : BackgroundGrid
        Noise of the frame blurred by `OUTLINE_SIGMA_NM`.
    reach_nm : float
        Maximum distance of a basin from its seed, along y and along x, in nm.
    """
    tile = tile.within(frame.shape)
    blurs = (OUTLINE_SIGMA_NM, np.sqrt(_FLOOD_SIGMA_NM**2 - OUTLINE_SIGMA_NM**2))
    first, second = (blur / frame.pixel_nm for blur in blurs)
    margin = reach(first) + reach(second)
    image = frame.flat(tile.grown(margin))
    flat = inner(image, margin)
    blurred = gaussian(image, first)
    smooth = inner(blurred, reach(second))
    basins = np.zeros(tile.shape, np.int32)
    if len(seeds):
        rows, columns = np.arange(tile.top, tile.bottom), np.arange(tile.left, tile.right)
        level = BackgroundGrid(2 * noise.values, noise.block).at(rows, columns)
        mask = map_strips(np.greater, smooth, level, dtype=bool)
        at = np.round(seeds - tile.origin).astype(int)
        at = np.clip(at, 0, np.array(tile.shape) - 1)
        mask[at[:, 0], at[:, 1]] = True
        mask &= _near(at, round(reach_nm / frame.pixel_nm), tile.shape)
        _flood(basins, at, mask, blurred, second)
    return Basins(basins, flat, smooth, tile, frame.shape, frame.pixel_nm)


def _near(points: np.ndarray, half: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return a mask (Y, X) of pixels within ``half`` of a point (N, 2), along y and along x."""
    near = np.zeros(shape, bool)
    for y, x in points:
        near[max(0, y - half) : y + half + 1, max(0, x - half) : x + half + 1] = True
    return near


def _flood(
    basins: np.ndarray,  # (Y, X): filled with 1 + index of the seed
    seeds: np.ndarray,  # (N, 2), int: pixels of the seeds; the last one of a pixel counts
    mask: np.ndarray,  # (Y, X), bool: pixels of basins
    image: np.ndarray,
    sigma_px: float,
) -> None:
    """Compute the watershed of the seeds for each part of the mask, in place.

    A part with one seed is its basin as a whole. Only parts with several seeds are flooded, and
    only there the image is blurred.
    """
    parts, n = ndimage.label(mask, _CROSS)
    basins[tuple(seeds.T)] = np.arange(1, len(seeds) + 1)
    at = tuple(np.unique(seeds, axis=0).T)
    part, seed = parts[at], basins[at]
    number = np.bincount(part, minlength=n + 1)
    only = np.zeros(n + 1, np.int32)
    only[part] = seed
    only[number > 1] = 0
    several = np.flatnonzero(number > 1)
    boxes = ndimage.find_objects(parts) if len(several) else []
    flooded = []
    margin = 2 * reach(sigma_px)
    for label in several:
        y, x = box = boxes[label - 1]
        inside = parts[box] == label
        markers = np.where(inside, basins[box], 0)
        height = gaussian(image[y.start : y.stop + margin, x.start : x.stop + margin], sigma_px)
        flooded.append((box, inside, watershed(-height, markers, mask=inside)))
    basins[...] = map_strips(only.take, parts, dtype=np.int32)
    for box, inside, labels in flooded:
        basins[box][inside] = labels[inside]


def measure_regions(
    regions: Basins,
    labels: np.ndarray | None = None,
    # (Y, X): clusters whose outlines are known; others have larger labels
    given: np.ndarray | None = None,
) -> list[Outline]:
    """Outline and measure basins, from top to bottom.

    The level of the outline is a fixed fraction of the plateau of the cluster (the median of the
    brighter half of its core), so gain and dose do not change it.
    """
    # First, because a measurement requires the extent of its neighbours.
    final = _core_labels(regions)
    if given is not None:
        final = np.where((given > 0) | (final <= given.max()), given, final)
    found = _add_polygons(_measure_all(final, regions, labels))
    return sorted(found, key=lambda o: (o.centre_px[0], o.centre_px[1]))


def measure_mask(
    # (Y, X), bool: pixels that belong to the cluster in addition to the core of its basin
    mask: np.ndarray,
    regions: Basins,  # basins; label 1 is that of the cluster
) -> Outline | None:  # None if the cluster is too small
    """Measure a cluster of which a part is given, among the basins of all others."""
    final = _core_labels(regions)
    final[mask] = 1
    regions = replace(regions, basins=np.where(mask, 1, regions.basins))
    return next(iter(_add_polygons(_measure_all(final, regions, np.array([1])))), None)


def _add_polygons(measured: Sequence[tuple[Outline, np.ndarray] | None]) -> list[Outline]:
    some = [one for one in measured if one is not None]
    polygons = trace_masks([mask for _, mask in some])
    # `replace` would take ten times as long.
    return [
        Outline(**{**vars(outline), "polygon_px": polygon + outline.polygon_px})
        for (outline, _), polygon in zip(some, polygons, strict=True)
    ]


def _core_labels(regions: Basins) -> np.ndarray:
    """Return the labels of the basins, restricted to the outlines."""
    final = np.zeros_like(regions.basins)
    sheets = make_sheets(regions.basins, None, margin=1)
    for sheet, core in zip(
        sheets, run_in_threads(lambda s: _sheet_cores(s, regions), sheets), strict=True
    ):
        top, left = sheet.corners[core.window].T
        final[core.row + top, core.column + left] = sheet.labels[core.window]
    return final


def _sheet_cores(sheet: Sheet, regions: Basins) -> SheetPixels:
    """Return the largest connected part of each basin above its level, with holes filled."""
    basin = sheet.pixels(sheet.of(regions.basins, 0) == sheet.labels[sheet.window][:, None])
    values = sheet.of(regions.smooth, 0).ravel()[basin.place]
    number = basin.number()
    top = np.maximum.reduceat(values, np.cumsum(number) - number)
    bright = values > np.float32(0.5) * np.where(top > 0, top, np.inf)[basin.window]
    plateau = basin.where(bright).medians(values[bright])
    high = basin.where(values > (OUTLINE_LEVEL * plateau).astype(np.float32)[basin.window])
    mask = np.zeros(sheet.shape, bool)
    mask.ravel()[high.place] = True
    parts, n = ndimage.label(mask, _CROSS)
    part = parts.ravel()[high.place]
    window = np.empty(n, int)
    window[part - 1] = high.window
    largest_first = np.lexsort((-np.bincount(part - 1, minlength=n), window))
    _, first = np.unique(window[largest_first], return_index=True)
    kept = np.zeros(n + 1, bool)
    kept[1 + largest_first[first]] = True
    around, _ = ndimage.label(~kept[parts], _CROSS)
    return sheet.pixels(around != around[0, 0])


def _measure_all(
    final: np.ndarray, regions: Basins, labels: np.ndarray | None
) -> list[tuple[Outline, np.ndarray] | None]:
    """Measure clusters."""
    # Wide enough that all pixels of a cluster are nearer to it than to the next in the sheet.
    margin = int(np.ceil((TAIL_NM + RING_NM) / regions.pixel_nm)) + 1
    sheets = make_sheets(final, labels, margin)
    found = run_in_threads(lambda sheet: _measure_sheet(sheet, margin, final, regions), sheets)
    return [one for of_sheet in found for one in of_sheet]


def _measure_sheet(
    sheet: Sheet, margin: int, labels: np.ndarray, regions: Basins
) -> list[tuple[Outline, np.ndarray] | None]:
    """Measure the clusters of a sheet; see `_measure_all`."""
    pixel_nm = regions.pixel_nm
    own = sheet.labels[sheet.window][:, None]
    final, basins = sheet.of(labels, 0), sheet.of(regions.basins, -1)
    flat, smooth = (sheet.of(image, 0).ravel() for image in (regions.flat, regions.smooth))
    mask = final == own
    distance2 = _distance2(mask)
    tail, reach_ = ((end / pixel_nm) ** 2 + 1e-9 for end in (TAIL_NM, TAIL_NM + RING_NM))
    near = distance2 <= tail
    others = (final > 0) & ~mask
    unclaimed = basins == 0

    ring = sheet.pixels(unclaimed & (distance2 <= reach_) & ~near)
    level = np.nan_to_num(ring.medians(flat[ring.place], min_pixels=_MIN_RING_PIXELS))
    counted = sheet.pixels(near & ~others & (unclaimed | (basins == own)))
    intensity = counted.sums(flat[counted.place] - level[counted.window]) * pixel_nm**2
    met = sheet.pixels(others & near).number() > 0

    inside = sheet.pixels(mask)
    area_px = inside.number()
    weight = np.maximum(smooth[inside.place], 0).astype(float)
    weight[(inside.sums(weight) <= 0)[inside.window]] = 1
    total = inside.sums(weight)
    origin = sheet.corners + regions.tile.origin
    centre = np.stack([inside.sums(weight * at) / total for at in inside[3:]], axis=1) + origin
    middle = [inside.sums(at) / area_px for at in inside[3:]]
    low, high = origin + margin, sheet.ends + regions.tile.origin - margin
    at_edge = (low == 0).any(axis=1) | (high == regions.shape).any(axis=1)
    free = ring.where(final.ravel()[ring.place] == 0)
    isolation = _isolation(
        inside.sums(flat[inside.place]) / area_px - level,
        free,
        flat[free.place] - level[free.window],
        middle,
    )
    columns = (
        sheet.labels,
        centre,
        2 * np.sqrt(area_px / np.pi) * pixel_nm,
        intensity,
        _eccentricity(inside, middle),
        at_edge,
        met,
        low[:, None],
        isolation,
    )
    rows = zip(*(c if c.ndim > 1 else c.tolist() for c in columns), strict=True)
    tops, sizes = (sheet.tops + margin).tolist(), (high - low).tolist()
    return [
        (Outline(*row), mask[top : top + height, margin : margin + width])
        if area >= _MIN_PIXELS
        else None
        for row, area, top, (height, width) in zip(rows, area_px, tops, sizes, strict=True)
    ]


def _distance2(inside: np.ndarray) -> np.ndarray:
    """Return the squared distance in pixels to the nearest pixel inside."""
    y, x = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    y -= np.arange(inside.shape[0], dtype=y.dtype)[:, None]
    x -= np.arange(inside.shape[1], dtype=x.dtype)
    return np.asarray(y * y + x * x)


def _isolation(
    height: np.ndarray,  # (n,): mean intensity of the clusters above the local background
    around: SheetPixels,
    values: np.ndarray,  # (K,): their intensity above the local background
    middle: Sequence[np.ndarray],
) -> np.ndarray:
    """Compute the smallest fall of intensity around a cluster over eight directions: (n,)."""
    y, x = (at - m[around.window] for at, m in zip(around[3:], middle, strict=True))
    sector = 8 * around.window + (y < 0) + 2 * (x < 0) + 4 * (np.abs(y) < np.abs(x))
    count = np.bincount(sector, minlength=8 * around.n)
    total = np.bincount(sector, values, 8 * around.n)
    mean = np.where(count >= _MIN_RING_PIXELS, total / np.maximum(count, 1), -np.inf)
    highest = mean.reshape(-1, 8).max(axis=1)
    fall = 1 - highest / np.where(height > 0, height, 1)
    return np.where(height <= 0, 0.0, np.where(np.isfinite(highest), fall, 1.0))


def _eccentricity(inside: SheetPixels, middle: Sequence[np.ndarray]) -> np.ndarray:
    """Return the eccentricity (n,) of the ellipses with the same second moments."""
    n = inside.number()
    y, x = (at - m[inside.window] for at, m in zip(inside[3:], middle, strict=True))
    yy, xx, yx = inside.sums(y * y) / n, inside.sums(x * x) / n, inside.sums(y * x) / n
    mean, apart = (yy + xx) / 2 + 1 / 12, np.hypot((yy - xx) / 2, yx)
    return np.sqrt(np.maximum(0.0, 1 - (mean - apart) / (mean + apart)))


def trace_masks(masks: list[np.ndarray]) -> list[np.ndarray]:
    """Return the longest closed contour (M, 2) of each mask."""
    out = []
    for start in range(0, len(masks), _MAX_POLYGONS):
        # Stacked in one image, because starting a contour takes most of its time.
        some = masks[start : start + _MAX_POLYGONS]
        tops = np.cumsum([0] + [len(mask) + 2 for mask in some])
        height = np.zeros((tops[-1], max(mask.shape[1] for mask in some) + 2))
        for top, mask in zip(tops, some, strict=False):
            height[top + 1 : top + 1 + len(mask), 1 : 1 + mask.shape[1]] = mask
        lines: Any = contour_generator(z=height).lines(0.5)
        longest: list[np.ndarray] = [np.empty((0, 2))] * len(some)
        for line, own in zip(
            lines, np.searchsorted(tops, [line[0, 1] for line in lines]) - 1, strict=True
        ):
            if len(line) > len(longest[own]):
                longest[own] = line
        out += [line[:, ::-1] - (top + 1, 1) for line, top in zip(longest, tops, strict=False)]
    return out
