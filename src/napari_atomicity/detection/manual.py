"""Manual editing of clusters: measure at a position, split, merge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.cluster.vq import kmeans2
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.spatial import cKDTree
from skimage.draw import polygon2mask
from skimage.measure import points_in_poly
from skimage.morphology import convex_hull_image

from ..core.errors import AtomicityError
from ..core.micrograph import Micrograph
from ..core.tables import cluster_table as tables
from ..core.text import pluralise
from .clusters import (
    Detection,
    check_resolution,
    has_minimum_diameter,
    limit_to_image,
    measurement_table,
)
from .frame import Frame, whole
from .outlines import TAIL_NM, Basins, Outline, grow_regions, measure_mask, measure_regions
from .recording import recording_of
from .seeds import BACKGROUND_WINDOW_NM, Seeds, find_seeds, prepare
from .settings import DetectionSettings

_SPLIT_ROUNDS = 50
# Each of two equal parts of a cluster has 0.7 of its diameter, each of three 0.6.
_MIN_SHARE = 0.5
_WHOLE_SHARE = 0.8  # of the diameter: what is smaller is a part of the cluster


@dataclass(frozen=True, eq=False)
class _Surroundings:
    """A part of a frame, its seeds, and its position in the frame."""

    part: Frame
    seeds: Seeds
    index: int
    image: str
    pixel_size_nm: float
    origin: np.ndarray
    cut: bool
    reach_nm: float

    def to_grid_px(self, points: np.ndarray) -> np.ndarray:
        """Convert points in pixels of the frame to the grid of the part."""
        return self.part.to_grid_px(np.asarray(points, float) - self.origin)

    def grow(self, seeds: np.ndarray) -> Basins:
        """Grow the basins of seeds on the grid of the part."""
        return grow_regions(
            self.part, whole(self.part.shape), seeds, self.seeds.noise, self.reach_nm
        )

    def detection(self, outlines: Sequence[Outline]) -> Detection:
        """Return rows and polygons in pixels of the frame."""
        rows = measurement_table(
            list(outlines), self.part, self.image, self.index, self.pixel_size_nm
        )
        for i, axis in enumerate("yx"):
            rows[f"{axis}_px"] += self.origin[i]
            rows[f"{axis}_nm"] = rows[f"{axis}_px"] * self.pixel_size_nm
        rows["touches_border"] &= self.cut
        polygons = [self.part.to_file_px(o.polygon_px) + self.origin for o in outlines]
        return Detection(tables.conform(rows), polygons)


def _surroundings(
    micrograph: Micrograph, frame: int, centre: np.ndarray, settings: DetectionSettings
) -> _Surroundings:
    pixel_size_nm = check_resolution(micrograph, settings)
    settings = limit_to_image(settings, micrograph)
    y, x = np.round(centre).astype(int)
    size = micrograph.shape[-2:]
    if not (0 <= y < size[0] and 0 <= x < size[1]):
        raise AtomicityError(
            f"the point y {centre[0]:.0f} px, x {centre[1]:.0f} px is outside the image",
            micrograph.name,
        )
    if not 0 <= frame < micrograph.n_frames:
        n = pluralise(micrograph.n_frames, "frame")
        raise AtomicityError(f"there is no frame {frame}: it has {n}", micrograph.name)
    half = int(np.ceil(max(BACKGROUND_WINDOW_NM, 4 * settings.diameter_max_nm) / pixel_size_nm))
    top, left = max(0, y - half), max(0, x - half)
    crop = np.asarray(micrograph.frame(frame)[top : y + half + 1, left : x + half + 1], np.float32)
    if crop.size < 4 or not np.isfinite(crop).any():
        raise AtomicityError("there are no values around the point", micrograph.name)
    recording = recording_of(micrograph, frame).cropped(top, left)
    part = prepare(crop, pixel_size_nm, settings, recording)
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
    """Outline and measure the cluster at a position that a user marks.

    The centre remains at the marked position, unless this is so far from the peak of a cluster that
    only the whole cluster can be outlined. If no cluster of the minimum diameter exceeds the
    background there, the diameter is NaN and the outline is a circle of the minimum diameter, so a
    row always results.

    Parameters
    ----------
    micrograph : Micrograph
        A calibrated image or stack.
    frame : int
        The frame.
    y_px, x_px : float
        Position in pixels.
    settings : DetectionSettings, optional
        Settings of detection.

    Returns
    -------
    Detection
        One row.

    Raises
    ------
    CalibrationError
        If the pixel size is unknown.
    AtomicityError
        If the position is outside the image.
    """
    settings = settings or DetectionSettings()
    marked_px = np.array([y_px, x_px], float)
    part = _surroundings(micrograph, frame, marked_px, settings)
    pixel_nm, place = part.part.pixel_nm, part.to_grid_px(marked_px)
    others = part.seeds.points
    away_nm = np.linalg.norm(others - place, axis=1) * pixel_nm
    others = others[away_nm > settings.diameter_min_nm / 2]
    seeds = np.vstack([place[None], others])
    regions = part.grow(seeds)
    own = _outline_at(regions, place, settings)
    # That of its peak: from a place beside it, only a margin of the cluster may grow.
    cluster = _outline_at(part.grow(part.seeds.points), place, settings)
    if cluster is None:
        # The basin of a brighter neighbour reaches over a faint cluster of separate atoms.
        beside = _outline_at(_outside_neighbours(part, regions, seeds), place, settings)
        if beside and (own is None or own.diameter_nm < _WHOLE_SHARE * beside.diameter_nm):
            own = beside
    if cluster and (own is None or own.diameter_nm < _MIN_SHARE * cluster.diameter_nm):
        return part.detection([cluster])
    found = part.detection([own or _circle(place, settings.diameter_min_nm, pixel_nm)])
    found.table[["y_px", "x_px"]] = marked_px
    found.table[["y_nm", "x_nm"]] = marked_px * part.pixel_size_nm
    return found


def _outside_neighbours(part: _Surroundings, regions: Basins, seeds: np.ndarray) -> Basins:
    """Give the pixels outside the outlines and tails of other clusters to the nearest of all seeds.

    The first seed is that of the cluster at the place.
    """
    basins = part.grow(seeds[1:]).basins
    free = np.ones(basins.shape, bool)
    for outline in measure_regions(replace(regions, basins=basins)):
        free &= ~polygon2mask(basins.shape, outline.polygon_px)
    if not free.all():
        free = distance_transform_edt(free) > TAIL_NM / regions.pixel_nm
    own = np.nonzero((regions.basins > 0) & free)
    nearest = np.zeros_like(basins)
    nearest[own] = cKDTree(seeds).query(np.transpose(own))[1] == 0
    return replace(regions, basins=nearest)


def _outline_at(regions: Basins, place: np.ndarray, settings: DetectionSettings) -> Outline | None:
    """Return the outline of the cluster that lies at a place."""
    basin = regions.basins[tuple(np.round(place).astype(int))]
    for outline in measure_regions(regions, np.array([basin])) if basin else ():
        is_small = outline.diameter_nm <= 2 * settings.diameter_max_nm
        is_inside = points_in_poly(place[None], outline.polygon_px).all()
        if is_small and is_inside and has_minimum_diameter(outline, settings):
            return outline
    return None


def split(
    micrograph: Micrograph,
    frame: int,
    outline: np.ndarray,
    settings: DetectionSettings | None = None,
) -> Detection:
    """Split a cluster into two.

    The centres are those of two groups of pixels (k-means, weighted by intensity, starting from the
    ends of the longest axis). The border is halfway between them, and each half is measured as any
    other cluster.

    Parameters
    ----------
    micrograph : Micrograph
        A calibrated image or stack.
    frame : int
        The frame.
    outline : ndarray of shape (M, 2)
        Polygon (y, x) of the cluster in pixels.
    settings : DetectionSettings, optional
        Settings of detection.

    Returns
    -------
    Detection
        Two rows.

    Raises
    ------
    AtomicityError
        If two clusters can't be distinguished, or there are more than two.
    """
    settings = settings or DetectionSettings()
    part = _surroundings(micrograph, frame, outline.mean(axis=0), settings)
    polygon = part.to_grid_px(outline)
    inside = polygon2mask(part.part.shape, polygon)
    pixels = np.argwhere(inside).astype(float)
    if len(pixels) >= 8:
        flat = part.part.flat(whole(part.part.shape))
        middles = _weighted_two_means(pixels, np.clip(flat[inside], 0, None))
        seeds = part.seeds.points
        others = seeds[~points_in_poly(seeds, polygon)] if len(seeds) else seeds
        # The basin of both, cut halfway between the centres, because a saddle may be absent.
        regions = part.grow(np.vstack([middles.mean(axis=0)[None], others]))
        basins, last = regions.basins, len(others) + 2
        both = np.argwhere((basins == 1) | inside)
        nearest = np.linalg.norm(both[:, None] - middles, axis=2).argmin(axis=1)
        basins[tuple(both.T)] = np.where(nearest == 0, 1, last)
        halves = measure_regions(regions, np.array([1, last]))
        if len(halves) == 2:
            _refuse_third_part(flat, inside, halves, micrograph.name)
            return part.detection(halves)
    raise AtomicityError(
        "two clusters can't be distinguished there",
        micrograph.name,
        "Delete the cluster and add two points instead",
    )


def _refuse_third_part(
    flat: np.ndarray, inside: np.ndarray, halves: Sequence[Outline], image: str
) -> None:
    """Raise `AtomicityError` if a bright part as large as a cluster is outside of both halves."""
    masks = [polygon2mask(inside.shape, half.polygon_px) for half in halves]
    in_halves = np.any(masks, axis=0)
    bright = gaussian_filter(flat, 1) > np.median(flat[in_halves]) / 2
    outside = inside & bright & ~in_halves
    radius_px = np.sqrt(min(mask.sum() for mask in masks) / np.pi)
    if distance_transform_edt(outside).max() > radius_px / 2:
        raise AtomicityError(
            "a part of the cluster would belong to neither of two",
            image,
            "Undo the merge, or delete the cluster and add a point for each part",
        )


def _weighted_two_means(pixels: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Find two centres (2, 2) of weighted points (N, 2) by k-means."""
    weight = weight / max(float(weight.sum()), 1e-12)
    middle = weight @ pixels
    centred = pixels - middle
    _, axes = np.linalg.eigh((centred * weight[:, None]).T @ centred)
    reach = np.std(centred @ axes[:, -1])
    ends = middle + np.outer([-reach, reach], axes[:, -1])
    # SciPy's k-means has no weights: points are repeated in proportion to their intensity.
    times = np.round(weight / max(float(weight.max()), 1e-12) * 20).astype(int)
    centres, _ = kmeans2(np.repeat(pixels, times, axis=0), ends, iter=_SPLIT_ROUNDS, minit="matrix")
    return np.asarray(centres)


