"""Figures of single atoms for files: the atoms in their image, and their dispersion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..core.text import pluralise
from ..detection.background import block_mean
from ..io.contrast import to_8_bit
from .charts import INK, printable
from .plot_base import Look, style_axes
from .plots import style

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..atoms.analysis import AtomAnalysis
    from ..statistics.dispersion import DispersionStatistics

LONGEST_PX = 1200
"""Longest edge of the image in a figure in pixels."""
_CURVES = {
    "g": ("Distance / nm", "Pair correlation g(r)"),
    "L": ("Distance / nm", "L(r) - r / nm"),
    "G": ("Distance to the nearest neighbour / nm", "Fraction of atoms"),
}
_BLUE = "#0072b2"
_MIN_ASPECT = 0.25
"""Minimum ratio of the shorter to the longer edge of a figure."""


def atom_overview(analysis: AtomAnalysis, table: pd.DataFrame) -> Figure:
    """Plot the first frame with a ring around each atom in the colour of its probability.

    Parameters
    ----------
    analysis : AtomAnalysis
        Result of the image.
    table : pandas.DataFrame
        Atoms to draw, a selection of the candidates.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    pixels = next(analysis.micrograph.frames())
    step = max(1, -(-max(pixels.shape) // LONGEST_PX))
    grey = to_8_bit(block_mean(pixels, step) if step > 1 else pixels)
    height, width = (n * step * analysis.pixel_size_nm for n in grey.shape)
    half = analysis.pixel_size_nm / 2
    rows = table[table["frame"] == 0]
    with style():
        # The aspect ratio is limited for narrow images.
        tall = 5.1 * min(max(height / width, _MIN_ASPECT), 1 / _MIN_ASPECT)
        figure, (axes, scale) = _panels([5.1, 0.2], tall, gap_inch=0.08, right_inch=0.55)
        # Pixel coordinates refer to centres: the image starts half a pixel before the origin.
        extent = (-half, width - half, height - half, -half)
        axes.imshow(grey, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="none")
        colours = ScalarMappable(Normalize(0, 1), "plasma")
        axes.scatter(
            rows["x_nm"], rows["y_nm"], s=28, facecolors="none", linewidths=1,
            edgecolors=[tuple(c) for c in colours.to_rgba(rows["confidence"].to_numpy(float))],
        )  # fmt: skip
        figure.colorbar(colours, cax=scale, label="Probability")
        axes.set(xlabel="x / nm", ylabel="y / nm", xlim=extent[:2], ylim=extent[2:])
        n = pluralise(len(rows), "atom")
        style_axes(axes, Look(), f"{printable(analysis.micrograph.name)}: {n}")
    return figure


def dispersion_chart(found: DispersionStatistics) -> Figure | None:
    """Plot g(r), L(r) and nearest neighbours with those of random atoms.

    Parameters
    ----------
    found : DispersionStatistics
        Statistics of the atoms.

    Returns
    -------
    matplotlib.figure.Figure or None
        None without curves.
    """
    curves = {name: found.curves[name] for name in _CURVES if name in found.curves}
    if not curves:
        return None
    with style():
        figure, panels = _panels([2.65] * len(curves), 2.4, gap_inch=0.75, right_inch=0.1)
        for axes, (name, curve) in zip(panels, curves.items(), strict=True):
            less = curve["r_nm"].to_numpy(float) if name == "L" else np.zeros(len(curve))
            low, high, expected, observed = (
                curve[c].to_numpy(float) - less for c in ("low", "high", "expected", "observed")
            )
            axes.fill_between(curve["r_nm"], low, high, color="#d0d5dd", linewidth=0)
            axes.plot(curve["r_nm"], expected, color="#667085", linewidth=1, linestyle="--")
            axes.plot(curve["r_nm"], observed, color=_BLUE, linewidth=1.4)
            axes.set(xlabel=_CURVES[name][0], ylabel=_CURVES[name][1])
            style_axes(axes, Look())
        panels[0].set_title(
            f"{found.n_atoms} atoms; grey: {100 * found.level:.0f} % of random patterns",
            loc="left", fontsize=9, color=INK,
        )  # fmt: skip
    return figure


def _panels(
    widths_inch: Sequence[float], height_inch: float, gap_inch: float, right_inch: float
) -> tuple[Figure, list[Axes]]:
    """Make axes beside each other with room for their texts.

    Places are given, since a computed layout takes longer than the figure itself.
    """
    from matplotlib.figure import Figure

    left, bottom, top = 0.65, 0.5, 0.3
    wide = left + sum(widths_inch) + gap_inch * (len(widths_inch) - 1) + right_inch
    tall = bottom + height_inch + top
    figure, panels = Figure((wide, tall)), []
    for width in widths_inch:
        place = (left / wide, bottom / tall, width / wide, height_inch / tall)
        panels.append(figure.add_axes(place))
        left += width + gap_inch
    return figure, panels
