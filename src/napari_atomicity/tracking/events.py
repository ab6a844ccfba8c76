"""Events of tracks: appearance, loss, merge, split, and jumps of the atomicity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from ..statistics.track_smoothing import Track, find_dwells

# ---- dwell times of clusters in their labels

DWELL_COLUMNS = (
    "image", "track_id", "label", "first_frame", "last_frame", "frames", "duration_s",
    "beginning_seen", "end_seen",
)  # fmt: skip


def dwell_times(
    tracks: Sequence[Track], image: str = "", frame_time_s: float | None = None
) -> pd.DataFrame:
    """List the dwells of tracks: intervals of constant label.

    ``beginning_seen`` and ``end_seen`` state whether a dwell begins and ends with a change of the
    label. Otherwise it is censored: on the left if the track begins with it, on the right if the
    track ends with it. Tracks without a label have none.

    Parameters
    ----------
    tracks : sequence of Track
        Smoothed tracks of an image.
    image : str, optional
        Name of the image.
    frame_time_s : float, optional
        Frame time.

    Returns
    -------
    pandas.DataFrame
        `DWELL_COLUMNS`; ``frames`` includes the first and the last, ``duration_s`` is their number
        times the frame time.
    """
    rows = []
    for track in tracks:
        for part in find_dwells(track.label) if track.label[0] else ():
            frames = part.stop - part.start
            rows.append(
                (
                    image, track.track_id, track.label[part.start],
                    track.first_frame + part.start, track.first_frame + part.stop - 1, frames,
                    np.nan if frame_time_s is None else frames * frame_time_s,
                    part.start > 0, part.stop < len(track.rows),
                )
            )  # fmt: skip
    return pd.DataFrame(rows, columns=list(DWELL_COLUMNS))


def dwell_summary(dwells: pd.DataFrame, frame_time_s: float | None = None) -> pd.DataFrame:
    """Estimate the rate at which each label ends, and its median duration.

    The rate is that of an exponential distribution: observed ends over time at risk, with the exact
    interval of a Poisson count [1]_. Dwells without an observed beginning are included, since the
    exponential distribution has no memory. The median is the Kaplan–Meier estimate over dwells with
    an observed beginning, which assumes no distribution.

    Parameters
    ----------
    dwells : pandas.DataFrame
        From `dwell_times`.
    frame_time_s : float, optional
        Frame time.

    Returns
    -------
    pandas.DataFrame
        ``label, n, ends_seen, at_risk, rate, rate_low, rate_high, median, median_of, unit``:
        ``unit`` is "s" if the frame time is known, else "frames"; ``median_of`` is the number of
        dwells of the median, which is NaN if fewer than half have ended.

    References
    ----------
    .. [1] F. Garwood, Biometrika 28, 437 (1936).
    """
    from scipy.stats import chi2  # takes long to import, and only movies need it

    unit = 1.0 if frame_time_s is None else frame_time_s
    rows = []
    for label, mine in dwells.groupby("label", sort=True):
        ended = mine["end_seen"].to_numpy(bool)
        # a dwell with an observed end has been at risk in one more step
        steps = float((mine["frames"].to_numpy(int) - 1 + ended).sum()) * unit
        n = int(ended.sum())
        low = chi2.ppf(0.025, 2 * n) / 2 if n else 0.0
        high = chi2.ppf(0.975, 2 * n + 2) / 2
        rate = [x / steps if steps > 0 else np.nan for x in (n, low, high)]
        whole = mine["beginning_seen"].to_numpy(bool)
        lasted = mine["frames"].to_numpy(float)[whole] * unit
        rows.append(
            (
                label, len(mine), n, steps, *rate, _median(lasted, ended[whole]),
                int(whole.sum()), "frames" if frame_time_s is None else "s",
            )
        )  # fmt: skip
    return pd.DataFrame(
        rows,
        columns=[
            "label", "n", "ends_seen", "at_risk", "rate", "rate_low", "rate_high", "median",
            "median_of", "unit",
        ],
    )  # fmt: skip


def survival(lasted: np.ndarray, ended: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the Kaplan–Meier survival function at the durations of observed ends.

    Parameters
    ----------
    lasted : ndarray of shape (N,)
        Durations.
    ended : ndarray of bool, shape (N,)
        Whether the end was observed; False: censored.

    Returns
    -------
    times : ndarray
        Durations of observed ends.
    survival : ndarray
        Probability of a longer duration.
    """
    from scipy.stats import CensoredData, ecdf

    if not ended.any():
        return np.empty(0), np.empty(0)
    found = ecdf(CensoredData(uncensored=lasted[ended], right=lasted[~ended])).sf
    return np.asarray(found.quantiles), np.asarray(found.probabilities)


