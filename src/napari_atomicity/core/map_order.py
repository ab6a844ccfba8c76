"""Which clusters lie near each other in the embedding's map: orders for looking at them."""

from __future__ import annotations

import numpy as np

_BITS = 10


def distance_to_selection(places: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """How far each place of the map is from the mean of the chosen ones.

    Parameters
    ----------
    places
        (N, 2), in units of the map; NaN where a cluster has no place.
    chosen
        (N,) bool.

    Returns
    -------
    numpy.ndarray
        (N,); all NaN if none of the chosen has a place.
    """
    there = chosen & np.isfinite(places).all(axis=1)
    if not there.any():
        return np.full(len(places), np.nan)
    return np.linalg.norm(places - places[there].mean(axis=0), axis=1)


def hilbert_index(places: np.ndarray) -> np.ndarray:
    """Where each place of the map lies on a line that runs through all of it.

    The line is Hilbert's [1]_: it never jumps, and leaves a neighbourhood only when it has been
    through it, so what follows each other is alike.

    Parameters
    ----------
    places
        (N, 2), in units of the map; NaN where a cluster has no place.

    Returns
    -------
    numpy.ndarray
        (N,), whole numbers below 4¹⁰ as float; NaN where there is no place.

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
    # The same scale along both axes: distances in the map are what counts.
    extent = max(float(np.ptp(places[there], axis=0).max()), 1e-12)
    cells = ((places[there] - low) / extent * (2**_BITS - 1)).round().astype(np.int64)
    x, y = cells[:, 0], cells[:, 1]
    along = np.zeros(len(x), np.int64)
    for bit in range(_BITS - 1, -1, -1):
        side = 1 << bit
        right, up = (x & side) > 0, (y & side) > 0
        along += side * side * ((3 * right) ^ up)
        # Turn the quarter so that the line goes through it as through the whole.
        flip = ~up & right
        x, y = (
            np.where(flip, side - 1 - (x & (side - 1)), x),
            np.where(flip, side - 1 - (y & (side - 1)), y),
        )
        x, y = np.where(up, x, y), np.where(up, y, x)
    out[there] = along
    return out
