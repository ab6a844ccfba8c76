"""A dialog that saves a plot as a picture, a drawing or its data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pandas import DataFrame

from ...reporting.plots.base import Look, marker, style_axes
from ...reporting.plots.cluster_map import draw_map
from ...reporting.plots.registry import SUFFIXES
from ..controls.questions import attempt, show_info
from ..controls.save_dialogs import choose_file
from .legend import ColourScale, Entry

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_ENTRIES = 24


def choose_and_save(dock: Any, name: str, write: Callable[[Path], object]) -> None:
    """Write a plot into a chosen file; show errors."""
    path = choose_path(dock, "Save plot", name, SUFFIXES)
    if path is not None and attempt(lambda: write(path)):
        show_info(f"Written: {path}")


def choose_path(dock: Any, title: str, name: str, suffixes: Mapping[str, str]) -> Path | None:
    """Ask for the file of a figure; None if the user cancels."""
    types = ";;".join(f"{what} (*{suffix})" for suffix, what in suffixes.items())
    return choose_file(dock.state, dock, title, f"{name}.png", types)


def map_drawing(legend: list[Entry] | ColourScale) -> Callable[[Axes, DataFrame, Look], None]:
    """Return a function that draws the map (colours in ``colour``) with a legend."""

    def draw(axes: Axes, data: DataFrame, look: Look) -> None:
        draw_map(axes, data, look)
        if isinstance(legend, ColourScale):
            _colour_bar(axes, legend, look)
        else:
            _entries(axes, legend, look)

    return draw


def _colour_bar(axes: Axes, scale: ColourScale, look: Look) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    mapped = ScalarMappable(Normalize(scale.low, scale.high), scale.colormap)
    bar = axes.figure.colorbar(mapped, ax=axes, label=scale.title, shrink=0.8)
    style_axes(bar.ax, look)


def _entries(axes: Axes, entries: list[Entry], look: Look) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle="", marker=marker(e.symbol), color=e.colour,
               label=f"{e.name} ({e.count})")
        for e in entries[:_MAX_ENTRIES]
    ]  # fmt: skip
    axes.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), frameon=False, ncols=3,
        fontsize=0.9 * look.font_pt, labelcolor=look.ink, handletextpad=0.3, borderaxespad=0.2,
    )  # fmt: skip
