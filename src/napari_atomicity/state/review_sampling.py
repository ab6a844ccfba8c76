"""Stratified random samples of clusters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..core.cluster_table import NON_CLASS_LABELS, classes_of
from .review_orders import certainty
from .review_request import ReviewRequest, Stratum

MIN_PER_STRATUM = 3
CONFIDENCE_LEVELS = ("low", "middle", "high")
"""Terciles of the confidence among the clusters of one predicted label."""


def strata_of(table: pd.DataFrame) -> tuple[tuple[Stratum, ...], np.ndarray]:
    """Return strata, predicted label × tercile of the confidence, and each row's stratum, (N,).

    Labels that are no class have no confidence, and few clusters no terciles: these are one
    stratum.
    """
    label = table["label_predicted"].to_numpy(object)
    confidence = certainty(table)
    index = np.zeros(len(table), int)
    strata: list[Stratum] = []
    for name in [*[n for n in classes_of(table) if n in set(label)],
                 *sorted(set(label) - set(classes_of(table)))]:  # fmt: skip
        rows = np.flatnonzero(label == name)
        levels = len(CONFIDENCE_LEVELS)
        if name in NON_CLASS_LABELS or len(rows) < levels * MIN_PER_STRATUM:
            index[rows] = len(strata)
            strata.append(Stratum(str(name), "", len(rows)))
            continue
        rank = np.empty(len(rows), int)
        rank[np.argsort(confidence[rows], kind="stable")] = np.arange(len(rows))
        level = rank * levels // len(rows)
        index[rows] = len(strata) + level
        strata += [
            Stratum(str(name), words, int((level == i).sum()))
            for i, words in enumerate(CONFIDENCE_LEVELS)
        ]
    return tuple(strata), index


def allocate(sizes: Sequence[int], n: int, minimum: int = MIN_PER_STRATUM) -> np.ndarray:
    """Allocate a sample to strata: in proportion, but at least a few of each."""
    size = np.asarray(sizes, int)
    n = min(n, int(size.sum()))
    start = np.minimum(size, minimum)
    while start.sum() > n and start.max(initial=0) > 1:
        minimum -= 1
        start = np.minimum(size, minimum)
    left = n - int(start.sum())
    if left <= 0:
        return start
    want = np.clip(n * size / size.sum() - start, 0, None)
    share = np.minimum(want * left / want.sum(), size - start)
    out = start + np.floor(share).astype(int)
    # The largest remainders first, wherever there is somebody left to draw.
    for i in np.argsort(-(share - np.floor(share)), kind="stable"):
        if out.sum() < n and out[i] < size[i]:
            out[i] += 1
    while out.sum() < n:  # strata that were full have left some over
        room = np.flatnonzero(out < size)
        out[room[: n - int(out.sum())]] += 1
    return out


def draw_sample(
    table: pd.DataFrame, request: ReviewRequest
) -> tuple[np.ndarray, tuple[Stratum, ...], np.ndarray]:
    """Draw a stratified sample; return rows in random order, strata, and each row's stratum."""
    rng = np.random.default_rng(request.seed)
    strata, index = strata_of(table)
    sizes = [s.size for s in strata]
    number = allocate(sizes, request.n or len(table))
    drawn, place = [], []
    for i, n in enumerate(number):
        rows = np.flatnonzero(index == i)
        drawn.append(rng.permutation(rows)[:n])
        # Evenly over the whole: whoever stops early has a fair part of each stratum too.
        place.append((np.arange(n) + rng.uniform(size=n)) / max(n, 1))
    rows, at = np.concatenate(drawn), np.concatenate(place)
    order = np.argsort(at, kind="stable")
    return rows[order], strata, index[rows[order]]
