"""The model of Dawid and Skene: true classes and annotator error rates from repeated annotations.

Each place contains an atom with the probability π [1]_. For a place with an atom, annotator k
answers *no*, *uncertain* or *yes* with individual probabilities, for a place without one with
others, and independently of the other annotators. Expectation-maximisation gives the maximum of the
posterior, and the probability that each place contains an atom. So the weight of an *uncertain*
answer is estimated for each annotator. Annotators who did not examine a place do not contribute.

Weak priors keep rates away from 0 and 1: each counts like a few known places (`PRIOR`). The result
is deterministic: the initial probability of a place is the fraction of *yes* answers, with an
uncertain one as half a *yes*.

With one or two annotators the rates are not identifiable: three pattern frequencies (yes-yes,
yes-no, no-yes; the fourth follows) do not determine five numbers. For two, the data do not show
whether one of them misses atoms or the other marks false ones, so both have the same rates, and a
single mark has the same weight for either; that weight depends on the initial values and priors. If
every place has only one answer, nothing is known about the rates: the marks are taken as they are,
uncertain ones with probability ½, and the rates are NaN. With three or more annotators the rates
are identifiable if errors are independent. They are not entirely, because faint atoms are faint for
everyone: then sensitivities and certainty are too high.

References
----------
.. [1] A. P. Dawid, A. M. Skene, "Maximum likelihood estimation of observer error-rates using the
   EM algorithm", Applied Statistics 28, 20-28 (1979).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

NO, UNCERTAIN, YES, NOT_LOOKED = 0, 1, 2, -1
"""Codes of the answers."""
PRIOR = {"prevalence": (0.5, 0.5), "atom": (1.0, 0.5, 1.5), "none": (0.5, 0.25, 0.25)}
"""Pseudo-counts of places: without and with an atom; with each of the answers."""
IDENTIFIABLE = 3
"""Minimum number of annotators for identifiable rates."""
_MAX_STEPS = 1000
_TOLERANCE = 1e-7
_MAX_VALUES = 2_000_000


@dataclass(frozen=True, eq=False)
class Fitted:
    """Estimated rates and posteriors, with a leading axis B if the weights have one."""

    prevalence: np.ndarray  # (): fraction of places with an atom
    # of_atom, of_none: (K, 3): probabilities of *no*, *uncertain* and *yes* of each annotator, for
    # places with and without an atom
    of_atom: np.ndarray
    of_none: np.ndarray
    posterior: np.ndarray  # (P,): probability of an atom, given the answers

    @property
    def sensitivity(self) -> np.ndarray:
        """Fraction (K,) of the atoms that each annotator marks, including uncertain marks."""
        return np.asarray(1 - self.of_atom[..., NO])

    @property
    def false_positive(self) -> np.ndarray:
        """Fraction (K,) of the places without an atom that each annotator marks."""
        return np.asarray(self.of_none[..., UNCERTAIN] + self.of_none[..., YES])


def fit(
    # (P, K), int: answers of K annotators to each kind of place: `NO`, `UNCERTAIN`, `YES` or
    # `NOT_LOOKED`
    answers: np.ndarray,
    # (P,) or (B, P): number of places of each kind, also for B sets of places at once
    weights: np.ndarray,
) -> Fitted:  # two annotators have the same rates; the rates of one are NaN
    """Estimate rates and posteriors from answers.

    Raises `ValueError` if there are other answers or negative weights, or shapes differ.
    """
    answers, weights = np.asarray(answers), np.asarray(weights, float)
    if answers.ndim != 2 or weights.shape[-1:] != answers.shape[:1]:
        raise ValueError(f"answers {answers.shape} and weights {weights.shape} differ in length")
    if not np.isin(answers, (NO, UNCERTAIN, YES, NOT_LOOKED)).all() or (weights < 0).any():
        raise ValueError("answers must be NO, UNCERTAIN, YES or NOT_LOOKED; weights not negative")
    if (answers != NOT_LOOKED).sum(axis=1).max(initial=0) <= 1:
        return _alone(answers, weights)
    batch = np.atleast_2d(weights)
    step = max(1, _MAX_VALUES // max(answers.size, 1))
    parts = [_fit(answers, batch[i : i + step]) for i in range(0, len(batch), step)]
    joined = [np.concatenate(values) for values in zip(*parts, strict=True)]
    return Fitted(*(joined if weights.ndim == 2 else (values[0] for values in joined)))


def _alone(answers: np.ndarray, weights: np.ndarray) -> Fitted:
    """Take the answer of the only annotator who examined a place as the truth."""
    looked = (answers != NOT_LOOKED).any(axis=1)
    given = answers.max(axis=1, initial=NO) / YES
    total = (weights * looked).sum(axis=-1)
    prevalence = (weights * given).sum(axis=-1) / np.where(total > 0, total, np.nan)
    posterior = np.where(looked, given, np.expand_dims(prevalence, -1))
    rates = np.full((*weights.shape[:-1], answers.shape[1], 3), np.nan)
    return Fitted(np.asarray(prevalence), rates, rates, posterior)


def _fit(answers: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, ...]:
    n, annotators = answers.shape
    given = (answers[:, :, None] == np.arange(3)).astype(float)
    flat = given.reshape(n, annotators * 3)
    share = (given @ [0, 0.5, 1]).sum(axis=1) / np.maximum(given.sum(axis=(1, 2)), 1)
    q = np.broadcast_to(share, weights.shape)
    for _ in range(_MAX_STEPS):
        counts = np.stack([(weights * (1 - q)).sum(axis=1), (weights * q).sum(axis=1)], axis=1)
        prevalence = _shares(counts, "prevalence")[:, 1]
        of_atom, of_none = (
            _rates((w @ flat).reshape(-1, annotators, 3), of)
            for w, of in ((weights * q, "atom"), (weights * (1 - q), "none"))
        )
        evidence = np.log(of_atom / of_none).reshape(len(weights), -1)
        logit = np.log(prevalence / (1 - prevalence))[:, None] + evidence @ flat.T
        before, q = q, expit(logit)
        if np.abs(q - before).max(initial=0) < _TOLERANCE:
            break
    return prevalence, of_atom, of_none, q


def _rates(counts: np.ndarray, of: str) -> np.ndarray:
    """Return the rates (B, K, 3) of each annotator; of two, those of both together."""
    if counts.shape[1] < IDENTIFIABLE:
        counts = np.broadcast_to(counts.sum(axis=1, keepdims=True), counts.shape)
    return _shares(counts, of)


def _shares(counts: np.ndarray, of: str) -> np.ndarray:
    counts = counts + np.array(PRIOR[of])
    return np.asarray(counts / counts.sum(axis=-1, keepdims=True))
