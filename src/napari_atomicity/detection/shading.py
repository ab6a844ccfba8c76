"""Response of a recording that changes smoothly across a frame.

A response that falls towards the corners multiplies clusters, support, black level and noise alike.
Two other causes change the level of the support, but not the clusters:

- the thickness of the support. It is rough at all lengths, so a surface of low order explains
  little of its variance: at most 0.70 in 105 simulated fields without shading, a part of them
  wedges and steps, where it explains more than 0.97 of most that are shaded and have a black level;
- an offset that changes across the image. It leaves the noise as it is.

So a smooth change of the level is shading only if a surface of low order explains it nearly
completely, and if the standard deviation of the noise is proportional to the level: the slope of
the logarithms is 1, within 0.4, rather than 0. Where counting noise is no more than the rounding to
counts, that can not be told. Without a black level, the roughness of the support hides a shading.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..core.micrograph import FrameView
from .filters import run_in_threads

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

    def at(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Evaluate the response.

        Parameters
        ----------
        y, x : ndarray
            Positions in pixels, which broadcast to one shape.

        Returns
        -------
        ndarray, float32
            Relative to the mean over the frame.
        """
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
    """Find the shading of a frame.

    Returns
    -------
    shading : Shading or None
        None if the response is uniform, or if the noise does not confirm a shading.
    ambiguous : bool
        Whether the level changes in a way that may be shading, and the noise does not exclude it.
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
