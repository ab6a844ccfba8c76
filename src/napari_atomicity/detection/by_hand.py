"""Clusters that a person points to: measured at a place, split, or merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.cluster.vq import kmeans2
from skimage.draw import polygon2mask
from skimage.measure import points_in_poly
from skimage.morphology import convex_hull_image

from ..core import cluster_table as tables
from ..core.errors import AtomicityError
from ..core.micrograph import Micrograph
from .clusters import (
    BACKGROUND_WINDOW_NM,
    Detection,
    DetectionSettings,
    Seeds,
    find_seeds,
    is_resolved,
    prepare,
    rows_of,
)
from .frame import Frame, whole
from .outlines import Basins, Outline, grow_regions, measure_mask, measure_regions

_SPLIT_ROUNDS = 50


@dataclass(frozen=True, eq=False)
class _Surroundings:
    """A part of a frame, the seeds in it, and where it lies in the frame."""

    part: Frame
    seeds: Seeds
    index: int
    image: str
    pixel_size_nm: float
    origin: np.ndarray
    cut: bool
    reach_nm: float

    def to_grid_px(self, points: np.ndarray) -> np.ndarray:
        return self.part.to_grid_px(np.asarray(points, float) - self.origin)

    def grow(self, seeds: np.ndarray) -> Basins:
        return grow_regions(
            self.part, whole(self.part.shape), seeds, self.seeds.noise, self.reach_nm
        )

    def detection(self, outlines: Sequence[Outline]) -> Detection:
        """Rows and polygons in pixels of the frame."""
        rows = rows_of(list(outlines), self.part, self.image, self.index, self.pixel_size_nm)
        for i, axis in enumerate("yx"):
            rows[f"{axis}_px"] += self.origin[i]
            rows[f"{axis}_nm"] = rows[f"{axis}_px"] * self.pixel_size_nm
        rows["touches_border"] &= self.cut
        polygons = [self.part.to_file_px(o.polygon_px) + self.origin for o in outlines]
        return Detection(tables.conform(rows), polygons)


def _surroundings(
    micrograph: Micrograph, frame: int, centre: np.ndarray, settings: DetectionSettings
) -> _Surroundings:
    pixel_size_nm = is_resolved(micrograph, settings)
    y, x = np.round(centre).astype(int)
    half = int(np.ceil(max(BACKGROUND_WINDOW_NM, 4 * settings.diameter_max_nm) / pixel_size_nm))
    top, left = max(0, y - half), max(0, x - half)
    crop = np.asarray(
        micrograph.frame(frame)[top : max(0, y + half + 1), left : max(0, x + half + 1)], np.float32
    )
    if crop.size < 4 or not np.isfinite(crop).any():
        raise AtomicityError(
            f"the point ({centre[0]:.0f}, {centre[1]:.0f}) lies outside the image", micrograph.name
        )
    part = prepare(crop, pixel_size_nm, settings)
    return _Surroundings(
        part,
        find_seeds(part, settings),
        frame,
        micrograph.name,
        pixel_size_nm,
        np.array([top, left]),
        min(crop.shape) < 2 * half,  # the image ends here, not the part
        2 * settings.diameter_max_nm,
    )


def measure_at(
    micrograph: Micrograph,
    frame: int,
    y_px: float,
    x_px: float,
    settings: DetectionSettings | None = None,
) -> Detection:
    """Outline and measure the one cluster at a place that a person points to.

    The centre stays where the person put it. Where nothing stands out from the background the
    diameter is NaN and the outline a circle of the smallest diameter: the row is there always.

    Raises
    ------
    CalibrationError
        If the pixel size is not known.
    AtomicityError
        If the place lies outside the image.
    """
    settings = settings or DetectionSettings()
    part = _surroundings(micrograph, frame, np.array([y_px, x_px]), settings)
    pixel_nm = part.part.pixel_nm
    place = part.to_grid_px(np.array([y_px, x_px]))
    others = part.seeds.points
    away_nm = np.linalg.norm(others - place, axis=1) * pixel_nm
    others = others[away_nm > settings.diameter_min_nm / 2]
    regions = part.grow(np.vstack([place[None], others]))
    own = [
        o
        for o in measure_regions(regions, np.array([1]))
        if o.diameter_nm <= 2 * settings.diameter_max_nm
    ]
    outline = own[0] if own else _circle(place, settings.diameter_min_nm, pixel_nm)
    found = part.detection([outline])
    found.table["y_px"], found.table["x_px"] = float(y_px), float(x_px)
    found.table["y_nm"] = y_px * part.pixel_size_nm
    found.table["x_nm"] = x_px * part.pixel_size_nm
    return found


def split(
    micrograph: Micrograph,
    frame: int,
    outline: np.ndarray,
    settings: DetectionSettings | None = None,
) -> Detection:
    """Two clusters in the place of one that a person sees as two.

    Their middles are those of two groups of pixels (k-means, weighted by intensity, from the ends
    of the longest axis); the border lies half way, and each half is measured as any cluster.

    Parameters
    ----------
    micrograph, frame
        Where it lies.
    outline
        (M, 2) polygon in pixels (y, x).
    settings
        Of the detection.

    Returns
    -------
    Detection
        Two rows.

    Raises
    ------
    AtomicityError
        If there are no two clusters to be seen.
    """
    settings = settings or DetectionSettings()
    part = _surroundings(micrograph, frame, outline.mean(axis=0), settings)
    polygon = part.to_grid_px(outline)
    inside = polygon2mask(part.part.shape, polygon)
    pixels = np.argwhere(inside).astype(float)
    if len(pixels) >= 8:
        flat = part.part.flat(whole(part.part.shape))
        middles = _two_middles(pixels, np.clip(flat[inside], 0, None))
        seeds = part.seeds.points
        others = seeds[~points_in_poly(seeds, polygon)] if len(seeds) else seeds
        # The basin of both, cut half way between the middles: a saddle may not be seen at all.
        regions = part.grow(np.vstack([middles.mean(axis=0)[None], others]))
        basins, last = regions.basins, len(others) + 2
        both = np.argwhere((basins == 1) | inside)
        nearest = np.linalg.norm(both[:, None] - middles, axis=2).argmin(axis=1)
        basins[tuple(both.T)] = np.where(nearest == 0, 1, last)
        halves = measure_regions(regions, np.array([1, last]))
        if len(halves) == 2:
            return part.detection(halves)
    raise AtomicityError(
        "no two clusters can be told apart there",
        micrograph.name,
        "Delete it, and add two points where you see them",
    )


def _two_middles(pixels: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Two centres (2, 2) of weighted points (N, 2)."""
    weight = weight / max(float(weight.sum()), 1e-12)
    middle = weight @ pixels
    centred = pixels - middle
    _, axes = np.linalg.eigh((centred * weight[:, None]).T @ centred)
    reach = np.std(centred @ axes[:, -1])
    ends = middle + np.outer([-reach, reach], axes[:, -1])
    # SciPy's k-means knows no weights: points are taken as often as they are bright.
    times = np.round(weight / max(float(weight.max()), 1e-12) * 20).astype(int)
    centres, _ = kmeans2(np.repeat(pixels, times, axis=0), ends, iter=_SPLIT_ROUNDS, minit="matrix")
    return np.asarray(centres)


