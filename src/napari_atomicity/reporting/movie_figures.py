"""Tracks of a stack in the report: classes over time, dwell times, events and drift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from ..statistics.track_smoothing import Track
from ..tracking.events import EVENTS
from ..tracking.following import TrackedMovie
from ..tracking.text import DWELL_HEADERS, EVENT_HEADERS, dwell_lines, event_lines, summary
from .charts import as_image
from .figures import glyph
from .plots.base import Look, marker_scale, style_axes
from .plots.registry import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_TRACKS = 60
"""Maximum number of tracks in the chart."""
MAX_EVENTS = 40
"""Maximum number of events in the list; events.csv contains all events."""
_ROW_INCH = 0.12
_PLURALS = {
    "appearance": "appearances",
    "loss": "losses",
    "merge": "merges",
    "split": "splits",
    "jump": "jumps",
}


def movie_context(
    movie: TrackedMovie, classes: Sequence[str], small: bool = False
) -> dict[str, Any]:
    """Return the context of the template for a stack with tracks."""
    counts = movie.events["event"].value_counts()
    events = event_lines(movie.events.iloc[:MAX_EVENTS])
    shown = select_tracks(movie.tracks)
    return {
        "summary": summary(movie),
        "counts": [
            {"n": int(n), "what": name if n == 1 else _PLURALS[name]}
            for name in EVENTS
            if (n := counts.get(name, 0))
        ],
        "dwell_headers": DWELL_HEADERS,
        "dwells": [(glyph(line[0], classes), *line) for line in dwell_lines(movie.dwell_rates)],
        "event_headers": EVENT_HEADERS,
        "events": [] if small else events,
        "n_events": len(movie.events),
        "tracks": Markup("")
        if small
        else as_image(
            tracks_chart(shown, movie, classes), "chart", "Smoothed class of each track over time"
        ),
        "n_shown": len(shown),
        "n_tracks": len(movie.tracks),
        "drift": Markup("")
        if small
        else as_image(drift_chart(movie), "chart", "Drift of the stage over time"),
    }


def select_tracks(tracks: Sequence[Track]) -> list[Track]:
    """Select the tracks of the chart: those with most changes, then the longest.

    They are in the order of their numbers.
    """
    ranked = sorted(tracks, key=lambda t: (-_changes(t), -len(t.rows), t.track_id))
    return sorted(ranked[:MAX_TRACKS], key=lambda t: t.track_id)


def _changes(track: Track) -> int:
    return int((track.label[1:] != track.label[:-1]).sum())


def tracks_chart(
    tracks: Sequence[Track], movie: TrackedMovie, classes: Sequence[str]
) -> Figure | None:
    """Plot a row per track with the smoothed class as colour and a symbol at its start.

    Frames without a detection are pale.
    """
    from matplotlib.colors import to_rgba
    from matplotlib.figure import Figure

    if not tracks:
        return None
    look = Look(classes)
    step = movie.frame_time_s or 1.0
    cells = np.zeros((len(tracks), movie.drift.n_frames, 4))
    for row, track in enumerate(tracks):
        cells[row, track.frames] = [to_rgba(look.colour(str(label))) for label in track.label]
        cells[row, track.frames[~track.detected], 3] = 0.35
    with style():
        height = 0.8 + _ROW_INCH * max(len(tracks), 6)
        figure = Figure(figsize=(6.4, height), layout="constrained")
        axes = figure.subplots()
        width = movie.drift.n_frames * step
        extent = (-step / 2, width - step / 2, len(tracks) - 0.5, -0.5)
        axes.imshow(cells, extent=extent, aspect="auto", interpolation="nearest")
        for row, track in enumerate(tracks):
            _draw_changes(axes, look, track, row, step)
        between = np.arange(1, len(tracks)) - 0.5
        axes.hlines(between, extent[0], extent[1], color=look.paper, linewidth=0.8)
        ticks = range(0, len(tracks), max(1, len(tracks) // 12))
        axes.set_yticks(list(ticks), [str(tracks[i].track_id) for i in ticks])
        axes.set_ylabel("Track")
        _time_axis(axes, movie)
        style_axes(axes, look)
    return figure


def _draw_changes(axes: Axes, look: Look, track: Track, row: int, step: float) -> None:
    """Draw a symbol at the start of each dwell of a track."""
    for i in np.flatnonzero(np.append(True, track.label[1:] != track.label[:-1])):
        label = str(track.label[i])
        axes.scatter(
            track.frames[i] * step,
            row,
            s=14 * marker_scale(look.symbol(label)),
            marker=look.marker(label),
            color=look.colour(label),
            edgecolor=look.ink,
            linewidth=0.6,
            clip_on=False,
            zorder=3,
        )


def drift_chart(movie: TrackedMovie) -> Figure | None:
    """Plot the drift of the stage since the first frame; None if it is not known."""
    from matplotlib.figure import Figure

    if (movie.drift.source == "assumed").all():
        return None
    time = np.arange(movie.drift.n_frames) * (movie.frame_time_s or 1.0)
    with style():
        figure = Figure(figsize=(6.4, 2.6), layout="constrained")
        axes = figure.subplots()
        for axis, (name, colour, line) in enumerate(
            (("y, down", "#0072b2", "-"), ("x, to the right", "#d55e00", "--"))
        ):
            axes.plot(time, movie.drift.shift_nm[:, axis], line, color=colour, label=name)
        axes.axhline(0, color="#667085", linewidth=0.6, zorder=0)
        axes.set_ylabel("Drift / nm")
        axes.legend(frameon=False)
        _time_axis(axes, movie)
        style_axes(axes, Look())
    return figure


def _time_axis(axes: Axes, movie: TrackedMovie) -> None:
    axes.set_xlabel("Frame" if movie.frame_time_s is None else "Time / s")
