"""Orders of clusters by their positions in the map of the embedding."""

from __future__ import annotations

import numpy as np

_BITS = 10


def distance_to_selection(places: np.ndarray, selected: np.ndarray) -> np.ndarray:
    """Compute the distance of each cluster in the map from the mean of the selected clusters.

    Parameters
    ----------
    places : ndarray of shape (n_clusters, 2)
        Positions in the map; NaN for clusters without a position.
    selected : ndarray of bool, shape (n_clusters,)
        The selected clusters.

    Returns
    -------
    ndarray of shape (n_clusters,)
        Distances in units of the map; all NaN if no selected cluster has a position.
    """
    there = selected & np.isfinite(places).all(axis=1)
    if not there.any():
        return np.full(len(places), np.nan)
    return np.linalg.norm(places - places[there].mean(axis=0), axis=1)


def hilbert_index(places: np.ndarray) -> np.ndarray:
    """Compute the index of each cluster along a Hilbert curve through the map.

    The Hilbert curve [1]_ keeps neighbourhoods together, and clusters with similar indices are
    similar.

    Parameters
    ----------
    places : ndarray of shape (n_clusters, 2)
        Positions in the map; NaN for clusters without a position.

    Returns
    -------
    ndarray of shape (n_clusters,)
        Integers below 4¹⁰ as float; NaN for clusters without a position.

    References
    ----------
    .. [1] D. Hilbert, "Über die stetige Abbildung einer Linie auf ein Flächenstück",
       Mathematische Annalen 38, 459-460 (1891).
    """
    out = np.full(len(places), np.nan)
    there = np.isfinite(places).all(axis=1)
    if not there.any():
        return out
    low = places[there].min(axis=0)
    # The same scale along both axes preserves distances in the map.
    extent = max(float(np.ptp(places[there], axis=0).max()), 1e-12)
    cells = ((places[there] - low) / extent * (2**_BITS - 1)).round().astype(np.int64)
    x, y = cells[:, 0], cells[:, 1]
    along = np.zeros(len(x), np.int64)
    for bit in range(_BITS - 1, -1, -1):
        side = 1 << bit
        right, up = (x & side) > 0, (y & side) > 0
        along += side * side * ((3 * right) ^ up)
        # Rotate the quadrant so that the curve continues in it.
        flip = ~up & right
        x, y = (
            np.where(flip, side - 1 - (x & (side - 1)), x),
            np.where(flip, side - 1 - (y & (side - 1)), y),
        )
        x, y = np.where(up, x, y), np.where(up, y, x)
    out[there] = along
    return out
