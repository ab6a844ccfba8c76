"""Plots of diameters by class, and of integrated intensity against the number of atoms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...core.tables.cluster_table import NON_CLASS_LABELS, is_whole
from ...core.text import pluralise
from ...models.scale.intensity_scale import usable
from ...models.thresholds import by_thresholds, fit_thresholds
from ...statistics.scores import atoms_of
from .base import (
    Look,
    Plot,
    draw_bars,
    draw_points,
    labels_in_order,
    legend,
    marker_scale,
    matching_row,
    message_if_empty,
    per_cent,
    row_of_cluster,
    size_em,
    style_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BINS = 32
_MIN_RANGE = 0.2
_ROW_HEIGHT = 0.82
"""Height of the tallest bar of a class; the distance of classes is 1."""
_GOLDEN = 0.618033988749895


# ---- diameters
def bin_width(low: float, high: float, max_bins: int, min_range: float = _MIN_RANGE) -> float:
    """Return a bin width of 1, 2 or 5 times a power of ten."""
    min_width = max(high - low, min_range) / max_bins
    power = 10.0 ** np.floor(np.log10(min_width))
    return float(next(n * power for n in (1, 2, 5, 10) if n * power >= min_width))


def bin_index(values: np.ndarray, width: float) -> np.ndarray:
    """Return the bin of each value."""
    # The offset prevents rounding errors at the lower edges of bins.
    return np.floor(values / width + 1e-9).astype(int)


def diameter_data(table: pd.DataFrame, classes: Sequence[str] = (), **_: Any) -> pd.DataFrame:
    """Count complete clusters by label and diameter, and errors of a classification by diameter.

    The thresholds between neighbouring classes minimise the balanced error on these clusters.
    """
    shown = table[is_whole(table) & np.isfinite(table["diameter_nm"])]
    columns = ["class", "diameter_from_nm", "diameter_to_nm", "count", "misclassified",
               "cut_from_nm", "cut_to_nm"]  # fmt: skip
    if not len(shown):
        return pd.DataFrame(columns=columns)
    value, label = shown["diameter_nm"].to_numpy(float), shown["label"]
    names = labels_in_order(label, classes)
    code = label.map({name: i for i, name in enumerate(names)}).to_numpy(int)
    ranges, wrong = _cuts(value, code, names)
    width = bin_width(value.min(), value.max(), _BINS)
    place = bin_index(value, width)
    first, n = place.min(), int(np.ptp(place)) + 1
    cell = code * n + place - first
    count = np.bincount(cell, minlength=len(names) * n)
    misclassified = np.bincount(cell, wrong, minlength=len(names) * n).astype(int)
    edge = np.round((first + np.arange(n + 1)) * width, 9)
    rows = [name for name in names for _ in range(n)]
    return pd.DataFrame(
        {
            "class": pd.Series(rows, dtype=object),
            "diameter_from_nm": np.tile(edge[:-1], len(names)),
            "diameter_to_nm": np.tile(edge[1:], len(names)),
            "count": count,
            "misclassified": misclassified,
            "cut_from_nm": np.repeat(ranges[:, 0], n),
            "cut_to_nm": np.repeat(ranges[:, 1], n),
        }
    )[columns]


def _cuts(value: np.ndarray, code: np.ndarray, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the diameter range of each label (n_labels, 2), and the misclassified clusters."""
    ranges, wrong = np.full((len(names), 2), np.nan), np.zeros(len(value), bool)
    known = [i for i, name in enumerate(names) if name not in (*NON_CLASS_LABELS, "")]
    if len(known) < 2:
        return ranges, wrong
    # Sizes of one element are in order of their atoms. Classes of alloys may be in another one.
    order = sorted(known, key=lambda i: atoms_of(names[i]) or 0)
    if len({names[i].rstrip("0123456789") for i in known}) > 1:
        order = sorted(known, key=lambda i: float(np.median(value[code == i])))
    rank = np.full(len(names), -1)
    rank[order] = np.arange(len(order))
    of_class = rank[code] >= 0
    # Half-way to the next value, so that rounded thresholds classify alike.
    cuts = np.array(fit_thresholds(value[of_class], rank[code[of_class]], len(order)))
    above = [value[of_class & (value > cut)].min(initial=np.inf) for cut in cuts]
    cuts = np.where(np.isfinite(above), (cuts + above) / 2, cuts).tolist()
    wrong[of_class] = by_thresholds(value[of_class], cuts) != rank[code[of_class]]
    ends = [-np.inf, *cuts, np.inf]
    ranges[order] = np.stack([ends[:-1], ends[1:]], axis=1)
    return ranges, wrong


