"""What all plots have in common: how one is described, its looks, how selected clusters show.

No figure is made here and nothing of a window is known: a plot draws into axes that it is given.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..core.cluster_table import NON_CLASS_LABELS
from ..core.palette import UNKNOWN_COLOUR, UNKNOWN_SYMBOL, colours, symbols

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.path import Path

RASTER_FROM = 5000
"""Points in a plot from which on an SVG holds them as pixels: as shapes they take seconds."""


@dataclass(frozen=True)
class Look:
    """What a plot looks like wherever it is drawn.

    Parameters
    ----------
    classes
        All classes in order: they decide on colours and symbols.
    ink, paper
        Colours of lines and words, and of the ground.
    font_pt
        Size of the words.
    """

    classes: Sequence[str] = ()
    ink: str = "#1d2433"
    paper: str = "#ffffff"
    font_pt: float = 9.0

    def colour(self, label: str) -> str:
        return colours(self.classes).get(label, UNKNOWN_COLOUR)

    def symbol(self, label: str) -> str:
        return symbols(self.classes).get(label, UNKNOWN_SYMBOL)

    def marker(self, label: str) -> str | Path:
        return marker(self.symbol(label))


def _no_text(row: Any) -> str:
    return ""


@dataclass(frozen=True)
class Plot:
    """One kind of plot, as data and as a picture.

    Parameters
    ----------
    title, explanation
        Its name, and what it shows in a sentence.
    data
        ``data(table, **context)``: what is drawn, one row per mark (a bar, a point), with units in
        the names of the columns. The context is that of `PLOTS`; what a plot has no use for is
        ignored.
    draw
        ``draw(axes, data, look)``: into empty axes, data without rows too.
    members
        ``members(table, data)``: of each cluster, (N,), the row of data that it is part of, or -1.
    places
        ``places(data)``: where the marks are, (rows, 4) as x from, x to, y from, y to in the units
        of the axes; a point has no extent.
    words
        ``words(row)``: one row of data, as a person reads it.
    column
        The column of the data whose values hold together what lies above each other: all bars of
        a bin, all points of an image; "" where nothing does.
    slow
        Whether ``data`` may take longer than a window can wait.
    nothing
        What to do where there is nothing to draw.
    """

    title: str
    explanation: str
    data: Callable[..., pd.DataFrame]
    draw: Callable[..., None]
    members: Callable[[pd.DataFrame, pd.DataFrame], np.ndarray]
    places: Callable[[pd.DataFrame], np.ndarray]
    words: Callable[[Any], str] = field(default=_no_text)
    column: str = ""
    slow: bool = False
    nothing: str = "Analyse an image first: there is nothing to draw yet."


# ---- clusters
def is_complete(table: pd.DataFrame) -> pd.Series:
    """Clusters that are not cut by the border and not in an excluded region: (N,) bool."""
    keep = ~table["touches_border"].astype(bool)
    return keep & ~table["excluded"].astype(bool) if "excluded" in table.columns else keep


def labels_in_order(labels: pd.Series, classes: Sequence[str]) -> list[str]:
    """The labels that occur: classes in order, others, those that are no class, none."""
    found = set(labels.unique())
    known = [*classes, *NON_CLASS_LABELS, ""]
    others = sorted(found - set(known))
    return [name for name in [*classes, *others, *NON_CLASS_LABELS, ""] if name in found]


def row_of_cluster(table: pd.DataFrame, data: pd.DataFrame) -> np.ndarray:
    """`Plot.members` where a row of data is a cluster: its index is that of the table's row."""
    member = np.full(len(table), -1)
    member[data.index.to_numpy()] = np.arange(len(data))
    return member


def matching_row(
    table: Mapping[str, Any] | pd.DataFrame, data: pd.DataFrame, **same: str
) -> np.ndarray:
    """The row of data, or -1, in which these columns say the same as in the table.

    Parameters
    ----------
    table, data
        Any tables.
    same
        Column of the data → column of the table.
    """
    wanted = pd.DataFrame({ours: np.asarray(table[theirs]) for ours, theirs in same.items()})
    numbered = data[list(same)].assign(_row=np.arange(len(data)))
    found = wanted.merge(numbered, on=list(same), how="left")["_row"]
    return found.fillna(-1).to_numpy(int)


# ---- looks
@lru_cache(maxsize=1)
def _markers() -> dict[str, str | Path]:
    from matplotlib.path import Path

    # Three discs round a middle, as napari draws its clobber; matplotlib has none.
    angle = np.linspace(0, 2 * np.pi, 91)
    away = angle[:, None] - np.pi / 2 - 2 * np.pi / 3 * np.arange(3)
    shift = 0.65  # of each disc from the middle, in radii
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
    """What matplotlib draws for a symbol of napari; a disc for one that is not known."""
    return _markers().get(symbol, "o")


def marker_scale(symbol: str) -> float:
    """By how much larger a symbol is drawn that covers little of its box."""
    return {"star": 1.5, "cross": 1.15, "triangle_up": 1.15, "triangle_down": 1.15}.get(symbol, 1.0)


