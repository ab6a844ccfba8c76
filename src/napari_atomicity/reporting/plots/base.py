"""Common parts of all plots: description, style, and drawing of selected clusters.

Plots draw into given axes, independent of figures and windows.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...core.palette import UNKNOWN_COLOUR, UNKNOWN_SYMBOL, colours, symbols
from ...core.tables.cluster_table import NON_CLASS_LABELS

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path


RASTER_FROM = 5000
"""Number of points above which an SVG file contains pixels: shapes are slow to draw."""


@dataclass(frozen=True)
class Look:
    """Colours, symbols and font size of a plot."""

    classes: Sequence[str] = ()  # all classes in order, which define colours and symbols
    # ink, paper: colours of lines and text, and of the background
    ink: str = "#1d2433"
    paper: str = "#ffffff"
    font_pt: float = 9.0  # font size in points

    def colour(self, label: str) -> str:
        """Return the colour of a label."""
        return colours(self.classes).get(label, UNKNOWN_COLOUR)

    def symbol(self, label: str) -> str:
        """Return the napari symbol of a label."""
        return symbols(self.classes).get(label, UNKNOWN_SYMBOL)

    def marker(self, label: str) -> str | Path:
        """Return the matplotlib marker of a label."""
        return marker(self.symbol(label))


def _no_text(row: Any) -> str:
    return ""


@dataclass(frozen=True)
class Plot:
    """One kind of plot: its data and how to draw them."""

    # title, explanation: title, and a sentence about the plot
    title: str
    explanation: str
    # ``data(table, **context)`` returns a DataFrame with one row per mark (a bar or a point) and
    # units in the names of the columns. The context is described in `plots`; plots ignore arguments
    # that they do not need
    data: Callable[..., pd.DataFrame]
    # ``draw(axes, data, look, **options)`` draws into empty axes, also for data without rows
    draw: Callable[..., None]
    # ``members(table, data)`` returns the row of the data of each cluster, -1 for none; None for a
    # plot whose marks cannot be selected
    members: Callable[[pd.DataFrame, pd.DataFrame], np.ndarray] | None
    # ``places(data)`` returns the extents of the marks in axes units, (n_rows, 4) as x from, x to,
    # y from, y to; those of a point are equal
    places: Callable[[pd.DataFrame], np.ndarray]
    # ``words(row)`` describes one row of the data as text
    words: Callable[[Any], str] = field(default=_no_text)
    # column of the data that groups marks, such as the bars of a bin or the points of an image; ""
    # without groups
    column: str = ""
    slow: bool = False  # whether ``data`` is too slow for the main thread of a window
    nothing: str = "No clusters: analyse an image first."  # message for data without rows


# ---- clusters
def labels_in_order(labels: pd.Series, classes: Sequence[str]) -> list[str]:
    """Return the labels that occur: classes in order, others, non-class labels, no label."""
    found = set(labels.unique())
    known = [*classes, *NON_CLASS_LABELS, ""]
    others = sorted(found - set(known))
    return [name for name in [*classes, *others, *NON_CLASS_LABELS, ""] if name in found]


def row_of_cluster(table: pd.DataFrame, data: pd.DataFrame) -> np.ndarray:
    """Return `Plot.members` for data with one row per cluster and the index of the table."""
    member = np.full(len(table), -1)
    member[data.index.to_numpy()] = np.arange(len(data))
    return member


def matching_row(
    table: Mapping[str, Any] | pd.DataFrame, data: pd.DataFrame, **same: str
) -> np.ndarray:
    """Return the row of the data with equal values for each row of a table."""
    wanted = pd.DataFrame({ours: np.asarray(table[theirs]) for ours, theirs in same.items()})
    numbered = data[list(same)].assign(_row=np.arange(len(data)))
    found = wanted.merge(numbered, on=list(same), how="left")["_row"]
    return found.fillna(-1).to_numpy(int)


# ---- looks
@lru_cache(maxsize=1)
def _markers() -> dict[str, str | Path]:
    from matplotlib.path import Path

    # Three overlapping discs, the symbol clobber of napari, which matplotlib does not have.
    angle = np.linspace(0, 2 * np.pi, 91)
    away = angle[:, None] - np.pi / 2 - 2 * np.pi / 3 * np.arange(3)
    shift = 0.65  # distance of each disc from the centre in radii
    reach = (shift * np.cos(away) + np.sqrt(1 - (shift * np.sin(away)) ** 2)).max(axis=1)
    discs = Path(reach[:, None] * np.column_stack([np.cos(angle), np.sin(angle)]))
    return {
        "disc": "o",
        "ring": "o",
        "square": "s",
        "triangle_up": "^",
        "triangle_down": "v",
        "diamond": "D",
        "star": "*",
        "cross": "P",
        "x": "X",
        "clobber": discs,
    }


def marker(symbol: str) -> str | Path:
    """Return the matplotlib marker for a symbol of napari, a disc for unknown symbols."""
    return _markers().get(symbol, "o")


def marker_scale(symbol: str) -> float:
    """Return the scale factor of a symbol, so that all symbols look equally large."""
    return {"star": 1.5, "cross": 1.15, "triangle_up": 1.15, "triangle_down": 1.15}.get(symbol, 1.0)


def style_axes(axes: Axes, look: Look, *caption: str) -> None:
    """Apply the style to axes: colours, two spines and a caption above them.

    Low figures show only as many sentences as have room, at least the first. The label of the axes
    has all of them.
    """
    axes.set_facecolor(look.paper)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(look.ink)
        spine.set_alpha(0.5)
        spine.set_in_layout(False)  # they lie on the edges of the axes, which are in it
    axes.tick_params(colors=look.ink, labelsize=0.9 * look.font_pt)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(look.ink)
        label.set_fontsize(look.font_pt)
    axes.set_label(" ".join(caption))
    width, height = size_em(axes, look)
    # The caption starts at the axes, about five letters from the edge.
    letters, max_lines = max(20, int(width / 0.57) - 6), int(height / 8)
    lines: list[str] = []
    for n in range(1, len(caption) + 1):
        more = textwrap.wrap(" ".join(caption[:n]), letters)
        if n == 1 or len(more) <= max_lines:
            lines = more
    if lines:
        axes.set_title(
            "\n".join(lines), loc="left", fontsize=look.font_pt, color=look.ink, wrap=False
        )


def size_em(axes: Axes, look: Look) -> tuple[float, float]:
    """Return width and height of the figure of axes in font sizes."""
    figure = axes.get_figure(root=True)
    width, height = (6.0, 4.2) if figure is None else figure.get_size_inches()
    return 72 * width / look.font_pt, 72 * height / look.font_pt


def legend(axes: Axes, look: Look, beside: bool = False, **options: Any) -> None:
    """Draw the legend without a frame."""
    from matplotlib.lines import Line2D

    handles, names = axes.get_legend_handles_labels()
    if not handles:
        return
    options = {"fontsize": 0.9 * look.font_pt, "labelcolor": look.ink, **options}
    if beside:
        # Above and below the axes are a line of the caption, the numbers and the label.
        rows = max(1, int((size_em(axes, look)[1] - 5.5) / 1.35))
        options |= {
            "loc": "upper left", "bbox_to_anchor": (1.0, 1.0), "ncols": -(-len(names) // rows),
            "borderaxespad": 0.2, "columnspacing": 0.8, "handlelength": 1.2,
        }  # fmt: skip
    drawn = axes.legend(handles, names, frameon=False, handletextpad=0.3, **options)
    drawn.set_in_layout(
        beside
    )  # inside the axes it needs no space, and its size is slow to compute
    for handle, name in zip(drawn.legend_handles, names, strict=True):
        if isinstance(handle, Line2D):  # one size for all symbols
            handle.set_markersize(0.65 * look.font_pt * marker_scale(look.symbol(name)))


def draw_message(axes: Axes, look: Look, message: str) -> None:
    """Draw a message in the centre of axes without data."""
    axes.text(
        0.5, 0.5, textwrap.fill(message, 44), transform=axes.transAxes, ha="center", va="center",
        color=look.ink, fontsize=look.font_pt,
    )  # fmt: skip


def message_if_empty(message: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator of ``draw(axes, data, look, ...)``: data without rows give a message.

    The decorated function may be called without a look.
    """

    def decorate(draw: Callable[..., None]) -> Callable[..., None]:
        @wraps(draw)
        def drawn(axes: Axes, data: pd.DataFrame, look: Look | None = None, **options: Any) -> None:
            look = look or Look()
            if len(data):
                draw(axes, data, look, **options)
            else:
                style_axes(axes, look)
                draw_message(axes, look, message)

        return drawn

    return decorate


