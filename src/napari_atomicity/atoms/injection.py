"""Injection-recovery test: artificial atoms are added to an image and detected again.

The share of undetected atoms depends on the noise, the texture and the focus of the image. Spots
with the width of its own atoms and with a range of heights are therefore injected, and atoms are
detected again, like artificial stars in photometry [1]_. Isolated spots measure the recovery of an
isolated atom of each height; spots among the other atoms, as close to them as they are to each
other, measure the loss from overlap.

References
----------
.. [1] P. B. Stetson, Publ. Astron. Soc. Pac. 99, 191 (1987).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.spatial import KDTree
from scipy.special import logit

from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, prefixed
from ..detection.background import without_gaps
from ..detection.clusters import detect
from ..detection.outliers import repaired_frames
from ..statistics.scores import match_nearest
from .analysis import AtomAnalysis, detect_candidates
from .isolation import fit_atom_width
from .localisation import SIGMA_NM
from .regions import make_cluster_mask
from .spots import add_gaussian_spots

if TYPE_CHECKING:
    from .finder import AtomModel

HEIGHTS = (0.1, 2.5)
"""Range of heights of isolated injected atoms, relative to the median of the detected ones."""
TARGET_INJECTED, MAX_ROUNDS = 200, 3
"""Number of isolated atoms to inject, and maximum number of rounds: more at once would overlap."""
TARGET_INJECTED_SMALL_FIELD, MAX_ROUNDS_SMALL_FIELD, MIN_INJECTED = 60, 12, 30
"""Number of atoms and maximum number of rounds in a small field, and the minimum number of atoms
for a result."""
CROWD_ROUNDS, CROWD_SHARE, MAX_IN_CROWD = 2, 0.5, 150
"""Rounds with atoms among the others: their share of the detected ones, and their maximum."""
CROWD_SCATTER = 0.35
"""Standard deviation of the logarithm of their heights, about the median of the found ones."""
CLUSTER_ATOMS = 12.0
"""Minimum brightness of a cluster in atoms: groups of isolated atoms are usually fainter."""
MIN_ATOMS = 8
"""Minimum number of candidates of an image."""
_APART_NM, _CLEAR_NM, _JITTER_NM = 1.5, 0.35, 0.3
_SAME_NM = 0.15
_NEIGHBOURS_NM = 0.25, 0.8
_AMONG_NM = 0.25
_CROP_PX = 1024
_MIN_PROBABILITY = 1e-6


@dataclass(frozen=True, eq=False)
class InjectedAtoms:
    """Injected atoms of an image and their recovery.

    Parameters
    ----------
    usual : float
        Median height of the detected atoms, in counts: all heights are relative to it.
    sigma_nm : float
        Standard deviation of the spots: that of the mean atom of the image.
    height, score, amplitude : ndarray of shape (N,)
        True height, log-odds of the recovered probability, and measured height of the isolated
        atoms; NaN where there was no candidate.
    crowd_height : ndarray of shape (M,)
        Heights of the atoms injected among the others.
    crowd_gain : int
        Number of additional detections for them.
    area_nm2 : float
        Area of the support of the tested part of the image.
    frames : int
        Number of frames of the image; one of them is tested.
    scores, own : ndarray of shape (C,)
        Log-odds of all candidates of that part, and their heights.
    floor : float
        Minimum log-odds of a candidate.
    threshold : float
        Minimum log-odds of a candidate counted for ``crowd_gain``.
    """

    usual: float
    sigma_nm: float
    height: np.ndarray
    score: np.ndarray
    amplitude: np.ndarray
    crowd_height: np.ndarray
    crowd_gain: int
    area_nm2: float
    frames: int
    scores: np.ndarray
    own: np.ndarray
    floor: float
    threshold: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            name: _jsonable(value) if isinstance(value, np.ndarray) else value
            for name, value in vars(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> InjectedAtoms:
        """Build from `to_dict`."""
        read: dict[str, Any] = {
            name: np.array([np.nan if v is None else v for v in value], float)
            if isinstance(value, list)
            else value
            for name, value in values.items()
        }
        return cls(**read)


def _jsonable(values: np.ndarray) -> list[float | None]:
    return [round(float(v), 4) if np.isfinite(v) else None for v in values]


def inject_atoms(
    analysis: AtomAnalysis,
    model: AtomModel,
    clusters: np.ndarray | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> InjectedAtoms | None:
    """Inject artificial atoms into an image and detect them.

    Parameters
    ----------
    analysis : AtomAnalysis
        Of the image; for a stack the first frame with contrast is used, for a large image the
        centre of its support.
    model : AtomModel
        The model of the analysis.
    clusters : ndarray of bool, shape (Y, X) or (T, Y, X), optional
        Clusters, whose atoms are not isolated. If None, they are detected: regions as bright as
        `CLUSTER_ATOMS` atoms or more.
    seed : int, default 0
        Seed of positions and heights.
    progress, stop : callable, optional
        As of `find_atoms`.

    Returns
    -------
    InjectedAtoms or None
        None with fewer than `MIN_ATOMS` candidates, or without room for `MIN_INJECTED` atoms.

    Raises
    ------
    Cancelled
        If ``stop()`` returns True.
    """
    field = _prepare_field(analysis, clusters)
    if field is None:
        return None
    image, mask, candidates, found, usual = field
    size = analysis.pixel_size_nm
    positions = candidates[["y_px", "x_px"]].to_numpy(float)
    sigma_nm = fit_atom_width(image, size, positions, candidates["confidence"].to_numpy(float))
    recovery = _Recovery(image, mask, usual, sigma_nm, size, model, stop)
    rng = np.random.default_rng(seed)
    doubtful = candidates[candidates["confidence"] >= analysis.threshold / 2]
    isolated = _inject_isolated(recovery, doubtful[["y_px", "x_px"]].to_numpy(float), rng, progress)
    if isolated is None:
        return None
    crowd = _inject_among(
        recovery, found[["y_px", "x_px"]].to_numpy(float), analysis.threshold, candidates, rng,
        progress,
    )  # fmt: skip
    frames = len(analysis.support) if analysis.support.ndim == 3 else 1
    own = candidates["amplitude"].to_numpy(float) / usual
    threshold = np.clip(analysis.threshold, _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
    return InjectedAtoms(
        usual, sigma_nm, *isolated, *crowd, float(mask.sum()) * size**2, frames,
        _log_odds(candidates), own, float(logit(model.card.floor)), float(logit(threshold)),
    )  # fmt: skip


def _prepare_field(
    analysis: AtomAnalysis, clusters: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, pd.DataFrame, pd.DataFrame, float] | None:
    """Return image, mask, candidates, detected atoms and their median height of one frame."""
    image, mask, candidates = _crop_frame(analysis, clusters)
    usable = candidates[candidates["amplitude"] > 0]
    if image is None or len(usable) < MIN_ATOMS:
        return None
    found, usual = _select_detected(usable, analysis.threshold)
    if clusters is None:
        mask = mask & ~_bright_clusters(image, analysis.pixel_size_nm, usual)
        candidates = candidates[_is_on_mask(mask, candidates)]
        usable = candidates[candidates["amplitude"] > 0]
        if len(usable) < MIN_ATOMS:
            return None
        found, usual = _select_detected(usable, analysis.threshold)
    return image, mask, candidates, found, usual


def _select_detected(usable: pd.DataFrame, threshold: float) -> tuple[pd.DataFrame, float]:
    """Return the detected atoms of a table, at least `MIN_ATOMS`, and their median height."""
    found = usable[usable["confidence"] >= threshold]
    if len(found) < MIN_ATOMS:
        found = usable.nlargest(MIN_ATOMS, "confidence")
    return found, float(found["amplitude"].median())


def _bright_clusters(image: np.ndarray, pixel_size_nm: float, usual: float) -> np.ndarray:
    """Return the (Y, X) mask of clusters as bright as `CLUSTER_ATOMS` usual atoms."""
    found = detect(Micrograph(image, pixel_size_nm))
    atom = 2 * np.pi * SIGMA_NM**2 * usual
    rows = np.flatnonzero(found.table["integrated_intensity"] >= CLUSTER_ATOMS * atom)
    outlines = [found.outlines[i] for i in rows]
    return make_cluster_mask(found.table.iloc[rows], image.shape, pixel_size_nm, outlines)


@dataclass(frozen=True, eq=False)
class _Recovery:
    """Detection in an image with injected atoms."""

    image: np.ndarray
    mask: np.ndarray
    usual: float
    sigma_nm: float
    size: float
    model: AtomModel
    stop: Stop | None

    def detect_with(
        self, points: np.ndarray, height: np.ndarray, number: int, progress: Progress | None
    ) -> pd.DataFrame:
        """Detect candidates on the support after spots are injected.

        Parameters
        ----------
        points : ndarray of shape (N, 2)
            Positions (y, x) of the spots in pixels.
        height : ndarray of shape (N,)
            Heights relative to the usual one.
        number : int
            Number of the round, in turn with other networks (`AtomModel.score_map`): three of
            nine give nearly the same scores in a third of the time.
        progress : callable or None
            Progress of the detection.

        Returns
        -------
        pandas.DataFrame
            Atom table of the candidates.
        """
        image = add_gaussian_spots(
            self.image, points, self.usual * height, self.sigma_nm / self.size
        )
        found = detect_candidates(
            Micrograph(image, self.size), self.model, number, progress, self.stop
        )
        return found[_is_on_mask(self.mask, found)]


def _inject_isolated(
    recovery: _Recovery, taken: np.ndarray, rng: np.random.Generator, progress: Progress | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return heights, scores and measured heights of isolated atoms; None without room."""
    heights: list[np.ndarray] = []
    scores: list[np.ndarray] = []
    measured: list[np.ndarray] = []
    while True:
        rounds, n_injected = len(heights), sum(map(len, heights))
        if n_injected >= TARGET_INJECTED or rounds >= (
            MAX_ROUNDS if n_injected >= TARGET_INJECTED_SMALL_FIELD else MAX_ROUNDS_SMALL_FIELD
        ):
            break
        points = _free_positions(recovery.mask, taken, recovery.size, rng)
        if not len(points):
            break
        height = np.exp(rng.uniform(np.log(HEIGHTS[0]), np.log(HEIGHTS[1]), len(points)))
        found = recovery.detect_with(
            points,
            height,
            rounds,
            prefixed(progress, f"Injecting isolated atoms, round {rounds + 1}: "),
        )
        places = found[["y_nm", "x_nm"]].to_numpy(float)
        met = match_nearest(points * recovery.size, places, _SAME_NM)
        detected = met >= 0
        score, amplitude = np.full(len(points), np.nan), np.full(len(points), np.nan)
        score[detected] = _log_odds(found)[met[detected]]
        amplitude[detected] = found["amplitude"].to_numpy(float)[met[detected]] / recovery.usual
        heights.append(height)
        scores.append(score)
        measured.append(amplitude)
    if sum(map(len, heights)) < MIN_INJECTED:
        return None
    return np.concatenate(heights), np.concatenate(scores), np.concatenate(measured)


