"""Patches: each cluster on the same grid in nm, raw and locally contrast-normalised.

A frame is read in tiles, only where it contains clusters; a patch does not depend on the tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

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
    mirror_indices,
    reach,
    run_in_strips,
    run_in_threads,
    select,
)
from .frame import Frame, Tile, group_points
from .recording import recording_of

BACKGROUND_WINDOW_NM = 12.0
_TILE_PX = 2048
_CHUNK = 128  # patches at a time: they stay in the processor's cache


def local_contrast(frame: np.ndarray, window_px: float) -> np.ndarray:
    """Normalise the local contrast: (I - local mean) / local standard deviation.

    Both are Gaussian-weighted (Jarrett et al., ICCV 2009). Where the image is constant, the
    result is 0.

    Parameters
    ----------
    frame : ndarray of shape (Y, X)
        Finite intensities.
    window_px : float
        Standard deviation of the Gaussian windows in pixels.

    Returns
    -------
    ndarray of shape (Y, X), float32
        Dimensionless.
    """
    margin = contrast_margin(window_px)
    middle = np.float32(frame.mean())
    rows, columns = (mirror_indices(-margin, n + margin, n) for n in frame.shape)
    centred = select(frame.astype(np.float32), rows, columns) - middle
    largest = float(np.abs(centred).max(initial=0.0))
    return _contrast(centred, window_px, Tile(0, frame.shape[0], 0, frame.shape[1]), largest)


def contrast_margin(window_px: float) -> int:
    """Return the margin in pixels that local contrast requires around a pixel."""
    return 2 * _wide_margin(window_px)


def _contrast(centred: np.ndarray, window_px: float, tile: Tile, largest: float) -> np.ndarray:
    """Normalise the contrast of a tile, from its pixels with a margin of `contrast_margin`."""
    margin = _wide_margin(window_px)
    deviation = inner(centred, margin) - _wide_gaussian(centred, window_px, tile.grown(margin))
    variance = _wide_gaussian(deviation**2, window_px, tile)
    floor = np.float32(1e-6 * largest + np.finfo(np.float32).tiny)
    deviation = inner(deviation, margin)

    def fill(top: int, bottom: int) -> None:
        spread = np.maximum(variance[top:bottom], 0)
        np.sqrt(spread, out=spread)
        np.maximum(spread, floor, out=spread)
        np.divide(deviation[top:bottom], spread, out=variance[top:bottom])

    run_in_strips(fill, len(variance), STRIP_PIXELS // max(1, variance.shape[1]))
    return variance


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
    return _cubic(coarse.T, factor, first[1], tile.left, tile.right).T


def _cubic(coarse: np.ndarray, factor: int, first: int, start: int, stop: int) -> np.ndarray:
    """Interpolate the rows ``start`` to ``stop`` from every ``factor``-th row from ``first``."""
    out = np.empty((stop - start, coarse.shape[1]), np.float32)

    def fill(phase: int) -> None:
        begin = start + (phase - start) % factor
        n = len(range(begin, stop, factor))
        low = begin // factor - first - 1
        t = phase / factor
        if t == 0:
            out[begin - start :: factor] = coarse[low + 1 : low + 1 + n]
            return
        weights = cubic_weights(t)
        total = coarse[low : low + n] * np.float32(weights[0])
        for k in (1, 2, 3):
            total += coarse[low + k : low + k + n] * np.float32(weights[k])
        out[begin - start :: factor] = total

    run_in_threads(fill, range(factor))
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
    table : pandas.DataFrame
        The cluster table; ``frame``, ``y_px`` and ``x_px`` are used.
    settings : PatchSettings
        Field of view, grid, channels.
    intensity_per_atom : float
        Integrated intensity of one atom in counts nm². The raw channel is divided by it, so that it
        is in atoms per nm² and its integral is a number of atoms.
    stop, progress : callable, optional
        Called before each tile.

    Returns
    -------
    dict of str to ndarray
        Channel to patches of shape (N, size_px, size_px), float32.

    Raises
    ------
    CalibrationError
        If the pixel size is unknown.
    Cancelled
        If ``stop()`` is true.
    """
    pixel_nm = micrograph.calibrated()
    n, size = len(table), settings.size_px
    out = {c: np.zeros((n, size, size), np.float32) for c in settings.channels}
    frames, centres, middles = patch_positions(micrograph, table)
    half, done = half_window(pixel_nm, settings), 0
    margin = half + contrast_margin(settings.lcn_window_nm / pixel_nm)
    for index in np.unique(frames):
        frame = patch_frame(micrograph, int(index))
        of_frame = np.flatnonzero(frames == index)
        for _, own in group_points(middles[of_frame], frame.shape, _TILE_PX, margin):
            check(stop)
            report(progress, done, n, "Cutting patches")
            rows = of_frame[own]
            held = bounding_tile(middles[rows], half)
            images = channel_images(frame, held, settings)
            whole = torch.from_numpy(np.stack(list(images.values())))
            patches = sample_patches(whole, held, centres[rows], pixel_nm, settings)
            for channel, values in zip(images, patches.transpose(0, 1).numpy(), strict=True):
                out[channel][rows] = values
            done += len(rows)
    if "raw" in out:
        out["raw"] /= np.float32(intensity_per_atom)
    return out