def draw_points(
    axes: Axes,
    look: Look,
    x: np.ndarray,
    y: np.ndarray,
    label: pd.Series,  # labels of the points, which get entries in the legend
    face: np.ndarray | None = None,
) -> None:
    """Draw points in the colours and symbols of their labels; fast for many points."""
    size = float(np.clip(7.5 - 1.2 * np.log10(max(len(x), 1)), 2.0, 6.0))
    edge = 0.4 if len(x) < RASTER_FROM else 0.15
    for name in labels_in_order(label, look.classes):
        own = np.flatnonzero(label.to_numpy() == name)
        # One call per colour: matplotlib draws equal markers ten times as fast.
        parts = (
            {look.colour(name): own}
            if face is None
            else {c: own[i] for c, i in pd.Series(face[own]).groupby(face[own]).indices.items()}
        )
        for colour, rows in parts.items():
            axes.plot(
                x[rows], y[rows], linestyle="", marker=look.marker(name),
                markersize=size * marker_scale(look.symbol(name)),
                markerfacecolor=colour, markeredgecolor=(0, 0, 0, 0.6), markeredgewidth=edge,
                rasterized=len(x) > RASTER_FROM,
                label=(name or "no label") if face is None else "_",
            )  # fmt: skip


def per_cent(share: float) -> str:
    """Format a fraction as ``3.4 %``, ``28 %`` or ``99.7 %``, with a no-break space.

    Only all are ``100 %``: beside a small other fraction, more would contradict it.
    """
    is_nearly_all = 0.995 <= share < 1
    share = min(share, 0.999) if is_nearly_all else share
    digits = f"{100 * share:.{1 if share < 0.0995 or is_nearly_all else 0}f}"
    return f"{digits}\N{NO-BREAK SPACE}%"


