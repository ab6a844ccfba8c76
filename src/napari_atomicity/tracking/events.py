"""What happens to clusters over time: they come, go, join, part, and change their atomicity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from .smoothing import Track

APPEARANCE, LOSS, MERGE, SPLIT, JUMP = "appearance", "loss", "merge", "split", "jump"
EVENTS = (APPEARANCE, LOSS, MERGE, SPLIT, JUMP)
EVENT_COLUMNS = (
    "image", "event", "frame", "time_s", "y_nm", "x_nm", "y_px", "x_px", "tracks", "cluster_id",
    "label_before", "label_after", "p", "at_border",
)  # fmt: skip
_AVERAGED = 5
"""Frames before and after, over which intensities are compared."""
_TAKEN_OVER = (0.4, 1.8)
"""Of the intensity of the cluster that is gone: what the other one must have gained."""
_SUM_WITHIN = 0.35
"""How far the intensity of what two have become may be from their sum."""


@dataclass(frozen=True, eq=False)
class _Course:
    """Where a track was seen, in the direction in which time is gone through."""

    index: int
    frames: np.ndarray
    places: np.ndarray
    intensity: np.ndarray
    radius: np.ndarray
    rows: np.ndarray

    def reversed(self) -> _Course:
        arrays = (a[::-1] for a in (self.places, self.intensity, self.radius, self.rows))
        return _Course(self.index, -self.frames[::-1], *arrays)

    def level(self, seen: np.ndarray) -> float:
        return float(np.median(self.intensity[seen])) if len(seen) else float("nan")


@dataclass(frozen=True)
class _Meeting:
    """Tracks that were two and are one from a row of the table on."""

    gone: tuple[int, ...]
    stays: int
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

    Two clusters have merged where a track ends beside another one that gains about its intensity,
    or where two end beside one that begins with about their sum; a split is the same backwards in
    time. What begins or ends without is an appearance or a loss, not counting the first and last
    frame. A jump is a change of the smoothed label that no merge or split explains.

    Parameters
    ----------
    table : pandas.DataFrame
        N clusters of one image.
    places_nm : ndarray of shape (N, 2)
        Places, drift removed.
    tracks : sequence of Track
        Smoothed.
    n_frames : int
        Of the stack.
    search_range_nm, memory : float
        Of the linking.
    extent_nm : tuple of float, optional
        Height and width of a frame: to tell what may just have left the field.
    image, frame_time_s : str, optional
        For the table.

    Returns
    -------
    pandas.DataFrame
        `EVENT_COLUMNS`, by frame. ``frame`` and ``cluster_id`` are those of the first frame after
        the event, but of a loss the last frame in which the cluster was seen; ``tracks`` are the
        numbers of the tracks concerned, joined by "|", first those before. ``p`` is, for a jump,
        the smaller of the probabilities of the two labels, each where it is surest.
    """
    courses = [_course(i, t, table, places_nm) for i, t in enumerate(tracks)]
    of_row = np.full(len(table), -1)
    for course in courses:
        of_row[course.rows] = course.index
    merges = _meetings(courses, table, places_nm, of_row, search_range_nm, memory, True)
    splits = _meetings(courses, table, places_nm, of_row, search_range_nm, memory, False)
    ended = {i for m in merges for i in m.gone}
    begun = {i for m in splits for i in m.gone}
    # one that two have become has not appeared, nor is one lost that has become two
    begun |= {m.stays for m in merges if len(m.gone) > 1}
    ended |= {m.stays for m in splits if len(m.gone) > 1}

    known = _Known(table, np.asarray(places_nm, float), tracks, image, frame_time_s)
    found: list[tuple[object, ...]] = []
    for kind, meetings in ((MERGE, merges), (SPLIT, splits)):
        for m in meetings:
            found.append(known.meeting(kind, m, courses))
    explained = _explained(merges, splits, table, memory)
    for course, track in zip(courses, tracks, strict=True):
        first, last = course.rows[0], course.rows[-1]
        if track.first_frame > 0 and course.index not in begun:
            edge = _at_border(first, table, extent_nm, search_range_nm)
            found.append(known.row(APPEARANCE, first, [track], "", track.label[0], edge=edge))
        if track.last_frame < n_frames - 1 and course.index not in ended:
            edge = _at_border(last, table, extent_nm, search_range_nm)
            found.append(known.row(LOSS, last, [track], track.label[-1], "", edge=edge))
        for at in np.flatnonzero(track.label[1:] != track.label[:-1]) + 1:
            frame = track.first_frame + int(at)
            if any(abs(frame - f) <= memory + 1 for f in explained.get(course.index, ())):
                continue
            found.append(known.jump(track, int(at)))
    events = pd.DataFrame(found, columns=list(EVENT_COLUMNS))
    order = events["event"].map({name: i for i, name in enumerate(EVENTS)})
    return (
        events.assign(_order=order)
        .sort_values(["frame", "_order", "tracks"], kind="stable")
        .drop(columns="_order")
        .reset_index(drop=True)
    )