def _inject_among(
    recovery: _Recovery,
    found: np.ndarray,
    threshold: float,
    candidates: pd.DataFrame,
    rng: np.random.Generator,
    progress: Progress | None,
) -> tuple[np.ndarray, int]:
    """Return heights of atoms injected among the others, and the additional detections."""
    before = int((candidates["confidence"] >= threshold).sum())
    number = int(np.clip(CROWD_SHARE * len(found), MIN_ATOMS, MAX_IN_CROWD))
    heights, gain = [np.empty(0)], 0
    for i in range(CROWD_ROUNDS):
        points = _positions_among(recovery.mask, found, recovery.size, number, rng)
        height = np.exp(rng.normal(-(CROWD_SCATTER**2) / 2, CROWD_SCATTER, len(points)))
        injected = recovery.detect_with(
            points,
            height,
            i,
            prefixed(progress, f"Injecting atoms among the others, round {i + 1}: "),
        )
        gain += int((injected["confidence"] >= threshold).sum()) - before
        heights.append(height)
    return np.concatenate(heights), gain


def _crop_frame(
    analysis: AtomAnalysis, clusters: np.ndarray | None
) -> tuple[np.ndarray | None, np.ndarray, pd.DataFrame]:
    """Return pixels, mask and candidates of one frame, at most `_CROP_PX` wide."""
    masks = analysis.support if analysis.support.ndim == 3 else analysis.support[None]
    if clusters is not None:
        masks = masks & ~clusters
    for index, frame in enumerate(repaired_frames(analysis.micrograph)):
        if index in analysis.flat_frames or not masks[index].any():
            continue
        middle = [np.average(np.arange(n), weights=masks[index].sum(axis))
                  for n, axis in zip(frame.shape, (1, 0), strict=True)]  # fmt: skip
        start = [
            int(np.clip(m - _CROP_PX / 2, 0, max(0, n - _CROP_PX)))
            for m, n in zip(middle, frame.shape, strict=True)
        ]
        window = tuple(slice(s, s + _CROP_PX) for s in start)
        image, mask = without_gaps(frame[window]), masks[index][window]
        rows = analysis.candidates[analysis.candidates["frame"] == index].copy()
        rows[["y_px", "x_px"]] -= start
        return image, mask, rows[_is_on_mask(mask, rows)]
    return None, masks[0], analysis.candidates[:0]