def format_p_value(p: float) -> str:
    """Format a p-value; NaN is unknown."""
    return "p unknown" if np.isnan(p) else f"p = {p:.3g}"


# ---- margins, axes below each other, and lines, for charts without a layout engine
def margins(
    figure: Figure, look: Look, *, right_em: float = 1.0, bottom_em: float = 3.6
) -> dict[str, float]:
    """Return margins for a title, numbers and a label, that follow the font size.

    A layout engine would find them more exactly, and take longer than the drawing.
    """
    width, height = 72 * figure.get_size_inches() / look.font_pt
    return {
        "left": 3.6 / width,
        "right": max(1 - right_em / width, 0.4),
        "top": 1 - 1.6 / height,
        "bottom": min(bottom_em / height, 0.5),
    }


def stack_panels(
    figure: Figure,
    look: Look,
    heights: Sequence[float],  # relative heights of the axes, from the top
    right_em: float = 1.0,
    bottom_em: float = 3.6,
) -> list[Axes]:
    """Add axes below each other with a common horizontal axis, and margins for their texts."""
    grid = margins(figure, look, right_em=right_em, bottom_em=bottom_em)
    between, n = 1.9 * look.font_pt / 72 / figure.get_figheight(), len(heights)
    room = max(grid["top"] - grid["bottom"] - between * (n - 1), 0.05)
    rows = {**grid, "hspace": between * n / room, "height_ratios": heights}
    axes = list(figure.subplots(n, 1, sharex=True, squeeze=False, gridspec_kw=rows)[:, 0])
    for one in axes[:-1]:
        one.tick_params(bottom=False)
    return axes


def draw_line(
    axes: Axes, look: Look, x: np.ndarray, y: np.ndarray, colour: str, **options: Any
) -> None:
    """Draw a line that is visible on dark and on light backgrounds."""
    from matplotlib.patheffects import withStroke

    known = np.isfinite(y)
    axes.plot(
        x[known], y[known], color=colour, linewidth=1.5, marker="o", markersize=4.5,
        markevery=slice(None) if known.sum() <= 3 else [-1],
        # a dashed line would drown in the rim
        path_effects=[] if "linestyle" in options else [
            withStroke(linewidth=2.4, foreground=f"{look.ink}59")
        ],
        **options,
    )  # fmt: skip


# ---- bars of plots, and the selected part of their marks

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
