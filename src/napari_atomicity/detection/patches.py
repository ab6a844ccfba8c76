"""Patches: each cluster on the same grid in nm, raw and locally contrast-normalised.

A frame is read in tiles, only where it contains clusters; a patch does not depend on the tile.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import grid_sample

from ..core.micrograph import Micrograph
from ..core.patches import PatchSettings
from ..core.progress import Progress, Stop, check, report
from ..core.threads import parallel_map
from .filters import (
    STRIP_PIXELS,
    cubic_weights,
    gaussian,
    inner,
    map_strips,
    mirror_indices,
    reach,
    run_in_strips,
    select,
)
from .frame import Frame, Tile, group_points
from .recording import recording_of

BACKGROUND_WINDOW_NM = 12.0
_TILE_PX = 2048
_CHUNK = 32  # patches at a time: they stay in the processor's cache


def local_contrast(
    frame: np.ndarray,  # (Y, X): finite intensities
    window_px: float,  # standard deviation of the Gaussian windows in pixels
) -> np.ndarray:  # (Y, X), float32: dimensionless
    """Normalise the local contrast: (I - local mean) / local standard deviation.

    Both are Gaussian-weighted (Jarrett et al., ICCV 2009). Where the image is constant, the
    result is 0.
    """
    margin = contrast_margin(window_px)
    middle = np.float32(frame.mean())
    rows, columns = (mirror_indices(-margin, n + margin, n) for n in frame.shape)
    centred = select(frame.astype(np.float32), rows, columns) - middle
    largest = float(np.abs(centred).max(initial=0.0))
    tile = Tile(0, frame.shape[0], 0, frame.shape[1])
    return _contrast(centred, window_px, tile, largest, np.empty(frame.shape, np.float32))


def contrast_margin(window_px: float) -> int:
    """Return the margin in pixels that local contrast requires around a pixel."""
    return 2 * _wide_margin(window_px)


def _contrast(
    centred: np.ndarray, window_px: float, tile: Tile, largest: float, out: np.ndarray
) -> np.ndarray:
    """Normalise the contrast of a tile, from its pixels with a margin of `contrast_margin`."""
    margin = _wide_margin(window_px)
    local = _wide_gaussian(centred, window_px, tile.grown(margin))
    deviation = map_strips(np.subtract, inner(centred, margin), local, out=local)
    variance = _wide_gaussian(map_strips(np.square, deviation), window_px, tile)
    floor = np.float32(1e-6 * largest + np.finfo(np.float32).tiny)

    def normalise(deviation: np.ndarray, variance: np.ndarray) -> np.ndarray:
        spread = np.maximum(variance, 0)
        np.sqrt(spread, out=spread)
        np.maximum(spread, floor, out=spread)
        return np.divide(deviation, spread, out=spread)

    return map_strips(normalise, inner(deviation, margin), variance, out=out)


# ---- a wide Gaussian, on a coarser grid
_SAMPLED = 0.8  # blur before every n-th pixel is taken, in units of n: prevents aliasing


def _coarsening(sigma_px: float) -> int:
    """Return the step of a coarser grid on which a Gaussian has a sigma of at least 3 pixels."""
    return max(1, int(sigma_px / 3))


def _wide_margin(sigma_px: float) -> int:
    factor = _coarsening(sigma_px)
    return reach(sigma_px) if factor == 1 else sum(_reaches(sigma_px, factor)) + 3 * factor


def _reaches(sigma_px: float, factor: int) -> tuple[int, int]:
    """Return the reach of the blur before the coarser grid and of that on it, in pixels."""
    return reach(_SAMPLED * factor), factor * reach(_left(sigma_px, factor))


def _left(sigma_px: float, factor: int) -> float:
    """Return the remaining blur on the coarser grid, in its pixels."""
    return float(np.sqrt((sigma_px / factor) ** 2 - _SAMPLED**2))


def _wide_gaussian(image: np.ndarray, sigma_px: float, tile: Tile) -> np.ndarray:
    """Blur a tile, from its pixels with a margin of `_wide_margin`.

    On a coarser grid whose position does not depend on the tile, followed by cubic interpolation
    (Keys, IEEE Trans. ASSP 29, 1153 (1981)).
    """
    factor, margin = _coarsening(sigma_px), _wide_margin(sigma_px)
    if factor == 1:
        return gaussian(image, sigma_px)
    before, after = _reaches(sigma_px, factor)
    first = [-((margin - before - edge) // factor) for edge in tile.origin]
    cut = [f * factor - before - (e - margin) for f, e in zip(first, tile.origin, strict=True)]
    coarse = gaussian(image[cut[0] :, cut[1] :], _SAMPLED * factor, every=factor)
    coarse = gaussian(coarse, _left(sigma_px, factor))
    first = [f + after // factor for f in first]
    coarse = _cubic(coarse, factor, first[0], tile.top, tile.bottom)
    out = np.empty((len(coarse), tile.right - tile.left), np.float32)

    def fill(top: int, bottom: int) -> None:
        out[top:bottom] = _cubic(coarse[top:bottom].T, factor, first[1], tile.left, tile.right).T

    run_in_strips(fill, len(out), STRIP_PIXELS // max(1, out.shape[1]))
    return out


def _cubic(coarse: np.ndarray, factor: int, first: int, start: int, stop: int) -> np.ndarray:
    """Interpolate the rows ``start`` to ``stop`` from every ``factor``-th row from ``first``."""
    out = np.empty((stop - start, coarse.shape[1]), np.float32)
    for phase in range(factor):
        begin = start + (phase - start) % factor
        n = len(range(begin, stop, factor))
        low = begin // factor - first - 1
        t = phase / factor
        if t == 0:
            out[begin - start :: factor] = coarse[low + 1 : low + 1 + n]
            continue
        weights = cubic_weights(t)
        total = coarse[low : low + n] * np.float32(weights[0])
        for k in (1, 2, 3):
            total += coarse[low + k : low + k + n] * np.float32(weights[k])
        out[begin - start :: factor] = total
    return out


# ---- patches
def extract_patches(
    micrograph: Micrograph,
    table: pd.DataFrame,
    settings: PatchSettings,
    intensity_per_atom: float = 1.0,
    stop: Stop | None = None,
    progress: Progress | None = None,
) -> dict[str, np.ndarray]:
    """Extract the patch of every cluster of a table.

    Parameters
    ----------
    micrograph : Micrograph
        A calibrated image or stack.
    intensity_per_atom : float
        Integrated intensity of one atom in counts nm². The raw channel is divided by it, so that it
        is in atoms per nm² and its integral is a number of atoms.

    Returns
    -------
    dict of str to ndarray
        Channel to patches of shape (N, size_px, size_px), float32.

    Raises
    ------
    CalibrationError
        If the pixel size is unknown.
    """
    pixel_nm = micrograph.calibrated()
    n, size = len(table), settings.size_px
    out = {c: np.zeros((n, size, size), np.float32) for c in settings.channels}
    frames, centres, middles = _patch_positions(micrograph, table)
    half, done = _half_window(pixel_nm, settings), 0
    margin = half + contrast_margin(settings.lcn_window_nm / pixel_nm)
    for index in np.unique(frames):
        frame = _patch_frame(micrograph, int(index))
        of_frame = np.flatnonzero(frames == index)
        for _, own in group_points(middles[of_frame], frame.shape, _TILE_PX, margin):
            check(stop)
            report(progress, done, n, "Cutting patches")
            rows = of_frame[own]
            held = _bounding_tile(middles[rows], half)
            images = channel_images(frame, held, settings)
            put = partial(_put, out, rows, np.float32(intensity_per_atom))
            _sample_patches(images, held, centres[rows], pixel_nm, settings, put)
            done += len(rows)
    return out


def _put(
    out: dict[str, np.ndarray],
    rows: np.ndarray,
    per_atom: np.float32,
    some: slice,
    patches: np.ndarray,
) -> None:
    """Write the patches of some rows."""
    for channel, values in zip(out, patches.swapaxes(0, 1), strict=True):
        out[channel][rows[some]] = values / per_atom if channel == "raw" else values


def _patch_frame(micrograph: Micrograph, index: int) -> Frame:
    """Return a frame on its own pixels, corrected for the effects of its recording."""
    return Frame(
        micrograph.frame(index),
        micrograph.calibrated(),
        window_nm=BACKGROUND_WINDOW_NM,
        recording=recording_of(micrograph, index),
    )


def _patch_positions(
    micrograph: Micrograph, table: pd.DataFrame
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return frames (N,), centres (N, 2) in pixels, and the nearest pixels in the image."""
    centres = table[["y_px", "x_px"]].to_numpy(float)
    middles = np.clip(np.round(centres), 0, np.array(micrograph.shape_px) - 1)
    return table["frame"].to_numpy(int), centres, middles


