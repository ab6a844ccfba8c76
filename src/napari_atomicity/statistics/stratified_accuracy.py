"""Accuracy of labels from answers to a stratified sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .intervals import wilson_interval

_PRIOR = 2.0


# ---- what the answers say
@dataclass(frozen=True)
class Share:
    """How many of how many answers were right, and what follows for all clusters.

    ``value`` is the estimate and ``low``, ``high`` its 95 % interval; NaN without answers.
    ``effective`` is the number of answers drawn purely at random that would be worth as much.
    """

    right: int = 0
    n: int = 0
    value: float = math.nan
    low: float = 0.0
    high: float = 1.0
    effective: float = 0.0


@dataclass(frozen=True, eq=False)
class Accuracy:
    """How often the predicted labels are right, estimated from the answers to a queue.

    Parameters
    ----------
    overall : Share
        Of all clusters that it was drawn from.
    by_class : dict of str to Share
        Predicted label → of the clusters that have it (the precision of the label).
    n_wanted : int
        Length of the queue.
    n_population : int
        Clusters that the estimate is about.
    false_detections : int
        Answers that it is no cluster; they count as wrong.
    """

    overall: Share
    by_class: dict[str, Share]
    n_wanted: int
    n_population: int
    false_detections: int


def stratified_share(
    size: Sequence[int] | np.ndarray,
    n: Sequence[int] | np.ndarray,
    right: Sequence[int] | np.ndarray,
    level: float = 0.95,
) -> Share:
    """The share of right ones among all, from answers to a stratified sample.

    Parameters
    ----------
    size, n, right : sequence of int | ndarray
        Per stratum: clusters, answers, right answers. Strata without an answer are taken to
        be like the others.
    level : float
        Coverage of the interval.
    """
    size, n, right = (np.asarray(v, float) for v in (size, n, right))
    there = (n > 0) & (size > 0)
    if not there.any():
        return Share()
    # What was not sampled at all has its weight spread over the rest, but no fewer are unknown.
    seen = n.sum() / size.sum()
    size, n, right = size[there], n[there], right[there]
    weight = size / size.sum()
    mean = (right.sum() + 1) / (n.sum() + 2)
    q = (right + _PRIOR * mean) / (n + _PRIOR)
    unseen = np.clip(1 - n / size, 0, 1) if there.all() else np.full(len(n), 1 - seen)
    variance = float((weight**2 * unseen * q * (1 - q) / n).sum())
    value = float(np.clip((weight * right / n).sum(), 0, 1))
    total, hits = int(n.sum()), int(right.sum())
    if variance <= 0:
        return Share(hits, total, value, value, value, math.inf)
    smooth = float((weight * q).sum())
    effective = smooth * (1 - smooth) / variance
    low, high = wilson_interval(np.asarray(value), effective, level)
    return Share(hits, total, value, min(float(low), value), max(float(high), value), effective)
