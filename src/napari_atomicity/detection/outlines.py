"""Outlines: the extent of each cluster, and what is measured inside it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage
from skimage.measure import find_contours
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
    parts, n = ndimage.label(mask)
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
    basins = regions.basins
    # first with the plateaus, so that neighbours know each other's final extent
    final = np.zeros_like(basins)
    for label, box in enumerate(ndimage.find_objects(basins), start=1):
        if box is None:
            continue
        inside = _core(basins[box] == label, regions.smooth[box])
        if inside is not None:
            final[box][inside] = label
    boxes = ndimage.find_objects(final)
    chosen = range(1, len(boxes) + 1) if labels is None else [i for i in labels if i <= len(boxes)]
    found = [
        _measure(label, boxes[label - 1], final, regions)
        for label in chosen
        if boxes[label - 1] is not None
    ]
    return sorted(
        (o for o in found if o is not None), key=lambda o: (o.centre_px[0], o.centre_px[1])
    )


def measure_mask(mask: np.ndarray, regions: Regions) -> Outline | None:
    """Measure the cluster of which a part is given, beside the basins of all others.

    Parameters
    ----------
    mask
        (Y, X) bool: what belongs to the cluster in any case; the core of its basin does as well.
    regions
        Label 1 is the cluster's own basin.
    """
    final = np.zeros_like(regions.basins)
    for label, box in enumerate(ndimage.find_objects(regions.basins), start=1):
        own = None if box is None else regions.basins[box] == label
        inside = None if own is None else _core(own, regions.smooth[box])
        if inside is not None:
            final[box][inside] = label
    final[mask] = 1
    regions = replace(regions, basins=np.where(mask, 1, regions.basins))
    return _measure(1, ndimage.find_objects(final)[0], final, regions)


def _core(own: np.ndarray, smooth: np.ndarray) -> np.ndarray | None:
    """The part of a basin above the outline's level that hangs together."""
    values = smooth[own]
    top = values.max()
    if top <= 0:
        return None
    plateau = np.median(values[values > 0.5 * top])
    inside = own & (smooth > OUTLINE_LEVEL * plateau)
    parts, n = ndimage.label(inside)
    if n == 0:
        return None
    if n > 1:
        sizes = np.bincount(parts.ravel())[1:]
        inside = parts == 1 + int(np.argmax(sizes))
    return np.asarray(ndimage.binary_fill_holes(inside))


def _measure(
    label: int, box: tuple[slice, ...], final: np.ndarray, regions: Regions
) -> Outline | None:
    pixel_nm = regions.pixel_nm
    margin = int(np.ceil((TAIL_NM + RING_NM) / pixel_nm)) + 1
    window = tuple(
        slice(max(0, s.start - margin), min(n, s.stop + margin))
        for s, n in zip(box, final.shape, strict=True)
    )
    final, basins = final[window], regions.basins[window]
    flat, smooth = regions.flat[window], regions.smooth[window]
    inside = final == label
    y, x = np.nonzero(inside)
    area_px = len(y)
    if area_px < 4:
        return None
    distance_nm = ndimage.distance_transform_edt(~inside) * pixel_nm
    near = distance_nm <= TAIL_NM
    empty = final == 0
    others = ~(empty | inside)
    unclaimed = basins == 0
    territory = near & ~others & (unclaimed | (basins == label))
    ring = ~near & unclaimed & (distance_nm <= TAIL_NM + RING_NM)
    around = flat[ring]
    level = float(np.median(around)) if len(around) >= 12 else 0.0
    own = flat[territory]
    intensity = float((own - level).sum()) * pixel_nm**2
    isolation = _isolation(inside, ring & empty, flat, level)
    weight = np.clip(smooth[inside], 0, None).astype(float)
    total = weight.sum()
    weight = weight / total if total > 0 else np.full(area_px, 1 / area_px)
    centre = np.array([weight @ y, weight @ x])
    origin = np.array([s.start for s in window]) + regions.tile.origin
    low, high = (origin + np.array(end) for end in ((y.min(), x.min()), (y.max(), x.max())))
    at_edge = (low == 0).any() or (high == np.array(regions.shape) - 1).any()
    return Outline(
        label,
        centre + origin,
        2 * np.sqrt(area_px / np.pi) * pixel_nm,
        intensity,
        _eccentricity(y, x),
        bool(at_edge),
        bool((others & near).any()),
        _polygon(inside) + origin,
        isolation,
    )


def _isolation(inside: np.ndarray, ring: np.ndarray, flat: np.ndarray, level: float) -> float:
    """How far the level falls in the direction in which it falls least (of eight)."""
    height = float(flat[inside].mean()) - level
    if height <= 0:
        return 0.0
    centre = np.argwhere(inside).mean(axis=0)
    y, x = np.nonzero(ring)
    sector = ((np.arctan2(y - centre[0], x - centre[1]) + np.pi) / (np.pi / 4)).astype(int) % 8
    count = np.bincount(sector, minlength=8)
    total = np.bincount(sector, flat[ring] - level, minlength=8)
    filled = count >= 12
    if not filled.any():
        return 1.0
    return float(1 - (total[filled] / count[filled]).max() / height)


def _eccentricity(y: np.ndarray, x: np.ndarray) -> float:
    """Eccentricity of the ellipse with the same second moments (pixels are squares)."""
    covariance = np.cov(np.stack([y, x]).astype(float), bias=True) + np.eye(2) / 12
    small, large = np.linalg.eigvalsh(covariance)
    return float(np.sqrt(max(0.0, 1 - small / large)))


def _polygon(inside: np.ndarray) -> np.ndarray:
    """The longest closed contour, (M, 2)."""
    contours = find_contours(np.pad(inside, 1).astype(float), 0.5)
    return np.asarray(max(contours, key=len) - 1)
