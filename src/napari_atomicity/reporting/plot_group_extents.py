"""Plot of the extents of groups of atoms in nm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..core.text import pluralise
from .plot_bars import BAR, atom_look, draw_bars
from .plot_base import Look, Plot, message_if_empty, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MIN_WIDTH_NM = 0.1
"""Smallest width of a bar, about the uncertainty of an extent."""
MAX_BARS = 20


def extent_data(table: pd.DataFrame, **_: Any) -> pd.DataFrame:
    """Count groups of two or more atoms by their extent."""
    large = _of_groups(table).drop_duplicates(["image", "group_id"])["group_extent_nm"]
    extent = large.to_numpy(float)
    edges = _edges(extent)
    groups = np.histogram(extent, edges)[0] if len(extent) else np.zeros(0, int)
    return pd.DataFrame({"low_nm": edges[:-1], "high_nm": edges[1:], "groups": groups})


def _of_groups(table: pd.DataFrame) -> pd.DataFrame:
    """Return the atoms in groups of two or more."""
    return table[table["group_size"] > 1]


def _edges(extent: np.ndarray) -> np.ndarray:
    """Return the edges of the bars from 0; a single one without groups."""
    if not len(extent):
        return np.zeros(1)
    top = float(extent.max())
    width = MIN_WIDTH_NM * max(1, np.ceil(top / MIN_WIDTH_NM / MAX_BARS))
    return np.arange(int(np.floor(top / width)) + 2) * width


def _members(table: pd.DataFrame, data: pd.DataFrame) -> np.ndarray:
    member = np.full(len(table), -1)
    if len(data):
        rows = (table["group_size"] > 1).to_numpy()
        extent = table["group_extent_nm"].to_numpy(float)[rows]
        member[rows] = np.searchsorted(data["low_nm"], extent, side="right") - 1
    return member


def _places(data: pd.DataFrame) -> np.ndarray:
    groups = data["groups"].to_numpy(float)
    low, high = (data[name].to_numpy(float) for name in ("low_nm", "high_nm"))
    return np.stack([low, high, np.zeros(len(data)), groups], axis=1)


@message_if_empty("No groups of two or more atoms")
def draw_extents(axes: Axes, data: pd.DataFrame, look: Look) -> None:
    """Draw a histogram of the extents."""
    from matplotlib.ticker import MaxNLocator

    look = atom_look(look)
    boxes = _places(data)
    draw_bars(axes, look, boxes, [BAR] * len(data))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set(
        xlim=(0, float(boxes[:, 1].max())), ylim=(0, 1.08 * float(boxes[:, 3].max())),
        xlabel="Extent of a group / nm", ylabel="Groups",
    )  # fmt: skip
    n = int(data["groups"].sum())
    style_axes(axes, look, f"{pluralise(n, 'group')} of two or more atoms.")


def _row(row: Any) -> str:
    n = int(row["groups"])
    return f"{pluralise(n, 'group')} of {row['low_nm']:.2g} to {row['high_nm']:.2g} nm"


GROUP_EXTENTS = Plot(
    "Extents of groups",
    "Largest distance between two atoms of a group, for groups of two or more atoms.",
    extent_data,
    draw_extents,
    _members,
    _places,
    _row,
    nothing="No groups of two or more atoms.",
)
