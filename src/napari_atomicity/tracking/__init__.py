"""Stacks over time: drift, tracks, events, dwell times.

Modules are loaded on first use, so that the tracks of a project need no SciPy statistics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy_imports import lazy_attributes

if TYPE_CHECKING:
    from ..statistics.hidden_markov import fit_rate, smooth
    from ..statistics.track_smoothing import Track, compute_emissions, smooth_tracks
    from .averaging import average_frames
    from .drift import StageDrift, estimate_drift, estimate_drift_from_clusters
    from .dwell import dwell_summary, dwell_times, survival
    from .events import find_events
    from .files import write_movies
    from .following import TrackedMovie, analyse_movie, track_clusters
    from .linking import link_clusters
    from .settings import MovieSettings, frame_time_of
    from .tracks import is_tracked

__all__ = [
    "MovieSettings",
    "StageDrift",
    "Track",
    "TrackedMovie",
    "analyse_movie",
    "average_frames",
    "compute_emissions",
    "dwell_summary",
    "dwell_times",
    "estimate_drift",
    "estimate_drift_from_clusters",
    "find_events",
    "fit_rate",
    "frame_time_of",
    "is_tracked",
    "link_clusters",
    "smooth",
    "smooth_tracks",
    "survival",
    "track_clusters",
    "write_movies",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "MovieSettings": "settings",
        "StageDrift": "drift",
        "Track": ".statistics.track_smoothing",
        "TrackedMovie": "following",
        "analyse_movie": "following",
        "average_frames": "averaging",
        "compute_emissions": ".statistics.track_smoothing",
        "dwell_summary": "dwell",
        "dwell_times": "dwell",
        "estimate_drift": "drift",
        "estimate_drift_from_clusters": "drift",
        "find_events": "events",
        "fit_rate": ".statistics.hidden_markov",
        "frame_time_of": "settings",
        "is_tracked": "tracks",
        "link_clusters": "linking",
        "smooth": ".statistics.hidden_markov",
        "smooth_tracks": ".statistics.track_smoothing",
        "survival": "dwell",
        "track_clusters": "following",
        "write_movies": "files",
    },
)
