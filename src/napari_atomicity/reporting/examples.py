"""Examples of clusters: those of each label with the highest and the lowest confidence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..core.tables.cluster_table import NON_CLASS_LABELS, class_confidence, is_whole
from ..core.text import printable
from ..models.analysis import Analysis
from .figures import CLUSTER_COLUMNS, draw_scale_bar, patch_strip, patch_tiles
from .plots.base import Look, draw_message
from .plots.publication import publication_look, write_drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
    """Select candidates for `top_examples` among those so far and the clusters of another image.

    Only candidates are drawn; a cluster may be one of typical and of doubtful examples. Typical
    examples are complete and isolated clusters. Labels that are no class have no confidence: their
    examples are those farthest from the training data, and there are no doubtful ones.
    """
    new, index_of = [], {}
    for label, kind, rank in _ranked(analysis, classes):
        for index in rank.index[: 2 * max_examples]:
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
    chosen = candidates([*found, *new], max_examples)
    return [_drawn(e, analysis, index_of[id(e)]) if id(e) in index_of else e for e in chosen]


def _drawn(example: ClusterExample, analysis: Analysis, index: int) -> ClusterExample:
    strip, names = patch_strip(analysis, index)
    return replace(example, strip=strip, names=tuple(names))


def candidates(
    found: Iterable[ClusterExample], max_examples: int = MAX_EXAMPLES
) -> list[ClusterExample]:
    """Return of each label and kind twice as many as are shown: some may be of the other kind."""
    return [
        example
        for members in _by_label_and_kind(found).values()
        for example in sorted(members, key=lambda m: m.rank)[: 2 * max_examples]
    ]


def _by_label_and_kind(
    found: Iterable[ClusterExample],
) -> dict[tuple[str, str], list[ClusterExample]]:
    groups: dict[tuple[str, str], list[ClusterExample]] = {}
    for example in found:
        groups.setdefault((example.label, example.kind), []).append(example)
    return groups


def top_examples(
    found: Iterable[ClusterExample], max_examples: int = MAX_EXAMPLES
) -> list[ClusterExample]:
    """Return the first examples of each label and kind, each cluster only once."""
    groups = _by_label_and_kind(found)
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
    table = table[has_patches(analysis) & is_whole(table)]
    isolated = ~table["touches_neighbour"].astype(bool)
    out = []
    for label in dict.fromkeys([*classes, *NON_CLASS_LABELS]):
        # Where a person changed the label, confidence and score do not tell of it.
        own = (table["label"] == label) & (table["label_predicted"] == label)
        if label in NON_CLASS_LABELS:
            out.append((label, SURE, -table.loc[own, "ood_score"].fillna(0.0)))
            continue
        confidence = table.loc[own, "confidence"].dropna()
        sure = confidence[isolated.loc[confidence.index]]
        out += [(label, SURE, -sure), (label, DOUBTFUL, confidence)]
    return [(name, kind, rank.sort_values(kind="stable")) for name, kind, rank in out]


# ---- figure of typical clusters with their class maps
Cluster = tuple[Analysis, int]
"""A cluster, by its row in the table of an analysis."""
_STEP = 1.05  # from tile to tile, in widths of a tile
_ZOOM = 4


def typical_clusters(analyses: Iterable[Analysis], classes: Sequence[str]) -> list[Cluster]:
    """Return the surest cluster of each label, of a whole patch if there is one."""
    first: dict[str, tuple[tuple[bool, float], Cluster]] = {}
    for analysis in analyses:
        for label, kind, rank in _ranked(analysis, classes):
            if kind == SURE and len(rank):
                whole = (int(row) for row in rank.index if _is_whole(analysis, row))
                row = next(whole, None)
                cut, row = row is None, int(rank.index[0]) if row is None else row
                found = (cut, float(rank[row])), (analysis, row)
                first[label] = min(first.get(label, found), found, key=lambda one: one[0])
    return [first[label][1] for label in [*classes, *NON_CLASS_LABELS] if label in first]


def _is_whole(analysis: Analysis, row: int) -> bool:
    """Return whether the patch of a cluster is within the image."""
    patch = next(iter(analysis.patches.values()))[row]
    return bool(np.isfinite(analysis.without_padding(patch, row)).all())


def draw_class_maps(axes: Axes, clusters: Sequence[Cluster], look: Look) -> None:
    """Draw a column for each cluster: its patches, and their class maps."""
    axes.spines[:].set_visible(False)
    axes.set(xticks=[], yticks=[])
    if not clusters:
        draw_message(axes, look, "No complete cluster was classified by a network")
        return
    names: list[str] = []
    edge_nm = clusters[0][0].field_of_view_nm
    for column, (analysis, row) in enumerate(clusters):
        tiles = patch_tiles(analysis, row, _ZOOM)
        names = list(tiles)
        for line, tile in enumerate(tiles.values()):
            x, y = _STEP * column * edge_nm, _STEP * line * edge_nm
            axes.imshow(tile, extent=(x, x + edge_nm, y + edge_nm, y))
    draw_scale_bar(axes, (edge_nm, edge_nm))
    shape = len(names), len(clusters)
    rows, columns = ((_STEP * np.arange(n) + 0.5) * edge_nm for n in shape)
    axes.set_xticks(columns, [_caption(*cluster) for cluster in clusters], color=look.ink)
    axes.set_yticks(rows, [name.replace("class map", "class\nmap") for name in names])
    axes.tick_params(length=0, labeltop=True, labelbottom=False, colors=look.ink)
    height, width = ((_STEP * (n - 1) + 1) * edge_nm for n in shape)
    axes.set(xlim=(0, width), ylim=(height, 0))


def _caption(analysis: Analysis, index: int) -> str:
    """Return label and confidence of a cluster."""
    row = analysis.table.iloc[[index]]
    confidence = class_confidence(row["label"], row["confidence"])[0]
    label = printable(str(row["label"].iloc[0]))
    return f"{label}\n{confidence:.2f}" if np.isfinite(confidence) else label


def write_class_maps(
    analyses: Iterable[Analysis], classes: Sequence[str], folder: Path
) -> list[Path]:
    """Write patches and class maps of typical clusters, as for a publication."""
    clusters = typical_clusters(analyses, classes)
    if not clusters:
        return []
    look = publication_look(classes)
    draw = partial(draw_class_maps, clusters=clusters, look=look)
    numbers = pd.concat([a.table.iloc[[row]] for a, row in clusters])[["image", *CLUSTER_COLUMNS]]
    # Two lines of caption are above the tiles, and words beside them.
    analysis, row = clusters[0]
    aspect = min(1.0, 1.1 * len(patch_tiles(analysis, row)) / (len(clusters) + 0.5))
    return write_drawn("class_maps", draw, folder, look, numbers, aspect)
