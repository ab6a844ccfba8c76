"""What is true of places of which several people say something, and how good each of them is.

The model of Dawid and Skene [1]_: each place holds an atom with the probability π; of a place with
an atom, person k says *no*, *uncertain* or *yes* with probabilities of his own, of a place without
one with others, and each independently of the rest. Expectation and maximisation in turn give the
largest posterior of all of them, and for each place the probability that it holds an atom. So what
an *uncertain* is worth is learnt, for each person. Who has not looked says nothing.

Priors are weak, and there to keep rates off 0 and 1: each counts like a few places that somebody
had known (`PRIOR`). There is no chance in it: the first guess for a place is the share of those
who looked and said yes, an uncertain one being half a yes.

With one or two people the rates can't be told from what they say: three shares of patterns
(yes-yes, yes-no, no-yes; the fourth follows) don't fix five numbers. Of two, nothing tells whether
one overlooks atoms or the other sees some that are not there, so both are given the same rates: a
lone mark is worth the same whoever made it. How much that is, is then as good as the first guess
and the priors. Where nobody says anything of a place that another looked at, nothing at all is
known of them: what each one marks is believed, an uncertain mark by a half, and the rates are NaN.
From three on they are fixed, if people err independently of each other. They don't quite, since a
faint atom is faint for all: then the sensitivities are too high, and so is the certainty.

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
"""Answers."""
PRIOR = {"prevalence": (0.5, 0.5), "atom": (1.0, 0.5, 1.5), "none": (0.5, 0.25, 0.25)}
"""Places thought to have been seen before: without atom and with; with each of the answers."""
IDENTIFIABLE = 3
"""As many people are needed for the answers to fix the rates."""
_STEPS = 1000
_ENOUGH = 1e-7
_LARGEST = 2_000_000


@dataclass(frozen=True, eq=False)
class Fitted:
    """Rates, and what they say of each kind of place; a first axis B where weights had one.

    Attributes
    ----------
    prevalence : ndarray of shape ()
        Share of places that hold an atom.
    of_atom, of_none : ndarray of shape (K, 3)
        Probabilities of *no*, *uncertain* and *yes* of each person.
    posterior : ndarray of shape (P,)
        Probability of an atom, given the answers.
    """

    prevalence: np.ndarray
    of_atom: np.ndarray
    of_none: np.ndarray
    posterior: np.ndarray

    @property
    def sensitivity(self) -> np.ndarray:
        """(K,) share of the atoms that each person marks, surely or not."""
        return np.asarray(1 - self.of_atom[..., NO])

    @property
    def false_positive(self) -> np.ndarray:
        """(K,) share of the places without an atom that each person marks, surely or not."""
        return np.asarray(self.of_none[..., UNCERTAIN] + self.of_none[..., YES])


def fit(answers: np.ndarray, weights: np.ndarray) -> Fitted:
    """Rates and posteriors from answers; of two people the same rates, of single ones none.

    Parameters
    ----------
    answers : ndarray of shape (P, K)
        What each of K people says of each kind of place: `NO`, `UNCERTAIN`, `YES` or
        `NOT_LOOKED`.
    weights : ndarray of shape (P,)
        Number of places of each kind, or (B, P) for B sets of places at once.

    Raises
    ------
    ValueError
        If there are other answers or negative weights, or shapes don't agree.
    """
    answers, weights = np.asarray(answers), np.asarray(weights, float)
    if answers.ndim != 2 or weights.shape[-1:] != answers.shape[:1]:
        raise ValueError(f"answers {answers.shape} and weights {weights.shape} don't agree")
    if not np.isin(answers, (NO, UNCERTAIN, YES, NOT_LOOKED)).all() or (weights < 0).any():
        raise ValueError("answers are no, uncertain, yes or none, and weights not negative")
    if (answers != NOT_LOOKED).sum(axis=1).max(initial=0) <= 1:
        return _alone(answers, weights)
    batch = np.atleast_2d(weights)
    step = max(1, _LARGEST // max(answers.size, 1))
    parts = [_fit(answers, batch[i : i + step]) for i in range(0, len(batch), step)]
    joined = [np.concatenate(values) for values in zip(*parts, strict=True)]
    return Fitted(*(joined if weights.ndim == 2 else (values[0] for values in joined)))


def _alone(answers: np.ndarray, weights: np.ndarray) -> Fitted:
    """What the only person who looked at a place says of it is taken for the truth."""
    looked = (answers != NOT_LOOKED).any(axis=1)
    said = answers.max(axis=1, initial=NO) / YES
    total = (weights * looked).sum(axis=-1)
    prevalence = (weights * said).sum(axis=-1) / np.where(total > 0, total, np.nan)
    posterior = np.where(looked, said, np.expand_dims(prevalence, -1))
    rates = np.full((*weights.shape[:-1], answers.shape[1], 3), np.nan)
    return Fitted(np.asarray(prevalence), rates, rates, posterior)


def _fit(answers: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, ...]:
    n, people = answers.shape
    said = (answers[:, :, None] == np.arange(3)).astype(float)
    flat = said.reshape(n, people * 3)
    share = (said @ [0, 0.5, 1]).sum(axis=1) / np.maximum(said.sum(axis=(1, 2)), 1)
    q = np.broadcast_to(share, weights.shape)
    for _ in range(_STEPS):
        counts = np.stack([(weights * (1 - q)).sum(axis=1), (weights * q).sum(axis=1)], axis=1)
        prevalence = _shares(counts, "prevalence")[:, 1]
        of_atom, of_none = (
            _rates((w @ flat).reshape(-1, people, 3), of)
            for w, of in ((weights * q, "atom"), (weights * (1 - q), "none"))
        )
        evidence = np.log(of_atom / of_none).reshape(len(weights), -1)
        logit = np.log(prevalence / (1 - prevalence))[:, None] + evidence @ flat.T
        before, q = q, expit(logit)
        if np.abs(q - before).max(initial=0) < _ENOUGH:
            break
    return prevalence, of_atom, of_none, q


def _rates(counts: np.ndarray, of: str) -> np.ndarray:
    """(B, K, 3) of each person; of two, those of both together."""
    if counts.shape[1] < IDENTIFIABLE:
        counts = np.broadcast_to(counts.sum(axis=1, keepdims=True), counts.shape)
    return _shares(counts, of)


def _shares(counts: np.ndarray, of: str) -> np.ndarray:
    counts = counts + np.array(PRIOR[of])
    return np.asarray(counts / counts.sum(axis=-1, keepdims=True))
