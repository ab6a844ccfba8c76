"""Average patches and class maps of the clusters of each class.

A class map shows for one cluster where the network found evidence for a class (`models.network`).
This module averages the maps of many clusters on a common grid in nm, or in units of the radius of
each cluster, so that all outlines coincide. Maps keep the unit of the score. They are not
normalised to their own maximum, so that channels and classes can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from ...core.progress import Progress, Stop, check, report
from ...core.tables.cluster_table import (
    NON_CLASS_LABELS,
    classes_of,
    concatenate,
    explained_classes,
    first_reasons,
    is_excluded,
)
from ..analysis import Analysis
from .centre_balance import (
    Balance,
    balance,
    centre_and_outline,
    mean_and_error,
    nan_mean,
    on_grid,
    radial_profiles,
)

REACH_RADII = 1.75
"""How far averages and profiles reach from the centre of a cluster, in its radii."""
MIN_TOTAL = 0.005
"""Score of a channel below which its class map is empty, and has no centre against outline."""
MAX_PER_CLASS = 300
"""So many clusters of a class, evenly spread over the images, are averaged in the window."""
_STEPS = 36


@dataclass(frozen=True, eq=False)
class Average:
    """Mean and standard error of one quantity over the clusters of one class in one channel."""

    # label, channel, quantity: whose clusters, seen through which channel; "patch" or "class map"
    label: str
    channel: str
    quantity: str
    clusters: int  # how many clusters have finite values
    image: np.ndarray  # (S, S): over ``2 reach`` in each direction
    reach: float  # from the centre to the edge, in radii of the cluster or in nm
    r: np.ndarray  # (K,): distances from the centre, in the unit of ``reach``
    # profile, profile_error: (K,): means over rings
    profile: np.ndarray
    profile_error: np.ndarray
    balance: Balance  # centre against outline, always in radii
    # mean of the sum over all pixels: of a class map what the channel adds to the score
    total: float
    radius_nm: float


@dataclass(frozen=True, eq=False)
class Averages:
    """Averages of some clusters, in the order class, channel, quantity."""

    items: tuple[Average, ...]
    classes: tuple[str, ...]
    unit: str  # "radius" or "nm": of reaches and distances
    left_out: dict[str, int]  # reason → number of clusters that were not used

    def get(
        self,
        label: str,
        channel: str,
        quantity: str = "class map",  # "patch" or "class map"
    ) -> Average | None:
        """Return one average, if it exists."""
        wanted = (label, channel, quantity)
        found = [a for a in self.items if (a.label, a.channel, a.quantity) == wanted]
        return found[0] if found else None

    @property
    def labels(self) -> list[str]:
        """Classes that have clusters, in the order of the model."""
        return list(dict.fromkeys(a.label for a in self.items))

    @property
    def channels(self) -> list[str]:
        """Channels of the averages."""
        return list(dict.fromkeys(a.channel for a in self.items))

    def profiles(self) -> pd.DataFrame:
        """Return the profiles, a row per class, channel, quantity and distance."""
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


def left_out(table: pd.DataFrame, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Why clusters don't count: reason → (N,) bool, each cluster for its first reason only."""
    reasons = {
        "without a class": np.isin(labels.astype(str), ["", *NON_CLASS_LABELS]),
        "cut by the border": table["touches_border"].to_numpy(bool),
        "touching": table["touches_neighbour"].to_numpy(bool),
        "without a diameter": ~(table["diameter_nm"].to_numpy(float) > 0),
        "in excluded regions": is_excluded(table),
    }
    return first_reasons(reasons)