def misclassified(data: pd.DataFrame) -> tuple[int, int]:
    """Return the number of misclassified clusters, and of all clusters with a class."""
    rows = data[data["cut_from_nm"].notna()]
    return int(rows["misclassified"].sum()), int(rows["count"].sum())


def cuts_nm(data: pd.DataFrame) -> list[float]:
    """Return the thresholds in ascending order."""
    ends = data["cut_to_nm"].to_numpy(float)
    return np.unique(ends[np.isfinite(ends)]).tolist()


def row_boxes(data: pd.DataFrame, start: str, stop: str) -> np.ndarray:
    """Return the bars of histograms of several classes, one above the other."""
    names = list(dict.fromkeys(data["class"]))
    base = data["class"].map({n: len(names) - 1 - i for i, n in enumerate(names)}).to_numpy(float)
    tallest = data.groupby("class", sort=False)["count"].transform("max").to_numpy(float)
    high = base + _ROW_HEIGHT * data["count"].to_numpy(float) / np.maximum(tallest, 1)
    edges = (data[start].to_numpy(float), data[stop].to_numpy(float))
    return np.stack([*edges, base, high], axis=1)


def draw_class_names(axes: Axes, look: Look, data: pd.DataFrame) -> None:
    """Draw line, symbol, name and number of clusters of each class of `row_boxes`."""
    totals = data.groupby("class", sort=False)["count"].sum()
    names = list(totals.index)
    for i, name in enumerate(names):
        axes.axhline(i, color=look.ink, linewidth=0.5, alpha=0.3)
        axes.plot(
            [0.012], [len(names) - 1 - i + 0.62], transform=axes.get_yaxis_transform(),
            marker=look.marker(name), color=look.colour(name), markeredgecolor=(0, 0, 0, 0.6),
            markeredgewidth=0.4, linestyle="", clip_on=False,
            markersize=0.65 * look.font_pt * marker_scale(look.symbol(name)),
        )  # fmt: skip
    # In low figures, not every class has room for its name; it has its symbol.
    step = int(np.ceil(len(names) * 1.2 / max(size_em(axes, look)[1] - 6, 1)))
    axes.set_yticks(
        [len(names) - 1 - i + 0.4 for i in range(0, len(names), step)],
        [f"{name or 'no label'} ({totals[name]})" for name in names[::step]],
    )
    axes.tick_params(axis="y", length=0)


def _diameter_places(data: pd.DataFrame) -> np.ndarray:
    return row_boxes(data, "diameter_from_nm", "diameter_to_nm")


@message_if_empty("No diameters")
def draw_diameter(axes: Axes, data: pd.DataFrame, look: Look) -> None:
    """Draw a histogram per class; misclassified clusters are hollow."""
    boxes = _diameter_places(data)
    bars = boxes[data["count"] > 0]
    own = data["class"][data["count"] > 0]
    draw_bars(axes, look, bars, own)
    count = data["count"].to_numpy(float)[data["count"] > 0]
    missed = data["misclassified"].to_numpy(float)[data["count"] > 0]
    hollow = bars.copy()
    hollow[:, 2] = bars[:, 3] - (bars[:, 3] - bars[:, 2]) * missed / count
    draw_bars(axes, look, hollow[missed > 0], own[missed > 0], hollow=True)
    for cut in cuts_nm(data):
        axes.axvline(cut, color=look.ink, linewidth=1, linestyle=(0, (4, 3)), alpha=0.8)
    draw_class_names(axes, look, data)
    width = boxes[0, 1] - boxes[0, 0]
    axes.set(
        xlim=(bars[:, 0].min() - 2 * width, bars[:, 1].max() + width),
        ylim=(-0.05, data["class"].nunique()),
        xlabel="Diameter / nm",
    )
    style_axes(axes, look, *_describe_diameter(data))


