"""Two-level bootstrap of images and, within them, clusters."""

from __future__ import annotations

import numpy as np


def bootstrap_fractions(
    counts: np.ndarray, n_bootstrap: int, rng: np.random.Generator
) -> np.ndarray:
    """Pooled class fractions of resampled images and, within them, resampled clusters.

    Parameters
    ----------
    counts : ndarray of shape (images, classes)
        Numbers of clusters, at least one in all.
    n_bootstrap : int
        Number of resamples B.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray
        (B, classes); each row sums to 1.
    """
    drawn = resample_counts(counts, n_bootstrap, rng)
    return drawn / drawn.sum(axis=1, keepdims=True)


def resample_counts(counts: np.ndarray, n_bootstrap: int, rng: np.random.Generator) -> np.ndarray:
    """(B, classes) numbers, times the number of images, in resampled images and clusters."""
    counts = counts[counts.sum(axis=1) > 0]
    # The draws must not depend on the order in which the images came.
    counts = counts[np.lexsort(counts.T[::-1])]
    n_images, n_classes = counts.shape
    copies = rng.multinomial(n_images, np.full(n_images, 1 / n_images), size=n_bootstrap)
    drawn = np.zeros((n_bootstrap, n_classes))
    for of_image, times in zip(counts, copies.T, strict=True):
        n = of_image.sum()
        drawn += rng.multinomial(times * n * n_images, of_image / n)
    return drawn


def resample_weights(image: np.ndarray, n_bootstrap: int, rng: np.random.Generator) -> np.ndarray:
    """(B, N) how often each cluster is drawn, times the number of images; as `resample_counts`.

    Parameters
    ----------
    image : ndarray of shape (N,)
        Number of each cluster's image, from 0, in ascending order.
    n_bootstrap : int
        Number of resamples B.
    rng : numpy.random.Generator
        Source of randomness.
    """
    sizes = np.bincount(image)
    n_images = len(sizes)
    copies = rng.multinomial(n_images, np.full(n_images, 1 / n_images), size=n_bootstrap)
    return np.concatenate(
        [
            rng.multinomial(times * n * n_images, np.full(n, 1 / n)).astype(float)
            for n, times in zip(sizes, copies.T, strict=True)
        ],
        axis=1,
    )
