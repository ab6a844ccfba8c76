"""Registration of two frames by the grain of their support."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.registration import phase_cross_correlation

# Band of the grain of the support and of single atoms, between noise and background.
FINE_NM, _COARSE_NM = 0.08, 0.8
_UPSAMPLING = 20
_MIN_CORRELATION = 6.0


def band_pass(frame: np.ndarray, pixel_nm: float) -> np.ndarray | None:
    """Return the band-passed, windowed frame; None without contrast."""
    finite = np.isfinite(frame)
    if not finite.any():
        return None
    frame = np.where(finite, frame, np.median(frame[finite]))
    # Hot pixels would dominate the correlation.
    low, high = np.percentile(frame, [0.1, 99.9])
    frame = np.clip(frame, low, high)
    fine = ndimage.gaussian_filter(frame, max(FINE_NM / pixel_nm, 0.7))
    grain = fine - ndimage.gaussian_filter(frame, _COARSE_NM / pixel_nm)
    spread = float(grain.std())
    if not spread > 1e-6 * max(abs(float(frame.mean())), 1e-12):
        return None
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in frame.shape))
    return np.asarray((grain / spread) * window, np.float32)


def measure_shift(
    one: np.ndarray | None, other: np.ndarray | None, grain_px: float
) -> np.ndarray | None:
    """Measure the shift between two frames by phase correlation.

    The correlation of two unrelated frames of n independent grains is about 1 / √n. The limit is
    much higher, since the shift is the best of many.

    Parameters
    ----------
    one, other : ndarray of shape (Y, X) or None
        Frames from `band_pass`.
    grain_px : float
        Standard deviation of the grain in pixels.

    Returns
    -------
    ndarray of shape (2,) or None
        Shift (y, x) in pixels; None without significant correlation.
    """
    if one is None or other is None:
        return None
    found, _, _ = phase_cross_correlation(
        one, other, upsample_factor=_UPSAMPLING, normalization=None
    )
    moved = -np.asarray(found, float)
    whole = np.round(moved).astype(int)
    a, b = _overlap(one, whole), _overlap(other, -whole)
    if min(a.shape) < 8:
        return None
    power = float(np.sqrt((a**2).sum() * (b**2).sum()))
    correlation = float((a * b).sum()) / power if power > 0 else 0.0
    grains = a.size / (4 * np.pi * max(grain_px, 0.7) ** 2)
    return moved if correlation > _MIN_CORRELATION / np.sqrt(grains) else None


def _overlap(frame: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return the part of a frame that overlaps the other one after this shift."""
    rows, columns = (
        slice(max(0, -s), n - max(0, s)) for s, n in zip(shift, frame.shape, strict=True)
    )
    return frame[rows, columns]
