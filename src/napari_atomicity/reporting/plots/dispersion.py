"""Plots of the dispersion of atoms: nearest neighbours, g(r), L(r), G(r), quadrats, groups.

They are used like the plots of clusters (`reporting.plots.registry`), with an atom table of one
image or of several images. The context of ``data`` is ``dispersion``, the
`statistics.points.dispersion.DispersionStatistics` of the same atoms. Marks are bars, quadrats and
sizes, and ``members`` returns the mark of each atom.

>>> data = DISPERSION_PLOTS["nearest_neighbours"].data(atoms, dispersion=found)
>>> save_plot(DISPERSION_PLOTS["nearest_neighbours"], data, "nearest_neighbours.svg")
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...core.text import pluralise
from ...statistics.points.atom_groups import kind_of
from ...statistics.points.dispersion import DispersionStatistics
from .base import (
    BAR,
    Look,
    Plot,
    atom_look,
    draw_bars,
    format_p_value,
    legend,
    message_if_empty,
    per_cent,
    style_axes,
)
from .sizes import bin_index, bin_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes


# ---- plot of the extents of groups of atoms in nm

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


# ---- plot of the numbers of atoms in quadrats
def quadrat_data(
    table: pd.DataFrame, dispersion: DispersionStatistics | None = None, **_: Any
) -> pd.DataFrame:
    """Count atoms in each quadrat of one image; empty for several images."""
    columns = ["y_from_nm", "y_to_nm", "x_from_nm", "x_to_nm", "support_nm2", "count", "expected",
               "density_per_nm2", "used", "index", "p"]  # fmt: skip
    if dispersion is None or dispersion.quadrats is None:
        return pd.DataFrame(columns=columns)
    q = dispersion.quadrats
    rows, cols = (i.ravel() for i in np.indices(q.count.shape))
    area, count, used = q.area_nm2.ravel(), q.count.ravel(), q.used.ravel()
    density = count[used].sum() / area[used].sum() if used.any() else np.nan
    out = pd.DataFrame(
        {
            "y_from_nm": q.edges_y_nm[rows],
            "y_to_nm": q.edges_y_nm[rows + 1],
            "x_from_nm": q.edges_x_nm[cols],
            "x_to_nm": q.edges_x_nm[cols + 1],
            "support_nm2": area,
            "count": count.astype(int),
            "expected": area * density,
            "density_per_nm2": count / np.where(area > 0, area, np.nan),
            "used": used,
            "index": dispersion.quadrat_index,
            "p": dispersion.quadrat_p,
        }
    )
    return out[out["support_nm2"] > 0].reset_index(drop=True)[columns]


def quadrat_members(table: pd.DataFrame, data: pd.DataFrame) -> np.ndarray:
    """Return the quadrat of each atom, -1 for none."""
    member = np.full(len(table), -1)
    y, x = table["y_nm"].to_numpy(float), table["x_nm"].to_numpy(float)
    for i, (low_y, high_y, low_x, high_x) in enumerate(data.iloc[:, :4].to_numpy(float)):
        member[(y >= low_y) & (y < high_y) & (x >= low_x) & (x < high_x)] = i
    return member


def quadrat_places(data: pd.DataFrame) -> np.ndarray:
    """Return the extents of the quadrats as x from, x to, y from, y to in nm."""
    return data[["x_from_nm", "x_to_nm", "y_from_nm", "y_to_nm"]].to_numpy(float)


@message_if_empty("Quadrats are available for single images")
def draw_quadrats(axes: Axes, data: pd.DataFrame, look: Look) -> None:
    """Draw the density in each quadrat; quadrats with too little support are hatched."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import MaxNLocator

    boxes, used = quadrat_places(data), data["used"].to_numpy(bool)
    patches = [Rectangle((a, c), b - a, d - c) for a, b, c, d in boxes]
    shown = PatchCollection(
        [p for p, use in zip(patches, used, strict=True) if use], cmap="viridis",
        edgecolors=look.paper, linewidths=0.8,
    )  # fmt: skip
    shown.set_array(data["density_per_nm2"].to_numpy(float)[used])
    shown.set_clim(0, max(1e-9, float(data["density_per_nm2"][used].max()) if used.any() else 1.0))
    axes.add_collection(shown)
    axes.add_collection(
        PatchCollection(
            [p for p, use in zip(patches, used, strict=True) if not use], facecolors="none",
            edgecolors=look.ink, hatch="////", alpha=0.3, linewidths=0.5,
        )
    )  # fmt: skip
    for (a, b, c, d), n in zip(boxes, data["count"], strict=True):
        axes.text(
            (a + b) / 2, (c + d) / 2, str(n), ha="center", va="center", color="#ffffff",
            fontsize=0.9 * look.font_pt, path_effects=_outlined(), in_layout=False,
        )  # fmt: skip
    axes.set(
        xlim=(boxes[:, 0].min(), boxes[:, 1].max()), ylim=(boxes[:, 3].max(), boxes[:, 2].min()),
        xlabel="x / nm", ylabel="y / nm", aspect="equal",
    )  # fmt: skip
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))
    _draw_colour_bar(axes, look, shown)
    index, p = float(data["index"].iloc[0]), float(data["p"].iloc[0])
    if np.isfinite(index):
        style_axes(
            axes, look, f"Index of dispersion {index:.2f} (1 is random), {format_p_value(p)}."
        )
    else:
        style_axes(axes, look)