def _is_on_mask(mask: np.ndarray, table: pd.DataFrame) -> np.ndarray:
    """Return (N,) bool: whether the atoms of a table are on the mask."""
    points = np.rint(table[["y_px", "x_px"]].to_numpy(float)).astype(int)
    inside = ((points >= 0) & (points < mask.shape)).all(axis=1)
    on = np.zeros(len(points), bool)
    on[inside] = mask[tuple(points[inside].T)]
    return on


def _log_odds(table: pd.DataFrame) -> np.ndarray:
    p = np.clip(table["confidence"].to_numpy(float), _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
    return np.asarray(logit(p))


def _free_positions(
    mask: np.ndarray, taken: np.ndarray, pixel_size_nm: float, rng: np.random.Generator
) -> np.ndarray:
    """Return (N, 2) positions (px) on the support, away from each other and from the atoms."""
    step, jitter = _APART_NM / pixel_size_nm, _JITTER_NM / pixel_size_nm
    axes = [np.arange(rng.uniform(0.3, 1) * step, n - 1, step) for n in mask.shape]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    points = points + rng.uniform(-jitter, jitter, points.shape)
    points = np.clip(points, 0, np.array(mask.shape) - 1)
    points = points[mask[tuple(points.round().astype(int).T)]]
    if len(points) and len(taken):
        points = points[KDTree(taken).query(points)[0] * pixel_size_nm > _CLEAR_NM]
    return points


def _positions_among(
    mask: np.ndarray, found: np.ndarray, pixel_size_nm: float, number: int,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """Return (N, 2) positions (px) on the support with as many neighbours as the detected atoms.

    A mixture of positions close to detected atoms and of uniform ones. Neighbours are counted from
    the resolution of two atoms to the size of groups (`_NEIGHBOURS_NM`).
    """
    free = np.argwhere(mask)
    inner, outer = (r / pixel_size_nm for r in _NEIGHBOURS_NM)
    tree = KDTree(found)

    def near_others(n: int) -> np.ndarray:
        points = found[rng.integers(0, len(found), n)]
        return np.asarray(points + rng.normal(0, _AMONG_NM / pixel_size_nm, points.shape))

    def neighbours(points: np.ndarray) -> float:
        within = tree.query_ball_point(points, outer, return_length=True)
        return float(np.mean(within - tree.query_ball_point(points, inner, return_length=True)))

    anywhere = len(found) / len(free) * np.pi * (outer**2 - inner**2)
    close = neighbours(near_others(2000))
    share = np.clip((neighbours(found) - anywhere) / max(close - anywhere, 1e-9), 0, 1)
    here = near_others(4 * number)
    rounded = np.rint(here).astype(int)
    inside = ((rounded >= 0) & (rounded < mask.shape)).all(axis=1)
    here = here[inside][mask[tuple(rounded[inside].T)]][: rng.binomial(number, share)]
    rest = free[rng.integers(0, len(free), number - len(here))]
    return np.concatenate([here, rest + rng.uniform(-0.5, 0.5, rest.shape)])
