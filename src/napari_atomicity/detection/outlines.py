"""Outlines: the extent of each cluster, and what is measured inside it."""

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
from .filters import gaussian, in_threads, inner, reach
from .frame import Frame, Tile

OUTLINE_SIGMA_NM = 0.12
"""Blur under the outline: joins the atoms of a cluster, hardly widens it."""
OUTLINE_LEVEL = 0.4
"""Height of the outline as a share of the cluster's own plateau."""
_FLOOD_SIGMA_NM = 0.2
TAIL_NM = 0.2
"""How far beyond the outline the probe's tails are counted to the intensity."""
RING_NM = 0.6
"""Width of the ring around it that gives the local background."""
_CROSS = ndimage.generate_binary_structure(2, 1)
_MIN_PIXELS = 4
_MIN_AROUND = 12  # pixels, for a level
_WINDOWS = 64  # measured at a time: they stay in the processor's cache
_DRAWN = 500  # polygons at a time


@dataclass(frozen=True, eq=False)
class Outline:
    """One cluster on the frame's grid; lengths in nm, polygon and centre in its pixels (y, x).

    ``isolation`` is 1 if the level falls to the local background all around, and 0 if it stays in
    some direction, as at an edge.
    """

    label: int
    centre_px: np.ndarray
    diameter_nm: float
    integrated_intensity: float
    eccentricity: float
    touches_border: bool
    touches_neighbour: bool
    polygon_px: np.ndarray
    isolation: float = 1.0


@dataclass(frozen=True, eq=False)
class Basins:
    """The basins of the clusters in a tile.

    Parameters
    ----------
    basins
        (Y, X) int32: 0 where no cluster is, else 1 + index of the seed.
    flat, smooth
        (Y, X) float32: the tile without background, and blurred.
    tile
        Where it lies.
    shape
        Of the whole frame.
    pixel_nm
        Edge length of a pixel in nm.
    """

    basins: np.ndarray
    flat: np.ndarray
    smooth: np.ndarray
    tile: Tile
    shape: tuple[int, int]
    pixel_nm: float


