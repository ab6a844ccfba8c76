"""A map of the clusters of a session: a UMAP of their own, instead of the map of their model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..core.errors import AtomicityError
from ..core.progress import Progress, Stop, check, report
from ..core.tables.cluster_table import SESSION_MAP
from ..core.tables.table_cache import Columns
from ..models.analysis import Analysis
from ..models.embedding import NEIGHBOURS, fit_map, place_by_references

MIN_CLUSTERS = NEIGHBOURS + 1
"""A map of a session needs at least this number of classified clusters."""


def session_positions(analysis: Analysis) -> np.ndarray:
    """Return the positions (n_clusters, 2) in the map of the session; NaN without one."""
    return analysis.table.reindex(columns=list(SESSION_MAP)).to_numpy(float)


def fit_session_map(
    analyses: Sequence[Analysis],
    seed: int = 0,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> list[Analysis]:
    """Fit a map to all classified clusters of a session.

    The embeddings of two models can not be compared. If the images were classified by several
    models, the map is of the one that classified most clusters.

    Raises `AtomicityError` if there are fewer than `MIN_CLUSTERS` classified clusters. Raises
    `Cancelled` if ``stop()`` is true before or after the fit.
    """
    members = _of_one_model(analyses)
    embedded = [a.is_embedded for a in members]
    n = sum(int(rows.sum()) for rows in embedded)
    if n < MIN_CLUSTERS:
        raise AtomicityError(
            f"a map needs {MIN_CLUSTERS} classified clusters, and there are {n}",
            advice="Analyse more images",
        )
    check(stop)
    report(progress, 0, 0, f"Fitting a map of {n:,} clusters")
    pairs = zip(members, embedded, strict=True)
    position = fit_map(np.concatenate([a.embedding[rows] for a, rows in pairs]), seed)
    check(stop)
    parts = np.split(position, np.cumsum([rows.sum() for rows in embedded])[:-1])
    found = zip(members, embedded, parts, strict=True)
    return [_with_positions(analysis, rows, part) for analysis, rows, part in found if len(part)]


def extend_session_map(
    analyses: Sequence[Analysis], progress: Progress | None = None, stop: Stop | None = None
) -> list[Analysis]:
    """Place clusters that are new since the map of their session was fitted."""
    positions = [session_positions(a) for a in analyses]
    placed = [np.isfinite(of).all(axis=1) for of in positions]
    known = [i for i, rows in enumerate(placed) if rows.any()]
    if not known:
        return []
    reference = np.concatenate([analyses[i].embedding[placed[i]] for i in known])
    position = np.concatenate([positions[i][placed[i]] for i in known])
    models, extended = {analyses[i].model_id for i in known}, []
    for i, (analysis, rows) in enumerate(zip(analyses, placed, strict=True)):
        check(stop)
        report(progress, i, len(analyses), f"Placing {analysis.micrograph.name} in the map")
        if analysis.model_id in models and (new := analysis.is_embedded & ~rows).any():
            found = place_by_references(analysis.embedding[new], reference, position)
            extended.append(_with_positions(analysis, new, found))
    return extended


def count_unplaced(analysis: Analysis, columns: Columns, coordinates: tuple[str, str]) -> int:
    """Return the number of clusters that have an embedding and no position in a map."""
    placed: np.ndarray = np.zeros(len(columns["cluster_id"]), bool)
    if set(coordinates) <= columns.keys():
        placed = np.isfinite(np.array([columns[name] for name in coordinates])).all(axis=0)
    if placed.all():  # most often: the embedding is not read
        return 0
    return int((analysis.is_embedded & ~placed).sum())


def _of_one_model(analyses: Sequence[Analysis]) -> list[Analysis]:
    """Return the images of the model that classified most clusters."""
    clusters: Counter[str] = Counter()
    for analysis in analyses:
        clusters[analysis.model_id] += int(analysis.is_embedded.sum())
    most = max(clusters, key=clusters.__getitem__, default="")
    return [a for a in analyses if a.model_id == most]


def _with_positions(analysis: Analysis, rows: np.ndarray, position: np.ndarray) -> Analysis:
    """Return the analysis with new positions of some clusters."""
    both = session_positions(analysis).copy()
    both[rows] = position
    columns = dict(zip(SESSION_MAP, both.T, strict=True))
    return replace(analysis, table=analysis.table.assign(**columns))
