"""Agreement of each annotator with themselves, from what they were asked twice.

Of marks it is the F1 of the first and the second time, within the tolerance, with a bootstrap over
images; of labels the share of clusters with the same label, with Wilson's interval. It bounds the
agreement with others: nobody agrees better with others than with themselves.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from .agreement import agreement_share
from .annotation_sites import both_annotated
from .bootstrap_units import Units

_AGAIN = "\n"
"""Behind the name of an annotator for the second time; no name has a line break."""


def mark_self_agreement(
    marks: pd.DataFrame,
    looked: pd.DataFrame,
    # again_marks, again_looked: the same columns, of what was asked a second time
    again_marks: pd.DataFrame,
    again_looked: pd.DataFrame,
    tolerance_nm: float,  # maximum distance of marks of one atom
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return ``annotator, images, marks, marks_again, f1, f1_low, f1_high`` of each person."""
    if not len(again_looked):
        return []
    second = again_looked.assign(annotator=again_looked["annotator"] + _AGAIN)
    both = pd.concat([looked, second], ignore_index=True)
    rows = []
    for who in dict.fromkeys(again_looked["annotator"]):
        images = both_annotated(both, who, who + _AGAIN)
        if not images:
            continue
        first, other = (
            table[(table["annotator"] == who) & table["image"].isin(images)]
            for table in (marks, again_marks)
        )
        units = Units(images, pd.concat([first, other]), seed)
        counts = units.counts(first, other, images, tolerance_nm)
        n = {"images": len(images), "marks": len(first), "marks_again": len(other)}
        rows.append({"annotator": who, **n, **units.f1(counts)})
    return rows


def label_self_agreement(labels: pd.DataFrame, again: pd.DataFrame) -> list[dict[str, Any]]:
    """Return ``annotator, clusters, share, share_low, share_high`` of each person."""
    keys = ["image", "annotator", "cluster_id"]
    both = labels.merge(again, on=keys, suffixes=("", "_again"))
    rows = []
    for who, own in both.groupby("annotator", sort=False):
        share = agreement_share(int((own["label"] == own["label_again"]).sum()), len(own))
        rows.append(
            {
                "annotator": who,
                "clusters": len(own),
                "share": share.value,
                "share_low": share.low,
                "share_high": share.high,
            }
        )
    return rows
