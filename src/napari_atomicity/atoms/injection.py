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

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.optimize import curve_fit
from scipy.spatial import KDTree
from scipy.special import logit

from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, report
from ..core.threads import parallel_results
from ..detection.background import without_gaps
from ..detection.outliers import repaired_frames
from ..statistics.scores import match_nearest
from .analysis import AtomAnalysis, detect_candidates
from .finding.localisation import SIGMA_NM, SIGMA_RANGE_NM
from .injected_spots import MIN_ATOMS, Injection, add_gaussian_spots, draw_injections

if TYPE_CHECKING:
    from .finding.finder import AtomModel


# ---- isolated atoms: the probability of each to be isolated, and the width of the mean one

ISOLATION_RADIUS_NM = 0.5
"""Minimum distance of an isolated atom to any other atom."""
PROFILE_NM = 0.35
"""Radius of the profile of the mean atom."""


def isolation_probability(
    # (N, 2): positions (y, x) in nm. Candidates with NaN positions count as isolated.
    positions_nm: np.ndarray,
    probability: np.ndarray,  # (N,): probability that each candidate is an atom
) -> np.ndarray:  # (N,): isolation probability, between 0 and 1
    """Compute the probability that each candidate atom is isolated.

    A candidate is isolated if no other candidate within `ISOLATION_RADIUS_NM` is an atom.
    """
    isolated = np.ones(len(probability))
    finite = np.flatnonzero(np.isfinite(positions_nm).all(axis=1))
    if len(finite) == 0:
        return isolated
    pairs = KDTree(positions_nm[finite]).query_pairs(ISOLATION_RADIUS_NM, output_type="ndarray")
    one, other = finite[pairs[:, 0]], finite[pairs[:, 1]]
    np.multiply.at(isolated, one, 1 - probability[other])
    np.multiply.at(isolated, other, 1 - probability[one])
    return isolated


def fit_atom_width(
    pixels: np.ndarray,  # (Y, X): image, finite
    pixel_size_nm: float,
    positions: np.ndarray,  # (N, 2): candidates (y, x) in pixels
    confidence: np.ndarray,  # (N,): probabilities that they are atoms
) -> float:
    """Fit the standard deviation (nm) of the mean isolated atom of a frame.

    The mean atom is used because the detected faint atoms are those that appear narrow.
    """
    positions = np.asarray(positions, float).reshape(-1, 2)
    p = np.nan_to_num(np.asarray(confidence, float), nan=1.0)
    return fit_mean_width(
        pixels, pixel_size_nm, positions, p * isolation_probability(positions * pixel_size_nm, p)
    )


def fit_mean_width(
    pixels: np.ndarray,  # (Y, X): image, finite
    pixel_size_nm: float,
    positions: np.ndarray,  # (N, 2): candidates (y, x) in pixels
    weight: np.ndarray,  # (N,): weight of each candidate in the mean
) -> float:  # standard deviation; `SIGMA_NM` where the fit fails
    """Fit a Gaussian to the mean atom and return its standard deviation in nm."""
    radius_nm, level, number = _mean_profile(pixels, pixel_size_nm, positions, weight)
    if len(level) < 4:
        return SIGMA_NM
    height = max(float(level[0] - level[-1]), np.finfo(np.float32).tiny)
    try:
        (_, _, sigma), _ = curve_fit(
            lambda r, a, b, s: a * np.exp(-(r**2) / (2 * s**2)) + b,
            radius_nm, level, (height, float(level[-1]), SIGMA_NM), 1 / np.sqrt(number),
            bounds=([0, -np.inf, SIGMA_RANGE_NM[0]], [np.inf, np.inf, SIGMA_RANGE_NM[1]]),
        )  # fmt: skip
    except (RuntimeError, ValueError):
        return SIGMA_NM
    return float(sigma)