def class_averages(
    # Cluster table, N rows. Clusters that touch the border or a neighbour, or are in excluded
    # regions, are left out.
    table: pd.DataFrame,
    labels: np.ndarray,  # (N,): the class of each cluster; "" and what is no class is left out
    # patches, class_maps: channel → (N, h, w) over the same field of view. Values that are not
    # finite are left out.
    patches: Mapping[str, np.ndarray],
    class_maps: Mapping[str, np.ndarray],
    field_of_view_nm: float,  # edge length of patches and maps
    classes: Sequence[str],
    *,
    # "radius": each cluster in units of its own radius; "nm": all on one scale
    unit: str = "radius",
    n_bootstrap: int = 1000,  # resamples for the intervals
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Averages:
    """Average patches and class maps of the clusters of each class.

    Raises `ValueError` if the unit is neither.
    """
    if unit not in ("radius", "nm"):
        raise ValueError(f"unit must be 'radius' or 'nm', not {unit!r}")
    labels = np.asarray(labels, object)
    reasons = left_out(table, labels)
    use = ~np.logical_or.reduce(list(reasons.values()))
    pairs = list(product(patches, (("patch", patches), ("class map", class_maps))))
    items: list[Average] = []
    for i, label in enumerate(classes):
        check(stop)
        report(progress, i, len(classes), f"Averaging {label}")
        rows = np.flatnonzero(use & (labels == label))
        if len(rows):
            own = {(c, quantity): of[c][rows] for c, (quantity, of) in pairs if c in of}
            items += _averages_of(label, table.iloc[rows], own, field_of_view_nm, unit, n_bootstrap)
    counts = {reason: int(r.sum()) for reason, r in reasons.items() if r.any()}
    return Averages(tuple(items), tuple(classes), unit, counts)


def _averages_of(
    label: str,
    clusters: pd.DataFrame,
    values: Mapping[tuple[str, str], np.ndarray],
    field_of_view_nm: float,
    unit: str,
    n_bootstrap: int,
) -> list[Average]:
    """Average the values of each channel and quantity over the clusters of one class."""
    radius_nm = clusters["diameter_nm"].to_numpy(float) / 2
    image = clusters["image"].to_numpy(object)
    return [
        _average(of, radius_nm, image, field_of_view_nm, (label, *names), unit, n_bootstrap)
        for names, of in values.items()
    ]


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
    mean, _ = mean_and_error(on_grid(values, field_of_view_nm, reach * scale))
    profile, profile_error = mean_and_error(
        radial_profiles(values, field_of_view_nm, scale[:, None] * r)
    )
    total = nan_mean(values.sum(axis=(1, 2)), axis=0)
    places = centre_and_outline(values, field_of_view_nm, radius_nm)
    is_empty = names[-1] != "patch" and not np.abs(total) >= MIN_TOTAL
    return Average(
        *names,
        len(values),
        mean,
        reach,
        r,
        profile,
        profile_error,
        Balance() if is_empty else balance(places, image, n_bootstrap=n_bootstrap),
        float(total),
        float(nan_mean(radius_nm, axis=0)),
    )


def of_analyses(
    analyses: Sequence[Analysis],
    unit: str = "radius",
    most_per_class: int = MAX_PER_CLASS,
    progress: Progress | None = None,
    stop: Stop | None = None,
    *,
    own_class: bool = True,
) -> Averages:
    """Average over the clusters of analysed images, by the label that counts.

    The maps of an analysis are those of each cluster's most probable class. Where a person has
    said otherwise the map is of another class than the label, and only the patch counts.

    Parameters
    ----------
    analyses : sequence of Analysis
        Of which the first decides the model; those of another one are left out.
    unit : str, optional
        "radius" or "nm".
    most_per_class : int, optional
        Of more clusters so many are taken, evenly spread.
    own_class : bool, optional
        Whether the maps are those of each cluster's own class; else they are all of one class, and
        count whatever the label is.
    """
    classified = [a for a in analyses if a.patches and len(a.table)]
    kind = [_kind(a) for a in classified]
    same = [a for a, k in zip(classified, kind, strict=True) if k == kind[0]]
    other = sum(len(a.table) for a in classified if not any(a is b for b in same))
    if not same:
        return Averages((), (), unit, {})
    classes = classes_of(same[0].table)
    table = concatenate([a.table for a in same])
    label = table["label"]
    reasons = left_out(table, label.to_numpy(object))
    others = ~np.logical_or.reduce(list(reasons.values())) & ~label.isin(classes).to_numpy()
    reasons |= {"of no class of the model": others}
    rows, too_many = _spread(table, ~np.logical_or.reduce(list(reasons.values())), most_per_class)
    check(stop)
    of_other_class = (explained_classes(table) != table["label"])[rows].to_numpy() & own_class
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
        "corrected (from the class maps only)": int(of_other_class.sum()),
    }
    return replace(out, left_out={reason: n for reason, n in counts.items() if n})


def _kind(analysis: Analysis) -> tuple[Any, ...]:
    """Return what two analyses must share for their patches and maps to be comparable."""
    shapes = [
        (c, v.shape[1:]) for d in (analysis.patches, analysis.class_maps) for c, v in d.items()
    ]
    classes = tuple(classes_of(analysis.table))
    return analysis.model_id, analysis.field_of_view_nm, classes, tuple(shapes)


def _spread(table: pd.DataFrame, use: np.ndarray, most: int) -> tuple[np.ndarray, int]:
    """Return indices of at most ``most`` clusters of each label, and the number left out."""
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
