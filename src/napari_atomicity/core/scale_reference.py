"""Intensities and diameters of the classes, relative to the intensity of one atom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import AtomicityError
from .from_dict import Logarithm, Scatter

Covariance = tuple[tuple[float, float], tuple[float, float]]

MIN_OF_CLASS = 3
"""Minimum number of clusters per class."""
TIE_OF_SCATTER = 10.0
"""Weight, in clusters, of the pooled covariance in the covariance of a class."""


@dataclass(frozen=True)
class ScaleReference:
    """Distributions of intensity and diameter of the classes."""

    # log_intensity, log_diameter: mean per class of the logarithms of intensity in atoms and
    # diameter in nm
    log_intensity: tuple[Logarithm, ...]
    log_diameter: tuple[Logarithm, ...]
    # (n_classes, 2, 2): covariance of (log intensity, log diameter) per class
    covariance: tuple[Covariance, ...]
    # standard deviation of the common error of log diameter in an image
    diameter_scatter: Scatter = 0.04

    def check(self) -> None:
        """Check means and covariances; raise `ValueError` if they are not valid."""
        check_classes(self.log_intensity, self.log_diameter, self.covariance)

    @classmethod
    def fit(
        cls, intensity_atoms: np.ndarray, diameter_nm: np.ndarray, label: np.ndarray,
        classes: Sequence[str], diameter_scatter: float = 0.04,
    ) -> ScaleReference:  # fmt: skip
        """Fit the reference to clusters of known class.

        Parameters
        ----------
        intensity_atoms : ndarray of shape (n_clusters,)
            Integrated intensity divided by the intensity of one atom.
        diameter_nm : ndarray of shape (n_clusters,)
            Diameters in nm.
        label : ndarray of str, shape (n_clusters,)
            Classes of the clusters.
        diameter_scatter : float
            Standard deviation of the common error of log diameter in an image.

        Raises
        ------
        AtomicityError
            If a class has too few clusters.
        """
        good = (intensity_atoms > 0) & (diameter_nm > 0)
        means, members = [], []
        for name in classes:
            own = good & (label == name)
            if own.sum() < MIN_OF_CLASS:
                raise AtomicityError(
                    f"{name} has {own.sum()} isolated clusters, {MIN_OF_CLASS} are needed",
                    advice="Take more images, or label more clusters",
                )
            x = np.log(np.stack([intensity_atoms[own], diameter_nm[own]]))
            middle = np.median(x, axis=1)
            # Robust: the mixture describes outliers by a separate component.
            inlier = (
                np.abs(x - middle[:, None]) < 4 * np.maximum(x.std(axis=1), 0.05)[:, None]
            ).all(0)
            means.append(x[:, inlier].mean(axis=1))
            members.append(x[:, inlier])
        m, covariances = np.array(means), tied_covariances(members)
        return cls(
            tuple(map(float, m[:, 0])),
            tuple(map(float, m[:, 1])),
            tuple(tuple(tuple(map(float, row)) for row in c) for c in covariances),  # type: ignore[misc]
            diameter_scatter,
        )


def check_classes(
    log_intensity: Sequence[float], log_size: Sequence[float], covariance: Sequence[Covariance]
) -> None:
    """Check the distributions of classes.

    Raises `ValueError` if they are not of the same number of classes, or a covariance is not
    positive definite.
    """
    if not len(log_intensity) == len(log_size) == len(covariance) > 0:
        raise ValueError("means and covariances are of different numbers of classes")
    matrices = np.array(covariance)
    transposed = matrices.transpose(0, 2, 1)
    # Sums of products in another order differ in the last digit.
    symmetric = np.allclose(matrices, transposed, rtol=1e-9, atol=1e-12)
    if not symmetric or np.linalg.eigvalsh(matrices).min() <= 0:
        raise ValueError("a covariance is not symmetric and positive definite")


def tied_covariances(
    # each (2, n_clusters): measurements of the clusters of each class
    members: Sequence[np.ndarray],
) -> np.ndarray:  # (n_classes, 2, 2): covariances
    """Compute the covariance of each class, tied to the pooled one.

    Few clusters determine the mean of a class better than its scatter.
    """
    n = np.array([x.shape[1] for x in members], float)[:, None, None]
    covariances = np.array([np.cov(x) + np.diag([1e-4, 1e-4]) for x in members])
    pooled = (n * covariances).sum(axis=0) / n.sum()
    return np.asarray((n * covariances + TIE_OF_SCATTER * pooled) / (n + TIE_OF_SCATTER))
