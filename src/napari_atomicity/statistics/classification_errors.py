"""Expected errors of the counted fractions due to wrong labels, from the class probabilities.

A scale that is wrong for an image shifts all of its labels. By the law of total variance, the error
of a fraction is the error within a solution of the scale, which is independent for each cluster
(`classification_error`), and the differences between the solutions (`shared_errors`), which the
clusters of an image share, and the images of a session in part.
"""

from __future__ import annotations

import numpy as np

from .prevalence import Evidence
from .scale_solutions import N_DRAWS


def classification_error(evidence: Evidence) -> np.ndarray:
    """Estimate the mean squared error (classes,) of the fractions due to classification errors.

    From the calibrated probabilities: the variance of labels drawn from them, and the squared
    difference between the fractions of the probabilities and of the labels, which includes
    systematic errors. Manual labels are certain; clusters without probabilities do not contribute.
    The part of `shared_errors` is subtracted from both.
    """
    n, known = len(evidence.label), evidence.known
    out = np.zeros(evidence.n_classes)
    rows = ~evidence.certain & np.isfinite(evidence.probabilities).all(axis=1)
    if not rows.any() or not len(known):
        return out
    p = evidence.probabilities[rows]
    labelled = evidence.label[rows, None] == known
    variance, difference = (p * (1 - p)).sum(axis=0), (p - labelled).sum(axis=0)
    if evidence.solutions:
        n_of_image = np.bincount(evidence.image[rows], minlength=max(evidence.solutions) + 1)
        for image, solutions in evidence.solutions.items():
            shift, spread = solutions.moments()
            difference = difference - n_of_image[image] * shift
            variance = variance - n_of_image[image] * spread
    out[known] = np.maximum(variance, 0) / n**2 + (difference / n) ** 2
    return out


def shared_errors(evidence: Evidence) -> np.ndarray:
    """Draw the errors of the fractions that come from the scales of the images.

    In each draw an image has one solution of its scale, and the fractions change by the difference
    of the shares of the classes in this solution from those in the best one. Clusters with a manual
    label do not change. The draws of the images of a session are joint.

    Parameters
    ----------
    evidence : Evidence
        Counted clusters of a scope, at least one.

    Returns
    -------
    ndarray of shape (N_DRAWS, classes)
    """
    total = np.zeros((N_DRAWS, evidence.n_classes))
    if evidence.solutions:
        uncertain = evidence.image[~evidence.certain]
        n_of_image = np.bincount(uncertain, minlength=max(evidence.solutions) + 1)
        for image, solutions in evidence.solutions.items():
            total[:, evidence.known] += n_of_image[image] * solutions.shifts(seed=image)
    return total / len(evidence.label)
