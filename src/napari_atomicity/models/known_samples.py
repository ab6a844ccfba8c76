"""Test of stated compositions of samples against the clusters of their images.

A statement that the sample of an image has the shares pi is compared with free shares, by the same
likelihood and in the context of the session: the log Bayes factor

    ln p(clusters of the session | shares pi) - ln p(clusters of the session | free shares),

where scales, common error of the apparent sizes and spread between images are integrated out, with
the statements about the other images as far as they are not contradicted themselves. An image of
one size by itself contradicts little: any class can be put on its only peak, and only its apparent
sizes speak. Several peaks contradict a statement of one size, and a session whose scale is known
contradicts another size.
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

MIN_LOG_BAYES_FACTOR = -3.0
"""Log Bayes factor below which a statement is contradicted; see ``docs/make_known_samples.py``."""
TOLERANCE = 0.03
"""Share of the clusters that may be of any size: a size-selected sample is not quite pure."""


def with_tolerance(shares: np.ndarray) -> np.ndarray:
    """Return the stated shares of the classes with a few clusters of any size."""
    return np.asarray((1 - TOLERANCE) * shares + TOLERANCE / len(shares))


def compare_statements(
    stated: np.ndarray,
    free: np.ndarray,
    context: np.ndarray,
    limit: float = MIN_LOG_BAYES_FACTOR,
) -> tuple[np.ndarray, np.ndarray]:
    """Compare stated compositions with free ones; the most contradicted one is dropped first.

    Otherwise one wrong statement would contradict the right ones.

    Parameters
    ----------
    stated, free : ndarray of shape (n_statements, ...)
        Log evidence of each image with the stated shares and with free ones, for all values of what
        the images of a session have in common.
    context : ndarray of shape (...)
        The same of all other images, with the prior.
    limit : float, optional
        Log Bayes factor below which a statement is contradicted.

    Returns
    -------
    log_bayes_factor : ndarray of shape (n_statements,)
        Of each statement, given those that are not contradicted.
    contradicted : ndarray of shape (n_statements,), bool
        Whether it is below the limit.
    """
    contradicted = np.zeros(len(stated), bool)
    axes = tuple(range(1, stated.ndim))
    while True:
        own = np.where(contradicted.reshape(-1, *[1] * context.ndim), free, stated)
        others = context + own.sum(axis=0) - own
        factor = logsumexp(others + stated, axis=axes) - logsumexp(others + free, axis=axes)
        left = np.where(contradicted, np.inf, factor)
        if not len(left) or left.min() >= limit:
            return factor, contradicted
        contradicted[left.argmin()] = True