def _mean_profile(
    pixels: np.ndarray, pixel_size_nm: float, positions: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return radius (nm), level and weight of rings around the mean of the likeliest atoms."""
    half = int(np.ceil(PROFILE_NM / pixel_size_nm))
    offset = np.arange(-half, half + 1)
    size = max(2, round(PROFILE_NM / max(pixel_size_nm, 0.025)))
    sums = np.zeros((3, size))
    for row in np.argsort(-weight)[:400]:
        centre = positions[row]
        corner = np.rint(centre).astype(int)
        if (corner < half).any() or (corner >= np.array(pixels.shape) - half).any():
            continue
        y, x = corner[0] + offset, corner[1] + offset
        radius = np.hypot((y - centre[0])[:, None], x - centre[1]) * pixel_size_nm
        inside = radius < PROFILE_NM
        ring = (radius[inside] * (size / PROFILE_NM)).astype(int)
        values = pixels[np.ix_(y, x)][inside].astype(float)
        for total, of in zip(sums, (radius[inside], values, np.ones(len(ring))), strict=True):
            total += weight[row] * np.bincount(ring, of, minlength=size)
    filled = sums[2] > 0
    radius_nm, level, number = sums[:, filled]
    return radius_nm / number, level / number, number


_SAME_NM = 0.15
_CROP_PX = 1024
_MIN_PROBABILITY = 1e-6


@dataclass(frozen=True, eq=False)
class InjectedAtoms:
    """Injected atoms of an image and their recovery."""

    usual: float  # median height of the detected atoms, in counts: all heights are relative to it
    sigma_nm: float  # standard deviation of the spots: that of the mean atom of the image
    # height, score, amplitude: (N,): true height, log-odds of the recovered probability, and
    # measured height of the isolated atoms; NaN where there was no candidate
    height: np.ndarray
    score: np.ndarray
    amplitude: np.ndarray
    crowd_height: np.ndarray  # (M,): heights of the atoms injected among the others
    crowd_gain: int  # number of additional detections for them
    area_nm2: float  # area of the support of the tested part of the image
    frames: int  # number of frames of the image; one of them is tested
    # scores, own: (C,): log-odds of all candidates of that part, and their heights
    scores: np.ndarray
    own: np.ndarray
    floor: float  # minimum log-odds of a candidate
    threshold: float  # minimum log-odds of a candidate counted for ``crowd_gain``

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
    clusters : ndarray of bool, shape (Y, X) or (T, Y, X), optional
        Clusters, whose atoms are not isolated. Default: the bright clusters of the analysis.
    seed : int, default 0
        Seed of positions and heights.

    Returns
    -------
    InjectedAtoms or None
        None with fewer than `MIN_ATOMS` candidates, or without room for `MIN_INJECTED` atoms.
    """
    field = _prepare_field(analysis, analysis.bright_clusters if clusters is None else clusters)
    if field is None:
        return None
    image, mask, candidates, found, usual = field
    size = analysis.pixel_size_nm
    positions = candidates[["y_px", "x_px"]].to_numpy(float)
    sigma_nm = fit_atom_width(image, size, positions, candidates["confidence"].to_numpy(float))
    doubtful = candidates[candidates["confidence"] >= analysis.threshold / 2]
    places, taken = (t[["y_px", "x_px"]].to_numpy(float) for t in (found, doubtful))
    rounds = draw_injections(mask, places, taken, size, np.random.default_rng(seed))
    if not rounds:
        return None
    recovery = _Recovery(image, mask, usual, sigma_nm, size, model, stop)
    score, amplitude, gain = _measure_rounds(
        recovery, rounds, candidates, analysis.threshold, progress
    )
    frames = len(analysis.support) if analysis.support.ndim == 3 else 1
    threshold = np.clip(analysis.threshold, _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
    return InjectedAtoms(
        usual=usual,
        sigma_nm=sigma_nm,
        height=np.concatenate([one.isolated_heights for one in rounds]),
        score=score,
        amplitude=amplitude,
        crowd_height=np.concatenate([one.crowd_heights for one in rounds]),
        crowd_gain=gain,
        area_nm2=float(mask.sum()) * size**2,
        frames=frames,
        scores=_log_odds(candidates),
        own=candidates["amplitude"].to_numpy(float) / usual,
        floor=float(logit(model.card.floor)),
        threshold=float(logit(threshold)),
    )


def _measure_rounds(
    recovery: _Recovery,
    rounds: Sequence[Injection],
    candidates: pd.DataFrame,
    threshold: float,
    progress: Progress | None,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return scores and heights of the isolated atoms, and the additional detections of others."""
    scores, amplitudes, gain = [], [], 0
    for one, table in zip(rounds, _recover_rounds(recovery, rounds, progress), strict=True):
        score, amplitude = _recover_isolated(one, table, recovery)
        scores.append(score)
        amplitudes.append(amplitude)
        after, before = (
            _count_nearby(t, one.crowd, threshold, recovery.size) for t in (table, candidates)
        )
        gain += after - before
    return np.concatenate(scores), np.concatenate(amplitudes), gain


def _recover_rounds(
    recovery: _Recovery, rounds: Sequence[Injection], progress: Progress | None
) -> Iterator[pd.DataFrame]:
    """Yield the candidates of each round; the rounds share the threads."""
    message = "Detecting injected atoms"
    report(progress, 0, len(rounds), message)
    with closing(
        parallel_results(recovery, rounds, recovery.model.device.type == "cpu")
    ) as results:
        for i, table in enumerate(results, 1):
            report(progress, i, len(rounds), message)
            yield table


def _prepare_field(
    analysis: AtomAnalysis, clusters: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, pd.DataFrame, pd.DataFrame, float] | None:
    """Return image, mask, candidates, detected atoms and their median height of one frame."""
    image, mask, candidates = _crop_frame(analysis, clusters)
    usable = candidates[candidates["amplitude"] > 0]
    if image is None or len(usable) < MIN_ATOMS:
        return None
    found, usual = _select_detected(usable, analysis.threshold)
    return image, mask, candidates, found, usual


def _select_detected(usable: pd.DataFrame, threshold: float) -> tuple[pd.DataFrame, float]:
    """Return the detected atoms of a table, at least `MIN_ATOMS`, and their median height."""
    found = usable[usable["confidence"] >= threshold]
    if len(found) < MIN_ATOMS:
        found = usable.nlargest(MIN_ATOMS, "confidence")
    return found, float(found["amplitude"].median())


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

    def __call__(self, injection: Injection) -> pd.DataFrame:
        """Detect candidates on the support after spots are injected.

        Each round uses other networks (`AtomModel.score_map`): three of nine give nearly the same
        scores in a third of the time.
        """
        image = add_gaussian_spots(
            self.image, injection.points, self.usual * injection.heights, self.sigma_nm / self.size
        )
        found = detect_candidates(
            Micrograph(image, self.size), self.model, injection.number, None, self.stop
        )
        return found[_is_on_mask(self.mask, found)]


def _recover_isolated(
    injection: Injection, found: pd.DataFrame, recovery: _Recovery
) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and measured heights of the isolated atoms of a round."""
    places = found[["y_nm", "x_nm"]].to_numpy(float)
    met = match_nearest(injection.isolated * recovery.size, places, _SAME_NM)
    detected = met >= 0
    score, amplitude = np.full(len(met), np.nan), np.full(len(met), np.nan)
    score[detected] = _log_odds(found)[met[detected]]
    amplitude[detected] = found["amplitude"].to_numpy(float)[met[detected]] / recovery.usual
    return score, amplitude


def _count_nearby(table: pd.DataFrame, crowd: np.ndarray, threshold: float, size: float) -> int:
    """Return the number of detected atoms close to the atoms injected among the others."""
    atoms = table.loc[table["confidence"] >= threshold, ["y_px", "x_px"]].to_numpy(float)
    if not len(atoms) or not len(crowd):
        return 0
    return int((KDTree(crowd).query(atoms)[0] * size < ISOLATION_RADIUS_NM).sum())


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
