"""Two-level bootstrap of images and, within them, clusters."""

from __future__ import annotations

import numpy as np


def bootstrap_fractions(
    counts: np.ndarray,  # (images, classes), int: numbers of clusters, at least one in total
    n_bootstrap: int,
    rng: np.random.Generator,
) -> np.ndarray:  # (B, classes): each row sums to 1
    """Compute pooled class fractions of resampled images and, within them, resampled clusters."""
    drawn = resample_counts(counts, n_bootstrap, rng)
    return drawn / drawn.sum(axis=1, keepdims=True)


def resample_counts(
    counts: np.ndarray,  # (images, classes), int: numbers of clusters
    n_bootstrap: int,
    rng: np.random.Generator,
) -> np.ndarray:  # (B, classes): numbers of clusters, multiplied by the number of images
    """Resample images and, within them, clusters."""
    return resample_groups(counts, np.zeros(len(counts), int), 1, n_bootstrap, rng)[:, 0]


def resample_groups(
    counts: np.ndarray, group: np.ndarray, n_groups: int, n_bootstrap: int, rng: np.random.Generator
) -> np.ndarray:
    """Resample images and, within them, clusters, and add up the images of each group.

    Parameters
    ----------
    counts : ndarray of shape (images, classes), int
        Numbers of clusters.
    group : ndarray of shape (images,), int
        Group of each image, from 0.

    Returns
    -------
    ndarray of shape (B, groups, classes)
        Numbers of clusters, multiplied by the number of images; 0 for a group without a drawn
        image.
    """
    filled = counts.sum(axis=1) > 0
    counts, group = counts[filled], group[filled]
    # The draws must not depend on the order of the images.
    order = np.lexsort((group, *counts.T[::-1]))
    n_images, n_classes = counts.shape
    copies = rng.multinomial(n_images, np.full(n_images, 1 / n_images), size=n_bootstrap)
    drawn = np.zeros((n_bootstrap, n_groups, n_classes))
    for i, times in zip(order, copies.T, strict=True):
        n = counts[i].sum()
        drawn[:, group[i]] += rng.multinomial(times * n * n_images, counts[i] / n)
    return drawn


def resample_weights(image: np.ndarray, n_bootstrap: int, rng: np.random.Generator) -> np.ndarray:
    """Resample images and, within them, clusters; see `resample_counts`.

    Parameters
    ----------
    image : ndarray of shape (N,), int
        Index of the image of each cluster, from 0, ascending.

    Returns
    -------
    ndarray of shape (B, N)
        Weight of each cluster, multiplied by the number of images.
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
