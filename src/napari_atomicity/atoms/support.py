"""The support in an image: where atoms could lie. Vacuum does not count.

Nothing is known of the black level, of stray light or of the thickness, so no level of intensity
says "vacuum" by itself. Three things together do:

- *little noise*: what few electrons arrive scatter little. A step in thickness dims as well, but
  only in proportion;
- *no texture*: amorphous carbon is grainy at 0.1 to 0.3 nm, and the grain goes with the noise as
  the thickness does (both variances are those of numbers, one of atoms and one of electrons).
  Their ratio is the same on thick and thin support, and falls in vacuum;
- *no atoms*: nothing holds them there.

From such cores vacuum reaches as far as the level stays near theirs, place by place, since stray
light makes it uneven. Where a core fails one of these there is none, so that an image without
vacuum is all support. Without visible grain (low dose, coarse pixels) nothing is called vacuum but
what has hardly any noise; a person can draw the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from skimage.draw import polygon2mask
from skimage.filters import threshold_otsu

from ..detection.background import block_mean, enlarge, without_gaps

LEVEL_SIGMAS_NM = (0.1, 0.15, 0.22, 0.33, 0.5)
"""Blur under the level, the first that parts support from vacuum in spite of the noise: the rim
of the support is that of the image within this."""
GRAIN_NM = (0.08, 0.3)
"""Standard deviations between which the grain of amorphous carbon lies."""
BLOCK_NM, WINDOW_NM = 0.15, 1.2
BELOW_ATOMS = 25
"""Level, noise and grain are means over blocks, and this percentile of the blocks in a window:
atoms, which are brighter, noisier and grainier than the support, may cover much of it."""
MAX_NOISE = 0.4
"""Variance of the noise in vacuum, as a share of the support's; a step by less than 2.5 times in
thickness never looks like vacuum."""
NO_NOISE, NO_GRAIN = 0.03, 1e-3
"""Variances so low, as a share of the support's, that their ratio need not be asked: of a vacuum
clipped at zero, or of a detector that counts."""
MAX_GRAIN = 0.35
"""Ratio of grain to noise (variances) in vacuum, as a share of the support's."""
MIN_CORE_NM2, MIN_NM2 = 0.3, 1.0
"""Smallest core, and smallest vacuum; what is smaller is a pore of the texture."""
MIN_CORE_SHARE = 0.1
"""Share of a vacuum that must be beyond doubt."""
MAX_SPOTS = 0.02
"""Share of a vacuum that small bright spots can cover; with more it is thin support."""
RIM = 0.15
"""Where the support begins: at this share of its usual level above the vacuum beside it."""


def support_mask(pixels: np.ndarray, pixel_size_nm: float) -> np.ndarray:
    """Where the image shows support rather than vacuum.

    Parameters
    ----------
    pixels : ndarray
        Intensities (Y, X) of one frame. Pixels that are not finite were not recorded, and are no
        support.
    pixel_size_nm : float
        Edge length of a pixel in nm.

    Returns
    -------
    ndarray of bool
        (Y, X); True is support. Bright spots always are, in vacuum too.
    """
    pixels = np.asarray(pixels, np.float32)
    recorded = np.isfinite(pixels)
    if not recorded.any():
        return recorded
    frame = without_gaps(pixels)
    core, usual = _cores(frame, pixel_size_nm)
    if not core.any():
        return recorded
    for sigma_nm in LEVEL_SIGMAS_NM:
        level = ndimage.gaussian_filter(frame, sigma_nm / pixel_size_nm, mode="nearest")
        above = level - _spread_out(level, core, WINDOW_NM / pixel_size_nm)
        rim = RIM * float(np.median(above[usual]))
        scatter = 1.4826 * float(np.median(np.abs(above[core])))
        if 4 * scatter < rim and np.mean(above[usual] < rim) < 0.002:
            break
    else:  # the two can't be told apart
        return recorded
    dark = _opened(above < rim, BLOCK_NM / 2 / pixel_size_nm)
    least_px = MIN_NM2 / pixel_size_nm**2
    vacuum = _large(_around(core, dark), least_px)
    return np.asarray(recorded & ~_without_spots(vacuum, least_px))


def edit_mask(
    mask: np.ndarray,
    added: Sequence[np.ndarray] = (),
    removed: Sequence[np.ndarray] = (),
) -> np.ndarray:
    """A copy of a mask with polygons that a person drew made support or vacuum.

    Parameters
    ----------
    mask : ndarray of bool, shape (Y, X)
    added, removed : sequence of ndarray, optional
        Polygons, (M, 2) corners in pixels (y, x), pixel centres at whole numbers, as of a layer
        of shapes. What is removed goes last.
    """
    out = np.array(mask, bool)
    for polygons, value in ((added, True), (removed, False)):
        for corners in polygons:
            out[polygon2mask(out.shape, np.asarray(corners, float))] = value
    return out