def _half_window(pixel_nm: float, settings: PatchSettings) -> int:
    """Return the number of pixels on each side of a centre that its patch requires."""
    return int(np.ceil(settings.field_of_view_nm / 2 / pixel_nm)) + 1


def _bounding_tile(middles: np.ndarray, half: int) -> Tile:
    """Return the tile that contains the windows of all these pixels (N, 2)."""
    (top, left), (bottom, right) = middles.min(axis=0), middles.max(axis=0)
    return Tile(int(top) - half, int(bottom) + half + 1, int(left) - half, int(right) + half + 1)


def channel_images(
    frame: Frame,
    tile: Tile,  # part of the frame
    settings: PatchSettings,
) -> np.ndarray:  # (C, Y, X), float32: pixels of the tile in the channels of the settings
    """Compute the channels of a tile."""
    patch_pixel_nm = settings.field_of_view_nm / settings.size_px
    # The same resolution at every magnification, which also prevents aliasing.
    blur = 0.5 * np.sqrt(max(0.0, (patch_pixel_nm / frame.pixel_nm) ** 2 - 1))
    window = settings.lcn_window_nm / frame.pixel_nm
    margin = contrast_margin(window) if "LCN" in settings.channels else 0
    mean, unit = np.float32(frame.mean), np.float32(frame.recording.unit)
    recorded = frame.values(tile.grown(margin + reach(blur)))
    centred = gaussian(map_strips(lambda part: part - mean, recorded), blur)
    images = np.empty((len(settings.channels), *tile.shape), np.float32)
    for channel, image in zip(settings.channels, images, strict=True):
        if channel == "raw":
            own, level = inner(centred, margin), frame.level(tile)
            map_strips(lambda part, base: (part - (base - mean)) * unit, own, level, out=image)
        else:
            largest = max(frame.high - frame.mean, frame.mean - frame.low)
            _contrast(centred, window, tile, largest, image)
    return images


