"""Support films of amorphous carbon: local thickness, steps and contamination."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .field_settings import FieldSettings


def draw_thickness(settings: FieldSettings, rng: np.random.Generator) -> np.ndarray:
    """Draw the thickness (Y, X) of a support in nm."""
    shape, pixel = settings.shape_px, settings.pixel_size_nm
    relief = np.zeros(shape, np.float32)
    for scale_nm in (1.5, 4.0, 10.0):
        relief += smooth_noise(shape, pixel, scale_nm, rng) * (scale_nm / 10) ** 0.5
    relief *= settings.roughness / max(float(relief.std()), 1e-9)
    thickness = settings.carbon_nm * np.clip(1 + relief, 0.05, None)
    if settings.step:
        angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.3, 0.3)
        y, x = np.mgrid[-0.5 : 0.5 : shape[0] * 1j, -0.5 : 0.5 : shape[1] * 1j]
        wave = 0.03 * np.sin(2 * np.pi * (x * np.sin(angle) - y * np.cos(angle)) * 3)
        beyond = y * np.sin(angle) + x * np.cos(angle) > offset + wave
        thickness = np.where(beyond, thickness * (1 + settings.step), thickness)
    return np.asarray(thickness, np.float32)


def smooth_noise(
    shape: tuple[int, int], pixel_nm: float, scale_nm: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw a random smooth field, of unit variance at its knots.

    Parameters
    ----------
    shape : tuple of int
        Height and width in pixels.
    pixel_nm : float
        Edge length of a pixel.

    Returns
    -------
    ndarray of shape (Y, X)
        The field, float32.
    """
    coarse = [max(2, int(n * pixel_nm / scale_nm) + 3) for n in shape]
    knots = rng.normal(size=coarse).astype(np.float32)
    # a spline through knots is linear in them: one matrix per axis, faster than zooming the image
    along = [
        ndimage.zoom(np.eye(m), (n / m, 1), order=3) for n, m in zip(shape, coarse, strict=True)
    ]
    return np.asarray(along[0] @ knots @ along[1].T, np.float32)


def add_contamination(
    thickness: np.ndarray, settings: FieldSettings, rng: np.random.Generator
) -> np.ndarray:
    """Add smooth patches of carbon where there is a support.

    Parameters
    ----------
    thickness : ndarray of shape (Y, X)
        Thickness of the support in nm.
    settings : FieldSettings
        Share and height of the patches.

    Returns
    -------
    ndarray of shape (Y, X)
        Thickness in nm.
    """
    waves = smooth_noise(settings.shape_px, settings.pixel_size_nm, 4.0, rng)
    above = waves - np.quantile(waves[thickness > 0], 1 - settings.contamination)
    height = np.clip(above / max(float(above.max()), 1e-9), 0, None)
    # rises steeply at the rim and is level in the middle
    patches = settings.contamination_nm * (1 - (1 - height) ** 2)
    return np.where((thickness > 0) & (above > 0), thickness + patches, thickness)