def _median(lasted: np.ndarray, ended: np.ndarray) -> float:
    times, share = survival(lasted, ended)
    below = np.flatnonzero(share <= 0.5)
    return float(times[below[0]]) if len(below) else float("nan")


APPEARANCE, LOSS, MERGE, SPLIT, JUMP = "appearance", "loss", "merge", "split", "jump"
EVENTS = (APPEARANCE, LOSS, MERGE, SPLIT, JUMP)
EVENT_COLUMNS = (
    "image", "event", "frame", "time_s", "y_nm", "x_nm", "y_px", "x_px", "tracks", "cluster_id",
    "label_before", "label_after", "p", "at_border",
)  # fmt: skip
_AVERAGED = 5
"""Number of frames before and after an event over which intensities are compared."""
_TAKEN_OVER = (0.4, 1.8)
"""Limits of the gain of the other cluster, relative to the intensity of the ended one."""
_SUM_WITHIN = 0.35
"""Maximum relative deviation of the intensity of a merged cluster from the sum."""


@dataclass(frozen=True, eq=False)
class _Course:
    """Detections of a track, forward or backward in time."""

    index: int
    frames: np.ndarray
    places: np.ndarray
    intensity: np.ndarray
    radius: np.ndarray
    rows: np.ndarray

    def reversed(self) -> _Course:
        """Return the course backward in time."""
        arrays = (a[::-1] for a in (self.places, self.intensity, self.radius, self.rows))
        return _Course(self.index, -self.frames[::-1], *arrays)

    def level(self, rows: np.ndarray) -> float:
        """Return the median intensity of some detections; NaN without any."""
        return float(np.median(self.intensity[rows])) if len(rows) else float("nan")


@dataclass(frozen=True)
class _Meeting:
    """Tracks that merge (or, backward in time, split) at a row of the table."""

    ended: tuple[int, ...]
    continues: int
    row: int


def find_events(
    table: pd.DataFrame,
    places_nm: np.ndarray,
    tracks: Sequence[Track],
    n_frames: int,
    search_range_nm: float,
    memory: int = 0,
    extent_nm: tuple[float, float] | None = None,
    image: str = "",
    frame_time_s: float | None = None,
) -> pd.DataFrame:
    """List the events of the tracks of an image.

    Two clusters merge where a track ends next to another one that gains about its intensity, or
    where two tracks end next to one that begins with about the sum; a split is the same backward in
    time. Other beginnings and ends are appearances and losses, except in the first and last frame.
    A jump is a change of the smoothed label without merge or split.

    Parameters
    ----------
    table : pandas.DataFrame
        Table of N clusters of one image.
    places_nm : ndarray of shape (N, 2)
        Positions (y, x), drift corrected.
    tracks : sequence of Track
        Smoothed tracks.
    n_frames : int
        Number of frames of the stack.
    search_range_nm : float
        Search range of the linking.
    memory : int, default 0
        Memory of the linking.
    extent_nm : tuple of float, optional
        Height and width of a frame, for ``at_border``.
    image : str, optional
        Name of the image.
    frame_time_s : float, optional
        Frame time.

    Returns
    -------
    pandas.DataFrame
        `EVENT_COLUMNS`, by frame. ``frame`` and ``cluster_id`` belong to the first frame after the
        event, or the last one before a loss; ``tracks`` are joined by "|", first those before;
        ``p`` of a jump is the smaller of the maximum probabilities of the two labels.
    """
    positions = np.asarray(places_nm, float)
    courses = [_make_course(i, t, table, positions) for i, t in enumerate(tracks)]
    finder = _MeetingFinder(courses, table, positions, search_range_nm, memory)
    merges, splits = finder.find(forward=True), finder.find(forward=False)
    rows = _EventRows(table, positions, tracks, image, frame_time_s)
    found = [rows.meeting(MERGE, m, courses) for m in merges]
    found += [rows.meeting(SPLIT, m, courses) for m in splits]
    found += _track_ends(rows, courses, merges, splits, n_frames, (extent_nm, search_range_nm))
    explained = _explained_changes(merges, splits, table)
    for index, track in enumerate(tracks):
        found += _jumps(rows, track, explained.get(index, ()), memory)
    return _sort_events(pd.DataFrame(found, columns=list(EVENT_COLUMNS)))


