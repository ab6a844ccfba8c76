"""Intensities and diameters of the classes, up to the scale of the intensity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .errors import AtomicityError

MIN_OF_CLASS = 3


TIE_OF_SCATTER = 10.0
"""Clusters by which the covariance of a class is tied to that of all."""


@dataclass(frozen=True)
class ScaleReference:
    """What the classes look like, up to the scale of the intensity.

    Parameters
    ----------
    log_intensity, log_diameter
        Mean per class of the logarithms of intensity in atoms and diameter in nm.
    covariance
        Per class, of (log intensity, log diameter): (C, 2, 2).
    diameter_scatter
        Standard deviation of an image's common error of log diameter.
    """

    log_intensity: tuple[float, ...]
    log_diameter: tuple[float, ...]
    covariance: tuple[tuple[tuple[float, float], tuple[float, float]], ...]
    diameter_scatter: float = 0.04

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ScaleReference:
        covariance = tuple(tuple(tuple(row) for row in c) for c in values["covariance"])
        return cls(
            tuple(values["log_intensity"]),
            tuple(values["log_diameter"]),
            covariance,  # type: ignore[arg-type]
            float(values["diameter_scatter"]),
        )

    @classmethod
    def fit(
        cls, intensity_atoms: np.ndarray, diameter_nm: np.ndarray, label: np.ndarray,
        classes: Sequence[str], diameter_scatter: float = 0.04,
    ) -> ScaleReference:  # fmt: skip
        """From clusters of known class whose intensity is known in atoms."""
        good = (intensity_atoms > 0) & (diameter_nm > 0)
        means, covariances, numbers = [], [], []
        for name in classes:
            own = good & (label == name)
            if own.sum() < MIN_OF_CLASS:
                raise AtomicityError(
                    f"{name} has {own.sum()} clusters that stand alone, and "
                    f"{MIN_OF_CLASS} are needed",
                    advice="Take more images, or label more clusters",
                )
            x = np.log(np.stack([intensity_atoms[own], diameter_nm[own]]))
            middle = np.median(x, axis=1)
            # robust: outlying measurements are the mixture's outlier component
            inlier = (
                np.abs(x - middle[:, None]) < 4 * np.maximum(x.std(axis=1), 0.05)[:, None]
            ).all(0)
            means.append(x[:, inlier].mean(axis=1))
            covariances.append(np.cov(x[:, inlier]) + np.diag([1e-4, 1e-4]))
            numbers.append(inlier.sum())
        m = np.array(means)
        # few clusters know their mean better than their scatter
        n = np.array(numbers, float)[:, None, None]
        pooled = (n * covariances).sum(axis=0) / n.sum()
        covariances = list((n * covariances + TIE_OF_SCATTER * pooled) / (n + TIE_OF_SCATTER))
        return cls(
            tuple(map(float, m[:, 0])),
            tuple(map(float, m[:, 1])),
            tuple(tuple(tuple(map(float, row)) for row in c) for c in covariances),  # type: ignore[misc]
            diameter_scatter,
        )
