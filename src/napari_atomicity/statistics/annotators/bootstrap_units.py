"""Units of the bootstrap of points: images, or parts of images if there are few.

Intervals of shares and of F1 are extended to Wilson's, as in `point_scores`: if all points are
matched, or none, every draw has the same share.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from ..intervals import percentile_interval, wilson_interval
from ..matching import f1_of, match

MIN_IMAGES = 5
"""Minimum number of images to draw; with fewer, tiles of them are drawn instead."""
_TILES = 4
_N_BOOTSTRAP = 500


class Units:
    """Bootstrap units, and how often each is drawn.

    Parameters
    ----------
    points : pandas.DataFrame
        Columns ``image, y_nm, x_nm``; their extent is divided into 4 × 4 tiles.

    Attributes
    ----------
    draws : ndarray of shape (B, n), int
        Number of times that each unit occurs in each draw.
    """

    def __init__(self, images: Iterable[str], points: pd.DataFrame, seed: int = 0) -> None:
        self.images = list(images)
        tiled = len(self.images) < MIN_IMAGES
        self.what = "tiles" if tiled else "images"
        self.per_image = _TILES**2 if tiled else 1
        self.n = len(self.images) * self.per_image
        self._number = {image: i for i, image in enumerate(self.images)}
        span = points.groupby("image")[["y_nm", "x_nm"]].agg(["min", "max"])
        self._span = {image: span.loc[image].to_numpy(float).reshape(2, 2) for image in span.index}
        rng = np.random.default_rng(seed)
        self.draws = rng.multinomial(self.n, np.full(self.n, 1 / max(self.n, 1)), _N_BOOTSTRAP)

    def of(
        self,
        image: str,
        points: np.ndarray,  # (N, 2): positions (y, x) in nm
    ) -> np.ndarray:  # (N,), int
        """Return the unit of each point of an image."""
        first = self._number[image] * self.per_image
        if self.per_image == 1 or not len(points):
            return np.full(len(points), first)
        low, high = self._span.get(image, np.array([[0.0, 1.0], [0.0, 1.0]])).T
        tile = (points - low) / np.maximum(high - low, 1e-9) * _TILES
        y, x = np.clip(tile.astype(int), 0, _TILES - 1).T
        return np.asarray(first + y * _TILES + x)

    def counts(
        self,
        a: pd.DataFrame,
        b: pd.DataFrame,
        images: Iterable[str],
        tolerance_nm: float,  # maximum distance of a pair
    ) -> np.ndarray:  # (n, 3): matched points, points of ``a``, points of ``b``
        """Count matched points, and all points, in each unit.

        A pair counts in the unit of its point of ``b``, also where a border is between its points.
        """
        out = np.zeros((self.n, 3))
        for image in images:
            p, q = (positions(table, image) for table in (a, b))
            pairs = match(p, q, tolerance_nm)
            unit_a, unit_b = self.of(image, p), self.of(image, q)
            unit_a[pairs.first] = unit_b[pairs.second]
            for i, unit in enumerate((unit_b[pairs.second], unit_a, unit_b)):
                out[:, i] += np.bincount(unit, minlength=self.n)
        return out

    def f1(self, counts: np.ndarray) -> dict[str, float]:
        """Return ``f1, f1_low, f1_high`` of counts."""
        matched, a, b = counts.sum(axis=0)
        jaccard = wilson_ends(matched, a + b - matched)
        ends = [2 * end / (1 + end) for end in jaccard]
        return with_ends("f1", f1_of(matched, a, b), self.drawn_f1(counts), ends)

    def drawn_f1(self, counts: np.ndarray) -> np.ndarray:
        """Return F1 (B,) of each draw; NaN for draws without points."""
        drawn = self.draws @ counts
        whole = drawn[:, 1] + drawn[:, 2]
        return np.divide(2 * drawn[:, 0], whole, out=np.full(len(whole), np.nan), where=whole > 0)

    def share(
        self,
        name: str,
        counts: np.ndarray,  # (n, 3): from `counts`
        of: int,  # 1 for the fraction of ``a``, 2 for that of ``b``
    ) -> dict[str, float]:
        """Compute matched points as a fraction of all points, with its interval."""
        matched, whole = counts[:, 0].sum(), counts[:, of].sum()
        drawn = self.draws @ counts
        there = drawn[:, of] > 0
        value = float(matched / whole) if whole else np.nan
        ends = wilson_ends(matched, whole)
        return with_ends(name, value, drawn[there, 0] / drawn[there, of], ends)


def wilson_ends(matched: float, whole: float) -> list[float]:
    """Return the ends of Wilson's interval of a fraction, such as 13 of 13; none of nothing."""
    return [float(end) for end in wilson_interval(matched / whole, whole)] if whole else []


def positions(table: pd.DataFrame, image: str) -> np.ndarray:
    """Return the positions (N, 2) in nm of one image."""
    return table.loc[table["image"] == image, ["y_nm", "x_nm"]].to_numpy(float)


def with_ends(
    name: str,
    value: float,
    drawn: np.ndarray,  # (B,): its values in bootstrap draws
    ends: Sequence[float] = (),  # of another interval, which the interval includes too
) -> dict[str, float]:
    """Return a figure and the ends of its 95 % interval, which includes the figure.

    The keys are ``name``, ``name_low`` and ``name_high``.
    """
    value, (low, high) = float(value), percentile_interval(drawn)
    return {
        name: value,
        f"{name}_low": float(np.min([low, value, *ends])),
        f"{name}_high": float(np.max([high, value, *ends])),
    }
