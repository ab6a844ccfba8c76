"""Atomicity against time: what all frames of a track say of each of them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..core.cluster_table import (
    AGGREGATE,
    NO_TRACK,
    NON_CLASS_LABELS,
    UNKNOWN,
    classes_of,
    probability_columns,
)
from ..core.progress import Progress, Stop
from ..models.estimators import class_sizes
from .hidden_markov import MAX_CHANGE, MIN_CHANGE, RateFit, Smoothed, fit_rate, smooth

P_DETECTED_OUTLIER = 0.8
"""How often a thing that is no class is called ``unknown`` or ``aggregate``."""
P_FALSE_OUTLIER = 0.03
"""How often a cluster of a class is."""
_CERTAIN = 1e-6
"""What a person's label leaves to all others."""
_MIN_P = 1e-4
BAND = (0.05, 0.95)
"""Of the smoothed atomicity: between these quantiles of the posterior."""


@dataclass(frozen=True, eq=False)
class Track:
    """One cluster over time: T frames from where it is seen first to where it is seen last.

    Parameters
    ----------
    track_id : int
        Its number.
    first_frame : int
        Frame of the first of the T rows.
    rows : ndarray of shape (T,)
        Row of the table in each frame; -1 where the cluster was missed.
    label : ndarray of shape (T,)
        Most probable course of labels, ``unknown`` and ``aggregate`` among them.
    p : ndarray of shape (T,)
        Posterior probability of that label.
    posterior : ndarray of shape (T, C + 1)
        Of each class, and last of being none.
    """

    track_id: int
    first_frame: int
    rows: np.ndarray
    label: np.ndarray
    p: np.ndarray
    posterior: np.ndarray

    @property
    def frames(self) -> np.ndarray:
        """(T,) every frame, those in which it was missed too."""
        return np.arange(self.first_frame, self.first_frame + len(self.rows))

    @property
    def last_frame(self) -> int:
        return self.first_frame + len(self.rows) - 1

    @property
    def detected(self) -> np.ndarray:
        """(T,) bool."""
        return self.rows >= 0


def compute_emissions(
    table: pd.DataFrame, prior: np.ndarray | None = None, weight: float = 1.0
) -> np.ndarray:
    """How likely what is known of each cluster is if it were of each class, or of none.

    Bayes' rule backwards: the calibrated probabilities divided by the shares that they assume. A
    cluster that the model calls ``unknown`` or ``aggregate`` tells nothing of classes, and one that
    the border cuts tells nothing at all. What a person says is taken for certain.

    Parameters
    ----------
    table : pandas.DataFrame
        N clusters of one image.
    prior : ndarray of shape (C,), optional
        Shares of the classes that the probabilities assume; equal, as the estimators of this
        package assume, if None.
    weight : float, default 1.0
        What a frame is worth beside an independent one, 0 to 1: the exponent of the likelihood.

    Returns
    -------
    ndarray
        (N, C + 1): the classes, and last what is none; up to a factor per row.
    """
    classes = classes_of(table)
    n, k = len(table), len(classes)
    out = np.ones((n, k + 1))
    if not k:
        return out
    p = table[probability_columns(classes)].to_numpy(float)
    known = np.isfinite(p).all(axis=1)
    share = np.full(k, 1 / k) if prior is None else np.asarray(prior, float)
    likelihood = np.clip(np.nan_to_num(p, nan=1 / k), _MIN_P, 1) / share
    likelihood /= likelihood.mean(axis=1, keepdims=True)
    predicted = table["label_predicted"].to_numpy(object)
    outside = np.isin(predicted, NON_CLASS_LABELS)
    # of what the border cuts, brightness and shape are not those of the whole
    spoken = known & (predicted != "") & ~table["touches_border"].to_numpy(bool)
    outside &= spoken
    inside = spoken & ~outside
    out[inside, :k] = (1 - P_FALSE_OUTLIER) * likelihood[inside] ** weight
    out[inside, k] = 1 - P_DETECTED_OUTLIER
    out[outside, :k] = P_FALSE_OUTLIER
    out[outside, k] = P_DETECTED_OUTLIER
    said = table["label_corrected"].to_numpy(object)
    column = {name: i for i, name in enumerate(classes)} | dict.fromkeys(NON_CLASS_LABELS, k)
    for row in np.flatnonzero(said != ""):
        if said[row] in column:
            out[row] = _CERTAIN
            out[row, column[said[row]]] = 1.0
    return out