def style_axes(axes: Axes, look: Look, said: str = "") -> None:
    """Ink on paper, two spines, and a line or two above the axes that say what is seen."""
    axes.set_facecolor(look.paper)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(look.ink)
        spine.set_alpha(0.5)
    axes.tick_params(colors=look.ink, labelsize=0.9 * look.font_pt)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(look.ink)
        label.set_fontsize(look.font_pt)
    if said:
        # It begins where the axes do, some five letters from the edge.
        lines = textwrap.wrap(said, max(20, int(_width_pt(axes) / (0.57 * look.font_pt)) - 6))
        axes.set_title(
            "\n".join(lines), loc="left", fontsize=look.font_pt, color=look.ink, wrap=False
        )


def legend(axes: Axes, look: Look, above: bool = False, **options: Any) -> None:
    """Names of what has a label, without a frame; above the axes in as many lines as it takes."""
    from matplotlib.lines import Line2D

    handles, names = axes.get_legend_handles_labels()
    if not handles:
        return
    options = {"fontsize": 0.9 * look.font_pt, "labelcolor": look.ink, **options}
    if above:
        # A column is as wide as its longest name and a marker.
        width_pt = (3.2 + 0.6 * max(map(len, names))) * look.font_pt
        columns = max(1, int((_width_pt(axes) - 5 * look.font_pt) / width_pt))
        options |= {
            "loc": "lower left", "bbox_to_anchor": (0, 1.0), "ncols": min(columns, len(names)),
            "borderaxespad": 0.2, "columnspacing": 0.8, "handlelength": 1.2,
        }  # fmt: skip
    drawn = axes.legend(handles, names, frameon=False, handletextpad=0.3, **options)
    drawn.set_in_layout(above)  # within the axes it takes no room, and its size takes time
    for handle, name in zip(drawn.legend_handles, names, strict=True):
        if isinstance(handle, Line2D):  # of one size, however small the points are
            handle.set_markersize(0.65 * look.font_pt * marker_scale(look.symbol(name)))


def _width_pt(axes: Axes) -> float:
    figure = axes.get_figure(root=True)
    return 432.0 if figure is None else 72 * figure.get_figwidth()


def draw_message(axes: Axes, look: Look, words: str) -> None:
    """Words in the middle of axes that have nothing to show."""
    axes.text(
        0.5, 0.5, textwrap.fill(words, 44), transform=axes.transAxes, ha="center", va="center",
        color=look.ink, fontsize=look.font_pt,
    )  # fmt: skip


def draw_points(
    axes: Axes,
    look: Look,
    x: np.ndarray,
    y: np.ndarray,
    label: pd.Series,
    face: np.ndarray | None = None,
) -> None:
    """Very many points in the colours and symbols of their labels, with these in the legend.

    Parameters
    ----------
    x, y, label
        N places and labels.
    face
        N colours as text where they don't mean the label; the legend is left to the caller.
    """
    size = float(np.clip(7.5 - 1.2 * np.log10(max(len(x), 1)), 2.0, 6.0))
    edge = 0.4 if len(x) < RASTER_FROM else 0.15
    for name in labels_in_order(label, look.classes):
        own = np.flatnonzero(label.to_numpy() == name)
        # One call per colour: matplotlib stamps equal marks ten times as fast.
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


def draw_bars(
    axes: Axes, look: Look, boxes: np.ndarray, label: Iterable[str], hollow: bool = False
) -> None:
    """Bars (rows, 4) as x from, x to, y from, y to, in the colours of their labels."""
    from matplotlib.collections import PolyCollection

    tints = [look.colour(name) for name in label]
    faces, edges, width = (look.paper, tints, 0.9) if hollow else (tints, look.paper, 0.4)
    axes.add_collection(
        PolyCollection(_corners(boxes), facecolors=faces, edgecolors=edges, linewidths=width)
    )


def _corners(boxes: np.ndarray) -> list[np.ndarray]:
    """The (4, 2) corners of each box given as x from, x to, y from, y to."""
    left, right, low, high = np.asarray(boxes, float).reshape(-1, 4).T
    x, y = np.stack([left, right, right, left], 1), np.stack([low, low, high, high], 1)
    return list(np.stack([x, y], axis=2))


def draw_selection(axes: Axes, look: Look, boxes: np.ndarray, share: np.ndarray) -> list[Artist]:
    """Show how much of each mark is selected: bars are filled with ink, points are ringed.

    Parameters
    ----------
    boxes
        (rows, 4) of `Plot.places`.
    share
        (rows,) of the clusters of each mark that are selected, 0 to 1.

    Returns
    -------
    list of matplotlib.artist.Artist
        What was added to the axes.
    """
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
        # Many rings must leave something of the points to be seen.
        thin = float(np.clip(1.4 - 0.25 * np.log10(flat.sum()), 0.6, 1.4))
        for width, colour in ((2.2 * thin, look.paper), (thin, look.ink)):
            added += axes.plot(
                boxes[flat, 0], boxes[flat, 2], linestyle="", marker="o", markersize=3 + 3 * thin,
                markerfacecolor="none", markeredgecolor=colour, markeredgewidth=width, zorder=5,
                scalex=False, scaley=False,
            )  # fmt: skip
    return added


def per_cent(share: float) -> str:
    """``3.4 %``, ``28 %``: two digits are enough. No line ends before the sign."""
    digits = f"{100 * share:.1f}" if share < 0.0995 else f"{100 * share:.0f}"
    return f"{digits}\N{NO-BREAK SPACE}%"
