"""Maximum-likelihood shares of a mixture with known components.

References
----------
.. [1] R. Varadhan and C. Roland, "Simple and globally convergent methods for accelerating the
   convergence of any EM algorithm", Scand. J. Stat. 35, 335-353 (2008).
"""

from __future__ import annotations

import numpy as np


def mixture_shares(
    likelihood: np.ndarray,
    weight: np.ndarray,
    tolerance: float = 1e-9,
    max_cycles: int = 2000,
) -> np.ndarray:
    """Shares q that maximise Σ_i w_i log Σ_k q_k L_ik, by accelerated expectation-maximisation.

    The problem is concave. A step of expectation-maximisation multiplies q_k by its gradient,
    whose largest component exceeds 1 by at least as much as the mean log-likelihood can still
    gain: that is what ``tolerance`` bounds. Steps are extrapolated by SQUAREM [1]_.

    Parameters
    ----------
    likelihood : ndarray of shape (B, N, C)
        Of each of B problems, of each observation, under each class; up to a factor per
        observation.
    weight : ndarray of shape (B, N)
        How often each was observed.
    tolerance : float
        Of the mean log-likelihood.
    max_cycles : int
        Of two steps each.

    Returns
    -------
    ndarray
        (B, C); equal shares where nothing was observed.
    """
    n_problems, _, n_classes = likelihood.shape
    total = weight.sum(axis=1, keepdims=True)
    q = np.full((n_problems, n_classes), 1 / n_classes)
    active = np.flatnonzero(total[:, 0] > 0)
    weight = weight[active] / total[active]
    transposed = np.ascontiguousarray(likelihood[active].swapaxes(1, 2))
    for _ in range(max_cycles):
        start = q[active]
        gradient = _gradient(transposed, weight, start)
        unfinished = gradient.max(axis=1, initial=0) > 1 + tolerance
        if not unfinished.any():
            break
        one = start * gradient
        two = one * _gradient(transposed, weight, one)
        q[active] = _extrapolate(start, one, two)
        if unfinished.mean() < 0.5:  # copying costs as much as a step
            active = active[unfinished]
            transposed, weight = transposed[unfinished], weight[unfinished]
    return q


def _gradient(transposed: np.ndarray, weight: np.ndarray, q: np.ndarray) -> np.ndarray:
    """(B, C) derivative of the mean log-likelihood, from (B, C, N) likelihoods."""
    mixed = (q[:, None, :] @ transposed)[:, 0, :]
    return (transposed @ (weight / mixed)[..., None])[..., 0]


def _extrapolate(start: np.ndarray, one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Extrapolation of two steps; shares stay positive, or they could never grow again."""
    first = one - start
    change = two - one - first
    length = np.linalg.norm(first, axis=1, keepdims=True)
    bend = np.linalg.norm(change, axis=1, keepdims=True)
    far = np.maximum(1.0, np.divide(length, bend, out=np.ones_like(bend), where=bend > 0))
    leap = np.maximum(start + 2 * far * first + far**2 * change, 0.01 * two)
    return leap / leap.sum(axis=1, keepdims=True)