def grow_regions(
    frame: Frame, tile: Tile, seeds: np.ndarray, noise: BackgroundGrid, reach_nm: float
) -> Basins:
    """The basin of each seed: what stands out around it, up to the basins of others.

    Parameters
    ----------
    frame, tile
        Where.
    seeds
        (N, 2) positions (y, x) in the frame.
    noise
        Of the frame blurred by `OUTLINE_SIGMA_NM`.
    reach_nm
        A basin ends at this distance from its seed, along y or x, at the latest.
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
        mask = smooth > 2 * noise.at(rows, columns)
        at = np.round(seeds - tile.origin).astype(int)
        at = np.clip(at, 0, np.array(tile.shape) - 1)
        mask[at[:, 0], at[:, 1]] = True
        mask &= _near(at, round(reach_nm / frame.pixel_nm), tile.shape)
        basins[at[:, 0], at[:, 1]] = np.arange(1, len(seeds) + 1)
        _flood(basins, gaussian(blurred, second), mask)  # it must not follow single atoms
    return Basins(basins, flat, smooth, tile, frame.shape, frame.pixel_nm)


def _near(points: np.ndarray, half: int, shape: tuple[int, ...]) -> np.ndarray:
    """(Y, X) bool: at most ``half`` from one of the points (N, 2), along y and along x."""
    near = np.zeros(shape, bool)
    for y, x in points:
        near[max(0, y - half) : y + half + 1, max(0, x - half) : x + half + 1] = True
    return near


def _flood(basins: np.ndarray, height: np.ndarray, mask: np.ndarray) -> None:
    """Watershed of the seeds in ``basins``, in place; part by part of the mask.

    A part with one seed is its basin as a whole; only those with several have to be flooded.
    """
    parts, n = ndimage.label(mask, _CROSS)
    at = np.nonzero(basins)
    part, seed = parts[at], basins[at]
    number = np.bincount(part, minlength=n + 1)
    only = np.zeros(n + 1, np.int32)
    only[part] = seed
    only[number > 1] = 0
    several = np.flatnonzero(number > 1)
    boxes = ndimage.find_objects(parts) if len(several) else []
    flooded = []
    for label in several:
        box = boxes[label - 1]
        inside = parts[box] == label
        markers = np.where(inside, basins[box], 0)
        flooded.append((box, inside, watershed(-height[box], markers, mask=inside)))
    basins[...] = only[parts]
    for box, inside, labels in flooded:
        basins[box][inside] = labels[inside]


def measure_regions(regions: Basins, labels: np.ndarray | None = None) -> list[Outline]:
    """Outline and measure basins, from top to bottom; those of ``labels``, or all.

    The outline lies at a fixed share of the cluster's own plateau (the median of the brighter
    half of its core), so that gain and dose do not change it.
    """
    final = _cores(regions)  # first, so that neighbours know each other's extent
    found = _drawn(_measured(final, regions, labels))
    return sorted(found, key=lambda o: (o.centre_px[0], o.centre_px[1]))


def measure_mask(mask: np.ndarray, regions: Basins) -> Outline | None:
    """Measure the cluster of which a part is given, beside the basins of all others.

    Parameters
    ----------
    mask
        (Y, X) bool: what belongs to the cluster in any case; the core of its basin does as well.
    regions
        Label 1 is the cluster's own basin.
    """
    final = _cores(regions)
    final[mask] = 1
    regions = replace(regions, basins=np.where(mask, 1, regions.basins))
    return next(iter(_drawn(_measured(final, regions, np.array([1])))), None)


def _drawn(measured: Sequence[tuple[Outline, np.ndarray] | None]) -> list[Outline]:
    some = [one for one in measured if one is not None]
    polygons = _polygons([mask for _, mask in some])
    # `replace` would take ten times as long.
    return [
        Outline(**{**vars(outline), "polygon_px": polygon + outline.polygon_px})
        for (outline, _), polygon in zip(some, polygons, strict=True)
    ]


# ---- many clusters at a time
class _Sheet:
    """Windows of an image one below the other: one operation then serves many clusters.

    Parameters
    ----------
    labels
        (N,) one per window.
    boxes
        (N, 4) top, bottom, left, right in the image; they may reach beyond it.
    """

    def __init__(self, labels: np.ndarray, boxes: np.ndarray) -> None:
        self.labels = labels
        self.corners, self.ends = boxes[:, ::2], boxes[:, 1::2]
        heights, widths = (self.ends - self.corners).T
        self.tops = np.cumsum(heights) - heights
        self.shape = int(heights.sum()), int(widths.max())
        self.window = np.repeat(np.arange(len(boxes)), heights)  # of each row

    def of(self, image: np.ndarray, outside: float) -> np.ndarray:
        """The windows of an image; what is not in it is ``outside``."""
        out = np.full(self.shape, outside, image.dtype)
        first, last = np.maximum(self.corners, 0), np.minimum(self.ends, image.shape)
        places = [first, last, first - self.corners, last - self.corners]
        for top, (y, x, y_, x_, row, column, row_, column_) in zip(
            self.tops.tolist(), np.hstack(places).tolist(), strict=True
        ):
            out[top + row : top + row_, column:column_] = image[y:y_, x:x_]
        return out

    def pixels(self, mask: np.ndarray) -> _Pixels:
        """Those of a mask, window by window and from top to bottom."""
        index = np.flatnonzero(mask)
        row, column = np.divmod(index, self.shape[1])
        window = self.window[row]
        return _Pixels(len(self.tops), index, window, row - self.tops[window], column)


class _Pixels(NamedTuple):
    """Some pixels of a sheet of ``n`` windows, (K,) each: place in the sheet, window, and row and
    column in the window."""

    n: int
    place: np.ndarray
    window: np.ndarray
    row: np.ndarray
    column: np.ndarray

    def where(self, keep: np.ndarray) -> _Pixels:
        return _Pixels(self.n, *(one[keep] for one in self[1:]))

    def number(self) -> np.ndarray:
        """(n,) of each window."""
        return np.bincount(self.window, minlength=self.n)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """(n,) of values (K,) over each window, in double precision and in their order: the same
        whatever is in the sheet beside."""
        return np.bincount(self.window, values, self.n)

    def medians(self, values: np.ndarray, least: int = 1) -> np.ndarray:
        """(n,) of values (K,) over each window, NaN where there are fewer than ``least``."""
        ends = np.cumsum(self.number()).tolist()
        return np.array(
            [
                _median(values[start:end]) if end - start >= least else np.nan
                for start, end in pairwise([0, *ends])
            ]
        )


def _median(values: np.ndarray) -> float:
    """`numpy.median`, in a tenth of the time for a few hundred values."""
    half = len(values) // 2
    values = values.copy()
    values.partition(half)
    if len(values) % 2:
        return float(values[half])
    return float((values[:half].max() + values[half]) / 2)


def _sheets(image: np.ndarray, labels: np.ndarray | None, margin: int) -> list[_Sheet]:
    """Windows with a margin around the labels in an image of labels, or around all of them."""
    boxes = ndimage.find_objects(image)
    some = range(1, len(boxes) + 1) if labels is None else [i for i in labels if i <= len(boxes)]
    own = np.array([i for i in some if boxes[i - 1] is not None])
    edges = np.array(
        [[end for s in boxes[i - 1] for end in (s.start - margin, s.stop + margin)] for i in own]
    )
    return [
        _Sheet(own[start : start + _WINDOWS], edges[start : start + _WINDOWS])
        for start in range(0, len(own), _WINDOWS)
    ]


def _cores(regions: Basins) -> np.ndarray:
    """The labels of the basins, but within the outlines only."""
    final = np.zeros_like(regions.basins)
    sheets = _sheets(regions.basins, None, margin=1)
    for sheet, core in zip(sheets, in_threads(lambda s: _core(s, regions), sheets), strict=True):
        top, left = sheet.corners[core.window].T
        final[core.row + top, core.column + left] = sheet.labels[core.window]
    return final


def _core(sheet: _Sheet, regions: Basins) -> _Pixels:
    """The part of each basin above the outline's level that hangs together, without holes."""
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


