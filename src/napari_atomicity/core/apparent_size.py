"""Apparent size: the number of atoms by features that do not depend on the intensity scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .from_dict import Fraction, Logarithm, Positive, Scatter
from .scale_reference import Covariance, ScaleReference, check_classes

SIZE_PER_DIAMETER = 2.9
"""Change of the apparent size by features with ln(diameter) and ln(pixel size)."""


@dataclass(frozen=True)
class ApparentSize:
    """Distributions of intensity and apparent size of the classes.

    The apparent size of a cluster is an estimate of ln(number of atoms) from features that do not
    depend on the unit of the intensity: a linear function of the features of the channel with
    local contrast normalisation, and of the logarithm of the diameter. Without such features it is
    the logarithm of the diameter.
    """

    # log_intensity, log_size: mean per class of ln(intensity in atoms) and of the apparent size
    log_intensity: tuple[Logarithm, ...]
    log_size: tuple[Logarithm, ...]
    # (n_classes, 2, 2): covariance of both per class, within images
    covariance: tuple[Covariance, ...]
    scatter: Scatter  # standard deviation of the common error of the apparent sizes of a session
    # weights of the features of the network, and of the logarithm of the diameter if there is one
    # more; empty: the size is the logarithm of the diameter
    weights: tuple[float, ...] = ()
    offset: float = 0.0  # constant of the linear function
    # calibration of the intensities of lone atoms: mean and standard deviation of the difference
    # between ln scale of the clusters of an image and ln intensity of its lone atoms. None: lone
    # atoms do not contribute to the scale
    lone_atoms: tuple[float, Positive] | None = None
    # correlation of the apparent sizes of clusters of one class in an image, which share focus and
    # often few isomers
    correlation: Fraction = 0.0

    def check(self) -> None:
        """Check means and covariances; raise `ValueError` if they are not valid."""
        check_classes(self.log_intensity, self.log_size, self.covariance)

    @classmethod
    def from_diameters(cls, scale: ScaleReference) -> ApparentSize:
        """Return the reference of a model without suitable features, by diameters.

        All classes have the mean covariance: the widths of single classes, which few images tell
        badly, would decide which classes the clusters of one or two sizes are.
        """
        (uu, uv), (vu, vv) = np.mean(scale.covariance, axis=0).tolist()
        covariance = (((uu, uv), (vu, vv)),) * len(scale.log_intensity)
        return cls(scale.log_intensity, scale.log_diameter, covariance, scale.diameter_scatter)

    @property
    def size_per_diameter(self) -> float:
        """Change of the apparent size with ln(diameter) and ln(pixel size)."""
        return SIZE_PER_DIAMETER if self.weights else 1.0

    def independent_clusters(self, number: int) -> float:
        """Return the number of independent clusters whose sizes tell as much.

        It is n / (1 + (n - 1) `correlation`), the effective sample size of cluster sampling.
        """
        return number / (1 + (number - 1) * self.correlation) if number else 0.0

    def measure(self, embedding: np.ndarray, diameter_nm: np.ndarray) -> np.ndarray:
        """Compute the apparent sizes of clusters.

        Parameters
        ----------
        embedding : ndarray of shape (n_clusters, n_features)
            Features of the network.
        diameter_nm : ndarray of shape (n_clusters,)
            Diameters in nm.

        Returns
        -------
        ndarray of shape (n_clusters,)
            Apparent sizes; NaN where they cannot be measured.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            log_diameter = np.log(np.asarray(diameter_nm, float))
        if not self.weights:
            return np.where(np.isfinite(log_diameter), log_diameter, np.nan)
        features = np.column_stack([embedding.astype(float), log_diameter])
        size = features[:, : len(self.weights)] @ np.array(self.weights) + self.offset
        return np.where(np.isfinite(size), size, np.nan)
