from .averaging import average_frames as average_frames
from .drift import StageDrift as StageDrift, estimate_drift as estimate_drift
from .events import (
    dwell_summary as dwell_summary,
    dwell_times as dwell_times,
    find_events as find_events,
    survival as survival,
)
from .files import write_movies as write_movies
from .following import (
    Track as Track,
    TrackedMovie as TrackedMovie,
    compute_emissions as compute_emissions,
    evaluate_tracks as evaluate_tracks,
    fit_rate as fit_rate,
    link_clusters as link_clusters,
    smooth as smooth,
    smooth_tracks as smooth_tracks,
    track_clusters as track_clusters,
)
from .settings import MovieSettings as MovieSettings, frame_time_of as frame_time_of
from .tracks import is_tracked as is_tracked
