"""Clusters: found in normalised scale space, outlined by watershed, measured in nm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from ..core import cluster_table as tables
from ..core.errors import AtomicityError, UnsuitableImageError
from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, check, report
from .background import BackgroundGrid
from .filters import cubic_at, gaussian, reach
from .frame import Frame, Tile, groups, parts
from .outlines import (
    OUTLINE_SIGMA_NM,
    RING_NM,
    TAIL_NM,
    Outline,
    grow_regions,
    measure_regions,
)
from .peaks import coarsening, find_peaks, noise_under, without_overlap

BACKGROUND_WINDOW_NM = 6.0
"""Window of the background at least; four times the largest cluster if that is more."""
SADDLE_SIGMA_NM = 0.17
"""Blur that closes the gaps between the atoms of one cluster, not those between clusters."""
MIN_ISOLATION = 0.55
"""Below this an object is the side of an edge; see `Outline`."""
NOISE_BLOCK_NM = 8.0
"""Edge of the blocks in which the noise under the outlines is estimated."""
SEED_TILE_PX = OUTLINE_TILE_PX = 2048
_PATH_POINTS = 24  # between two summits
_PAIRS = 20_000  # of summits at a time


@dataclass(frozen=True)
class DetectionSettings:
    """What counts as a cluster.

    Parameters
    ----------
    diameter_min_nm, diameter_max_nm
        Range of equivalent diameters.
    threshold
        Least response in the scale space, in units of its local noise.
    split_touching
        Whether a cluster with two summits is two clusters.
    split_depth
        Two summits are two clusters if the saddle between them lies below this share of the
        lower summit.
    faintest
        Least integrated intensity, as a share of the median of the frame's clusters: beside
        clusters, a few lone atoms that happen to lie together are not one.
    """

    diameter_min_nm: float = 0.6
    diameter_max_nm: float = 3.2
    threshold: float = 6.0
    split_touching: bool = True
    split_depth: float = 0.9
    faintest: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.diameter_min_nm < self.diameter_max_nm:
            raise AtomicityError(
                f"diameters from {self.diameter_min_nm:g} to {self.diameter_max_nm:g} nm "
                "are no range",
                advice="The smallest must be above 0 and below the largest",
            )
        if not self.threshold > 0:
            raise AtomicityError(
                f"a threshold of {self.threshold:g} times the noise finds everything",
                advice="Give a positive number; 6 is the default",
            )


@dataclass(frozen=True, eq=False)
class Detection:
    """N rows of the cluster table and N outlines, closed polygons (M, 2) in pixels (y, x)."""

    table: pd.DataFrame
    outlines: list[np.ndarray]


def grid_of(pixel_size_nm: float, settings: DetectionSettings) -> tuple[int, float]:
    """Pixels along the edge of a pixel of the grid, and the window of the background in nm."""
    factor = max(1, int(settings.diameter_min_nm / 10 / pixel_size_nm))
    return factor, max(BACKGROUND_WINDOW_NM, 4 * settings.diameter_max_nm)


def prepare(pixels: Any, pixel_size_nm: float, settings: DetectionSettings) -> Frame:
    """A frame on a grid fine enough for the smallest cluster, with its background."""
    return Frame(pixels, pixel_size_nm, *grid_of(pixel_size_nm, settings))


def outlines_of_frame(
    micrograph: Micrograph,
    index: int,
    settings: DetectionSettings,
    stop: Stop | None = None,
    progress: Progress | None = None,
) -> tuple[Frame, list[Outline]] | None:
    """All outlines of a frame, of any size, top to bottom; None if it has nothing to see."""
    frame = prepare(micrograph.frame(index), micrograph.calibrated(), settings)
    if frame.n_finite < 2:
        return None
    seeds = find_seeds(frame, settings, stop, progress)
    return frame, outlined(frame, seeds, settings, stop, progress)


def detect(
    micrograph: Micrograph,
    settings: DetectionSettings | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Detection:
    """Find, outline and measure the clusters of a micrograph.

    Parameters
    ----------
    micrograph
        A calibrated image or stack; each frame is treated by itself.
    settings
        In nm and in units of the noise.
    progress, stop
        Called between frames, stages and tiles.

    Returns
    -------
    Detection
        Rows ordered from top to bottom, ``cluster_id`` from 1.

    Raises
    ------
    CalibrationError
        If the pixel size is not known.
    UnsuitableImageError
        If the pixels are too coarse for the clusters that are looked for.
    Cancelled
        If ``stop()`` says so.
    """
    settings = settings or DetectionSettings()
    pixel_size_nm = is_resolved(micrograph, settings)
    rows: list[pd.DataFrame] = []
    outlines: list[np.ndarray] = []
    n = micrograph.n_frames
    for index in range(n):
        report(progress, index, n, "Finding clusters")
        check(stop)
        tell = progress if n == 1 else None  # of a stack, frames are told
        seen = outlines_of_frame(micrograph, index, settings, stop, tell)
        if seen is None:
            continue
        frame, found = seen[0], _acceptable(seen[1], settings)
        rows.append(rows_of(found, frame, micrograph.name, index, pixel_size_nm))
        outlines += [frame.to_file_px(o.polygon_px) for o in found]
    report(progress, n, n, "Finding clusters")
    if not rows:
        return Detection(tables.empty(), [])
    table = pd.concat(rows, ignore_index=True)
    table["cluster_id"] = np.arange(1, len(table) + 1)
    return Detection(tables.conform(table), outlines)


@dataclass(frozen=True, eq=False)
class Seeds:
    """One position (y, x) per cluster, (N, 2) on the frame's grid, strongest first; and the noise
    that the outlines must stand out from."""

    points: np.ndarray
    noise: BackgroundGrid


def find_seeds(
    frame: Frame,
    settings: DetectionSettings,
    stop: Stop | None = None,
    progress: Progress | None = None,
) -> Seeds:
    """Summits of the normalised scale space, one per cluster."""
    pixel_nm = frame.pixel_nm
    block_px = 2.5 * settings.diameter_max_nm / pixel_nm
    summits = find_peaks(
        frame, scales_px(settings, pixel_nm), settings.threshold, block_px, stop, progress
    )
    blocks_px = int(np.ceil(NOISE_BLOCK_NM / pixel_nm))
    noise = noise_under(frame, OUTLINE_SIGMA_NM / pixel_nm, blocks_px, stop)
    points = summits.points[without_overlap(summits.points, summits.radius)]
    return Seeds(_distinct(points, frame, settings, stop), noise)


def scales_px(settings: DetectionSettings, pixel_nm: float) -> np.ndarray:
    """The sigmas that discs of the diameters looked for answer most strongly at."""
    ratio = settings.diameter_max_nm / settings.diameter_min_nm
    n_scales = max(3, int(np.ceil(np.log(ratio) / np.log(1.3))) + 1)
    diameters_nm = np.geomspace(settings.diameter_min_nm, settings.diameter_max_nm, n_scales)
    return np.asarray(diameters_nm / 2 / np.sqrt(2) / pixel_nm)


def _distinct(
    points: np.ndarray, frame: Frame, settings: DetectionSettings, stop: Stop | None
) -> np.ndarray:
    """Drop summits that no real saddle parts from a stronger neighbour."""
    pairs = close_pairs(points, settings, frame.pixel_nm)
    apart = np.zeros(len(pairs), bool)
    for tile in parts(frame, SEED_TILE_PX):
        check(stop)
        own = np.flatnonzero(tile.holds(frame.inside(points[pairs[:, 0]])))
        for some in np.array_split(own, max(1, len(own) // _PAIRS)):
            if len(some) == 0:
                continue
            height = _saddle_heights(frame, paths(points, pairs[some]))
            apart[some] = parted(height, settings)
    return suppress_duplicates(points, pairs[~apart])


def close_pairs(points: np.ndarray, settings: DetectionSettings, pixel_nm: float) -> np.ndarray:
    """Summits (N, 2), the strongest first, that might be one cluster's: (P, 2) indices."""
    if len(points) < 2:
        return np.empty((0, 2), int)
    pairs = cKDTree(points).query_pairs(
        settings.diameter_max_nm * 0.75 / pixel_nm, output_type="ndarray"
    )
    pairs = np.sort(pairs, axis=1)  # the first is the stronger
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def paths(points: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Places on the straight way from summit to summit, a pair's together."""
    step = np.linspace(0, 1, _PATH_POINTS)[:, None]
    first, second = points[pairs].transpose(1, 0, 2)
    return np.asarray(first[:, None] * (1 - step) + second[:, None] * step).reshape(-1, 2)


def parted(heights: np.ndarray, settings: DetectionSettings) -> np.ndarray:
    """Which pairs a saddle parts, by the heights on their paths."""
    depth = settings.split_depth if settings.split_touching else 0.5
    heights = heights.reshape(-1, _PATH_POINTS)
    lower = np.minimum(heights[:, 0], heights[:, -1])
    return np.asarray(heights.min(axis=1) <= depth * lower)


def suppress_duplicates(points: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Without the weaker one of each pair, if the stronger one is still there."""
    dropped = np.zeros(len(points), bool)
    for i, j in pairs.tolist():
        if not (dropped[i] or dropped[j]):
            dropped[j] = True
    return points[~dropped]


def _saddle_heights(frame: Frame, points: np.ndarray) -> np.ndarray:
    """Of the frame with the gaps between atoms closed, at points (N, 2)."""
    sigma_px = SADDLE_SIGMA_NM / frame.pixel_nm
    step = coarsening(frame, sigma_px)
    sigma = np.sqrt(sigma_px**2 - (step**2 - 1) / 12) / step
    at = (points + 0.5) / step - 0.5
    (top, left), (bottom, right) = np.floor(at.min(axis=0)), np.floor(at.max(axis=0))
    tile = Tile(int(top) - 1, int(bottom) + 3, int(left) - 1, int(right) + 3)
    image = gaussian(frame.flat(tile.grown(reach(sigma)), step), sigma)
    return cubic_at(image, at - tile.origin)


def outlined(
    frame: Frame,
    seeds: Seeds,
    settings: DetectionSettings,
    stop: Stop | None = None,
    progress: Progress | None = None,
) -> list[Outline]:
    """The clusters of a frame, some at a time, from top to bottom.

    What is looked at has a margin in which the basins of its clusters find room, those that limit
    them, and those that limit these: where clusters touch in a chain, one makes way for another.
    """
    points = seeds.points
    reach_nm = settings.diameter_max_nm
    margin = int(np.ceil((4 * reach_nm + TAIL_NM + RING_NM) / frame.pixel_nm))
    found: list[Outline] = []
    for tile, own in groups(frame.inside(points), frame.shape, OUTLINE_TILE_PX, margin):
        check(stop)
        report(progress, len(found), len(points), "Outlining clusters")
        wide = tile.grown(margin)
        near = np.flatnonzero(wide.holds(points))
        labels = 1 + np.searchsorted(near, own)
        regions = grow_regions(frame, wide, points[near], seeds.noise, reach_nm)
        found += measure_regions(regions, labels)
    return sorted(found, key=lambda o: (o.centre_px[0], o.centre_px[1]))


def is_resolved(micrograph: Micrograph, settings: DetectionSettings) -> float:
    pixel_size_nm = micrograph.calibrated()
    if pixel_size_nm > settings.diameter_min_nm / 3:
        raise UnsuitableImageError(
            f"a pixel of {pixel_size_nm:.4g} nm is too coarse for clusters of "
            f"{settings.diameter_min_nm:g} nm",
            micrograph.path or micrograph.name,
            f"Record at {settings.diameter_min_nm / 3:.2g} nm per pixel or finer, "
            "or correct the pixel size",
        )
    return pixel_size_nm


def _acceptable(found: list[Outline], settings: DetectionSettings) -> list[Outline]:
    """Those of the right size that stand free and are not much fainter than the others."""
    sized = [
        o
        for o in found
        # the diameter of one that is cut says little
        if (0.8 if o.touches_border else 1.0) * settings.diameter_min_nm <= o.diameter_nm
        and (o.touches_border or o.diameter_nm <= settings.diameter_max_nm)
        and o.isolation > MIN_ISOLATION
    ]
    whole = [o.integrated_intensity for o in sized if not o.touches_border]
    least = settings.faintest * float(np.median(whole)) if len(whole) >= 5 else 0.0
    return [o for o in sized if o.integrated_intensity > least]


def rows_of(
    found: list[Outline], frame: Frame, image: str, index: int, pixel_size_nm: float
) -> pd.DataFrame:
    centre = frame.to_file_px(np.array([o.centre_px for o in found]).reshape(-1, 2))
    order = np.arange(len(found))
    return pd.DataFrame(
        {
            "image": [image] * len(found),
            "frame": index,
            "cluster_id": order + 1,
            "y_px": centre[:, 0],
            "x_px": centre[:, 1],
            "y_nm": centre[:, 0] * pixel_size_nm,
            "x_nm": centre[:, 1] * pixel_size_nm,
            "diameter_nm": [o.diameter_nm for o in found],
            "integrated_intensity": [o.integrated_intensity for o in found],
            "eccentricity": [o.eccentricity for o in found],
            "touches_border": [o.touches_border for o in found],
            "touches_neighbour": [o.touches_neighbour for o in found],
        }
    )