def merge(
    micrograph: Micrograph,
    frame: int,
    outlines: Sequence[np.ndarray],
    settings: DetectionSettings | None = None,
) -> Detection:
    """Merge several clusters into one.

    Its outline is the convex hull of theirs; its content is measured as any other cluster.

    Parameters
    ----------
    micrograph : Micrograph
        A calibrated image or stack.
    frame : int
        The frame.
    outlines : sequence of ndarray of shape (M, 2)
        Polygons (y, x) of the clusters in pixels.
    settings : DetectionSettings, optional
        Settings of detection.

    Returns
    -------
    Detection
        One row.

    Raises
    ------
    AtomicityError
        If the clusters are too far apart.
    """
    settings = settings or DetectionSettings()
    corners = np.vstack(list(outlines))
    extent_nm = float(np.ptp(corners, axis=0).max()) * check_resolution(micrograph, settings)
    if extent_nm > 2 * settings.diameter_max_nm:
        raise AtomicityError(
            f"these clusters extend over {extent_nm:.1f} nm, too far for one cluster",
            micrograph.name,
            "Select clusters that touch",
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
        raise AtomicityError("there is nothing to measure there", micrograph.name)
    return part.detection([outline])


def _circle(centre: np.ndarray, diameter_nm: float, pixel_nm: float) -> Outline:
    angle = np.linspace(0, 2 * np.pi, 33)
    radius = diameter_nm / 2 / pixel_nm
    polygon = centre + radius * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    return Outline(1, centre, np.nan, np.nan, np.nan, False, False, polygon)
