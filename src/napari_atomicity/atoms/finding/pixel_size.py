"""Proposal for the pixel size of an uncalibrated image, from the width of its atoms.

The width of an atom is that of the probe, which differs between microscopes: the training images of
the shipped model have full widths at half maximum of 0.12 to 0.15 nm and of 0.21 nm. The proposal
is therefore accurate to a factor of 1.5 at best. The user must confirm it; it is not a calibration.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ...detection.background import without_gaps
from .candidates import FWHM_PER_SIGMA, ScaleSpace
from .localisation import SIGMA_NM, fit_spots

FWHM_NM = (0.09, 0.15, 0.28)
"""Full width at half maximum of an atom: minimum, usual, maximum."""
SCALES_PX = tuple(float(s) for s in np.geomspace(1.2, 8.0, 11))
"""Standard deviations of the tested scales, pixels."""
_SURROUNDINGS = 8.0
_CLEAR = 3.5
_MAX_SPOTS = 200
_MIN_SPOTS = 8
_NEAR_BEST = 0.9
_CROP_PX = 1024


@dataclass(frozen=True)
class PixelSizeProposal:
    """Proposed pixel size."""

    value_nm: float  # edge length of a pixel if atoms have the usual width
    # low_nm, high_nm: limits from the minimum and maximum width, and from the scatter of the spots
    low_nm: float
    high_nm: float
    n_spots: int
    fwhm_px: float  # their median full width at half maximum in pixels

    def __str__(self) -> str:
        return (
            f"{self.value_nm:.2g} nm ({self.low_nm:.2g} to {self.high_nm:.2g} nm), if its "
            f"{self.n_spots} clearest spots, {self.fwhm_px:.1f} pixels wide, are single atoms"
        )


def propose_pixel_size(pixels: np.ndarray) -> PixelSizeProposal | None:
    """Propose a pixel size from the width of the clearest spots.

    The scale of atoms is the one at which the bright extremes of the local contrast exceed the dark
    ones most, since noise and texture are nearly symmetric. Spots are fitted at this scale.

    Parameters
    ----------
    pixels : ndarray of shape (Y, X)
        Image in any units.

    Returns
    -------
    PixelSizeProposal or None
        None with too few clear spots.
    """
    image = without_gaps(np.asarray(pixels, np.float32)[:_CROP_PX, :_CROP_PX])
    spread = float(image.std())
    if min(image.shape) < 16 or not spread > 0:
        return None
    image = (image - image.mean()) / spread
    scales = [s for s in SCALES_PX if 6 * s < min(image.shape)]
    space = ScaleSpace(image, max(scales))
    contrast = [_contrast(space.laplacian(s), s) for s in scales]
    gain = np.array([_asymmetry(c, s) for c, s in zip(contrast, scales, strict=True)])
    if gain.max() <= 0:
        return None
    best = _select_scale(gain)
    points = _maxima(contrast[best], scales[best], _CLEAR)[:_MAX_SPOTS]
    # In units in which the spots have the usual width, within the bounds of the fit.
    unit_nm = SIGMA_NM / scales[best]
    spots = fit_spots(image, points, unit_nm)
    sigma_px = spots.sigma_nm[spots.fitted] / unit_nm
    sigma_px = sigma_px[(sigma_px > 0.4 * scales[best]) & (sigma_px < 1.9 * scales[best])]
    if len(sigma_px) < _MIN_SPOTS:
        return None
    fwhm = FWHM_PER_SIGMA * float(np.median(sigma_px))
    error = (
        1.2533 * float(sigma_px.std(ddof=1)) / np.sqrt(len(sigma_px)) / float(np.median(sigma_px))
    )
    narrowest, usual, widest = FWHM_NM
    return PixelSizeProposal(
        usual / fwhm,
        narrowest / fwhm * max(1 - 2 * error, 0.5),
        widest / fwhm * (1 + 2 * error),
        len(sigma_px),
        fwhm,
    )


def _contrast(response: np.ndarray, sigma_px: float) -> np.ndarray:
    """Normalise a response by its local root mean square."""
    power = ndimage.gaussian_filter(response**2, _SURROUNDINGS * sigma_px, truncate=2)
    floor = 1e-3 * float(power.mean()) + np.finfo(np.float32).tiny
    return np.asarray(response / np.sqrt(np.maximum(power, floor)))


def _maxima(contrast: np.ndarray, sigma_px: float, min_contrast: float) -> np.ndarray:
    """Return (N, 2) local maxima of at least ``min_contrast``, the highest first."""
    size = 2 * int(np.ceil(1.5 * sigma_px)) + 1
    top = (ndimage.maximum_filter(contrast, size) == contrast) & (contrast >= min_contrast)
    points = np.argwhere(top)
    return points[np.argsort(-contrast[top], kind="stable")]


def _asymmetry(contrast: np.ndarray, sigma_px: float) -> float:
    """Return the excess of the highest extremes over the depth of the lowest."""
    size = 2 * int(np.ceil(sigma_px)) + 1
    high = contrast[ndimage.maximum_filter(contrast, size) == contrast]
    low = -contrast[ndimage.minimum_filter(contrast, size) == contrast]
    count = max(5, round(0.002 * contrast.size / sigma_px**2))
    return float(_mean_of_top(high, count) - _mean_of_top(low, count))


def _mean_of_top(values: np.ndarray, count: int) -> float:
    return float(np.sort(values)[::-1][:count].mean()) if len(values) else 0.0


def _select_scale(gain: np.ndarray) -> int:
    """Return the first scale with nearly the gain of the first peak; aggregates are larger."""
    rising = np.flatnonzero(np.diff(gain) <= 0)
    peak = next((int(i) for i in rising if gain[i] >= 0.6 * gain.max()), int(gain.argmax()))
    return int(np.argmax(gain >= _NEAR_BEST * gain[peak]))
