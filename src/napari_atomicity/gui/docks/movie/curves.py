"""Curves over time as arrays, without Qt, for the plot of a movie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ....statistics.scores import atoms_of
from ....tracking.following import TrackedMovie

MAX_CURVES = 6
"""Largest number of tracks that are drawn at once."""


@dataclass(frozen=True, eq=False)
class TrackCurve:
    """The atomicity of one track, at the N frames in which it was seen."""

    track_id: int
    # frames, cluster_ids: the frame and the cluster of each point
    frames: np.ndarray
    cluster_ids: np.ndarray
    # number of atoms counted in each frame alone, or the size of the label without a count
    raw: np.ndarray
    smoothed: np.ndarray  # number of atoms of the smoothed label; NaN where it is not a class
    # low, high: the ends of the interval
    low: np.ndarray
    high: np.ndarray
    words: tuple[str, ...]


def curves_of(movie: TrackedMovie, track_ids: Sequence[int]) -> tuple[TrackCurve, ...]:
    """Return the curves of these tracks, in this order."""
    of_track = dict(tuple(movie.table.groupby("track_id")))
    return tuple(_curve(t, of_track[t]) for t in track_ids if t in of_track)


def _curve(track_id: int, rows: pd.DataFrame) -> TrackCurve:
    raw = rows["n_atoms"].to_numpy(float)
    raw = np.where(np.isfinite(raw), raw, _sizes(rows["label"]))
    return TrackCurve(
        track_id,
        rows["frame"].to_numpy(int),
        rows["cluster_id"].to_numpy(int),
        raw,
        _sizes(rows["label_smoothed"]),
        rows["n_smoothed_low"].to_numpy(float),
        rows["n_smoothed_high"].to_numpy(float),
        tuple(_format_point(row) for row in rows.itertuples()),
    )


def _sizes(labels: pd.Series) -> np.ndarray:
    return np.array([np.nan if (n := atoms_of(x)) is None else n for x in labels], float)


def _format_point(row: object) -> str:
    time = "" if np.isnan(row.time_s) else f", {row.time_s:g} s"  # type: ignore[attr-defined]
    label = row.label or "no label"  # type: ignore[attr-defined]
    return (
        f"track {row.track_id}, frame {row.frame}{time}: {label}, "  # type: ignore[attr-defined]
        f"smoothed {row.label_smoothed} ({row.p_smoothed:.2f})"  # type: ignore[attr-defined]
    )


def counts_over_time(movie: TrackedMovie, labels: Sequence[str]) -> dict[str, np.ndarray]:
    """Count the clusters of each smoothed label in each frame; leave out labels without clusters.

    A cluster that was missed in a frame is counted.
    """
    n = movie.drift.n_frames
    counts = {label: np.zeros(n, int) for label in labels}
    for track in movie.tracks:
        for label in dict.fromkeys(track.label.tolist()):
            at = track.frames[track.label == label]
            counts.setdefault(label, np.zeros(n, int))[at] += 1
    return {label: count for label, count in counts.items() if count.any()}
