"""Effects of the recording on the intensities of a frame, found in its pixels and corrected.

*Clipping.* Pixels above the range of the file have its largest value, as after a stretch to 8 bits
that saturates 0.35 % of the pixels. It shows as a spike at the end of the histogram. Such a pixel
is a lower bound. The tail of the histogram below the limit falls nearly exponentially, so the mean
intensity above the limit follows from the number of clipped pixels and the density of the
histogram below it; pixels among many clipped ones are further above the limit (the excess goes as
the square root of the local density of clipped pixels). On simulated fields with 0.35 % of the
pixels clipped, clusters lose 3 to 8 % of their intensity, and the estimate restores it to within
0.5 % on average and 1 to 2 % for a cluster.

*Shading.* A response that falls towards the corners multiplies clusters, support, black level and
noise alike. The thickness of the support changes its level and its noise, but not the clusters: the
noise goes as the square root of the level above the black level. So a smooth change of the level is
shading only if the standard deviation of the noise is proportional to the level.

References
----------
A tail that falls exponentially has a constant mean excess over any limit: J. Pickands, "Statistical
inference using extreme order statistics", Annals of Statistics 3, 119-131 (1975).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..core.micrograph import FrameView, Micrograph
from .filters import gaussian, reach

MIN_CLIPPED = 10
"""Number of pixels at the limit below which a frame is not clipped."""
SPIKE = 4.0
"""Pixels at the limit relative to those of any other value near it: less is no clipping."""
BAND = 0.1
"""Width of the range below the limit that gives the density, relative to limit minus mean."""
MAX_EXCESS = 1.0
"""Largest mean excess, relative to limit minus mean."""
SOLID = 0.9
"""Mean root density above which nothing is estimated: scale bars, captions, saturated areas."""
DENSITY_SIGMA_NM = 0.08
"""Blur that gives the local density of clipped pixels."""
MIN_SHADING = 0.06
"""Range of the level across the frame, relative to its mean, from which it may be shading."""
NOISE_TOLERANCE = 0.07
"""Change of ln noise across the frame that the thickness of the support may add or take."""
MAX_SLOPE_ERROR = 0.35
"""Largest difference from 1 of the slope of ln noise over ln level, for any range."""
MIN_EXPLAINED = 0.97
"""Fraction of the variance of the level that a smooth surface explains if it is shading."""
AMBIGUOUS_RANGE = 0.15
"""Range of the level from which it is worth telling that it may be shading."""
MIN_FLOOR = 0.02
"""Fraction of pixels at the lower limit from which the level of the support is uncertain."""
_BINS = 20  # of a hundredth of limit minus mean, to find where a blurred spike starts
_BLOCKS = 16  # along each axis, for level and noise
_WINDOW_PX = 128  # at most, in each block
_ORDER = 4  # of the polynomial
_MIN_SIDE_PX = 128
_MIN_LEVEL_COUNT = 50  # pixels of a level of 8 bits that is certainly used


@dataclass(frozen=True)
class Clipping:
    """Upper limit of the recorded range.

    Parameters
    ----------
    limit : float
        Pixels of at least this value are clipped, in counts.
    fraction : float
        Fraction of the pixels of the frame that are clipped.
    excess : float
        Mean intensity that clipped pixels have lost, in counts.
    mean_root_density : float
        Mean over clipped pixels of the square root of the local density of clipped pixels.
    """

    limit: float
    fraction: float
    excess: float
    mean_root_density: float


@dataclass(frozen=True)
class Shading:
    """Smooth relative response, a polynomial of positions from -1 to 1 across the frame.

    Parameters
    ----------
    coefficients : tuple of float
        Of the terms of `_terms`; the mean response is 1.
    shape : tuple of int
        Height and width of the frame in pixels.
    """

    coefficients: tuple[float, ...]
    shape: tuple[int, int]

    def at(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Evaluate the response at positions (y, x) in pixels that broadcast to one shape."""
        v, u = (2 * (p + 0.5) / n - 1 for p, n in zip((y, x), self.shape, strict=True))
        return np.asarray(
            sum(c * t for c, t in zip(self.coefficients, _terms(v, u), strict=True)), np.float32
        )

    @property
    def smallest(self) -> float:
        """Smallest response relative to the largest one."""
        y, x = (np.linspace(0, n - 1, 33) for n in self.shape)
        response = self.at(y[:, None], x)
        return float(response.min() / response.max())


