"""Pictures of patches: in grey, or under their class maps; padding beyond the image is hatched."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

COLORMAP = "inferno"
"""Colormap of class maps: perceptually uniform."""

STRETCH = (0.01, 0.998)
"""Quantiles of a patch that are black and white."""

_COLORMAP_PART = (0.15, 0.95)
_OPACITY, _OPACITY_EXPONENT = 0.85, 0.6
_DIMMED = 0.75
_STRIPES = 18  # of the hatching, along the edge of a patch


@lru_cache(maxsize=1)
def class_map_colours() -> np.ndarray:
    """Return the colours of class maps from 0 to the top of their scale, float32 (256, 4).

    The opacity increases with the value: the cluster is seen where the map is weak.
    """
    from matplotlib import colormaps

    strength = np.linspace(0, 1, 256)
    low, high = _COLORMAP_PART
    colours = colormaps[COLORMAP](low + (high - low) * strength)
    colours[:, 3] = _OPACITY * strength**_OPACITY_EXPONENT
    return np.asarray(colours, np.float32)


def compose(
    patches: np.ndarray,  # what is not finite is hatched, or black if nothing is finite
    maps: np.ndarray | None = None,
    limits: tuple[float, float] | None = None,
    top: float | None = None,
    factor: int = 1,
) -> np.ndarray:
    """Return patches in grey, under their class maps if there are any; padding is hatched."""
    n, size, _ = patches.shape
    flat = np.asarray(patches, np.float32).reshape(n, -1)
    finite = np.isfinite(flat)
    if not finite.all():
        darkest = np.where(finite, flat, np.inf).min(axis=1, keepdims=True)
        flat = np.where(finite, flat, np.where(np.isfinite(darkest), darkest, 0))
    low, high = quantiles(flat, STRETCH) if limits is None else limits
    ground = np.clip((flat - low) / np.maximum(high - low, 1e-12), 0, 1).reshape(patches.shape)
    if factor > 1:
        ground = enlarge(ground, factor * size)
    if maps is not None:
        colours = class_map_colours()[_levels(_strength(maps, top), factor * size)]
        opacity = colours[..., 3:]
        ground = _DIMMED * ground[..., None] * (1 - opacity) + colours[..., :3] * opacity
    pixels = (255 * np.clip(ground, 0, 1) + 0.5).astype(np.uint8)
    hatch_padding(pixels, patches)
    return pixels


def _strength(maps: np.ndarray, top: float | None) -> np.ndarray:
    """Divide what is positive of each map by the top of its scale."""
    positive = np.clip(np.nan_to_num(np.asarray(maps, np.float32)), 0, None)
    scale = positive.max(axis=(1, 2), keepdims=True) if top is None else top
    return positive / np.maximum(scale, 1e-12)


def _levels(strength: np.ndarray, size_px: int) -> np.ndarray:
    """Return the rows of `class_map_colours` for maps, enlarged."""
    return (255 * np.clip(enlarge(strength, size_px), 0, 1) + 0.5).astype(np.uint8)


def enlarge(images: np.ndarray, size_px: int) -> np.ndarray:
    """Resample images (N, h, w) linearly to (N, size_px, size_px), with aligned outer edges.

    Pixels are areas: the first pixel of a coarse class map covers as much of the patch as it
    should, and not half a pixel less.
    """
    rows, columns = (_weights(length, size_px) for length in images.shape[1:])
    return np.asarray(rows @ images @ columns.T)


@lru_cache(maxsize=16)
def _weights(length: int, size: int) -> np.ndarray:
    """Return the weights (size, length) of a linear interpolation along an axis."""
    at = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
    low = np.minimum(at.astype(int), max(length - 2, 0))
    weights = np.zeros((size, length), np.float32)
    weights[np.arange(size), low] = 1 - (at - low)
    if length > 1:
        weights[np.arange(size), low + 1] += at - low
    return weights


def quantiles(rows: np.ndarray, shares: tuple[float, ...]) -> list[np.ndarray]:
    """Return the quantiles of each row, (N, 1) of each share; faster than `numpy.quantile`."""
    ordered = np.sort(rows, axis=1)
    out = []
    for share in shares:
        at = share * (rows.shape[1] - 1)
        low = int(at)
        high = min(low + 1, rows.shape[1] - 1)
        out.append(
            ordered[:, [low]] + np.float32(at - low) * (ordered[:, [high]] - ordered[:, [low]])
        )
    return out


def hatch_padding(pixels: np.ndarray, patches: np.ndarray) -> None:
    """Hatch what is not finite of patches that have pixels: it is beyond the image."""
    finite = np.isfinite(patches)
    padding = ~finite & finite.any(axis=(-2, -1), keepdims=True)
    if not padding.any():
        return
    factor = pixels.shape[patches.ndim - 2] // patches.shape[-2]
    padding = padding.repeat(factor, axis=-2).repeat(factor, axis=-1)
    y, x = np.indices(padding.shape[-2:])
    stripes = np.where((y + x) // max(1, padding.shape[-1] // _STRIPES) % 2, 104, 56)
    pixels[padding] = np.broadcast_to(stripes, padding.shape)[padding].reshape(
        -1, *(1,) * (pixels.ndim - padding.ndim)
    )
