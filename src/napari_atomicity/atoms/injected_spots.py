"""Spots of an injection-recovery test: positions and heights of the injected atoms.

Isolated atoms are injected where there is no other atom, with a range of heights. Others are
injected among the atoms of the image, with as many neighbours and similar heights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from .finding.candidates import select_distant


# ---- gaussian spots in images
def add_gaussian_spots(
    image: np.ndarray,  # (Y, X)
    points: np.ndarray,  # (N, 2): positions (y, x) in pixels
    heights: np.ndarray,  # (N,): heights of the spots
    sigma_px: float,  # standard deviation of the spots
) -> np.ndarray:  # (Y, X), float32: the image with the spots
    """Add round Gaussian spots to an image."""
    out = np.array(image, np.float32)
    windows = spot_windows(out, points, int(4 * sigma_px) + 2)
    for (part, squared), height in zip(windows, heights, strict=True):
        part += height * np.exp(-squared / (2 * sigma_px**2))
    return out


def spot_windows(
    image: np.ndarray,  # (Y, X)
    points: np.ndarray,  # (N, 2): positions (y, x) in pixels
    reach: int,  # number of pixels on each side of a point
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the part of an image around each point, and the squared distances of its pixels."""
    for y, x in points:
        top, left = max(0, round(y) - reach), max(0, round(x) - reach)
        part = image[top : max(0, round(y) + reach + 1), left : max(0, round(x) + reach + 1)]
        dy = np.arange(top, top + part.shape[0])[:, None] - y
        dx = np.arange(left, left + part.shape[1])[None] - x
        yield part, dy**2 + dx**2


HEIGHTS = (0.1, 2.5)
"""Range of heights of isolated injected atoms, relative to the median of the detected ones."""
ROUNDS = 2
"""Number of images with injected atoms: isolated ones, and others among those of the image."""
TARGET_INJECTED, MAX_ROUNDS, MIN_INJECTED = 60, 12, 30
"""In a small field, further rounds inject isolated atoms: their target, the maximum number of
rounds, and the minimum number of atoms for a result."""
CROWD_SHARE, MAX_IN_CROWD = 0.5, 150
"""Number of atoms among the others: their share of the detected ones, and their maximum."""
CROWD_SCATTER = 0.35
"""Standard deviation of the logarithm of their heights, about the median of the found ones."""
MIN_ATOMS = 8
"""Minimum number of candidates of an image."""
_APART_NM, _CLEAR_NM = 1.0, 0.35
_TRIALS = 8.0
_NEIGHBOURS_NM = 0.25, 0.8
_AMONG_NM = 0.25


@dataclass(frozen=True, eq=False)
class Injection:
    """The spots of a round."""

    number: int
    # isolated, crowd: (N, 2): positions (y, x) in pixels of the isolated ones, and of those among
    # the other atoms
    isolated: np.ndarray
    # isolated_heights, crowd_heights: (N,): heights relative to the usual one
    isolated_heights: np.ndarray
    crowd: np.ndarray
    crowd_heights: np.ndarray

    @property
    def points(self) -> np.ndarray:
        """(N, 2) positions of all spots."""
        return np.concatenate([self.isolated, self.crowd])

    @property
    def heights(self) -> np.ndarray:
        """(N,) heights of all spots."""
        return np.concatenate([self.isolated_heights, self.crowd_heights])


def draw_injections(
    mask: np.ndarray,  # (Y, X), bool: support
    # found, taken, each (N, 2): positions (px) of the detected atoms, and of all that may be atoms
    found: np.ndarray,
    taken: np.ndarray,
    size: float,  # pixel size in nm
    rng: np.random.Generator,
) -> list[Injection]:
    """Draw the spots of all rounds; none if there is no room for `MIN_INJECTED` isolated atoms."""
    rounds: list[Injection] = []
    injected, crowd_size = 0, int(np.clip(CROWD_SHARE * len(found), MIN_ATOMS, MAX_IN_CROWD))
    while len(rounds) < ROUNDS or (injected < TARGET_INJECTED and len(rounds) < MAX_ROUNDS):
        in_crowd = crowd_size if len(rounds) < ROUNDS else 0
        crowd = _positions_among(mask, found, size, in_crowd, rng)
        isolated = _free_positions(mask, taken, crowd, size, rng)
        rounds.append(
            Injection(
                len(rounds),
                isolated,
                np.exp(rng.uniform(np.log(HEIGHTS[0]), np.log(HEIGHTS[1]), len(isolated))),
                crowd,
                np.exp(rng.normal(-(CROWD_SCATTER**2) / 2, CROWD_SCATTER, len(crowd))),
            )
        )
        injected += len(isolated)
    return rounds if injected >= MIN_INJECTED else []


def _free_positions(
    mask: np.ndarray, taken: np.ndarray, crowd: np.ndarray, pixel_size_nm: float,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """Return (N, 2) positions (px) on the support, away from each other and from other atoms.

    Positions are drawn one after the other, and kept if they are `_APART_NM` from the kept ones,
    `_CLEAR_NM` from the ``taken`` ones, and not among the neighbours of an atom of the ``crowd``.
    """
    trials = int(_TRIALS * mask.sum() * (pixel_size_nm / _APART_NM) ** 2) + 1
    points = _random_positions(mask, trials, rng)
    for others, distance_nm in ((taken, _CLEAR_NM), (crowd, _NEIGHBOURS_NM[1])):
        if len(others) and len(points):
            points = points[KDTree(others).query(points)[0] * pixel_size_nm > distance_nm]
    return points[select_distant(points, _APART_NM / pixel_size_nm)]


def _random_positions(mask: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Return (N, 2) random positions (px) on the support."""
    free = np.argwhere(mask)
    return free[rng.integers(0, len(free), number)] + rng.uniform(-0.5, 0.5, (number, 2))


def _positions_among(
    mask: np.ndarray, found: np.ndarray, pixel_size_nm: float, number: int,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """Return (N, 2) positions (px) on the support with as many neighbours as the detected atoms.

    A mixture of positions close to detected atoms and of uniform ones. Neighbours are counted from
    the resolution of two atoms to the size of groups (`_NEIGHBOURS_NM`).
    """
    inner, outer = (r / pixel_size_nm for r in _NEIGHBOURS_NM)
    tree = KDTree(found)

    def near_others(n: int) -> np.ndarray:
        points = found[rng.integers(0, len(found), n)]
        return np.asarray(points + rng.normal(0, _AMONG_NM / pixel_size_nm, points.shape))

    def neighbours(points: np.ndarray) -> float:
        within = tree.query_ball_point(points, outer, return_length=True)
        return float(np.mean(within - tree.query_ball_point(points, inner, return_length=True)))

    anywhere = len(found) / mask.sum() * np.pi * (outer**2 - inner**2)
    close = neighbours(near_others(2000))
    share = np.clip((neighbours(found) - anywhere) / max(close - anywhere, 1e-9), 0, 1)
    here = near_others(4 * number)
    rounded = np.rint(here).astype(int)
    inside = ((rounded >= 0) & (rounded < mask.shape)).all(axis=1)
    here = here[inside][mask[tuple(rounded[inside].T)]][: rng.binomial(number, share)]
    return np.concatenate([here, _random_positions(mask, number - len(here), rng)])
