"""Pictures of many patches at once, and a store of those that were painted last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from matplotlib import colormaps
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QImage, QPixmap

from ..controls.patch_view import COLORMAP, hatch_padding


@dataclass(frozen=True)
class Overlay:
    """Content of a tile.

    Parameters
    ----------
    same_scale : bool
        Whether all tiles share one grey scale.
    """

    channel: str
    with_map: bool
    same_scale: bool
    tooltip: str


OVERLAYS: dict[str, Overlay] = {
    "raw": Overlay("raw", False, False, "Each patch with its own grey scale, for its shape."),
    "raw, same scale": Overlay(
        "raw",
        False,
        True,
        "All patches with one grey scale in units of the intensity of one atom: clusters of "
        "more atoms are brighter.",
    ),
    "LCN": Overlay("LCN", False, False, "The patch after local contrast normalisation."),
    "class map raw": Overlay("raw", True, False, "Class map of the raw patch."),
    "class map LCN": Overlay("LCN", True, False, "Class map of the normalised patch."),
}
"""Contents of tiles by name."""

STORE_BYTES = 64 * 2**20
"""Pictures that are kept, some thousands of small ones; others are made again in 0.1 ms each."""

_STRETCH = (0.01, 0.998)
_SAMPLE = 200
_OPACITY = 0.75
_DIMMED = 0.55


def compose_many(
    patches: np.ndarray,
    maps: np.ndarray | None = None,
    limits: tuple[float, float] | None = None,
) -> np.ndarray:
    """Patches in grey, under their class maps where these are given.

    Each patch is stretched between its own 1st and 99.8th percentiles and each map to its own
    maximum, as in `patchview.compose`, but at the size of the patches and all at once.

    Parameters
    ----------
    patches : ndarray
        (N, P, P); what is not finite is hatched, or black if nothing is finite.
    maps : ndarray, optional
        (N, h, w) over the same field of view.
    limits : tuple[float, float], optional
        Black and white of all patches, instead of their own.

    Returns
    -------
    numpy.ndarray
        (N, P, P) uint8 without maps, (N, P, P, 3) with them.
    """
    n, size, _ = patches.shape
    flat = np.asarray(patches, np.float32).reshape(n, -1)
    finite = np.isfinite(flat)
    if not finite.all():
        darkest = np.where(finite, flat, np.inf).min(axis=1, keepdims=True)
        flat = np.where(finite, flat, np.where(np.isfinite(darkest), darkest, 0))
    low, high = _quantiles(flat, _STRETCH) if limits is None else limits
    grey = np.clip((flat - low) / np.maximum(high - low, 1e-12), 0, 1).reshape(patches.shape)
    if maps is None:
        pixels = (255 * grey + 0.5).astype(np.uint8)
        hatch_padding(pixels, patches)
        return pixels
    strength = np.clip(np.nan_to_num(np.asarray(maps, np.float32)), 0, None)
    strength /= np.maximum(strength.max(axis=(1, 2), keepdims=True), 1e-12)
    rows, columns = (_enlarging(length, size) for length in strength.shape[1:])
    strength = np.clip(rows @ strength @ columns.T, 0, 1)
    ground = _DIMMED * grey * (1 - _OPACITY * strength)
    colour = _lut()[(255 * strength + 0.5).astype(np.uint8)] * (_OPACITY * strength)[..., None]
    pixels = (255 * np.clip(ground[..., None] + colour, 0, 1) + 0.5).astype(np.uint8)
    hatch_padding(pixels, patches)
    return pixels


def common_limits(stacks: Sequence[np.ndarray]) -> tuple[float, float]:
    """Black and white for patches (N, P, P) of several images, from some hundred of them all."""
    n = sum(len(stack) for stack in stacks)
    every = max(1, n // _SAMPLE)
    some = [stack[::every].ravel() for stack in stacks]
    pixels = np.concatenate(some) if some else np.zeros(0, np.float32)
    pixels = pixels[np.isfinite(pixels)]
    if not len(pixels):
        return 0.0, 1.0
    low, high = _quantiles(pixels[None], _STRETCH)
    return float(low[0, 0]), float(high[0, 0])


def _quantiles(rows: np.ndarray, shares: tuple[float, ...]) -> list[np.ndarray]:
    """As `numpy.quantile` of each row, (N, 1) for each share; in an eighth of its time."""
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


@lru_cache(maxsize=1)
def _lut() -> np.ndarray:
    return np.asarray(colormaps[COLORMAP](np.arange(256))[:, :3], np.float32)


@lru_cache(maxsize=16)
def _enlarging(length: int, size: int) -> np.ndarray:
    """(size, length): linear interpolation with outer edges on outer edges."""
    at = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
    low = np.minimum(at.astype(int), max(length - 2, 0))
    weights = np.zeros((size, length), np.float32)
    weights[np.arange(size), low] = 1 - (at - low)
    if length > 1:
        weights[np.arange(size), low + 1] += at - low
    return weights


def picture(pixels: np.ndarray, side: int, ratio: float) -> QPixmap:
    """Return a composed patch as a pixmap with a side in logical pixels."""
    pixels = np.ascontiguousarray(pixels)
    h, w = pixels.shape[:2]
    grey = pixels.ndim == 2
    kind = QImage.Format.Format_Grayscale8 if grey else QImage.Format.Format_RGB888
    image = QImage(pixels.data, w, h, w if grey else 3 * w, kind)
    device = max(1, round(side * ratio))
    scaled = image.scaled(
        QSize(device, device),
        Qt.AspectRatioMode.IgnoreAspectRatio,
        Qt.TransformationMode.SmoothTransformation,
    )
    out = QPixmap.fromImage(scaled)  # a copy: Qt does not keep the array alive
    out.setDevicePixelRatio(ratio)
    return out


class PictureCache:
    """Pictures by key; those that were asked for longest ago go when it is full."""

    def __init__(self, limit_bytes: int = STORE_BYTES) -> None:
        self._limit = limit_bytes
        self._bytes = 0
        self._kept: OrderedDict[Hashable, QPixmap] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable) -> QPixmap | None:
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def put(self, key: Hashable, pixmap: QPixmap) -> None:
        self._kept[key] = pixmap
        self._bytes += _bytes(pixmap)
        while self._bytes > self._limit and len(self._kept) > 1:
            _, gone = self._kept.popitem(last=False)
            self._bytes -= _bytes(gone)

    def clear(self) -> None:
        self._kept.clear()
        self._bytes = 0


def _bytes(pixmap: QPixmap) -> int:
    return pixmap.width() * pixmap.height() * pixmap.depth() // 8
