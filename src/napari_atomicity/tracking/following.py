"""Tracking of clusters and analysis of movies.

Only the result of `track_clusters` is stored. `evaluate_tracks` computes everything else from the
table, so that corrected labels take effect immediately.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import UnsuitableImageError, require_extra
from ..core.progress import Progress, Stop, check, report
from ..core.tables.cluster_table import NO_TRACK, classes_of
from ..core.text import pluralise
from ..models.analysis import Analysis
from ..models.estimators import class_sizes
from ..statistics.hidden_markov import (
    PRIOR_CHANGES,
    PRIOR_STEPS,
    RateFit,
    change_of_rate,
    fit_rate as fit_rate,
    smooth as smooth,
)
from ..statistics.track_smoothing import (
    Track,
    compute_emissions as compute_emissions,
    smooth_tracks,
)
from .drift import StageDrift, estimate_drift, no_drift
from .events import dwell_summary, dwell_times, find_events
from .settings import MovieSettings, frame_time_of
from .tracks import MOVIE, Tracking, is_tracked, with_tracking

# ---- linking of clusters between frames by trackpy, after drift correction
#
# trackpy [1]_ finds the assignment between frames with the minimum sum of squared displacements.
#
# References
# ----------
# .. [1] J. C. Crocker and D. G. Grier, J. Colloid Interface Sci. 179, 298 (1996).

MIN_SHARE = 0.25
"""Minimum share of the search range, to which it is reduced if the assignment is too large."""
_STEP = 0.8


def link_clusters(
    places_nm: np.ndarray,
    frames: np.ndarray,
    search_range_nm: float,
    memory: int = 0,
    min_frames: int = 1,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> tuple[np.ndarray, list[str]]:
    """Link clusters to tracks; the result is deterministic.

    Parameters
    ----------
    places_nm : ndarray of shape (N, 2)
        Positions (y, x), drift corrected.
    frames : ndarray of int, shape (N,)
        Frame of each cluster.
    search_range_nm : float
        Maximum displacement of a cluster between frames.
    memory : int, default 0
        Maximum number of frames in which a cluster is not detected.
    min_frames : int, default 1
        Minimum number of frames of a track.
    progress, stop : callable, optional
        Called for every frame.

    Returns
    -------
    ndarray
        (N,) int64: track numbers from 0, by first frame and then from top to bottom; -1 for none.
    list of str
        Notices, for example of a smaller search range.

    Raises
    ------
    Cancelled
        If ``stop()`` returns True.
    """
    positions = np.asarray(places_nm, float).reshape(-1, 2)
    frames = np.asarray(frames, int)
    track = np.full(len(frames), NO_TRACK, np.int64)
    if not len(frames):
        return track, []
    order = np.lexsort((positions[:, 1], positions[:, 0], frames))
    linked, used_nm = _link_adaptively(
        positions[order], frames[order], search_range_nm, memory, progress, stop
    )
    notices: list[str] = []
    if used_nm < search_range_nm:
        notices.append(
            f"Clusters are too close together for a search range of {search_range_nm:g} nm: "
            f"{used_nm:.2g} nm was used."
        )
    track[order] = _renumber(linked, min_frames)
    return track, notices


def _link_adaptively(
    positions: np.ndarray,
    frames: np.ndarray,
    search_range_nm: float,
    memory: int,
    progress: Progress | None,
    stop: Stop | None,
) -> tuple[np.ndarray, float]:
    """Link clusters, with a smaller search range if the assignment is too large."""
    with require_extra("movies", "linking clusters between frames"):
        from trackpy.linking import SubnetOversizeException  # the import takes seconds

    range_nm, smallest = search_range_nm, MIN_SHARE * search_range_nm
    while True:
        try:
            return _link(positions, frames, range_nm, memory, progress, stop), range_nm
        except SubnetOversizeException:
            if range_nm <= smallest:
                break
            range_nm = max(_STEP * range_nm, smallest)
    # trackpy reduces the range locally in crowded regions
    linked = _link(positions, frames, range_nm, memory, progress, stop, crowded=True)
    return linked, range_nm


def _link(
    positions: np.ndarray,
    frames: np.ndarray,
    search_range_nm: float,
    memory: int,
    progress: Progress | None,
    stop: Stop | None,
    crowded: bool = False,
) -> np.ndarray:
    """Return (N,) track numbers of trackpy, for clusters sorted by frame."""
    from trackpy.linking import link_iter

    n_frames = int(frames[-1]) + 1
    cuts = np.searchsorted(frames, np.arange(1, n_frames))

    def coordinates() -> Iterator[tuple[int, np.ndarray]]:
        for t, points in enumerate(np.split(positions, cuts)):
            check(stop)
            report(progress, t, n_frames, "Linking clusters over the frames")
            yield t, points

    options = {"adaptive_stop": 1e-3 * search_range_nm, "adaptive_step": _STEP} if crowded else {}
    with _TrackpyLogSilencer():
        found: Iterable[tuple[int, list[int]]] = link_iter(
            coordinates(), search_range_nm, memory=memory, **options
        )
        return np.array([number for _, numbers in found for number in numbers], np.int64)


class _TrackpyLogSilencer:
    """Suppresses the log of trackpy, which has a line per frame."""

    def __enter__(self) -> None:
        self._logger = logging.getLogger("trackpy")
        self._level = self._logger.level
        self._logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        self._logger.setLevel(self._level)


def _renumber(track: np.ndarray, min_frames: int) -> np.ndarray:
    """Renumber tracks without gaps in the order of the rows; remove short ones."""
    _, first, of_row, count = np.unique(
        track, return_index=True, return_inverse=True, return_counts=True
    )
    long_enough = count >= min_frames
    rank = np.full(len(first), NO_TRACK, np.int64)
    order = np.argsort(first[long_enough], kind="stable")
    rank[np.flatnonzero(long_enough)[order]] = np.arange(long_enough.sum())
    return rank[of_row]


TRACK_COLUMNS = (
    "image", "track_id", "frame", "time_s", "cluster_id", "y_nm", "x_nm", "y_px", "x_px", "label",
    "label_predicted", "label_smoothed", "p_smoothed", "n_atoms", "n_atoms_low", "n_atoms_high",
    "n_smoothed", "n_smoothed_low", "n_smoothed_high",
)  # fmt: skip

BAND = (0.05, 0.95)
"""Quantiles of the posterior at the limits of the smoothed atomicity."""


@dataclass(frozen=True, eq=False, repr=False)
class TrackedMovie:
    """Results of the analysis of a movie.

    Parameters
    ----------
    image : str
        Name of the image.
    settings : MovieSettings
        Settings used.
    frame_time_s : float or None
        Frame time; None: all times are in frames.
    drift : StageDrift
        Drift of the stage.
    tracks : list of Track
        Smoothed tracks, sorted by number.
    table : pandas.DataFrame
        A row per cluster in a track (`TRACK_COLUMNS`): ``y_nm, x_nm`` with drift correction,
        ``y_px, x_px`` without; ``label_smoothed`` of the most probable path, with its probability;
        ``n_smoothed``, the expected atomicity, with the limits of its 90 % interval.
    events, dwells, dwell_rates : pandas.DataFrame
        See `find_events`, `dwell_times` and `dwell_summary`.
    change : RateFit
        Rate of class changes.
    notices : tuple of str, optional
        Notices for the user.
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

    def __repr__(self) -> str:
        tracks, events = pluralise(len(self.tracks), "track"), pluralise(len(self.events), "event")
        return f"<TrackedMovie {self.image}: {self.drift.n_frames} frames, {tracks}, {events}>"

    @property
    def unit(self) -> str:
        """Unit of rates: "1/s" or "1/frame"."""
        return "1/frame" if self.frame_time_s is None else "1/s"

    @property
    def rate(self) -> tuple[float, float, float]:
        """Changes of class per cluster and `unit`, with the limits of the 95 % interval."""
        return self.change.rate(self.n_states, self.frame_time_s or 1.0)

    def summary(self) -> dict[str, Any]:
        """Return the main results as plain values for JSON."""
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
    """Estimate the drift of a stack and link its clusters between frames.

    Parameters
    ----------
    analysis : Analysis
        Analysis of a calibrated stack; labels are not used.
    settings : MovieSettings, optional
        Default settings if None.
    progress, stop : callable, optional
        Called for every frame.

    Returns
    -------
    Analysis
        With ``track_id`` in its table, and drift and settings under `MOVIE` in its parameters.

    Raises
    ------
    UnsuitableImageError
        If it is a single image.
    CalibrationError
        If the pixel size is unknown.
    Cancelled
        If ``stop()`` returns True.
    """
    settings = settings or MovieSettings()
    micrograph, table = analysis.micrograph, analysis.table
    if micrograph.n_frames < 2:
        raise UnsuitableImageError(
            "this is a single image, which cannot be tracked",
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
) -> dict[str, Any]:  # parameters to be kept under `MOVIE`
    """Return drift, settings and notices as plain values for JSON."""
    return {
        "settings": settings.to_dict(),
        "drift_nm": np.round(drift.shift_nm, 5).tolist(),
        "drift_error_nm": [None if e != e else round(e, 5) for e in drift.error_nm.tolist()],
        "drift_source": drift.source.tolist(),
        "notices": list(notices),
    }


