"""Pictures of many patches at once, and a store of those that were painted last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QImage, QPixmap

from ...reporting.patch_pictures import STRETCH, quantiles


@dataclass(frozen=True)
class Overlay:
    """Content of a tile."""

    channel: str
    with_map: bool
    same_scale: bool  # whether all tiles share one grey scale
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

_SAMPLE = 200


def common_limits(stacks: Sequence[np.ndarray]) -> tuple[float, float]:
    """Black and white for patches (N, P, P) of several images, from some hundred of them all."""
    n = sum(len(stack) for stack in stacks)
    every = max(1, n // _SAMPLE)
    some = [stack[::every].ravel() for stack in stacks]
    pixels = np.concatenate(some) if some else np.zeros(0, np.float32)
    pixels = pixels[np.isfinite(pixels)]
    if not len(pixels):
        return 0.0, 1.0
    low, high = quantiles(pixels[None], STRETCH)
    return float(low[0, 0]), float(high[0, 0])


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
