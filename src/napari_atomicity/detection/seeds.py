"""Seeds of clusters: peaks of the scale space, separated by saddles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from ..core.progress import Progress, Stop, check, report
from .background import BackgroundGrid, estimate_noise_grid, noise_sampling_step
from .filters import (
    cubic_at,
    find_local_maxima,
    gaussian,
    inner,
    laplacian,
    mirror_indices,
    reach,
    select,
)
from .frame import Frame, Tile, iterate_tiles, tiles
from .outlines import OUTLINE_SIGMA_NM
from .recording import FAITHFUL, RecordingEffects
from .settings import DetectionSettings

# ---- peaks of the normalised scale space, octave by octave and tile by tile
#
# A scale needs no more pixels than its blur resolves. The frame is averaged over blocks of pixels
# first, and every second row and column is dropped each time the blur has doubled (Lowe, IJCV 60,
# 91 (2004)).

FINEST_PX = 1.4
"""Minimum sigma of a scale on its own grid; a finer grid does not improve peaks and Laplacian."""
_TILE_PX = 1024
# The peak of the next scale is displaced and thus exceeds the value at this pixel. Which of the two
# is stronger is decided where overlapping discs are suppressed.
_SCALE_TOLERANCE = np.float32(0.97)
_MIN_PX = 32  # smaller grids are not halved
_MAX_CURVATURE_RATIO = 10.0  # of a peak


@dataclass(frozen=True, eq=False)
class Peaks:
    """Peaks above the noise of a frame, strongest first."""

    points: np.ndarray  # (N, 2): positions (y, x) in pixels of the frame's grid
    response: np.ndarray  # (N,): normalised negative Laplacian
    radius: np.ndarray  # (N,): radius in the same pixels
    significance: np.ndarray  # (N,): response in units of the local noise


@dataclass
class _Sample:
    """Subsampled pixels of a filtered image, for its noise."""

    block: int
    shape: tuple[int, int]
    values: np.ndarray = field(init=False)
    largest: float = 0.0

    def __post_init__(self) -> None:
        step = noise_sampling_step(self.block)
        self.values = np.empty([-(-n // step) for n in self.shape], np.float32)

    def add(
        self,
        tile: Tile,
        values: np.ndarray,  # (Y, X): the filtered pixels
    ) -> None:
        """Add the pixels of a tile."""
        step = noise_sampling_step(self.block)
        rows, columns = (np.arange(-edge % step, n, step)
                         for edge, n in zip(tile.origin, values.shape, strict=True))  # fmt: skip
        if len(rows) and len(columns):
            top, left = (tile.top + rows[0]) // step, (tile.left + columns[0]) // step
            part = values[rows[0] :: step, columns[0] :: step]
            self.values[top : top + len(rows), left : left + len(columns)] = part
        self.largest = max(self.largest, float(values.max()), -float(values.min()))

    def noise(self) -> BackgroundGrid:
        """Estimate the noise from the samples."""
        return estimate_noise_grid(self.values, self.block, self.shape, self.largest)


@dataclass
class _Octave:
    """Several neighbouring scales on one grid."""

    # returns the pixels of a tile, which may extend beyond the grid
    read: Callable[[Tile], np.ndarray]
    shape: tuple[int, int]  # shape of the grid
    # scales in pixels of the grid. If ``more`` is true, the last one serves for comparison only
    sigmas: np.ndarray
    blur: float  # blur of the pixels that ``read`` returns
    more: bool  # whether coarser grids follow
    below: np.ndarray | None  # response of the scale before the first one

    def steps(self) -> np.ndarray:
        """Return the blur from each scale to the next."""
        return np.sqrt(np.maximum(np.diff(np.append(self.blur, self.sigmas) ** 2), 0))

    @property
    def neighbourhood_px(self) -> int:
        """Width of the neighbourhood of a peak, in pixels, that its tests require."""
        return max(1, *(round(sigma / 2) for sigma in self.sigmas))


def find_peaks(
    frame: Frame,  # frame with pixels fine enough for the smallest scale
    # Scales in pixels, ascending; a disc of radius r responds most strongly at r / sqrt(2)
    sigmas_px: np.ndarray,
    threshold: float,  # minimum response in units of the local noise
    block_px: float,  # edge length of the blocks of the noise in pixels
    stop: Stop | None = None,
    progress: Progress | None = None,
) -> Peaks:
    """Find significant maxima in position and scale that fall off in every direction."""
    step = coarsening(frame, sigmas_px[0])
    octave = _first_octave(frame, step)
    found: list[np.ndarray] = []
    radii: list[float] = []
    first, scale = 0, 1
    while first < len(sigmas_px):
        own = sigmas_px[first:] / step / scale
        count = max(1, int((own < 2 * FINEST_PX).sum()))
        if min(octave.shape) < _MIN_PX:
            count = len(own)
        octave.more = count < len(own)
        octave.sigmas = own[: count + 1] if octave.more else own
        noise_block = int(np.ceil(block_px / step / scale))
        maxima, noise, next_grid = _search_octave(
            octave, count, noise_block, stop, progress if scale == 1 else None
        )
        for i in range(count):
            found.append(
                _select_significant(maxima[maxima[:, 3] == i], noise[i], threshold, scale, step)
            )
            radii += [sigmas_px[first + i] * np.sqrt(2)] * len(found[-1])
        if next_grid is not None:
            octave = _next_octave(next_grid, own[count] / 2)
        first, scale = first + count, 2 * scale
    rows = np.vstack(found)
    order = np.lexsort((rows[:, 1], rows[:, 0], -rows[:, 2]))
    return Peaks(rows[order, :2], rows[order, 2], np.array(radii)[order], rows[order, 3])


def _first_octave(frame: Frame, step: int) -> _Octave:
    """Return the octave of the finest scales, on the grid of means over ``step`` pixels."""
    mean_blur = np.sqrt((step**2 - 1) / 12)  # of the means over step × step pixels
    height, width = (max(1, n // step) for n in frame.shape)
    return _Octave(
        lambda tile: frame.flat(tile, step), (height, width),
        np.empty(0), mean_blur / step, False, None,
    )  # fmt: skip


def _next_octave(grid: np.ndarray, blur: float) -> _Octave:
    """Return the octave on a grid of `_search_octave`, whose pixels have this blur."""
    return _Octave(
        _reader(grid[0]), (grid.shape[1], grid.shape[2]), np.empty(0), blur, False, grid[1]
    )


def _select_significant(
    maxima: np.ndarray, noise: BackgroundGrid, threshold: float, scale: int, step: int
) -> np.ndarray:
    """Select the maxima above the noise: rows y, x in pixels of the frame, response."""
    y, x, response = maxima[:, :3].T
    significance = response / noise.at_points(y, x)
    keep = significance > threshold
    place = [(axis[keep] * scale + 0.5) * step - 0.5 for axis in (y, x)]
    return np.stack([*place, response[keep], significance[keep]], axis=1)


def _search_octave(
    octave: _Octave, count: int, noise_block: int, stop: Stop | None, progress: Progress | None
) -> tuple[np.ndarray, list[BackgroundGrid], np.ndarray | None]:
    """Find the maxima of an octave, tile by tile.

    The result, (N, 4), has y, x, response and index of the scale of each maximum.
    """
    samples = [_Sample(noise_block, octave.shape) for _ in range(count)]
    next_grid: np.ndarray | None = None
    if octave.more:
        next_grid = np.empty((2, *(-(-n // 2) for n in octave.shape)), np.float32)
    rows = []
    own_tiles = tiles(octave.shape, _TILE_PX)
    for number, tile in enumerate(own_tiles):
        check(stop)
        report(progress, number, len(own_tiles), "Finding clusters")
        rows.append(_find_maxima_in_tile(octave, tile, samples, next_grid))
    return np.vstack(rows), [sample.noise() for sample in samples], next_grid


def estimate_noise(
    frame: Frame,
    sigma_px: float,  # blur in pixels
    block_px: int,  # edge length of a block in pixels
    stop: Stop | None = None,
) -> BackgroundGrid:
    """Estimate the noise of a blurred frame."""
    step = noise_sampling_step(block_px)
    sample = np.empty([-(-n // step) for n in frame.shape], np.float32)
    for tile in iterate_tiles(frame, _TILE_PX // step * step):
        check(stop)
        values = gaussian(frame.flat(tile.grown(reach(sigma_px))), sigma_px, every=step)
        top, left = tile.top // step, tile.left // step
        sample[top : top + values.shape[0], left : left + values.shape[1]] = values
    return estimate_noise_grid(sample, block_px, frame.shape, float(np.abs(sample).max(initial=0)))


def coarsening(frame: Frame, sigma_px: float) -> int:
    """Return the edge length of the blocks over which a frame may be averaged before a blur."""
    return max(1, min(int(sigma_px / FINEST_PX), *frame.shape))


def _reader(image: np.ndarray) -> Callable[[Tile], np.ndarray]:
    def read(tile: Tile) -> np.ndarray:
        ends = (tile.top, tile.bottom), (tile.left, tile.right)
        return select(
            image, *(mirror_indices(*end, n) for end, n in zip(ends, image.shape, strict=True))
        )

    return read


def _find_maxima_in_tile(
    octave: _Octave, tile: Tile, samples: list[_Sample], next_grid: np.ndarray | None
) -> np.ndarray:  # (N, 4): y, x, response and index of the scale
    """Find the maxima of all scales in a tile; add to the samples and to the next grid."""
    steps, around = octave.steps(), octave.neighbourhood_px
    margin = sum(reach(s) for s in steps) + 2 + around
    image = octave.read(tile.grown(margin))
    below: np.ndarray | None = None
    if octave.below is not None:
        below = octave.below[tile.top : tile.bottom, tile.left : tile.right]
    current: np.ndarray | None = None
    rows = []
    for i, (sigma, blur) in enumerate(zip(octave.sigmas, steps, strict=True)):
        image = gaussian(image, blur)
        margin -= reach(blur)
        response = laplacian(inner(image, margin - around - 2))
        response *= np.float32(-(sigma**2))
        own = inner(response, around)
        if i < len(samples):
            samples[i].add(tile, own)
        if current is not None:
            rows.append(_maxima(below, current, own, octave, i - 1, tile))
            below = inner(current, around)
        current = response
    if next_grid is None:
        assert current is not None
        rows.append(_maxima(below, current, None, octave, len(octave.sigmas) - 1, tile))
    else:
        assert below is not None
        where = (slice(tile.top // 2, -(-tile.bottom // 2)),
                 slice(tile.left // 2, -(-tile.right // 2)))  # fmt: skip
        next_grid[0][where] = inner(image, margin)[::2, ::2]
        next_grid[1][where] = below[::2, ::2]
    return np.vstack(rows)


def _maxima(
    below: np.ndarray | None,
    response: np.ndarray,
    above: np.ndarray | None,
    octave: _Octave,
    scale: int,
    tile: Tile,
) -> np.ndarray:  # (N, 4): y, x, response and index of the scale
    """Find the maxima of one scale in a tile, which ``response`` exceeds on every side."""
    around = octave.neighbourhood_px
    own = inner(response, around)
    y, x = find_local_maxima(inner(response, around - 1))
    value = own[y, x]
    keep = np.ones(len(y), bool)
    for other in (below, above):
        if other is not None:
            keep &= value >= _SCALE_TOLERANCE * other[y, x]
    y, x = y[keep], x[keep]
    keep = _is_blob(response, y + around, x + around, octave.sigmas[scale])
    step = max(1, round(octave.sigmas[scale] / 2))
    edge = [(a + start < step) | (a + start >= n - step)
            for a, start, n in zip((y, x), tile.origin, octave.shape, strict=True)]  # fmt: skip
    keep |= edge[0] | edge[1]
    y, x = y[keep], x[keep]
    down, across = _offset(response, y + around, x + around)
    return np.stack(
        [y + down + tile.top, x + across + tile.left, own[y, x], np.full(len(y), scale)], axis=1
    )


def _is_blob(response: np.ndarray, y: np.ndarray, x: np.ndarray, sigma_px: float) -> np.ndarray:
    """Return whether the response falls off in every direction, as at a blob.

    At an edge or a streak it does not (Lowe, IJCV 60, 91 (2004)).
    """
    step = max(1, round(sigma_px / 2))
    centre = response[y, x]
    yy = response[y + step, x] + response[y - step, x] - 2 * centre
    xx = response[y, x + step] + response[y, x - step] - 2 * centre
    xy = (
        response[y + step, x + step]
        + response[y - step, x - step]
        - response[y + step, x - step]
        - response[y - step, x + step]
    ) / 4
    trace, determinant = yy + xx, yy * xx - xy**2
    ratio = _MAX_CURVATURE_RATIO
    return np.asarray(determinant * (ratio + 1) ** 2 > trace**2 * ratio)


def _offset(response: np.ndarray, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the position of the vertex of the parabolas through a maximum and its neighbours."""
    out = []
    for before, after in (
        (response[y - 1, x], response[y + 1, x]),
        (response[y, x - 1], response[y, x + 1]),
    ):
        curvature = (before + after - 2 * response[y, x]).astype(float)
        slope = (before - after).astype(float)
        offset = np.divide(slope, 2 * curvature, out=np.zeros(len(y)), where=curvature < 0)
        out.append(np.clip(offset, -0.5, 0.5))
    return out[0], out[1]