def _course(index: int, track: Track, table: pd.DataFrame, places_nm: np.ndarray) -> _Course:
    rows = track.rows[track.detected]
    return _Course(
        index,
        track.frames[track.detected],
        np.asarray(places_nm, float)[rows],
        table["integrated_intensity"].to_numpy(float)[rows],
        np.nan_to_num(table["diameter_nm"].to_numpy(float)[rows], nan=0.0) / 2,
        rows,
    )


def _meetings(
    courses: Sequence[_Course],
    table: pd.DataFrame,
    places_nm: np.ndarray,
    of_row: np.ndarray,
    search_range_nm: float,
    memory: int,
    forward: bool,
) -> list[_Meeting]:
    """Merges in the direction of time, splits against it."""
    frames = table["frame"].to_numpy(int)
    rows_at = {t: np.flatnonzero((frames == t) & (of_row >= 0)) for t in np.unique(frames)}
    trees = {t: cKDTree(np.asarray(places_nm, float)[r]) for t, r in rows_at.items() if len(r)}
    now = courses if forward else [c.reversed() for c in courses]
    sign = 1 if forward else -1
    largest = max((float(c.radius.max()) for c in courses), default=0.0)
    found: list[_Meeting] = []
    taken: set[int] = set()
    ending: dict[int, list[_Course]] = {}
    for course in now:
        ending.setdefault(int(course.frames[-1]), []).append(course)
    for course in now:
        if course.index in taken:
            continue
        end, at, radius = int(course.frames[-1]), course.places[-1], float(course.radius[-1])
        level = course.level(np.arange(len(course.frames))[-_AVERAGED:])
        candidates: dict[int, tuple[float, int]] = {}
        for later in range(end + 1, end + memory + 2):
            tree = trees.get(sign * later)
            if tree is None:
                continue
            reach = radius + largest + search_range_nm
            for k in tree.query_ball_point(at, reach):
                row = int(rows_at[sign * later][k])
                other = now[of_row[row]]
                here = int(np.searchsorted(other.frames, later))
                distance = float(np.linalg.norm(other.places[here] - at))
                near = distance <= radius + float(other.radius[here]) + search_range_nm
                if near and other.index != course.index and other.index not in candidates:
                    candidates[other.index] = (distance, row)
        for _, index, row in sorted((d, i, r) for i, (d, r) in candidates.items()):
            meeting = _joined(course, now[index], end, level, row)
            if meeting is None:
                meeting = _born_of_two(
                    course, now[index], ending, taken, level, row, memory, search_range_nm
                )
            if meeting is not None:
                found.append(meeting)
                taken |= set(meeting.gone)
                break
    return found


def _joined(gone: _Course, other: _Course, end: int, level: float, row: int) -> _Meeting | None:
    """The other one was there already, and gains what the first one had."""
    before = np.flatnonzero(other.frames <= end)[-_AVERAGED:]
    after = np.flatnonzero(other.frames > end)[:_AVERAGED]
    if not len(before):
        return None
    gained = (other.level(after) - other.level(before)) / level if level > 0 else np.nan
    low, high = _TAKEN_OVER
    return _Meeting((gone.index,), other.index, row) if low <= gained <= high else None


