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

    Returns
    -------
    ndarray of uint8
        The image.
    """
    finite = pixels[np.isfinite(pixels)]
    if not finite.size:
        return np.zeros(pixels.shape, np.uint8)
    bottom, top = np.percentile(finite, [low, high])
    scaled = (np.nan_to_num(pixels, nan=bottom) - bottom) / max(float(top - bottom), 1e-12)
    return (255 * np.clip(scaled, 0, 1)).astype(np.uint8)
