"""Plots of any columns of numbers, also of added measurements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...core.tables.cluster_table import column_of, is_whole, own_columns, shown_values
from ...core.text import pluralise
from .base import (
    Look,
    Plot,
    draw_bars,
    draw_points,
    labels_in_order,
    legend,
    matching_row,
    message_if_empty,
    row_of_cluster,
    style_axes,
)
from .sizes import bin_index, bin_width, draw_class_names, row_boxes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BINS = 32
_NOTHING = "No complete cluster has a value in this column. Clusters at the border are not drawn."


def columns_to_plot(table: pd.DataFrame) -> list[str]:
    """Return the columns that can be plotted: one's own measurements, then those of the schema."""
    own = own_columns(table)
    others = [str(n) for n in table.columns if table[n].dtype.kind == "f" and str(n) not in own]
    return [name for name in (*own, *others) if table[name].notna().any()]


def axis_label(name: str) -> str:
    """Return the name of a column with its unit, as ``diameter / nm``."""
    column = column_of(name)
    unit = "" if column is None else column.unit
    return f"{name.removesuffix(f'_{unit}')} / {unit}" if unit else name


def _has_values(table: pd.DataFrame, *names: str) -> np.ndarray:
    """Return which complete clusters have a number in each of these columns."""
    found = is_whole(table)
    for name in names:
        found &= name in table and np.isfinite(shown_values(table, name).to_numpy(float))
    return found


# ---- one column
def histogram_data(
    table: pd.DataFrame, classes: Sequence[str] = (), x: str = "diameter_nm", **_: Any
) -> pd.DataFrame:
    """Count complete clusters by label and value of a column."""
    shown = table[_has_values(table, x)]
    if not len(shown):
        return pd.DataFrame(columns=["class", "column", "from", "to", "count"])
    names = labels_in_order(shown["label"], classes)
    code = shown["label"].map({name: i for i, name in enumerate(names)}).to_numpy(int)
    place, first, width = _bins(shown[x].to_numpy(float))
    n = int(place.max()) + 1
    start = (first + np.arange(n)) * width
    return pd.DataFrame(
        {
            "class": pd.Series([name for name in names for _ in range(n)], dtype=object),
            "column": x,
            "from": np.tile(start, len(names)),
            "to": np.tile(start + width, len(names)),
            "count": np.bincount(code * n + place, minlength=len(names) * n),
        }
    )


def _bins(values: np.ndarray) -> tuple[np.ndarray, int, float]:
    """Return the bin of each value from 0, the first bin in widths from zero, and the width."""
    low, high = values.min(), values.max()
    width = bin_width(low, high, _BINS, min_range=1e-9 * max(abs(low), abs(high)) or 1.0)
    place = bin_index(values, width)
    return place - place.min(), int(place.min()), width


def _histogram_members(table: pd.DataFrame, data: pd.DataFrame) -> np.ndarray:
    member = np.full(len(table), -1)
    if not len(data):
        return member
    name = data["column"].iloc[0]
    shown = np.flatnonzero(_has_values(table, name))
    member[shown] = matching_row(
        {
            "label": table["label"].to_numpy(object)[shown],
            "bin": _bins(table[name].to_numpy(float)[shown])[0],
        },
        data.assign(bin=data.groupby("class", sort=False).cumcount()),
        **{"class": "label", "bin": "bin"},
    )
    return member


def _histogram_places(data: pd.DataFrame) -> np.ndarray:
    return row_boxes(data, "from", "to")


@message_if_empty(_NOTHING)
def draw_histogram(axes: Axes, data: pd.DataFrame, look: Look) -> None:
    """Draw a histogram per class."""
    boxes, drawn = _histogram_places(data), data["count"] > 0
    draw_bars(axes, look, boxes[drawn], data["class"][drawn])
    draw_class_names(axes, look, data)
    width = boxes[0, 1] - boxes[0, 0]
    axes.set(
        xlim=(boxes[:, 0].min() - width, boxes[:, 1].max() + width),
        ylim=(-0.05, data["class"].nunique()),
        xlabel=axis_label(data["column"].iloc[0]),
    )
    style_axes(axes, look, f"{pluralise(int(data['count'].sum()), 'complete cluster')}.")


def _histogram_row(row: Any) -> str:
    return (
        f"{row['class'] or 'no label'}, {row['column']} {row['from']:g} to {row['to']:g}: "
        f"{pluralise(int(row['count']), 'cluster')}"
    )


HISTOGRAM = Plot(
    "Histogram of a column",
    "Distribution of the values of a column by class, also of added measurements.",
    histogram_data,
    draw_histogram,
    _histogram_members,
    _histogram_places,
    _histogram_row,
    nothing=_NOTHING,
)


# ---- two columns
def scatter_data(
    table: pd.DataFrame, x: str = "diameter_nm", y: str = "integrated_intensity", **_: Any
) -> pd.DataFrame:
    """Return the values of two columns of complete clusters."""
    shown = table[_has_values(table, x, y)]
    names = ("image", "cluster_id", "label", x, y)
    return pd.DataFrame(
        {"class" if name == "label" else name: shown[name] for name in names if name in shown}
    )


def _scatter_places(data: pd.DataFrame) -> np.ndarray:
    # The last two columns; if x and y are the same column, there is only one.
    x, y = data.iloc[:, 3:4].to_numpy(float), data.iloc[:, -1:].to_numpy(float)
    return np.hstack([x, x, y, y])


@message_if_empty(_NOTHING)
def draw_scatter(axes: Axes, data: pd.DataFrame, look: Look) -> None:
    """Draw a point per cluster."""
    x, _, y, _ = _scatter_places(data).T
    draw_points(axes, look, x, y, data["class"])
    axes.set(xlabel=axis_label(data.columns[3]), ylabel=axis_label(data.columns[-1]))
    legend(axes, look, beside=True)
    style_axes(axes, look, f"{pluralise(len(data), 'complete cluster')}.")


def _scatter_row(row: Any) -> str:
    values = ", ".join(f"{name} {row[name]:.4g}" for name in list(row.keys())[3:])
    return f"{row['class'] or 'no label'}: {values}\n{row['image']}, cluster {row['cluster_id']}"


SCATTER = Plot(
    "Two columns",
    "Values of one column against those of another, also of added measurements.",
    scatter_data,
    draw_scatter,
    row_of_cluster,
    _scatter_places,
    _scatter_row,
    nothing=_NOTHING,
)
