"""Outlier pixels of a frame: hot and dead pixels, and the spikes of single electronic faults.

One pixel of 10⁷ in an image around 1,400 dominates means, extremes and filters over its whole
surroundings. Two properties tell such a pixel from a cluster, an atom or an edge:

- It is far from the median: more than `MIN_CONTRAST` times as far as the brightest (darkest)
  thousandth of the pixels. This is 46 standard deviations of normally distributed noise; where
  clusters cover more than a thousandth of the frame, it is 15 times their contrast.
- It is not an image of anything: a probe or lens spreads all it images over neighbouring pixels.
  At most `MAX_GROUP` adjacent pixels have more than `NEIGHBOUR_SHARE` of its contrast, and it has
  more than `MARGIN` times the contrast of all larger groups.

A probe that is narrower than a pixel shows a single atom as one bright pixel. Therefore coarse
pixels (`RESOLVED_NM`) have a higher limit, `MIN_CONTRAST_COARSE`: atoms and clusters
have at most 48 times the usual contrast in 384 simulated fields with pixels of 0.06 to 0.2 nm, and
one pixel below this limit changes the detected clusters in 1 of 48 fields.

All of these are ratios of contrasts, so that neither scale nor offset of the image matter. The
medians of their neighbours replace outlier pixels.

A row or column of one value is dead if this value differs from the mean of the lines on both sides
by more than their standard deviation: where few electrons are counted, lines of zeros are common.
More than `MAX_DEAD_LINES` side by side are none, as in vacuum or where a file stores nothing. The
means of the pixels on both sides replace a dead line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from ..core.micrograph import FrameView, Micrograph
from .clipping import Extremes, find_extremes

MIN_CONTRAST, MIN_CONTRAST_COARSE = 15.0, 50.0
"""Minimum contrast of an outlier relative to that of the quantile `TAIL`; of bright ones in coarse
pixels."""
RESOLVED_NM = 0.04
"""Pixel size up to which the narrowest probes, of 0.08 nm, cover more than a pixel."""
TAIL = 1e-3
"""Fraction of the pixels beyond the quantile that defines the usual contrast of a frame."""
NEIGHBOUR_SHARE = 0.1
"""Contrast of a pixel relative to the peak of its group from which it counts as a part of it."""
MAX_GROUP = 4
"""Maximum number of adjacent pixels of an outlier."""
MAX_DEAD_LINES = 3
"""Maximum number of adjacent dead rows or columns."""
MARGIN = 3.0
"""Minimum contrast of an outlier relative to groups of more pixels."""
SAFE = (2.0**-20, 2.0**27)
"""Magnitudes of pixels of which single precision holds the fourth powers that filters compute."""
_MIN_TAIL_PIXELS = 16
_SAMPLE_PIXELS = 1 << 16
_WINDOW_PX = 2  # neighbours on each side whose median replaces an outlier


@dataclass(frozen=True, eq=False)
class OutlierPixels:
    """Outlier pixels of a frame, and the values that replace them."""

    points: np.ndarray  # (N, 2): rows and columns
    values: np.ndarray  # (N,): of their neighbours

    def __len__(self) -> int:
        """Return the number of outlier pixels."""
        return len(self.points)

    def with_others(self, others: OutlierPixels) -> OutlierPixels:
        """Return these pixels and others; of a pixel that both have, the others' value counts."""
        if not (len(self) and len(others)):
            return others if len(others) else self
        points = np.concatenate([others.points, self.points])
        points, first = np.unique(points, axis=0, return_index=True)
        return OutlierPixels(points, np.concatenate([others.values, self.values])[first])

    def replace(
        self,
        part: np.ndarray,  # (Y, X): recorded pixels
        # top, left: position of the first pixel in the frame
        top: int = 0,
        left: int = 0,
    ) -> np.ndarray:  # (Y, X): ``part`` itself if it contains none
        """Replace the outlier pixels of a part of the frame."""
        places = self.points - (top, left)
        inside = ((places >= 0) & (places < part.shape)).all(axis=1)
        if not inside.any():
            return part
        out = part.copy()
        out[tuple(places[inside].T)] = self.values[inside]
        return out


NONE = OutlierPixels(np.empty((0, 2), int), np.empty(0))


