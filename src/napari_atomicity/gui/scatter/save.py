"""A dialog that saves a plot as a picture, a drawing or its data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from napari.utils.notifications import show_info
from pandas import DataFrame
from qtpy.QtWidgets import QFileDialog, QWidget

from ...reporting.plot_base import Look, marker, style_axes
from ...reporting.plot_map import draw_map
from ...reporting.plots import SUFFIXES
from ..controls.errors import attempt
from .legend import ColourScale, Entry

FILE_TYPES = ";;".join(f"{what} (*{suffix})" for suffix, what in SUFFIXES.items())
_MAX_ENTRIES = 24


def choose_and_save(parent: QWidget, name: str, write: Callable[[Path], object]) -> None:
    """Write a plot into a chosen file; show errors.

    Parameters
    ----------
    parent : QWidget
        The parent of the dialog.
    name : str
        Proposed name of the file, without a suffix.
    write : callable
        ``write(path)`` writes the file type of the suffix.
    """
    chosen, kind = QFileDialog.getSaveFileName(parent, "Save plot", f"{name}.png", FILE_TYPES)
    if not chosen:
        return
    path = with_suffix(Path(chosen), kind)
    if attempt(lambda: write(path)):
        show_info(f"Written: {path}")


def with_suffix(path: Path, file_type: str) -> Path:
    """Return a path with the suffix of the file type, unless its suffix is supported."""
    if path.suffix.lower() in SUFFIXES:
        return path
    return path.with_name(path.name + (file_type.partition("(*")[2].rstrip(")") or ".png"))


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
