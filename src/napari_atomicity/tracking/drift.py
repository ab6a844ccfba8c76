"""Drift of the stage from frame to frame, by the clusters themselves or by the images.

Shifts are found between many pairs of frames, near each other in time and a few frames apart, and
the drift is the one that explains them best by weighted least squares, as in redundant
cross-correlation (Wang et al., Opt. Express 22, 15982 (2014)): errors of single steps do not add
up as they would along a chain. A frame in which nothing can be matched takes no part and gets its
place from its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve
from scipy.spatial import cKDTree
from skimage.registration import phase_cross_correlation

from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, check, report

BY_CLUSTERS, BY_IMAGE, ASSUMED = "clusters", "image", "assumed"
LAGS = (1, 2, 4, 8)
"""Frames between the two of a pair."""
MAX_STEP_NM = 8.0
"""Drift between two neighbouring frames beyond which it is not looked for."""
MIN_MATCHED = 4
MIN_SHARE = 0.3
"""Clusters that must be found again, and their share of those of the poorer frame."""
_VOTE_NM = 0.15
_MATCH_NM = 0.5
_UPSAMPLING = 20
# The grain of the support and single atoms; what is finer is noise, what is coarser, background.
_FINE_NM, _COARSE_NM = 0.08, 0.8
_MIN_CORRELATION = 6.0
_IMAGE_ERROR_PX = 0.5


@dataclass(frozen=True, eq=False)
class StageDrift:
    """Where a thing that stands still appears in each of T frames.

    Parameters
    ----------
    shift_nm : ndarray of shape (T, 2)
        Its place (y, x) in the frame less that in the first frame.
    error_nm : ndarray of shape (T,)
        Standard error of the shift against the neighbouring frames; NaN where it is assumed.
    source : ndarray of shape (T,)
        "clusters", "image", or "assumed" where no other frame could be matched.
    """

    shift_nm: np.ndarray
    error_nm: np.ndarray
    source: np.ndarray

    @property
    def n_frames(self) -> int:
        return len(self.shift_nm)

    def step_nm(self) -> np.ndarray:
        """(T, 2): how far it has gone since the frame before."""
        return np.diff(self.shift_nm, axis=0, prepend=self.shift_nm[:1])

    def subtract(self, places_nm: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """(N, 2) places (y, x) of things seen in these frames as if nothing had drifted."""
        return np.asarray(places_nm, float) - self.shift_nm[np.asarray(frames, int)]

    def table(self, image: str, frame_time_s: float | None = None) -> pd.DataFrame:
        """A row per frame: ``image, frame, time_s, y_nm, x_nm, step_nm, error_nm, source``."""
        frame = np.arange(self.n_frames)
        return pd.DataFrame(
            {
                "image": np.full(self.n_frames, image, object),
                "frame": frame,
                "time_s": frame * (np.nan if frame_time_s is None else frame_time_s),
                "y_nm": self.shift_nm[:, 0],
                "x_nm": self.shift_nm[:, 1],
                "step_nm": np.linalg.norm(self.step_nm(), axis=1),
                "error_nm": self.error_nm,
                "source": self.source,
            }
        )


def no_drift(n_frames: int) -> StageDrift:
    """All that is known where nobody looked."""
    return StageDrift(
        np.zeros((n_frames, 2)), np.full(n_frames, np.nan), _source_array(n_frames, ASSUMED)
    )


@dataclass(frozen=True)
class _Pair:
    """A shift (y, x) in nm between two frames, its variance along an axis, and where from."""

    one: int
    other: int
    shift: np.ndarray
    variance: float
    source: str


def estimate_drift(
    micrograph: Micrograph,
    table: pd.DataFrame | None = None,
    method: str = "auto",
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> StageDrift:
    """Find the drift of a stack.

    Parameters
    ----------
    micrograph : Micrograph
        A calibrated stack.
    table : pandas.DataFrame, optional
        Its clusters, columns ``frame, y_nm, x_nm``; without them only images are compared.
    method : str, default "auto"
        "clusters", "image", "none", or "auto": by the clusters, and by the images between those
        pairs of frames in which too few clusters are found again.

    Returns
    -------
    Drift
        Of every frame; zero in the first.

    Raises
    ------
    CalibrationError
        If the pixel size is not known.
    Cancelled
        If ``stop()`` says so.
    """
    n, pixel_nm = micrograph.n_frames, micrograph.calibrated()
    if method == "none" or n < 2:
        return no_drift(n)
    pairs: list[_Pair] = []
    if method in ("auto", "clusters") and table is not None:
        pairs = _pairs_of_clusters(_places(table, n), _reach(micrograph), progress, stop)
    if method in ("auto", "image"):
        done = {(p.one, p.other) for p in pairs}
        # one pair that is known binds a frame well enough
        bound = {p.one for p in pairs} | {p.other for p in pairs}
        wanted = [
            (t, t + lag)
            for lag in LAGS[:3]
            for t in range(n - lag)
            if (t, t + lag) not in done and not (t in bound and t + lag in bound)
        ]
        pairs += _pairs_of_images(micrograph, wanted, pixel_nm, progress, stop)
    return _solved(pairs, n)


def estimate_drift_from_clusters(
    places_nm: np.ndarray, frames: np.ndarray, n_frames: int, largest_step_nm: float | None = None
) -> StageDrift:
    """The drift that clusters tell, without any image.

    Parameters
    ----------
    places_nm : ndarray of shape (N, 2)
        Places (y, x).
    frames : ndarray of shape (N,)
        Frame of each.
    n_frames : int
        T.
    largest_step_nm : float, optional
        Beyond this a step between two neighbouring frames is not looked for.
    """
    places, frames = np.asarray(places_nm, float).reshape(-1, 2), np.asarray(frames, int)
    by_frame = [places[frames == t] for t in range(n_frames)]
    return _solved(_pairs_of_clusters(by_frame, largest_step_nm or MAX_STEP_NM), n_frames)


def _places(table: pd.DataFrame, n_frames: int) -> list[np.ndarray]:
    frames = table["frame"].to_numpy(int)
    places = table[["y_nm", "x_nm"]].to_numpy(float)
    order = np.argsort(frames, kind="stable")
    cuts = np.searchsorted(frames[order], np.arange(1, n_frames))
    return np.split(places[order], cuts)


def _reach(micrograph: Micrograph) -> float:
    """Beyond half a frame there is too little in common."""
    return min(MAX_STEP_NM, 0.5 * min(micrograph.shape_px) * micrograph.calibrated())


# ---- by clusters
def _pairs_of_clusters(
    places: list[np.ndarray],
    reach_nm: float,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> list[_Pair]:
    """Neighbouring frames are searched within ``reach_nm``; then it is known where to look."""
    n = len(places)
    trees = [cKDTree(p) if len(p) else None for p in places]
    chain = np.zeros((n, 2))
    found: list[tuple[int, int, np.ndarray, np.ndarray]] = []
    at = chain[0]
    last: int | None = None
    for t in range(n):
        check(stop)
        report(progress, t, n, "Finding the drift by the clusters")
        if last is not None and len(places[t]):
            guess = _voted(places[last], places[t], reach_nm)
            residual = None if guess is None else _matched(places[last], trees[t], guess)
            if guess is not None and residual is not None:
                shift = guess + residual[0]
                found.append((last, t, shift, residual[1]))
                at = at + shift
        if len(places[t]):
            last = t
        chain[t] = at
    for lag in LAGS[1:]:
        for t in range(n - lag):
            check(stop)
            if trees[t] is None or trees[t + lag] is None:
                continue
            guess = chain[t + lag] - chain[t]
            residual = _matched(places[t], trees[t + lag], guess)
            if residual is not None:
                found.append((t, t + lag, guess + residual[0], residual[1]))
    return _weighted(found)


def _weighted(found: list[tuple[int, int, np.ndarray, np.ndarray]]) -> list[_Pair]:
    """The clusters' own motion and its scatter are those of all pairs as far apart in time.

    The variance of a median of n residuals is π/2 times that of their mean.
    """
    spread: dict[int, list[float]] = {}
    for one, other, _, residuals in found:
        spread.setdefault(other - one, []).append(float(np.mean(_robust_variance(residuals))))
    typical = {lag: max(float(np.median(v)), 1e-6) for lag, v in spread.items()}
    return [
        _Pair(one, other, shift, np.pi / 2 * typical[other - one] / len(residuals), BY_CLUSTERS)
        for one, other, shift, residuals in found
    ]


def _robust_variance(residuals: np.ndarray) -> np.ndarray:
    """(2,) of residuals (n, 2), by the median absolute deviation."""
    away = np.abs(residuals - np.median(residuals, axis=0))
    return np.asarray((1.4826 * np.median(away, axis=0)) ** 2)


def _voted(one: np.ndarray, other: np.ndarray, reach_nm: float) -> np.ndarray | None:
    """The shift on which most pairs of clusters of two frames agree; None without any pair."""
    pairs = cKDTree(one).query_ball_tree(cKDTree(other), reach_nm)
    if not any(pairs):
        return None
    votes = np.concatenate([other[js] - one[i] for i, js in enumerate(pairs) if js])
    tree = cKDTree(votes)
    # the mean of all around is a better summit than any single vote
    count = tree.query_ball_point(votes, 2 * _VOTE_NM, return_length=True)
    summit = votes[np.argmax(count)]
    return np.asarray(votes[tree.query_ball_point(summit, 2 * _VOTE_NM)].mean(axis=0))


def _matched(
    one: np.ndarray, tree: cKDTree | None, guess: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """What is to be added to the guess, and the residuals (n, 2) of the clusters found again.

    None where too few are.
    """
    if tree is None or not len(one):
        return None
    extra = np.zeros(2)
    residuals = np.zeros((0, 2))
    for _ in range(3):
        distance, index = tree.query(one + guess + extra, distance_upper_bound=_MATCH_NM)
        near = np.flatnonzero(np.isfinite(distance))
        # each is the partner of one only: the nearest
        order = near[np.argsort(distance[near], kind="stable")]
        _, first = np.unique(index[order], return_index=True)
        near = order[first]
        if len(near) < max(MIN_MATCHED, MIN_SHARE * min(len(one), tree.n)):
            return None
        residuals = tree.data[index[near]] - one[near] - guess
        extra = np.median(residuals, axis=0)
    return extra, residuals - extra


# ---- by images
def _pairs_of_images(
    micrograph: Micrograph,
    wanted: Iterable[tuple[int, int]],
    pixel_nm: float,
    progress: Progress | None,
    stop: Stop | None,
) -> list[_Pair]:
    wanted = sorted(wanted)
    filtered: dict[int, np.ndarray | None] = {}
    out = []
    for number, (one, other) in enumerate(wanted):
        check(stop)
        report(progress, number, len(wanted), "Finding the drift by the images")
        for t in [t for t in filtered if t < one]:  # frames come in order: bounded memory
            del filtered[t]
        for t in (one, other):
            if t not in filtered:
                filtered[t] = _band_passed(np.asarray(micrograph.data[t], np.float32), pixel_nm)
        shift = _image_shift(filtered[one], filtered[other], _FINE_NM / pixel_nm)
        if shift is not None:
            variance = (_IMAGE_ERROR_PX * pixel_nm) ** 2
            out.append(_Pair(one, other, shift * pixel_nm, variance, BY_IMAGE))
    return out


def _band_passed(frame: np.ndarray, pixel_nm: float) -> np.ndarray | None:
    """The grain of a frame without noise and background, faded at its edges; None without any."""
    finite = np.isfinite(frame)
    if not finite.any():
        return None
    frame = np.where(finite, frame, np.median(frame[finite]))
    # Single hot pixels would shout everything else down.
    low, high = np.percentile(frame, [0.1, 99.9])
    frame = np.clip(frame, low, high)
    fine = ndimage.gaussian_filter(frame, max(_FINE_NM / pixel_nm, 0.7))
    grain = fine - ndimage.gaussian_filter(frame, _COARSE_NM / pixel_nm)
    spread = float(grain.std())
    if not spread > 1e-6 * max(abs(float(frame.mean())), 1e-12):
        return None
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in frame.shape))
    return np.asarray((grain / spread) * window, np.float32)


def _image_shift(
    one: np.ndarray | None, other: np.ndarray | None, grain_px: float
) -> np.ndarray | None:
    """(y, x) in pixels by which things have moved; None where the frames have nothing in common.

    Chance correlates two frames of n independent grains by about 1 / √n; what is found must exceed
    that by far, since the best of many shifts was chosen.
    """
    if one is None or other is None:
        return None
    found, _, _ = phase_cross_correlation(
        one, other, upsample_factor=_UPSAMPLING, normalization=None
    )
    moved = -np.asarray(found, float)
    whole = np.round(moved).astype(int)
    a, b = _overlap(one, whole), _overlap(other, -whole)
    if min(a.shape) < 8:
        return None
    power = float(np.sqrt((a**2).sum() * (b**2).sum()))
    correlation = float((a * b).sum()) / power if power > 0 else 0.0
    grains = a.size / (4 * np.pi * max(grain_px, 0.7) ** 2)
    return moved if correlation > _MIN_CORRELATION / np.sqrt(grains) else None


def _overlap(frame: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """The part of a frame that lies in the other one too, which things reach by this shift."""
    rows, columns = (
        slice(max(0, -s), n - max(0, s)) for s, n in zip(shift, frame.shape, strict=True)
    )
    return frame[rows, columns]


# ---- all pairs together
def _solved(pairs: list[_Pair], n: int) -> StageDrift:
    """Weighted least squares with Huber's weights, from one stretch of bound frames to the next."""
    shift, error, source = np.full((n, 2), np.nan), np.full(n, np.nan), _source_array(n, ASSUMED)
    shift[0] = 0.0
    if pairs:
        one, other = (np.array([getattr(p, k) for p in pairs]) for k in ("one", "other"))
        moved = np.array([p.shift for p in pairs])
        variance = np.array([p.variance for p in pairs])
        graph = sparse.coo_array((np.ones(len(pairs)), (one, other)), shape=(n, n))
        _, stretch = sparse.csgraph.connected_components(graph, directed=False)
        for label in dict.fromkeys(stretch[np.unique(np.r_[one, other])].tolist()):
            frames = np.flatnonzero(stretch == label)
            used = stretch[one] == label
            inside = np.full(n, -1)
            inside[frames] = np.arange(len(frames))
            solution, weight = _solve_normal_equations(
                inside[one[used]], inside[other[used]], moved[used], variance[used], len(frames)
            )
            # Nothing binds it to what was before: that lay still meanwhile.
            before = np.flatnonzero(np.isfinite(shift[: frames[0], 0]))
            start = shift[before[-1]] if len(before) else np.zeros(2)
            shift[frames] = solution + start
            error[frames] = 1 / np.sqrt(weight)
        for kind in (BY_IMAGE, BY_CLUSTERS):  # clusters have the last word
            mine = [p for p in pairs if p.source == kind]
            source[sorted({p.one for p in mine} | {p.other for p in mine})] = kind
    known = np.flatnonzero(np.isfinite(shift[:, 0]))
    for axis in range(2):
        shift[:, axis] = np.interp(np.arange(n), known, shift[known, axis])
    return StageDrift(shift - shift[0], error, source)


def _solve_normal_equations(
    one: np.ndarray, other: np.ndarray, moved: np.ndarray, variance: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Places (n, 2) with the first at zero, and the weight (n,) of all shifts of each frame."""
    m = len(one)
    rows = np.arange(m)
    design = sparse.coo_array(
        (np.r_[np.ones(m), -np.ones(m)], (np.r_[rows, rows], np.r_[other, one])), shape=(m, n)
    ).tocsr()[:, 1:]
    places, weight = np.zeros((n, 2)), 1 / variance
    for _ in range(4):
        weighted = design.T @ sparse.diags_array(weight)
        normal = (weighted @ design).tocsc()
        places[1:] = spsolve(normal, weighted @ moved).reshape(-1, 2)
        away = np.linalg.norm(moved - (places[other] - places[one]), axis=1) / np.sqrt(variance)
        limit = 2.5
        weight = np.minimum(1, limit / np.maximum(away, 1e-12)) / variance
    of_frame = np.bincount(one, weight, n) + np.bincount(other, weight, n)
    return places, of_frame


def _source_array(n: int, word: str) -> np.ndarray:
    return np.full(n, word, object)