def area_nm2(mask: np.ndarray, pixel_size_nm: float) -> float:
    """Area of the support in nm²."""
    return float(np.count_nonzero(mask)) * pixel_size_nm**2


def _cores(frame: np.ndarray, pixel_size_nm: float) -> tuple[np.ndarray, np.ndarray]:
    """Places (Y, X) bool that are vacuum beyond doubt, and places of the usual support."""
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
    quiet = noise < MAX_NOISE * usual_noise
    smooth = grain * usual_noise < MAX_GRAIN * usual_grain * noise
    empty = (noise < NO_NOISE * usual_noise) | (grain < NO_GRAIN * usual_grain)
    # a low percentile carries what is empty a quarter of a window beyond its edge
    smooth |= ndimage.binary_erosion(empty, iterations=window // 4, border_value=1)
    blocks = (factor, factor)
    core, usual = (
        enlarge(x.astype(np.float32), frame.shape, blocks) > 0.5
        for x in (quiet & smooth & ~bright, bright)
    )
    return _large(core, MIN_CORE_NM2 / pixel_size_nm**2), usual


def _noise_and_grain(frame: np.ndarray, pixel_size_nm: float) -> tuple[np.ndarray, np.ndarray]:
    """Squared deviations (Y, X) from pixel to pixel, and at the scale of the grain.

    Only differences along the rows count: scan lines differ in level for reasons of their own.
    """
    fine, coarse = (
        max(s / pixel_size_nm, least) for s, least in zip(GRAIN_NM, (1, 2), strict=True)
    )
    white = frame - ndimage.gaussian_filter1d(frame, 1.0, axis=1)
    soft = ndimage.gaussian_filter1d(frame, fine, axis=0)
    band = ndimage.gaussian_filter1d(soft, fine, axis=1)
    band = band - ndimage.gaussian_filter1d(soft, coarse, axis=1)
    return white**2, band**2


def _spread_out(values: np.ndarray, known: np.ndarray, sigma_px: float) -> np.ndarray:
    """Local mean (Y, X) of the values where they are known, the nearest one far from there."""
    factor = max(1, int(sigma_px / 5))  # a wide blur needs no fine grid
    middle = float(np.median(values[known]))
    total, weight = (
        ndimage.gaussian_filter(block_mean(x, factor), sigma_px / factor)
        for x in (np.where(known, values - middle, 0), known.astype(np.float32))
    )
    sure = weight > 1e-3
    mean = np.where(sure, total / np.where(sure, weight, 1), np.nan)
    return middle + enlarge(without_gaps(mean), values.shape, (factor, factor))


def _opened(region: np.ndarray, radius_px: float) -> np.ndarray:
    """The union (Y, X) of the discs that fit into a region: no narrow arms."""
    middles = ndimage.distance_transform_edt(region) > radius_px
    if not middles.any() or middles.all():
        return np.asarray(middles)
    return np.asarray(ndimage.distance_transform_edt(~middles) <= radius_px)


def _around(core: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The parts (Y, X) of a region of which enough is core."""
    parts, n = ndimage.label(region)
    area = np.bincount(parts.ravel(), minlength=n + 1)
    of_core = np.bincount(parts[core], minlength=n + 1)
    sure = (of_core > 0) & (of_core >= MIN_CORE_SHARE * area)
    sure[0] = False
    return np.asarray(sure[parts])


def _without_spots(vacuum: np.ndarray, least_px: float) -> np.ndarray:
    """The parts (Y, X) of the vacuum in which hardly a spot is bright: atoms don't float."""
    spots = ndimage.binary_fill_holes(vacuum) & ~vacuum
    spots &= ~_large(spots, least_px)  # an island of support is none
    parts, n = ndimage.label(vacuum | spots)
    area = np.bincount(parts.ravel(), minlength=n + 1)
    bright = np.bincount(parts[spots], minlength=n + 1)
    empty = bright < MAX_SPOTS * area
    empty[0] = False
    return np.asarray(vacuum & empty[parts])


def _large(region: np.ndarray, least_px: float) -> np.ndarray:
    """The parts (Y, X) of a region of at least so many pixels."""
    parts, n = ndimage.label(region)
    area = np.bincount(parts.ravel(), minlength=n + 1)
    area[0] = 0
    return np.asarray((area >= max(least_px, 1))[parts])
