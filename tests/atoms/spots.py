"""Fields of spots with known positions, for the tests of this room."""

from __future__ import annotations

import numpy as np


def field(
    points: np.ndarray,
    shape: tuple[int, int],
    sigma_px: float,
    height: float | np.ndarray = 1.0,
    noise: float = 0.0,
    seed: int = 0,
) -> np.ndarray:
    """Gaussian spots on a background of 10 that rises by 1 across the image."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = 10 + x / shape[1]
    for (cy, cx), h in zip(points, np.broadcast_to(height, len(points)), strict=True):
        image = image + h * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * sigma_px**2))
    noise_image = np.random.default_rng(seed).standard_normal(shape)
    return (image + noise * noise_image).astype(np.float32)


def scattered(n: int, shape: tuple[int, int], distance: float, seed: int) -> np.ndarray:
    """Up to n points no closer than ``distance`` to each other or to the edges."""
    rng = np.random.default_rng(seed)
    points: list[np.ndarray] = []
    for _ in range(50 * n):
        new = rng.uniform(distance, np.array(shape) - distance)
        if len(points) < n and all(np.hypot(*(new - p)) >= distance for p in points):
            points.append(new)
    return np.array(points)