def read_drift(analysis: Analysis) -> StageDrift:
    """Return the drift of the tracking of an analysis; zero without any."""
    kept, n = analysis.parameters.get(MOVIE), analysis.micrograph.n_frames
    if kept is None or len(kept["drift_nm"]) != n:
        return no_drift(n)
    error = [np.nan if e is None else e for e in kept["drift_error_nm"]]
    source = np.array(kept["drift_source"], object)
    return StageDrift(np.array(kept["drift_nm"], float), np.array(error, float), source)


def evaluate_tracks(
    analysis: Analysis,
    settings: MovieSettings | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> TrackedMovie:
    """Compute atomicity against time, events and dwell times of a tracked analysis.

    Parameters
    ----------
    analysis : Analysis
        From `track_clusters`, possibly edited.
    settings : MovieSettings, optional
        Frame time, rate and weight of a frame; those of the tracking if None. Settings of the
        linking are always those of the tracking.
    progress, stop : callable, optional
        Called during smoothing.

    Returns
    -------
    TrackedMovie
        Smoothed tracks, tables and rates.

    Raises
    ------
    UnsuitableImageError
        If the clusters are not linked.
    Cancelled
        If ``stop()`` returns True.
    """
    if not is_tracked(analysis):
        raise UnsuitableImageError(
            "the clusters are not linked between frames",
            analysis.micrograph.path or analysis.micrograph.name,
            "Press Track first",
        )
    kept = analysis.parameters[MOVIE]
    linked = MovieSettings.from_dict(kept["settings"])
    settings = linked if settings is None else settings
    table, image = analysis.table, analysis.micrograph.name
    frame_time_s = settings.frame_time_s or frame_time_of(analysis.micrograph)
    classes, drift = classes_of(table), read_drift(analysis)
    positions = drift.subtract(
        table[["y_nm", "x_nm"]].to_numpy(float), table["frame"].to_numpy(int)
    )
    n_states = len(classes) + 1
    tracks, fit = _smooth(table, settings, frame_time_s, n_states, progress, stop)
    check(stop)
    report(progress, 0, 0, "Listing events")
    events = _list_events(analysis, positions, tracks, linked, frame_time_s)
    dwells = dwell_times(tracks, image, frame_time_s)
    return TrackedMovie(
        image, settings, frame_time_s, drift, tracks,
        _make_table(table, positions, tracks, classes, image, frame_time_s),
        events, dwells, dwell_summary(dwells, frame_time_s), fit, n_states,
        (*kept.get("notices", ()), *_notices(table, drift, fit)),
    )  # fmt: skip


def _smooth(
    table: pd.DataFrame,
    settings: MovieSettings,
    frame_time_s: float | None,
    n_states: int,
    progress: Progress | None,
    stop: Stop | None,
) -> tuple[list[Track], RateFit]:
    """Smooth the tracks with the given or the estimated rate."""
    change = None
    if settings.rate is not None:
        change = change_of_rate(settings.rate * (frame_time_s or 1.0), n_states)
    return smooth_tracks(table, change, weight=settings.frame_weight, progress=progress, stop=stop)


def _list_events(
    analysis: Analysis,
    positions: np.ndarray,
    tracks: Sequence[Track],
    linked: MovieSettings,
    frame_time_s: float | None,
) -> pd.DataFrame:
    """List the events with the settings of the linking."""
    micrograph = analysis.micrograph
    pixel = micrograph.calibrated()
    height, width = micrograph.shape_px
    return find_events(
        analysis.table, positions, tracks, micrograph.n_frames, linked.search_range_nm,
        linked.memory_frames, (height * pixel, width * pixel), micrograph.name, frame_time_s,
    )  # fmt: skip


def _notices(table: pd.DataFrame, drift: StageDrift, fit: RateFit) -> list[str]:
    out = []
    assumed = int((drift.source == "assumed").sum())
    if assumed and assumed < drift.n_frames:
        out.append(
            f"{assumed} of {drift.n_frames} frames could not be matched; their drift is "
            "interpolated."
        )
    elif assumed:
        out.append("The drift could not be estimated and is not corrected.")
    if len(table) and not classes_of(table):
        out.append("The clusters are not classified, so that there is no atomicity against time.")
    elif fit.estimated and 0 < fit.steps < PRIOR_STEPS:
        steps = pluralise(fit.steps, "step")
        out.append(
            f"The tracks have only {steps} between frames, so that the prior of the rate of label "
            f"changes ({PRIOR_CHANGES:g} in {PRIOR_STEPS:g} steps) counts more than they do."
        )
    return out


def _make_table(
    table: pd.DataFrame,
    positions: np.ndarray,
    tracks: Sequence[Track],
    classes: list[str],
    image: str,
    frame_time_s: float | None,
) -> pd.DataFrame:
    parts = [(t, t.rows[t.detected]) for t in tracks]
    rows = np.concatenate([r for _, r in parts]) if parts else np.zeros(0, int)
    mine = table.iloc[rows]

    def concatenate(values: Sequence[np.ndarray], width: int | None = None) -> np.ndarray:
        empty = np.zeros((0,) if width is None else (0, width))
        return np.concatenate(values) if values else empty

    atoms = concatenate([smoothed_atoms(t, classes)[t.detected] for t in tracks], 3)
    frame = mine["frame"].to_numpy(int)
    missing = np.full(len(rows), np.nan)
    columns = {
        "image": np.full(len(rows), image, object),
        "track_id": mine["track_id"].to_numpy(np.int64),
        "frame": frame,
        "time_s": frame * (np.nan if frame_time_s is None else frame_time_s),
        "cluster_id": mine["cluster_id"].to_numpy(),
        "y_nm": positions[rows, 0] if len(rows) else missing,
        "x_nm": positions[rows, 1] if len(rows) else missing,
        "y_px": mine["y_px"].to_numpy(float),
        "x_px": mine["x_px"].to_numpy(float),
        "label": mine["label"].to_numpy(object),
        "label_predicted": mine["label_predicted"].to_numpy(object),
        "label_smoothed": concatenate([t.label[t.detected] for t in tracks]).astype(object),
        "p_smoothed": concatenate([t.p[t.detected] for t in tracks]).astype(float),
        **{
            name: mine[name].to_numpy(float) if name in mine.columns else missing
            for name in ("n_atoms", "n_atoms_low", "n_atoms_high")
        },
        "n_smoothed": atoms[:, 0],
        "n_smoothed_low": atoms[:, 1],
        "n_smoothed_high": atoms[:, 2],
    }
    return pd.DataFrame(columns)[list(TRACK_COLUMNS)]


def smoothed_atoms(track: Track, classes: list[str]) -> np.ndarray:
    """Compute the (T, 3) expected number of atoms, and the quantiles `BAND`.

    NaN if the classes have no numbers of atoms, or where no class is more likely.
    """
    out = np.full((len(track.rows), 3), np.nan)
    sizes = class_sizes(classes) if classes else None
    if sizes is None:
        return out
    p = track.posterior[:, :-1]
    total = p.sum(axis=1)
    known = total >= 0.5
    p = p[known] / total[known, None]
    order = np.argsort(sizes)
    cumulative = np.cumsum(p[:, order], axis=1)
    out[known, 0] = p @ sizes
    for column, level in enumerate(BAND, 1):
        at = (cumulative < level - 1e-12).sum(axis=1).clip(max=len(sizes) - 1)
        out[known, column] = sizes[order][at]
    return out
