"""What a bootstrap of points draws: images, or with few of them, parts of images."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from .matching import f1_of, match

ENOUGH_IMAGES = 5
"""With fewer, tiles of them are drawn, which know nothing of how images differ."""
_TILES = 4
_N_BOOTSTRAP = 500
_LEVEL = 0.95


class Units:
    """Units to draw, and how often each is drawn.

    Parameters
    ----------
    images : iterable of str
        Names.
    points : pandas.DataFrame
        ``image, y_nm, x_nm``: their extent is what is divided into 4 × 4 tiles.
    seed : int
        Of the draws.

    Attributes
    ----------
    n
        Number of units.
    what
        "images" or "tiles".
    draws
        (B, n) how often each unit is in each draw.
    """

    def __init__(self, images: Iterable[str], points: pd.DataFrame, seed: int = 0) -> None:
        self.images = list(images)
        tiled = len(self.images) < ENOUGH_IMAGES
        self.what = "tiles" if tiled else "images"
        self.per_image = _TILES**2 if tiled else 1
        self.n = len(self.images) * self.per_image
        self._number = {image: i for i, image in enumerate(self.images)}
        span = points.groupby("image")[["y_nm", "x_nm"]].agg(["min", "max"])
        self._span = {image: span.loc[image].to_numpy(float).reshape(2, 2) for image in span.index}
        rng = np.random.default_rng(seed)
        self.draws = rng.multinomial(self.n, np.full(self.n, 1 / max(self.n, 1)), _N_BOOTSTRAP)

    def of(self, image: str, points: np.ndarray) -> np.ndarray:
        """The unit of each point (N, 2) of an image."""
        first = self._number[image] * self.per_image
        if self.per_image == 1 or not len(points):
            return np.full(len(points), first)
        low, high = self._span.get(image, np.array([[0.0, 1.0], [0.0, 1.0]])).T
        tile = (points - low) / np.maximum(high - low, 1e-9) * _TILES
        y, x = np.clip(tile.astype(int), 0, _TILES - 1).T
        return np.asarray(first + y * _TILES + x)

    def counts(
        self, a: pd.DataFrame, b: pd.DataFrame, images: Iterable[str], tolerance_nm: float
    ) -> np.ndarray:
        """(n, 3): points of each unit that are matched, those of ``a``, those of ``b``."""
        out = np.zeros((self.n, 3))
        for image in images:
            p, q = (positions(table, image) for table in (a, b))
            pairs = match(p, q, tolerance_nm)
            for i, points in enumerate((q[pairs.second], p, q)):
                out[:, i] += np.bincount(self.of(image, points), minlength=self.n)
        return out

    def f1(self, counts: np.ndarray) -> dict[str, float]:
        """``f1, f1_low, f1_high`` of counts."""
        return with_ends("f1", f1_of(*counts.sum(axis=0)), self.drawn_f1(counts))

    def drawn_f1(self, counts: np.ndarray) -> np.ndarray:
        """(B,); NaN where a draw has no points."""
        drawn = self.draws @ counts
        whole = drawn[:, 1] + drawn[:, 2]
        return np.divide(2 * drawn[:, 0], whole, out=np.full(len(whole), np.nan), where=whole > 0)

    def share(self, name: str, counts: np.ndarray, of: int) -> dict[str, float]:
        """Matched points as a share of those of ``a`` (1) or ``b`` (2)."""
        matched, whole = counts[:, 0].sum(), counts[:, of].sum()
        drawn = self.draws @ counts
        there = drawn[:, of] > 0
        value = float(matched / whole) if whole else np.nan
        return with_ends(name, value, drawn[there, 0] / drawn[there, of])


def positions(table: pd.DataFrame, image: str) -> np.ndarray:
    """(N, 2) in nm, of one image."""
    return table.loc[table["image"] == image, ["y_nm", "x_nm"]].to_numpy(float)


def with_ends(name: str, value: float, drawn: np.ndarray) -> dict[str, float]:
    """A figure under its name, and the ends of its 95 % interval, which has the figure in it."""
    value, (low, high) = float(value), percentiles(drawn)
    return {
        name: value,
        f"{name}_low": float(np.minimum(low, value)),
        f"{name}_high": float(np.maximum(high, value)),
    }


def percentiles(drawn: np.ndarray) -> tuple[float, float]:
    """Ends of the 95 % interval; NaN without draws."""
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return np.nan, np.nan
    tail = 50 * (1 - _LEVEL)
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return float(low), float(high)
