"""Species of metal from the intensities of single atoms: their number and their ratios.

The HAADF intensity of an atom increases with the atomic number, about as Z^1.6 to Z^2, but the
intensities of one metal have a relative scatter of a third. The intensities are described by a
mixture of 1 to `MAX_COMPONENTS` components, selected by the Bayesian information criterion [1]_.
Two conditions avoid splitting one metal in two:

- the alternative is not one normal distribution, but the best of several single distributions that
  may be skewed (log-normal, gamma, skew-normal), since normal components together fit any skew;
- the criterion of the mixture is lower by at least `MARGIN` (evidence of e⁵ to 1), each component
  has `MIN_COMPONENT_ATOMS` atoms and a share of `MIN_COMPONENT_SHARE`, and neighbouring components
  differ by a factor of `MIN_RATIO`.

The user identifies the components. A ratio of intensities gives a ratio of atomic numbers only
roughly: the exponent depends on the detector angles and the thermal motion (1.64 fitted in [2]_;
less than 2 and different between elements in [3]_), heights differ, and a ratio near 2 can be two
aligned atoms.

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

MAX_COMPONENTS = 3
MARGIN = 10.0
"""Minimum difference of the criterion of a mixture from that of any single distribution."""
MIN_COMPONENT_ATOMS, MIN_COMPONENT_SHARE = 8, 0.08
"""Minimum number of atoms of a component, and their minimum share."""
MIN_RATIO = 1.4
"""Minimum ratio of the mean intensities of neighbouring components."""
MIN_RESPONSIBILITY = 0.8
"""Minimum responsibility of a component to which an atom is assigned."""
EXPONENTS = (1.6, 2.0)
"""Range of the exponent of Z in the HAADF intensity."""


@dataclass(frozen=True, eq=False)
class Species:
    """Mixture of K log-normal components of intensity, the darkest first."""

    # log_mean, log_scatter: (K,): of the logarithm of the intensity
    log_mean: np.ndarray
    log_scatter: np.ndarray
    share: np.ndarray  # (K,): of the atoms
    n_atoms: int
    # bayesian information criterion of every fitted model, by name
    criterion: dict[str, float] = field(default_factory=dict)

    @property
    def n_components(self) -> int:
        """Number of components."""
        return len(self.share)

    @property
    def mean(self) -> np.ndarray:
        """Mean intensities (K,)."""
        return np.asarray(np.exp(self.log_mean + self.log_scatter**2 / 2))

    @property
    def intensity_ratios(self) -> np.ndarray:
        """Ratios (K - 1,) of the mean intensities of neighbouring components."""
        return np.asarray(self.mean[1:] / self.mean[:-1])

    @property
    def z_ratios(self) -> np.ndarray:
        """Approximate ranges (K - 1, 2) of the corresponding ratios of atomic numbers."""
        return np.asarray(self.intensity_ratios[:, None] ** (1 / np.array(EXPONENTS[::-1])))

    def responsibilities(self, intensity: np.ndarray) -> np.ndarray:
        """Compute (N, K) probabilities of the components; NaN for intensities of 0 or less."""
        intensity = np.asarray(intensity, float)
        good = intensity > 0
        out = np.full((len(intensity), self.n_components), np.nan)
        log_p = stats.norm.logpdf(np.log(intensity[good])[:, None], self.log_mean, self.log_scatter)
        log_p = log_p + np.log(self.share)
        p = np.exp(log_p - log_p.max(axis=1, keepdims=True))
        out[good] = p / p.sum(axis=1, keepdims=True)
        return out

    def of(self, intensity: np.ndarray) -> np.ndarray:
        """Assign (N,) int64 components, 1 for the darkest.

        0 where the assignment is ambiguous, or with a single component.
        """
        if self.n_components < 2:
            return np.zeros(len(np.asarray(intensity)), np.int64)
        p = np.nan_to_num(self.responsibilities(intensity))
        return np.where(p.max(axis=1) >= MIN_RESPONSIBILITY, p.argmax(axis=1) + 1, 0).astype(
            np.int64
        )

    def labels(self, intensity: np.ndarray) -> list[str]:
        """Return the component of each atom as text; "" where it is ambiguous."""
        return [str(number) if number else "" for number in self.of(intensity)]

    def is_fit_of(self, intensity: np.ndarray) -> bool:
        """Return whether the components were fitted to these intensities (N,).

        Their number and the mean of their logarithms, which a fit keeps, are compared.
        """
        logs = np.log(intensity)
        mean = float(self.share @ self.log_mean)
        return len(logs) == self.n_atoms and (not len(logs) or abs(logs.mean() - mean) < 1e-6)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "log_mean": self.log_mean.tolist(),
            "log_scatter": self.log_scatter.tolist(),
            "share": self.share.tolist(),
            "n_atoms": self.n_atoms,
            "criterion": dict(self.criterion),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Species:
        """Build from `to_dict`."""
        mean, scatter, share = (
            np.array(values[name], float) for name in ("log_mean", "log_scatter", "share")
        )
        return cls(mean, scatter, share, int(values["n_atoms"]), dict(values["criterion"]))

    def format_summary(self) -> str:
        """Format the result as one sentence."""
        if self.n_components < 2:
            return f"The intensities of {self.n_atoms} atoms are consistent with one species."
        ratios = ", ".join(f"{r:.2f}" for r in self.intensity_ratios)
        z = ", ".join(f"{low:.2f}–{high:.2f}" for low, high in self.z_ratios)
        return (
            f"The intensities of {self.n_atoms} atoms show {self.n_components} species: intensity "
            f"ratio {ratios}, approximate ratio of atomic numbers {z}."
        )


def find_species(
    # (N,): integrated intensities of isolated atoms. Values of 0 or less are omitted.
    intensity: np.ndarray,
    seed: int = 0,  # seed of the initial values of the mixtures
) -> Species:  # one component if a mixture is not justified
    """Fit the components of the intensities of single atoms."""
    values = np.asarray(intensity, float)
    values = values[np.isfinite(values) & (values > 0)]
    logs = np.log(values)
    scatter = float(logs.std()) if len(logs) else 0.0
    centre = np.array([logs.mean() if len(logs) else 0.0])
    one = Species(centre, np.array([max(scatter, 1e-9)]), np.ones(1), len(values))
    if len(values) < 2 * MIN_COMPONENT_ATOMS or scatter < 1e-6:
        return one
    unit = values / np.exp(centre[0])  # the fits do not depend on the gain of the detector
    criterion = _fit_single(unit)
    best, found = min(criterion.values()), one
    for k in range(2, MAX_COMPONENTS + 1):
        mixture, value = _fit_mixture(np.log(unit), k, seed)
        criterion[f"{k} components"] = value
        # each further component must improve the best model without it
        if value < best - MARGIN and _is_plausible(mixture, len(values)):
            best, found = value, mixture
    return Species(
        found.log_mean + (centre[0] if found is not one else 0.0),
        found.log_scatter, found.share, len(values), criterion,
    )  # fmt: skip


def isolated_intensities(atoms: pd.DataFrame) -> np.ndarray:
    """Return the positive intensities of isolated atoms, or of all if groups are unknown."""
    group_size = atoms["group_size"].to_numpy() if "group_size" in atoms.columns else np.zeros(0)
    intensity = atoms["intensity"].to_numpy(float)
    values = intensity[group_size == 1] if (group_size > 0).any() else intensity
    return values[np.isfinite(values) & (values > 0)]


def label_species(atoms: pd.DataFrame, species: Species) -> pd.DataFrame:
    """Return a copy of an atom table with the ``species`` assigned by known components.

    ``species`` is text: the number of the component, "" where it is ambiguous.
    """
    labels = species.labels(atoms["intensity"].to_numpy(float))
    return atoms.assign(species=pd.Series(labels, index=atoms.index, dtype=object))


def _fit_single(values: np.ndarray) -> dict[str, float]:
    """Return the criterion of each single distribution, by its name."""
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


def _fit_mixture(logs: np.ndarray, k: int, seed: int) -> tuple[Species, float]:
    """Fit log-normal components with one relative scatter; return them and the criterion."""
    from sklearn.mixture import GaussianMixture  # takes long to import, and few need it

    fitted = GaussianMixture(k, covariance_type="tied", n_init=4, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit without convergence has a high criterion
        fitted.fit(logs[:, None])
    order = np.argsort(fitted.means_[:, 0])
    scatter = np.full(k, float(np.sqrt(fitted.covariances_[0, 0])))
    mixture = Species(fitted.means_[order, 0], scatter, fitted.weights_[order], len(logs))
    # densities of the intensity, not of its logarithm, as those of the single distributions
    return mixture, float(fitted.bic(logs[:, None]) + 2 * logs.sum())


def _is_plausible(mixture: Species, n: int) -> bool:
    smallest = float(mixture.share.min())
    apart = float(mixture.intensity_ratios.min())
    return (
        smallest >= MIN_COMPONENT_SHARE
        and smallest * n >= MIN_COMPONENT_ATOMS
        and apart >= MIN_RATIO
    )
