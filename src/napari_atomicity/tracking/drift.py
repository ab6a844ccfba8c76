"""Drift of the stage between frames, from the clusters or from the images.

Shifts are measured between many pairs of frames, adjacent ones and ones a few frames apart. The
drift is their weighted least-squares solution, as in redundant cross-correlation [1]_, so that
errors of single steps do not accumulate. Frames without a match are interpolated.

References
----------
.. [1] Y. Wang et al., Opt. Express 22, 15982 (2014).
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
from ..detection.outliers import find_repairs

# ---- registration of two frames by the grain of their support

# Band of the grain of the support and of single atoms, between noise and background.
FINE_NM, _COARSE_NM = 0.08, 0.8
_UPSAMPLING = 20
_MIN_CORRELATION = 6.0


def band_pass(frame: np.ndarray, pixel_nm: float) -> np.ndarray | None:
    """Return the band-passed, windowed frame; None without contrast."""
    finite = np.isfinite(frame)
    if not finite.any():
        return None
    frame = np.where(finite, frame, np.median(frame[finite]))
    # Hot pixels would dominate the correlation.
    low, high = np.percentile(frame, [0.1, 99.9])
    frame = np.clip(frame, low, high)
    fine = ndimage.gaussian_filter(frame, max(FINE_NM / pixel_nm, 0.7))
    grain = fine - ndimage.gaussian_filter(frame, _COARSE_NM / pixel_nm)
    spread = float(grain.std())
    if not spread > 1e-6 * max(abs(float(frame.mean())), 1e-12):
        return None
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in frame.shape))
    return np.asarray((grain / spread) * window, np.float32)


def measure_shift(
    # one, other, each (Y, X) or None: frames from `band_pass`
    one: np.ndarray | None,
    other: np.ndarray | None,
    grain_px: float,  # standard deviation of the grain in pixels
) -> np.ndarray | None:
    """Measure the shift between two frames by phase correlation.

    The correlation of two unrelated frames of n independent grains is about 1 / √n. The limit is
    much higher, since the shift is the best of many.

    The result is the shift (y, x) in pixels, or None without significant correlation.
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
    """Return the part of a frame that overlaps the other one after this shift."""
    rows, columns = (
        slice(max(0, -s), n - max(0, s)) for s, n in zip(shift, frame.shape, strict=True)
    )
    return frame[rows, columns]


BY_CLUSTERS, BY_IMAGE, ASSUMED = "clusters", "image", "assumed"
LAGS = (1, 2, 4, 8)
"""Distances of the two frames of a pair, in frames."""
MAX_STEP_NM = 8.0
"""Maximum drift between two adjacent frames."""
MIN_MATCHED = 4
MIN_SHARE = 0.3
"""Minimum number of matched clusters, and their minimum share of the smaller frame."""
_VOTE_NM = 0.15
_MATCH_NM = 0.5
_DISAGREEMENT = 3.0
"""Clusters of a pair disagree if they scatter by so many times the usual scatter, or if the error
of their shift is so many times that of images."""
_IMAGE_ERROR_PX = 0.5
_HUBER, _GROSS = 2.5, 10.0
"""Standard errors from which on a pair has a limited influence, and a decreasing one."""


