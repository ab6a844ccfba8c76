"""Warnings about the results of one image."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..core.cluster_table import AGGREGATE, UNKNOWN
from ..statistics.ratio_notes import CONDITIONS_DIFFER
from ..statistics.ratios import counted, images_that_differ
from .template_data import sentence

LOW_CONFIDENCE = 0.7
"""Mean confidence of an image below which a warning is given."""
MIN_CLUSTERS = 20
"""Number of counted clusters below which a warning is given."""
MAX_FRACTION = 0.2
"""Fraction of unusual clusters above which a warning is given."""


def image_warnings(table: pd.DataFrame) -> tuple[str, ...]:
    """Return what a reader should know before using the results of one image.

    Parameters
    ----------
    table : pandas.DataFrame
        Cluster table of the image.

    Returns
    -------
    tuple of str
        One sentence per warning.
    """
    if not len(table):
        return ("No cluster was found.",)
    found = []
    classified = table[table["label_predicted"] != ""]
    n = int(counted(table).sum())
    if n == 0:
        found.append("No cluster counts in the ratios.")
    elif n < MIN_CLUSTERS:
        number = "1 cluster counts" if n == 1 else f"{n} clusters count"
        found.append(f"Only {number} in the ratios: the intervals are wide.")
    confidence = float(classified["confidence"].mean()) if len(classified) else np.nan
    if confidence < LOW_CONFIDENCE:
        found.append(
            f"The mean confidence is {confidence:.2f}: the conditions of this image may differ "
            "from those of the training."
        )
    if images_that_differ(table):
        found.append(sentence(CONDITIONS_DIFFER))
    for concerned, text in (
        (table["label"] == UNKNOWN, "belong to no class of the model (unknown)"),
        (table["label"] == AGGREGATE, "are aggregates and belong to no class"),
        (table["touches_neighbour"], "touch a neighbour, where outlines are less certain"),
        (table["touches_border"], "are cut by the border and do not count"),
    ):
        if concerned.mean() > MAX_FRACTION:
            found.append(f"{concerned.sum()} of {len(table)} clusters {text}.")
    return tuple(found)
