"""Accuracy of labels from answers to a stratified sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ..core.tables.cluster_table import NON_CLASS_LABELS
from .intervals import wilson_interval

# ---- comparison of manual and predicted labels: confusion and accuracy on corrected clusters
#
# Annotators correct labels that look wrong, so corrected clusters are usually not a random sample,
# and the accuracy on them is not that on all clusters. A stratified sample estimates the latter.

TOO_HIGH = "the agreement may be too high: draw another sample in Review"
"""What follows if a model has learnt from the labels that it is compared with."""


@dataclass(frozen=True, eq=False)
class OnCorrected:
    """Confusion of clusters with both a manual and a predicted label."""

    # counts; the index is the manual label, the columns are the predicted label, both in the order
    # of the classes
    confusion: pd.DataFrame
    by_hand: int = 0

    @property
    def clusters(self) -> int:
        """Number of clusters with both labels."""
        return int(self.confusion.to_numpy().sum())

    @property
    def right(self) -> int:
        """Number of clusters with equal labels."""
        return sum(
            int(self.confusion.loc[name, name])
            for name in self.confusion.index
            if name in self.confusion.columns
        )

    @property
    def accuracy(self) -> float:
        """Fraction of the clusters with equal labels; NaN without clusters."""
        return self.right / self.clusters if self.clusters else float("nan")

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return Wilson's interval of the accuracy, as if the clusters were drawn at random."""
        if not self.clusters:
            return float("nan"), float("nan")
        low, high = wilson_interval(np.array([self.accuracy]), self.clusters, level)
        return float(low[0]), float(high[0])

    def shares(self) -> pd.DataFrame:
        """Return the confusion with each row divided by its sum."""
        counts = self.confusion
        return counts.div(counts.sum(axis=1).clip(lower=1), axis=0)


def on_corrected(
    table: pd.DataFrame,
    classes: Sequence[str],  # in order; other labels follow
) -> OnCorrected:
    """Compare manual with predicted labels."""
    by_person = table[table["label_corrected"] != ""]
    both = by_person[by_person["label_predicted"] != ""]
    person, machine = both["label_corrected"].astype(str), both["label_predicted"].astype(str)
    found = {*person, *machine}
    known = [*classes, *NON_CLASS_LABELS]
    order = [name for name in [*known, *sorted(found - set(known))] if name in found]
    confusion = pd.crosstab(person, machine).reindex(index=order, columns=order, fill_value=0)
    return OnCorrected(confusion.astype("int64"), len(by_person) - len(both))


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
    n_wanted: int  # length of the queue, without what was excluded since
    n_population: int  # number of clusters to which the estimate applies
    false_detections: int  # number of answers that there is no cluster; they count as wrong
    replaced: int  # number of clusters that a person split or merged; they count as wrong
    n_ahead: int = 0  # number of answers that do not count until their turn in the queue comes
    n_open: int = 0  # number of clusters without an answer, whatever theirs is in the interval


def stratified_share(
    # size, n, right: number of clusters, answers and right answers of each stratum. Strata without
    # answers are assumed to equal the others.
    size: Sequence[int] | np.ndarray,
    n: Sequence[int] | np.ndarray,
    right: Sequence[int] | np.ndarray,
    # clusters of each stratum that were passed over: they may be the hard ones, so the interval
    # reaches from where all of them are wrong to where all are right
    passed_over: Sequence[int] | np.ndarray = (0,),
    level: float = 0.95,  # coverage of the interval
) -> Share:
    """Estimate the fraction of right labels from answers to a stratified sample."""
    if np.any(passed_over):
        n_all = np.add(n, passed_over)
        wrong = stratified_share(size, n_all, right, level=level)
        correct = stratified_share(size, n_all, np.add(right, passed_over), level=level)
        found = stratified_share(size, n, right, level=level)
        return replace(found, low=min(wrong.low, found.low), high=max(correct.high, found.high))
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
