"""Samples of point processes on a support: random, clustered and inhibited positions."""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

from ..core.errors import AtomicityError
from ..statistics.point_patterns import ObservationWindow


def random_points(
    window: ObservationWindow, per_nm2: float, rng: np.random.Generator
) -> np.ndarray:
    """(N, 2) of a Poisson process on the support."""
    return window.random(rng.poisson(per_nm2 * window.area_nm2), rng)


def clustered_points(
    window: ObservationWindow,
    per_nm2: float,
    parents_per_nm2: float,
    spread_nm: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """(N, 2) of Thomas' process: a Poisson number of offspring, normal around each parent.

    Parents beyond the support have offspring on it, too.
    """
    parents = poisson_points(window, parents_per_nm2, 5 * spread_nm, rng)
    times = rng.poisson(per_nm2 / parents_per_nm2, len(parents))
    points = np.repeat(parents, times, axis=0)
    points = points + rng.normal(0, spread_nm, points.shape)
    return points[window.contains(points)]


def inhibited_points(
    window: ObservationWindow, per_nm2: float, apart_nm: float, rng: np.random.Generator
) -> np.ndarray:
    """(N, 2) of Matérn's second process: of two random points too near, the older one stays.

    Raises
    ------
    AtomicityError
        If so many don't find room: at most one on a disc of this radius.
    """
    disc = np.pi * apart_nm**2
    if per_nm2 * disc >= 1:
        raise AtomicityError(
            f"{per_nm2:g} atoms on a nm² can't all be {apart_nm:g} nm apart",
            advice=f"With this process there is room for less than {1 / disc:.2g}",
        )
    points = poisson_points(window, -np.log(1 - per_nm2 * disc) / disc, apart_nm, rng)
    age = rng.random(len(points))
    pairs = KDTree(points).query_pairs(apart_nm, output_type="ndarray")
    one, other = pairs.T
    goes = np.where(age[one] < age[other], one, other)
    points = np.delete(points, np.unique(goes), axis=0)
    return points[window.contains(points)]


def poisson_points(
    window: ObservationWindow, per_nm2: float, margin_nm: float, rng: np.random.Generator
) -> np.ndarray:
    """Poisson points on the rectangle around the support and a margin."""
    low_y, high_y, low_x, high_x = window.bounds_nm
    low = np.array([low_y, low_x]) - margin_nm
    side = np.array([high_y, high_x]) + margin_nm - low
    return np.asarray(low + side * rng.random((rng.poisson(per_nm2 * side.prod()), 2)))