def _track_ends(
    rows: _EventRows,
    courses: Sequence[_Course],
    merges: Sequence[_Meeting],
    splits: Sequence[_Meeting],
    n_frames: int,
    border: tuple[tuple[float, float] | None, float],
) -> list[tuple[object, ...]]:
    """Return appearances and losses: beginnings and ends without a merge or split."""
    ended = {i for m in merges for i in m.ended}
    begun = {i for m in splits for i in m.ended}
    # a track that begins by a merge has not appeared; one that ends by a split is not lost
    begun |= {m.continues for m in merges if len(m.ended) > 1}
    ended |= {m.continues for m in splits if len(m.ended) > 1}
    found = []
    for course, track in zip(courses, rows.tracks, strict=True):
        first, last = course.rows[0], course.rows[-1]
        if track.first_frame > 0 and course.index not in begun:
            edge = _at_border(first, rows.table, *border)
            found.append(rows.row(APPEARANCE, first, [track], "", track.label[0], edge=edge))
        if track.last_frame < n_frames - 1 and course.index not in ended:
            edge = _at_border(last, rows.table, *border)
            found.append(rows.row(LOSS, last, [track], track.label[-1], "", edge=edge))
    return found


def _jumps(
    rows: _EventRows, track: Track, explained: Sequence[int], memory: int
) -> list[tuple[object, ...]]:
    """Return the label changes of a track that are not close to a merge or split."""
    found = []
    for at in np.flatnonzero(track.label[1:] != track.label[:-1]) + 1:
        frame = track.first_frame + int(at)
        if not any(abs(frame - f) <= memory + 1 for f in explained):
            found.append(rows.jump(track, int(at)))
    return found


def _sort_events(events: pd.DataFrame) -> pd.DataFrame:
    """Sort events by frame, kind and tracks."""
    order = events["event"].map({name: i for i, name in enumerate(EVENTS)})
    return (
        events.assign(_order=order)
        .sort_values(["frame", "_order", "tracks"], kind="stable")
        .drop(columns="_order")
        .reset_index(drop=True)
    )


def _make_course(index: int, track: Track, table: pd.DataFrame, positions: np.ndarray) -> _Course:
    rows = track.rows[track.detected]
    return _Course(
        index,
        track.frames[track.detected],
        positions[rows],
        table["integrated_intensity"].to_numpy(float)[rows],
        np.nan_to_num(table["diameter_nm"].to_numpy(float)[rows], nan=0.0) / 2,
        rows,
    )


