"""X"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .intervals import wilson_interval

_N_BOOTSTRAP = 1000
_LEVEL = 0.95

_Chance = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class AgreementFigure:
    """A number with its 95 % interval; NaN where it is not defined."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan


def agreement_share(same: int, n: int) -> AgreementFigure:
    if not n:
        return AgreementFigure()
    value = same / n
    low, high = wilson_interval(np.asarray(value), n, _LEVEL)
    # none and all of them lie in the interval but for rounding
    return AgreementFigure(value, min(float(low), value), max(float(high), value))


def cohen_kappa(both: np.ndarray, rng: np.random.Generator) -> AgreementFigure:
    """Cohen's kappa of two columns of codes, (N, 2)."""

    def reached(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shares = counts / counts.sum(axis=(1, 2), keepdims=True)
        chance = (shares.sum(axis=1) * shares.sum(axis=2)).sum(axis=1)
        return np.trace(shares, axis1=1, axis2=2), chance

    k = int(both.max(initial=0)) + 1
    patterns, n = np.unique(both, axis=0, return_counts=True)
    tables = np.zeros((len(patterns), k, k))
    tables[np.arange(len(patterns)), patterns[:, 0], patterns[:, 1]] = 1
    return _beyond_chance(tables, n, reached, rng)


def krippendorff_alpha(
    answers: np.ndarray, n_labels: int, rng: np.random.Generator
) -> AgreementFigure:
    """Krippendorff's alpha of nominal codes, (items, annotators), -1 where one has not judged."""
    given = (answers[:, :, None] == np.arange(n_labels)).sum(axis=1)
    # Few kinds of items: two people and six labels make 36.
    return alpha_of_counts(*np.unique(given, axis=0, return_counts=True), rng)


def alpha_of_counts(given: np.ndarray, n: np.ndarray, rng: np.random.Generator) -> AgreementFigure:
    """Krippendorff's alpha of nominal labels, from kinds of items.

    Parameters
    ----------
    given : ndarray of shape (P, L)
        How many annotators give each of the labels to an item of each kind.
    n : ndarray of shape (P,)
        How many items there are of each kind.
    rng : numpy.random.Generator
        Of the bootstrap over items.
    """

    def reached(coincidences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        of_label = coincidences.sum(axis=2)
        total = of_label.sum(axis=1)
        same = np.trace(coincidences, axis1=1, axis2=2) / total
        return same, (of_label * (of_label - 1)).sum(axis=1) / (total * (total - 1))

    judged = given.sum(axis=1)[:, None, None]
    diagonal = given[:, :, None] * np.eye(given.shape[1])
    tables = (given[:, :, None] * given[:, None, :] - diagonal) / np.maximum(judged - 1, 1)
    return _beyond_chance(tables, n, reached, rng)


def _beyond_chance(
    tables: np.ndarray, n: np.ndarray, reached: _Chance, rng: np.random.Generator
) -> AgreementFigure:
    """(p - e) / (1 - e) and its interval.

    Parameters
    ----------
    tables : ndarray of shape (P, K, K)
        What an item of each kind adds to the table of coincidences.
    n : ndarray of shape (P,)
        How many items there are of each kind.
    reached : _Chance
        From tables (B, K, K) to the shares p and the chances e, (B,) each.
    """
    total = int(n.sum())
    if not total:
        return AgreementFigure()
    flat = tables.reshape(len(tables), -1)

    def of(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return reached((counts @ flat).reshape(-1, *tables.shape[1:]))

    p, e = (float(v[0]) for v in of(n[None].astype(float)))
    if 1 - e < 1e-12:
        return AgreementFigure()
    draws = rng.multinomial(total, n / total, size=_N_BOOTSTRAP).astype(float)
    again, chance = of(draws)
    known = 1 - chance > 1e-12  # a resample may hold one label only
    values = (again[known] - chance[known]) / (1 - chance[known])
    tail = 50 * (1 - _LEVEL)
    ends = np.percentile(values, [tail, 100 - tail]) if len(values) else np.full(2, np.nan)
    low, high = ((float(w) - e) / (1 - e) for w in wilson_interval(np.asarray(p), total, _LEVEL))
    value = (p - e) / (1 - e)
    return AgreementFigure(
        value, float(np.nanmin([ends[0], low, value])), float(np.nanmax([ends[1], high, value]))
    )
