"""Sampling of the probe in windows around atoms, on the CPU or with PyTorch on a device."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage


def atom_windows(
    place_px: np.ndarray,
    shape: tuple[int, int],
    half: int,
    displacement_px: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the windows of pixels around N atoms, of W = 2 × half + 1 pixels along an edge.

    Parameters
    ----------
    place_px : ndarray of shape (N, 2)
        Positions (y, x) in pixels.
    shape : tuple of int
        Of the image.
    half : int
        Half width of a window in pixels.
    displacement_px : tuple of ndarray
        Displacements of the beam, see `imaging.scan_positions`.

    Returns
    -------
    rows, columns : ndarray of shape (N, W)
        Distance of the pixels of each row and column from the atom, in pixels.
    shift : ndarray of shape (N, W)
        Displacement of the beam along x in each row, in pixels.
    inside : ndarray of shape (N, W, W)
        Whether a pixel of the window is in the image.
    index : ndarray of shape (N, W, W)
        Flat index of the pixel in the image.
    """
    dy, dx = displacement_px
    window = np.arange(-half, half + 1)
    # the window is where the drifting beam meets the atom
    nominal = np.clip(np.round(place_px[:, 0]).astype(int), 0, shape[0] - 1)
    centre = np.round(place_px[:, 0] - dy[nominal]).astype(int)
    iy = centre[:, None] + window
    row = np.clip(iy, 0, shape[0] - 1)
    shift_at_centre = dx[np.clip(centre, 0, shape[0] - 1)]
    ix = np.round(place_px[:, 1] - shift_at_centre).astype(int)[:, None] + window
    column = np.clip(ix, 0, shape[1] - 1)
    inside = (iy == row)[:, :, None] & (ix == column)[:, None]
    index = row[:, :, None] * shape[1] + column[:, None]
    return iy + dy[row] - place_px[:, :1], ix - place_px[:, 1:], dx[row], inside, index


def sample_on_cpu(
    table: np.ndarray,
    off_y: np.ndarray,
    off_x: np.ndarray,
    stray: np.ndarray,
    weight: np.ndarray,
    inside: np.ndarray,
    index: np.ndarray,
    size: int,
) -> np.ndarray:
    """Return the sum over atoms of weight times probe, (size,) float32.

    Parameters
    ----------
    table : ndarray of shape (P, P)
        The probe, finely sampled.
    off_y, off_x, stray : ndarray of shape (N, W)
        Coordinates in the table of the rows and columns of a window around each atom, and the shift
        of all columns of a row.
    weight : ndarray of shape (N,)
        Cross-sections.
    inside, index : ndarray of shape (N, W, W)
        Whether a pixel of the window is in the image, and its flat index there.
    size : int
        Number of pixels of the image.
    """
    xx = off_x[:, None, :] + stray[:, :, None]
    yy = np.broadcast_to(off_y[:, :, None], xx.shape)
    value = ndimage.map_coordinates(table, [yy, xx], order=1, mode="constant")
    value *= weight[:, None, None]
    value = np.where(inside, value, 0)
    return np.bincount(index.ravel(), value.ravel(), minlength=size).astype(np.float32)


def sample_on_device(device: str, table: np.ndarray, *arrays: Any) -> np.ndarray:
    """Compute the same as `sample_on_cpu` with PyTorch on a device."""
    import torch

    *coordinates, weight, inside, index, size = arrays
    height, width = table.shape
    flat = torch.from_numpy(table.ravel()).to(device)
    off_y, off_x, stray, weight = (
        torch.from_numpy(np.asarray(a, np.float32)).to(device) for a in (*coordinates, weight)
    )
    yy, xx = off_y[:, :, None], off_x[:, None, :] + stray[:, :, None]
    y0, x0 = yy.floor(), xx.floor()
    ty, tx = yy - y0, xx - x0
    on_table = (y0 >= 0) & (y0 < height - 1) & (x0 >= 0) & (x0 < width - 1)
    corner = y0.long().clamp(0, height - 2) * width + x0.long().clamp(0, width - 2)
    near = flat[corner] * (1 - tx) + flat[corner + 1] * tx
    far = flat[corner + width] * (1 - tx) + flat[corner + width + 1] * tx
    value = (near * (1 - ty) + far * ty) * weight[:, None, None]
    value = value * (on_table & torch.from_numpy(inside).to(device))
    image = torch.zeros(size, dtype=torch.float32, device=device)
    image.index_add_(0, torch.from_numpy(index.ravel()).to(device), value.ravel())
    return np.asarray(image.cpu().numpy())
