"""Species of metal from the intensities of single atoms: how many can be told apart, and which.

Heavy atoms scatter more into HAADF than light ones, about as Z^1.6 to Z^2, but those of one metal
scatter by a third about their mean as well. So the intensities are a mixture of as many components
as the Bayesian information criterion [1]_ calls for, between 1 and `MAX_COMPONENTS`, with two guards against
splitting one metal in two:

- the rival is not one normal distribution alone, but the best of several single ones that may be
  skewed (log-normal, gamma, skew-normal), since a sum of normal components fits any skew;
- the mixture must be better by `MARGIN` (evidence of e⁵ to 1), its components must hold `MIN_COMPONENT_ATOMS`
  atoms and `MIN_COMPONENT_SHARE` of them each and lie apart by `MIN_RATIO`.

What the components are is for the person to say. A ratio of intensities implies a ratio of atomic
numbers only as a hint: the exponent depends on the detector's angles and the thermal motion
(1.64 fitted in [2]_; less than 2, and not one for all elements, in [3]_), heights differ, and a
ratio near 2 can be two atoms in line.

References
----------
.. [1] G. Schwarz, "Estimating the dimension of a model", Annals of Statistics 6, 461-464 (1978).
.. [2] O. L. Krivanek et al., "Atom-by-atom structural and chemical analysis by annular dark-field
   electron microscopy", Nature 464, 571-574 (2010).
.. [3] S. Yamashita et al., "Atomic number dependence of Z contrast in scanning transmission
   electron microscopy", Scientific Reports 8, 12325 (2018).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.mixture import GaussianMixture

MAX_COMPONENTS = 3
"""Components that are tried at most."""
MARGIN = 10.0
"""By how much the criterion of a mixture must be lower than that of any single distribution."""
MIN_COMPONENT_ATOMS, MIN_COMPONENT_SHARE = 8, 0.08
"""Atoms of a component, and their share."""
MIN_RATIO = 1.4
"""Of the mean intensities of neighbouring components."""
MIN_RESPONSIBILITY = 0.8
"""Responsibility from which on an atom is said to be of a component."""
EXPONENTS = (1.6, 2.0)
"""HAADF intensity goes with Z to a power between these."""


@dataclass(frozen=True, eq=False)
class Species:
    """K components of intensity, the darkest first.

    Parameters
    ----------
    log_mean, log_scatter : ndarray of shape (K,)
        Of the logarithm of the intensity.
    share : ndarray of shape (K,)
        Of the atoms.
    n_atoms : int
        How many were looked at.
    criterion : dict of str to float, optional
        Bayesian information criterion of every model that was tried, by name.
    """

    log_mean: np.ndarray
    log_scatter: np.ndarray
    share: np.ndarray
    n_atoms: int
    criterion: dict[str, float] = field(default_factory=dict)

    @property
    def n_components(self) -> int:
        return len(self.share)

    @property
    def mean(self) -> np.ndarray:
        """(K,) mean intensities."""
        return np.asarray(np.exp(self.log_mean + self.log_scatter**2 / 2))

    @property
    def intensity_ratios(self) -> np.ndarray:
        """(K - 1,) mean intensity of each component over that of the one before."""
        return np.asarray(self.mean[1:] / self.mean[:-1])

    @property
    def z_ratios(self) -> np.ndarray:
        """(K - 1, 2) range of the ratio of atomic numbers that would explain it: a hint."""
        return np.asarray(self.intensity_ratios[:, None] ** (1 / np.array(EXPONENTS[::-1])))

    def responsibilities(self, intensity: np.ndarray) -> np.ndarray:
        """(N, K) probabilities of the components; NaN where the intensity is not positive."""
        intensity = np.asarray(intensity, float)
        good = intensity > 0
        out = np.full((len(intensity), self.n_components), np.nan)
        log_p = stats.norm.logpdf(np.log(intensity[good])[:, None], self.log_mean, self.log_scatter)
        log_p = log_p + np.log(self.share)
        p = np.exp(log_p - log_p.max(axis=1, keepdims=True))
        out[good] = p / p.sum(axis=1, keepdims=True)
        return out

    def of(self, intensity: np.ndarray) -> np.ndarray:
        """(N,) int64 component of each atom, 1 for the darkest; 0 where it can't be told, as
        between two of them, or where there is one component only."""
        if self.n_components < 2:
            return np.zeros(len(np.asarray(intensity)), np.int64)
        p = np.nan_to_num(self.responsibilities(intensity))
        return np.where(p.max(axis=1) >= MIN_RESPONSIBILITY, p.argmax(axis=1) + 1, 0).astype(
            np.int64
        )

    def labels(self, intensity: np.ndarray) -> list[str]:
        """Of each atom the number of its component as text; "" where it can't be told."""
        return [str(number) if number else "" for number in self.of(intensity)]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "log_mean": self.log_mean.tolist(),
            "log_scatter": self.log_scatter.tolist(),
            "share": self.share.tolist(),
            "n_atoms": self.n_atoms,
            "criterion": dict(self.criterion),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Species:
        """What `to_dict` gave."""
        mean, scatter, share = (
            np.array(values[name], float) for name in ("log_mean", "log_scatter", "share")
        )
        return cls(mean, scatter, share, int(values["n_atoms"]), dict(values["criterion"]))

    def format_summary(self) -> str:
        """One sentence for a person."""
        if self.n_components < 2:
            return f"The intensities of {self.n_atoms} atoms are those of one species."
        ratios = ", ".join(f"{r:.2f}" for r in self.intensity_ratios)
        z = ", ".join(f"{low:.2f}–{high:.2f}" for low, high in self.z_ratios)
        return (
            f"{self.n_components} species can be told apart by the intensities of {self.n_atoms} "
            f"atoms: ratio of intensities {ratios}, as of atomic numbers in a ratio of {z}."
        )


