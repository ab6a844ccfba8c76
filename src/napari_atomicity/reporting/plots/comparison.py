"""Figures of compared samples: values with intervals, differences, and trends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ...core.text import printable
from ...statistics.samples.comparison import SampleComparison
from ...statistics.samples.image_values import DENSITY, MEAN_ATOMS, SHARE
from ...statistics.samples.sentences import SIGNIFICANT
from .base import Look
from .publication import CM_PER_INCH, publication_look, write_in_both_widths
from .registry import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL_HEIGHT_CM, _PANEL_WIDTH_EM, _NARROW_EM = 5.0, 22, 28
_BLUE = "#0072b2"
_LABELS = {
    MEAN_ATOMS: "Mean number of atoms",
    DENSITY: "Density / nm⁻²",
    "neighbour_mean": "Nearest neighbour / nm",
    "share_dimer": "Atoms in dimers / %",
    "share_larger": "Atoms in larger groups / %",
}
"""Quantities with a separate panel, and the label of its axis."""
TREND = "trend_"
"""Begins the names of figures along a column of a table of samples, such as time."""
Panel = Callable[["Axes", pd.DataFrame, Look], None]
"""Draws rows of ``comparison.csv`` into axes."""


def comparison_figures(comparison: SampleComparison) -> dict[str, list[Panel]]:
    """Return the figures of a comparison by name, each with its panels."""
    table = comparison.table
    known = set(table.loc[table["value"].notna(), "quantity"])
    own = {name: label for name, label in _LABELS.items() if name in known}
    figures: dict[str, list[Panel]] = {}
    if SHARE in known:
        figures["clusters"] = [_draw_shares, _draw_differences]
    for name, label in own.items():
        figure = "clusters" if name == MEAN_ATOMS else "atoms"
        figures.setdefault(figure, []).append(partial(_draw_values, quantity=name, label=label))
    for along in comparison.trends["along"].unique():
        at = {s.name: s.numbers[along] for s in comparison.samples if along in s.numbers}
        fitted = comparison.trends.loc[comparison.trends["along"] == along, "quantity"]
        figures[f"{TREND}{along}"] = [
            partial(_draw_trend, at=at, quantity=name, along=along, label=label)
            for name, label in {SHARE: "", **own}.items()
            if name in set(fitted)
        ]
    return figures


def draw_comparison(
    figure: Figure, comparison: SampleComparison, look: Look, name: str = "clusters"
) -> None:
    """Draw a figure of `comparison_figures`; panels are beside each other if there is room."""
    panels = comparison_figures(comparison).get(name, [])
    rows, columns = _grid(len(panels), figure.get_size_inches()[0], look)
    for number, panel in enumerate(panels, 1):
        panel(figure.add_subplot(rows, columns, number), comparison.table, look)


def _grid(n: int, width_inch: float, look: Look) -> tuple[int, int]:
    """Return rows and columns of n panels."""
    most = max(1, int(width_inch * 72 / look.font_pt / _PANEL_WIDTH_EM))
    rows = -(-n // most) or 1
    return rows, -(-n // rows) or 1


def write_comparison_figures(
    comparison: SampleComparison, folder: Path, classes: Sequence[str] = ()
) -> list[Path]:
    """Write each figure as PNG, SVG and PDF in the widths of one and of two columns, with 7 pt."""
    look, files = publication_look(classes_of_comparison(comparison, classes)), []
    for name in comparison_figures(comparison):

        def draw(_: str, width: float, name: str = name) -> Figure:
            return comparison_figure(comparison, name, look, width * CM_PER_INCH)

        files += write_in_both_widths(name, draw, folder, look)
    return files


def comparison_figure(
    comparison: SampleComparison, name: str, look: Look, width_cm: float = 17.5
) -> Figure:
    """Return one figure of `comparison_figures` at a width in cm."""
    from matplotlib.figure import Figure

    width = width_cm / CM_PER_INCH
    rows, _ = _grid(len(comparison_figures(comparison)[name]), width, look)
    height = _PANEL_HEIGHT_CM / CM_PER_INCH * rows
    with style(look):
        figure = Figure((width, height), layout="constrained", facecolor=look.paper)
        draw_comparison(figure, comparison, look, name)
    return figure


def classes_of_comparison(
    comparison: SampleComparison, classes: Sequence[str] = ()
) -> tuple[str, ...]:
    """Return the classes, in order, that determine the colours."""
    table = comparison.table
    found = table.loc[table["quantity"] == SHARE, "class"]
    return tuple(dict.fromkeys([*classes, *found]))


# ---- panels
def _places(rows: pd.DataFrame) -> tuple[np.ndarray, list[str], float]:
    """Return positions of samples and, beside each other, classes; samples; and the step."""
    samples, classes = (list(dict.fromkeys(rows[name])) for name in ("sample", "class"))
    step = 0.8 / len(classes)
    aside = rows["class"].map({c: i for i, c in enumerate(classes)}).to_numpy(float)
    place = rows["sample"].map({s: i for i, s in enumerate(samples)}).to_numpy(float)
    return place + step * (aside - (len(classes) - 1) / 2), samples, step


def _name_samples(axes: Axes, samples: Sequence[str]) -> None:
    axes.set_xticks(range(len(samples)), [printable(name) for name in samples])
    if sum(map(len, samples)) > 28:
        axes.tick_params(axis="x", labelrotation=30)


def _name_classes(axes: Axes, look: Look) -> None:
    """Write the names of the classes above the axes."""
    figure = axes.get_figure(root=True)
    narrow = figure and figure.get_size_inches()[0] * 72 / look.font_pt < _NARROW_EM
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=3 if narrow else 5, borderaxespad=0.2,
        handlelength=0.9, columnspacing=0.8, handletextpad=0.3,
    )  # fmt: skip


def _draw_shares(axes: Axes, table: pd.DataFrame, look: Look) -> None:
    """Draw a bar for the share of each class in each sample."""
    rows = table[table["quantity"] == SHARE]
    place, samples, step = _places(rows)
    for name in dict.fromkeys(rows["class"]):
        own = (rows["class"] == name).to_numpy()
        value, low, high = (100 * rows.loc[own, ["value", "low", "high"]]).to_numpy(float).T
        axes.bar(place[own], value, 0.92 * step, color=look.colour(name), label=printable(name))
        axes.vlines(place[own], low, high, color=look.ink, linewidth=0.8)
    axes.set(ylabel="Share / %", ylim=(0, None))
    _name_samples(axes, samples)
    _name_classes(axes, look)


def _draw_differences(axes: Axes, table: pd.DataFrame, look: Look) -> None:
    """Draw the difference of each share from the reference; significant ones are filled."""
    rows = table[(table["quantity"] == SHARE) & (table["reference_sample"] != "")]
    axes.axhline(0, color=look.ink, linewidth=0.6)
    place, samples, _ = _places(rows)
    columns = ("difference", "difference_low", "difference_high", "p_holm")
    values = rows[list(columns)].to_numpy(float)
    for x, name, (value, low, high, p) in zip(place, rows["class"], values, strict=True):
        colour = look.colour(name)
        axes.vlines(x, 100 * low, 100 * high, color=colour, linewidth=1.2)
        face = colour if p < SIGNIFICANT else look.paper
        axes.plot(
            x, 100 * value, marker=look.marker(name), markersize=0.6 * look.font_pt,
            markerfacecolor=face, markeredgecolor=colour, linestyle="",
        )  # fmt: skip
    reference = printable(next(iter(rows["reference_sample"]), ""))
    axes.set(ylabel=f"Difference from {reference}\n/ percentage points")
    _name_samples(axes, samples)


def _draw_values(axes: Axes, table: pd.DataFrame, look: Look, quantity: str, label: str) -> None:
    """Draw a quantity of each sample with its interval; significant differences have a star."""
    rows = table[table["quantity"] == quantity]
    place, samples, _ = _places(rows)
    factor = 100 if quantity.startswith(SHARE) else 1
    value, low, high = (factor * rows[c].to_numpy(float) for c in ("value", "low", "high"))
    axes.vlines(place, low, high, color=_BLUE, linewidth=1.2)
    axes.plot(place, value, "o", color=_BLUE, markersize=0.5 * look.font_pt)
    for x, top, p in zip(place, high, rows["p_holm"], strict=True):
        if p < SIGNIFICANT:
            axes.annotate("*", (x, top), ha="center", fontsize=1.3 * look.font_pt, color=look.ink)
    axes.set(ylabel=label, xlim=(-0.6, len(samples) - 0.4))
    if factor == 100:
        axes.set_ylim(bottom=0)
    _name_samples(axes, samples)


def _draw_trend(
    axes: Axes,
    table: pd.DataFrame,
    look: Look,
    at: dict[str, float],
    quantity: str,
    along: str,
    label: str,
) -> None:
    """Draw a quantity against a number of the samples, with a weighted straight line."""
    rows = table[(table["quantity"] == quantity) & table["sample"].isin(at) & table["low"].notna()]
    factor = 100 if quantity.startswith(SHARE) else 1
    for name in dict.fromkeys(rows["class"]):
        own = rows[rows["class"] == name]
        x = own["sample"].map(at).to_numpy(float)
        value, low, high = (factor * own[c].to_numpy(float) for c in ("value", "low", "high"))
        colour = look.colour(name) if name else _BLUE
        axes.vlines(x, low, high, color=colour, linewidth=1.0)
        axes.plot(
            x, value, color=colour, linestyle="", markersize=0.5 * look.font_pt,
            marker=look.marker(name) if name else "o", label=printable(name) or "_",
        )  # fmt: skip
        if len(set(x)) > 1:
            slope, start = np.polyfit(x, value, 1, w=1 / np.maximum(high - low, 1e-12))
            ends = np.array([x.min(), x.max()])
            axes.plot(ends, start + slope * ends, color=colour, linewidth=0.6, linestyle="--")
    axes.set(xlabel=printable(along), ylabel=label or "Share / %")
    if not label:
        _name_classes(axes, look)