def _measured(
    final: np.ndarray, regions: Basins, labels: np.ndarray | None
) -> list[tuple[Outline, np.ndarray] | None]:
    """Outlines, of whose polygons only the corner is there yet, and the masks to draw them from;
    None for what is too small."""
    # So wide that whatever counts for a cluster is nearer to it than to the next in the sheet.
    margin = int(np.ceil((TAIL_NM + RING_NM) / regions.pixel_nm)) + 1
    sheets = _sheets(final, labels, margin)
    found = in_threads(lambda sheet: _measures(sheet, margin, final, regions), sheets)
    return [one for of_sheet in found for one in of_sheet]


def _measures(
    sheet: _Sheet, margin: int, labels: np.ndarray, regions: Basins
) -> list[tuple[Outline, np.ndarray] | None]:
    """`_measured` of the clusters of a sheet."""
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
    level = np.nan_to_num(ring.medians(flat[ring.place], least=_MIN_AROUND))
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
    """Squared distance in pixels to the nearest of those inside."""
    y, x = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    y -= np.arange(inside.shape[0], dtype=y.dtype)[:, None]
    x -= np.arange(inside.shape[1], dtype=x.dtype)
    return np.asarray(y * y + x * x)


def _isolation(
    height: np.ndarray, around: _Pixels, values: np.ndarray, middle: Sequence[np.ndarray]
) -> np.ndarray:
    """How far the level falls in the direction in which it falls least (of eight): (n,).

    Parameters
    ----------
    height
        (n,) of the clusters over the level.
    around, values
        (K,) pixels of the ring that are no cluster's, and how far they lie over the level.
    middle
        Row and column of each cluster.
    """
    y, x = (at - m[around.window] for at, m in zip(around[3:], middle, strict=True))
    sector = 8 * around.window + (y < 0) + 2 * (x < 0) + 4 * (np.abs(y) < np.abs(x))
    count = np.bincount(sector, minlength=8 * around.n)
    total = np.bincount(sector, values, 8 * around.n)
    mean = np.where(count >= _MIN_AROUND, total / np.maximum(count, 1), -np.inf)
    highest = mean.reshape(-1, 8).max(axis=1)
    fall = 1 - highest / np.where(height > 0, height, 1)
    return np.where(height <= 0, 0.0, np.where(np.isfinite(highest), fall, 1.0))


def _eccentricity(inside: _Pixels, middle: Sequence[np.ndarray]) -> np.ndarray:
    """(n,) of the ellipses with the same second moments (pixels are squares)."""
    n = inside.number()
    y, x = (at - m[inside.window] for at, m in zip(inside[3:], middle, strict=True))
    yy, xx, yx = inside.sums(y * y) / n, inside.sums(x * x) / n, inside.sums(y * x) / n
    mean, apart = (yy + xx) / 2 + 1 / 12, np.hypot((yy - xx) / 2, yx)
    return np.sqrt(np.maximum(0.0, 1 - (mean - apart) / (mean + apart)))


def _polygons(masks: list[np.ndarray]) -> list[np.ndarray]:
    """The longest closed contour of each mask, (M, 2)."""
    out = []
    for start in range(0, len(masks), _DRAWN):
        # One below the other in one image: most of the time of a contour goes to its beginning.
        some = masks[start : start + _DRAWN]
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
