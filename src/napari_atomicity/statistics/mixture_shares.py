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
    """Find the shares q that maximise Σ_i w_i log Σ_k q_k L_ik, by accelerated EM.

    The problem is concave. A step of expectation-maximisation multiplies q_k by its gradient. The
    largest component of the gradient exceeds 1 by at least the remaining gain of the mean
    log-likelihood, which ``tolerance`` bounds. Steps are extrapolated by SQUAREM [1]_.

    Parameters
    ----------
    likelihood : ndarray of shape (B, N, C)
        Likelihood of each observation under each class for B problems, up to a factor per
        observation.
    weight : ndarray of shape (B, N)
        Weight of each observation.
    tolerance : float
        Tolerance of the mean log-likelihood.
    max_cycles : int
        Maximum number of cycles of two steps.

    Returns
    -------
    ndarray of shape (B, C)
        Shares; equal for problems without observations.
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
        if unfinished.mean() < 0.5:  # copying takes as long as a step
            active = active[unfinished]
            transposed, weight = transposed[unfinished], weight[unfinished]
    return q


def _gradient(transposed: np.ndarray, weight: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return the derivative (B, C) of the mean log-likelihood, from likelihoods (B, C, N)."""
    mixed = (q[:, None, :] @ transposed)[:, 0, :]
    return (transposed @ (weight / mixed)[..., None])[..., 0]


def _extrapolate(start: np.ndarray, one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Extrapolate two steps; shares remain positive, because zeros could never grow again."""
    first = one - start
    change = two - one - first
    length = np.linalg.norm(first, axis=1, keepdims=True)
    bend = np.linalg.norm(change, axis=1, keepdims=True)
    far = np.maximum(1.0, np.divide(length, bend, out=np.ones_like(bend), where=bend > 0))
    leap = np.maximum(start + 2 * far * first + far**2 * change, 0.01 * two)
    return leap / leap.sum(axis=1, keepdims=True)