def find_species(intensity: np.ndarray, seed: int = 0) -> Species:
    """The components of the intensities of single atoms.

    Parameters
    ----------
    intensity : ndarray of int, shape (N,)
        Egrated intensities of lone atoms. What is not positive is left out.
    seed : int, default 0
        Of the starts of the mixtures.
    """
    values = np.asarray(intensity, float)
    values = values[np.isfinite(values) & (values > 0)]
    logs = np.log(values)
    scatter = float(logs.std()) if len(logs) else 0.0
    centre = np.array([logs.mean() if len(logs) else 0.0])
    one = Species(centre, np.array([max(scatter, 1e-9)]), np.ones(1), len(values))
    if len(values) < 2 * MIN_COMPONENT_ATOMS or scatter < 1e-6:
        return one
    unit = values / np.exp(centre[0])  # the fits don't depend on the detector's gain
    criterion = _single(unit)
    best, found = min(criterion.values()), one
    for k in range(2, MAX_COMPONENTS + 1):
        mixture, value = _mixture(np.log(unit), k, seed)
        criterion[f"{k} components"] = value
        # each further component must earn its place against the best without it
        if value < best - MARGIN and _plausible(mixture, len(values)):
            best, found = value, mixture
    return Species(
        found.log_mean + (centre[0] if found is not one else 0.0),
        found.log_scatter, found.share, len(values), criterion,
    )  # fmt: skip


def with_species(atoms: pd.DataFrame, seed: int = 0) -> tuple[pd.DataFrame, Species]:
    """A copy of an atom table with its ``species``, and the components.

    They are found on the atoms of groups of one, or on all where no groups are known, and then
    given to all. ``species`` is text: the number of the component, "" where it can't be told.
    """
    alone = atoms["group_size"].to_numpy() if "group_size" in atoms.columns else np.zeros(0)
    intensity = atoms["intensity"].to_numpy(float)
    lone = alone == 1 if (alone > 0).any() else np.ones(len(atoms), bool)
    found = find_species(intensity[lone], seed)
    return label_species(atoms, found), found


def label_species(atoms: pd.DataFrame, species: Species) -> pd.DataFrame:
    """A copy of an atom table with the ``species`` that known components make of it."""
    labels = species.labels(atoms["intensity"].to_numpy(float))
    return atoms.assign(species=pd.Series(labels, index=atoms.index, dtype=object))


def _single(values: np.ndarray) -> dict[str, float]:
    """Criterion of each single distribution, by its name."""
    families = {
        "normal": (stats.norm, {}, 2),
        "log-normal": (stats.lognorm, {"floc": 0}, 2),
        "gamma": (stats.gamma, {"floc": 0}, 2),
        "skew-normal": (stats.skewnorm, {}, 3),
    }
    out = {}
    for name, (family, fixed, free) in families.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            log_likelihood = float(family.logpdf(values, *family.fit(values, **fixed)).sum())
        if np.isfinite(log_likelihood):
            out[name] = free * float(np.log(len(values))) - 2 * log_likelihood
    return out


def _mixture(logs: np.ndarray, k: int, seed: int) -> tuple[Species, float]:
    """Log-normal components of one relative scatter, and the criterion of the intensities."""
    fitted = GaussianMixture(k, covariance_type="tied", n_init=4, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it did not converge shows in the criterion
        fitted.fit(logs[:, None])
    order = np.argsort(fitted.means_[:, 0])
    scatter = np.full(k, float(np.sqrt(fitted.covariances_[0, 0])))
    mixture = Species(fitted.means_[order, 0], scatter, fitted.weights_[order], len(logs))
    # densities of the intensity, not of its logarithm, as those of the single distributions
    return mixture, float(fitted.bic(logs[:, None]) + 2 * logs.sum())


def _plausible(mixture: Species, n: int) -> bool:
    smallest = float(mixture.share.min())
    apart = float(mixture.intensity_ratios.min())
    return (
        smallest >= MIN_COMPONENT_SHARE
        and smallest * n >= MIN_COMPONENT_ATOMS
        and apart >= MIN_RATIO
    )