@dataclass(frozen=True)
class Recording:
    """Effects of the recording of a frame.

    Parameters
    ----------
    clipping : Clipping, optional
        Upper limit, if pixels are clipped.
    shading : Shading, optional
        Response, if it is not uniform.
    floor : float
        Fraction of the pixels at the lower limit, if that is a spike; otherwise 0.
    nonlinear : bool
        Whether the histogram shows that the grey levels are no linear function of the intensity.
    ambiguous_shading : bool
        Whether the level changes smoothly and may be shading, which the noise does not confirm.
    origin : tuple of int
        Position in the frame of the first pixel that `restore` gets.
    """

    clipping: Clipping | None = None
    shading: Shading | None = None
    floor: float = 0.0
    nonlinear: bool = False
    ambiguous_shading: bool = False
    origin: tuple[int, int] = (0, 0)

    @property
    def is_faithful(self) -> bool:
        """Whether pixels need no correction."""
        return self.clipping is None and self.shading is None

    def cropped(self, top: int, left: int) -> Recording:
        """Return the recording for a part of the frame that starts at this pixel."""
        return replace(self, origin=(self.origin[0] + top, self.origin[1] + left))

    def margin_px(self, pixel_nm: float) -> int:
        """Return the margin in pixels that `restore` requires."""
        return 0 if self.clipping is None else reach(DENSITY_SIGMA_NM / pixel_nm)

    def restore(self, part: np.ndarray, top: int, left: int, pixel_nm: float) -> np.ndarray:
        """Correct pixels.

        Parameters
        ----------
        part : ndarray of shape (Y, X), float32
            Pixels with a margin of `margin_px` where the frame has one.
        top, left : int
            Position of the first pixel.
        pixel_nm : float
            Edge length of a pixel in nm.

        Returns
        -------
        ndarray of shape (Y, X), float32
        """
        if self.clipping is not None:
            part = _unclipped(part, self.clipping, pixel_nm)
        if self.shading is not None:
            y, x = (
                np.arange(n) + first + start
                for n, first, start in zip(part.shape, (top, left), self.origin, strict=True)
            )
            part = part / self.shading.at(y[:, None], x)
        return part

    def clipped(self, part: np.ndarray) -> np.ndarray:
        """Return which recorded pixels are clipped."""
        if self.clipping is None:
            return np.zeros(part.shape, bool)
        return np.asarray(part >= self.clipping.limit)

    def response(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return the response at points (N,) in pixels; 1 without shading."""
        if self.shading is None:
            return np.ones(len(y))
        return self.shading.at(y + self.origin[0], x + self.origin[1]).astype(float)

    def provenance(self) -> dict[str, Any]:
        """Return what was found, for the record of a run; empty for a faithful recording."""
        found: dict[str, Any] = {}
        if self.clipping is not None:
            found["clipping"] = asdict(self.clipping)
        if self.shading is not None:
            found["shading"] = {"smallest_response": self.shading.smallest}
        if self.floor > 0:
            found["at_lower_limit"] = self.floor
        for name in ("nonlinear", "ambiguous_shading"):
            if getattr(self, name):
                found[name] = True
        return found


FAITHFUL = Recording()
"""Recording whose pixels need no correction."""
_known: WeakKeyDictionary[Micrograph, dict[int, Recording]] = WeakKeyDictionary()


def recording_of(micrograph: Micrograph, index: int = 0) -> Recording:
    """Find the effects of the recording of a frame; the result is cached with the image.

    Parameters
    ----------
    micrograph : Micrograph
        A calibrated image or stack.
    index : int, optional
        The frame.

    Returns
    -------
    Recording
    """
    found = _known.setdefault(micrograph, {})
    if index not in found:
        found[index] = _find_recording(micrograph, index)
    return found[index]


@dataclass(frozen=True)
class _Extremes:
    """Extremes of the finite pixels of a frame, and the numbers of pixels that have them."""

    low: float
    high: float
    n_low: int
    n_high: int
    mean: float
    n: int


def _extremes(micrograph: Micrograph, index: int) -> _Extremes:
    low, high, n_low, n_high, total, n = np.inf, -np.inf, 0, 0, 0.0, 0
    for part in micrograph.strips(index):
        least, most = float(part.min()), float(part.max())
        if not np.isfinite(least + most):
            part = part[np.isfinite(part)]
            if not part.size:
                continue
            least, most = float(part.min()), float(part.max())
        if least <= low:
            n_low = (n_low if least == low else 0) + int(np.count_nonzero(part == least))
        if most >= high:
            n_high = (n_high if most == high else 0) + int(np.count_nonzero(part == most))
        low, high = min(low, least), max(high, most)
        total, n = total + float(part.sum(dtype=float)), n + part.size
    return _Extremes(low, high, n_low, n_high, total / max(1, n), n)


def _find_recording(micrograph: Micrograph, index: int) -> Recording:
    ends = _extremes(micrograph, index)
    if not ends.low < ends.high:
        return FAITHFUL
    clipping = _find_clipping(micrograph, index, ends) if ends.n_high >= MIN_CLIPPED else None
    shading, ambiguous = _find_shading(micrograph.frame(index))
    return Recording(
        clipping,
        shading,
        _floor(micrograph, index, ends),
        _is_nonlinear(micrograph, index, ends),
        ambiguous,
    )


# ---- limits
def _near(micrograph: Micrograph, index: int, low: float, high: float) -> np.ndarray:
    """Return all pixels between two values, the ends included."""
    return np.concatenate(
        [part[(part >= low) & (part <= high)] for part in micrograph.strips(index)]
    )


def _find_clipping(micrograph: Micrograph, index: int, ends: _Extremes) -> Clipping | None:
    height = ends.high - ends.mean
    near = _near(micrograph, index, ends.high - 2 * BAND * height, ends.high)
    below = near[near < ends.high]
    most = int(np.unique(below, return_counts=True)[1].max()) if below.size else 0
    if ends.n_high < SPIKE * most:
        return None
    limit = ends.high - _spike_width(below, ends.high, height)
    n_clipped = int(np.count_nonzero(near >= limit))
    n_band = int(np.count_nonzero((near >= limit - BAND * height) & (near < limit)))
    excess = BAND * height * n_clipped / n_band if n_band else 0.0
    roots = [
        np.sqrt(density[inside])
        for part in micrograph.strips(index)
        for inside, density in [_clipped_density(part, limit, micrograph.calibrated())]
    ]
    root = float(np.concatenate(roots).mean())
    excess = min(excess, MAX_EXCESS * height) if root <= SOLID else 0.0
    return Clipping(limit, n_clipped / ends.n, excess, root)


def _spike_width(below: np.ndarray, high: float, height: float) -> float:
    """Return the width of the spike below the largest value: lossy compression blurs it."""
    step = 0.5 * BAND / (_BINS / 4) * height  # a hundredth
    number = np.floor((high - below) / step).astype(int)
    counts = np.bincount(number, minlength=_BINS)[:_BINS]
    usual = max(1.0, float(np.median(counts[_BINS // 2 :])))
    width = 0
    while width < _BINS // 4 and counts[width] > 2 * usual:
        width += 1
    return width * step


def _clipped_density(
    part: np.ndarray, limit: float, pixel_nm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return which pixels are clipped and the local density of such pixels, both (Y, X)."""
    inside = np.asarray(part >= limit)
    if not inside.any():
        return inside, inside.astype(np.float32)
    sigma = DENSITY_SIGMA_NM / pixel_nm
    padded = np.pad(inside.astype(np.float32), reach(sigma), mode="symmetric")
    return inside, gaussian(padded, sigma)


def _unclipped(part: np.ndarray, clipping: Clipping, pixel_nm: float) -> np.ndarray:
    """Return the pixels with an estimate of what clipped ones have lost."""
    inside, density = _clipped_density(part, clipping.limit, pixel_nm)
    if not inside.any():
        return part
    root = np.sqrt(density[inside]) / np.float32(clipping.mean_root_density)
    out = part.copy()
    out[inside] = np.float32(clipping.limit) + np.float32(clipping.excess) * root
    return out


def _floor(micrograph: Micrograph, index: int, ends: _Extremes) -> float:
    """Return the fraction of pixels at the lower limit if they are a spike, otherwise 0.

    Few counted electrons have many zeros, but then the histogram falls from there on.
    """
    if ends.n_low < MIN_FLOOR * ends.n:
        return 0.0
    near = _near(micrograph, index, ends.low, ends.mean)
    above = near[near > ends.low]
    counts = np.unique(above, return_counts=True)[1] if above.size else np.zeros(1)
    most, first = counts.max(), counts[0]
    is_spike = ends.n_low >= SPIKE * most or (ends.n_low >= 2 * first and most > 1.1 * first)
    return ends.n_low / ends.n if is_spike else 0.0


def _is_nonlinear(micrograph: Micrograph, index: int, ends: _Extremes) -> bool:
    """Return whether the gaps between the used levels of 8 bits differ, as after a gamma.

    A linear stretch of consecutive levels leaves gaps that differ by one level at most.
    """
    if ends.low < 0 or ends.high > 255 or ends.high < 64:
        return False
    counts = np.zeros(256, np.int64)
    for part in micrograph.strips(index):
        part = part[np.isfinite(part)]
        whole = part.astype(np.uint8)
        if (whole != part).any():
            return False
        counts += np.bincount(whole, minlength=256)
    inner_levels = np.flatnonzero(counts[1:-1] >= _MIN_LEVEL_COUNT) + 1
    rare = (counts > 0) & (counts < _MIN_LEVEL_COUNT)
    if len(inner_levels) < 8:
        return False
    between = slice(inner_levels[0], np.flatnonzero(rare)[-1] if rare.any() else 255)
    used = inner_levels[inner_levels < between.stop]
    gaps = np.diff(used)
    empty = [not counts[a + 1 : b].any() for a, b in zip(used[:-1], used[1:], strict=True)]
    gaps = gaps[np.array(empty, bool)] if len(gaps) else gaps
    return bool(len(gaps) >= 8 and gaps.max() - gaps.min() >= 2)


# ---- shading
def _terms(v: np.ndarray, u: np.ndarray) -> list[np.ndarray]:
    """Return the terms of a polynomial in two variables."""
    return [v**i * u**j for i in range(_ORDER + 1) for j in range(_ORDER + 1 - i)]


def _find_shading(view: FrameView) -> tuple[Shading | None, bool]:
    """Return the shading, and whether the level changes in a way that may be shading."""
    height, width = view.shape
    if min(height, width) < _MIN_SIDE_PX:
        return None, False
    level, noise, v, u = _levels(view)
    if not (np.isfinite(level).all() and (level > 0).all() and (noise > 0).all()):
        return None, False
    terms = np.stack(_terms(v, u), axis=1)
    surface, explained = _robust_surface(terms, level)
    change = float(np.ptp(surface) / level.mean())
    if surface.min() <= 0 or change < MIN_SHADING:
        return None, False
    error = abs(_slope(np.log(surface), np.log(noise)) - 1)
    if explained < MIN_EXPLAINED or error > min(NOISE_TOLERANCE / change, MAX_SLOPE_ERROR):
        likely = explained >= MIN_EXPLAINED - 0.05 and error <= MAX_SLOPE_ERROR
        return None, change >= AMBIGUOUS_RANGE and likely
    coefficients = np.linalg.lstsq(terms, surface, rcond=None)[0]
    shape = (int(height), int(width))
    raw = Shading(tuple(coefficients.tolist()), shape)
    y, x = (np.linspace(0, n - 1, 65) for n in shape)
    mean = float(raw.at(y[:, None], x).mean())
    return replace(raw, coefficients=tuple((coefficients / mean).tolist())), False


def _levels(view: FrameView) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return level, noise and position (y, x) of blocks; positions from -1 to 1."""
    height, width = view.shape
    rows, columns = (
        [(int(n * (i + 0.5) / _BLOCKS), min(n // _BLOCKS, _WINDOW_PX)) for i in range(_BLOCKS)]
        for n in (height, width)
    )
    found = []
    for y, tall in rows:
        for x, wide in columns:
            top, left = y - tall // 2, x - wide // 2
            part = np.asarray(view[top : top + tall, left : left + wide], np.float32)
            # Rows differ independently; neighbours in a row share the lag of the detector.
            change = np.abs(part[1:] - part[:-1])
            change = change[change <= 4 * change.mean()] if change.size else change
            centre = 2 * (top + tall / 2) / height - 1, 2 * (left + wide / 2) / width - 1
            # A mean of the lower part: a median of a few grey levels would be one of them.
            values = np.sort(part, axis=None)[: part.size * 8 // 10]
            rounding = 1 / 6 if (values == np.round(values)).all() else 0.0
            variance = np.pi / 2 * float(change.mean()) ** 2 - rounding
            found.append((float(values.mean()), max(variance, 0.0), *centre))
    level, variance, v, u = np.array(found).T
    return level, np.sqrt(variance), v, u


def _robust_surface(terms: np.ndarray, level: np.ndarray) -> tuple[np.ndarray, float]:
    """Fit a surface without outliers; return it (N,) and the fraction of variance explained."""
    good = np.ones(len(level), bool)
    for _ in range(5):
        fitted = terms @ np.linalg.lstsq(terms[good], level[good], rcond=None)[0]
        residual = level - fitted
        good = np.abs(residual) <= 4 * 1.4826 * np.median(np.abs(residual)) + 1e-12
    explained = 1 - np.mean(residual**2) / max(float(level.var()), 1e-30)
    return fitted, float(explained)


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    """Return the slope of a robust straight line through points."""
    good = np.ones(len(x), bool)
    for _ in range(5):
        slope, offset = np.polyfit(x[good], y[good], 1)
        residual = np.abs(y - slope * x - offset)
        good = residual <= 3 * 1.4826 * np.median(residual) + 1e-12
    return float(slope)
