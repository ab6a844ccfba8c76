"""Tooltip of a cluster: text, and its patch if there is one."""

from __future__ import annotations

import html

import numpy as np
from qtpy.QtCore import QBuffer, QByteArray, QIODevice, Qt
from qtpy.QtGui import QImage

from ...models.analysis import Analysis
from ...reporting.patch_pictures import compose

SIDE_PX = 120
"""Edge of the patch in the popup, in logical pixels."""

_BARELY_PACKED = 90


def patch_of(analysis: Analysis | None, cluster_id: int) -> np.ndarray | None:
    """Return the raw patch (P, P) of a cluster, or None."""
    patches = None if analysis is None else analysis.patches.get("raw")
    if analysis is None or patches is None or len(patches) != len(analysis.table):
        return None
    row = np.flatnonzero(analysis.table["cluster_id"].to_numpy() == cluster_id)
    patch = analysis.without_padding(patches[row[0]], int(row[0])) if len(row) else None
    return patch if patch is not None and np.isfinite(patch).any() else None


def tip(text: str, patch: np.ndarray | None) -> str:
    """Format a tooltip as rich text: the patch above the text."""
    lines = "<br>".join(html.escape(line) for line in text.split("\n"))
    if patch is None:
        return f"<div>{lines}</div>"
    return (
        f'<div><img src="data:image/png;base64,{_png(patch)}" width="{SIDE_PX}" '
        f'height="{SIDE_PX}"><br>{lines}</div>'
    )


def _png(patch: np.ndarray) -> str:
    # Low compression, because a picture is made for every cluster under the mouse.
    pixels = np.ascontiguousarray(compose(patch[None])[0])
    height, width = pixels.shape
    # Without keywords: PyQt6 and PySide6 name these arguments differently.
    image = QImage(pixels.data, width, height, width, QImage.Format.Format_Grayscale8).scaled(
        2 * SIDE_PX,
        2 * SIDE_PX,
        Qt.AspectRatioMode.IgnoreAspectRatio,
        Qt.TransformationMode.SmoothTransformation,
    )
    data = QByteArray()
    buffer = QBuffer(data)
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    image.save(buffer, "PNG", _BARELY_PACKED)
    buffer.close()
    return bytes(data.toBase64()).decode()
