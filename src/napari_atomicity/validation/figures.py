"""Figures of a validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..core.palette import colours
from ..core.text import printable
from ..io.inputs import make_folder
from ..reporting.charts import INK, confusion_chart, draw_confusion, parity_chart, write_figure
from ..reporting.plots.base import Look, style_axes
from ..reporting.plots.cluster_map import draw_map
from ..reporting.plots.confidence import draw_reliability, reliability_data
from ..reporting.plots.ratios import draw_parity, parity_limit
from ..reporting.plots.registry import style
from .data import GROUPS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


GROUP_COLOURS = dict(zip(GROUPS, ("#0072b2", "#009e73", "#d55e00"), strict=True))
GROUP_MARKERS = dict(zip(GROUPS, ("o", "s", "D"), strict=True))
MIN_R2 = -0.5
"""Lower end of the axis of R²; smaller values are drawn as arrows there."""
_COLUMNS = 4
_PANEL_INCH = (1.75, 1.7)
_TITLE_LETTERS = 27
Result = Mapping[str, Any]


def score_figure(result: Result, score: str, label: str) -> Figure | None:
    """Draw a score of all methods, a symbol for each group of images.

    Bars are the bootstrap intervals by image or, without them, the standard deviation of the runs.
    """
    from matplotlib.figure import Figure

    shown = {n: m for n, m in result["methods"].items() if _values(m, score)}
    if not shown:
        return None
    with style():
        figure = Figure((6.4, 1.2 + 0.3 * len(shown)), layout="constrained")
        axes = figure.subplots()
        for row, method in enumerate(shown.values()):
            for group, value in _values(method, score).items():
                _draw_score(axes, _height(row, group), group, value)
        names = [printable(m["title"]) for m in shown.values()]
        axes.set_yticks(range(len(shown)), names)
        axes.set(xlabel=label, ylim=(len(shown) - 0.4, -0.6))
        _limit_axis(axes, score, list(shown.values()))
        style_axes(axes, Look(result["classes"]))
        axes.grid(alpha=0.3, linewidth=0.6)
        handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        figure.legend(
            handles.values(), handles.keys(), loc="outside upper right", ncols=3, frameon=False
        )
    return figure


def _values(method: Mapping[str, Any], score: str) -> dict[str, dict[str, float | None]]:
    found = {group: of[score] for group, of in method["groups"].items()}
    return {group: value for group, value in found.items() if value["mean"] is not None}


def _draw_score(axes: Axes, y: float, group: str, value: Mapping[str, Any]) -> None:
    mean = value["mean"]
    low, high = value["low"], value["high"]
    if low is None:
        low, high = (mean - (value["sd"] or 0), mean + (value["sd"] or 0))
    axes.errorbar(
        mean,
        y,
        xerr=[[max(0.0, mean - low)], [max(0.0, high - mean)]],
        marker=GROUP_MARKERS[group],
        markersize=4.5,
        color=GROUP_COLOURS[group],
        elinewidth=1,
        linestyle="",
        label=group,
    )


def _limit_axis(axes: Axes, score: str, methods: Sequence[Mapping[str, Any]]) -> None:
    """Limit the axis of a score; values of R² beyond it become arrows."""
    high = axes.get_xlim()[1]
    if score != "ratio_r2":
        axes.set_xlim(0, max(1.0, high) if score == "accuracy" else high)
        return
    axes.set_xlim(max(axes.get_xlim()[0], MIN_R2), 1.03)
    for row, method in enumerate(methods):
        for group, value in _values(method, score).items():
            if (value["mean"] or 0) < MIN_R2:
                place = (MIN_R2, _height(row, group))
                axes.plot(*place, "<", color=GROUP_COLOURS[group], markersize=4.5, clip_on=False)


def _height(row: int, group: str) -> float:
    """Return the position of the symbol of a group in the row of a method."""
    return row + 0.2 * (GROUPS.index(group) - 1)


def called_figure(result: Result, group: str) -> Figure | None:
    """Draw which classes each method calls in a group of images, below the true fractions."""
    from matplotlib.figure import Figure

    rows = {
        method["title"]: method["groups"][group]["called"]
        for method in result["methods"].values()
        if group in method["groups"]
    }
    if not rows:
        return None
    if result["groups"][group]["true"]:
        rows = {"True": result["groups"][group]["true"], **rows}
    classes = result["classes"]
    colour = colours(classes)
    with style():
        figure = Figure((6.4, 1.2 + 0.26 * len(rows)), layout="constrained")
        axes = figure.subplots()
        left = np.zeros(len(rows))
        for name in classes:
            width = np.array([100 * of.get(name, 0.0) for of in rows.values()])
            axes.barh(range(len(rows)), width, 0.75, left, color=colour[name], label=name)
            left += width
        axes.set_yticks(range(len(rows)), [printable(name) for name in rows])
        axes.set(xlabel="Share of the clusters / %", xlim=(0, 100), ylim=(len(rows) - 0.4, -0.6))
        style_axes(axes, Look(classes))
        figure.legend(loc="outside upper right", ncols=len(classes), frameon=False)
    return figure


def confusion_figure(result: Result, group: str) -> Figure | None:
    """Draw the confusion matrices of all methods on a group of images, in per cent of the rows."""
    classes = result["classes"]
    counts = {
        method["title"]: pd.DataFrame(
            method["groups"][group]["confusion"], index=classes, columns=classes
        )
        for method in result["methods"].values()
        if group in method["groups"]
    }
    counts = {name: table for name, table in counts.items() if table.to_numpy().any()}

    def _draw(axes: Axes, name: str) -> None:
        draw_confusion(axes, counts[name], "True class", in_per_cent=True)
        axes.tick_params(labelsize=6)
        axes.set(xlabel="", ylabel="")
        for text in axes.texts:
            text.set_fontsize(6)

    return panels(list(counts), _draw, "Predicted class", "True class")


def parity_figure(result: Result, group: str) -> Figure | None:
    """Draw the called against the true fractions of the samples for all methods."""
    look = Look(result["classes"], font_pt=7)
    pairs = {
        method["title"]: ratio_pairs(method["groups"][group]["ratios"])
        for method in result["methods"].values()
        if group in method["groups"]
    }
    pairs = {name: table for name, table in pairs.items() if len(table)}

    top = max(map(parity_limit, pairs.values()), default=100.0)

    def _draw(axes: Axes, name: str) -> None:
        draw_parity(axes, pairs[name], look, top)
        for line in axes.lines:
            line.set_markersize(0.7 * line.get_markersize())
        legend = axes.get_legend()
        if legend is not None and name != list(pairs)[min(_COLUMNS, len(pairs)) - 1]:
            legend.remove()
        axes.set(xlabel="", ylabel="")

    return panels(list(pairs), _draw, "True / %", "Found / %")


def reliability_figure(tables: Mapping[str, pd.DataFrame]) -> Figure | None:
    """Draw accuracy against confidence."""
    data = {}
    for name, table in tables.items():
        known = table[table["confidence"].notna() & (table["predicted"] != "")]
        renamed = known.rename(columns={"predicted": "label_predicted", "true": "label_corrected"})
        found = reliability_data(renamed.assign(label=renamed["label_corrected"]))
        if len(found):
            data[name] = found

    def _draw(axes: Axes, name: str) -> None:
        draw_reliability(axes, data[name], Look(font_pt=7))
        axes.set(xlabel="", ylabel="", aspect="equal")

    return panels(list(data), _draw, "Confidence", "Accuracy")


def map_figure(sides: Mapping[str, pd.DataFrame], classes: Sequence[str]) -> Figure | None:
    """Draw the map of the embedding, a panel for each side with common limits."""
    from matplotlib.figure import Figure

    shown = {name: t.dropna(subset=["umap_1", "umap_2"]) for name, t in sides.items()}
    shown = {name: table for name, table in shown.items() if len(table)}
    if not shown:
        return None
    with style():
        figure = Figure((3.4 * len(shown) + 0.8, 3.2), layout="constrained")
        row = figure.subplots(1, len(shown), squeeze=False, sharex=True, sharey=True)[0]
        for axes, (name, table) in zip(row, shown.items(), strict=True):
            draw_map(axes, table, Look(classes))
            axes.set_title(name, loc="left", fontsize=9)
            legend = axes.get_legend()
            if legend is not None and axes is not row[-1]:
                legend.remove()
    return figure


def panels(
    names: Sequence[str], draw: Callable[[Axes, str], None], x_label: str, y_label: str
) -> Figure | None:
    """Draw a small chart for each name, four in a row."""
    from matplotlib.figure import Figure

    if not names:
        return None
    n_columns = min(_COLUMNS, len(names))
    n_rows = -(-len(names) // n_columns)
    size = (_PANEL_INCH[0] * n_columns + 0.4, _PANEL_INCH[1] * n_rows + 0.3)
    with style():
        figure = Figure(size, layout="constrained")
        grid = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for axes, name in zip(grid, names, strict=False):
            draw(axes, name)
            axes.set_title(fill(printable(name), _TITLE_LETTERS), loc="left", fontsize=7, color=INK)
        for axes in grid[len(names) :]:
            axes.set_visible(False)
        figure.supxlabel(x_label, fontsize=8)
        figure.supylabel(y_label, fontsize=8)
    return figure


# ---- figures of the scores of a cluster table
def write_score_figures(scores: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write the figures of one column of labels as PNG and SVG.

    Raises `AtomicityError` if a file cannot be written.
    """
    make_folder(folder)
    confusion = scores["classification"]["confusion"]
    classes = confusion["classes"]
    counts = pd.DataFrame(confusion["counts"], index=classes, columns=classes)
    charts = {
        "confusion": confusion_chart(counts, "True label"),
        "ratios": parity_chart(ratio_pairs(scores["ratios"]["table"]), classes),
    }
    written = []
    for name, figure in charts.items():
        if figure is not None:
            written += write_figure(figure, folder / f"{name}-{scores['column']}")
    return written


def ratio_pairs(samples: Mapping[str, Mapping[str, Mapping[str, float | None]]]) -> pd.DataFrame:
    """Return the fractions of samples as pairs for `plot_parity`."""
    columns = ["scope", "class", "reference", "fraction", "fraction_low", "fraction_high"]
    rows = [
        (
            name,
            label,
            fraction,
            of["predicted"][label],
            of.get("predicted_low", of["predicted"])[label],
            of.get("predicted_high", of["predicted"])[label],
        )
        for name, of in samples.items()
        for label, fraction in of["true"].items()
    ]
    pairs = pd.DataFrame(rows, columns=columns)
    for end in ("fraction_low", "fraction_high"):
        pairs[end] = pairs[end].astype(float).fillna(pairs["fraction"])
    # Bars cannot end on the other side of their point.
    pairs["fraction_low"] = pairs[["fraction_low", "fraction"]].min(axis=1)
    pairs["fraction_high"] = pairs[["fraction_high", "fraction"]].max(axis=1)
    return pairs
