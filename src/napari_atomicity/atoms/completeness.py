"""How many atoms like those that were found would be found: atoms are put into the image itself.

A density counts what a person would mark. Atoms that don't stand out of the texture of the support
are in no candidate, and no probability speaks of them: where many are faint the density is a lower
bound. How faint is too faint depends on this image, so it is measured in it [1]_: spots of the
width of the found atoms and of many heights are added where none is, and it is looked for atoms
again. That gives the height at which half of them are found.

The share that is found needs the heights of all atoms, and only those of the found ones are known.
They are taken to be log-normal with a scatter of 35 %, as single atoms of one element have within
an image (`SCATTER`); their mean is the one with which the added spots that are found have, on
average, the heights that the found atoms have. The interval is that of scatters of 25 and 45 %.

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

SCATTER = (0.35, 0.25, 0.45)
"""Standard deviation of the logarithm of the height of atoms: usual, least, largest."""
HEIGHTS = (0.1, 2.5)
"""Of added atoms, relative to the median of the found ones, from and to."""
LEAST_ATOMS = 8
"""With fewer nothing is known of their heights."""
LOWER_BOUND = 2 / 3
"""Where less than this share is found, the density is called a lower bound."""
ESTIMATE, BOUND = "estimate", "lower bound"
"""What the density is said to be."""
COLUMNS = ("completeness", "completeness_low", "completeness_high", "half_found_height",
           "density_is")  # fmt: skip
"""Of ``dispersion.csv``."""
_APART_NM, _CLEAR_NM, _JITTER_NM = 0.9, 0.35, 0.15
_SAME_NM = 0.15
_CROP_PX = 1024
_MEANS = 120


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
    points = _free_places(mask, doubtful[["y_px", "x_px"]].to_numpy(float), size, rng)
    if not len(points):
        return None
    usual = float(table["amplitude"].median())
    relative = np.exp(rng.uniform(np.log(HEIGHTS[0]), np.log(HEIGHTS[1]), len(points)))
    sigma_px = float(table["sigma_nm"].median()) / size
    image = with_spots(image, points, usual * relative, sigma_px)
    again = find_atoms(
        replace(analysis.micrograph, data=image),
        model,
        threshold=analysis.threshold,
        progress=progress,
        stop=stop,
    ).table
    met = match_nearest(points * size, again[["y_nm", "x_nm"]].to_numpy(float), _SAME_NM)
    found = met >= 0
    seen = np.full(len(points), np.nan)
    seen[found] = again["amplitude"].to_numpy(float)[met[found]] / usual
    weight = table["confidence"].to_numpy(float)
    mean = float(np.average(np.log(table["amplitude"] / usual), weights=weight))
    share, *others = (_share_found(np.log(relative), found, seen, mean, s) for s in SCATTER)
    return Completeness(
        share, min(share, *others), max(share, *others), _half_found(relative, found), len(points)
    )


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
    height: np.ndarray, found: np.ndarray, seen: np.ndarray, mean: float, scatter: float
) -> float:
    """Share of atoms with log-normal heights that is found.

    ``height`` (N,) is the logarithm of those of the added ones, ``seen`` what was measured of the
    ones that were ``found``, and ``mean`` the mean logarithm of those in the image.
    """
    measured = found & (seen > 0)
    if not measured.any():
        return 0.0
    centres = np.linspace(height.min(), height.max(), _MEANS)
    weight = np.exp(-((height - centres[:, None]) ** 2) / (2 * scatter**2))
    of_found = weight[:, measured]
    expected = (of_found @ np.log(seen[measured])) / np.maximum(of_found.sum(1), 1e-300)
    best = weight[np.abs(expected - mean).argmin()]
    return float(best[found].sum() / best.sum())


def _half_found(relative: np.ndarray, found: np.ndarray) -> float:
    if found.all() or not found.any():
        return float("nan")
    curve = operating.fit_calibration(4 * np.log(relative), found)
    return float(np.exp(-curve.offset / curve.slope / 4)) if curve.slope > 0 else float("nan")