def _born_of_two(
    gone: _Course,
    born: _Course,
    ending: Mapping[int, Sequence[_Course]],
    taken: set[int],
    level: float,
    row: int,
    memory: int,
    search_range_nm: float,
) -> _Meeting | None:
    """The other one begins here, and a second one has ended beside it."""
    begin = int(born.frames[0])
    if begin <= int(gone.frames[-1]):
        return None
    whole = born.level(np.arange(len(born.frames))[:_AVERAGED])
    for second in [c for t in range(begin - memory - 1, begin) for c in ending.get(t, ())]:
        if second.index in (gone.index, born.index) or second.index in taken:
            continue
        distance = float(np.linalg.norm(second.places[-1] - born.places[0]))
        if distance > second.radius[-1] + born.radius[0] + search_range_nm:
            continue
        both = level + second.level(np.arange(len(second.frames))[-_AVERAGED:])
        if both > 0 and abs(whole / both - 1) <= _SUM_WITHIN:
            return _Meeting((gone.index, second.index), born.index, row)
    return None


def _explained(
    merges: Sequence[_Meeting], splits: Sequence[_Meeting], table: pd.DataFrame, memory: int
) -> dict[int, list[int]]:
    """Frames of merges and splits, by the track that goes on."""
    out: dict[int, list[int]] = {}
    frames = table["frame"].to_numpy(int)
    for meetings, later in ((merges, 0), (splits, 1)):
        for m in meetings:
            out.setdefault(m.stays, []).append(int(frames[m.row]) + later)
    return out


def _at_border(
    row: int, table: pd.DataFrame, extent_nm: tuple[float, float] | None, reach_nm: float
) -> bool:
    """Whether a cluster is cut by the border, or might have crossed it since."""
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
class _Known:
    """What a line of the list is made of."""

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
        before, after = track.label[at - 1], track.label[at]
        start = at
        while start > 0 and track.label[start - 1] == before:
            start -= 1
        end = at
        while end < len(track.label) and track.label[end] == after:
            end += 1
        p = min(float(track.p[start:at].max()), float(track.p[at:end].max()))
        # the change may fall into a gap: then the first frame in which it is seen again
        seen = np.flatnonzero(track.detected[at:])
        row = int(track.rows[at + seen[0]]) if len(seen) else int(track.rows[track.detected][-1])
        return self.row(JUMP, row, [track], before, after, p, frame=track.first_frame + at)

    def meeting(
        self, kind: str, meeting: _Meeting, courses: Sequence[_Course]
    ) -> tuple[object, ...]:
        """Of a merge the row after it, of a split the first one of the part that is new."""
        several, one = [self.tracks[i] for i in meeting.gone], self.tracks[meeting.stays]
        if kind == MERGE:
            if len(several) == 1:  # the one that goes on was there before, too
                several = [*several, one]
            frame = int(self.table["frame"].to_numpy()[meeting.row])
            before = "+".join(_label_before(t, frame) for t in several)
            after = one.label[frame - one.first_frame]
            ids = [*several, one] if one not in several else several
            return self.row(kind, meeting.row, ids, before, after)
        if len(several) == 1:
            several = [one, *several]
        row = int(courses[meeting.gone[0]].rows[0])
        frame = int(self.table["frame"].to_numpy()[meeting.row])
        before = one.label[frame - one.first_frame]
        after = "+".join(_label_from(t, frame + 1) for t in several)
        ids = [one, *several] if one not in several else several
        return self.row(kind, row, ids, before, after)


def _label_before(track: Track, frame: int) -> str:
    return str(track.label[min(max(frame - 1 - track.first_frame, 0), len(track.label) - 1)])


def _label_from(track: Track, frame: int) -> str:
    return str(track.label[min(max(frame - track.first_frame, 0), len(track.label) - 1)])