def smooth_tracks(
    table: pd.DataFrame,
    change: float | None = None,
    prior: np.ndarray | None = None,
    weight: float = 1.0,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> tuple[list[Track], RateFit]:
    """Smooth the labels of every track of an image.

    Parameters
    ----------
    table : pandas.DataFrame
        Clusters of one image with ``track_id`` and probabilities.
    change : float, optional
        Probability of another class in the next frame; estimated from all tracks if None.
    prior, weight : ndarray, optional
        See `compute_emissions`.

    Returns
    -------
    list of Track
        By number.
    RateFit
        How often clusters change.
    """
    followed = np.flatnonzero(table["track_id"].to_numpy() != NO_TRACK)
    numbers = table["track_id"].to_numpy()[followed]
    frames = table["frame"].to_numpy(int)[followed]
    order = np.lexsort((frames, numbers))
    followed, numbers, frames = followed[order], numbers[order], frames[order]
    cuts = np.flatnonzero(np.diff(numbers)) + 1
    of_row = compute_emissions(table, prior, weight)
    members = np.split(followed, cuts) if len(followed) else []
    at = np.split(frames, cuts) if len(followed) else []
    rows, emissions = [], []
    for mine, when in zip(members, at, strict=True):
        long = int(when[-1] - when[0]) + 1
        row = np.full(long, -1)
        row[when - when[0]] = mine
        emission = np.ones((long, of_row.shape[1]))  # where it was missed, all is as likely
        emission[when - when[0]] = of_row[mine]
        rows.append(row)
        emissions.append(emission)
    initial: np.ndarray | None
    if change is None:
        fit, initial = fit_rate(emissions, progress, stop)
    else:
        steps = sum(len(e) - 1 for e in emissions)
        q = min(max(change, MIN_CHANGE), MAX_CHANGE) if of_row.shape[1] > 1 else 0.0
        fit, initial = RateFit(q, q, q, q * steps, steps, estimated=False), None
    found = smooth(emissions, fit.change, initial, stop)
    classes = classes_of(table)
    predicted = table["label"].to_numpy(object)
    return [
        _track(int(number), int(when[0]), row, one, classes, predicted)
        for number, when, row, one in zip(np.unique(numbers), at, rows, found, strict=True)
    ], fit


def _track(
    track_id: int,
    first_frame: int,
    rows: np.ndarray,
    found: Smoothed,
    classes: list[str],
    labels: np.ndarray,
) -> Track:
    label = np.array([*classes, UNKNOWN], object)[found.path]
    p = found.posterior[np.arange(len(rows)), found.path]
    # Which of the two words for none: that which is said more often while it lasts.
    for part in find_dwells(found.path):
        if found.path[part.start] == len(classes):
            said = [labels[r] for r in rows[part] if r >= 0]
            if said.count(AGGREGATE) > said.count(UNKNOWN):
                label[part] = AGGREGATE
    return Track(track_id, first_frame, rows, label, p, found.posterior)


def find_dwells(path: np.ndarray) -> list[slice]:
    """Where nothing changes."""
    cuts = [0, *(np.flatnonzero(path[1:] != path[:-1]) + 1).tolist(), len(path)]
    return [slice(a, b) for a, b in itertools.pairwise(cuts)]


def smoothed_atoms(track: Track, classes: list[str]) -> np.ndarray:
    """(T, 3): expected number of atoms among the classes, and the ends of `BAND`.

    NaN where the classes name no numbers, or where it is more likely none of them.
    """
    out = np.full((len(track.rows), 3), np.nan)
    sizes = class_sizes(classes) if classes else None
    if sizes is None:
        return out
    p = track.posterior[:, :-1]
    total = p.sum(axis=1)
    known = total >= 0.5
    p = p[known] / total[known, None]
    order = np.argsort(sizes)
    cumulative = np.cumsum(p[:, order], axis=1)
    out[known, 0] = p @ sizes
    for column, level in enumerate(BAND, 1):
        at = (cumulative < level - 1e-12).sum(axis=1).clip(max=len(sizes) - 1)
        out[known, column] = sizes[order][at]
    return out