def _describe_diameter(data: pd.DataFrame) -> tuple[str, ...]:
    wrong, of = misclassified(data)
    if not of:
        return ()
    cuts = ", ".join(f"{cut:.2f}" for cut in cuts_nm(data))
    listed = data[data["cut_to_nm"].notna()].drop_duplicates("class")
    by_size = listed.sort_values(["cut_from_nm", "cut_to_nm"])["class"].tolist()
    other_order = by_size != listed["class"].tolist()
    between = f" between {', '.join(by_size)}" * other_order
    return (
        f"Thresholds of least balanced error misclassify {per_cent(wrong / of)} (hollow).",
        f"{wrong} of {of} clusters, thresholds {cuts} nm (dashed){between}.",
    )


def _diameter_row(row: Any) -> str:
    n = int(row["count"])
    return (
        f"{row['class'] or 'no label'}, {row['diameter_from_nm']:g} to "
        f"{row['diameter_to_nm']:g} nm: {pluralise(n, 'cluster')}, "
        f"{int(row['misclassified'])} misclassified by the thresholds"
    )


def _diameter_members(table: pd.DataFrame, data: pd.DataFrame) -> np.ndarray:
    member = np.full(len(table), -1)
    shown = np.flatnonzero(is_whole(table) & np.isfinite(table["diameter_nm"]))
    if not len(data) or not len(shown):
        return member
    start = data["diameter_from_nm"].to_numpy(float)
    width = float(data["diameter_to_nm"].iloc[0]) - start[0]
    first = round(start[0] / width)
    found = matching_row(
        {
            "label": table["label"].to_numpy(object)[shown],
            "bin": bin_index(table["diameter_nm"].to_numpy(float)[shown], width) - first,
        },
        data.assign(bin=np.rint(start / width).astype(int) - first),
        **{"class": "label", "bin": "bin"},
    )
    member[shown] = found
    return member


DIAMETER = Plot(
    "Diameter by class",
    "Overlap of the diameters of the classes, and clusters that thresholds on the diameter alone "
    "misclassify. The thresholds have the least balanced error, in which all classes weigh alike.",
    diameter_data,
    draw_diameter,
    _diameter_members,
    _diameter_places,
    _diameter_row,
    nothing="No complete clusters with a diameter: analyse an image first. Clusters at the border "
    "are not drawn.",
)


# ---- intensity
def intensity_data(
    table: pd.DataFrame, scales: Mapping[str, float] | None = None, **_: Any
) -> pd.DataFrame:
    """Return integrated intensities and numbers of atoms of complete, isolated clusters."""
    atoms = table["label"].map({n: atoms_of(n) for n in table["label"].unique()})
    scales = scales or {}
    per_atom = table["image"].map(scales).astype(float)
    keep = usable(table) & is_whole(table) & atoms.notna() & ~table["label"].isin(NON_CLASS_LABELS)
    if scales:
        keep &= per_atom > 0
    out = pd.DataFrame(
        {
            "image": table["image"],
            "cluster_id": table["cluster_id"],
            "class": table["label"],
            "atoms": atoms.astype(float),
            "intensity_counts_nm2": table["integrated_intensity"],
            "intensity_atoms": table["integrated_intensity"] / per_atom,
        }
    )[np.asarray(keep, bool)]
    return out


