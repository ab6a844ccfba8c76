"""Joint draws of the solutions of the images of a session."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from ..statistics.scale_solutions import N_DRAWS


def draw_solutions(
    session: np.ndarray,
    kernels: Sequence[np.ndarray],
    likelihood: np.ndarray,
    grid: np.ndarray,
    modes: Sequence[np.ndarray],
) -> np.ndarray:
    """Draw the solutions of all images jointly from the posterior of their session.

    Each draw takes a common scale, spread and error of the apparent sizes, then the scale of each
    image given these. So the draws contain how far the errors of the images are the same.

    Parameters
    ----------
    session : ndarray of shape (n_spreads, n_scales, n_errors)
        Posterior of spread, common scale and common error.
    kernels : sequence of ndarray of shape (n_scales, n_scales)
        For each spread, the probability of the scale of an image (columns) given the common scale.
    likelihood : ndarray of shape (n_images, n_scales, n_errors)
        Likelihood of the images.
    grid : ndarray of shape (n_scales,)
        Values of ln scale.
    modes : sequence of ndarray of shape (n_modes,)
        ln scale of the solutions of each image.

    Returns
    -------
    ndarray of shape (n_images, N_DRAWS), int
        Index of the solution of each image in each draw.
    """
    posterior = np.ascontiguousarray(session, float)
    # the same for the same data, but independent in other sessions
    rng = np.random.default_rng(zlib.crc32(posterior.tobytes()))
    cumulative = np.cumsum(posterior.ravel())
    steps = (rng.permutation(N_DRAWS) + 0.5) / N_DRAWS * cumulative[-1]
    spread, scale, error = np.unravel_index(np.searchsorted(cumulative, steps), posterior.shape)
    prior = np.stack(kernels)[spread, scale]
    out = np.zeros((len(modes), N_DRAWS), int)
    for i, of_image in enumerate(modes):
        if len(of_image) < 2:
            continue
        nearest = np.abs(grid[:, None] - of_image).argmin(axis=1)
        weight = (prior * likelihood[i][:, error].T) @ np.eye(len(of_image))[nearest]
        below = np.cumsum(weight, axis=1)
        chosen = rng.random(N_DRAWS) * below[:, -1]
        out[i] = (below[:, :-1] <= chosen[:, None]).sum(axis=1)
    return out
