"""What class maps have in common: averages by class, radial profiles, centre against outline.

A class map says of one cluster what spoke for a class (`models.network`). Here the maps of many are
brought together: on a common grid in nm, or in units of each cluster's own radius, so that the
outline is the same place for all. Maps stay in the units of the score that they are terms of;
nothing is stretched to its own maximum, or channels and classes could not be compared.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import ndimage

from ..core.cluster_table import NON_CLASS_LABELS, classes_of
from ..core.palette import colours
from ..core.progress import Progress, Stop, check, report
from .analysis import Analysis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REACH_RADII = 1.75
"""How far averages and profiles reach from the centre of a cluster, in its radii."""
CENTRE_RADII = (0.0, 0.5)
OUTLINE_RADII = (0.75, 1.25)
"""What counts as centre and as outline, in radii of the cluster."""

MAX_PER_CLASS = 300
"""So many clusters of a class, evenly spread over the images, are averaged in the window."""

_ANGLES = 32
_STEPS = 36
_SIZE = 56


@dataclass(frozen=True)
class Balance:
    """Centre against outline, (c - o) / (c + o) of the means there, and its bootstrap interval.

    1: all at the centre, -1: all at the outline, 0: as much per area here as there.
    """

    value: float = np.nan
    low: float = np.nan
    high: float = np.nan


@dataclass(frozen=True, eq=False)
class Average:
    """Mean and standard error of one quantity over the clusters of one class in one channel.

    Parameters
    ----------
    label, channel, quantity
        Whose clusters, seen through which channel; "patch" or "class map".
    clusters
        How many clusters have finite values.
    image, image_error
        (S, S) over ``2 reach`` in each direction.
    reach
        From the centre to the edge, in radii of the cluster or in nm.
    r
        (K,) distances from the centre, in the unit of ``reach``.
    profile, profile_error
        (K,) means over rings.
    balance
        Centre against outline, always in radii.
    total
        Mean of the sum over all pixels: of a class map what the channel adds to the score.
    radius_nm
        Mean radius of the clusters.
    """

    label: str
    channel: str
    quantity: str
    clusters: int
    image: np.ndarray
    image_error: np.ndarray
    reach: float
    r: np.ndarray
    profile: np.ndarray
    profile_error: np.ndarray
    balance: Balance
    total: float
    radius_nm: float


@dataclass(frozen=True, eq=False)
class Averages:
    """Averages of some clusters, in the order class, channel, quantity.

    Parameters
    ----------
    items
        One for every class that has clusters, channel and quantity.
    classes
        All classes of the model.
    unit
        "radius" or "nm": of reaches and distances.
    left_out
        Reason → number of clusters that were not used.
    """

    items: tuple[Average, ...]
    classes: tuple[str, ...]
    unit: str
    left_out: dict[str, int]

    def get(self, label: str, channel: str, quantity: str = "class map") -> Average | None:
        """One of them, if there is such a one."""
        wanted = (label, channel, quantity)
        found = [a for a in self.items if (a.label, a.channel, a.quantity) == wanted]
        return found[0] if found else None

    @property
    def labels(self) -> list[str]:
        """Classes that have clusters, in the order of the model."""
        return list(dict.fromkeys(a.label for a in self.items))

    @property
    def channels(self) -> list[str]:
        return list(dict.fromkeys(a.channel for a in self.items))

    def profiles(self) -> pd.DataFrame:
        """The profiles, a row per class, channel, quantity and distance."""
        blocks = [
            pd.DataFrame(
                {
                    "class": a.label,
                    "channel": a.channel,
                    "quantity": a.quantity,
                    "clusters": a.clusters,
                    f"r_{self.unit}": a.r,
                    "mean": a.profile,
                    "standard_error": a.profile_error,
                }
            )
            for a in self.items
        ]
        return pd.concat(blocks, ignore_index=True) if blocks else pd.DataFrame()

    def balances(self) -> pd.DataFrame:
        """Centre against outline, a row per class, channel and quantity."""
        return pd.DataFrame(
            [
                {
                    "class": a.label,
                    "channel": a.channel,
                    "quantity": a.quantity,
                    "clusters": a.clusters,
                    "radius_nm": a.radius_nm,
                    "centre_against_outline": a.balance.value,
                    "low": a.balance.low,
                    "high": a.balance.high,
                    "total": a.total,
                }
                for a in self.items
            ]
        )


# ---- sampling


def sample(
    images: np.ndarray, field_of_view_nm: float, y_nm: np.ndarray, x_nm: np.ndarray
) -> np.ndarray:
    """Bilinear samples of small images at distances from their centres.

    Pixels are areas: between the centre of the outermost pixel and the edge of the field the value
    is that of the pixel, beyond the edge it is NaN.

    Parameters
    ----------
    images
        (N, h, w).
    field_of_view_nm
        Edge length of the images.
    y_nm, x_nm
        (N, …) positions for each image, of the same shape.
    """
    n, h, w = images.shape
    index = np.broadcast_to(np.arange(n).reshape((n,) + (1,) * (y_nm.ndim - 1)), y_nm.shape)
    places = [
        np.clip(at / field_of_view_nm * size + (size - 1) / 2, 0, size - 1)
        for at, size in ((y_nm, h), (x_nm, w))
    ]
    values = ndimage.map_coordinates(
        images.astype(float), [index, *places], order=1, mode="nearest"
    )
    half = field_of_view_nm / 2 * (1 + 1e-9)
    return np.where((np.abs(y_nm) <= half) & (np.abs(x_nm) <= half), values, np.nan)


def on_grid(
    images: np.ndarray, field_of_view_nm: float, reach_nm: np.ndarray, size: int = _SIZE
) -> np.ndarray:
    """Images (N, h, w) resampled to (N, size, size), each from -reach to +reach (N,) of its own."""
    at = ((np.arange(size) + 0.5) / size * 2 - 1) * reach_nm[:, None]
    # On a grid bilinear interpolation is a product of matrices, and much faster so.
    y, x = (_hat_weights(at, field_of_view_nm, n) for n in images.shape[1:])
    values = y @ images.astype(float) @ x.transpose(0, 2, 1)
    inside = np.abs(at) <= field_of_view_nm / 2 * (1 + 1e-9)
    return np.where(inside[:, :, None] & inside[:, None, :], values, np.nan)


def _hat_weights(at_nm: np.ndarray, field_of_view_nm: float, n: int) -> np.ndarray:
    """(N, S, n) weights of n pixels in linear interpolation at (N, S) places."""
    place = np.clip(at_nm / field_of_view_nm * n + (n - 1) / 2, 0, n - 1)
    return np.clip(1 - np.abs(place[..., None] - np.arange(n)), 0, None)


def radial_profiles(images: np.ndarray, field_of_view_nm: float, r_nm: np.ndarray) -> np.ndarray:
    """Means (N, K) of images (N, h, w) over circles of radius ``r_nm`` (N, K) about their centre.

    A circle counts as far as it lies in the field; where none of it does the mean is NaN.
    """
    angle = 2 * np.pi * (np.arange(_ANGLES) + 0.5) / _ANGLES
    y, x = (r_nm[..., None] * f(angle) for f in (np.sin, np.cos))
    return _nan_mean(sample(images, field_of_view_nm, y, x), axis=-1)


def _nan_mean(values: np.ndarray, axis: int) -> np.ndarray:
    """As `numpy.nanmean`, and silent where there is nothing."""
    finite = np.isfinite(values)
    n = finite.sum(axis=axis)
    total = np.where(finite, values, 0.0).sum(axis=axis)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and its standard error over the first axis, of what is finite.

    The mean of nothing is NaN, the error of fewer than two values too.
    """
    n = np.isfinite(values).sum(axis=0)
    mean = _nan_mean(values, axis=0)
    variance = _nan_mean((values - mean) ** 2, axis=0)
    error = np.sqrt(np.where(n > 1, variance / np.maximum(n - 1, 1), np.nan))
    return mean, error


