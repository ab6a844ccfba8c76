"""Stacks over time: drift, tracks, atomicity against time, events, dwell times, averaging."""

from .averaging import average_frames
from .drift import Drift, drift_of_clusters, estimate_drift
from .dwell import dwell_summary, dwell_times, survival
from .events import find_events
from .files import write_movies
from .following import Movie, is_tracked, movie_of, track_clusters
from .hidden_markov import fit_rate, smooth
from .linking import link_clusters
from .settings import MovieSettings, frame_time_of
from .smoothing import Track, emissions_of, smooth_tracks

__all__ = [
    "Drift",
    "Movie",
    "MovieSettings",
    "Track",
    "average_frames",
    "drift_of_clusters",
    "dwell_summary",
    "dwell_times",
    "emissions_of",
    "estimate_drift",
    "find_events",
    "fit_rate",
    "frame_time_of",
    "is_tracked",
    "link_clusters",
    "movie_of",
    "smooth",
    "smooth_tracks",
    "survival",
    "track_clusters",
    "write_movies",
]