def find_repairs(
    micrograph: Micrograph, index: int = 0, ends: Extremes | None = None
) -> tuple[OutlierPixels, float]:
    """Find the outlier pixels of a frame, and the unit in which it is computed.

    Outliers are hot and dead pixels, and dead rows and columns. The unit is a power of two,
    relative to the unit of the file; it is 1 for all usual magnitudes.
    """
    ends = ends or find_extremes(micrograph, index)
    if not ends.n:
        return NONE, 1.0
    lines = _find_dead_lines(micrograph, index)
    if len(lines):
        frame = RepairedFrame(micrograph.frame(index), lines)
        micrograph, index = Micrograph(frame, micrograph.pixel_size_nm), 0
        ends = find_extremes(micrograph, index)
    sample = _sample_pixels(micrograph, index)
    spikes = _find_outliers(micrograph, index, ends, sample)
    return lines.with_others(spikes), _find_unit(sample)


def repaired_frames(micrograph: Micrograph) -> Iterator[np.ndarray]:
    """Iterate over the frames without outlier pixels, as float32 arrays of shape (Y, X)."""
    for index, frame in enumerate(micrograph.frames()):
        yield find_repairs(micrograph, index)[0].replace(frame)


def _find_dead_lines(micrograph: Micrograph, index: int) -> OutlierPixels:
    """Find the dead rows and columns of a frame."""
    height, width = micrograph.shape_px
    rows, low, high = [], np.full(width, np.inf), np.full(width, -np.inf)
    for part in micrograph.strips(index):
        rows.append(part.min(axis=1) == part.max(axis=1))
        low, high = np.minimum(low, part.min(axis=0)), np.maximum(high, part.max(axis=0))
    frame, found = micrograph.frame(index), NONE
    for axis, is_constant in enumerate((np.concatenate(rows), low == high)):
        label, _ = ndimage.label(is_constant)
        alive = np.flatnonzero(~is_constant)
        dead = np.flatnonzero(is_constant & (np.bincount(label)[label] <= MAX_DEAD_LINES))
        if not len(alive):
            continue
        for line in dead.tolist():
            after = np.searchsorted(alive, line)
            beside = alive[np.unique(np.clip([after - 1, after], 0, len(alive) - 1))]
            values = [_line(frame, found, axis, place) for place in beside.tolist()]
            value = _line(frame, NONE, axis, line)[0]
            if not abs(value - np.mean(values)) > np.std(values):
                continue
            along = np.arange(width if axis == 0 else height)
            points = np.stack([np.full(len(along), line), along], axis=1)
            points = points if axis == 0 else points[:, ::-1]
            found = found.with_others(OutlierPixels(points, np.mean(values, axis=0)))
    return found


def _line(frame: FrameView, outliers: OutlierPixels, axis: int, place: int) -> np.ndarray:
    """Return a row (axis 0) or column (1) of a frame without outliers, float64."""
    where, corner = [slice(None), slice(None)], [0, 0]
    where[axis], corner[axis] = slice(place, place + 1), place
    part = np.asarray(frame[where[0], where[1]])
    return outliers.replace(part, *corner).ravel().astype(float)


def _find_outliers(
    micrograph: Micrograph, index: int, ends: Extremes, sample: np.ndarray
) -> OutlierPixels:
    """Find the outlier pixels of a frame with these extremes and sampled pixels (N,)."""
    middle = float(np.median(sample)) if sample.size else ends.low
    found = []
    resolved = (micrograph.pixel_size_nm or np.inf) <= RESOLVED_NM
    hot = MIN_CONTRAST if resolved else MIN_CONTRAST_COARSE
    for sign, extreme, factor in ((1, ends.high, hot), (-1, ends.low, MIN_CONTRAST)):
        usual = _usual_contrast(sign * (sample - middle))
        limit = factor * usual
        if not sign * (extreme - middle) > limit > 0:
            continue
        level = middle + sign * NEIGHBOUR_SHARE * limit
        points, values = _pixels_beyond(micrograph, index, sign, level)
        found.append(points[_are_spikes(points, sign * (values - middle), limit)])
    points = np.concatenate(found) if found else NONE.points
    if not len(points):
        return NONE
    return OutlierPixels(points, _neighbour_medians(micrograph.frame(index), points))


def _sample_pixels(micrograph: Micrograph, index: int) -> np.ndarray:
    """Return the finite pixels of every n-th row and column of a frame, float64."""
    height, width = micrograph.shape_px
    step = max(1, int(np.sqrt(height * width / _SAMPLE_PIXELS)))
    parts = [np.ravel(part[::step, ::step]) for part in micrograph.strips(index)]
    sample = np.concatenate(parts).astype(float)
    return sample[np.isfinite(sample)]


