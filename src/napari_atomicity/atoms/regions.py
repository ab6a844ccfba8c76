"""Discs and regions of a frame, and their intensity above the background.

One convention for all: the sum inside, minus the mean level of the ring around it, from which known
atoms and clusters are excluded. The mean, not the median: Poisson counts of few electrons are
skewed, and undetected atoms contribute equally to the mean of region and ring.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import ndimage
from skimage.draw import polygon2mask

from ..detection.outlines import TAIL_NM

APERTURE_NM = 0.2
"""Radius of the disc of an atom: larger discs contain more of the tails, but more noise."""
RING_NM = 0.6
"""Width of the ring around a region that gives its background."""
NEAR_CLUSTER_NM = 0.5
"""Minimum distance of an isolated atom to the outline of a cluster."""


def integrate(
    pixels: np.ndarray,
    pixel_size_nm: float,
    positions: np.ndarray,
    radius_nm: float = APERTURE_NM,
    sources: np.ndarray | None = None,
) -> np.ndarray:
    """Integrate discs above the mean level of the ring around each.

    Parameters
    ----------
    pixels : ndarray of shape (Y, X)
        Image, finite.
    positions : ndarray of shape (N, 2)
        Centres (y, x) in pixels.
    sources : ndarray of bool, shape (Y, X), optional
        Pixels excluded from the rings.

    Returns
    -------
    ndarray
        (N,) counts times nm²; NaN where the disc is cut by the border, or where too little of the
        ring is left.
    """
    positions = np.asarray(positions, float).reshape(-1, 2)
    half = int(np.ceil((radius_nm + RING_NM) / pixel_size_nm))
    found = np.full(len(positions), np.nan)
    for i, centre in enumerate(positions):
        if not np.isfinite(centre).all():
            continue
        corner = np.rint(centre).astype(int)
        window = _window(corner - half, corner + half + 1, pixels.shape)
        y, x = (np.arange(s.start, s.stop) for s in window)
        distance = np.hypot((y - centre[0])[:, None], x - centre[1]) * pixel_size_nm
        cut = (centre - radius_nm / pixel_size_nm < -0.5).any() or (
            centre + radius_nm / pixel_size_nm > np.array(pixels.shape) - 0.5
        ).any()
        if not cut:
            other = None if sources is None else sources[window]
            found[i] = _above_ring(
                pixels[window], distance <= radius_nm, distance - radius_nm, other
            )
    return found * pixel_size_nm**2


class Region(NamedTuple):
    """Pixels of a frame: a window (two slices) and the pixels ``inside`` it (h, w) bool."""

    window: tuple[slice, ...]
    inside: np.ndarray

    @classmethod
    def of(
        cls,
        mask: np.ndarray,  # (h, w), bool: pixels of the region
        corner: Sequence[int] = (0, 0),  # pixel (y, x) of the frame at the first pixel of the mask
    ) -> Region:
        """Make the smallest region that contains a mask."""
        if not mask.any():
            return cls((slice(0, 0), slice(0, 0)), np.zeros((0, 0), bool))
        box = ndimage.find_objects(mask.astype(np.uint8))[0]
        window = tuple(
            slice(int(s.start + c), int(s.stop + c)) for s, c in zip(box, corner, strict=True)
        )
        return cls(window, mask[box])

    def widened(
        self,
        margin: int,  # margin in pixels
        shape: tuple[int, ...],  # (Y, X) of the frame
    ) -> Region:  # the same pixels
        """Return the same pixels in a window with a margin, limited by the frame."""
        low = np.array([s.start for s in self.window])
        high = np.array([s.stop for s in self.window])
        window = _window(low - margin, high + margin, shape)
        inside = np.zeros([s.stop - s.start for s in window], bool)
        inside[
            tuple(
                slice(own.start - wide.start, own.stop - wide.start)
                for own, wide in zip(self.window, window, strict=True)
            )
        ] = self.inside
        return Region(window, inside)


def integrate_regions(
    pixels: np.ndarray,  # (Y, X): image, finite
    pixel_size_nm: float,
    regions: Sequence[Region],
    sources: np.ndarray | None = None,  # (Y, X), bool: pixels excluded from the rings
) -> np.ndarray:
    """Integrate regions of any shape, each enlarged by `TAIL_NM`, like `integrate`.

    The result, (N,), is in counts times nm²; NaN where the region is empty or too little of the
    ring is left.
    """
    found = np.full(len(regions), np.nan)
    margin = int(np.ceil((TAIL_NM + RING_NM) / pixel_size_nm)) + 1
    for i, region in enumerate(regions):
        if not region.inside.any():
            continue
        window, inside = region.widened(margin, pixels.shape)
        distance = ndimage.distance_transform_edt(~inside) * pixel_size_nm - TAIL_NM
        other = None if sources is None else sources[window]
        found[i] = _above_ring(pixels[window], distance <= 0, distance, other)
    return found * pixel_size_nm**2


def _above_ring(
    values: np.ndarray, inside: np.ndarray, beyond_nm: np.ndarray, other: np.ndarray | None
) -> float:
    """Return the sum above the mean of the ring; NaN if less than a fifth of the ring is free."""
    ring = ~inside & (beyond_nm <= RING_NM)
    free = ring if other is None else ring & ~other
    if free.sum() < max(8, 0.2 * ring.sum()):
        return float("nan")
    return float((values[inside] - values[free].mean()).sum())


def make_cluster_mask(
    clusters: pd.DataFrame,
    shape: tuple[int, ...],
    pixel_size_nm: float,
    outlines: Sequence[np.ndarray] | None = None,
) -> np.ndarray:
    """Make the mask of clusters, in which atoms are not isolated.

    Parameters
    ----------
    shape : tuple of int
        (Y, X) of a frame, or (T, Y, X) of a stack.
    outlines : sequence of ndarray of shape (M, 2), optional
        Polygons (y, x) in pixels, one per cluster in table order.

    Returns
    -------
    ndarray
        Bool, of that shape: clusters enlarged by `NEAR_CLUSTER_NM`.
    """
    drawn = [None] * len(clusters) if outlines is None else outlines
    regions = (
        (int(cluster["frame"]), make_cluster_region(cluster, outline, shape[-2:], pixel_size_nm))
        for (_, cluster), outline in zip(clusters.iterrows(), drawn, strict=True)
    )
    return make_region_mask(regions, shape, pixel_size_nm)


def make_region_mask(
    # Frame and pixels of each region; those of other frames than the mask has are skipped
    regions: Iterable[tuple[int, Region]],
    shape: tuple[int, ...],  # (Y, X) of a frame, or (T, Y, X) of a stack
    pixel_size_nm: float,
) -> np.ndarray:
    """Make the mask of regions of frames, each enlarged by `NEAR_CLUSTER_NM`."""
    mask = np.zeros(shape, bool)
    frames = mask if mask.ndim == 3 else mask[None]
    for index, region in regions:
        if 0 <= index < len(frames):
            mark_regions(frames[index], [region], NEAR_CLUSTER_NM / pixel_size_nm)
    return mask


def make_cluster_region(
    cluster: pd.Series,
    outline: np.ndarray | None,  # (M, 2) or None: polygon (y, x) in pixels
    shape: tuple[int, ...],  # (Y, X) of the frame
    pixel_size_nm: float,
) -> Region:
    """Make the region of a cluster from its outline, or a disc that contains its ellipse.

    It is empty without an outline if the diameter is unknown.
    """
    if outline is not None:
        region = make_outline_region(outline, shape)
        if region.inside.any():
            return region
    if np.isnan(cluster["diameter_nm"]):
        return Region.of(np.zeros((0, 0), bool))
    eccentricity = min(np.nan_to_num(float(cluster["eccentricity"])), 0.98)
    longest_nm = cluster["diameter_nm"] / 2 / (1 - eccentricity**2) ** 0.25
    centre = np.array([cluster["y_px"], cluster["x_px"]], float)
    radius_px = longest_nm / pixel_size_nm
    window = _window(np.floor(centre - radius_px), np.ceil(centre + radius_px) + 1, shape)
    return Region.of(_disc(window, centre, radius_px), [s.start for s in window])


def make_outline_region(
    outline: ArrayLike,  # (M, 2): corners (y, x) in pixels
    shape: tuple[int, ...],  # (Y, X) of the frame
) -> Region:
    """Make the region of a polygon; empty if no pixel is inside."""
    corners = np.asarray(outline, float)
    if len(corners) < 3:
        return Region.of(np.zeros((0, 0), bool))
    window = _window(np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0)) + 1, shape)
    start = [s.start for s in window]
    size = tuple(s.stop - s.start for s in window)
    inside = polygon2mask(size, corners - start) if all(size) else np.zeros(size, bool)
    return Region.of(np.asarray(inside), start)


def draw_discs(shape: tuple[int, ...], positions: np.ndarray, radius_px: float) -> np.ndarray:
    """Draw discs around positions into a mask.

    Parameters
    ----------
    shape : tuple of int
        Shape (Y, X) of the mask.
    positions : ndarray of shape (N, 2)
        Centres (y, x) in pixels; NaN is skipped.

    Returns
    -------
    ndarray of bool, shape (Y, X)
        True inside a disc.
    """
    mask = np.zeros(shape, bool)
    for centre in positions[np.isfinite(positions).all(axis=1)]:
        window = _window(np.floor(centre - radius_px), np.ceil(centre + radius_px) + 1, shape)
        mask[window] |= _disc(window, centre, radius_px)
    return mask


def _disc(window: tuple[slice, ...], centre: np.ndarray, radius_px: float) -> np.ndarray:
    """Return (h, w) bool: the pixels of a window within a radius."""
    y, x = (np.arange(s.start, s.stop) for s in window)
    return np.asarray(np.hypot((y - centre[0])[:, None], x - centre[1]) <= radius_px)


def dilate_mask(mask: np.ndarray, distance_px: float) -> np.ndarray:
    """Dilate a mask (Y, X) by a distance."""
    if not mask.any():
        return mask
    return np.asarray(ndimage.distance_transform_edt(~mask) <= distance_px)


def mark_regions(
    mask: np.ndarray,  # (Y, X), bool: changed in place
    regions: Sequence[Region],
    distance_px: float,
) -> None:
    """Set the pixels of regions and those within a distance of them, in place."""
    for region in regions:
        if region.inside.any():
            window, inside = region.widened(int(distance_px) + 1, mask.shape)
            mask[window] |= ndimage.distance_transform_edt(~inside) <= distance_px


def _window(low: np.ndarray, high: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(
        slice(int(np.clip(a, 0, n)), int(np.clip(b, 0, n)))
        for a, b, n in zip(low, high, shape, strict=True)
    )


def sample_mask(mask: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return the mask at the nearest pixels of positions (N, 2); False where NaN."""
    there = np.isfinite(positions).all(axis=1)
    last = np.array(mask.shape) - 1
    y, x = np.clip(np.rint(np.nan_to_num(positions)), 0, last).astype(int).T
    return np.asarray(there & mask[y, x])
