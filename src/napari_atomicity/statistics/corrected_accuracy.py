"""What a person's labels say of the machine's: confusion and accuracy on corrected clusters.

A person corrects what looks wrong, so the corrected clusters are as a rule no random sample, and
the accuracy on them is not that on all; a stratified sample is what estimates that.
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
    """Both labels of the clusters that have both.

    Parameters
    ----------
    confusion : pandas.DataFrame
        Counts; the index is what the person says, the columns are what the machine says,
        both in the order of the classes.
    by_hand : int
        Number of clusters that a person has labelled and the machine has not.
    """

    confusion: pd.DataFrame
    by_hand: int = 0

    @property
    def clusters(self) -> int:
        return int(self.confusion.to_numpy().sum())

    @property
    def right(self) -> int:
        """Number of clusters of which both say the same."""
        return sum(
            int(self.confusion.loc[name, name])
            for name in self.confusion.index
            if name in self.confusion.columns
        )

    @property
    def accuracy(self) -> float:
        """Share of the clusters of which both say the same; NaN without any."""
        return self.right / self.clusters if self.clusters else float("nan")

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Wilson's interval of the accuracy, as if the clusters were drawn at random."""
        if not self.clusters:
            return float("nan"), float("nan")
        low, high = wilson_interval(np.array([self.accuracy]), self.clusters, level)
        return float(low[0]), float(high[0])

    def shares(self) -> pd.DataFrame:
        """Of each row of the confusion which part is in which column."""
        counts = self.confusion
        return counts.div(counts.sum(axis=1).clip(lower=1), axis=0)


def on_corrected(table: pd.DataFrame, classes: Sequence[str]) -> OnCorrected:
    """Set a person's labels beside the machine's, wherever there are both.

    Parameters
    ----------
    table : pandas.DataFrame
        A cluster table.
    classes : sequence of str
        In the order that is wanted; labels that are none of them follow.
    """
    by_person = table[table["label_corrected"] != ""]
    both = by_person[by_person["label_predicted"] != ""]
    person, machine = both["label_corrected"].astype(str), both["label_predicted"].astype(str)
    found = {*person, *machine}
    known = [*classes, *NON_CLASS_LABELS]
    order = [name for name in [*known, *sorted(found - set(known))] if name in found]
    confusion = pd.crosstab(person, machine).reindex(index=order, columns=order, fill_value=0)
    return OnCorrected(confusion.astype("int64"), len(by_person) - len(both))