def suppress_overlapping(
    points: np.ndarray,  # (N, 2): positions, strongest first
    radius: np.ndarray,  # (N,): radius of each disc
) -> np.ndarray:
    """Return the indices of the points to keep: those outside the discs of stronger kept points."""
    if len(points) < 2:
        return np.arange(len(points))
    pairs = cKDTree(points).query_pairs(float(radius.max()), output_type="ndarray")
    apart = ((points[pairs[:, 0]] - points[pairs[:, 1]]) ** 2).sum(axis=1)
    pairs = np.sort(pairs[apart <= radius[pairs].max(axis=1) ** 2], axis=1)
    undecided = np.ones(len(points), bool)
    kept = np.zeros(len(points), bool)
    # In rounds instead of one by one: a point is kept if no stronger undecided point overlaps it.
    while undecided.any():
        overlapped = np.zeros(len(points), bool)
        overlapped[pairs[:, 1]] = True
        now = undecided & ~overlapped
        kept |= now
        undecided &= ~now
        undecided[pairs[now[pairs[:, 0]], 1]] = False
        pairs = pairs[undecided[pairs[:, 0]] & undecided[pairs[:, 1]]]
    return np.flatnonzero(kept)


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
    points: np.ndarray,  # (N, 2): peaks, strongest first
    settings: DetectionSettings,
    pixel_nm: float,
) -> np.ndarray:  # (P, 2): indices; the first of a pair is the stronger
    """Find pairs of peaks that may belong to one cluster."""
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