def _draw_colour_bar(axes: Axes, look: Look, shown: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    figure = axes.get_figure(root=True)
    if figure is not None:
        # A child of the axes, removed when these are cleared.
        bar = figure.colorbar(shown, cax=axes.inset_axes((1.03, 0.0, 0.04, 1.0)))
        bar.ax.yaxis.set_major_locator(MaxNLocator(4))
        bar.set_label("Atoms / nm² of support", color=look.ink, fontsize=look.font_pt)
        bar.ax.tick_params(colors=look.ink, labelsize=0.9 * look.font_pt)


def _outlined() -> list[Any]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2, foreground="#1d2433")]


def describe_quadrat(row: Any) -> str:
    """Describe one quadrat as text."""
    n = int(row["count"])
    return (
        f"{pluralise(n, 'atom')} on {row['support_nm2']:.3g} nm² of support, "
        f"{row['expected']:.1f} expected"
    )


_BINS = 40
EMPTY_MESSAGE = "No data: detect atoms first."


# ---- nearest neighbours
def neighbour_data(
    table: pd.DataFrame, dispersion: DispersionStatistics | None = None, **_: Any
) -> pd.DataFrame:
    """Count atoms and random atoms by the distance to the nearest neighbour.

    Distances are not corrected for the edge; random atoms have the same support and edge.
    """
    columns = ["distance_from_nm", "distance_to_nm", "count", "random", "random_low", "random_high"]
    distance = _distances(table)
    if not np.isfinite(distance).any():
        return pd.DataFrame(columns=columns)
    width = bin_width(0.0, float(np.nanquantile(distance, 0.995)), _BINS)
    n = int(np.floor(np.nanmax(distance) / width + 1e-9)) + 1
    edge = np.round(np.arange(n + 1) * width, 9)
    known = distance[np.isfinite(distance)]
    count = np.bincount(bin_index(known, width), minlength=n)
    random = np.full((3, n), np.nan)
    if dispersion is not None and "neighbours" in dispersion.curves:
        assert dispersion.randomness is not None
        curve = dispersion.randomness.curves["neighbours"]
        if len(curve.simulated):
            r = np.append(0.0, curve.r_nm)
            shares = [np.diff(np.interp(edge, r, np.append(0.0, s))) for s in curve.simulated]
            counts = np.array(shares) * len(known)
            ends = (1 - dispersion.level) / 2, (1 + dispersion.level) / 2
            random = np.stack([counts.mean(axis=0), *np.quantile(counts, ends, axis=0)])
    values = [edge[:-1], edge[1:], count, *random]
    return _at_level(pd.DataFrame(dict(zip(columns, values, strict=True))), dispersion)


def _at_level(data: pd.DataFrame, dispersion: DispersionStatistics | None) -> pd.DataFrame:
    """Note the coverage of the band in per cent, for the legend."""
    data.attrs["level_percent"] = 95.0 if dispersion is None else 100 * dispersion.level
    return data


def _distances(table: pd.DataFrame) -> np.ndarray:
    return table["nearest_neighbour_nm"].to_numpy(float)


def _neighbour_members(table: pd.DataFrame, data: pd.DataFrame) -> np.ndarray:
    member = np.full(len(table), -1)
    if not len(data):
        return member
    distance = _distances(table)
    known = np.isfinite(distance)
    number = bin_index(distance[known], float(data["distance_to_nm"].iloc[0]))
    member[known] = np.where(number < len(data), number, -1)
    return member


