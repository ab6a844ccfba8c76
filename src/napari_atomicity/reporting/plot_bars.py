"""Bars of plots, and the selected part of their marks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .plot_base import Look

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

BAR = "atoms"
"""Label of all bars of atoms, which defines their colour."""


def atom_look(look: Look | None) -> Look:
    """Return the look with the single class `BAR`."""
    return replace(look or Look(), classes=(BAR,))


def draw_bars(
    axes: Axes, look: Look, boxes: np.ndarray, label: Iterable[str], hollow: bool = False
) -> None:
    """Draw bars in the colours of their labels."""
    from matplotlib.collections import PolyCollection

    tints = [look.colour(name) for name in label]
    faces, edges, width = (look.paper, tints, 0.9) if hollow else (tints, look.paper, 0.4)
    axes.add_collection(
        PolyCollection(_corners(boxes), facecolors=faces, edgecolors=edges, linewidths=width)
    )


def _corners(boxes: np.ndarray) -> list[np.ndarray]:
    """Return the corners (4, 2) of each box."""
    left, right, low, high = np.asarray(boxes, float).reshape(-1, 4).T
    x, y = np.stack([left, right, right, left], 1), np.stack([low, low, high, high], 1)
    return list(np.stack([x, y], axis=2))


def draw_selection(axes: Axes, look: Look, boxes: np.ndarray, share: np.ndarray) -> list[Artist]:
    """Highlight selected clusters: bars are partly filled, points get rings."""
    from matplotlib.collections import PolyCollection

    chosen = np.asarray(share) > 0
    boxes, share = np.asarray(boxes, float)[chosen], np.asarray(share)[chosen]
    flat = boxes[:, 0] == boxes[:, 1]
    added: list[Artist] = []
    if (~flat).any():
        bars = boxes[~flat].copy()
        bars[:, 3] = bars[:, 2] + share[~flat] * (bars[:, 3] - bars[:, 2])
        inset = 0.2 * (bars[:, 1] - bars[:, 0])
        bars[:, 0] += inset
        bars[:, 1] -= inset
        marks = PolyCollection(
            _corners(bars), facecolors=look.ink, edgecolors=look.paper, linewidths=0.6, zorder=5
        )
        axes.add_collection(marks, autolim=False)
        added.append(marks)
    if flat.any():
        # Many rings are thin, so that points stay visible.
        thin = float(np.clip(1.4 - 0.25 * np.log10(flat.sum()), 0.6, 1.4))
        for width, colour in ((2.2 * thin, look.paper), (thin, look.ink)):
            added += axes.plot(
                boxes[flat, 0], boxes[flat, 2], linestyle="", marker="o", markersize=3 + 3 * thin,
                markerfacecolor="none", markeredgecolor=colour, markeredgewidth=width, zorder=5,
                scalex=False, scaley=False,
            )  # fmt: skip
    return added