@dataclass(frozen=True, eq=False)
class StageDrift:
    """Drift of the stage in each of T frames.

    Parameters
    ----------
    shift_nm : ndarray of shape (T, 2)
        Position (y, x) of a static object relative to the first frame.
    error_nm : ndarray of shape (T,)
        Standard error of the step from the previous frame; NaN where it is interpolated.
    source : ndarray of shape (T,)
        "clusters", "image", or "assumed" where no other frame was matched.
    """

    shift_nm: np.ndarray
    error_nm: np.ndarray
    source: np.ndarray

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.shift_nm)

    def step_nm(self) -> np.ndarray:
        """Return the drift (T, 2) since the previous frame."""
        return np.diff(self.shift_nm, axis=0, prepend=self.shift_nm[:1])

    def subtract(self, positions_nm: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Subtract the drift from positions.

        Parameters
        ----------
        positions_nm : ndarray of shape (N, 2)
            Positions (y, x) in nm.
        frames : ndarray of int, shape (N,)
            Frame of each position.

        Returns
        -------
        ndarray of shape (N, 2)
            Positions relative to the sample.
        """
        return np.asarray(positions_nm, float) - self.shift_nm[np.asarray(frames, int)]

    def table(self, image: str, frame_time_s: float | None = None) -> pd.DataFrame:
        """Make the table of the drift.

        Parameters
        ----------
        image : str
            Name of the image.
        frame_time_s : float, optional
            Frame time.

        Returns
        -------
        pandas.DataFrame
            A row per frame: ``image, frame, time_s, y_nm, x_nm, step_nm, error_nm, source``.
        """
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
    """Return a drift of zero."""
    return StageDrift(
        np.zeros((n_frames, 2)), np.full(n_frames, np.nan), _source_array(n_frames, ASSUMED)
    )


@dataclass(frozen=True)
class _Pair:
    """A shift (y, x) in nm between two frames, its variance per axis, and its source."""

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
    """Estimate the drift of a stack.

    Parameters
    ----------
    micrograph : Micrograph
        A calibrated stack.
    table : pandas.DataFrame, optional
        Clusters with the columns ``frame, y_nm, x_nm``; without them only images are compared.
        Clusters that ``touches_border`` marks are left out.
    method : str, default "auto"
        "clusters", "image", "none", or "auto": clusters, and images for those pairs of frames
        that clusters do not connect.
    progress, stop : callable, optional
        Called for every pair of frames.

    Returns
    -------
    StageDrift
        Drift of every frame; zero in the first.

    Raises
    ------
    CalibrationError
        If the pixel size is not known.
    Cancelled
        If ``stop()`` returns True.
    """
    n, pixel_nm = micrograph.n_frames, micrograph.calibrated()
    if method == "none" or n < 2:
        return no_drift(n)
    pairs: list[_Pair] = []
    if method in ("auto", "clusters") and table is not None:
        pairs = _pairs_of_clusters(
            _split_by_frame(table, n), _max_drift(micrograph), progress, stop
        )
    if method in ("auto", "image"):
        # Clusters may connect frames to several sets, between which only images tell the drift,
        # and tell less than images where they disagree.
        limit = (_DISAGREEMENT * _IMAGE_ERROR_PX * pixel_nm) ** 2
        of_set = _connected_sets([p for p in pairs if p.variance <= limit], n)
        frame_pairs = [
            (t, t + lag) for lag in LAGS[:3] for t in range(n - lag) if of_set[t] != of_set[t + lag]
        ]
        pairs += _pairs_of_images(micrograph, frame_pairs, pixel_nm, progress, stop)
    return _solve_drift(pairs, n)


def _split_by_frame(table: pd.DataFrame, n_frames: int) -> list[np.ndarray]:
    """Return the positions (n, 2) of the clusters of each frame, without those cut by the border.

    The centre of a cut cluster moves with the cut.
    """
    if "touches_border" in table.columns:
        table = table[~table["touches_border"].astype(bool)]
    frames = table["frame"].to_numpy(int)
    positions = table[["y_nm", "x_nm"]].to_numpy(float)
    order = np.argsort(frames, kind="stable")
    cuts = np.searchsorted(frames[order], np.arange(1, n_frames))
    return np.split(positions[order], cuts)


def _max_drift(micrograph: Micrograph) -> float:
    """Return the maximum drift, at most half of the field."""
    return min(MAX_STEP_NM, 0.5 * min(micrograph.shape_px) * micrograph.calibrated())


# ---- from clusters
def _pairs_of_clusters(
    positions: list[np.ndarray],
    reach_nm: float,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> list[_Pair]:
    """Match adjacent frames within ``reach_nm``, then distant ones near the sum of the steps."""
    n = len(positions)
    trees = [cKDTree(p) if len(p) else None for p in positions]
    chain = np.zeros((n, 2))
    found: list[tuple[int, int, np.ndarray, np.ndarray]] = []
    at = chain[0]
    last: int | None = None
    for t in range(n):
        check(stop)
        report(progress, t, n, "Estimating the drift from clusters")
        if last is not None and len(positions[t]):
            guess = _vote_shift(positions[last], positions[t], reach_nm)
            residual = None if guess is None else _match_clusters(positions[last], trees[t], guess)
            if guess is not None and residual is not None:
                shift = guess + residual[0]
                found.append((last, t, shift, residual[1]))
                at = at + shift
        if len(positions[t]):
            last = t
        chain[t] = at
    for lag in LAGS[1:]:
        for t in range(n - lag):
            check(stop)
            if trees[t] is None or trees[t + lag] is None:
                continue
            guess = chain[t + lag] - chain[t]
            residual = _match_clusters(positions[t], trees[t + lag], guess)
            if residual is not None:
                found.append((t, t + lag, guess + residual[0], residual[1]))
    return _weight_pairs(found)


def _weight_pairs(found: list[tuple[int, int, np.ndarray, np.ndarray]]) -> list[_Pair]:
    """Weight pairs by the scatter of the residuals of all pairs with the same distance in time.

    The variance of a median of n residuals is π/2 times that of their mean. Where the scatter of
    a pair is far larger than usual, its clusters disagree and any of them may be right: the
    scatter is the error.
    """
    own = [float(np.mean(_robust_variance(residuals))) for *_, residuals in found]
    spread: dict[int, list[float]] = {}
    for (one, other, *_), variance in zip(found, own, strict=True):
        spread.setdefault(other - one, []).append(variance)
    typical = {lag: max(float(np.median(v)), 1e-6) for lag, v in spread.items()}
    pairs = []
    for (one, other, shift, residuals), variance in zip(found, own, strict=True):
        usual = typical[other - one]
        if variance <= _DISAGREEMENT**2 * usual:
            variance = np.pi / 2 * usual / len(residuals)
        pairs.append(_Pair(one, other, shift, variance, BY_CLUSTERS))
    return pairs


def _robust_variance(residuals: np.ndarray) -> np.ndarray:
    """Return the variance (2,) of residuals (n, 2), by the median absolute deviation."""
    away = np.abs(residuals - np.median(residuals, axis=0))
    return np.asarray((1.4826 * np.median(away, axis=0)) ** 2)


def _vote_shift(one: np.ndarray, other: np.ndarray, reach_nm: float) -> np.ndarray | None:
    """Return the most frequent shift between clusters of two frames; None without any pair."""
    pairs = cKDTree(one).query_ball_tree(cKDTree(other), reach_nm)
    if not any(pairs):
        return None
    votes = np.concatenate([other[js] - one[i] for i, js in enumerate(pairs) if js])
    tree = cKDTree(votes)
    # the mean around the maximum is more accurate than a single vote
    count = tree.query_ball_point(votes, 2 * _VOTE_NM, return_length=True)
    peak = votes[np.argmax(count)]
    return np.asarray(votes[tree.query_ball_point(peak, 2 * _VOTE_NM)].mean(axis=0))


def _match_clusters(
    one: np.ndarray, tree: cKDTree | None, guess: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the correction of the guess, and the residuals (n, 2) of the matched clusters.

    None with too few matches.
    """
    if tree is None or not len(one):
        return None
    extra = np.zeros(2)
    residuals = np.zeros((0, 2))
    for _ in range(3):
        distance, index = tree.query(one + guess + extra, distance_upper_bound=_MATCH_NM)
        near = np.flatnonzero(np.isfinite(distance))
        # each cluster is matched once, with the nearest one
        order = near[np.argsort(distance[near], kind="stable")]
        _, first = np.unique(index[order], return_index=True)
        near = order[first]
        if len(near) < max(MIN_MATCHED, MIN_SHARE * min(len(one), tree.n)):
            return None
        residuals = tree.data[index[near]] - one[near] - guess
        extra = np.median(residuals, axis=0)
    return extra, residuals - extra


# ---- from images
def _pairs_of_images(
    micrograph: Micrograph,
    frame_pairs: Iterable[tuple[int, int]],
    pixel_nm: float,
    progress: Progress | None,
    stop: Stop | None,
) -> list[_Pair]:
    frame_pairs = sorted(frame_pairs)
    filtered: dict[int, np.ndarray | None] = {}
    out = []
    for number, (one, other) in enumerate(frame_pairs):
        check(stop)
        report(progress, number, len(frame_pairs), "Estimating the drift from images")
        for t in [t for t in filtered if t < one]:  # pairs are sorted: bounded memory
            del filtered[t]
        for t in (one, other):
            if t not in filtered:
                frame = find_repairs(micrograph, t)[0].replace(
                    np.asarray(micrograph.data[t], np.float32)
                )
                filtered[t] = band_pass(frame, pixel_nm)
        shift = measure_shift(filtered[one], filtered[other], FINE_NM / pixel_nm)
        if shift is not None:
            variance = (_IMAGE_ERROR_PX * pixel_nm) ** 2
            out.append(_Pair(one, other, shift * pixel_nm, variance, BY_IMAGE))
    return out


# ---- solution for all pairs
def _solve_drift(pairs: list[_Pair], n: int) -> StageDrift:
    """Solve the least-squares problem with Huber weights for each connected set of frames."""
    shift, error, source = np.full((n, 2), np.nan), np.full(n, np.nan), _source_array(n, ASSUMED)
    shift[0] = 0.0
    if pairs:
        one, other = (np.array([getattr(p, k) for p in pairs]) for k in ("one", "other"))
        moved = np.array([p.shift for p in pairs])
        variance = np.array([p.variance for p in pairs])
        component = _connected_sets(pairs, n)
        for label in dict.fromkeys(component[np.unique(np.r_[one, other])].tolist()):
            frames = np.flatnonzero(component == label)
            used = component[one] == label
            inside = np.full(n, -1)
            inside[frames] = np.arange(len(frames))
            solution, weight = _solve_normal_equations(
                inside[one[used]], inside[other[used]], moved[used], variance[used], len(frames)
            )
            # Without a connection to earlier frames, no drift is assumed in between.
            before = np.flatnonzero(np.isfinite(shift[: frames[0], 0]))
            start = shift[before[-1]] if len(before) else np.zeros(2)
            shift[frames] = solution + start
            error[frames] = 1 / np.sqrt(weight)
            if len(before):
                error[frames[0]] = np.nan
        for kind in (BY_IMAGE, BY_CLUSTERS):  # clusters take precedence
            mine = [p for p in pairs if p.source == kind]
            source[sorted({p.one for p in mine} | {p.other for p in mine})] = kind
    known = np.flatnonzero(np.isfinite(shift[:, 0]))
    for axis in range(2):
        shift[:, axis] = np.interp(np.arange(n), known, shift[known, axis])
    return StageDrift(shift - shift[0], error, source)


def _connected_sets(pairs: list[_Pair], n: int) -> np.ndarray:
    """Return the number (n,) of the set of frames connected by pairs to which each belongs."""
    one, other = (np.array([getattr(p, k) for p in pairs], int) for k in ("one", "other"))
    graph = sparse.coo_array((np.ones(len(pairs)), (one, other)), shape=(n, n))
    return np.asarray(sparse.csgraph.connected_components(graph, directed=False)[1])


def _solve_normal_equations(
    one: np.ndarray, other: np.ndarray, moved: np.ndarray, variance: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions (n, 2) relative to the first, and the weight (n,) of each step to a frame.

    The weight of a step is that of the best pair that it is part of: pairs share the errors of
    the positions in their frames, so that many are no more certain than one.
    """
    m = len(one)
    rows = np.arange(m)
    design = sparse.coo_array(
        (np.r_[np.ones(m), -np.ones(m)], (np.r_[rows, rows], np.r_[other, one])), shape=(m, n)
    ).tocsr()[:, 1:]
    positions, weight = np.zeros((n, 2)), 1 / variance
    for repeat in range(8):
        weighted = design.T @ sparse.diags_array(weight)
        normal = (weighted @ design).tocsc()
        positions[1:] = spsolve(normal, weighted @ moved).reshape(-1, 2)
        away = np.linalg.norm(moved - (positions[other] - positions[one]), axis=1) / np.sqrt(
            variance
        )
        ratio = np.maximum(away, 1e-12)
        weight = np.minimum(1, _HUBER / ratio) / variance
        if repeat >= 4:  # with a good start, gross errors lose their influence
            weight *= np.minimum(1, _GROSS / ratio)
    of_step = np.zeros(n)
    for begin, end, w in zip(one + 1, other + 1, weight, strict=True):
        of_step[begin:end] = np.maximum(of_step[begin:end], w)
    of_step[0] = of_step[1]
    return positions, of_step


def _source_array(n: int, source: str) -> np.ndarray:
    return np.full(n, source, object)
