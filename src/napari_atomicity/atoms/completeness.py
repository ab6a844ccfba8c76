"""How many atoms like those that were found would be found: atoms are put into the image itself.

A density counts what a person would mark. Atoms that don't stand out of the texture of the support
are in no candidate, and no probability speaks of them: where many are faint the density is a lower
bound. How faint is too faint depends on this image, so it is measured in it [1]_: spots of the
width of the found atoms and of many heights are added where none is, and it is looked for atoms
again. That gives the height at which half of them are found.

The share that is found needs the heights of all atoms, and only those of the found ones are known.
They are taken to be log-normal with a scatter of 25 to 45 %, as single atoms of one element have
within an image (`SCATTERS`). Every mean and scatter says which heights the found ones have, for it
is known which of the added spots are found and what was measured of them; how well that agrees with
the heights in the image weighs them. Value and interval are mean and quantiles of the share over
these weights, which are tempered (`TEMPER`): added spots are no perfect atoms.

It is of lone atoms: those nearer to each other than the probe is wide are taken for one, and that
is not seen here.

References
----------
.. [1] P. B. Stetson, Publ. Astron. Soc. Pac. 99, 191 (1987): artificial stars.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from ..detection.background import without_gaps
from ..progress import Progress, Stop
from ..statistics.scores import match_nearest
from . import operating_point as operating
from .analysis import AtomAnalysis, find_atoms

if TYPE_CHECKING:
    from .finder import AtomModel

SCATTERS = (0.25, 0.3, 0.35, 0.4, 0.45)
"""Standard deviations of the logarithm of the height of atoms."""
TEMPER = 0.5
"""Weight of each atom of the image as evidence."""
HEIGHTS = (0.1, 2.5)
"""Of added atoms, relative to the median of the found ones, from and to."""
ENOUGH, MOST_ROUNDS = 200, 3
"""So many are added, in so many rounds at most: more at once would crowd the image."""
LEAST_ATOMS = 8
"""With fewer nothing is known of their heights."""
LOWER_BOUND = 2 / 3
"""Where less than this share is found, the density is called a lower bound."""
ESTIMATE, BOUND = "estimate", "lower bound"
"""What the density is said to be."""
COLUMNS = ("completeness", "completeness_low", "completeness_high", "half_found_height",
           "density_is")  # fmt: skip
"""Of ``dispersion.csv``."""
_APART_NM, _CLEAR_NM, _JITTER_NM = 1.5, 0.35, 0.3
_SAME_NM = 0.15
_CROP_PX = 1024
_MEANS, _BEYOND = 100, 0.5
_KERNEL = 0.15
_INTERVAL = 0.05, 0.95
_LEAST_DENSITY = 1e-3


@dataclass(frozen=True)
class Completeness:
    """What the threshold of an image leaves out.

    Parameters
    ----------
    share, low, high
        Of the lone atoms on the support, how many are found.
    half_found
        Height at which half of them are, relative to the median of the found ones; NaN where all
        or none were found.
    added
        How many atoms were put into the image.
    """

    share: float
    low: float
    high: float
    half_found: float
    added: int

    @property
    def is_low(self) -> bool:
        """Whether the density is a lower bound."""
        return self.share < LOWER_BOUND


def completeness(
    analysis: AtomAnalysis,
    model: AtomModel,
    seed: int = 0,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Completeness | None:
    """Put atoms into the image and look for them.

    Parameters
    ----------
    analysis
        Of the image; of a stack the first frame with any contrast is taken, of a large image the
        middle of its support.
    model
        That found its atoms.
    seed
        Of places and heights.
    progress, stop
        As of `find_atoms`.

    Returns
    -------
    Completeness or None
        None with fewer than `LEAST_ATOMS` atoms, or where no place is left for more.

    Raises
    ------
    Cancelled
        If ``stop()`` says so.
    """
    frame, image, mask, candidates = _part(analysis)
    table = candidates[candidates["confidence"] >= analysis.threshold]
    table = table[table["amplitude"] > 0]
    size = analysis.pixel_size_nm
    if frame is None or len(table) < LEAST_ATOMS:
        return None
    rng = np.random.default_rng(seed)
    doubtful = candidates[candidates["confidence"] >= analysis.threshold / 2]
    taken = doubtful[["y_px", "x_px"]].to_numpy(float)
    usual = float(table["amplitude"].median())
    sigma_px = float(table["sigma_nm"].median()) / size
    heights, measured = [np.empty(0)], [np.empty(0)]
    while len(heights) <= MOST_ROUNDS and sum(map(len, heights)) < ENOUGH:
        points = _free_places(mask, taken, size, rng)
        if not len(points):
            break
        height = np.exp(rng.uniform(np.log(HEIGHTS[0]), np.log(HEIGHTS[1]), len(points)))
        again = find_atoms(
            replace(analysis.micrograph, data=with_spots(image, points, usual * height, sigma_px)),
            model,
            threshold=analysis.threshold,
            progress=progress,
            stop=stop,
        ).table
        met = match_nearest(points * size, again[["y_nm", "x_nm"]].to_numpy(float), _SAME_NM)
        seen = np.full(len(points), np.nan)
        seen[met >= 0] = again["amplitude"].to_numpy(float)[met[met >= 0]] / usual
        heights.append(height)
        measured.append(seen)
    height, seen = np.concatenate(heights), np.concatenate(measured)
    if not len(height):
        return None
    share, low, high = _share_found(
        np.log(height), seen,
        np.log(table["amplitude"].to_numpy(float) / usual), table["confidence"].to_numpy(float),
    )  # fmt: skip
    return Completeness(share, low, high, _half_found(height, np.isfinite(seen)), len(height))


def with_completeness(
    rows: pd.DataFrame, found: dict[str, Completeness | None], everything: str
) -> pd.DataFrame:
    """Rows of ``dispersion.csv`` with `COLUMNS`; of all images the mean by area of support."""

    def joined(values: list[tuple[Any, ...]]) -> pd.DataFrame:
        columns = (list(column) for column in zip(*values, strict=True))
        return rows.assign(**dict(zip(COLUMNS, columns, strict=True)))

    nothing = (np.nan, np.nan, np.nan, np.nan, "")
    of_images = [found.get(image) for image in rows["image"]]
    values: list[tuple[Any, ...]] = [
        nothing if one is None else (one.share, one.low, one.high, one.half_found, _is(one.share))
        for one in of_images
    ]
    out = joined(values)
    known = out["completeness"].notna() & (out["image"] != everything)
    if known.any() and "support_nm2" in out:
        area = out.loc[known, "support_nm2"].to_numpy(float)
        means = [float(np.average(out.loc[known, n].to_numpy(float), weights=area))
                 for n in COLUMNS[:3]]  # fmt: skip
        values[-1] = (*means, np.nan, _is(means[0]))
        return joined(values)
    return out


def _is(share: float) -> str:
    return BOUND if share < LOWER_BOUND else ESTIMATE


def _part(
    analysis: AtomAnalysis,
) -> tuple[int | None, np.ndarray, np.ndarray, pd.DataFrame]:
    """Of one frame its number, pixels, support and candidates, at most `_CROP_PX` wide."""
    masks = analysis.support if analysis.support.ndim == 3 else analysis.support[None]
    for index, frame in enumerate(analysis.micrograph.frames()):
        if index in analysis.flat_frames or not masks[index].any():
            continue
        middle = np.argwhere(masks[index]).mean(0)
        start = [
            int(np.clip(m - _CROP_PX / 2, 0, max(0, n - _CROP_PX)))
            for m, n in zip(middle, frame.shape, strict=True)
        ]
        window = tuple(slice(s, s + _CROP_PX) for s in start)
        image, mask = without_gaps(frame[window]), masks[index][window]
        rows = analysis.candidates[analysis.candidates["frame"] == index].copy()
        rows[["y_px", "x_px"]] -= start
        inside = (rows[["y_px", "x_px"]] > -0.5).all(axis=1) & (
            rows[["y_px", "x_px"]] < np.array(image.shape) - 0.5
        ).all(axis=1)
        return index, image, mask, rows[inside]
    return None, masks[0], masks[0], analysis.candidates[:0]


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


def with_spots(
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


def _share_found(
    height: np.ndarray, seen: np.ndarray, own: np.ndarray, weight: np.ndarray
) -> tuple[float, float, float]:
    """Share of the atoms that is found, and its interval.

    Parameters
    ----------
    height
        (N,) logarithm of those of the added ones.
    seen
        (N,) what was measured of them; NaN: not found.
    own, weight
        (M,) logarithms of the heights of the found atoms of the image, and their probabilities.
    """
    found = np.isfinite(seen)
    measured = np.log(seen[found & (np.nan_to_num(seen) > 0)])
    if not len(measured):
        return 0.0, 0.0, 0.0
    kernel = np.exp(-((own[:, None] - measured) ** 2) / (2 * _KERNEL**2)) / _KERNEL
    means = np.linspace(height.min() - _BEYOND, height.max(), _MEANS)
    shares, evidence = [], []
    for scatter in SCATTERS:
        part = np.exp(-((height - means[:, None]) ** 2) / (2 * scatter**2))
        of_found = part[:, found & (np.nan_to_num(seen) > 0)]
        shares.append(part[:, found].sum(1) / part.sum(1))
        density = of_found @ kernel.T / np.maximum(of_found.sum(1, keepdims=True), 1e-300)
        evidence.append(TEMPER * np.log(density + _LEAST_DENSITY) @ weight)
    share, said = np.concatenate(shares), np.concatenate(evidence)
    belief = np.exp(said - said.max())
    belief /= belief.sum()
    order = np.argsort(share)
    low, high = np.interp(_INTERVAL, np.cumsum(belief[order]), share[order])
    return float(belief @ share), float(low), float(high)


def _half_found(relative: np.ndarray, found: np.ndarray) -> float:
    if found.all() or not found.any():
        return float("nan")
    curve = operating.fit_calibration(4 * np.log(relative), found)
    return float(np.exp(-curve.offset / curve.slope / 4)) if curve.slope > 0 else float("nan")
