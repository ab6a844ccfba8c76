"""Patches: each cluster on the same grid in nm, raw and locally contrast-normalised."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import ndimage

from ..micrograph import Micrograph
from ..model.card import PatchSettings
from ..progress import Stop, check
from .background import background, without_gaps
from .scale_space import ScaleSpace

_WINDOW_NM = 12.0
_CHUNK = 4096


def local_contrast(frame: np.ndarray, window_px: float) -> np.ndarray:
    """Local contrast normalisation: (I - local mean) / local standard deviation.

    Both are Gaussian-weighted (Jarrett et al., ICCV 2009). Where the image is constant the result
    is 0.

    Parameters
    ----------
    frame
        (Y, X), finite.
    window_px
        Standard deviation of the Gaussian windows.

    Returns
    -------
    ndarray
        (Y, X) float32, without unit.
    """
    # Windows of more than a few pixels are recursive-filter cheap in Fourier space.
    centred = frame.astype(np.float32) - np.float32(frame.mean())
    deviation = centred - ScaleSpace(centred, window_px).gaussian(window_px)
    variance = ScaleSpace(deviation**2, window_px).gaussian(window_px)
    spread = np.sqrt(np.clip(variance, 0, None))
    floor = 1e-6 * float(np.abs(centred).max(initial=0.0)) + np.finfo(np.float32).tiny
    return np.asarray(deviation / np.maximum(spread, floor), dtype=np.float32)


def extract_patches(
    micrograph: Micrograph,
    table: pd.DataFrame,
    settings: PatchSettings,
    intensity_per_atom: float = 1.0,
    stop: Stop | None = None,
) -> dict[str, np.ndarray]:
    """Cut every cluster of a table out of its frame.

    Parameters
    ----------
    micrograph
        A calibrated image or stack.
    table
        The cluster table: ``frame``, ``y_px``, ``x_px`` are read.
    settings
        Field of view, grid, channels.
    intensity_per_atom
        Integrated intensity of one atom in counts nm²: the raw channel is divided by it, so that
        it is in atoms per nm² and its integral is a number of atoms.
    stop
        Asked between frames.

    Returns
    -------
    dict
        Channel → (N, size_px, size_px) float32.

    Raises
    ------
    CalibrationError
        If the pixel size is not known.
    """
    pixel_nm = micrograph.calibrated()
    n, size = len(table), settings.size_px
    out = {c: np.zeros((n, size, size), np.float32) for c in settings.channels}
    frames = table["frame"].to_numpy(int)
    centres = table[["y_px", "x_px"]].to_numpy(float)
    for index, frame in enumerate(micrograph.frames()):
        rows = np.flatnonzero(frames == index)
        if len(rows) == 0:
            continue
        check(stop)
        for channel, image in channel_images(frame, pixel_nm, settings).items():
            scale = intensity_per_atom if channel == "raw" else 1.0
            for start in range(0, len(rows), _CHUNK):
                part = rows[start : start + _CHUNK]
                out[channel][part] = _sample(image, centres[part], pixel_nm, settings) / scale
    return out


def channel_images(
    frame: np.ndarray, pixel_nm: float, settings: PatchSettings
) -> dict[str, np.ndarray]:
    """The channels of one frame, each computed once: channel → (Y, X) float32."""
    frame = without_gaps(frame)
    images = {}
    if "raw" in settings.channels:
        images["raw"] = frame - background(frame, pixel_nm, _WINDOW_NM)
    if "LCN" in settings.channels:
        # The same resolution at every magnification, or the noise would tell the pixel size.
        blurred = _band_limited(frame, pixel_nm, settings)
        images["LCN"] = local_contrast(blurred, settings.lcn_window_nm / pixel_nm)
    if "raw" in images:
        images["raw"] = _band_limited(images["raw"], pixel_nm, settings)
    return images


def _band_limited(image: np.ndarray, pixel_nm: float, settings: PatchSettings) -> np.ndarray:
    """Blur a finely sampled image as far as the patch grid asks for (no aliasing)."""
    patch_pixel_nm = settings.field_of_view_nm / settings.size_px
    sigma = 0.5 * np.sqrt(max(0.0, (patch_pixel_nm / pixel_nm) ** 2 - 1))
    if sigma < 0.2:
        return image.astype(np.float32)
    return np.asarray(ndimage.gaussian_filter(image.astype(np.float32), sigma, mode="mirror"))


def _sample(
    image: np.ndarray, centres_px: np.ndarray, pixel_nm: float, settings: PatchSettings
) -> np.ndarray:
    size = settings.size_px
    step = settings.field_of_view_nm / size / pixel_nm
    offset = (np.arange(size) - (size - 1) / 2) * step
    y = centres_px[:, 0, None, None] + offset[None, :, None]
    x = centres_px[:, 1, None, None] + offset[None, None, :]
    shape = (len(centres_px), size, size)
    places = [np.broadcast_to(y, shape), np.broadcast_to(x, shape)]
    return np.asarray(ndimage.map_coordinates(image, places, order=1, mode="mirror"))