def _unit(data: pd.DataFrame) -> str:
    """Return the column to draw."""
    known = data["intensity_atoms"].notna().any()
    return "intensity_atoms" if known else "intensity_counts_nm2"


def intensity_line(data: pd.DataFrame) -> tuple[float, float]:
    """Return the slope of the proportional line, per atom, and the relative scatter.

    Labels follow from intensities to a large part, and the scale of an image is fitted to the
    classes, so that the slope is no check of either. It is the median of intensity divided by
    number of atoms, the scatter is 1.4826 times the median absolute deviation of its logarithm.
    """
    if not len(data):
        return np.nan, np.nan
    ratio = np.log(data[_unit(data)].to_numpy(float) / data["atoms"].to_numpy(float))
    middle = np.median(ratio)
    return float(np.exp(middle)), float(1.4826 * np.median(np.abs(ratio - middle)))


def _intensity_places(data: pd.DataFrame) -> np.ndarray:
    atoms, y = data["atoms"].to_numpy(float), data[_unit(data)].to_numpy(float)
    gaps = np.diff(np.unique(atoms))
    # Reproducible shift of each cluster around its number of atoms.
    aside = (data["cluster_id"].to_numpy(float) * _GOLDEN) % 1 - 0.5
    x = atoms + 0.55 * float(gaps.min() if len(gaps) else 4.0) * aside
    return np.stack([x, x, y, y], axis=1)


@message_if_empty("No complete, isolated cluster has a label with a number of atoms")
def draw_intensity(axes: Axes, data: pd.DataFrame, look: Look) -> None:
    """Draw a point per cluster, and the line of the intensity of one atom."""
    x, _, y, _ = _intensity_places(data).T
    draw_points(axes, look, x, y, data["class"])
    slope, scatter = intensity_line(data)
    top = float(data["atoms"].max()) * 1.12
    ends = np.array([0.0, top])
    axes.fill_between(
        ends, slope * ends * np.exp(-scatter), slope * ends * np.exp(scatter), color=look.ink,
        alpha=0.12, linewidth=0, zorder=0,
    )  # fmt: skip
    axes.plot(ends, slope * ends, color=look.ink, linewidth=1.2, zorder=3)
    scaled = _unit(data) == "intensity_atoms"
    what = "Intensity / atoms" if scaled else "Intensity / counts nm²"
    axes.set(
        xlim=(0, top), ylim=(0, 1.08 * float(np.quantile(y, 0.998))), ylabel=what,
        xlabel="Atoms of the label (points jittered)",
    )  # fmt: skip
    legend(axes, look, beside=True)
    style_axes(axes, look, *_describe_intensity(data))


def _describe_intensity(data: pd.DataFrame) -> tuple[str, ...]:
    slope, scatter = intensity_line(data)
    clusters = f"{pluralise(len(data), 'complete, isolated cluster')}."
    if _unit(data) == "intensity_atoms":
        note = "The line does not test the labels: the scale was fitted to them."
        return f"Scatter {per_cent(scatter)}.", note, clusters
    return f"Scatter {per_cent(scatter)}, slope {slope:.4g} counts nm² per atom.", clusters


def _intensity_row(row: Any) -> str:
    n = row["intensity_atoms"]
    text = f"{n:.1f} times one atom" if np.isfinite(n) else (
        f"{row['intensity_counts_nm2']:.4g} counts nm²"
    )  # fmt: skip
    return f"{row['class']}: {text}\n{row['image']}, cluster {row['cluster_id']}"


INTENSITY = Plot(
    "Intensity and atoms",
    "Integrated intensity against the number of atoms of the label. The line does not test the "
    "labels: they depend on the intensity, whose scale was fitted to the classes. Check the "
    "scatter and single clusters far from the line. Points are jittered horizontally.",
    intensity_data,
    draw_intensity,
    row_of_cluster,
    _intensity_places,
    _intensity_row,
    nothing="No complete, isolated cluster has a label with a number of atoms: classify an image.",
)
