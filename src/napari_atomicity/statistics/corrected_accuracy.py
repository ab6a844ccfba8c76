"""Comparison of manual and predicted labels: confusion and accuracy on corrected clusters.

Annotators correct labels that look wrong, so corrected clusters are usually not a random sample,
and the accuracy on them is not that on all clusters. A stratified sample estimates the latter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..core.cluster_table import NON_CLASS_LABELS
from .intervals import wilson_interval


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


def on_corrected(table: pd.DataFrame, classes: Sequence[str]) -> OnCorrected:
    """Compare manual with predicted labels.

    Parameters
    ----------
    classes : sequence of str
        Classes in order; other labels follow.
    """
    by_person = table[table["label_corrected"] != ""]
    both = by_person[by_person["label_predicted"] != ""]
    person, machine = both["label_corrected"].astype(str), both["label_predicted"].astype(str)
    found = {*person, *machine}
    known = [*classes, *NON_CLASS_LABELS]
    order = [name for name in [*known, *sorted(found - set(known))] if name in found]
    confusion = pd.crosstab(person, machine).reindex(index=order, columns=order, fill_value=0)
    return OnCorrected(confusion.astype("int64"), len(by_person) - len(both))
