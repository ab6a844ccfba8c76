"""From the clusters of every frame to clusters over time.

`track_clusters` says which clusters are one, and is all that has to be kept; everything else is
found again from the table by `analyse_movie`, so that labels a person corrects count at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..core.cluster_table import classes_of
from ..core.errors import UnsuitableImageError
from ..core.progress import Progress, Stop, check, report
from ..models.analysis import Analysis
from .drift import StageDrift, estimate_drift, no_drift
from .dwell import dwell_summary, dwell_times
from .events import find_events
from .hidden_markov import RateFit, change_of_rate
from .linking import link_clusters
from .settings import MovieSettings, frame_time_of
from .smoothing import Track, smooth_tracks, smoothed_atoms
from .tracks import MOVIE, Tracking, is_tracked, with_tracking

TRACK_COLUMNS = (
    "image", "track_id", "frame", "time_s", "cluster_id", "y_nm", "x_nm", "y_px", "x_px", "label",
    "label_predicted", "label_smoothed", "p_smoothed", "n_atoms", "n_atoms_low", "n_atoms_high",
    "n_smoothed", "n_smoothed_low", "n_smoothed_high",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class TrackedMovie:
    """What is known of the clusters of a stack over time.

    Parameters
    ----------
    image : str
        Its name.
    settings : MovieSettings
        That it was found with.
    frame_time_s : float or None
        Time from frame to frame; None: all times are in frames.
    drift : StageDrift
        Of the stage.
    tracks : list of Track
        Smoothed courses, by number.
    table : pandas.DataFrame
        A row per cluster in a track (`TRACK_COLUMNS`): ``y_nm, x_nm`` with the drift removed,
        ``y_px, x_px`` as in the frame; ``label_smoothed`` on the most probable course, with its
        probability; ``n_smoothed`` the expected atomicity and the ends of its 90 % band.
    events, dwells, dwell_rates : pandas.DataFrame
        See `find_events`, `dwell_times` and `dwell_summary`.
    change : RateFit
        How often clusters change their class.
    notices : tuple of str, optional
        What a person should know.
    """

    image: str
    settings: MovieSettings
    frame_time_s: float | None
    drift: StageDrift
    tracks: list[Track]
    table: pd.DataFrame
    events: pd.DataFrame
    dwells: pd.DataFrame
    dwell_rates: pd.DataFrame
    change: RateFit
    n_states: int
    notices: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """Of rates: "1/s" or "1/frame"."""
        return "1/frame" if self.frame_time_s is None else "1/s"

    @property
    def rate(self) -> tuple[float, float, float]:
        """Changes of class per cluster and `unit`, with the ends of the 95 % interval."""
        return self.change.rate(self.n_states, self.frame_time_s or 1.0)

    def summary(self) -> dict[str, Any]:
        """In a few numbers, ready for JSON."""
        rate, low, high = self.rate
        return {
            "frames": self.drift.n_frames,
            "frame_time_s": self.frame_time_s,
            "tracks": len(self.tracks),
            "clusters_in_tracks": len(self.table),
            "largest_drift_nm": float(np.linalg.norm(self.drift.shift_nm, axis=1).max()),
            "rate": {
                "value": rate,
                "low": low,
                "high": high,
                "unit": self.unit,
                "estimated": self.change.estimated,
                "expected_changes": self.change.expected_changes,
                "steps": self.change.steps,
            },
            "dwell_rates": self.dwell_rates.to_dict("records"),
            "events": {str(k): int(v) for k, v in self.events["event"].value_counts().items()},
            "notices": list(self.notices),
        }


def track_clusters(
    analysis: Analysis,
    settings: MovieSettings | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Analysis:
    """Find the drift of a stack and link its clusters over the frames.

    Parameters
    ----------
    analysis : Analysis
        Of a calibrated stack; labels play no part.
    settings : MovieSettings, optional
        Lengths in nm.
    progress, stop : callable, optional
        Called now and then.

    Returns
    -------
    Analysis
        Its table has ``track_id``; its parameters have drift and settings under `MOVIE`.

    Raises
    ------
    UnsuitableImageError
        If it is a single image.
    CalibrationError
        If the pixel size is not known.
    Cancelled
        If ``stop()`` says so.
    """
    settings = settings or MovieSettings()
    micrograph, table = analysis.micrograph, analysis.table
    if micrograph.n_frames < 2:
        raise UnsuitableImageError(
            "this is a single image: there is nothing to follow over time",
            micrograph.path or micrograph.name,
            "Open a stack of frames (T, Y, X)",
        )
    drift = estimate_drift(micrograph, table, settings.drift, progress, stop)
    frames = table["frame"].to_numpy(int)
    track, notices = link_clusters(
        drift.subtract(table[["y_nm", "x_nm"]].to_numpy(float), frames),
        frames,
        settings.search_range_nm,
        settings.memory_frames,
        settings.min_frames,
        progress,
        stop,
    )
    numbers = dict(zip(table["cluster_id"].tolist(), track.tolist(), strict=True))
    return with_tracking(
        analysis, Tracking(numbers, make_tracking_parameters(settings, drift, notices))
    )


def make_tracking_parameters(
    settings: MovieSettings, drift: StageDrift, notices: Sequence[str] = ()
) -> dict[str, Any]:
    """All but the tracks themselves, as plain values that JSON can hold."""
    return {
        "settings": settings.to_dict(),
        "drift_nm": np.round(drift.shift_nm, 5).tolist(),
        "drift_error_nm": [None if e != e else round(e, 5) for e in drift.error_nm.tolist()],
        "drift_source": drift.source.tolist(),
        "notices": list(notices),
    }


def read_drift(analysis: Analysis) -> StageDrift:
    """The drift that the tracks of an analysis rest on; none where it was not found."""
    kept, n = analysis.parameters.get(MOVIE), analysis.micrograph.n_frames
    if kept is None or len(kept["drift_nm"]) != n:
        return no_drift(n)
    error = [np.nan if e is None else e for e in kept["drift_error_nm"]]
    source = np.array(kept["drift_source"], object)
    return StageDrift(np.array(kept["drift_nm"], float), np.array(error, float), source)


def analyse_movie(
    analysis: Analysis,
    settings: MovieSettings | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> TrackedMovie:
    """Atomicity against time, events and dwell times of an analysis whose clusters are linked.

    Parameters
    ----------
    analysis : Analysis
        From `track_clusters`; edited since, if a person did.
    settings : MovieSettings, optional
        Frame time, rate and weight of a frame; those of the linking are what they were. As kept
        with the tracks, if None.

    Raises
    ------
    UnsuitableImageError
        If its clusters have not been linked.
    Cancelled
        If ``stop()`` says so.
    """
    if not is_tracked(analysis):
        raise UnsuitableImageError(
            "the clusters have not been linked over the frames",
            analysis.micrograph.path or analysis.micrograph.name,
            "Press Track first",
        )
    kept = analysis.parameters[MOVIE]
    linked = MovieSettings.from_dict(kept["settings"])
    settings = linked if settings is None else settings
    micrograph, table = analysis.micrograph, analysis.table
    frame_time_s = settings.frame_time_s or frame_time_of(micrograph)
    classes, drift = classes_of(table), read_drift(analysis)
    places = drift.subtract(table[["y_nm", "x_nm"]].to_numpy(float), table["frame"].to_numpy(int))
    n_states = len(classes) + 1
    change = None
    if settings.rate is not None:
        change = change_of_rate(settings.rate * (frame_time_s or 1.0), n_states)
    tracks, fit = smooth_tracks(
        table, change, weight=settings.frame_weight, progress=progress, stop=stop
    )
    check(stop)
    report(progress, 0, 0, "Listing events")
    pixel = micrograph.calibrated()
    height, width = micrograph.shape_px
    image = micrograph.name
    events = find_events(
        table, places, tracks, micrograph.n_frames, linked.search_range_nm, linked.memory_frames,
        (height * pixel, width * pixel), image, frame_time_s,
    )  # fmt: skip
    dwells = dwell_times(tracks, image, frame_time_s)
    return TrackedMovie(
        image,
        settings,
        frame_time_s,
        drift,
        tracks,
        _table_of(table, places, tracks, classes, image, frame_time_s),
        events,
        dwells,
        dwell_summary(dwells, frame_time_s),
        fit,
        n_states,
        (*kept.get("notices", ()), *_notices(table, drift)),
    )


def _notices(table: pd.DataFrame, drift: StageDrift) -> list[str]:
    out = []
    assumed = int((drift.source == "assumed").sum())
    if assumed and assumed < drift.n_frames:
        out.append(
            f"In {assumed} of {drift.n_frames} frames nothing could be matched: their drift is "
            "that of their neighbours."
        )
    elif assumed:
        out.append("No drift could be found: none is removed.")
    if len(table) and not classes_of(table):
        out.append("The clusters are not classified: there is no atomicity against time.")
    return out


def _table_of(
    table: pd.DataFrame,
    places: np.ndarray,
    tracks: Sequence[Track],
    classes: list[str],
    image: str,
    frame_time_s: float | None,
) -> pd.DataFrame:
    parts = [(t, t.rows[t.detected]) for t in tracks]
    rows = np.concatenate([r for _, r in parts]) if parts else np.zeros(0, int)
    mine = table.iloc[rows]

    def over(values: Sequence[np.ndarray], width: int | None = None) -> np.ndarray:
        empty = np.zeros((0,) if width is None else (0, width))
        return np.concatenate(values) if values else empty

    atoms = over([smoothed_atoms(t, classes)[t.detected] for t in tracks], 3)
    frame = mine["frame"].to_numpy(int)
    number = np.full(len(rows), np.nan)
    columns = {
        "image": np.full(len(rows), image, object),
        "track_id": mine["track_id"].to_numpy(np.int64),
        "frame": frame,
        "time_s": frame * (np.nan if frame_time_s is None else frame_time_s),
        "cluster_id": mine["cluster_id"].to_numpy(),
        "y_nm": places[rows, 0] if len(rows) else number,
        "x_nm": places[rows, 1] if len(rows) else number,
        "y_px": mine["y_px"].to_numpy(float),
        "x_px": mine["x_px"].to_numpy(float),
        "label": mine["label"].to_numpy(object),
        "label_predicted": mine["label_predicted"].to_numpy(object),
        "label_smoothed": over([t.label[t.detected] for t in tracks]).astype(object),
        "p_smoothed": over([t.p[t.detected] for t in tracks]).astype(float),
        **{
            name: mine[name].to_numpy(float) if name in mine.columns else number
            for name in ("n_atoms", "n_atoms_low", "n_atoms_high")
        },
        "n_smoothed": atoms[:, 0],
        "n_smoothed_low": atoms[:, 1],
        "n_smoothed_high": atoms[:, 2],
    }
    return pd.DataFrame(columns)[list(TRACK_COLUMNS)]