def _sample_patches(
    images: np.ndarray,  # (C, Y, X): channels of a tile
    tile: Tile,  # part of the frame
    centres_px: np.ndarray,  # (N, 2): centres (y, x) of the patches in the frame
    pixel_nm: float,
    settings: PatchSettings,  # field of view and grid
    # ``put(some, patches)`` takes the patches of some centres, (n, C, size_px, size_px)
    put: Callable[[slice, np.ndarray], None],
) -> None:
    """Interpolate channels linearly on the grids of patches."""
    half, size = _half_window(pixel_nm, settings), settings.size_px
    edge = 2 * half + 1
    windows = torch.from_numpy(images).unfold(1, edge, 1).unfold(2, edge, 1).permute(1, 2, 0, 3, 4)
    middles = np.clip(np.round(centres_px).astype(int) - tile.origin, half, None)
    middles = np.minimum(middles, np.array(images.shape[1:]) - half - 1)
    at = torch.from_numpy(middles - half)
    offset = (np.arange(size) - (size - 1) / 2) * settings.field_of_view_nm / size / pixel_nm
    # Relative to its own window, so that precision does not depend on the size of the image.
    own = centres_px - tile.origin - middles
    y, x = (torch.from_numpy((own[:, [i]] + offset) / half).float() for i in (0, 1))

    def sample(rows: slice) -> None:
        cut = windows[at[rows, 0], at[rows, 1]]
        grid = torch.empty((len(cut), size, size, 2))
        grid[..., 0], grid[..., 1] = x[rows, None], y[rows, :, None]
        put(rows, grid_sample(cut, grid, "bilinear", "border", align_corners=True).numpy())

    parallel_map(sample, [slice(i, i + _CHUNK) for i in range(0, len(centres_px), _CHUNK)])
