"""Summits of normalised scale space, octave by octave and tile by tile.

A scale needs no more pixels than its blur leaves it: the frame is taken on means of a few pixels,
and every second row and column is dropped where the blur has doubled (Lowe, IJCV 60, 91 (2004)).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial import cKDTree

from ..core.progress import Progress, Stop, check, report
from .background import BackgroundGrid, noise_of_sample, noise_step
from .filters import gaussian, inner, laplacian, mirrored, reach
from .frame import Frame, Tile, parts, tiles

FINEST_PX = 1.4
"""Least sigma of a scale on its own grid: summits and Laplacian are as good as on a finer one."""
_TILE_PX = 1024
# The summit of the next scale lies some way from here and so is higher than its value here; which
# of the two is the stronger is settled where their discs overlap.
_HARDLY_LESS = np.float32(0.97)
_MIN_PX = 32  # smaller grids are not halved
_EDGE = 10.0  # largest accepted ratio of the curvatures of a summit


@dataclass(frozen=True, eq=False)
class Peaks:
    """What stands out from the noise of a frame, strongest first.

    Parameters
    ----------
    points
        (N, 2) positions in pixels of the frame's grid.
    response
        (N,) of the normalised negative Laplacian.
    radius
        (N,) in the same pixels.
    """

    points: np.ndarray
    response: np.ndarray
    radius: np.ndarray


@dataclass
class _Sample:
    """Every few pixels of a filtered image, for its noise."""

    block: int
    shape: tuple[int, int]
    values: np.ndarray = field(init=False)
    largest: float = 0.0

    def __post_init__(self) -> None:
        step = noise_step(self.block)
        self.values = np.empty([-(-n // step) for n in self.shape], np.float32)

    def add(self, tile: Tile, values: np.ndarray) -> None:
        step = noise_step(self.block)
        rows, columns = (np.arange(-edge % step, n, step)
                         for edge, n in zip(tile.origin, values.shape, strict=True))  # fmt: skip
        if len(rows) and len(columns):
            top, left = (tile.top + rows[0]) // step, (tile.left + columns[0]) // step
            part = values[rows[0] :: step, columns[0] :: step]
            self.values[top : top + len(rows), left : left + len(columns)] = part
        self.largest = max(self.largest, float(values.max()), -float(values.min()))

    def noise(self) -> BackgroundGrid:
        return noise_of_sample(self.values, self.block, self.shape, self.largest)


@dataclass
class _Octave:
    """Some neighbouring scales on one grid.

    ``sigmas`` are in its pixels, the last one for comparison only if ``more`` come on the next
    grid; ``blur`` is that of what it reads; ``below`` the response of the scale before, if any.
    """

    read: Callable[[Tile], np.ndarray]
    shape: tuple[int, int]
    sigmas: np.ndarray
    blur: float
    more: bool
    below: np.ndarray | None

    def steps(self) -> np.ndarray:
        """Blur from each scale to the next."""
        return np.sqrt(np.maximum(np.diff(np.append(self.blur, self.sigmas) ** 2), 0))

    @property
    def beside(self) -> int:
        """Pixels around a summit that are looked at."""
        return max(1, *(round(sigma / 2) for sigma in self.sigmas))


def find_peaks(
    frame: Frame,
    sigmas_px: np.ndarray,
    threshold: float,
    block_px: float,
    stop: Stop | None = None,
    progress: Progress | None = None,
) -> Peaks:
    """Significant maxima in position and scale that fall off in every direction.

    Parameters
    ----------
    frame
        Its pixels are fine enough for the smallest scale.
    sigmas_px
        Ascending; a disc of radius r answers most strongly at r / sqrt(2).
    threshold
        Least response in units of the local noise.
    block_px
        Edge of the blocks of the noise.
    stop, progress
        Asked and told between tiles.
    """
    step = coarsening(frame, sigmas_px[0])
    mean_blur = np.sqrt((step**2 - 1) / 12)  # of the means over step × step pixels
    shape = tuple(max(1, n // step) for n in frame.shape)
    octave = _Octave(
        lambda tile: frame.flat(tile, step), (shape[0], shape[1]),
        np.empty(0), mean_blur / step, False, None,
    )  # fmt: skip
    found: list[np.ndarray] = []
    first, scale, total = 0, 1, len(tiles(octave.shape, _TILE_PX))
    while first < len(sigmas_px):
        own = sigmas_px[first:] / step / scale
        count = max(1, int((own < 2 * FINEST_PX).sum()))
        if min(octave.shape) < _MIN_PX:
            count = len(own)
        octave.more = count < len(own)
        octave.sigmas = own[: count + 1] if octave.more else own
        samples = [
            _Sample(int(np.ceil(block_px / step / scale)), octave.shape) for _ in range(count)
        ]
        halved = tuple(-(-n // 2) for n in octave.shape)
        following = np.empty((2, *halved), np.float32) if octave.more else None
        rows = []
        for number, tile in enumerate(tiles(octave.shape, _TILE_PX)):
            check(stop)
            if scale == 1:
                report(progress, number, total, "Finding clusters")
            rows.append(_summits_of_tile(octave, tile, samples, following))
        noise = [sample.noise() for sample in samples]
        everything = np.vstack(rows)
        for i in range(count):
            y, x, response = everything[everything[:, 3] == i, :3].T
            keep = response > threshold * noise[i].at_points(y, x)
            radius = np.full(int(keep.sum()), sigmas_px[first + i] * np.sqrt(2))
            place = [(axis[keep] * scale + 0.5) * step - 0.5 for axis in (y, x)]
            found.append(np.stack([*place, response[keep], radius], axis=1))
        if following is not None:
            octave = _Octave(
                _reader(following[0]), (halved[0], halved[1]),
                np.empty(0), own[count] / 2, False, following[1],
            )  # fmt: skip
        first, scale = first + count, 2 * scale
    rows_ = np.vstack(found)
    rows_ = rows_[np.lexsort((rows_[:, 1], rows_[:, 0], -rows_[:, 2]))]
    return Peaks(rows_[:, :2], rows_[:, 2], rows_[:, 3])


def noise_under(
    frame: Frame, sigma_px: float, block_px: int, stop: Stop | None = None
) -> BackgroundGrid:
    """Noise of the frame blurred by ``sigma_px``, on blocks of ``block_px``."""
    step = noise_step(block_px)
    sample = np.empty([-(-n // step) for n in frame.shape], np.float32)
    for tile in parts(frame, _TILE_PX // step * step):
        check(stop)
        values = gaussian(frame.flat(tile.grown(reach(sigma_px))), sigma_px, every=step)
        top, left = tile.top // step, tile.left // step
        sample[top : top + values.shape[0], left : left + values.shape[1]] = values
    return noise_of_sample(sample, block_px, frame.shape, float(np.abs(sample).max(initial=0)))


def coarsening(frame: Frame, sigma_px: float) -> int:
    """Over how many pixels along y and x means may be taken before a blur by ``sigma_px``."""
    return max(1, min(int(sigma_px / FINEST_PX), *frame.shape))


def _reader(image: np.ndarray) -> Callable[[Tile], np.ndarray]:
    def read(tile: Tile) -> np.ndarray:
        rows = mirrored(tile.top, tile.bottom, image.shape[0])
        return image[rows][:, mirrored(tile.left, tile.right, image.shape[1])]

    return read


def _summits_of_tile(
    octave: _Octave, tile: Tile, samples: list[_Sample], following: np.ndarray | None
) -> np.ndarray:
    """Rows y, x, response, number of the scale; on the way samples, and the next grid."""
    steps, beside = octave.steps(), octave.beside
    margin = sum(reach(s) for s in steps) + 2 + beside
    image = octave.read(tile.grown(margin))
    below: np.ndarray | None = None
    if octave.below is not None:
        below = octave.below[tile.top : tile.bottom, tile.left : tile.right]
    current: np.ndarray | None = None
    rows = []
    for i, (sigma, blur) in enumerate(zip(octave.sigmas, steps, strict=True)):
        image = gaussian(image, blur)
        margin -= reach(blur)
        response = laplacian(inner(image, margin - beside - 2))
        response *= np.float32(-(sigma**2))
        own = inner(response, beside)
        if i < len(samples):
            samples[i].add(tile, own)
        if current is not None:
            rows.append(_maxima(below, current, own, octave, i - 1, tile))
            below = inner(current, beside)
        current = response
    if following is None:
        assert current is not None
        rows.append(_maxima(below, current, None, octave, len(octave.sigmas) - 1, tile))
    else:
        assert below is not None
        where = (slice(tile.top // 2, -(-tile.bottom // 2)),
                 slice(tile.left // 2, -(-tile.right // 2)))  # fmt: skip
        following[0][where] = inner(image, margin)[::2, ::2]
        following[1][where] = below[::2, ::2]
    return np.vstack(rows)


def _maxima(
    below: np.ndarray | None,
    response: np.ndarray,
    above: np.ndarray | None,
    octave: _Octave,
    scale: int,
    tile: Tile,
) -> np.ndarray:
    """Rows y, x, response, scale of the maxima of a tile, which ``response`` reaches beyond."""
    beside = octave.beside
    near = inner(response, beside - 1)
    highest = np.maximum(np.maximum(near[:-2], near[1:-1]), near[2:])
    highest = np.maximum(np.maximum(highest[:, :-2], highest[:, 1:-1]), highest[:, 2:])
    own = inner(response, beside)
    y, x = np.nonzero((own == highest) & (own > 0))
    value = own[y, x]
    keep = np.ones(len(y), bool)
    for other in (below, above):
        if other is not None:
            keep &= value >= _HARDLY_LESS * other[y, x]
    y, x = y[keep], x[keep]
    keep = _curved_both_ways(response, y + beside, x + beside, octave.sigmas[scale])
    step = max(1, round(octave.sigmas[scale] / 2))
    edge = [(a + start < step) | (a + start >= n - step)
            for a, start, n in zip((y, x), tile.origin, octave.shape, strict=True)]  # fmt: skip
    keep |= edge[0] | edge[1]
    y, x = y[keep], x[keep]
    down, across = _offset(response, y + beside, x + beside)
    return np.stack(
        [y + down + tile.top, x + across + tile.left, own[y, x], np.full(len(y), scale)], axis=1
    )


def _curved_both_ways(
    response: np.ndarray, y: np.ndarray, x: np.ndarray, sigma_px: float
) -> np.ndarray:
    """A blob falls off in every direction; an edge or a streak does not (Lowe, IJCV 2004)."""
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
    return np.asarray(determinant * (_EDGE + 1) ** 2 > trace**2 * _EDGE)


def _offset(response: np.ndarray, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the parabolas through a maximum and its neighbours are highest, from its pixel."""
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


def without_overlap(points: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Which to keep: from the first on, those outside the discs of those kept; indices."""
    if len(points) < 2:
        return np.arange(len(points))
    pairs = cKDTree(points).query_pairs(float(radius.max()), output_type="ndarray")
    apart = ((points[pairs[:, 0]] - points[pairs[:, 1]]) ** 2).sum(axis=1)
    pairs = np.sort(pairs[apart <= radius[pairs].max(axis=1) ** 2], axis=1)
    open_ = np.ones(len(points), bool)
    kept = np.zeros(len(points), bool)
    # In rounds instead of one by one: kept is who has no open one before it in its way.
    while open_.any():
        hindered = np.zeros(len(points), bool)
        hindered[pairs[:, 1]] = True
        now = open_ & ~hindered
        kept |= now
        open_ &= ~now
        open_[pairs[now[pairs[:, 0]], 1]] = False
        pairs = pairs[open_[pairs[:, 0]] & open_[pairs[:, 1]]]
    return np.flatnonzero(kept)