# ---- centre against outline


def centre_and_outline(
    images: np.ndarray, field_of_view_nm: float, radius_nm: np.ndarray
) -> np.ndarray:
    """Mean of each image per area at the centre and at the outline of its cluster: (N, 2).

    Parameters
    ----------
    images
        (N, h, w).
    field_of_view_nm
        Edge length of the images.
    radius_nm
        (N,) radii of the clusters.
    """
    out = []
    for inner, outer in (CENTRE_RADII, OUTLINE_RADII):
        r = inner + (outer - inner) * (np.arange(12) + 0.5) / 12
        profile = radial_profiles(images, field_of_view_nm, radius_nm[:, None] * r)
        # A ring's area goes with its radius.
        weight = np.where(np.isfinite(profile), r, 0.0)
        total = (np.nan_to_num(profile) * weight).sum(axis=1)
        area = weight.sum(axis=1)
        out.append(np.where(area > 0, total / np.where(area > 0, area, 1.0), np.nan))
    return np.stack(out, axis=1)


def balance(
    values: np.ndarray,
    image: np.ndarray,
    level: float = 0.95,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> Balance:
    """Centre against outline of many clusters: of the means, not the mean of the clusters' own.

    Clusters whose map is nowhere positive have none of their own, and faint ones would scatter.

    Parameters
    ----------
    values
        (N, 2) from `centre_and_outline`.
    image
        (N,) name of the image of each cluster. The interval comes from resampling images and,
        within them, clusters; where all are of one image, from clusters alone.
    level
        Of the interval.
    n_bootstrap
        Number of resamples.
    seed
        Of the resampling.

    Returns
    -------
    Balance
        NaN where there is nothing; without an interval where there is one cluster.
    """
    finite = np.isfinite(values).all(axis=1)
    values, image = values[finite], np.asarray(image)[finite]
    if not len(values):
        return Balance()
    value = float(_difference(values.mean(axis=0)))
    if len(values) == 1:
        return Balance(value)
    return Balance(
        value, *_interval(_difference(_resampled(values, image, n_bootstrap, seed)), level)
    )


def balance_between(
    first: np.ndarray,
    second: np.ndarray,
    image: np.ndarray,
    level: float = 0.95,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> Balance:
    """By how much the balance of one quantity exceeds that of another in the same clusters.

    Both are resampled together, so what clusters and images have in common cancels: two intervals
    that overlap may still differ for certain.

    Parameters
    ----------
    first, second
        (N, 2) each, from `centre_and_outline`, of the same clusters.
    image, level, n_bootstrap, seed
        As in `balance`.
    """
    values = np.concatenate([first, second], axis=1)
    finite = np.isfinite(values).all(axis=1)
    values, image = values[finite], np.asarray(image)[finite]

    def between(of: np.ndarray) -> np.ndarray:
        return np.asarray(_difference(of[..., :2]) - _difference(of[..., 2:]))

    if not len(values):
        return Balance()
    value = float(between(values.mean(axis=0)))
    if len(values) == 1:
        return Balance(value)
    return Balance(value, *_interval(between(_resampled(values, image, n_bootstrap, seed)), level))


def _resampled(values: np.ndarray, image: np.ndarray, n_bootstrap: int, seed: int) -> np.ndarray:
    """Sums (B, K) of values (N, K) over resampled images and, within them, clusters."""
    rng = np.random.default_rng(seed)
    names, of = np.unique(image.astype(str), return_inverse=True)
    copies = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n_bootstrap)
    sums = np.zeros((n_bootstrap, values.shape[1]))
    for i, times in enumerate(copies.T):
        own = values[of == i]
        sums += rng.multinomial(times * len(own), np.full(len(own), 1 / len(own))) @ own
    return sums


def _interval(resampled: np.ndarray, level: float) -> tuple[float, float]:
    finite = resampled[np.isfinite(resampled)]
    if not len(finite):
        return np.nan, np.nan
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(finite, (tail, 100 - tail))
    return float(low), float(high)


def _difference(centre_outline: np.ndarray) -> np.ndarray:
    centre, outline = centre_outline[..., 0], centre_outline[..., 1]
    both = np.abs(centre) + np.abs(outline)
    return np.where(both > 0, (centre - outline) / np.where(both > 0, both, 1.0), np.nan)


# ---- averages


def left_out(table: pd.DataFrame, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Why clusters don't count: reason → (N,) bool, each cluster for its first reason only."""
    reasons = {
        "without a class": np.isin(labels.astype(str), ["", *NON_CLASS_LABELS]),
        "cut by the border": table["touches_border"].to_numpy(bool),
        "touching": table["touches_neighbour"].to_numpy(bool),
        "without a diameter": ~(table["diameter_nm"].to_numpy(float) > 0),
    }
    so_far = np.zeros(len(table), bool)
    out = {}
    for reason, rows in reasons.items():
        out[reason] = rows & ~so_far
        so_far |= rows
    return out


def class_averages(
    table: pd.DataFrame,
    labels: np.ndarray,
    patches: Mapping[str, np.ndarray],
    class_maps: Mapping[str, np.ndarray],
    field_of_view_nm: float,
    classes: Sequence[str],
    *,
    unit: str = "radius",
    n_bootstrap: int = 1000,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Averages:
    """Average patches and class maps of the clusters of each class.

    Parameters
    ----------
    table
        The cluster table, N rows: ``image``, ``diameter_nm`` and the flags are read. Clusters that
        the border cuts or that touch a neighbour are left out.
    labels
        (N,) the class of each cluster; "" and what is no class is left out.
    patches, class_maps
        Channel → (N, h, w) over the same field of view. A cluster without finite values counts
        nowhere; one whose class map is NaN counts in the patches only.
    field_of_view_nm
        Edge length of patches and maps.
    classes
        Of the model, in order.
    unit
        "radius": each cluster in units of its own radius; "nm": all on one scale.
    n_bootstrap
        Resamples for the intervals.
    progress, stop
        Called between classes.

    Raises
    ------
    ValueError
        If the unit is neither.
    Cancelled
        If ``stop()`` says so.
    """
    if unit not in ("radius", "nm"):
        raise ValueError(f"unit must be 'radius' or 'nm', not {unit!r}")
    labels = np.asarray(labels, object)
    reasons = left_out(table, labels)
    use = ~np.logical_or.reduce(list(reasons.values()))
    radius_nm = table["diameter_nm"].to_numpy(float) / 2
    items = []
    for i, label in enumerate(classes):
        check(stop)
        report(progress, i, len(classes), f"Averaging {label}")
        rows = np.flatnonzero(use & (labels == label))
        if not len(rows):
            continue
        image = table["image"].to_numpy(object)[rows]
        for channel in patches:
            for quantity, of in (("patch", patches), ("class map", class_maps)):
                if channel in of:
                    items.append(
                        _average(
                            of[channel][rows], radius_nm[rows], image, field_of_view_nm,
                            (label, channel, quantity), unit, n_bootstrap,
                        )
                    )  # fmt: skip
    counts = {reason: int(r.sum()) for reason, r in reasons.items() if r.any()}
    return Averages(tuple(items), tuple(classes), unit, counts)


def _average(
    values: np.ndarray,
    radius_nm: np.ndarray,
    image: np.ndarray,
    field_of_view_nm: float,
    names: tuple[str, str, str],
    unit: str,
    n_bootstrap: int,
) -> Average:
    good = np.isfinite(values).all(axis=(1, 2))
    values, radius_nm, image = values[good], radius_nm[good], image[good]
    in_radii = unit == "radius"
    reach = REACH_RADII if in_radii else field_of_view_nm / 2
    scale = radius_nm if in_radii else np.ones(len(radius_nm))
    r = reach * (np.arange(_STEPS) + 0.5) / _STEPS
    mean, error = mean_and_error(on_grid(values, field_of_view_nm, reach * scale))
    profile, profile_error = mean_and_error(
        radial_profiles(values, field_of_view_nm, scale[:, None] * r)
    )
    return Average(
        *names,
        len(values),
        mean,
        error,
        reach,
        r,
        profile,
        profile_error,
        balance(
            centre_and_outline(values, field_of_view_nm, radius_nm),
            image,
            n_bootstrap=n_bootstrap,
        ),
        float(_nan_mean(values.sum(axis=(1, 2)), axis=0)),
        float(_nan_mean(radius_nm, axis=0)),
    )


def of_analyses(
    analyses: Sequence[Analysis],
    unit: str = "radius",
    most_per_class: int = MAX_PER_CLASS,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Averages:
    """Average over the clusters of analysed images, by the label that counts.

    The maps of an analysis are those of each cluster's most probable class. Where a person has
    said otherwise the map is of another class than the label, and only the patch counts.

    Parameters
    ----------
    analyses
        Of which the first decides the model; those of another one are left out.
    unit
        "radius" or "nm".
    most_per_class
        Of more clusters so many are taken, evenly spread.
    progress, stop
        Called between classes.
    """
    classified = [a for a in analyses if a.patches and len(a.table)]
    kind = [_kind(a) for a in classified]
    same = [a for a, k in zip(classified, kind, strict=True) if k == kind[0]]
    other = sum(len(a.table) for a in classified if not any(a is b for b in same))
    if not same:
        return Averages((), (), unit, {})
    classes = classes_of(same[0].table)
    table = pd.concat([a.table for a in same], ignore_index=True)
    reasons = left_out(table, table["label"].to_numpy(object))
    rows, too_many = _spread(table, ~np.logical_or.reduce(list(reasons.values())), most_per_class)
    check(stop)
    p = np.nan_to_num(table[[f"p_{c}" for c in classes]].to_numpy(float), nan=-1.0)
    shown = np.array(classes, object)[p.argmax(axis=1)]
    if "label_network" in table:  # whose maps they are; the probabilities may be of more than it
        by_network = table["label_network"].fillna("").to_numpy(object)
        shown = np.where(by_network != "", by_network, shown)
    of_other_class = (shown != table["label"])[rows].to_numpy()
    patches = {c: _rows_of([a.patches[c] for a in same], rows) for c in same[0].patches}
    maps = {c: _rows_of([a.class_maps[c] for a in same], rows) for c in same[0].class_maps}
    for values in maps.values():
        values[of_other_class] = np.nan
    chosen = table.iloc[rows].reset_index(drop=True)
    labels = chosen["label"].to_numpy(object)
    out = class_averages(
        chosen, labels, patches, maps, same[0].field_of_view_nm, classes,
        unit=unit, progress=progress, stop=stop,
    )  # fmt: skip
    counts = {reason: int(r.sum()) for reason, r in reasons.items()}
    counts |= {
        f"beyond {most_per_class} of a class": too_many,
        "of another model": other,
        "corrected, so without a map": int(of_other_class.sum()),
    }
    return replace(out, left_out={reason: n for reason, n in counts.items() if n})


def _kind(analysis: Analysis) -> tuple[Any, ...]:
    """What two analyses must share for their patches and maps to be comparable."""
    shapes = [
        (c, v.shape[1:]) for d in (analysis.patches, analysis.class_maps) for c, v in d.items()
    ]
    model = analysis.parameters.get("model", {}).get("model_id", "")
    return model, analysis.field_of_view_nm, tuple(classes_of(analysis.table)), tuple(shapes)


def _spread(table: pd.DataFrame, use: np.ndarray, most: int) -> tuple[np.ndarray, int]:
    """Indices of at most so many clusters of each label, and how many that leaves out."""
    chosen = []
    for _, own in table[use].groupby("label").groups.items():
        index = np.asarray(own)
        at = np.linspace(0, len(index) - 1, min(most, len(index))).round().astype(int)
        chosen.append(index[at])
    rows = np.sort(np.concatenate(chosen)) if chosen else np.empty(0, int)
    return rows, int(use.sum()) - len(rows)


def _rows_of(parts: list[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Rows of arrays as if these were on top of each other, as a copy."""
    out, start = [], 0
    for part in parts:
        out.append(part[rows[(rows >= start) & (rows < start + len(part))] - start])
        start += len(part)
    return np.concatenate(out)


# ---- occlusion: what the pixels themselves are worth


def distance_nm(size_px: int, field_of_view_nm: float) -> np.ndarray:
    """Distance (size_px, size_px) of every pixel's centre from that of the patch."""
    at = (np.arange(size_px) - (size_px - 1) / 2) * field_of_view_nm / size_px
    return np.hypot(at[:, None], at[None, :])


def occluded(
    patches: np.ndarray, where: np.ndarray, field_of_view_nm: float, radius_nm: np.ndarray
) -> np.ndarray:
    """Patches with a part replaced by the level of the support around the cluster.

    Parameters
    ----------
    patches
        (N, P, P) of one channel.
    where
        (N, P, P) bool: what is replaced, by the median of what is farther from the centre than
        1.25 radii.
    field_of_view_nm
        Edge length of the patches.
    radius_nm
        (N,) radii of the clusters.
    """
    outside = distance_nm(patches.shape[-1], field_of_view_nm) > (
        OUTLINE_RADII[1] * radius_nm[:, None, None]
    )
    level = np.nanmedian(np.where(outside, patches, np.nan), axis=(1, 2))
    return np.where(where, level[:, None, None], patches).astype(patches.dtype)


# ---- out


def draw(averages: Averages, *, normalised: bool = False) -> Figure:
    """Patches and class maps of every class in a column each, and the profiles below.

    Parameters
    ----------
    averages
        Of at least one class.
    normalised
        Whether every map is stretched to its own maximum; else the maps of a class have one scale
        for all channels, in the units of the score.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    labels, channels = averages.labels, averages.channels
    colour = colours(averages.classes)
    rows = [(c, "patch") for c in channels] + [(c, "class map") for c in channels]
    width = max(1.45 * len(labels) + 0.6, 6.0)
    with mpl.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(width, 1.45 * len(rows) + 2.9), layout="constrained")
        parts: Any = figure.subfigures(2, 1, height_ratios=[1.45 * len(rows), 2.5])
        above, below = parts
        tiles = above.subplots(len(rows), len(labels), squeeze=False)
        for row, (channel, quantity) in zip(tiles, rows, strict=True):
            for axes, label in zip(row, labels, strict=True):
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
                average = averages.get(label, channel, quantity)
                if average is not None and average.clusters:
                    _draw_tile(axes, averages, average, normalised)
            row[0].set_ylabel(channel if quantity == "patch" else f"{channel}, class map")
        for axes, label in zip(tiles[0], labels, strict=True):
            average = averages.get(label, channels[0], "patch")
            n = 0 if average is None else average.clusters
            axes.set_title(f"{label} (n = {n})", color="black", fontweight="bold")
        charts = below.subplots(1, len(channels), squeeze=False, sharey=True)[0]
        for axes, channel in zip(charts, channels, strict=True):
            for label in labels:
                average = averages.get(label, channel)
                if average is not None and average.clusters:
                    r, mean, error = profile_of(average, normalised)
                    line = axes.plot(r, mean, color=colour[label], label=label, lw=1.6)[0]
                    line.set_marker(_MARKERS[averages.classes.index(label) % len(_MARKERS)])
                    line.set_markevery((2, 6))
                    line.set_markersize(4)
                    axes.fill_between(
                        r, mean - error, mean + error, color=colour[label], alpha=0.25, lw=0
                    )
            unit = "radius" if averages.unit == "radius" else "nm"
            of = "its maximum" if normalised else "score"
            axes.set(xlabel=f"Distance from the centre / {unit}", ylabel=f"Class map / {of}")
            axes.set(title=channel, xlim=(0, None))
            if averages.unit == "radius":
                axes.axvline(1.0, color="#667085", lw=0.8, ls="--")
        # Not before all is drawn: the charts share the axis, and setting one end fixes the other.
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
    return figure


# As `palette.symbols`, in the words of matplotlib.
_MARKERS = ("o", "s", "^", "D", "*", "v", "P")


def profile_of(average: Average, normalised: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances, means and errors (K,) of a profile, perhaps in units of its maximum."""
    top = float(np.nanmax(average.profile)) if normalised and average.clusters else 1.0
    top = top if top > 0 else 1.0
    return average.r, average.profile / top, np.nan_to_num(average.profile_error) / top


def top_of(averages: Averages, average: Average, normalised: bool) -> float:
    """What is brightest in the picture of a class map: its own maximum, or that of its class."""
    of = [average.channel] if normalised else averages.channels
    shown = [averages.get(average.label, channel) for channel in of]
    tops = [np.nanmax(a.image) for a in shown if a is not None and np.isfinite(a.image).any()]
    return max(float(max(tops, default=0.0)), 1e-12)


def _draw_tile(axes: Any, averages: Averages, average: Average, normalised: bool) -> None:
    reach = average.reach
    extent = (-reach, reach, reach, -reach)
    if average.quantity == "patch":
        low, high = np.nanpercentile(average.image, (1, 99.8))
        axes.imshow(average.image, cmap="gray", vmin=low, vmax=high, extent=extent)
    else:
        top = top_of(averages, average, normalised)
        axes.imshow(average.image, cmap="inferno", vmin=0, vmax=top, extent=extent)
        b = average.balance
        axes.set_xlabel(f"{b.value:+.2f} ({b.low:+.2f}…{b.high:+.2f})", fontsize=6.5, labelpad=1)
    angle = np.linspace(0, 2 * np.pi, 90)
    r = outline_radius(averages, average)
    axes.plot(r * np.cos(angle), r * np.sin(angle), color="#56b4e9", lw=0.8, ls="--")


def outline_radius(averages: Averages, average: Average) -> float:
    """Where the outline is in the picture of an average, in its unit."""
    return 1.0 if averages.unit == "radius" else average.radius_nm


def write_picture(
    averages: Averages,
    path: str | os.PathLike[str],
    *,
    normalised: bool = False,
    dpi: float = 110,
) -> Path:
    """Write the figure of `draw`, as PNG or SVG by the suffix, whole or not at all.

    Raises
    ------
    AtomicityError
        If the file can't be written.
    """
    from ..io.files import atomic_write

    path = Path(path)
    kind = path.suffix.lower().lstrip(".") or "png"
    with atomic_write(path) as temporary:
        draw(averages, normalised=normalised).savefig(
            temporary, format=kind, dpi=dpi, metadata={"Date": None} if kind == "svg" else None
        )
    return path
