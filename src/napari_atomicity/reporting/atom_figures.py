"""Figures of single atoms for files: of each image, and of all images together."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..core.acquisition_session import is_group_scope
from ..core.palette import MARKED_COLOUR, to_8_bit
from ..core.text import pluralise, printable
from ..detection.background import block_mean
from ..io.tables import write_table
from ..statistics.points.dispersion import ALL, DispersionStatistics
from ..statistics.points.windows import DensityMap, ObservationWindow, map_density
from .charts import INK
from .plots.base import Look, style_axes
from .plots.dispersion import DISPERSION_PLOTS
from .plots.publication import image_file, publication_look, write_drawn, write_in_both_widths
from .plots.registry import style

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    from ..core.micrograph import Micrograph

LONGEST_PX = 1200
"""Longest edge of the image in a figure in pixels."""
_CHARTS = {
    "dispersion": ("pair_correlation", "ripley_l", "neighbour_distribution"),
    "groups": ("nearest_neighbours", "groups", "group_extents"),
}
"""Plots of each chart of the report, next to each other."""
_OF_IMAGES = (
    ("Density / nm⁻²", "density_per_nm2", "density_low_per_nm2", "density_high_per_nm2"),
    (
        "Nearest neighbour, median / nm",
        "nearest_neighbour_median_nm",
        "nearest_neighbour_median_low_nm",
        "nearest_neighbour_median_high_nm",
    ),
    ("Isolated, fraction", "share_isolated", "share_isolated_low", "share_isolated_high"),
)
_MAX_NAMES, _NAME_LETTERS, _MAX_TALL = 60, 28, 12.0
_BLUE = "#0072b2"
_MIN_ASPECT = 0.25
"""Minimum ratio of the shorter to the longer edge of a figure."""


def image_figures(
    micrograph: Micrograph,
    support: np.ndarray | None,  # (Y, X) or (T, Y, X); None if it is unknown
    table: pd.DataFrame,
    on_support: pd.DataFrame,
    found: DispersionStatistics | None,
) -> dict[str, Figure]:
    """Draw the figures of an image."""
    density = Density.of(micrograph, support, on_support)
    drawn = {
        "atoms": atom_overview(micrograph, table),
        "density": None if density is None else density_overview(density, micrograph.name),
        **_plot_charts(on_support, found),
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}


def run_figures(
    on_support: pd.DataFrame, rows: pd.DataFrame, found: DispersionStatistics
) -> dict[str, Figure]:
    """Draw the figures of all images together."""
    drawn = {**_plot_charts(on_support, found), "images": image_chart(rows)}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def atom_overview(micrograph: Micrograph, table: pd.DataFrame) -> Figure:
    """Plot the first frame with a ring around each atom in the colour of its probability."""
    height, width = micrograph.shape_px
    with style():
        figure, axes, scale = _map_axes(height / width)
        draw_atoms(axes, micrograph, table, Look(), scale)
    return figure


def draw_atoms(
    axes: Axes,
    micrograph: Micrograph,
    table: pd.DataFrame,
    look: Look,
    scale: Axes | None = None,  # axes of the colour bar; by default beside ``axes``
) -> None:
    """Draw the first frame with a ring around each atom in the colour of its probability."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    pixels, size_nm = next(micrograph.frames()), micrograph.calibrated()
    step = max(1, -(-max(pixels.shape) // LONGEST_PX))
    grey = to_8_bit(block_mean(pixels, step) if step > 1 else pixels)
    height, width = (n * step * size_nm for n in grey.shape)
    half = size_nm / 2
    rows = table[table["frame"] == 0]
    # Pixel coordinates refer to centres: the image starts half a pixel before the origin.
    extent = (-half, width - half, height - half, -half)
    _draw_levels(axes, grey, "gray", extent)
    colours = ScalarMappable(Normalize(0, 1), "plasma")
    by_person = rows["confidence"].isna()  # marks have no probability
    rings, squares = rows[~by_person], rows[by_person]
    edges = [tuple(c) for c in colours.to_rgba(rings["confidence"].to_numpy(float))]
    for part, marker, colour in ((rings, "o", edges), (squares, "s", MARKED_COLOUR)):
        axes.scatter(
            part["x_nm"], part["y_nm"], s=28, marker=marker, facecolors="none", linewidths=1,
            edgecolors=colour,
        )  # fmt: skip
    axes.set(xlabel="x / nm", ylabel="y / nm", xlim=extent[:2], ylim=extent[2:])
    _draw_colour_bar(axes, colours, scale, "Probability")
    n = pluralise(len(rows), "atom")
    marked = f", {by_person.sum()} by a person (squares)" if by_person.any() else ""
    style_axes(axes, look, f"{_short(micrograph.name)}: {n}{marked}")


def density_overview(density: Density, name: str) -> Figure:
    """Plot a map of the density of atoms on their support, with the atoms as points."""
    height, width = density.window.mask.shape
    with style():
        figure, axes, scale = _map_axes(height / width)
        draw_density(axes, density, name, Look(), scale)
    return figure


@dataclass(frozen=True, eq=False)
class Density:
    """Density of the atoms of the first frame on their support."""

    positions_nm: np.ndarray  # (n, 2): y and x
    window: ObservationWindow
    found: DensityMap

    @classmethod
    def of(
        cls, micrograph: Micrograph, support: np.ndarray | None, on_support: pd.DataFrame
    ) -> Density | None:
        """Return the density of an image; None without atoms or support."""
        first = on_support[on_support["frame"] == 0][["y_nm", "x_nm"]].to_numpy(float)
        if support is None or not len(first):
            return None
        mask = support[0] if support.ndim == 3 else support
        if not mask.any():
            return None
        window = ObservationWindow(mask, micrograph.calibrated())
        return cls(first, window, map_density(first, window))

    def numbers(self) -> pd.DataFrame:
        """Return the density at the centre of each cell on the support."""
        density, corner = self.found.density_per_nm2, -self.window.pixel_size_nm / 2
        y, x = (corner + (i + 0.5) * self.found.cell_nm for i in np.indices(density.shape))
        values = {"y_nm": y.ravel(), "x_nm": x.ravel(), "density_per_nm2": density.ravel()}
        return pd.DataFrame(values).dropna(ignore_index=True)


def draw_density(
    axes: Axes,
    density: Density,
    name: str,  # of the image
    look: Look,
    scale: Axes | None = None,  # axes of the colour bar; by default beside ``axes``
) -> None:
    """Draw a map of the density of atoms on their support, with the atoms as points."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    found, window = density.found, density.window
    values = np.ma.masked_invalid(found.density_per_nm2)
    colours = ScalarMappable(Normalize(0, values.max()), "viridis")
    levels = np.ma.minimum(256 * np.ma.asarray(colours.norm(values)), 255).astype(np.uint8)
    height, width = (n * window.pixel_size_nm for n in window.mask.shape)
    corner = -window.pixel_size_nm / 2
    rows, columns = (n * found.cell_nm for n in found.density_per_nm2.shape)
    extent = (corner, corner + columns, corner + rows, corner)
    _draw_levels(axes, levels, "viridis", extent)
    axes.scatter(
        density.positions_nm[:, 1], density.positions_nm[:, 0], s=5, color="white", edgecolors=INK,
        linewidths=0.3,
    )  # fmt: skip
    axes.set(
        xlabel="x / nm", ylabel="y / nm",
        xlim=(corner, corner + width), ylim=(corner + height, corner),
    )  # fmt: skip
    _draw_colour_bar(axes, colours, scale, "Atoms / nm² of support")
    kernel = f"Gaussian kernel of {found.bandwidth_nm:.2g} nm"
    style_axes(axes, look, f"{_short(name)}: {kernel}")


def _draw_colour_bar(axes: Axes, colours: ScalarMappable, scale: Axes | None, label: str) -> None:
    figure = axes.get_figure(root=True)
    if figure is not None:
        figure.colorbar(colours, cax=scale, ax=axes if scale is None else None, label=label)


def _draw_levels(
    axes: Axes, levels: np.ndarray, cmap: str, extent: tuple[float, float, float, float]
) -> None:
    """Draw an image of 8-bit levels of a colour map, which is faster than one of numbers."""
    from matplotlib.colors import NoNorm

    axes.imshow(
        levels, cmap=cmap, norm=NoNorm(), extent=extent, interpolation="none",
        interpolation_stage="data",
    )  # fmt: skip


def _plot_charts(
    on_support: pd.DataFrame, found: DispersionStatistics | None
) -> dict[str, Figure | None]:
    """Draw the plots of the dispersion of one image or of all, as charts of several panels."""
    charts: dict[str, Figure | None] = {}
    for chart, names in _CHARTS.items():
        data = {n: DISPERSION_PLOTS[n].data(on_support, dispersion=found) for n in names}
        if not any(map(len, data.values())):
            continue
        with style():
            sizes_inch = [2.65] * len(names), 2.4
            figure, panels = _panels(*sizes_inch, gap_inch=0.75, right_inch=0.2)
            for axes, (name, numbers) in zip(panels, data.items(), strict=True):
                plot = DISPERSION_PLOTS[name]
                plot.draw(axes, numbers, Look())
                axes.set_title(plot.title, loc="left", fontsize=9, color=INK)
        charts[chart] = figure
    return charts


def image_chart(rows: pd.DataFrame) -> Figure | None:
    """Plot density, neighbour distance and fraction of isolated atoms of all images."""
    found = _compared_images(rows)
    if found is None:
        return None
    with style():
        tall = min(max(1.2, 0.22 * len(found[0])), _MAX_TALL)
        figure, panels = _panels([2.3] * 3, tall, gap_inch=0.25, right_inch=0.1, left_inch=1.9)
        _draw_images(panels, *found, Look())
    return figure


def _compared_images(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series] | None:
    """Return the rows of two or more images, and that of all; None for fewer."""
    if "density_per_nm2" not in rows:
        return None
    known = rows[rows["density_per_nm2"].notna()]
    of_all = known[known["image"] == ALL]
    images = known[(known["image"] != ALL) & ~known["image"].map(is_group_scope)]
    return None if len(images) < 2 or not len(of_all) else (images, of_all.iloc[0])


def _draw_images(
    panels: Sequence[Axes], images: pd.DataFrame, together: pd.Series, look: Look
) -> None:
    place = np.arange(len(images))
    for axes, (label, value, low, high) in zip(panels, _OF_IMAGES, strict=True):
        axes.axvspan(together[low], together[high], color="#d0d5dd", linewidth=0)
        axes.axvline(together[value], color="#667085", linewidth=1)
        axes.hlines(place, images[low], images[high], color=_BLUE, linewidth=1)
        axes.plot(images[value], place, "o", color=_BLUE, markersize=3)
        axes.set(xlabel=label, ylim=(len(images) - 0.5, -0.5), yticks=[])
        axes.set_xlim(left=0)
        style_axes(axes, look)
    if len(images) <= _MAX_NAMES:
        panels[0].set_yticks(place, [_short(name) for name in images["image"]], fontsize=7)
    title = f"{pluralise(len(images), 'image')}; line and band: all together"
    panels[0].set_title(title, loc="left", fontsize=look.font_pt, color=INK)


def _short(name: str) -> str:
    """Return a name without its middle if it has more than `_NAME_LETTERS` letters."""
    text, half = printable(name), _NAME_LETTERS // 2
    return text if len(text) <= _NAME_LETTERS else f"{text[:half]}…{text[1 - half :]}"


# ---- figures at the size of a publication
def write_atom_plots(
    on_support: pd.DataFrame, found: DispersionStatistics | None, folder: Path, prefix: str = ""
) -> list[Path]:
    """Write each plot of the dispersion of one image or of all, with its numbers."""
    look, files = publication_look(), []
    for name, plot in DISPERSION_PLOTS.items():
        data = plot.data(on_support, dispersion=found)
        if len(data):
            draw = partial(plot.draw, data=data, look=look)
            files += write_drawn(f"{prefix}{name}", draw, folder, look, data)
    return files


def write_image_plots(
    micrograph: Micrograph,
    support: np.ndarray | None,
    table: pd.DataFrame,
    on_support: pd.DataFrame,
    found: DispersionStatistics | None,
    folder: Path,
) -> list[Path]:
    """Write the atoms and the density of an image, and the plots of its dispersion."""
    look, name = publication_look(), micrograph.name
    height, width = micrograph.shape_px
    aspect = min(max(0.85 * height / width, _MIN_ASPECT), 1 / _MIN_ASPECT)
    prefix = f"{image_file(name)} "
    draw = partial(draw_atoms, micrograph=micrograph, table=table, look=look)
    first = table[table["frame"] == 0]
    files = write_drawn(f"{prefix}atoms", draw, folder, look, first, aspect)
    density = Density.of(micrograph, support, on_support)
    if density is not None:
        draw = partial(draw_density, density=density, name=name, look=look)
        numbers = density.numbers()
        files += write_drawn(f"{prefix}density", draw, folder, look, numbers, aspect)
    return [*files, *write_atom_plots(on_support, found, folder, prefix)]


def write_comparison_of_images(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """Write density, neighbour distance and fraction of isolated atoms of all images."""
    found = _compared_images(rows)
    if found is None:
        return []
    look = publication_look()

    def figure_of(_: str, width: float) -> Figure:
        from matplotlib.figure import Figure

        height = min(max(1.6, 0.8 + 0.16 * len(found[0])), _MAX_TALL)
        figure = Figure((width, height), layout="constrained", facecolor=look.paper)
        panels = figure.subplots(1, 3)
        _draw_images(panels, *found, look)
        for axes in panels:
            axes.set_xlabel(textwrap.fill(axes.get_xlabel(), 16))
        return figure

    files = write_in_both_widths("images", figure_of, folder, look)
    columns = ["image", *(name for _, *names in _OF_IMAGES for name in names)]
    numbers = pd.concat([found[0], found[1].to_frame().T])[columns]
    return [*files, write_table(numbers, folder / "images.csv")]


def _map_axes(height_to_width: float) -> tuple[Figure, Axes, Axes]:
    """Make axes for an image, and for a colour bar; the aspect ratio is limited."""
    tall = 5.1 * min(max(height_to_width, _MIN_ASPECT), 1 / _MIN_ASPECT)
    figure, (axes, scale) = _panels([5.1, 0.2], tall, gap_inch=0.08, right_inch=0.55)
    return figure, axes, scale


def _panels(
    widths_inch: Sequence[float],
    height_inch: float,
    gap_inch: float,
    right_inch: float,
    left_inch: float = 0.65,
) -> tuple[Figure, list[Axes]]:
    """Make axes next to each other with room for their texts.

    Places are given, since a computed layout takes longer than the figure itself.
    """
    from matplotlib.figure import Figure

    left, bottom, top = left_inch, 0.5, 0.3
    wide = left + sum(widths_inch) + gap_inch * (len(widths_inch) - 1) + right_inch
    tall = bottom + height_inch + top
    figure, panels = Figure((wide, tall)), []
    for width in widths_inch:
        place = (left / wide, bottom / tall, width / wide, height_inch / tall)
        panels.append(figure.add_axes(place))
        left += width + gap_inch
    return figure, panels
