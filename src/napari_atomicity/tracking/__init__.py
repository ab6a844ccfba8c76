"""Stacks over time: drift, tracks, events, dwell times.

Modules are loaded on first use, so that the tracks of a project need no SciPy statistics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy_imports import lazy_attributes

if TYPE_CHECKING:
    from .averaging import average_frames
    from .drift import estimate_drift
    from .following import analyse_movie, track_clusters
    from .settings import MovieSettings

__all__ = ["MovieSettings", "analyse_movie", "average_frames", "estimate_drift", "track_clusters"]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "MovieSettings": "settings",
        "analyse_movie": "following",
        "average_frames": "averaging",
        "estimate_drift": "drift",
        "track_clusters": "following",
    },
)
