"""Examples for the report: the clusters with highest and lowest confidence of each label."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ..core.tables.cluster_table import NON_CLASS_LABELS
from ..models.analysis import Analysis
from .figures import patch_strip

SURE, DOUBTFUL = "sure", "doubtful"
MAX_EXAMPLES = 2
"""Maximum number of examples of each label and kind."""


@dataclass(frozen=True, eq=False)
class ClusterExample:
    """An example cluster and its pictures."""

    image: str
    cluster_id: int
    label: str
    label_predicted: str
    confidence: float
    diameter_nm: float
    kind: str  # `SURE` or `DOUBTFUL`
    rank: float  # examples with small values come first
    # strip, names: pictures from `figures.patch_strip`, once they are drawn
    strip: str = ""
    names: tuple[str, ...] = ()


def select_examples(
    found: Sequence[ClusterExample],
    analysis: Analysis,
    classes: Sequence[str],
    max_examples: int = MAX_EXAMPLES,  # maximum number of examples of each label and kind
) -> list[ClusterExample]:
    """Select examples among those found so far and the clusters of another image.

    Only selected examples are drawn. Typical examples are complete and isolated clusters. Labels
    that are no class have no confidence: their examples are those farthest from the training data,
    and there are no doubtful ones.
    """
    new, index_of = [], {}
    for label, kind, rank in _ranked(analysis, classes):
        for index in rank.index[: 2 * max_examples]:  # a cluster may be both typical and doubtful
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
    chosen = top_examples([*found, *new], max_examples)
    return [_drawn(e, analysis, index_of[id(e)]) if id(e) in index_of else e for e in chosen]


def _drawn(example: ClusterExample, analysis: Analysis, index: int) -> ClusterExample:
    strip, names = patch_strip(analysis, index)
    return replace(example, strip=strip, names=tuple(names))


def top_examples(
    found: Iterable[ClusterExample], max_examples: int = MAX_EXAMPLES
) -> list[ClusterExample]:
    """Return the first examples of each label and kind, each cluster only once."""
    groups: dict[tuple[str, str], list[ClusterExample]] = {}
    for example in found:
        groups.setdefault((example.label, example.kind), []).append(example)
    chosen: dict[tuple[str, int], ClusterExample] = {}
    for kind in (SURE, DOUBTFUL):
        for (_, of_kind), members in groups.items():
            new = [m for m in members if (m.image, m.cluster_id) not in chosen]
            if of_kind == kind:
                first = sorted(new, key=lambda m: m.rank)[:max_examples]
                chosen |= {(m.image, m.cluster_id): m for m in first}
    return list(chosen.values())


def has_patches(analysis: Analysis) -> np.ndarray:
    """Return which clusters have patches in all channels, as a bool array (n_clusters,)."""
    out = np.full(len(analysis.table), bool(analysis.patches))
    for patches in analysis.patches.values():
        out &= np.isfinite(patches).any(axis=(1, 2))
    return out


def _ranked(analysis: Analysis, classes: Sequence[str]) -> list[tuple[str, str, pd.Series]]:
    """Return for each label and kind the ranks of the rows, sorted."""
    table = analysis.table.reset_index(drop=True)
    table = table[has_patches(analysis) & ~table["touches_border"].to_numpy(bool)]
    isolated = ~table["touches_neighbour"].astype(bool)
    out = []
    for label in dict.fromkeys([*classes, *NON_CLASS_LABELS]):
        own = table["label"] == label
        if label in NON_CLASS_LABELS:
            out.append((label, SURE, -table.loc[own, "ood_score"].fillna(0.0)))
            continue
        confidence = table.loc[own, "confidence"].dropna()
        sure = confidence[isolated.loc[confidence.index]]
        out += [(label, SURE, -sure), (label, DOUBTFUL, confidence)]
    return [(name, kind, rank.sort_values(kind="stable")) for name, kind, rank in out]
