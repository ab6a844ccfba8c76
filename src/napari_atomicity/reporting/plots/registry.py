"""The plots of a cluster table by name, and how to save them.

Each plot has data with units in the names of the columns, and a function that draws into axes:

>>> data = PLOTS["diameter"].data(table, classes=classes)
>>> PLOTS["diameter"].draw(axes, data, Look(classes))

The context of ``data`` consists of optional keyword arguments: ``classes`` in order; ``scales``,
image → intensity of one atom in counts nm²; ``images`` in the order of the window; ``order``
(`ratios.ORDERS`) and ``times``, image → datetime; ``limits``, image → `ImageLimits`; ``stop``;
``x`` and ``y``, columns that `COLUMN_PLOTS` draw.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ...io.figures import FONTS_AND_IDS, SUFFIXES as FIGURE_SUFFIXES, save_figure
from ...io.tables import write_table
from ...models.analysis import Analysis
from .base import Look, Plot
from .cluster_map import EMBEDDING
from .columns import HISTOGRAM, SCATTER
from .confidence import CONFIDENCE, RELIABILITY
from .ratios import RATIOS
from .sizes import DIAMETER, INTENSITY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLOTS: dict[str, Plot] = {
    "diameter": DIAMETER,
    "intensity": INTENSITY,
    "confidence": CONFIDENCE,
    "reliability": RELIABILITY,
    "ratios": RATIOS,
    "embedding": EMBEDDING,
}
"""All plots by name, which is also the name of their files; a new plot is a new entry."""
COLUMN_PLOTS: dict[str, Plot] = {"histogram": HISTOGRAM, "scatter": SCATTER}
"""Plots whose columns are chosen; the dock Plots has them too."""

SIZE_INCH = (6.0, 4.2)
SUFFIXES = {**FIGURE_SUFFIXES, ".csv": "Data"}
"""File formats of plots."""


def scales_of(analyses: Sequence[Analysis]) -> dict[str, float]:
    """Return image → integrated intensity of one atom in counts nm², where it is known."""
    return scales_from({a.micrograph.name: a.parameters for a in analyses})


def scales_from(parameters: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the same from image → parameters of its analysis."""
    return {
        image: float(known["intensity_per_atom"])
        for image, known in parameters.items()
        # Without a certainty no intensity scale was estimated, and the entry is 1.
        if known.get("certainty_of_scale") and known.get("intensity_per_atom")
    }


def style(look: Look | None = None) -> AbstractContextManager[None]:
    """Return a context with the matplotlib settings for plots, independent of those of the user."""
    import matplotlib as mpl

    settings: dict[Any, Any] = {
        **{k: v for k, v in mpl.rcParamsDefault.items() if not k.startswith("backend")},
        # Names of classes and images are text, even if they look like formulas.
        "text.parse_math": False,
        **FONTS_AND_IDS,
        "font.family": "sans-serif",
        "font.size": 9,
        "path.simplify": True,
        "axes.titley": 1.0,  # a title that looks for its position takes 3 ms
        **({} if look is None else _theme(look)),
    }
    return mpl.rc_context(settings)


def _theme(look: Look) -> dict[str, Any]:
    """Return the matplotlib settings for a look."""
    inks = ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.labelcolor",
            "ytick.labelcolor")  # fmt: skip
    faint = f"{look.ink}80"  # half transparent
    return {
        **dict.fromkeys(inks, look.ink),
        **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), faint),
        **dict.fromkeys(("figure.facecolor", "axes.facecolor"), look.paper),
        **dict.fromkeys(("axes.spines.top", "axes.spines.right"), False),
        **dict.fromkeys(("xtick.labelsize", "ytick.labelsize"), 0.85 * look.font_pt),
        "font.size": look.font_pt,
        "axes.labelsize": 0.9 * look.font_pt,
        "axes.titlesize": 0.9 * look.font_pt,
        "axes.titlelocation": "left",
        "axes.titlepad": 0.3 * look.font_pt,
        "legend.frameon": False,
        "legend.fontsize": 0.85 * look.font_pt,
    }


def plot_figure(
    plot: Plot,
    data: pd.DataFrame,
    look: Look | None = None,
    size_inch: tuple[float, float] = SIZE_INCH,  # width and height
    dpi: float = 100.0,
    draw: Callable[..., None] | None = None,
) -> Figure:
    """Draw one plot into a new figure."""
    from matplotlib.figure import Figure

    look = look or Look()
    with style():
        figure = Figure(size_inch, dpi=dpi, layout="constrained", facecolor=look.paper)
        (draw or plot.draw)(figure.add_subplot(), data, look)
    return figure


def save_plot(
    plot: Plot,
    data: pd.DataFrame,
    path: str | os.PathLike[str],
    look: Look | None = None,
    draw: Callable[..., None] | None = None,
) -> Path:
    """Write a plot as .png, .svg or .pdf, or its data as .csv, atomically.

    Raises `AtomicityError` if the suffix is not supported, or the file can not be written.
    """
    path = Path(path)
    if path.suffix.lower() == ".csv":
        return write_table(data, path)
    figure = plot_figure(plot, data, look, draw=draw)
    with style():
        return save_figure(figure, path)
