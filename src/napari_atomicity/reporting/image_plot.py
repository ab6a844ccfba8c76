"""Plot of an analysed image with the outlines of its clusters, with matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..core.cluster_table import NON_CLASS_LABELS, classes_of
from ..core.text import printable
from ..detection.background import block_mean
from ..io.contrast import to_8_bit
from ..models.analysis import Analysis
from .figures import PREVIEW_PX, pixels_of, shown_frame
from .plot_base import Look, marker_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKER_POINTS = 5.0


def draw_image(axes: Axes, analysis: Analysis, max_px: int = PREVIEW_PX) -> None:
    """Draw an image with outlines and symbols of its clusters, in nm.

    For a stack, this is the first frame that contains clusters.
    """
    from matplotlib.collections import PolyCollection

    micrograph, table = analysis.micrograph, analysis.table
    unit = micrograph.pixel_size_nm or 1.0
    height, width = micrograph.shape_px
    pixels = pixels_of(analysis)
    coarse = block_mean(pixels, max(1, max(pixels.shape) // max_px))
    # Pixel centres are at whole numbers.
    extent = np.array([-0.5, width - 0.5, height - 0.5, -0.5]) * unit
    axes.imshow(to_8_bit(coarse), cmap="gray", extent=tuple(extent), interpolation="nearest")
    look = Look(classes_of(table))
    in_frame = np.flatnonzero(table["frame"] == shown_frame(analysis))
    labels = table["label"].astype(str).to_numpy()
    found = dict.fromkeys([*look.classes, *NON_CLASS_LABELS, *sorted(set(labels[in_frame]))])
    for label in found:
        rows = in_frame[labels[in_frame] == label]
        if not len(rows):
            continue
        outlines = [analysis.outlines[row][:, ::-1] * unit for row in rows]
        colour = look.colour(label)
        axes.add_collection(
            PolyCollection(outlines, facecolors="none", edgecolors=colour, linewidths=0.8)
        )
        scale = marker_scale(look.symbol(label))
        axes.plot(
            table["x_px"].to_numpy(float)[rows] * unit,
            table["y_px"].to_numpy(float)[rows] * unit,
            linestyle="",
            marker=look.marker(label),
            markersize=_MARKER_POINTS * scale,
            color=colour,
            markeredgewidth=0,
            label=f"{printable(label) or 'not classified'} ({len(rows)})",
        )
    length = "nm" if micrograph.pixel_size_nm else "px"
    axes.set(xlabel=f"x / {length}", ylabel=f"y / {length}", title=printable(micrograph.name))
    axes.set(xlim=tuple(extent[:2]), ylim=tuple(extent[2:]))
    if len(in_frame):
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
