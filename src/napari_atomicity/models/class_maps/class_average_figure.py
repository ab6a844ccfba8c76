"""Figure of class averages: patches, class maps and radial profiles of each class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.palette import colours
from ...io.figures import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase
from ...core.text import pluralise
from ...io.figures import SUFFIXES
from ...io.inputs import make_folder
from ...io.tables import write_table
from .class_averages import Average, Averages


def draw(
    averages: Averages,  # of at least one class
    *,
    # Whether every map is stretched to its own maximum; else the maps of a class have one scale for
    # all channels, in the units of the score
    normalised: bool = False,
) -> Figure:
    """Patches and class maps of every class in a column each, and the profiles below."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    labels, channels = averages.labels, averages.channels
    rows = [(c, "patch") for c in channels] + [(c, "class map") for c in channels]
    width = max(1.45 * len(labels) + 0.6, 6.0)
    with mpl.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(width, 1.45 * len(rows) + 2.9), layout="constrained")
        parts: Any = figure.subfigures(2, 1, height_ratios=[1.45 * len(rows), 2.5])
        above, below = parts
        tiles = above.subplots(len(rows), len(labels), squeeze=False)
        for row, (channel, quantity) in zip(tiles, rows, strict=True):
            for axes, label in zip(row, labels, strict=True):
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
                average = averages.get(label, channel, quantity)
                if average is not None and average.clusters:
                    _draw_tile(axes, averages, average, normalised)
            row[0].set_ylabel(channel if quantity == "patch" else f"{channel}, class map")
        for axes, label in zip(tiles[0], labels, strict=True):
            average = averages.get(label, channels[0], "patch")
            n = 0 if average is None else average.clusters
            axes.set_title(f"{label} (n = {n})", color="black", fontweight="bold")
        draw_profiles(below, averages, normalised=normalised)[-1].legend(frameon=False)
    return figure


def draw_profiles(
    figure: FigureBase,
    averages: Averages,  # of at least one class
    *,
    normalised: bool = False,  # whether each profile is relative to its own maximum
) -> Sequence[Axes]:  # the charts, which share the vertical axis
    """Draw the radial profiles of the class maps, with a chart for each channel."""
    colour = colours(averages.classes)
    charts = figure.subplots(1, len(averages.channels), squeeze=False, sharey=True)[0]
    unit = "radius" if averages.unit == "radius" else "nm"
    for axes, channel in zip(charts, averages.channels, strict=True):
        for label in averages.labels:
            average = averages.get(label, channel)
            if average is not None and average.clusters:
                r, mean, error = profile_of(average, normalised)
                line = axes.plot(r, mean, color=colour[label], label=label, lw=1.6)[0]
                line.set_marker(_MARKERS[averages.classes.index(label) % len(_MARKERS)])
                line.set_markevery((2, 6))
                line.set_markersize(4)
                axes.fill_between(
                    r, mean - error, mean + error, color=colour[label], alpha=0.25, lw=0
                )
        axes.set(title=channel, xlim=(0, None), xlabel=f"Distance r / {unit}")
        if averages.unit == "radius":
            axes.axvline(1.0, color="#667085", lw=0.8, ls="--")
    charts[0].set_ylabel(f"Class map / {'its maximum' if normalised else 'score'}")
    # Not before all is drawn: the charts share the axis, and setting one end fixes the other.
    charts[0].set_ylim(bottom=0)
    return charts


# As `palette.symbols`, in the words of matplotlib.
_MARKERS = ("o", "s", "^", "D", "*", "v", "P")


def profile_of(average: Average, normalised: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances, means and errors (K,) of a profile, perhaps in units of its maximum."""
    top = float(np.nanmax(average.profile)) if normalised and average.clusters else 1.0
    top = top if top > 0 else 1.0
    return average.r, average.profile / top, np.nan_to_num(average.profile_error) / top


def top_of(averages: Averages, average: Average, normalised: bool) -> float:
    """Return the upper display limit of a class map: its own maximum, or that of its class."""
    of = [average.channel] if normalised else averages.channels
    shown = [averages.get(average.label, channel) for channel in of]
    tops = [np.nanmax(a.image) for a in shown if a is not None and np.isfinite(a.image).any()]
    return max(float(max(tops, default=0.0)), 1e-12)


def _draw_tile(axes: Any, averages: Averages, average: Average, normalised: bool) -> None:
    reach = average.reach
    extent = (-reach, reach, reach, -reach)
    if average.quantity == "patch":
        low, high = np.nanpercentile(average.image, (1, 99.8))
        axes.imshow(average.image, cmap="gray", vmin=low, vmax=high, extent=extent)
    else:
        top = top_of(averages, average, normalised)
        axes.imshow(average.image, cmap="inferno", vmin=0, vmax=top, extent=extent)
        axes.set_xlabel(format_balance(average), fontsize=6.5, labelpad=1)
    angle = np.linspace(0, 2 * np.pi, 90)
    r = outline_radius(averages, average)
    axes.plot(r * np.cos(angle), r * np.sin(angle), color="#56b4e9", lw=0.8, ls="--")


def format_balance(average: Average) -> str:
    """Format centre against outline, ``+0.31 (+0.12…+0.47)``; a dash for an empty class map."""
    b = average.balance
    return f"{b.value:+.2f} ({b.low:+.2f}…{b.high:+.2f})" if np.isfinite(b.value) else "–"


def outline_radius(averages: Averages, average: Average) -> float:
    """Where the outline is in the picture of an average, in its unit."""
    return 1.0 if averages.unit == "radius" else average.radius_nm


def write_picture(
    averages: Averages,  # of at least one class
    path: str | os.PathLike[str],
    *,
    normalised: bool = False,  # whether each map is scaled to its own maximum
    dpi: float = 110,
) -> Path:
    """Write the figure of `draw` as .png, .svg or .pdf, completely or not at all.

    Raises `AtomicityError` if the suffix is not supported, or the file can't be written.
    """
    return save_figure(draw(averages, normalised=normalised), path, dpi)


# ---- files of class averages: figure, radial profiles, and centre against outline

FIGURE = "class-averages"
"""Name of the figure, without suffix."""
TABLES = {"profiles": "class-profiles", "balances": "centre-outline"}
"""Method of `Averages` that returns a table → name of its file, without suffix."""


def write_averages(
    averages: Averages,
    folder: Path,  # created if necessary
    about: str = "",  # end of the names of the files, such as "-Pt55"
    *,
    normalised: bool = False,  # whether each map is scaled to its own maximum
) -> list[Path]:
    """Write the figure as PNG, SVG and PDF, and its numbers as CSV.

    Raises `AtomicityError` if a file cannot be written.
    """
    if not averages.items:
        return []
    make_folder(folder)
    figure = draw(averages, normalised=normalised)
    names = [f"{FIGURE}{about}{suffix}" for suffix in SUFFIXES]
    files = [save_figure(figure, folder / name) for name in names]
    for method, name in TABLES.items():
        files.append(write_table(getattr(averages, method)(), folder / f"{name}{about}.csv"))
    return files


def describe_averages(averages: Averages) -> str:
    """Return how many clusters were averaged and how many were left out, as text."""
    n = sum(
        max(a.clusters for a in averages.items if a.label == label) for label in averages.labels
    )
    out = ", ".join(f"{count} {reason}" for reason, count in averages.left_out.items())
    text = f"{pluralise(n, 'cluster')} averaged" if n else "No isolated, whole cluster of a class"
    return text + (f"; left out: {out}." if out else ".")
