"""Nearest-neighbour distances of a point pattern.

The distribution function G uses the estimator of Hanisch [1]_: a distance counts if it does not
exceed the distance of the point to the boundary of the support, because then no point beyond the
boundary can be nearer. Its weight is the reciprocal of the area of the support that is at least
that far from the boundary.

References
----------
.. [1] K.-H. Hanisch, "Some remarks on estimators of the distribution function of nearest neighbour
   distance in stationary spatial point processes", Statistics 15, 409-412 (1984); the estimator
   D4 in A. Baddeley, E. Rubak and R. Turner, "Spatial Point Patterns", CRC Press (2015), ch. 8.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

from .windows import ObservationWindow, check_points


def nearest_neighbours(points_nm: np.ndarray) -> np.ndarray:
    """Return the distance (N,) in nm of each point to its nearest neighbour.

    The distance of a single point is NaN.
    """
    points = check_points(points_nm)
    if len(points) < 2:
        return np.full(len(points), np.nan)
    return np.asarray(KDTree(points).query(points, k=2)[0][:, 1])


def hanisch_weights(
    points_nm: np.ndarray, distance_nm: np.ndarray, window: ObservationWindow
) -> np.ndarray:
    """Compute the weights of nearest-neighbour distances by Hanisch's estimator.

    Parameters
    ----------
    points_nm : ndarray of shape (N, 2)
        Points (y, x) on the support, in nm.
    distance_nm : ndarray of shape (N,)
        Nearest-neighbour distances in nm, from `nearest_neighbours`.

    Returns
    -------
    ndarray of shape (N,)
        Reciprocal of the area, in nm², that is at least that far from the boundary; 0 where the
        boundary is nearer than the neighbour.
    """
    distance = np.asarray(distance_nm, float)
    safe = np.isfinite(distance) & (distance <= window.boundary_nm(points_nm))
    area = window.eroded_area_nm2(np.where(safe, distance, 0))
    return np.asarray(np.where(safe & (area > 0), 1 / np.where(area > 0, area, 1), 0.0))


def cumulative_fraction(
    # distance, weight, each (N,): distances in nm, and their weights
    distance: np.ndarray,
    weight: np.ndarray,
    r_nm: np.ndarray,  # (R,): distances in nm at which the function is evaluated
) -> np.ndarray:  # (R,): values between 0 and 1; NaN if the weights sum to 0
    """Compute the weighted empirical distribution function of distances."""
    total = weight.sum()
    if total <= 0:
        return np.full(len(r_nm), np.nan)
    order = np.argsort(distance)
    summed = np.concatenate([[0.0], np.cumsum(weight[order])])
    return np.asarray(summed[np.searchsorted(distance[order], r_nm, side="right")] / total)
