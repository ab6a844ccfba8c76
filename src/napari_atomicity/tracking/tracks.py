"""Tracks in the cluster table of an analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ..core.tables.cluster_table import NO_TRACK
from ..models.analysis import Analysis

MOVIE = "movie"
"""Key of the parameters of an analysis: drift and settings of its tracks."""
MOVIE_TIMES = "movie_times"
"""Key of the parameters of a stack without tracks: the times of its earlier tracks."""


@dataclass(frozen=True, eq=False)
class Tracking:
    """Track numbers of clusters, with the drift and settings of the tracking."""

    track: Mapping[int, int]
    # settings, drift and notices as plain values (`following.make_tracking_parameters`)
    kept: Mapping[str, Any]

    def with_settings(self, changes: Mapping[str, Any]) -> Tracking:
        """Return the same tracks with some settings changed."""
        return replace(self, kept={**self.kept, "settings": {**self.kept["settings"], **changes}})


def is_tracked(analysis: Analysis | None) -> bool:
    """Return whether the clusters are linked between frames."""
    return (
        analysis is not None
        and "track_id" in analysis.table.columns
        and MOVIE in analysis.parameters
    )


def tracking_of(analysis: Analysis | None) -> Tracking | None:
    """Return the tracks of an analysis; None without any."""
    if analysis is None or not is_tracked(analysis):
        return None
    table = analysis.table
    track = dict(zip(table["cluster_id"].tolist(), table["track_id"].tolist(), strict=True))
    return Tracking(track, analysis.parameters[MOVIE])


def entered_times(analysis: Analysis | None) -> dict[str, float]:
    """Return frame time and rate as entered for a stack, also before its tracks were lost."""
    tracking = tracking_of(analysis)
    if tracking is not None:
        known = tracking.kept["settings"]
    else:
        known = {} if analysis is None else analysis.parameters.get(MOVIE_TIMES, {})
    return {x: known[x] for x in ("frame_time_s", "rate") if known.get(x) is not None}


def with_tracking(analysis: Analysis, tracking: Tracking | None) -> Analysis:
    """Return a copy of an analysis with these tracks only."""
    parameters = {k: v for k, v in analysis.parameters.items() if k != MOVIE}
    if tracking is None:
        table = analysis.table.drop(columns="track_id", errors="ignore")
        return replace(analysis, table=table, parameters=parameters)
    ids = analysis.table["cluster_id"].tolist()
    track = np.array([tracking.track.get(i, NO_TRACK) for i in ids], np.int64)
    return replace(
        analysis,
        table=analysis.table.assign(track_id=track),
        parameters={**parameters, MOVIE: dict(tracking.kept)},
    )


def clusters_of(table: pd.DataFrame, track_ids: Sequence[int]) -> list[int]:
    """Return the ids of all clusters in these tracks."""
    wanted = np.isin(table["track_id"].to_numpy(), [t for t in track_ids if t != NO_TRACK])
    return table.loc[wanted, "cluster_id"].tolist()
