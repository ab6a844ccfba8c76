"""Figures as papers need them: in the widths of one and of two columns, with the numbers beside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ...io.figures import SUFFIXES, save_figure
from ...io.tables import write_table
from ...statistics.ratios.ratio_notes import ImageLimits
from .base import Look
from .registry import PLOTS, scales_from, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN_WIDTHS_CM = {"one_column": 8.5, "two_columns": 17.5}
FONT_PT = 7.0
CM_PER_INCH = 2.54
_ASPECT = {"one_column": 0.75, "two_columns": 0.45}
"""Height of a plot as a share of its width."""
_TEXTS = (
    "font.size", "axes.labelsize", "axes.titlesize", "xtick.labelsize", "ytick.labelsize",
    "legend.fontsize",
)  # fmt: skip


def write_in_both_widths(
    name: str,
    figure_of: Callable[[str, float], Figure],  # of a column and its width in inches
    folder: Path,
    look: Look,
) -> list[Path]:
    """Write a figure as PNG, SVG and PDF in the widths of one and of two columns, with 7 pt."""
    import matplotlib as mpl

    sizes: dict[Any, Any] = dict.fromkeys(_TEXTS, FONT_PT)
    files = []
    for column, width_cm in COLUMN_WIDTHS_CM.items():
        with style(look), mpl.rc_context(sizes):
            figure = figure_of(column, width_cm / CM_PER_INCH)
            files += [save_figure(figure, folder / f"{name}_{column}{end}") for end in SUFFIXES]
    return files


def write_drawn(
    name: str,
    draw: Callable[[Axes], None],
    folder: Path,
    look: Look,
    numbers: pd.DataFrame,
    aspect: float | None = None,  # height as a share of the width; default: that of plots
) -> list[Path]:
    """Write what ``draw(axes)`` draws in both widths, and its numbers as CSV."""

    def figure_of(column: str, width: float) -> Figure:
        from matplotlib.figure import Figure

        size = (width, (aspect or _ASPECT[column]) * width)
        figure = Figure(size, layout="constrained", facecolor=look.paper)
        draw(figure.add_subplot())
        return figure

    files = write_in_both_widths(name, figure_of, folder, look)
    return [*files, write_table(numbers, folder / f"{name}.csv")]


def image_file(name: str) -> str:
    """Return the name of an image, which may be in a subfolder, as part of the name of a file."""
    return name.replace("/", "_")


def publication_look(classes: Sequence[str] = ()) -> Look:
    """Return the look of figures in a publication."""
    return Look(tuple(classes), font_pt=FONT_PT)


def plot_data(
    name: str,
    table: pd.DataFrame,
    classes: Sequence[str],
    parameters: Mapping[str, Mapping[str, Any]],  # image → parameters of its analysis
    keep_ratios: bool = False,
) -> pd.DataFrame:
    """Return the data of a plot of clusters; see `write_plots`."""
    limits = {i: ImageLimits.from_parameters(one, keep_ratios) for i, one in parameters.items()}
    scales = scales_from(parameters)
    return PLOTS[name].data(
        table, classes=classes, images=list(parameters), limits=limits, scales=scales
    )


def write_plots(
    table: pd.DataFrame,
    classes: Sequence[str],
    folder: Path,
    parameters: Mapping[str, Mapping[str, Any]],
    keep_ratios: bool = False,
) -> list[Path]:
    """Write all plots of a cluster table, each with a table of its numbers.

    Parameters
    ----------
    table : pandas.DataFrame
        Clusters of one image or of several.
    classes : sequence of str
        Classes in order, for the colours.
    folder : Path
        Where the files are written.
    parameters : mapping of str to mapping
        Image → parameters of its analysis, for the intensity scales and what limits the labels.
    keep_ratios : bool, optional
        Whether fractions are given even if a session does not fit the classes of the model.

    Returns
    -------
    list of Path

    Raises
    ------
    AtomicityError
        If a file cannot be written.
    """
    look, files = publication_look(classes), []
    for name, plot in PLOTS.items():
        data = plot_data(name, table, classes, parameters, keep_ratios)
        if len(data):
            draw = partial(plot.draw, data=data, look=look)
            files += write_drawn(name, draw, folder, look, data)
    return files
