"""Which clusters of different frames are one: linking by trackpy, drift removed first.

trackpy (Crocker and Grier, J. Colloid Interface Sci. 179, 298 (1996)) finds the assignment between
frames with the least sum of squared displacements.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

import numpy as np

from ..core.cluster_table import NO_TRACK
from ..core.progress import Progress, Stop, check, report

MIN_SHARE = 0.25
"""Where clusters lie so close that the assignment takes too long, the range falls to this share."""
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
    """Number the tracks that clusters belong to; the same input gives the same numbers.

    Parameters
    ----------
    places_nm : ndarray of shape (N, 2)
        Places (y, x), drift removed.
    frames : ndarray of shape (N,)
        Frame of each cluster.
    search_range_nm : float
        How far a cluster may go from one frame in which it is seen to the next.
    memory : int, default 0
        For how many frames it may be missed in between.
    min_frames : int, default 1
        In fewer frames seen, a cluster is in no track.
    progress, stop : callable, optional
        Called from frame to frame.

    Returns
    -------
    ndarray
        (N,) int64: numbers from 0 on, by first frame and then from top to bottom; -1 for none.
    list of str
        What had to be done otherwise than asked for.

    Raises
    ------
    Cancelled
        If ``stop()`` says so.
    """
    places = np.asarray(places_nm, float).reshape(-1, 2)
    frames = np.asarray(frames, int)
    track = np.full(len(frames), NO_TRACK, np.int64)
    if not len(frames):
        return track, []
    from trackpy.linking import SubnetOversizeException  # takes seconds to load

    order = np.lexsort((places[:, 1], places[:, 0], frames))
    notices: list[str] = []
    linked: np.ndarray | None = None
    wanted = search_range_nm
    while linked is None:
        try:
            linked = _linked(places[order], frames[order], wanted, memory, progress, stop)
        except SubnetOversizeException:
            smallest = MIN_SHARE * search_range_nm
            if wanted > smallest:
                wanted = max(_STEP * wanted, smallest)
                continue
            # trackpy's own way out: smaller ranges only where it is crowded, down to nothing
            linked = _linked(
                places[order], frames[order], wanted, memory, progress, stop, crowded=True
            )
    if wanted < search_range_nm:
        notices.append(
            f"Clusters lie too close together for a search range of {search_range_nm:g} nm: "
            f"{wanted:.2g} nm was used."
        )
    track[order] = _renumbered(linked, min_frames)
    return track, notices


def _linked(
    places: np.ndarray,
    frames: np.ndarray,
    search_range_nm: float,
    memory: int,
    progress: Progress | None,
    stop: Stop | None,
    crowded: bool = False,
) -> np.ndarray:
    """(N,) numbers as trackpy gives them, of clusters sorted by frame."""
    from trackpy.linking import link_iter

    n_frames = int(frames[-1]) + 1
    cuts = np.searchsorted(frames, np.arange(1, n_frames))

    def coordinates() -> Iterator[tuple[int, np.ndarray]]:
        for t, points in enumerate(np.split(places, cuts)):
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
    """trackpy prints a line per frame, and warns of what is handled here."""

    def __enter__(self) -> None:
        self._logger = logging.getLogger("trackpy")
        self._level = self._logger.level
        self._logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        self._logger.setLevel(self._level)


def _renumbered(track: np.ndarray, min_frames: int) -> np.ndarray:
    """Numbers without gaps in the order of the rows; tracks that are too short have none."""
    _, first, of_row, count = np.unique(
        track, return_index=True, return_inverse=True, return_counts=True
    )
    long_enough = count >= min_frames
    rank = np.full(len(first), NO_TRACK, np.int64)
    order = np.argsort(first[long_enough], kind="stable")
    rank[np.flatnonzero(long_enough)[order]] = np.arange(long_enough.sum())
    return rank[of_row]
