"""Samples of point processes on a support: random, clustered and inhibited positions."""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

from ..core.errors import AtomicityError
from ..statistics.windows import ObservationWindow


def random_points(
    window: ObservationWindow, per_nm2: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw a Poisson process on a support.

    Parameters
    ----------
    per_nm2 : float
        Density in nm⁻².

    Returns
    -------
    ndarray of shape (N, 2)
        Positions (y, x) in nm.
    """
    return window.random(rng.poisson(per_nm2 * window.area_nm2), rng)


def clustered_points(
    window: ObservationWindow,
    per_nm2: float,
    parents_per_nm2: float,
    spread_nm: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw a Thomas process: a Poisson number of offspring, normally distributed about each parent.

    Parents beyond the support have offspring on it as for any other parent.

    Parameters
    ----------
    per_nm2, parents_per_nm2 : float
        Density of offspring and of parents in nm⁻².
    spread_nm : float
        Standard deviation of offspring along an axis.

    Returns
    -------
    ndarray of shape (N, 2)
        Positions (y, x) in nm.
    """
    parents = poisson_points(window, parents_per_nm2, 5 * spread_nm, rng)
    times = rng.poisson(per_nm2 / parents_per_nm2, len(parents))
    points = np.repeat(parents, times, axis=0)
    points = points + rng.normal(0, spread_nm, points.shape)
    return points[window.contains(points)]


def inhibited_points(
    window: ObservationWindow, per_nm2: float, apart_nm: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw Matérn's second process: of two random points too near, only the older one remains.

    Parameters
    ----------
    per_nm2 : float
        Density in nm⁻².
    apart_nm : float
        Smallest distance of two points.

    Returns
    -------
    ndarray of shape (N, 2)
        Positions (y, x) in nm.

    Raises
    ------
    AtomicityError
        If the density exceeds one point per disc of this radius.
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
    """Draw Poisson points on the rectangle around a support, with a margin.

    Parameters
    ----------
    per_nm2 : float
        Density in nm⁻².

    Returns
    -------
    ndarray of shape (N, 2)
        Positions (y, x) in nm.
    """
    low_y, high_y, low_x, high_x = window.bounds_nm
    low = np.array([low_y, low_x]) - margin_nm
    side = np.array([high_y, high_x]) + margin_nm - low
    return np.asarray(low + side * rng.random((rng.poisson(per_nm2 * side.prod()), 2)))
