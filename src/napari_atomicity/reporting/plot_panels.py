"""Axes below each other, and lines in them, of charts of several quantities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .plot_base import Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def stack_panels(
    figure: Figure,
    look: Look,
    heights: Sequence[float],
    right_em: float = 1.0,
    bottom_em: float = 3.6,
) -> list[Axes]:
    """Add axes below each other with a common horizontal axis, and margins for their texts.

    The margins follow the font size; a layout engine would take longer than the drawing.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        An empty figure.
    look : Look
        Colours and sizes.
    heights : sequence of float
        Relative heights of the axes, from the top.
    right_em, bottom_em : float
        Margins at the right and at the bottom, in font sizes.

    Returns
    -------
    list of matplotlib.axes.Axes
        The axes from the top; only the last one has numbers below it.
    """
    width, height = 72 * figure.get_size_inches() / look.font_pt  # in font sizes
    between, n = 1.9, len(heights)
    room = max(height - 1.6 - bottom_em - between * (n - 1), 1.0)
    grid = {
        "left": 3.6 / width, "right": max(1 - right_em / width, 0.4), "top": 1 - 1.6 / height,
        "bottom": bottom_em / height, "hspace": between * n / room, "height_ratios": heights,
    }  # fmt: skip
    axes = list(figure.subplots(n, 1, sharex=True, squeeze=False, gridspec_kw=grid)[:, 0])
    for one in axes[:-1]:
        one.tick_params(bottom=False)
    return axes


def draw_line(
    axes: Axes, look: Look, x: np.ndarray, y: np.ndarray, colour: str, **options: Any
) -> None:
    """Draw a line that is visible on dark and on light backgrounds.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        The axes.
    look : Look
        Colours and sizes.
    x, y : ndarray of shape (n_points,)
        Positions; points that are not finite are left out.
    colour : str
        The colour.
    **options : object
        Options of `matplotlib.axes.Axes.plot`.
    """
    from matplotlib.patheffects import withStroke

    known = np.isfinite(y)
    axes.plot(
        x[known], y[known], color=colour, linewidth=1.5, marker="o", markersize=4.5,
        markevery=slice(None) if known.sum() <= 3 else [-1],
        # a dashed line would drown in the rim
        path_effects=[] if "linestyle" in options else [
            withStroke(linewidth=2.4, foreground=f"{look.ink}59")
        ],
        **options,
    )  # fmt: skip
