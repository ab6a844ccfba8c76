"""What the report shows of a stack over time: classes of its tracks, dwell times, events, drift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from ..tracking.events import EVENTS
from ..tracking.following import TrackedMovie
from ..tracking.smoothing import Track
from ..tracking.text import DWELL_HEADERS, EVENT_HEADERS, dwell_lines, event_lines, summary
from .charts import as_image
from .figures import glyph
from .plot_base import Look, dress, weight
from .plots import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_TRACKS = 60
"""So many tracks have a row in the chart: of more they could not be told apart."""
MAX_EVENTS = 40
"""So many events are listed; all of them are in events.csv."""
_ROW_INCH = 0.12
_PLURALS = {
    "appearance": "appearances",
    "loss": "losses",
    "merge": "merges",
    "split": "splits",
    "jump": "jumps",
}


def over_time(movie: TrackedMovie, classes: Sequence[str], small: bool = False) -> dict[str, Any]:
    """What the template shows of a movie.

    Parameters
    ----------
    movie
        From `movies.analyse_movie`.
    classes
        All classes, in order.
    small
        Numbers only.
    """
    counts = movie.events["event"].value_counts()
    events = event_lines(movie.events.iloc[:MAX_EVENTS])
    shown = chosen(movie.tracks)
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


def chosen(tracks: Sequence[Track]) -> list[Track]:
    """The tracks that have a row: those that change most often, then the longest; in the order of
    their numbers."""
    ranked = sorted(tracks, key=lambda t: (-_changes(t), -len(t.rows), t.track_id))
    return sorted(ranked[:MAX_TRACKS], key=lambda t: t.track_id)


def _changes(track: Track) -> int:
    return int((track.label[1:] != track.label[:-1]).sum())


def tracks_chart(
    tracks: Sequence[Track], movie: TrackedMovie, classes: Sequence[str]
) -> Figure | None:
    """A row per track: the smoothed class as colour, its symbol where a stretch begins.

    Frames in which a cluster was missed are pale. None without any track.
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
            begins = np.flatnonzero(np.append(True, track.label[1:] != track.label[:-1]))
            for i in begins:
                label = str(track.label[i])
                axes.scatter(
                    track.frames[i] * step,
                    row,
                    s=14 * weight(look.symbol(label)),
                    marker=look.marker(label),
                    color=look.colour(label),
                    edgecolor=look.ink,
                    linewidth=0.6,
                    clip_on=False,
                    zorder=3,
                )
        between = np.arange(1, len(tracks)) - 0.5
        axes.hlines(between, extent[0], extent[1], color=look.paper, linewidth=0.8)
        ticks = range(0, len(tracks), max(1, len(tracks) // 12))
        axes.set_yticks(list(ticks), [str(tracks[i].track_id) for i in ticks])
        axes.set_ylabel("Track")
        _time_axis(axes, movie)
        dress(axes, look)
    return figure


def drift_chart(movie: TrackedMovie) -> Figure | None:
    """How far the stage has gone since the first frame, down and to the right; None if nothing was
    found."""
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
        dress(axes, Look())
    return figure


def _time_axis(axes: Axes, movie: TrackedMovie) -> None:
    axes.set_xlabel("Frame" if movie.frame_time_s is None else "Time / s")
