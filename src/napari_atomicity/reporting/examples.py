"""Clusters worth showing: the surest and the most doubtful of each label, out of many images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ..core.cluster_table import NON_CLASS_LABELS
from ..models.analysis import Analysis
from .figures import patch_strip

SURE, DOUBTFUL = "sure", "doubtful"
MOST = 2
"""Of each label so many of either kind."""


@dataclass(frozen=True, eq=False)
class ClusterExample:
    """A cluster and its pictures.

    Parameters
    ----------
    image, cluster_id, label, label_predicted, confidence, diameter_nm
        As in the cluster table.
    kind
        `SURE` or `DOUBTFUL`.
    rank
        The smaller, the more so.
    strip, names
        From `figures.patch_strip`, once it is drawn.
    """

    image: str
    cluster_id: int
    label: str
    label_predicted: str
    confidence: float
    diameter_nm: float
    kind: str
    rank: float
    strip: str = ""
    names: tuple[str, ...] = ()


def select_examples(
    found: Sequence[ClusterExample], analysis: Analysis, classes: Sequence[str], most: int = MOST
) -> list[ClusterExample]:
    """The foremost of what was found so far and of another image; only these are drawn.

    The sure ones are whole and stand alone. What is no class has no confidence: of it those are
    shown that are farthest from all that the model has learnt, and none is doubtful.

    Parameters
    ----------
    found
        Of the images before.
    analysis, classes
        The image, and the classes in order.
    most
        Of each label so many of either kind.
    """
    new, index_of = [], {}
    for label, kind, rank in _ranked(analysis, classes):
        for index in rank.index[: 2 * most]:  # some may be sure and doubtful at once
            row: Any = analysis.table.iloc[index]
            example = ClusterExample(
                str(row["image"]),
                int(row["cluster_id"]),
                label,
                str(row["label_predicted"]),
                float(row["confidence"]),
                float(row["diameter_nm"]),
                kind,
                float(rank[index]),
            )
            index_of[id(example)] = int(index)
            new.append(example)
    chosen = top_examples([*found, *new], most)
    return [_drawn(e, analysis, index_of[id(e)]) if id(e) in index_of else e for e in chosen]


def _drawn(example: ClusterExample, analysis: Analysis, index: int) -> ClusterExample:
    strip, names = patch_strip(analysis, index)
    return replace(example, strip=strip, names=tuple(names))


def top_examples(found: Iterable[ClusterExample], most: int = MOST) -> list[ClusterExample]:
    """Of the examples of many images the first of each label and kind, no cluster twice."""
    groups: dict[tuple[str, str], list[ClusterExample]] = {}
    for example in found:
        groups.setdefault((example.label, example.kind), []).append(example)
    chosen: dict[tuple[str, int], ClusterExample] = {}
    for kind in (SURE, DOUBTFUL):
        for (_, of_kind), members in groups.items():
            new = [m for m in members if (m.image, m.cluster_id) not in chosen]
            if of_kind == kind:
                first = sorted(new, key=lambda m: m.rank)[:most]
                chosen |= {(m.image, m.cluster_id): m for m in first}
    return list(chosen.values())


def has_patches(analysis: Analysis) -> np.ndarray:
    """(N,) which clusters have patches that can be shown."""
    out = np.full(len(analysis.table), bool(analysis.patches))
    for patches in analysis.patches.values():
        out &= np.isfinite(patches).any(axis=(1, 2))
    return out


def _ranked(analysis: Analysis, classes: Sequence[str]) -> list[tuple[str, str, pd.Series]]:
    """Label, kind, and the rank of its rows with the first in front."""
    table = analysis.table.reset_index(drop=True)
    table = table[has_patches(analysis) & ~table["touches_border"].to_numpy(bool)]
    alone = ~table["touches_neighbour"].astype(bool)
    out = []
    for label in dict.fromkeys([*classes, *NON_CLASS_LABELS]):
        own = table["label"] == label
        if label in NON_CLASS_LABELS:
            out.append((label, SURE, -table.loc[own, "ood_score"].fillna(0.0)))
            continue
        confidence = table.loc[own, "confidence"].dropna()
        sure = confidence[alone.loc[confidence.index]]
        out += [(label, SURE, -sure), (label, DOUBTFUL, confidence)]
    return [(name, kind, rank.sort_values(kind="stable")) for name, kind, rank in out]
