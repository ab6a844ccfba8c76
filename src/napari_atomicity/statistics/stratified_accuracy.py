"""Accuracy of labels from answers to a stratified sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .intervals import wilson_interval

_PRIOR = 2.0


@dataclass(frozen=True)
class Share:
    """Accuracy estimated from answers, for all clusters.

    ``value`` is the estimate and ``low``, ``high`` its 95 % interval; NaN without answers.
    ``effective`` is the number of answers to a simple random sample with the same precision.
    """

    right: int = 0
    n: int = 0
    value: float = math.nan
    low: float = 0.0
    high: float = 1.0
    effective: float = 0.0


@dataclass(frozen=True, eq=False)
class Accuracy:
    """Accuracy of the predicted labels, estimated from the answers to a review queue."""

    overall: Share  # accuracy on all clusters from which the queue was drawn
    # predicted label to the accuracy on clusters with that label (its precision)
    by_class: dict[str, Share]
    n_wanted: int  # length of the queue
    n_population: int  # number of clusters to which the estimate applies
    false_detections: int  # number of answers that there is no cluster; they count as wrong


def stratified_share(
    size: Sequence[int] | np.ndarray,
    n: Sequence[int] | np.ndarray,
    right: Sequence[int] | np.ndarray,
    level: float = 0.95,
) -> Share:
    """Estimate the fraction of right labels from answers to a stratified sample.

    Parameters
    ----------
    size, n, right : sequence of int or ndarray
        Number of clusters, answers and right answers of each stratum. Strata without answers are
        assumed to equal the others.
    level : float
        Coverage of the interval.
    """
    size, n, right = (np.asarray(v, float) for v in (size, n, right))
    there = (n > 0) & (size > 0)
    if not there.any():
        return Share()
    # The weight of strata without answers is spread over the others.
    sampled = n.sum() / size.sum()
    size, n, right = size[there], n[there], right[there]
    weight = size / size.sum()
    mean = (right.sum() + 1) / (n.sum() + 2)
    q = (right + _PRIOR * mean) / (n + _PRIOR)
    unsampled = np.clip(1 - n / size, 0, 1) if there.all() else np.full(len(n), 1 - sampled)
    variance = float((weight**2 * unsampled * q * (1 - q) / n).sum())
    value = float(np.clip((weight * right / n).sum(), 0, 1))
    total, hits = int(n.sum()), int(right.sum())
    if variance <= 0:
        return Share(hits, total, value, value, value, math.inf)
    smooth = float((weight * q).sum())
    effective = smooth * (1 - smooth) / variance
    low, high = wilson_interval(np.asarray(value), effective, level)
    return Share(hits, total, value, min(float(low), value), max(float(high), value), effective)
