"""Patches extracted on a GPU: the frame is uploaded in tiles, and the patches remain on the device.

The CPU estimates the background and fills gaps. The channels are those of `detection.patches`,
computed by Fourier transform, whose time does not depend on the width of the window. Results differ
by rounding and by the coarser grids of that module.
"""

from __future__ import annotations

import logging
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..core.devices import (
    DeviceLostError,
    is_device_loss,
    is_out_of_memory,
    release_memory,
    report_device_loss,
    upload,
    use_cpu_instead,
)
from ..core.micrograph import Micrograph
from ..core.patches import Patches, PatchSettings
from ..core.progress import Progress, Stop, check
from .background import BackgroundGrid, neighbouring_blocks
from .filters import mirror_indices, reach
from .frame import Frame, Tile, tiles
from .patches import (
    bounding_tile,
    extract_patches,
    half_window,
    patch_frame,
    patch_positions,
    sample_patches,
)

_log = logging.getLogger(__name__)

_TILE_PX = 8192
_MIN_TILE_PX = 512
_CHUNK = 1024  # patches sampled at a time


def patches_for_device(
    device: torch.device,
    micrograph: Micrograph,  # a calibrated image or stack
    table: pd.DataFrame,
    settings: PatchSettings,
    intensity_per_atom: float = 1.0,  # integrated intensity of one atom in counts nm²
    stop: Stop | None = None,
    progress: Progress | None = None,
) -> Patches:
    """Extract patches on a device if it is a GPU with enough memory, otherwise on the CPU.

    The result maps each channel to its patches (N, size_px, size_px), float32: tensors on the
    device, or arrays from the CPU. Raises `CalibrationError` if the pixel size is unknown.
    """
    tile_px = _TILE_PX
    while device.type == "cuda" and tile_px >= _MIN_TILE_PX:
        try:
            return patches_on_device(
                device, micrograph, table, settings, intensity_per_atom, stop, tile_px
            )
        except RuntimeError as error:
            tile_px //= 2
            if is_out_of_memory(error) and tile_px >= _MIN_TILE_PX:
                release_memory(device)
                _log.warning("out of GPU memory: cutting patches in tiles of %d pixels", tile_px)
                continue
            if not use_cpu_instead(error, device):
                raise
            break
    return extract_patches(micrograph, table, settings, intensity_per_atom, stop, progress)


def as_arrays(patches: Patches) -> dict[str, np.ndarray]:
    """Return the patches as arrays in main memory.

    Raises `DeviceLostError` if the device that holds them is lost.
    """
    return {channel: _as_array(values) for channel, values in patches.items()}


def _as_array(values: np.ndarray | Tensor) -> np.ndarray:
    if not isinstance(values, Tensor):
        return values
    try:
        return values.cpu().numpy()
    except RuntimeError as error:
        if not is_device_loss(error, values.device):
            raise
        report_device_loss(values.device, error)
        raise DeviceLostError("the patches were lost with the device") from error


@torch.inference_mode()
def patches_on_device(
    device: torch.device,
    micrograph: Micrograph,  # a calibrated image or stack
    table: pd.DataFrame,
    settings: PatchSettings,
    intensity_per_atom: float = 1.0,  # integrated intensity of one atom in counts nm²
    stop: Stop | None = None,
    tile_px: int = _TILE_PX,  # edge length of a tile in pixels
) -> dict[str, Tensor]:  # channel to patches of shape (N, size_px, size_px), float32
    """Extract patches with PyTorch on any device; see `detection.patches.extract_patches`.

    Raises `CalibrationError` as `detection.patches.extract_patches` does. Raises
    `torch.OutOfMemoryError` if a tile does not fit into memory.
    """
    pixel_nm = micrograph.calibrated()
    n, size = len(table), settings.size_px
    out = {c: torch.zeros((n, size, size), device=device) for c in settings.channels}
    frames, centres, middles = patch_positions(micrograph, table)
    for index in np.unique(frames):
        frame = patch_frame(micrograph, int(index))
        for tile in tiles(frame.shape, tile_px):
            rows = np.flatnonzero((frames == index) & tile.holds(middles))
            if len(rows) == 0:
                continue
            check(stop)
            held = bounding_tile(middles[rows], half_window(pixel_nm, settings))
            images = _channels(frame, held, settings, device)
            whole = torch.stack(list(images.values()))
            put = partial(_put, out, torch.from_numpy(rows).to(device), list(images))
            sample_patches(whole, held, centres[rows], pixel_nm, settings, put, _CHUNK, map)
    if "raw" in out:
        out["raw"] /= intensity_per_atom
    return out


