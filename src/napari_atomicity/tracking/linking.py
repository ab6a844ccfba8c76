"""Linking of clusters between frames by trackpy, after drift correction.

trackpy [1]_ finds the assignment between frames with the minimum sum of squared displacements.

References
----------
.. [1] J. C. Crocker and D. G. Grier, J. Colloid Interface Sci. 179, 298 (1996).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

import numpy as np

from ..core.cluster_table import NO_TRACK
from ..core.extras import require_extra
from ..core.progress import Progress, Stop, check, report

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