def merge(
    micrograph: Micrograph,
    frame: int,
    outlines: Sequence[np.ndarray],
    settings: DetectionSettings | None = None,
) -> Detection:
    """One cluster in the place of several that a person sees as one.

    Its outline is the convex hull of theirs; what lies in it is measured as any other.

    Parameters
    ----------
    micrograph, frame
        Where they lie.
    outlines
        (M, 2) polygons in pixels (y, x).
    settings
        Of the detection.

    Returns
    -------
    Detection
        One row.

    Raises
    ------
    AtomicityError
        If they lie too far apart to be one cluster.
    """
    settings = settings or DetectionSettings()
    corners = np.vstack(list(outlines))
    extent_nm = float(np.ptp(corners, axis=0).max()) * is_resolved(micrograph, settings)
    if extent_nm > 2 * settings.diameter_max_nm:
        raise AtomicityError(
            f"these clusters lie {extent_nm:.1f} nm apart, too far to be one",
            micrograph.name,
            "Choose clusters that touch",
        )
    part = _surroundings(micrograph, frame, corners.mean(axis=0), settings)
    shape, seeds = part.part.shape, part.seeds.points
    polygons = [part.to_grid_px(o) for o in outlines]
    mask = convex_hull_image(np.logical_or.reduce([polygon2mask(shape, p) for p in polygons]))
    at = np.round(part.part.inside(seeds)).astype(int)
    others = seeds[~mask[at[:, 0], at[:, 1]]]
    middle = np.argwhere(mask).mean(axis=0)
    outline = measure_mask(mask, part.grow(np.vstack([middle[None], others])))
    if outline is None:
        raise AtomicityError("there is nothing to be measured there", micrograph.name)
    return part.detection([outline])


def _circle(centre: np.ndarray, diameter_nm: float, pixel_nm: float) -> Outline:
    angle = np.linspace(0, 2 * np.pi, 33)
    radius = diameter_nm / 2 / pixel_nm
    polygon = centre + radius * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    return Outline(1, centre, np.nan, np.nan, np.nan, False, False, polygon)
