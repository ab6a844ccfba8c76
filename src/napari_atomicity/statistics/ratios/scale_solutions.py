"""Errors of fractions that the clusters of an image share because their scale may be wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

N_DRAWS = 200
"""Number of draws of the solutions of an image."""


@dataclass(frozen=True)
class ScaleSolutions:
    """Possible intensity scales of an image, and the shares of the classes with each of them."""

    # probabilities of the solutions, the best one first: that of the labels
    weights: tuple[float, ...]
    shares: tuple[tuple[float, ...], ...]
    # index of the solution in each of the joint draws of a session; () for an image by itself
    draws: tuple[int, ...] = ()

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> ScaleSolutions | None:
        """Build from the parameters of an analysis; None if its scale has one solution."""
        found = parameters.get("scale_solutions")
        if not found:
            return None
        weights, shares = tuple(found["weights"]), tuple(map(tuple, found["shares"]))
        draws = tuple(map(int, parameters.get("session", {}).get("draws", "")))
        in_range = len(draws) == N_DRAWS and max(draws) < len(weights)
        return cls(weights, shares, draws if in_range else ())

    def shifts(self, seed: int) -> np.ndarray:  # (N_DRAWS, n_classes)
        """Return the differences of the shares from those of the best solution, in each draw."""
        draws = np.array(self.draws, int)
        if not len(draws):
            ends = np.cumsum(self.weights) / np.sum(self.weights)
            steps = (np.random.default_rng(seed).permutation(N_DRAWS) + 0.5) / N_DRAWS
            draws = np.minimum(np.searchsorted(ends, steps), len(self.weights) - 1)
        shares = np.array(self.shares)
        return np.asarray((shares - shares[0])[draws])

    def moments(self) -> tuple[np.ndarray, np.ndarray]:  # mean, variance: (n_classes,)
        """Return the mean difference from the best solution and the variance of the shares."""
        weights, shares = np.array(self.weights) / np.sum(self.weights), np.array(self.shares)
        mean = weights @ shares
        return mean - shares[0], weights @ (shares - mean) ** 2
