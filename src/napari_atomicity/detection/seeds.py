"""Seeds of clusters: peaks of the scale space, separated by saddles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from ..core.progress import Progress, Stop, check
from .background import BackgroundGrid
from .filters import cubic_at, gaussian, reach
from .frame import Frame, Tile, iterate_tiles
from .outlines import OUTLINE_SIGMA_NM
from .peaks import coarsening, estimate_noise, find_peaks, suppress_overlapping
from .recording import FAITHFUL, RecordingEffects
from .settings import DetectionSettings

BACKGROUND_WINDOW_NM = 6.0
"""Minimum window of the background; four times the largest cluster if that is more."""
SADDLE_SIGMA_NM = 0.17
"""Blur that closes gaps between the atoms of one cluster, but not between clusters."""
NOISE_BLOCK_NM = 8.0
"""Edge length of the blocks in which the noise for outlining is estimated."""
SEED_TILE_PX = 2048
_PATH_POINTS = 24  # between two peaks
_MAX_PAIRS = 20_000  # of peaks at a time


def grid_of(pixel_size_nm: float, settings: DetectionSettings) -> tuple[int, float]:
    """Return the pixels along the edge of a grid pixel, and the background window in nm."""
    factor = max(1, int(settings.diameter_min_nm / 10 / pixel_size_nm))
    return factor, max(BACKGROUND_WINDOW_NM, 4 * settings.diameter_max_nm)


def prepare(
    pixels: Any,
    pixel_size_nm: float,
    settings: DetectionSettings,
    recording: RecordingEffects = FAITHFUL,
) -> Frame:
    """Put a frame on a grid fine enough for the smallest cluster, with its background.

    Parameters
    ----------
    pixels : array_like of shape (Y, X)
        Intensities; see `Frame`.
    pixel_size_nm : float
        Edge length of a pixel in nm.
    """
    return Frame(pixels, pixel_size_nm, *grid_of(pixel_size_nm, settings), recording)


@dataclass(frozen=True, eq=False)
class Seeds:
    """Seeds of the clusters of a frame."""

    # (N, 2): one position (y, x) per cluster on the frame's grid, strongest first
    points: np.ndarray
    noise: BackgroundGrid  # noise that the outlines must exceed


def find_seeds(
    frame: Frame,
    settings: DetectionSettings,
    stop: Stop | None = None,
    progress: Progress | None = None,
) -> Seeds:
    """Find the peaks of the normalised scale space, one per cluster."""
    pixel_nm = frame.pixel_nm
    block_px = 2.5 * settings.diameter_max_nm / pixel_nm
    peaks = find_peaks(
        frame, scales_px(settings, pixel_nm), settings.threshold, block_px, stop, progress
    )
    blocks_px = int(np.ceil(NOISE_BLOCK_NM / pixel_nm))
    noise = estimate_noise(frame, OUTLINE_SIGMA_NM / pixel_nm, blocks_px, stop)
    points = peaks.points[suppress_overlapping(peaks.points, peaks.radius)]
    return Seeds(_merge_unseparated(points, frame, settings, stop), noise)


def scales_px(settings: DetectionSettings, pixel_nm: float) -> np.ndarray:
    """Return the sigmas in pixels at which discs of the given diameters respond most strongly."""
    ratio = settings.diameter_max_nm / settings.diameter_min_nm
    n_scales = max(3, int(np.ceil(np.log(ratio) / np.log(1.3))) + 1)
    diameters_nm = np.geomspace(settings.diameter_min_nm, settings.diameter_max_nm, n_scales)
    return np.asarray(diameters_nm / 2 / np.sqrt(2) / pixel_nm)


def _merge_unseparated(
    points: np.ndarray, frame: Frame, settings: DetectionSettings, stop: Stop | None
) -> np.ndarray:
    """Drop peaks that no saddle separates from a stronger neighbour."""
    pairs = find_close_pairs(points, settings, frame.pixel_nm)
    apart = np.zeros(len(pairs), bool)
    for tile in iterate_tiles(frame, SEED_TILE_PX):
        check(stop)
        own = np.flatnonzero(tile.holds(frame.inside(points[pairs[:, 0]])))
        for some in np.array_split(own, max(1, len(own) // _MAX_PAIRS)):
            if len(some) == 0:
                continue
            height = _saddle_heights(frame, sample_paths(points, pairs[some]))
            apart[some] = are_separated(height, settings)
    return suppress_duplicates(points, pairs[~apart])


def find_close_pairs(
    points: np.ndarray, settings: DetectionSettings, pixel_nm: float
) -> np.ndarray:
    """Find pairs of peaks that may belong to one cluster.

    Parameters
    ----------
    points : ndarray of shape (N, 2)
        Peaks, strongest first.
    pixel_nm : float
        Edge length of a pixel in nm.

    Returns
    -------
    ndarray of shape (P, 2)
        Indices; the first of a pair is the stronger.
    """
    if len(points) < 2:
        return np.empty((0, 2), int)
    pairs = cKDTree(points).query_pairs(
        settings.diameter_max_nm * 0.75 / pixel_nm, output_type="ndarray"
    )
    pairs = np.sort(pairs, axis=1)  # the first is the stronger
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def sample_paths(points: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return points on the straight line between the peaks of each pair, pair by pair."""
    step = np.linspace(0, 1, _PATH_POINTS)[:, None]
    first, second = points[pairs].transpose(1, 0, 2)
    return np.asarray(first[:, None] * (1 - step) + second[:, None] * step).reshape(-1, 2)


def are_separated(heights: np.ndarray, settings: DetectionSettings) -> np.ndarray:
    """Return which pairs a saddle separates, by the intensities on their paths."""
    depth = settings.split_depth if settings.split_touching else 0.5
    heights = heights.reshape(-1, _PATH_POINTS)
    lower = np.minimum(heights[:, 0], heights[:, -1])
    return np.asarray(heights.min(axis=1) <= depth * lower)


def suppress_duplicates(points: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Remove the weaker peak of each pair if the stronger one is kept."""
    dropped = np.zeros(len(points), bool)
    for i, j in pairs.tolist():
        if not (dropped[i] or dropped[j]):
            dropped[j] = True
    return points[~dropped]


def _saddle_heights(frame: Frame, points: np.ndarray) -> np.ndarray:
    """Evaluate the frame, blurred to close gaps between atoms, at points (N, 2)."""
    sigma_px = SADDLE_SIGMA_NM / frame.pixel_nm
    step = coarsening(frame, sigma_px)
    sigma = np.sqrt(sigma_px**2 - (step**2 - 1) / 12) / step
    at = (points + 0.5) / step - 0.5
    (top, left), (bottom, right) = np.floor(at.min(axis=0)), np.floor(at.max(axis=0))
    tile = Tile(int(top) - 1, int(bottom) + 3, int(left) - 1, int(right) + 3)
    image = gaussian(frame.flat(tile.grown(reach(sigma)), step), sigma)
    return cubic_at(image, at - tile.origin)