def _neighbour_places(data: pd.DataFrame) -> np.ndarray:
    low = np.zeros(len(data))
    columns = [data["distance_from_nm"], data["distance_to_nm"], low, data["count"]]
    return np.stack([np.asarray(c, float) for c in columns], axis=1)


@message_if_empty("Fewer than two atoms")
def draw_neighbours(axes: Axes, data: pd.DataFrame, look: Look) -> None:
    """Draw bars for the atoms, and a line and a band for random atoms."""
    look = atom_look(look)
    draw_bars(axes, look, _neighbour_places(data), [BAR] * len(data))
    middle = (data["distance_from_nm"] + data["distance_to_nm"]) / 2
    if data["random"].notna().any():
        axes.fill_between(
            middle, data["random_low"], data["random_high"], color=look.ink, alpha=0.15,
            linewidth=0, label=f"{data.attrs['level_percent']:g} % of random patterns", zorder=3,
        )  # fmt: skip
        axes.plot(
            middle, data["random"], color=look.ink, linewidth=1.2, label="random atoms", zorder=4
        )
    top = np.nanmax(data[["count", "random_high"]].to_numpy(float))
    axes.set(
        xlim=(0, float(data["distance_to_nm"].iloc[-1])), ylim=(0, 1.08 * top),
        xlabel="Distance to the nearest neighbour / nm", ylabel="Atoms",
    )  # fmt: skip
    style_axes(axes, look)
    legend(axes, look, loc="upper right")


def _neighbour_row(row: Any) -> str:
    n = int(row["count"])
    text = f"{row['distance_from_nm']:g} to {row['distance_to_nm']:g} nm: {pluralise(n, 'atom')}"
    return text if np.isnan(row["random"]) else f"{text}, {row['random']:.1f} for random atoms"


# ---- curves
def curve_data(
    name: str,  # "g", "L" or "G"
    table: pd.DataFrame,
    dispersion: DispersionStatistics | None = None,
    **_: Any,
) -> pd.DataFrame:
    """Return columns ``r_nm, observed, expected, low, high, p``; r is subtracted from L."""
    columns = ["r_nm", "observed", "expected", "low", "high", "p"]
    if dispersion is None or name not in dispersion.curves:
        return pd.DataFrame(columns=columns)
    assert dispersion.randomness is not None
    curve = dispersion.curves[name].copy()
    if name == "L":
        own = ["observed", "expected", "low", "high"]
        curve[own] = curve[own].sub(curve["r_nm"], axis=0)
    curve["p"] = dispersion.randomness.curves[name].p
    curve = curve[curve["observed"].notna()].reset_index(drop=True)[columns]
    return _at_level(curve, dispersion)


@message_if_empty("Fewer than two atoms")
def draw_curve(
    axes: Axes,
    data: pd.DataFrame,
    look: Look,
    label: str,
    distance: str = "Distance r",
    loc: str = "best",  # of the legend
) -> None:
    """Draw a function of the distance with its envelope."""
    look = atom_look(look)
    r = data["r_nm"]
    if data["low"].notna().any():
        axes.fill_between(
            r, data["low"], data["high"], color=look.ink, alpha=0.15, linewidth=0,
            label=f"{data.attrs['level_percent']:g} % global envelope of random atoms",
        )  # fmt: skip
        axes.plot(r, data["expected"], color=look.ink, linewidth=1, linestyle=(0, (4, 3)),
                  label="random atoms")  # fmt: skip
    axes.plot(r, data["observed"], color=look.colour(BAR), linewidth=1.8, label="atoms")
    axes.set(xlim=(0, float(r.iloc[-1])), xlabel=f"{distance} / nm", ylabel=label)
    legend(axes, look, loc=loc)
    p = float(data["p"].iloc[0])
    style_axes(
        axes, look, f"Test of complete spatial randomness on the same support: {format_p_value(p)}."
    )


def _curve_plot(name: str, title: str, explanation: str, **labels: str) -> Plot:
    return Plot(
        title,
        explanation,
        partial(curve_data, name),
        partial(draw_curve, **labels),
        _no_members,
        _curve_places,
        _curve_row,
        nothing=EMPTY_MESSAGE,
    )


def _no_members(table: pd.DataFrame, data: pd.DataFrame) -> np.ndarray:
    return np.full(len(table), -1)


def _curve_places(data: pd.DataFrame) -> np.ndarray:
    return data[["r_nm", "r_nm", "observed", "observed"]].to_numpy(float)