class _MeetingFinder:
    """Finds merges forward in time, and splits backward in time."""

    def __init__(
        self,
        courses: Sequence[_Course],
        table: pd.DataFrame,
        positions: np.ndarray,
        search_range_nm: float,
        memory: int,
    ) -> None:
        self.courses, self.search_range_nm, self.memory = courses, search_range_nm, memory
        self.of_row = np.full(len(table), -1)
        for course in courses:
            self.of_row[course.rows] = course.index
        frames = table["frame"].to_numpy(int)
        tracked = self.of_row >= 0
        self.rows_at = {t: np.flatnonzero((frames == t) & tracked) for t in np.unique(frames)}
        self.trees = {t: cKDTree(positions[r]) for t, r in self.rows_at.items() if len(r)}
        self.max_radius = max((float(c.radius.max()) for c in courses), default=0.0)

    def find(self, forward: bool) -> list[_Meeting]:
        """Return the merges (forward) or the splits (backward)."""
        courses = self.courses if forward else [c.reversed() for c in self.courses]
        found: list[_Meeting] = []
        taken: set[int] = set()
        ending: dict[int, list[_Course]] = {}
        for course in courses:
            ending.setdefault(int(course.frames[-1]), []).append(course)
        for course in courses:
            if course.index in taken:
                continue
            level = course.level(np.arange(len(course.frames))[-_AVERAGED:])
            candidates = self._neighbours(course, courses, 1 if forward else -1)
            for _, index, row in sorted((d, i, r) for i, (d, r) in candidates.items()):
                other = courses[index]
                meeting = _merge_into(course, other, int(course.frames[-1]), level, row)
                if meeting is None:
                    meeting = self._merge_two(course, other, ending, taken, level, row)
                if meeting is not None:
                    found.append(meeting)
                    taken |= set(meeting.ended)
                    break
        return found

    def _neighbours(
        self, course: _Course, courses: Sequence[_Course], sign: int
    ) -> dict[int, tuple[float, int]]:
        """Return distance and row of the other tracks next to the end of one, by index."""
        end, at, radius = int(course.frames[-1]), course.places[-1], float(course.radius[-1])
        reach = radius + self.max_radius + self.search_range_nm
        candidates: dict[int, tuple[float, int]] = {}
        for later in range(end + 1, end + self.memory + 2):
            tree = self.trees.get(sign * later)
            if tree is None:
                continue
            for k in tree.query_ball_point(at, reach):
                row = int(self.rows_at[sign * later][k])
                other = courses[self.of_row[row]]
                here = int(np.searchsorted(other.frames, later))
                distance = float(np.linalg.norm(other.places[here] - at))
                near = distance <= radius + float(other.radius[here]) + self.search_range_nm
                if near and other.index != course.index and other.index not in candidates:
                    candidates[other.index] = (distance, row)
        return candidates

    def _merge_two(
        self,
        ended: _Course,
        begun: _Course,
        ending: Mapping[int, Sequence[_Course]],
        taken: set[int],
        level: float,
        row: int,
    ) -> _Meeting | None:
        """Return a merge if the other track begins here, and a second one ends next to it."""
        begin = int(begun.frames[0])
        if begin <= int(ended.frames[-1]):
            return None
        whole = begun.level(np.arange(len(begun.frames))[:_AVERAGED])
        before = range(begin - self.memory - 1, begin)
        for second in [c for t in before for c in ending.get(t, ())]:
            if second.index in (ended.index, begun.index) or second.index in taken:
                continue
            distance = float(np.linalg.norm(second.places[-1] - begun.places[0]))
            if distance > second.radius[-1] + begun.radius[0] + self.search_range_nm:
                continue
            both = level + second.level(np.arange(len(second.frames))[-_AVERAGED:])
            if both > 0 and abs(whole / both - 1) <= _SUM_WITHIN:
                return _Meeting((ended.index, second.index), begun.index, row)
        return None


def _merge_into(
    ended: _Course, other: _Course, end: int, level: float, row: int
) -> _Meeting | None:
    """Return a merge if the other track exists before, and gains the intensity of the first."""
    before = np.flatnonzero(other.frames <= end)[-_AVERAGED:]
    after = np.flatnonzero(other.frames > end)[:_AVERAGED]
    if not len(before):
        return None
    gained = (other.level(after) - other.level(before)) / level if level > 0 else np.nan
    low, high = _TAKEN_OVER
    return _Meeting((ended.index,), other.index, row) if low <= gained <= high else None