def patch_frame(micrograph: Micrograph, index: int) -> Frame:
    """Return a frame on its own pixels, corrected for the effects of its recording."""
    return Frame(
        micrograph.frame(index),
        micrograph.calibrated(),
        window_nm=BACKGROUND_WINDOW_NM,
        recording=recording_of(micrograph, index),
    )


def patch_positions(
    micrograph: Micrograph, table: pd.DataFrame
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return frames (N,), centres (N, 2) in pixels, and the nearest pixels in the image."""
    centres = table[["y_px", "x_px"]].to_numpy(float)
    middles = np.clip(np.round(centres), 0, np.array(micrograph.shape_px) - 1)
    return table["frame"].to_numpy(int), centres, middles


def half_window(pixel_nm: float, settings: PatchSettings) -> int:
    """Return the number of pixels on each side of a centre that its patch requires."""
    return int(np.ceil(settings.field_of_view_nm / 2 / pixel_nm)) + 1


def bounding_tile(middles: np.ndarray, half: int) -> Tile:
    """Return the tile that contains the windows of all these pixels (N, 2)."""
    (top, left), (bottom, right) = middles.min(axis=0), middles.max(axis=0)
    return Tile(int(top) - half, int(bottom) + half + 1, int(left) - half, int(right) + half + 1)


def channel_images(frame: Frame, tile: Tile, settings: PatchSettings) -> dict[str, np.ndarray]:
    """Compute the channels of a tile.

    Parameters
    ----------
    frame : Frame
        The frame.
    tile : Tile
        Part of the frame.
    settings : PatchSettings
        Field of view, grid, channels.

    Returns
    -------
    dict of str to ndarray
        Channel to pixels of the tile, float32.
    """
    patch_pixel_nm = settings.field_of_view_nm / settings.size_px
    # The same resolution at every magnification, which also prevents aliasing.
    blur = 0.5 * np.sqrt(max(0.0, (patch_pixel_nm / frame.pixel_nm) ** 2 - 1))
    window = settings.lcn_window_nm / frame.pixel_nm
    margin = contrast_margin(window) if "LCN" in settings.channels else 0
    recorded = frame.values(tile.grown(margin + reach(blur)))
    centred = gaussian(recorded - np.float32(frame.mean), blur)
    images = {}
    if "raw" in settings.channels:
        images["raw"] = inner(centred, margin) - (frame.level(tile) - np.float32(frame.mean))
        images["raw"] *= np.float32(frame.recording.unit)
    if "LCN" in settings.channels:
        largest = max(frame.high - frame.mean, frame.mean - frame.low)
        images["LCN"] = _contrast(centred, window, tile, largest)
    return images


def sample_patches(
    images: torch.Tensor,
    tile: Tile,
    centres_px: np.ndarray,
    pixel_nm: float,
    settings: PatchSettings,
    chunk: int = _CHUNK,
    apply: Callable[..., Iterable[torch.Tensor]] = parallel_map,
) -> torch.Tensor:
    """Interpolate channels linearly on the grids of patches.

    Parameters
    ----------
    images : Tensor of shape (C, Y, X)
        Channels of a tile.
    tile : Tile
        Part of the frame.
    centres_px : ndarray of shape (N, 2)
        Centres (y, x) of the patches in the frame.
    pixel_nm : float
        Pixel size.
    settings : PatchSettings
        Field of view and grid.
    chunk : int, optional
        Number of patches at a time.
    apply : callable, optional
        `core.threads.parallel_map`, or `map` without threads.

    Returns
    -------
    Tensor of shape (N, C, size_px, size_px)
        The patches, on the device of the images.
    """
    half, size = half_window(pixel_nm, settings), settings.size_px
    edge, device = 2 * half + 1, images.device
    windows = images.unfold(1, edge, 1).unfold(2, edge, 1).permute(1, 2, 0, 3, 4)
    middles = np.clip(np.round(centres_px).astype(int) - tile.origin, half, None)
    middles = np.minimum(middles, np.array(images.shape[1:]) - half - 1)
    at = torch.from_numpy(middles - half).to(device)
    offset = (np.arange(size) - (size - 1) / 2) * settings.field_of_view_nm / size / pixel_nm
    # Relative to its own window, so that precision does not depend on the size of the image.
    own = centres_px - tile.origin - middles
    y, x = (torch.from_numpy((own[:, [i]] + offset) / half).float().to(device) for i in (0, 1))

    def sample(rows: slice) -> torch.Tensor:
        cut = windows[at[rows, 0], at[rows, 1]]
        grid = torch.empty((len(cut), size, size, 2), device=device)
        grid[..., 0], grid[..., 1] = x[rows, None], y[rows, :, None]
        return grid_sample(cut, grid, "bilinear", "border", align_corners=True)

    chunks = [slice(start, start + chunk) for start in range(0, len(centres_px), chunk)]
    return torch.cat(list(apply(sample, chunks)))
