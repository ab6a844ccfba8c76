"""Effects of the recording on the intensities of a frame, found in its pixels and corrected.

See also `detection.clipping` and `detection.outliers`. Where pixels are so large or small that
single precision does not hold what filters compute, they are divided by a power of two.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..core.micrograph import MISSING_SHARE, FrameView, Micrograph
from .clipping import (
    DENSITY_SIGMA_NM,
    MIN_CLIPPED,
    Clipping,
    find_clipping,
    find_extremes,
    fraction_at_floor,
    is_nonlinear,
    restore_clipped,
)
from .filters import reach, run_in_threads
from .outliers import NONE, OutlierPixels, RepairedFrame, find_repairs, repair

# ---- response of a recording that changes smoothly across a frame
#
# A response that falls towards the corners multiplies clusters, support, black level and noise
# alike. Two other causes change the level of the support, but not the clusters:
#
# - the thickness of the support. It is rough at all lengths, so a surface of low order explains
#   little of its variance: at most 0.70 in 105 simulated fields without shading, a part of them
#   wedges and steps, where it explains more than 0.97 of most that are shaded and have a black
#   level;
# - an offset that changes across the image. It leaves the noise as it is.
#
# So a smooth change of the level is shading only if a surface of low order explains it nearly
# completely, and if the standard deviation of the noise is proportional to the level: the slope of
# the logarithms is 1, within 0.4, rather than 0. Where counting noise is no more than the rounding
# to counts, that can not be told. Without a black level, the roughness of the support hides a
# shading.

MIN_SHADING = 0.06
"""Range of the level across the frame, relative to its mean, from which it may be shading."""
MAX_SLOPE_ERROR = 0.4
"""Largest difference of the slope of ln noise over ln level from 1 (shading) or 0 (offset)."""
MIN_EXPLAINED = 0.97
"""Fraction of the variance of the level that a smooth surface explains if it is shading."""
MIN_EXPLAINED_AMBIGUOUS = 0.92
"""Fraction from which it is worth telling that it may be shading."""
AMBIGUOUS_RANGE = 0.15
"""Range of the level from which it is worth telling that it may be shading."""
_BLOCKS = 16  # along each axis, for level and noise
_WINDOW_PX = 128  # at most, in each block
_ORDER = 4  # of the polynomial
_MIN_SIDE_PX = 128


@dataclass(frozen=True)
class Shading:
    """Smooth relative response, a polynomial of positions from -1 to 1 across the frame."""

    coefficients: tuple[float, ...]  # of the terms of `_terms`; the mean response is 1
    shape: tuple[int, int]  # height and width of the frame in pixels

    def at(
        self,
        # y, x: positions in pixels, which broadcast to one shape
        y: np.ndarray,
        x: np.ndarray,
    ) -> np.ndarray:  # relative to the mean over the frame
        """Evaluate the response."""
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


def _terms(v: np.ndarray, u: np.ndarray) -> list[np.ndarray]:
    """Return the terms of a polynomial in two variables."""
    return [v**i * u**j for i in range(_ORDER + 1) for j in range(_ORDER + 1 - i)]


def find_shading(view: FrameView) -> tuple[Shading | None, bool]:
    """Find the shading of a frame; None if there is none, or the noise does not confirm it.

    The second result says whether the level changes in a way that may be shading, and the noise
    does not exclude it.
    """
    height, width = view.shape
    if min(height, width) < _MIN_SIDE_PX:
        return None, False
    blocks = _blocks(view)
    parts = np.stack([part for part, *_ in blocks])
    level = np.concatenate(run_in_threads(_levels, np.array_split(parts, _BLOCKS)))
    if not (np.isfinite(level).all() and (level > 0).all()):
        return None, False
    v, u = np.array([centre for _, *centre in blocks]).T
    terms = np.stack(_terms(v, u), axis=1)
    surface, explained = _robust_surface(terms, level)
    change = float(np.ptp(surface) / level.mean())
    if surface.min() <= 0 or change < MIN_SHADING:
        return None, False
    noise = np.array([_noise(part) for part in parts])
    if not (noise > 0).all():
        return None, False
    slope = _slope(np.log(surface), np.log(noise))
    if explained < MIN_EXPLAINED or abs(slope - 1) > MAX_SLOPE_ERROR:
        smooth = change >= AMBIGUOUS_RANGE and explained >= MIN_EXPLAINED_AMBIGUOUS
        return None, smooth and abs(slope) > MAX_SLOPE_ERROR
    coefficients = np.linalg.lstsq(terms, surface, rcond=None)[0]
    shape = (int(height), int(width))
    raw = Shading(tuple(coefficients.tolist()), shape)
    y, x = (np.linspace(0, n - 1, 65) for n in shape)
    mean = float(raw.at(y[:, None], x).mean())
    return replace(raw, coefficients=tuple((coefficients / mean).tolist())), False


def _blocks(view: FrameView) -> list[tuple[np.ndarray, float, float]]:
    """Return pixels and position (y, x) of blocks; positions from -1 to 1."""
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
            centre = 2 * (top + tall / 2) / height - 1, 2 * (left + wide / 2) / width - 1
            found.append((part, *centre))
    return found


def _levels(parts: np.ndarray) -> np.ndarray:
    """Return the levels (N,) of blocks (N, Y, X); NaN if not all pixels of one are finite."""
    values = np.sort(parts.reshape(len(parts), -1), axis=1)  # NaN is the last
    finite = np.isfinite(values[:, 0]) & np.isfinite(values[:, -1])
    values = values[:, : _n_lower(parts[0])]
    # A median of a few grey levels would be one of them.
    level = np.where(finite[:, None], values, 0).mean(axis=1)
    return np.where(finite, level.astype(float), np.nan)


def _n_lower(part: np.ndarray) -> int:
    """Return the number of pixels of a block that are its lower part."""
    return part.size * 8 // 10


def _noise(part: np.ndarray) -> float:
    """Return the noise of a block of finite pixels."""
    # Rows differ independently; neighbours in a row share the lag of the detector.
    change = np.abs(part[1:] - part[:-1])
    change = change[change <= 4 * change.mean()]
    # Rounding to counts adds a twelfth to the variance of each of the two pixels.
    values = np.sort(part, axis=None)[: _n_lower(part)]
    rounding = 1 / 6 if (values == np.round(values)).all() else 0.0
    return float(np.sqrt(max(float(np.mean(change**2)) - rounding, 0.0)))


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


@dataclass(frozen=True)
class RecordingEffects:
    """Effects of the recording of a frame."""

    clipping: Clipping | None = None  # upper limit, if pixels are clipped, in ``unit``
    shading: Shading | None = None  # response, if it is not uniform
    floor: float = 0.0  # fraction of the pixels at the lower limit, if that is a spike; otherwise 0
    # whether the histogram shows that the grey levels are no linear function of the intensity
    nonlinear: bool = False
    # whether the level changes smoothly and may be shading, which the noise does not confirm
    ambiguous_shading: bool = False
    outliers: OutlierPixels = NONE  # hot and dead pixels
    # unit in which pixels are computed, relative to that of the file: a power of two
    unit: float = 1.0
    # position in the frame of the first pixel that `repair` and `restore` get
    origin: tuple[int, int] = (0, 0)

    @property
    def is_faithful(self) -> bool:
        """Whether pixels are neither clipped nor shaded."""
        return self.clipping is None and self.shading is None

    def cropped(self, top: int, left: int) -> RecordingEffects:
        """Return the recording for a part of the frame that begins at pixel (top, left)."""
        return replace(self, origin=(self.origin[0] + top, self.origin[1] + left))

    def repair(self, part: np.ndarray, top: int, left: int) -> np.ndarray:
        """Replace outlier pixels, and convert pixels to ``unit``.

        Parameters
        ----------
        part : ndarray of shape (Y, X)
            Recorded pixels.
        top, left : int
            Position of the first pixel.

        Returns
        -------
        ndarray of shape (Y, X), float32
        """
        y, x = self.origin
        return repair(part, self.outliers, self.unit, top + y, left + x)

    def margin_px(self, pixel_nm: float) -> int:
        """Return the margin in pixels that `restore` requires."""
        return 0 if self.clipping is None else reach(DENSITY_SIGMA_NM / pixel_nm)

    def restore(self, part: np.ndarray, top: int, left: int, pixel_nm: float) -> np.ndarray:
        """Correct pixels.

        Parameters
        ----------
        part : ndarray of shape (Y, X), float32
            Pixels from `repair` with a margin of `margin_px` where the frame has one.
        top, left : int
            Position of the first pixel.

        Returns
        -------
        ndarray of shape (Y, X), float32
        """
        if self.clipping is not None:
            part = restore_clipped(part, self.clipping, pixel_nm)
        if self.shading is not None:
            y, x = (
                np.arange(n) + first + start
                for n, first, start in zip(part.shape, (top, left), self.origin, strict=True)
            )
            part = part / self.shading.at(y[:, None], x)
        return part

    def clipped(self, part: np.ndarray) -> np.ndarray:
        """Return which pixels from `repair` are clipped."""
        if self.clipping is None:
            return np.zeros(part.shape, bool)
        return np.asarray(part >= self.clipping.limit)

    def response(
        self,
        # y, x, each (N,): points in pixels
        y: np.ndarray,
        x: np.ndarray,
    ) -> np.ndarray:  # (N,): relative to the mean over the frame
        """Return the response at points; 1 without shading."""
        if self.shading is None:
            return np.ones(len(y))
        return self.shading.at(y + self.origin[0], x + self.origin[1]).astype(float)

    def provenance(self) -> dict[str, Any]:
        """Return what was found, for the record of a run; empty for a faithful recording."""
        found: dict[str, Any] = {}
        if self.clipping is not None:
            counts = {n: getattr(self.clipping, n) * self.unit for n in ("limit", "excess")}
            found["clipping"] = asdict(self.clipping) | counts
        if self.shading is not None:
            found["shading"] = {"smallest_response": self.shading.smallest}
        if self.floor > 0:
            found["at_lower_limit"] = self.floor
        for name in ("nonlinear", "ambiguous_shading"):
            if getattr(self, name):
                found[name] = True
        if len(self.outliers):
            found[OUTLIERS] = len(self.outliers)
        return found


OUTLIERS = "outlier_pixels"
"""Key of `RecordingEffects.provenance`: number of outlier pixels, which were replaced."""
FAITHFUL = RecordingEffects()
"""No effects: the pixels need no correction."""
_known: WeakKeyDictionary[Micrograph, dict[int, RecordingEffects]] = WeakKeyDictionary()


def missing_pixels(micrograph: Micrograph) -> dict[str, Any]:
    """Return the share of an image that its file does not store; empty if it stores all."""
    missing = micrograph.metadata.get(MISSING_SHARE)
    return {MISSING_SHARE: missing} if missing else {}


def recording_of(
    micrograph: Micrograph,  # calibrated
    index: int = 0,
) -> RecordingEffects:
    """Find the effects of the recording of a frame; the result is cached with the image."""
    found = _known.setdefault(micrograph, {})
    if index not in found:
        found[index] = _find_recording(micrograph, index)
    return found[index]


def _find_recording(micrograph: Micrograph, index: int) -> RecordingEffects:
    ends = find_extremes(micrograph, index)
    if not ends.low < ends.high:
        return FAITHFUL
    outliers, unit = find_repairs(micrograph, index, ends)
    if len(outliers) or unit != 1.0:
        repaired = RepairedFrame(micrograph.frame(index), outliers, unit)
        micrograph = Micrograph(repaired, micrograph.pixel_size_nm)
        index, ends = 0, find_extremes(micrograph, 0)
    clipping = find_clipping(micrograph, index, ends) if ends.n_high >= MIN_CLIPPED else None
    shading, ambiguous = find_shading(micrograph.frame(index))
    return RecordingEffects(
        clipping,
        shading,
        fraction_at_floor(micrograph, index, ends),
        is_nonlinear(micrograph, index, ends),
        ambiguous,
        outliers,
        unit,
    )