def _curve_row(row: Any) -> str:
    text = f"r = {row['r_nm']:.3g} nm: {row['observed']:.3g}"
    return text if np.isnan(row["low"]) else f"{text} ({row['low']:.3g} to {row['high']:.3g})"


# ---- sizes of groups
def group_data(
    table: pd.DataFrame, dispersion: DispersionStatistics | None = None, **_: Any
) -> pd.DataFrame:
    """Count groups by their number of atoms; their kinds have the fractions of the dispersion."""
    size = table["group_size"].to_numpy(int)
    found, atoms = np.unique(size[size > 0], return_counts=True)
    data = pd.DataFrame(
        {
            "size": found,
            "kind": kind_of(found),
            "groups": atoms // np.maximum(found, 1),
            "atoms": atoms,
            "share_of_atoms": atoms / max(int(atoms.sum()), 1),
        }
    )
    if dispersion is None:
        shares = data.groupby("kind")["share_of_atoms"].sum().to_dict()
    else:
        shares = {kind: share.value for kind, share in dispersion.shares.items()}
    return data.assign(share_of_kind=data["kind"].map(shares))


def _group_members(table: pd.DataFrame, data: pd.DataFrame) -> np.ndarray:
    numbers = {int(size): i for i, size in enumerate(data["size"])}
    return table["group_size"].map(numbers).fillna(-1).to_numpy(int)


def _group_places(data: pd.DataFrame) -> np.ndarray:
    size, groups = data["size"].to_numpy(float), data["groups"].to_numpy(float)
    return np.stack([size - 0.4, size + 0.4, np.zeros(len(data)), groups], axis=1)


@message_if_empty("No atoms")
def draw_groups(axes: Axes, data: pd.DataFrame, look: Look) -> None:
    """Draw a bar per group size."""
    from matplotlib.ticker import MaxNLocator

    look = atom_look(look)
    boxes = _group_places(data)
    draw_bars(axes, look, boxes, [BAR] * len(data))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set(
        xlim=(0.3, float(boxes[:, 1].max()) + 0.3), ylim=(0, 1.08 * float(boxes[:, 3].max())),
        xlabel="Atoms in a group", ylabel="Groups",
    )  # fmt: skip
    shares = data.drop_duplicates("kind").set_index("kind")["share_of_kind"]
    shares_text = ", ".join(f"{kind} {per_cent(float(share))}" for kind, share in shares.items())
    style_axes(axes, look, f"Fractions of atoms: {shares_text}.")


def _group_row(row: Any) -> str:
    n = int(row["groups"])
    return f"{pluralise(n, 'group')} of {row['size']} ({row['kind']})"


DISPERSION_PLOTS: dict[str, Plot] = {
    "nearest_neighbours": Plot(
        "Nearest neighbours",
        "Distances to the nearest neighbour, compared with random atoms on the same support.",
        neighbour_data,
        draw_neighbours,
        _neighbour_members,
        _neighbour_places,
        _neighbour_row,
        nothing=EMPTY_MESSAGE,
    ),
    "pair_correlation": _curve_plot(
        "g",
        "Pair correlation",
        "Density at a distance from an atom relative to the mean density; 1 for independent atoms. "
        "A curve that leaves the band at any distance is not random.",
        label="g(r)",
    ),
    "ripley_l": _curve_plot(
        "L",
        "Ripley's L",
        "Number of atoms within a distance r of an atom, transformed to L(r) − r: positive values "
        "indicate clustering, negative values regularity.",
        label="L(r) − r / nm",
    ),
    "neighbour_distribution": _curve_plot(
        "G",
        "Neighbour distribution",
        "Fraction of atoms whose nearest neighbour is within a distance r, corrected for the edge: "
        "above the band for clustered atoms, below it for regular ones.",
        label="Fraction of atoms G(r)",
        distance="Distance r to the nearest neighbour",
        loc="lower right",
    ),
    "quadrats": Plot(
        "Quadrats",
        "Numbers of atoms in the squares of a grid relative to their support.",
        quadrat_data,
        draw_quadrats,
        quadrat_members,
        quadrat_places,
        describe_quadrat,
        nothing=EMPTY_MESSAGE,
    ),
    "groups": Plot(
        "Groups of atoms",
        "Sizes of groups of atoms linked within a given distance.",
        group_data,
        draw_groups,
        _group_members,
        _group_places,
        _group_row,
        nothing=EMPTY_MESSAGE,
    ),
    "group_extents": GROUP_EXTENTS,
}
"""All plots of the dispersion by name, which is also the name of their files."""
