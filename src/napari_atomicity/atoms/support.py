"""Support mask of an image: support or vacuum.

Black level, stray light and thickness are unknown, so that no level of intensity identifies vacuum.
Three criteria together do:

- *low noise*: few electrons have little shot noise. A step in thickness reduces the noise only in
  proportion;
- *no texture*: amorphous carbon has a grain of 0.1 to 0.3 nm, whose variance is proportional to
  that of the noise on thick and thin support (both are variances of counts, of atoms and of
  electrons). Their ratio decreases in vacuum;
- *no atoms*: atoms do not exist without support.

Vacuum extends from such cores as far as the local level is close to theirs, since stray light makes
it uneven. Cores that fail one criterion are rejected, so that an image without vacuum is entirely
support; so is one in which only clusters would be left as support. Without visible grain (low dose,
large pixels) only regions with hardly any noise are vacuum; the user can draw the rest.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy import ndimage
from skimage.draw import polygon2mask
from skimage.filters import threshold_otsu

from ..detection.background import block_mean, enlarge, without_gaps
from ..statistics.points.windows import ObservationWindow

LEVEL_SIGMAS_NM = (0.1, 0.15, 0.22, 0.33, 0.5)
"""Blurs of the level; the first that separates support from vacuum is used. It limits the accuracy
of the rim of the support."""
GRAIN_NM = (0.08, 0.3)
"""Range of standard deviations of the grain of amorphous carbon."""
BLOCK_NM, WINDOW_NM = 0.15, 1.2
BELOW_ATOMS = 25
"""Percentile of the block means of level, noise and grain in a window: atoms, which are brighter,
noisier and grainier than the support, may cover much of it."""
MAX_NOISE = 0.4
"""Maximum variance of the noise in vacuum, relative to the support; steps in thickness by a factor
of less than 2.5 are never vacuum."""
NO_NOISE, NO_GRAIN = 0.03, 1e-3
"""Variances relative to the support below which their ratio is not used: vacuum that is clipped at
zero, or a counting detector."""
MAX_GRAIN = 0.35
"""Maximum ratio of grain to noise (variances) in vacuum, relative to the support."""
MIN_CORE_NM2, MIN_NM2 = 0.3, 1.0
"""Minimum area of a core and of vacuum; smaller regions are pores of the texture."""
MIN_CORE_SHARE = 0.1
"""Minimum share of the core in a vacuum region."""
MAX_SPOTS = 0.02
"""Maximum share of small bright spots in a vacuum region; with more it is thin support."""
MAX_CLUSTER_NM2, MAX_CLUSTER_SHARE = 10.0, 0.1
"""If no part of the support is larger, in area or as a share of the image, all are clusters, on
a support that was taken for vacuum because it is so much less noisy and grainy than they are."""
RIM = 0.15
"""Level of the rim of the support, relative to its usual level above the adjacent vacuum."""


def support_mask(pixels: np.ndarray, pixel_size_nm: float) -> np.ndarray:
    """Segment the image into support and vacuum.

    Parameters
    ----------
    pixels : ndarray of shape (Y, X)
        Intensities of one frame. Pixels that are not finite are not support.

    Returns
    -------
    ndarray of bool, shape (Y, X)
        True is support. Bright spots are support, also in vacuum.
    """
    pixels = np.asarray(pixels, np.float32)
    recorded = np.isfinite(pixels)
    if not recorded.any():
        return recorded
    frame = without_gaps(pixels)
    core, usual = _find_cores(frame, pixel_size_nm)
    if not core.any():
        return recorded
    for sigma_nm in LEVEL_SIGMAS_NM:
        level = ndimage.gaussian_filter(frame, sigma_nm / pixel_size_nm, mode="nearest")
        above = level - _extrapolate_mean(level, core, WINDOW_NM / pixel_size_nm)
        rim = RIM * float(np.median(above[usual]))
        scatter = 1.4826 * float(np.median(np.abs(above[core])))
        if 4 * scatter < rim and np.mean(above[usual] < rim) < 0.002:
            break
    else:  # support and vacuum cannot be separated
        return recorded
    dark = _open_region(above < rim, BLOCK_NM / 2 / pixel_size_nm)
    min_px = MIN_NM2 / pixel_size_nm**2
    vacuum = _remove_small(_select_with_core(core, dark), min_px)
    support = recorded & ~_reject_spotted(vacuum, min_px)
    most = min(MAX_CLUSTER_NM2 / pixel_size_nm**2, MAX_CLUSTER_SHARE * support.size)
    return support if _remove_small(support, most).any() else recorded


def edit_mask(
    mask: np.ndarray,
    drawn: Iterable[tuple[np.ndarray, bool]],
) -> np.ndarray:
    """Return a copy of a mask with drawn polygons set to support or vacuum, one after the other.

    Parameters
    ----------
    mask : ndarray of bool, shape (Y, X)
        The support.
    drawn : iterable of (ndarray, bool)
        Polygons, (M, 2) corners in pixels (y, x), pixel centres at whole numbers, as of a layer
        of shapes; and whether each is support.
    """
    out = np.array(mask, bool)
    for corners, value in drawn:
        out[polygon2mask(out.shape, np.asarray(corners, float))] = value
    return out


def _find_cores(frame: np.ndarray, pixel_size_nm: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the masks (Y, X) of certain vacuum and of usual support."""
    factor = max(1, round(BLOCK_NM / pixel_size_nm))
    window = max(3, round(WINDOW_NM / BLOCK_NM))
    level, noise, grain = (
        ndimage.percentile_filter(block_mean(x, factor), BELOW_ATOMS, window)
        for x in (frame, *_noise_and_grain(frame, pixel_size_nm))
    )
    if np.ptp(level) == 0:
        return np.zeros(frame.shape, bool), np.ones(frame.shape, bool)
    bright = level > threshold_otsu(level)
    usual_noise, usual_grain = np.median(noise[bright]), np.median(grain[bright])
    is_low_noise = noise < MAX_NOISE * usual_noise
    smooth = grain * usual_noise < MAX_GRAIN * usual_grain * noise
    empty = (noise < NO_NOISE * usual_noise) | (grain < NO_GRAIN * usual_grain)
    # a low percentile enlarges empty regions by a quarter of a window
    smooth |= ndimage.binary_erosion(empty, iterations=window // 4, border_value=1)
    blocks = (factor, factor)
    core, usual = (
        enlarge(x.astype(np.float32), frame.shape, blocks) > 0.5
        for x in (is_low_noise & smooth & ~bright, bright)
    )
    return _remove_small(core, MIN_CORE_NM2 / pixel_size_nm**2), usual


def _noise_and_grain(frame: np.ndarray, pixel_size_nm: float) -> tuple[np.ndarray, np.ndarray]:
    """Return squared deviations (Y, X) between pixels, and at the scale of the grain.

    Only differences along the rows are used, since the level of scan lines fluctuates.
    """
    fine, coarse = (
        max(s / pixel_size_nm, min_sigma) for s, min_sigma in zip(GRAIN_NM, (1, 2), strict=True)
    )
    white = frame - ndimage.gaussian_filter1d(frame, 1.0, axis=1)
    soft = ndimage.gaussian_filter1d(frame, fine, axis=0)
    band = ndimage.gaussian_filter1d(soft, fine, axis=1)
    band = band - ndimage.gaussian_filter1d(soft, coarse, axis=1)
    return white**2, band**2


def _extrapolate_mean(values: np.ndarray, known: np.ndarray, sigma_px: float) -> np.ndarray:
    """Return the local mean (Y, X) of known values, extrapolated by the nearest one."""
    factor = max(1, int(sigma_px / 5))  # a coarse grid suffices for a wide blur
    middle = float(np.median(values[known]))
    total, weight = (
        ndimage.gaussian_filter(block_mean(x, factor), sigma_px / factor)
        for x in (np.where(known, values - middle, 0), known.astype(np.float32))
    )
    known_mean = weight > 1e-3
    mean = np.where(known_mean, total / np.where(known_mean, weight, 1), np.nan)
    return middle + enlarge(without_gaps(mean), values.shape, (factor, factor))


def _open_region(region: np.ndarray, radius_px: float) -> np.ndarray:
    """Open a region (Y, X) by a disc, which removes narrow arms."""
    middles = ndimage.distance_transform_edt(region) > radius_px
    if not middles.any() or middles.all():
        return np.asarray(middles)
    return np.asarray(ndimage.distance_transform_edt(~middles) <= radius_px)


def _select_with_core(core: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Return the parts (Y, X) of a region with a sufficient share of core."""
    parts, n = ndimage.label(region)
    area = np.bincount(parts.ravel(), minlength=n + 1)
    of_core = np.bincount(parts[core], minlength=n + 1)
    sure = (of_core > 0) & (of_core >= MIN_CORE_SHARE * area)
    sure[0] = False
    return np.asarray(sure[parts])


def _reject_spotted(vacuum: np.ndarray, min_px: float) -> np.ndarray:
    """Return the parts (Y, X) of the vacuum with few bright spots, since atoms need a support."""
    spots = ndimage.binary_fill_holes(vacuum) & ~vacuum
    spots &= ~_remove_small(spots, min_px)  # islands of support are not spots
    parts, n = ndimage.label(vacuum | spots)
    area = np.bincount(parts.ravel(), minlength=n + 1)
    bright = np.bincount(parts[spots], minlength=n + 1)
    empty = bright < MAX_SPOTS * area
    empty[0] = False
    return np.asarray(vacuum & empty[parts])


def _remove_small(region: np.ndarray, min_px: float) -> np.ndarray:
    """Return the parts (Y, X) of a region with a minimum area."""
    parts, n = ndimage.label(region)
    area = np.bincount(parts.ravel(), minlength=n + 1)
    area[0] = 0
    return np.asarray((area >= max(min_px, 1))[parts])


def is_on_support(support: np.ndarray, table: pd.DataFrame, pixel_size_nm: float) -> np.ndarray:
    """Return whether the pixel of each atom is support.

    Parameters
    ----------
    support : ndarray of bool, shape (Y, X) or (T, Y, X)
        Pixels of the support.

    Returns
    -------
    ndarray of bool, shape (N,)
        Whether each atom is on the support.
    """
    frame, positions = table["frame"].to_numpy(int), table[["y_nm", "x_nm"]].to_numpy(float)
    on = np.zeros(len(table), bool)
    for index, mask in enumerate(support if support.ndim == 3 else support[None]):
        here = frame == index
        if mask.any():
            on[here] = ObservationWindow(mask, pixel_size_nm).contains(positions[here])
    return on
