"""Chance-corrected coefficients of agreement between annotators.

Cohen's kappa [1]_ and Krippendorff's alpha [2]_ have the form (p - e) / (1 - e), with p the
observed agreement and e the agreement expected by chance. They are 1 for complete agreement, 0 for
agreement as expected by chance, and undefined if only one label occurs.

The 95 % intervals are percentiles of a bootstrap over clusters, extended to Wilson's interval of
the observed agreement (at the estimated chance agreement) where that is wider. A bootstrap alone
has zero width if two annotators agree on all of ten clusters.

References
----------
.. [1] J. Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological
   Measurement 20, 37-46 (1960).
.. [2] K. Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011),
   https://repository.upenn.edu/asc_papers/43; A. F. Hayes and K. Krippendorff, Communication
   Methods and Measures 1, 77-89 (2007).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .intervals import percentile_interval, wilson_interval

_N_BOOTSTRAP = 1000
_LEVEL = 0.95

_Chance = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class AgreementFigure:
    """A coefficient with its 95 % interval; NaN where it is undefined."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan


def agreement_share(same: int, n: int) -> AgreementFigure:
    """Compute the fraction of clusters with agreement, and its Wilson interval."""
    if not n:
        return AgreementFigure()
    value = same / n
    low, high = wilson_interval(np.asarray(value), n, _LEVEL)
    # Fractions of 0 and 1 are within the interval except for rounding.
    return AgreementFigure(value, min(float(low), value), max(float(high), value))


def cohen_kappa(both: np.ndarray, rng: np.random.Generator) -> AgreementFigure:
    """Compute Cohen's kappa of two annotators.

    Parameters
    ----------
    both : ndarray of shape (N, 2), int
        Codes of the labels of both annotators.
    """

    def observed_and_chance(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shares = counts / counts.sum(axis=(1, 2), keepdims=True)
        chance = (shares.sum(axis=1) * shares.sum(axis=2)).sum(axis=1)
        return np.trace(shares, axis1=1, axis2=2), chance

    k = int(both.max(initial=0)) + 1
    patterns, n = np.unique(both, axis=0, return_counts=True)
    tables = np.zeros((len(patterns), k, k))
    tables[np.arange(len(patterns)), patterns[:, 0], patterns[:, 1]] = 1
    return _beyond_chance(tables, n, observed_and_chance, rng)


def krippendorff_alpha(
    answers: np.ndarray, n_labels: int, rng: np.random.Generator
) -> AgreementFigure:
    """Compute Krippendorff's alpha of nominal labels.

    Parameters
    ----------
    answers : ndarray of shape (items, annotators), int
        Codes of the labels; -1 without a label.
    rng : numpy.random.Generator
        Generator of the bootstrap over items.
    """
    given = (answers[:, :, None] == np.arange(n_labels)).sum(axis=1)
    # Few distinct items: two annotators and six labels make 36.
    return alpha_of_counts(*np.unique(given, axis=0, return_counts=True), rng)


def alpha_of_counts(given: np.ndarray, n: np.ndarray, rng: np.random.Generator) -> AgreementFigure:
    """Compute Krippendorff's alpha of nominal labels from distinct kinds of items.

    Parameters
    ----------
    given : ndarray of shape (P, L), int
        Number of annotators who give each label to an item of each kind.
    n : ndarray of shape (P,), int
        Number of items of each kind.
    rng : numpy.random.Generator
        Generator of the bootstrap over items.
    """

    def observed_and_chance(coincidences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        of_label = coincidences.sum(axis=2)
        total = of_label.sum(axis=1)
        same = np.trace(coincidences, axis1=1, axis2=2) / total
        return same, (of_label * (of_label - 1)).sum(axis=1) / (total * (total - 1))

    judged = given.sum(axis=1)[:, None, None]
    diagonal = given[:, :, None] * np.eye(given.shape[1])
    tables = (given[:, :, None] * given[:, None, :] - diagonal) / np.maximum(judged - 1, 1)
    return _beyond_chance(tables, n, observed_and_chance, rng)


def _beyond_chance(
    tables: np.ndarray, n: np.ndarray, observed_and_chance: _Chance, rng: np.random.Generator
) -> AgreementFigure:
    """Compute (p - e) / (1 - e) and its interval.

    Parameters
    ----------
    tables : ndarray of shape (P, K, K)
        Contribution of an item of each kind to the coincidence matrix.
    n : ndarray of shape (P,), int
        Number of items of each kind.
    """
    total = int(n.sum())
    if not total:
        return AgreementFigure()
    flat = tables.reshape(len(tables), -1)

    def of(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return observed_and_chance((counts @ flat).reshape(-1, *tables.shape[1:]))

    p, e = (float(v[0]) for v in of(n[None].astype(float)))
    if 1 - e < 1e-12:
        return AgreementFigure()
    draws = rng.multinomial(total, n / total, size=_N_BOOTSTRAP).astype(float)
    again, chance = of(draws)
    known = 1 - chance > 1e-12  # a resample may contain one label only
    values = (again[known] - chance[known]) / (1 - chance[known])
    ends = percentile_interval(values, _LEVEL)
    low, high = ((float(w) - e) / (1 - e) for w in wilson_interval(np.asarray(p), total, _LEVEL))
    value = (p - e) / (1 - e)
    # Neither coefficient is below -1: so little agreement cannot be expected by so much chance.
    low = max(low, -1.0)
    return AgreementFigure(
        value, float(np.nanmin([ends[0], low, value])), float(np.nanmax([ends[1], high, value]))
    )
