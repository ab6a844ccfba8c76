"""Outlines: the extent of each cluster, and what is measured inside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from contourpy import contour_generator
from scipy import ndimage
from skimage.segmentation import watershed

from .background import Grid
from .filters import gaussian, inner, reach
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
class Regions:
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
    frame: Frame, tile: Tile, seeds: np.ndarray, noise: Grid, reach_nm: float
) -> Regions:
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
    return Regions(basins, flat, smooth, tile, frame.shape, frame.pixel_nm)


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


def measure_regions(regions: Regions, labels: np.ndarray | None = None) -> list[Outline]:
    """Outline and measure basins, from top to bottom; those of ``labels``, or all.

    The outline lies at a fixed share of the cluster's own plateau (the median of the brighter
    half of its core), so that gain and dose do not change it.
    """
    final = _cores(regions)  # first, so that neighbours know each other's extent
    boxes = ndimage.find_objects(final)
    chosen = range(1, len(boxes) + 1) if labels is None else [i for i in labels if i <= len(boxes)]
    found = [
        _measure(label, boxes[label - 1], final, regions)
        for label in chosen
        if boxes[label - 1] is not None
    ]
    return sorted(_drawn(found), key=lambda o: (o.centre_px[0], o.centre_px[1]))


def measure_mask(mask: np.ndarray, regions: Regions) -> Outline | None:
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
    return next(iter(_drawn([_measure(1, ndimage.find_objects(final)[0], final, regions)])), None)


def _drawn(measured: list[tuple[Outline, np.ndarray] | None]) -> list[Outline]:
    some = [one for one in measured if one is not None]
    polygons = _polygons([mask for _, mask in some])
    return [
        replace(outline, polygon_px=polygon + outline.polygon_px)
        for (outline, _), polygon in zip(some, polygons, strict=True)
    ]


def _cores(regions: Regions) -> np.ndarray:
    """The labels of the basins, but within the outlines only."""
    final = np.zeros_like(regions.basins)
    for label, box in enumerate(ndimage.find_objects(regions.basins), start=1):
        own = None if box is None else regions.basins[box] == label
        inside = None if own is None else _core(own, regions.smooth[box])
        if inside is not None:
            final[box][inside] = label
    return final


def _core(own: np.ndarray, smooth: np.ndarray) -> np.ndarray | None:
    """The part of a basin above the outline's level that hangs together, without holes."""
    values = smooth[own]
    top = values.max()
    if top <= 0:
        return None
    plateau = _median(values[values > 0.5 * top])
    inside = own & (smooth > OUTLINE_LEVEL * plateau)
    parts, n = ndimage.label(inside, _CROSS)
    if n == 0:
        return None
    if n > 1:
        sizes = np.bincount(parts.ravel())[1:]
        inside = parts == 1 + int(np.argmax(sizes))
    around = np.ones((inside.shape[0] + 2, inside.shape[1] + 2), bool)
    np.logical_not(inside, out=around[1:-1, 1:-1])
    outside, n = ndimage.label(around, _CROSS)
    return inside if n == 1 else np.asarray(outside[1:-1, 1:-1] != outside[0, 0])


def _median(values: np.ndarray) -> float:
    """`numpy.median`, in a tenth of the time for a few hundred values."""
    half = len(values) // 2
    if len(values) % 2:
        return float(np.partition(values, half)[half])
    low, high = np.partition(values, (half - 1, half))[half - 1 : half + 1]
    return float((low + high) / 2)


def _measure(
    label: int, box: tuple[slice, ...], final: np.ndarray, regions: Regions
) -> tuple[Outline, np.ndarray] | None:
    """The outline, of whose polygon only the corner is there yet, and the mask to draw it from."""
    pixel_nm = regions.pixel_nm
    margin = int(np.ceil((TAIL_NM + RING_NM) / pixel_nm)) + 1
    window = tuple(
        slice(max(0, s.start - margin), min(n, s.stop + margin))
        for s, n in zip(box, final.shape, strict=True)
    )
    final, basins, flat = final[window], regions.basins[window], regions.flat[window]
    inside = final == label
    y, x = np.nonzero(inside)
    area_px = len(y)
    if area_px < 4:
        return None
    distance2 = _distance2(inside)
    tail, reach_ = ((end / pixel_nm) ** 2 + 1e-9 for end in (TAIL_NM, TAIL_NM + RING_NM))
    near = distance2 <= tail
    others = (final != label) & (final > 0)
    unclaimed = basins == 0
    own = flat[near & ~others & (unclaimed | (basins == label))]
    ring = np.nonzero(unclaimed & (distance2 <= reach_) & ~near)
    level = _median(flat[ring]) if len(ring[0]) >= 12 else 0.0
    weight = np.maximum(regions.smooth[window][y, x], 0).astype(float)
    total = weight.sum()
    weight = weight / total if total > 0 else np.full(area_px, 1 / area_px)
    centre = np.array([weight @ y, weight @ x])
    origin = np.array([s.start for s in window]) + regions.tile.origin
    low, high = (y.min(), x.min()), (y.max(), x.max())
    at_edge = (origin + low == 0).any() or (origin + high == np.array(regions.shape) - 1).any()
    cut = inside[low[0] : high[0] + 1, low[1] : high[1] + 1]
    free = final[ring] == 0
    outline = Outline(
        label,
        centre + origin,
        2 * np.sqrt(area_px / np.pi) * pixel_nm,
        float((own - level).sum()) * pixel_nm**2,
        _eccentricity(y, x),
        bool(at_edge),
        bool((others & near).any()),
        np.array([origin + low]),  # the polygon comes later
        _isolation(
            float(flat[y, x].mean()) - level,
            flat[ring][free] - level,
            ring[0][free] - y.mean(),
            ring[1][free] - x.mean(),
        ),
    )
    return outline, cut


def _distance2(inside: np.ndarray) -> np.ndarray:
    """Squared distance in pixels to the nearest of those inside."""
    y, x = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    y -= np.arange(inside.shape[0], dtype=y.dtype)[:, None]
    x -= np.arange(inside.shape[1], dtype=x.dtype)
    return np.asarray(y * y + x * x)


def _isolation(height: float, around: np.ndarray, y: np.ndarray, x: np.ndarray) -> float:
    """How far the level falls in the direction in which it falls least (of eight).

    Parameters
    ----------
    height
        Of the cluster over the level.
    around
        (N,) the ring over the level.
    y, x
        (N,) where, from the middle of the cluster.
    """
    if height <= 0:
        return 0.0
    sector = (y < 0) + 2 * (x < 0) + 4 * (np.abs(y) < np.abs(x))
    count = np.bincount(sector, minlength=8)
    total = np.bincount(sector, around, minlength=8)
    filled = count >= 12
    if not filled.any():
        return 1.0
    return float(1 - (total[filled] / count[filled]).max() / height)


def _eccentricity(y: np.ndarray, x: np.ndarray) -> float:
    """Eccentricity of the ellipse with the same second moments (pixels are squares)."""
    y, x = y - y.mean(), x - x.mean()
    yy, xx, yx = y @ y / len(y) + 1 / 12, x @ x / len(y) + 1 / 12, y @ x / len(y)
    middle, apart = (yy + xx) / 2, np.hypot((yy - xx) / 2, yx)
    return float(np.sqrt(max(0.0, 1 - (middle - apart) / (middle + apart))))


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
