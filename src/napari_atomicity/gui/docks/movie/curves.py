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
    """The atomicity of one track, at the N frames in which it was seen.

    Parameters
    ----------
    frames, cluster_ids : ndarray of int, shape (n,)
        The frame and the cluster of each point.
    raw : ndarray of shape (n,)
        Number of atoms counted in each frame alone, or the size of the label without a count.
    smoothed : ndarray of shape (n,)
        Number of atoms of the smoothed label; NaN where it is not a class.
    low, high : ndarray of shape (n,)
        The ends of the interval.
    """

    track_id: int
    frames: np.ndarray
    cluster_ids: np.ndarray
    raw: np.ndarray
    smoothed: np.ndarray
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

    Parameters
    ----------
    labels : sequence of str
        The labels, in order.

    Returns
    -------
    dict of str to ndarray of int, shape (n_frames,)
    """
    n = movie.drift.n_frames
    counts = {label: np.zeros(n, int) for label in labels}
    for track in movie.tracks:
        for label in dict.fromkeys(track.label.tolist()):
            at = track.frames[track.label == label]
            counts.setdefault(label, np.zeros(n, int))[at] += 1
    return {label: count for label, count in counts.items() if count.any()}
