"""Atoms that are put into an image, to see what becomes of them.

What a detector leaves out of an image depends on that image: on its noise, its texture, its focus.
So spots as wide as its own atoms and of many heights are added to it, and it is looked for atoms
again, the way artificial stars are in photometry [1]_. Twice: where none is near, which tells what
becomes of a lone atom of each height; and among the others, as close to them as they are to each
other, which tells what is lost because atoms are taken for one.

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
from ..statistics.scores import match_nearest
from .analysis import AtomAnalysis, find_atoms
from .isolation import fit_atom_width
from .localisation import SIGMA_NM
from .regions import make_cluster_mask

if TYPE_CHECKING:
    from .finder import AtomModel

HEIGHTS = (0.1, 2.5)
"""Of added lone atoms, relative to the median of the found ones, from and to."""
TARGET_INJECTED, MAX_ROUNDS = 200, 3
"""So many lone ones are added, in so many rounds at most: more at once would crowd the image."""
TARGET_INJECTED_SMALL_FIELD, MAX_ROUNDS_SMALL_FIELD, MIN_INJECTED = 60, 12, 30
"""In a small field rounds go on up to so many, and up to that number; with fewer at the end nothing
is said: they tell too little of the others."""
CROWD_ROUNDS, CROWD_SHARE, MAX_IN_CROWD = 2, 0.5, 150
"""Rounds with atoms among the others: as many as this share of the found ones, and no more."""
CROWD_SCATTER = 0.35
"""Standard deviation of the logarithm of their heights, about the median of the found ones."""
CLUSTER_ATOMS = 12.0
"""As bright as so many atoms is a cluster: clumps of lone atoms are less, as a rule."""
MIN_ATOMS = 8
"""With fewer candidates nothing is known of the atoms of an image."""
_APART_NM, _CLEAR_NM, _JITTER_NM = 1.5, 0.35, 0.3
_SAME_NM = 0.15
_NEIGHBOURS_NM = 0.25, 0.8
_AMONG_NM = 0.25
_CROP_PX = 1024
_MIN_PROBABILITY = 1e-6


@dataclass(frozen=True, eq=False)
class InjectedAtoms:
    """What became of the atoms that were put into an image.

    Parameters
    ----------
    usual
        Median height of the found atoms of the image, in counts: all heights are relative to it.
    sigma_nm
        Standard deviation of the spots: of the mean atom of the image.
    height, score, amplitude
        (N,) of the lone ones: true height, log-odds of the probability that they got, and height
        that was measured; NaN where no candidate was.
    crowd_height, crowd_gain
        (M,) heights of those among the others, and how many atoms more were found for them.
    area_nm2
        Of the support of the part of the image that was looked at.
    frames
        Of the image; one of them was looked at.
    scores, own
        (C,) log-odds of all candidates of that part, and their heights.
    floor
        Least log-odds of a candidate.
    threshold
        Log-odds from which on a candidate was counted for ``crowd_gain``.
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
        """Ready for JSON."""
        return {
            name: _jsonable(value) if isinstance(value, np.ndarray) else value
            for name, value in vars(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> InjectedAtoms:
        """What `to_dict` gave."""
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
    """Put atoms into an image and look for them.

    Parameters
    ----------
    analysis
        Of the image; of a stack the first frame with any contrast is taken, of a large image the
        middle of its support.
    model
        That found its atoms.
    clusters
        (Y, X) bool, or (T, Y, X) of a stack, where clusters are: atoms there are no lone ones. If
        None, they are looked for: what is as bright as `CLUSTER_ATOMS` atoms or more is one.
    seed
        Of places and heights.
    progress, stop
        As of `find_atoms`.

    Returns
    -------
    AddedAtoms or None
        None with fewer than `MIN_ATOMS` candidates, or where there is no room for `MIN_INJECTED` more.

    Raises
    ------
    Cancelled
        If ``stop()`` says so.
    """
    image, mask, candidates = _part(analysis, clusters)
    usable = candidates[candidates["amplitude"] > 0]
    if image is None or len(usable) < MIN_ATOMS:
        return None
    size = analysis.pixel_size_nm
    found, usual = _clearest(usable, analysis.threshold)
    if clusters is None:
        mask = mask & ~_bright_clusters(image, size, usual)
        candidates = candidates[_on(mask, candidates)]
        usable = candidates[candidates["amplitude"] > 0]
        if len(usable) < MIN_ATOMS:
            return None
        found, usual = _clearest(usable, analysis.threshold)
    everything = candidates[["y_px", "x_px"]].to_numpy(float)
    sigma_nm = fit_atom_width(image, size, everything, candidates["confidence"].to_numpy(float))
    looking = _Looking(image, mask, usual, sigma_nm, size, model, stop)
    rng = np.random.default_rng(seed)
    doubtful = candidates[candidates["confidence"] >= analysis.threshold / 2]
    lone = _lone(looking, doubtful[["y_px", "x_px"]].to_numpy(float), rng, progress)
    if lone is None:
        return None
    crowd_height, crowd_gain = _crowd(
        looking, found[["y_px", "x_px"]].to_numpy(float), analysis.threshold, candidates, rng,
        progress,
    )  # fmt: skip
    return InjectedAtoms(
        usual,
        sigma_nm,
        *lone,
        crowd_height,
        crowd_gain,
        float(mask.sum()) * size**2,
        len(analysis.support) if analysis.support.ndim == 3 else 1,
        _log_odds(candidates),
        candidates["amplitude"].to_numpy(float) / usual,
        float(logit(model.card.floor)),
        float(logit(np.clip(analysis.threshold, _MIN_PROBABILITY, 1 - _MIN_PROBABILITY))),
    )


def _clearest(usable: pd.DataFrame, threshold: float) -> tuple[pd.DataFrame, float]:
    """The atoms of a table that count, at least `MIN_ATOMS`, and their median height."""
    found = usable[usable["confidence"] >= threshold]
    if len(found) < MIN_ATOMS:
        found = usable.nlargest(MIN_ATOMS, "confidence")
    return found, float(found["amplitude"].median())


def _bright_clusters(image: np.ndarray, pixel_size_nm: float, usual: float) -> np.ndarray:
    """(Y, X) bool: where clusters are that are as bright as `CLUSTER_ATOMS` usual atoms."""
    found = detect(Micrograph(image, pixel_size_nm))
    atom = 2 * np.pi * SIGMA_NM**2 * usual
    rows = np.flatnonzero(found.table["integrated_intensity"] >= CLUSTER_ATOMS * atom)
    outlines = [found.outlines[i] for i in rows]
    return make_cluster_mask(found.table.iloc[rows], image.shape, pixel_size_nm, outlines)


@dataclass(frozen=True, eq=False)
class _Looking:
    """How an image with more atoms in it is looked at."""

    image: np.ndarray
    mask: np.ndarray
    usual: float
    sigma_nm: float
    size: float
    model: AtomModel
    stop: Stop | None

    def again(
        self, points: np.ndarray, height: np.ndarray, progress: Progress | None
    ) -> pd.DataFrame:
        """Candidates on the support, with spots of these heights at these points (px)."""
        image = add_gaussian_spots(
            self.image, points, self.usual * height, self.sigma_nm / self.size
        )
        found = find_atoms(
            Micrograph(image, self.size), self.model, progress=progress, stop=self.stop
        ).candidates
        return found[_on(self.mask, found)]


def _lone(
    looking: _Looking, taken: np.ndarray, rng: np.random.Generator, progress: Progress | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Heights, scores and measured heights of atoms far from others; None without room."""
    heights: list[np.ndarray] = []
    scores: list[np.ndarray] = []
    measured: list[np.ndarray] = []
    while True:
        done, added = len(heights), sum(map(len, heights))
        if added >= TARGET_INJECTED or done >= (
            MAX_ROUNDS if added >= TARGET_INJECTED_SMALL_FIELD else MAX_ROUNDS_SMALL_FIELD
        ):
            break
        points = _free_places(looking.mask, taken, looking.size, rng)
        if not len(points):
            break
        height = np.exp(rng.uniform(np.log(HEIGHTS[0]), np.log(HEIGHTS[1]), len(points)))
        found = looking.again(points, height, prefixed(progress, "With lone atoms added: "))
        places = found[["y_nm", "x_nm"]].to_numpy(float)
        met = match_nearest(points * looking.size, places, _SAME_NM)
        seen = met >= 0
        score, amplitude = np.full(len(points), np.nan), np.full(len(points), np.nan)
        score[seen] = _log_odds(found)[met[seen]]
        amplitude[seen] = found["amplitude"].to_numpy(float)[met[seen]] / looking.usual
        heights.append(height)
        scores.append(score)
        measured.append(amplitude)
    if sum(map(len, heights)) < MIN_INJECTED:
        return None
    return np.concatenate(heights), np.concatenate(scores), np.concatenate(measured)


def _crowd(
    looking: _Looking,
    found: np.ndarray,
    threshold: float,
    candidates: pd.DataFrame,
    rng: np.random.Generator,
    progress: Progress | None,
) -> tuple[np.ndarray, int]:
    """Heights of atoms that are added among the others, and how many more are found for them."""
    before = int((candidates["confidence"] >= threshold).sum())
    number = int(np.clip(CROWD_SHARE * len(found), MIN_ATOMS, MAX_IN_CROWD))
    heights, gain = [np.empty(0)], 0
    for _ in range(CROWD_ROUNDS):
        points = _places_among(looking.mask, found, looking.size, number, rng)
        height = np.exp(rng.normal(-(CROWD_SCATTER**2) / 2, CROWD_SCATTER, len(points)))
        again = looking.again(points, height, prefixed(progress, "With atoms added among them: "))
        gain += int((again["confidence"] >= threshold).sum()) - before
        heights.append(height)
    return np.concatenate(heights), gain


def _part(
    analysis: AtomAnalysis, clusters: np.ndarray | None
) -> tuple[np.ndarray | None, np.ndarray, pd.DataFrame]:
    """Of one frame its pixels, where lone atoms can be, and candidates; at most `_CROP_PX` wide."""
    masks = analysis.support if analysis.support.ndim == 3 else analysis.support[None]
    if clusters is not None:
        masks = masks & ~clusters
    for index, frame in enumerate(analysis.micrograph.frames()):
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
        return image, mask, rows[_on(mask, rows)]
    return None, masks[0], analysis.candidates[:0]


def _on(mask: np.ndarray, table: pd.DataFrame) -> np.ndarray:
    """(N,) bool: the atoms of a table that lie on the mask."""
    points = np.rint(table[["y_px", "x_px"]].to_numpy(float)).astype(int)
    inside = ((points >= 0) & (points < mask.shape)).all(axis=1)
    on = np.zeros(len(points), bool)
    on[inside] = mask[tuple(points[inside].T)]
    return on


def _log_odds(table: pd.DataFrame) -> np.ndarray:
    p = np.clip(table["confidence"].to_numpy(float), _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
    return np.asarray(logit(p))


def _free_places(
    mask: np.ndarray, taken: np.ndarray, pixel_size_nm: float, rng: np.random.Generator
) -> np.ndarray:
    """(N, 2) places (px) on the support, apart from each other and from what is there."""
    step, jitter = _APART_NM / pixel_size_nm, _JITTER_NM / pixel_size_nm
    axes = [np.arange(rng.uniform(0.3, 1) * step, n - 1, step) for n in mask.shape]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    points = points + rng.uniform(-jitter, jitter, points.shape)
    points = np.clip(points, 0, np.array(mask.shape) - 1)
    points = points[mask[tuple(points.round().astype(int).T)]]
    if len(points) and len(taken):
        points = points[KDTree(taken).query(points)[0] * pixel_size_nm > _CLEAR_NM]
    return points


def _places_among(
    mask: np.ndarray, found: np.ndarray, pixel_size_nm: float, number: int,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """(N, 2) places (px) on the support with about as many neighbours as the found atoms have.

    A mixture of places close to found atoms and of places anywhere. Neighbours are counted from
    where two atoms can be told apart to where clumps end (`_NEIGHBOURS_NM`).
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


def add_gaussian_spots(
    image: np.ndarray, points: np.ndarray, heights: np.ndarray, sigma_px: float
) -> np.ndarray:
    """The image (Y, X) and round Gaussian spots."""
    out = np.array(image, np.float32)
    reach = int(4 * sigma_px) + 2
    for (y, x), height in zip(points, heights, strict=True):
        top, left = max(0, round(y) - reach), max(0, round(x) - reach)
        part = out[top : round(y) + reach + 1, left : round(x) + reach + 1]
        dy = np.arange(top, top + part.shape[0])[:, None] - y
        dx = np.arange(left, left + part.shape[1])[None] - x
        part += height * np.exp(-(dy**2 + dx**2) / (2 * sigma_px**2))
    return out
