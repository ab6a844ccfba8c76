"""From calibrated probabilities to the atoms that are reported: a threshold for each image.

With a probability for every candidate, what a threshold would give can be said without labels: the
expected number of right ones is the sum of the probabilities above it. The best threshold is
another one in every image: where many atoms are plain to see, doubtful ones are not worth it.

So it is where the probabilities are true. They are nearly so, and some fifty atoms of an image tell
little of by how much they are not: the image's own threshold is drawn towards the one that served
other images best, by as much as served them best (`OperatingPoint`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

_MIN_PROBABILITY = 1e-6
_RIDGE = 1e-3


@dataclass(frozen=True)
class OperatingPoint:
    """Which threshold an image gets if nobody asks for another.

    On the scale of log-odds, ``own_weight`` times that of its best expected F1, and the rest the
    usual one.

    Parameters
    ----------
    usual : float, optional
        The threshold that was best for other images; None: each image has its own alone.
    own_weight : float, default 1.0
        Weight of the image's own, 0 to 1.
    """

    usual: float | None = None
    own_weight: float = 1.0

    def __call__(self, probability: np.ndarray, candidate_recall: float = 1.0) -> float:
        """The threshold for candidates (N,) with these calibrated probabilities."""
        own = best_threshold(probability, candidate_recall)
        if self.usual is None:
            return own
        logits = logit(np.clip([own, self.usual], _MIN_PROBABILITY, 1 - _MIN_PROBABILITY))
        return float(expit(logits @ [self.own_weight, 1 - self.own_weight]))


@dataclass(frozen=True)
class Calibration:
    """From the score of a candidate to the probability that a person marks an atom there.

    Platt's scaling (Advances in Large Margin Classifiers, 1999) of the network's logit:
    p = 1 / (1 + exp(-(slope × score + offset))).

    Networks see every image at one sampling. Of an image that was recorded on finer pixels several
    make one of those, and people saw more than the network does: the same score is worth more. So
    slope and offset go with the fineness, the number of times that pixels were halved.

    Parameters
    ----------
    slope, offset : float, default 1.0
        At the common sampling; fitted on images that the network had not learnt from.
    candidate_recall : float, default 1.0
        Share of the marked atoms that are among the candidates at all.
    slope_finer, offset_finer : float, default 0.0
        What is added for each halving of the pixels.
    fineness : tuple of float, optional
        From and to which fineness there were images; beyond, the nearest of the two counts.
    point : OperatingPoint, optional
        The threshold for an image.
    """

    slope: float = 1.0
    offset: float = 0.0
    candidate_recall: float = 1.0
    slope_finer: float = 0.0
    offset_finer: float = 0.0
    fineness: tuple[float, float] = (0.0, 0.0)
    point: OperatingPoint = field(default_factory=OperatingPoint)

    def __call__(self, score: np.ndarray) -> np.ndarray:
        return np.asarray(expit(self.slope * np.asarray(score, float) + self.offset))

    def at(self, fineness: float) -> Calibration:
        """That of images whose pixels were halved so many times."""
        fineness = float(np.clip(fineness, *self.fineness))
        return replace(
            self,
            slope=self.slope + fineness * self.slope_finer,
            offset=self.offset + fineness * self.offset_finer,
            slope_finer=0.0,
            offset_finer=0.0,
        )

    def threshold(self, score: np.ndarray) -> float:
        """The operating point of an image with candidates of these scores."""
        return self.point(self(score), self.candidate_recall)


@dataclass(frozen=True)
class Expected:
    """What the atoms above a threshold are expected to be, compared with a person's marks.

    Ratios of expectations: they leave out that counts vary about them.
    """

    precision: float
    recall: float
    f1: float
    marked: float


def fit_calibration(
    score: np.ndarray,
    right: np.ndarray,
    missed: int = 0,
    weight: np.ndarray | None = None,
    fineness: np.ndarray | None = None,
) -> Calibration:
    """Fit on candidates of which it is known whether a person marked them.

    Parameters
    ----------
    score : ndarray of shape (N,)
        Of the candidates.
    right : ndarray of bool, shape (N,)
    missed : int, default 0
        Marked atoms that no candidate is near.
    weight : ndarray of shape (N,), optional
        How much each counts.
    fineness : ndarray of shape (N,), optional
        How many times the pixels of its image were halved, from the common sampling on.

    Raises
    ------
    ValueError
        If all candidates are right, or none: nothing tells them apart.
    """
    right = np.asarray(right, bool)
    if right.all() or not right.any():
        raise ValueError("candidates of both kinds are needed: right ones and wrong ones")
    score = np.asarray(score, float)
    weight = np.ones(len(score)) if weight is None else np.asarray(weight, float)
    fine = np.zeros(len(score)) if fineness is None else np.asarray(fineness, float)
    features = np.stack([score, np.ones(len(score)), fine * score, fine], axis=1)
    sign = np.where(right, 1.0, -1.0)
    usual, held = np.array([1.0, 0.0, 0.0, 0.0]), np.array([1.0, 0.0, 0.2, 0.2])

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (features @ parameters)
        pull = -weight * sign * expit(-margin)
        off = held * (parameters - usual)
        ridge = _RIDGE * weight.sum()
        value = float((weight * np.logaddexp(0, -margin)).sum() + ridge * off @ off)
        return value, pull @ features + 2 * ridge * off

    prior = float(
        logit(
            np.clip((weight * right).sum() / weight.sum(), _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
        )
    )
    found = minimize(loss, [1.0, prior, 0.0, 0.0], jac=True, method="L-BFGS-B").x
    n_right = int(right.sum())
    return Calibration(
        float(found[0]),
        float(found[1]),
        n_right / (n_right + missed),
        float(found[2]),
        float(found[3]),
        (float(fine.min()), float(fine.max())),
    )


def best_threshold(probability: np.ndarray, candidate_recall: float = 1.0) -> float:
    """The threshold of the largest expected F1; candidates at or above it are reported.

    With S the sum of the probabilities of the k reported ones and M the expected number of marked
    atoms, expected F1 = 2 S / (k + M).

    Parameters
    ----------
    probability : ndarray of shape (N,)
        Calibrated.
    candidate_recall : float, default 1.0
        Share of the marked atoms that are among the candidates.

    Returns
    -------
    float
        One of the probabilities; 1 if there are none.
    """
    ordered = np.sort(_finite(probability))[::-1]
    if len(ordered) == 0 or ordered[0] <= 0:
        return 1.0
    marked = ordered.sum() / max(candidate_recall, _MIN_PROBABILITY)
    f1 = 2 * np.cumsum(ordered) / (np.arange(1, len(ordered) + 1) + marked)
    return float(ordered[_whole(ordered, f1)])


def threshold_at_precision(probability: np.ndarray, precision: float) -> float:
    """The least threshold whose expected precision is at least ``precision``.

    Returns
    -------
    float
        One of the probabilities; just above the highest where none will do.

    Raises
    ------
    ValueError
        If the precision does not lie in 0 to 1.
    """
    if not 0 <= precision <= 1:
        raise ValueError(f"a precision of {precision} does not lie in 0 to 1")
    ordered = np.sort(_finite(probability))[::-1]
    if len(ordered) == 0:
        return 1.0
    mean = np.cumsum(ordered) / np.arange(1, len(ordered) + 1)
    # Only between different probabilities can a threshold lie.
    possible = np.append(ordered[1:] < ordered[:-1], True) & (mean >= precision - 1e-12)
    if not possible.any():
        return float(np.nextafter(ordered[0], 2.0))
    return float(ordered[np.flatnonzero(possible)[-1]])


def expected(probability: np.ndarray, threshold: float, candidate_recall: float = 1.0) -> Expected:
    """What the candidates at or above a threshold are expected to be worth.

    Parameters
    ----------
    probability : ndarray of shape (N,)
        Calibrated.
    threshold : float
        Least probability of what is reported.
    candidate_recall : float, default 1.0
        Share of the marked atoms that are among the candidates.

    Returns
    -------
    Expected
        NaN where there is nothing to divide by.
    """
    probability = _finite(probability)
    reported = probability[probability >= threshold]
    marked = float(probability.sum()) / max(candidate_recall, _MIN_PROBABILITY)
    right = float(reported.sum())
    return Expected(
        precision=right / len(reported) if len(reported) else float("nan"),
        recall=right / marked if marked > 0 else float("nan"),
        f1=2 * right / (len(reported) + marked) if len(reported) + marked > 0 else float("nan"),
        marked=marked,
    )


def _finite(probability: np.ndarray) -> np.ndarray:
    probability = np.asarray(probability, float).ravel()
    return probability[np.isfinite(probability)]


def _whole(ordered: np.ndarray, gain: np.ndarray) -> int:
    """The best place at which a threshold can lie, the last of equals in ``ordered``."""
    possible = np.append(ordered[1:] < ordered[:-1], True)
    return int(np.argmax(np.where(possible, gain, -np.inf)))