def _put(
    out: dict[str, Tensor], rows: Tensor, channels: list[str], some: slice, patches: Tensor
) -> None:
    """Write the patches of some rows."""
    for channel, values in zip(channels, patches.unbind(1), strict=True):
        out[channel][rows[some]] = values


def _channels(
    frame: Frame, tile: Tile, settings: PatchSettings, device: torch.device
) -> dict[str, Tensor]:
    """Compute the channels of a tile; see `detection.patches.channel_images`."""
    patch_pixel_nm = settings.field_of_view_nm / settings.size_px
    blur = 0.5 * np.sqrt(max(0.0, (patch_pixel_nm / frame.pixel_nm) ** 2 - 1))
    window = settings.lcn_window_nm / frame.pixel_nm
    margin = 2 * reach(window) if "LCN" in settings.channels else 0
    recorded = upload(frame.values(tile.grown(margin + reach(blur))), device)
    centred = _gaussian(recorded - frame.mean, blur)
    images = {}
    if "raw" in settings.channels:
        level = _level(frame, tile, device) - frame.mean
        images["raw"] = (_inner(centred, margin) - level) * frame.recording.unit
    if "LCN" in settings.channels:
        once = reach(window)
        deviation = _inner(centred, once) - _gaussian(centred, window)
        spread = _gaussian(deviation**2, window).clamp_min_(0).sqrt_()
        largest = max(frame.high - frame.mean, frame.mean - frame.low)
        floor = 1e-6 * largest + float(np.finfo(np.float32).tiny)
        images["LCN"] = _inner(deviation, once) / spread.clamp_min_(floor)
    return images


def _gaussian(image: Tensor, sigma_px: float) -> Tensor:
    """Blur an image; the result is smaller by `reach` on every side, where pixels wrap around."""
    half = reach(sigma_px)
    if half == 0:
        return image
    shape = image.shape
    frequency = [torch.fft.fftfreq(shape[0], device=image.device)]
    frequency += [torch.fft.rfftfreq(shape[1], device=image.device)]
    down, across = (torch.exp(-2 * (np.pi * sigma_px * f) ** 2) for f in frequency)
    spectrum = torch.fft.rfft2(image)
    spectrum *= down[:, None]
    spectrum *= across
    return _inner(torch.fft.irfft2(spectrum, s=shape), half)


def _level(frame: Frame, tile: Tile, device: torch.device) -> Tensor:
    """Compute `Frame.level` on the device."""
    ends = ((tile.top, tile.bottom), (tile.left, tile.right))
    y, x = (mirror_indices(*end, n) for end, n in zip(ends, frame.shape, strict=True))
    return _grid_at(frame.background, y, x, device)


def _grid_at(grid: BackgroundGrid, y: np.ndarray, x: np.ndarray, device: torch.device) -> Tensor:
    """Compute `BackgroundGrid.at` on the device; only the coarse grid is uploaded."""
    out = torch.from_numpy(np.ascontiguousarray(grid.values)).to(device)
    for axis, position in enumerate((y, x)):
        low, high, share = neighbouring_blocks(position, grid.block[axis], out.shape[axis])
        weight = torch.from_numpy(share).to(device)
        weight = weight[:, None] if axis == 0 else weight
        first, second = (
            out.index_select(axis, torch.from_numpy(i).to(device)) for i in (low, high)
        )
        out = first + (second - first).mul_(weight)
    return out


def _inner(image: Tensor, margin: int) -> Tensor:
    """Remove ``margin`` pixels on every side."""
    return image[margin : image.shape[0] - margin, margin : image.shape[1] - margin]
