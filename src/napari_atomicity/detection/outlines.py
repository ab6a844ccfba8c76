"""Outlines: the extent of each cluster, and what is measured inside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.measure import find_contours
from skimage.segmentation import watershed

from .background import local_noise
from .scale_space import ScaleSpace

OUTLINE_SIGMA_NM = 0.12
"""Blur under the outline: joins the atoms of a cluster, hardly widens it."""
OUTLINE_LEVEL = 0.4
"""Height of the outline as a share of the cluster's own plateau."""
TAIL_NM = 0.2
"""How far beyond the outline the probe's tails are counted to the intensity."""
RING_NM = 0.6
"""Width of the ring around it that gives the local background."""


@dataclass(frozen=True, eq=False)
class Outline:
    """One cluster on the working grid; lengths in nm, polygon and centre in its pixels (y, x).

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


def grow_regions(
    flat: np.ndarray, space: ScaleSpace, seeds: np.ndarray, pixel_nm: float
) -> tuple[np.ndarray, np.ndarray]:
    """The basin of each seed, and the smoothed image it was taken from.

    Parameters
    ----------
    flat
        Frame without background (Y, X).
    space
        Its scale space.
    seeds
        (N, 2) positions (y, x).
    pixel_nm
        Edge length of a pixel in nm.

    Returns
    -------
    basins : ndarray of int32
        (Y, X), 0 where no cluster is, else 1 + index of the seed.
    smooth : ndarray
        (Y, X) float32.
    """
    smooth = space.gaussian(OUTLINE_SIGMA_NM / pixel_nm)
    markers = np.zeros(flat.shape, np.int32)
    if len(seeds) == 0:
        return markers, smooth
    noise = local_noise(smooth, int(np.ceil(8 / pixel_nm)))
    mask = smooth > 2 * noise
    # A seed is a small disc, so that noise at one pixel does not decide whose basin it is.
    for label, (y, x) in enumerate(np.round(seeds).astype(int), start=1):
        y, x = np.clip(y, 0, flat.shape[0] - 1), np.clip(x, 0, flat.shape[1] - 1)
        markers[y, x] = label
        mask[y, x] = True
    wide = space.gaussian(0.2 / pixel_nm)  # flooding must not follow single atoms
    return np.asarray(watershed(-wide, markers, mask=mask), dtype=np.int32), smooth


def measure_regions(
    regions: tuple[np.ndarray, np.ndarray], flat: np.ndarray, pixel_nm: float
) -> list[Outline]:
    """Outline and measure every basin, from top to bottom.

    The outline lies at a fixed share of the cluster's own plateau (the median of the brighter
    half of its core), so that gain and dose do not change it.
    """
    basins, smooth = regions
    found = []
    margin = int(np.ceil((TAIL_NM + RING_NM) / pixel_nm)) + 1
    # first with the plateaus, so that neighbours know each other's final extent
    final = np.zeros_like(basins)
    boxes = ndimage.find_objects(basins)
    for label, box in enumerate(boxes, start=1):
        if box is None:
            continue
        own = basins[box] == label
        inside = _core(own, smooth[box])
        if inside is not None:
            final[box][inside] = label
    for label, box in enumerate(ndimage.find_objects(final), start=1):
        if box is None:
            continue
        window = tuple(
            slice(max(0, s.start - margin), min(n, s.stop + margin))
            for s, n in zip(box, final.shape, strict=True)
        )
        outline = _measure(
            label, final[window], basins[window], flat[window], smooth[window],
            pixel_nm, window, final.shape,
        )  # fmt: skip
        if outline is not None:
            found.append(outline)
    return sorted(found, key=lambda o: (o.centre_px[0], o.centre_px[1]))


def measure_mask(
    mask: np.ndarray, regions: tuple[np.ndarray, np.ndarray], flat: np.ndarray, pixel_nm: float
) -> Outline | None:
    """Measure the cluster of which a part is given, beside the basins of all others.

    Parameters
    ----------
    mask
        (Y, X) bool: what belongs to the cluster in any case; the core of its basin does as well.
    regions, flat, pixel_nm
        As in `measure_regions`; label 1 is the cluster's own basin.
    """
    basins, smooth = regions
    final = np.zeros_like(basins)
    for label, box in enumerate(ndimage.find_objects(basins), start=1):
        inside = None if box is None else _core(basins[box] == label, smooth[box])
        if inside is not None:
            final[box][inside] = label
    final[mask] = 1
    whole = tuple(slice(0, n) for n in mask.shape)
    own = np.where(mask, 1, basins)
    return _measure(1, final, own, flat, smooth, pixel_nm, whole, mask.shape)


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
    label: int,
    final: np.ndarray,
    basins: np.ndarray,
    flat: np.ndarray,
    smooth: np.ndarray,
    pixel_nm: float,
    window: tuple[slice, ...],
    shape: tuple[int, ...],
) -> Outline | None:
    inside = final == label
    area_px = int(inside.sum())
    if area_px < 4:
        return None
    distance_nm = ndimage.distance_transform_edt(~inside) * pixel_nm
    others = (final > 0) & ~inside
    near = distance_nm <= TAIL_NM
    territory = near & ~others & ((basins == label) | (basins == 0))
    ring = (distance_nm > TAIL_NM) & (distance_nm <= TAIL_NM + RING_NM) & (basins == 0)
    level = float(np.median(flat[ring])) if ring.sum() >= 12 else 0.0
    intensity = float((flat[territory] - level).sum()) * pixel_nm**2
    isolation = _isolation(inside, ring & (final == 0), flat, level)
    y, x = np.nonzero(inside)
    weight = np.clip(smooth[inside], 0, None).astype(float)
    weight = weight / weight.sum() if weight.sum() > 0 else np.full(len(y), 1 / len(y))
    centre = np.array([weight @ y, weight @ x])
    origin = np.array([s.start for s in window])
    at_edge = (
        (y.min() + origin[0] == 0)
        or (x.min() + origin[1] == 0)
        or (y.max() + origin[0] == shape[0] - 1)
        or (x.max() + origin[1] == shape[1] - 1)
    )
    return Outline(
        label,
        centre + origin,
        2 * np.sqrt(area_px / np.pi) * pixel_nm,
        intensity,
        _eccentricity(y, x),
        bool(at_edge),
        bool((others & (distance_nm <= TAIL_NM)).any()),
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
