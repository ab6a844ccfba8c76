"""Margins, axes below each other, and lines, for charts without a layout engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .plot_base import Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def margins(
    figure: Figure, look: Look, *, right_em: float = 1.0, bottom_em: float = 3.6
) -> dict[str, float]:
    """Return margins for a title, numbers and a label, that follow the font size.

    A layout engine would find them more exactly, and take longer than the drawing.
    """
    width, height = 72 * figure.get_size_inches() / look.font_pt
    return {
        "left": 3.6 / width,
        "right": max(1 - right_em / width, 0.4),
        "top": 1 - 1.6 / height,
        "bottom": min(bottom_em / height, 0.5),
    }


def stack_panels(
    figure: Figure,
    look: Look,
    heights: Sequence[float],  # relative heights of the axes, from the top
    right_em: float = 1.0,
    bottom_em: float = 3.6,
) -> list[Axes]:
    """Add axes below each other with a common horizontal axis, and margins for their texts."""
    grid = margins(figure, look, right_em=right_em, bottom_em=bottom_em)
    between, n = 1.9 * look.font_pt / 72 / figure.get_figheight(), len(heights)
    room = max(grid["top"] - grid["bottom"] - between * (n - 1), 0.05)
    rows = {**grid, "hspace": between * n / room, "height_ratios": heights}
    axes = list(figure.subplots(n, 1, sharex=True, squeeze=False, gridspec_kw=rows)[:, 0])
    for one in axes[:-1]:
        one.tick_params(bottom=False)
    return axes


def draw_line(
    axes: Axes, look: Look, x: np.ndarray, y: np.ndarray, colour: str, **options: Any
) -> None:
    """Draw a line that is visible on dark and on light backgrounds."""
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