def _usual_contrast(contrast: np.ndarray) -> float:
    """Return the contrast that few pixels exceed.

    Where nearly all pixels have the same value, as of few counted electrons, the median contrast
    of the others.
    """
    if not contrast.size:
        return 0.0
    tail = max(TAIL, _MIN_TAIL_PIXELS / contrast.size)
    usual = float(np.quantile(contrast, max(0.5, 1 - tail)))
    if usual > 0:
        return usual
    others = contrast[contrast > 0]
    return float(np.median(others)) if others.size else 0.0


def _pixels_beyond(
    micrograph: Micrograph, index: int, sign: int, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return points (N, 2) and values (N,) of the finite pixels above (below) a level."""
    points, values, top = [], [], 0
    for part in micrograph.strips(index):
        beyond = (part > level) if sign > 0 else (part < level)
        here = np.argwhere(beyond & np.isfinite(part))
        points.append(here + np.array([top, 0]))
        values.append(part[tuple(here.T)].astype(float))
        top += len(part)
    return np.concatenate(points), np.concatenate(values)


def _are_spikes(points: np.ndarray, contrast: np.ndarray, min_contrast: float) -> np.ndarray:
    """Return which pixels are outliers, of all pixels (N,) with a high contrast."""
    spikes, left = np.zeros(len(points), bool), np.arange(len(points))
    while len(left):
        near = cKDTree(points[left]).query_pairs(1.5, p=np.inf, output_type="ndarray")
        ones = np.ones(len(near), bool)
        graph = coo_array((ones, tuple(near.T)), shape=(len(left), len(left)))
        n, group = connected_components(graph, directed=False)
        peak = np.zeros(n)
        np.maximum.at(peak, group, contrast[left])
        core = contrast[left] > NEIGHBOUR_SHARE * peak[group]
        compact = np.bincount(group, core, minlength=n) <= MAX_GROUP
        limit = max(min_contrast, MARGIN * float(peak[~compact].max(initial=0.0)))
        found = core & compact[group] & (contrast[left] > limit)
        if not found.any():
            break
        spikes[left[found]] = True
        left = left[~found]  # a spike may have hidden a weaker one beside it
    return spikes


def _neighbour_medians(view: FrameView, points: np.ndarray) -> np.ndarray:
    """Return the medians of the finite pixels around outliers (N, 2) that are none."""
    out, known = np.empty(len(points)), {tuple(point) for point in points.tolist()}
    for i, (y, x) in enumerate(points.tolist()):
        top, left = max(0, y - _WINDOW_PX), max(0, x - _WINDOW_PX)
        rows, columns = slice(top, y + _WINDOW_PX + 1), slice(left, x + _WINDOW_PX + 1)
        part = np.asarray(view[rows, columns]).astype(float)
        for place in np.ndindex(part.shape):
            if (place[0] + top, place[1] + left) in known:
                part[place] = np.nan
        usable = part[np.isfinite(part)]
        out[i] = np.median(usable) if usable.size else np.nan
    return out


class RepairedFrame:
    """A frame without outlier pixels that is read in parts, in units of a power of two."""

    dtype = np.dtype(np.float32)

    def __init__(self, view: FrameView, outliers: OutlierPixels, unit: float = 1.0) -> None:
        self._view, self._outliers, self._unit = view, outliers, unit
        self.shape = tuple(view.shape)

    def __getitem__(self, where: tuple[slice, slice]) -> np.ndarray:
        """Return a part of the frame."""
        top, left = (s.indices(n)[0] for s, n in zip(where, self.shape, strict=True))
        return repair(np.asarray(self._view[where]), self._outliers, self._unit, top, left)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the whole frame."""
        return np.asarray(self[:, :], dtype)


def repair(
    part: np.ndarray, outliers: OutlierPixels, unit: float, top: int = 0, left: int = 0
) -> np.ndarray:
    """Return pixels without outliers, in units of a power of two.

    Parameters
    ----------
    part : ndarray of shape (Y, X)
        Recorded pixels.
    top, left : int, optional
        Position of the first pixel in the frame.

    Returns
    -------
    ndarray of shape (Y, X), float32
    """
    part = outliers.replace(part, top, left) if len(outliers) else part
    if unit != 1.0:
        part = part * np.asarray(1 / unit, np.result_type(part, np.float32))
    return part if part.dtype == np.float32 else part.astype(np.float32)


def _find_unit(sample: np.ndarray) -> float:
    """Return the power of two in which pixels are computed; 1 for all usual magnitudes."""
    used = np.abs(sample[sample != 0])
    magnitude = float(np.quantile(used, 1 - TAIL)) if used.size else 1.0
    if SAFE[0] <= magnitude <= SAFE[1]:
        return 1.0
    return float(2.0 ** np.clip(np.round(np.log2(magnitude)), -120, 120))
