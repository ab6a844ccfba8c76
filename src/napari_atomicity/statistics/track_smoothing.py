"""Smoothing of the labels of tracks by a hidden Markov model."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..core.progress import Progress, Stop
from ..core.tables.cluster_table import (
    AGGREGATE,
    NO_TRACK,
    NON_CLASS_LABELS,
    UNKNOWN,
    classes_of,
    probability_columns,
)
from .hidden_markov import MAX_CHANGE, MIN_CHANGE, RateFit, Smoothed, fit_rate, smooth

P_DETECTED_OUTLIER = 0.8
"""Probability that an object of no class is predicted as ``unknown`` or ``aggregate``."""
P_FALSE_OUTLIER = 0.03
"""Probability that a cluster of a class is predicted as ``unknown`` or ``aggregate``."""
_CERTAIN = 1e-30
"""Likelihood of all other classes for an annotated cluster: far below that of two changes."""
_MIN_P = 1e-4


@dataclass(frozen=True, eq=False)
class Track:
    """One cluster over T frames, from the first to the last detection.

    Parameters
    ----------
    track_id : int
        Number of the track.
    first_frame : int
        Frame of the first of the T rows.
    rows : ndarray of shape (T,)
        Row of the table in each frame; -1 where the cluster was not detected.
    label : ndarray of shape (T,)
        Most probable path of labels, including ``unknown`` and ``aggregate``, or a class by a
        person that the model does not have; "" if no frame says anything of the label, as of a
        cluster that the border cuts in all of them.
    p : ndarray of shape (T,)
        Posterior probability of this label; NaN without one.
    posterior : ndarray of shape (T, C + 1)
        Posterior probability of each class, and last of no class; NaN without a label, or with
        one that the model does not have.
    """

    track_id: int
    first_frame: int
    rows: np.ndarray
    label: np.ndarray
    p: np.ndarray
    posterior: np.ndarray

    @property
    def frames(self) -> np.ndarray:
        """Indices (T,) of all frames, including those without detection."""
        return np.arange(self.first_frame, self.first_frame + len(self.rows))

    @property
    def last_frame(self) -> int:
        """Frame of the last detection."""
        return self.first_frame + len(self.rows) - 1

    @property
    def detected(self) -> np.ndarray:
        """Whether the cluster was detected in each frame, (T,) bool."""
        return self.rows >= 0


def compute_emissions(
    table: pd.DataFrame, prior: np.ndarray | None = None, weight: float = 1.0
) -> np.ndarray:
    """Compute the likelihood of the observation of each cluster for each class and for no class.

    Inverse Bayes' rule: the calibrated probabilities divided by their prior. Clusters predicted as
    ``unknown`` or ``aggregate`` contain no information about classes, and clusters cut by the
    border none at all. Annotations are certain.

    Parameters
    ----------
    table : pandas.DataFrame
        Table of N clusters of one image.
    prior : ndarray of shape (C,), optional
        Prior of the probabilities; if None equal, as for the estimators of this package.
    weight : float, default 1.0
        Weight of a frame relative to an independent one, 0 to 1: the exponent of the likelihood.

    Returns
    -------
    ndarray
        (N, C + 1): the classes, and last no class; up to a factor per row.
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
    is_outlier = np.isin(predicted, NON_CLASS_LABELS)
    # clusters cut by the border have incomplete brightness and shape
    informative = known & (predicted != "") & ~table["touches_border"].to_numpy(bool)
    is_outlier &= informative
    is_class = informative & ~is_outlier
    out[is_class, :k] = (1 - P_FALSE_OUTLIER) * likelihood[is_class] ** weight
    out[is_class, k] = 1 - P_DETECTED_OUTLIER
    out[is_outlier, :k] = P_FALSE_OUTLIER
    out[is_outlier, k] = P_DETECTED_OUTLIER
    corrected = table["label_corrected"].to_numpy(object)
    column = {name: i for i, name in enumerate(classes)} | dict.fromkeys(NON_CLASS_LABELS, k)
    for row in np.flatnonzero(corrected != ""):
        if corrected[row] in column:
            out[row] = _CERTAIN
            out[row, column[corrected[row]]] = 1.0
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

    A track that a person gave a class which the model does not have is of that class in all its
    frames: what the model says of it does not count.

    Parameters
    ----------
    table : pandas.DataFrame
        Clusters of one image with ``track_id`` and probabilities.
    change : float, optional
        Probability of a class change per frame; estimated from all tracks if None.
    prior : ndarray of shape (C,), optional
        See `compute_emissions`.
    weight : float, default 1.0
        See `compute_emissions`.
    progress, stop : callable, optional
        Called during the estimation.

    Returns
    -------
    list of Track
        Smoothed tracks, sorted by number.
    RateFit
        Rate of class changes; tracks of which no frame says anything of the label have no steps.
    """
    likelihood = compute_emissions(table, prior, weight)
    numbers, starts, rows = _group_rows(table)
    classes, emissions = classes_of(table), []
    corrected = table["label_corrected"].to_numpy(object)
    others = [other_class(corrected[row[row >= 0]], classes) for row in rows]
    for row, other in zip(rows, others, strict=True):
        known = (row >= 0) & (not other)  # uninformative without a detection
        emissions.append(np.where(known[:, None], likelihood[row], 1.0))
    initial: np.ndarray | None
    informative = [e for e in emissions if np.ptp(e, axis=1).any()]
    if change is None:
        fit, initial = fit_rate(informative, progress, stop)
        initial = initial if informative else None
    else:
        steps = sum(len(e) - 1 for e in informative)
        q = min(max(change, MIN_CHANGE), MAX_CHANGE) if likelihood.shape[1] > 1 else 0.0
        fit, initial = RateFit(q, q, q, q * steps, steps, estimated=False), None
    found = smooth(emissions, fit.change, initial, stop)
    labels = table["label"].to_numpy(object)
    return [
        _make_track(number, start, row, one, classes, labels)
        if not other and (not classes or np.ptp(emission, axis=1).any())
        else _track_of_one_label(number, start, row, one, other)
        for number, start, row, one, emission, other in zip(
            numbers, starts, rows, found, emissions, others, strict=True
        )
    ], fit


def other_class(corrected: Sequence[str], classes: Sequence[str]) -> str:
    """Return the most frequent class by a person that is none of these; "" without any."""
    found = Counter(label for label in corrected if label not in {"", *NON_CLASS_LABELS, *classes})
    return min(found, key=lambda label: (-found[label], label), default="")


def _group_rows(table: pd.DataFrame) -> tuple[list[int], list[int], list[np.ndarray]]:
    """Return numbers, first frames, and rows in every frame (-1: not detected) of the tracks."""
    tracked = np.flatnonzero(table["track_id"].to_numpy() != NO_TRACK)
    if not len(tracked):
        return [], [], []
    numbers = table["track_id"].to_numpy()[tracked]
    frames = table["frame"].to_numpy(int)[tracked]
    order = np.lexsort((frames, numbers))
    tracked, numbers, frames = tracked[order], numbers[order], frames[order]
    cuts = np.flatnonzero(np.diff(numbers)) + 1
    starts, rows = [], []
    for members, times in zip(np.split(tracked, cuts), np.split(frames, cuts), strict=True):
        row = np.full(int(times[-1] - times[0]) + 1, -1)
        row[times - times[0]] = members
        starts.append(int(times[0]))
        rows.append(row)
    return np.unique(numbers).tolist(), starts, rows


def _make_track(
    track_id: int,
    first_frame: int,
    rows: np.ndarray,
    found: Smoothed,
    classes: list[str],
    labels: np.ndarray,
) -> Track:
    label = np.array([*classes, UNKNOWN], object)[found.path]
    p = found.posterior[np.arange(len(rows)), found.path]
    # Of the two labels without a class, the more frequent one in the dwell.
    for part in find_dwells(found.path):
        if found.path[part.start] == len(classes):
            part_labels = [labels[r] for r in rows[part] if r >= 0]
            if part_labels.count(AGGREGATE) > part_labels.count(UNKNOWN):
                label[part] = AGGREGATE
    return Track(track_id, first_frame, rows, label, p, found.posterior)


def _track_of_one_label(
    track_id: int, first_frame: int, rows: np.ndarray, found: Smoothed, label: str
) -> Track:
    """Return a track with a label by a person, or none: the prior of the classes is no result."""
    nothing = np.full_like(found.posterior, np.nan)
    p = np.full(len(rows), 1.0 if label else np.nan)
    return Track(track_id, first_frame, rows, np.full(len(rows), label, object), p, nothing)


def find_dwells(path: np.ndarray) -> list[slice]:
    """Split a path into intervals of constant state."""
    cuts = [0, *(np.flatnonzero(path[1:] != path[:-1]) + 1).tolist(), len(path)]
    return [slice(a, b) for a, b in itertools.pairwise(cuts)]
