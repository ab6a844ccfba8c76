"""Contrast of images for display."""

from __future__ import annotations

import numpy as np


def to_8_bit(pixels: np.ndarray, low: float = 0.2, high: float = 99.8) -> np.ndarray:
    """Rescale an image to 8 bits between two percentiles of its finite pixels.

    Parameters
    ----------
    pixels : ndarray
        Intensities; pixels that are not finite become black.
    low, high : float
        Percentiles for black and white.
    """
    return (255 * stretch(pixels, low, high)).astype(np.uint8)


def stretch(
    pixels: np.ndarray,  # pixels; NaN becomes 0, and so does everything if no pixel is finite
    # low, high: percentiles of the darkest and the brightest pixel
    low: float,
    high: float,
) -> np.ndarray:  # values between 0 and 1
    """Stretch the contrast between two percentiles."""
    finite = pixels[np.isfinite(pixels)]
    if not finite.size:
        return np.zeros(pixels.shape)
    bottom, top = np.percentile(finite, [low, high])
    scaled = (np.nan_to_num(pixels, nan=bottom) - bottom) / max(
        float(top - bottom), np.finfo(float).tiny
    )
    return np.asarray(np.clip(scaled, 0, 1))