def _explained_changes(
    merges: Sequence[_Meeting], splits: Sequence[_Meeting], table: pd.DataFrame
) -> dict[int, list[int]]:
    """Return the frames of merges and splits by the index of the continuing track."""
    out: dict[int, list[int]] = {}
    frames = table["frame"].to_numpy(int)
    for meetings, later in ((merges, 0), (splits, 1)):
        for m in meetings:
            out.setdefault(m.continues, []).append(int(frames[m.row]) + later)
    return out


def _at_border(
    row: int, table: pd.DataFrame, extent_nm: tuple[float, float] | None, reach_nm: float
) -> bool:
    """Return whether a cluster is cut by the border, or may have crossed it."""
    if bool(table["touches_border"].to_numpy()[row]):
        return True
    if extent_nm is None:
        return False
    radius = float(np.nan_to_num(table["diameter_nm"].to_numpy()[row])) / 2
    for name, size in zip(("y_nm", "x_nm"), extent_nm, strict=True):
        place = float(table[name].to_numpy()[row])
        if min(place, size - place) < radius + reach_nm / 2:
            return True
    return False


@dataclass(frozen=True, eq=False)
class _EventRows:
    """Makes the rows of the table of events."""

    table: pd.DataFrame
    places: np.ndarray
    tracks: Sequence[Track]
    image: str
    frame_time_s: float | None

    def row(
        self,
        event: str,
        row: int,
        tracks: Sequence[Track],
        before: str,
        after: str,
        p: float = np.nan,
        edge: bool = False,
        frame: int | None = None,
    ) -> tuple[object, ...]:
        """Make the row of an event."""
        table = self.table
        frame = int(table["frame"].to_numpy()[row]) if frame is None else frame
        time = np.nan if self.frame_time_s is None else frame * self.frame_time_s
        return (
            self.image, event, frame, time, *self.places[row].tolist(),
            float(table["y_px"].to_numpy()[row]), float(table["x_px"].to_numpy()[row]),
            "|".join(str(t.track_id) for t in tracks), int(table["cluster_id"].to_numpy()[row]),
            before, after, p, edge,
        )  # fmt: skip

    def jump(self, track: Track, at: int) -> tuple[object, ...]:
        """Make the row of a jump."""
        before, after = track.label[at - 1], track.label[at]
        start = at
        while start > 0 and track.label[start - 1] == before:
            start -= 1
        end = at
        while end < len(track.label) and track.label[end] == after:
            end += 1
        p = min(float(track.p[start:at].max()), float(track.p[at:end].max()))
        # for a change in a gap, the next detection
        later = np.flatnonzero(track.detected[at:])
        row = int(track.rows[at + later[0]]) if len(later) else int(track.rows[track.detected][-1])
        return self.row(JUMP, row, [track], before, after, p, frame=track.first_frame + at)

    def meeting(
        self, kind: str, meeting: _Meeting, courses: Sequence[_Course]
    ) -> tuple[object, ...]:
        """Make the row of a merge, or of a split."""
        several, one = [self.tracks[i] for i in meeting.ended], self.tracks[meeting.continues]
        if kind == MERGE:
            if len(several) == 1:  # the continuing track exists before, too
                several = [*several, one]
            frame = int(self.table["frame"].to_numpy()[meeting.row])
            before = "+".join(_label_before(t, frame) for t in several)
            after = one.label[frame - one.first_frame]
            ids = [*several, one] if one not in several else several
            return self.row(kind, meeting.row, ids, before, after)
        if len(several) == 1:
            several = [one, *several]
        row = int(courses[meeting.ended[0]].rows[0])
        frame = int(self.table["frame"].to_numpy()[meeting.row])
        before = one.label[frame - one.first_frame]
        after = "+".join(_label_from(t, frame + 1) for t in several)
        ids = [one, *several] if one not in several else several
        return self.row(kind, row, ids, before, after)


def _label_before(track: Track, frame: int) -> str:
    return str(track.label[min(max(frame - 1 - track.first_frame, 0), len(track.label) - 1)])


def _label_from(track: Track, frame: int) -> str:
    return str(track.label[min(max(frame - track.first_frame, 0), len(track.label) - 1)])
