"""Grey levels of an image for people to look at."""

from __future__ import annotations

import numpy as np


def to_8_bit(pixels: np.ndarray, low: float = 0.2, high: float = 99.8) -> np.ndarray:
    """Grey levels between two percentiles of the finite pixels; what is not finite is black."""
    finite = pixels[np.isfinite(pixels)]
    if not finite.size:
        return np.zeros(pixels.shape, np.uint8)
    bottom, top = np.percentile(finite, [low, high])
    scaled = (np.nan_to_num(pixels, nan=bottom) - bottom) / max(float(top - bottom), 1e-12)
    return (255 * np.clip(scaled, 0, 1)).astype(np.uint8)
