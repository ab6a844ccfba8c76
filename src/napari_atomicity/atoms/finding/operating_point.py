"""From calibrated probabilities to the reported atoms: a threshold for each image.

The expected number of true positives above a threshold is the sum of the probabilities there, so
that expected scores need no labels. The best threshold differs between images: where many atoms are
clear, doubtful ones are not worth reporting.

This holds for true probabilities. The calibrated ones are approximately true, and some fifty atoms
of an image do not suffice to correct them. The threshold of the image is therefore shrunk towards
the one that was best for other images (`OperatingPoint`).
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
    """Default threshold of an image.

    On the scale of log-odds, the weighted mean of the threshold of its best expected F1 and of the
    usual threshold.
    """

    usual: float | None = None
    own_weight: float = 1.0  # weight of the threshold of the image, 0 to 1

    def __call__(self, probability: np.ndarray, candidate_recall: float = 1.0) -> float:
        """Return the threshold for candidates (N,) with these calibrated probabilities."""
        own = best_threshold(probability, candidate_recall)
        if self.usual is None:
            return own
        logits = logit(np.clip([own, self.usual], _MIN_PROBABILITY, 1 - _MIN_PROBABILITY))
        return float(expit(logits @ [self.own_weight, 1 - self.own_weight]))


@dataclass(frozen=True)
class Calibration:
    """Calibration of scores to the probability that an annotator marks an atom.

    Platt scaling [1]_ of the network's logit: p = 1 / (1 + exp(-(slope × score + offset))).

    The networks use one sampling for all images. Annotators of images with smaller pixels see more
    detail than the network, and the same score means a higher probability. Slope and offset
    therefore depend on the fineness, log2 of the common sampling over the pixel size.

    References
    ----------
    .. [1] J. Platt, Advances in Large Margin Classifiers (1999).
    """

    # slope, offset: at the common sampling; fitted on images that were not used for training
    slope: float = 1.0
    offset: float = 0.0
    candidate_recall: float = 1.0  # share of the annotated atoms that are among the candidates
    # slope_finer, offset_finer: change for each halving of the pixel size
    slope_finer: float = 0.0
    offset_finer: float = 0.0
    # range of fineness of the images; beyond it the nearest limit applies
    fineness: tuple[float, float] = (0.0, 0.0)
    point: OperatingPoint = field(default_factory=OperatingPoint)  # default threshold of an image

    def __call__(self, score: np.ndarray) -> np.ndarray:
        """Return the probabilities of scores."""
        return np.asarray(expit(self.slope * np.asarray(score, float) + self.offset))

    def at(self, fineness: float) -> Calibration:
        """Return the calibration of images of this fineness."""
        fineness = float(np.clip(fineness, *self.fineness))
        return replace(
            self,
            slope=self.slope + fineness * self.slope_finer,
            offset=self.offset + fineness * self.offset_finer,
            slope_finer=0.0,
            offset_finer=0.0,
        )

    def threshold(self, score: np.ndarray) -> float:
        """Return the operating point of an image with candidates of these scores."""
        return self.point(self(score), self.candidate_recall)


@dataclass(frozen=True)
class Expected:
    """Expected scores of the atoms above a threshold, compared with annotations.

    Ratios of expectations: they neglect the scatter of the counts.
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
    """Fit the calibration on annotated candidates.

    Parameters
    ----------
    score : ndarray of shape (N,)
        Scores of the candidates.
    right : ndarray of bool, shape (N,)
        Whether an annotator marked the candidate.
    weight : ndarray of shape (N,), optional
        Weights of the candidates.
    fineness : ndarray of shape (N,), optional
        log2 of the common sampling over the pixel size of the image.

    Raises
    ------
    ValueError
        If all candidates are right, or all are wrong.
    """
    right = np.asarray(right, bool)
    if right.all() or not right.any():
        raise ValueError("the calibration needs right and wrong candidates")
    score = np.asarray(score, float)
    weight = np.ones(len(score)) if weight is None else np.asarray(weight, float)
    fine = np.zeros(len(score)) if fineness is None else np.asarray(fineness, float)
    features = np.stack([score, np.ones(len(score)), fine * score, fine], axis=1)
    found = _fit_logistic(features, right, weight)
    n_right = int(right.sum())
    return Calibration(
        float(found[0]),
        float(found[1]),
        n_right / (n_right + missed),
        float(found[2]),
        float(found[3]),
        (float(fine.min()), float(fine.max())),
    )


def _fit_logistic(features: np.ndarray, right: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Fit a logistic regression with a ridge penalty of the dependence on fineness."""
    sign = np.where(right, 1.0, -1.0)
    usual, penalty = np.array([1.0, 0.0, 0.0, 0.0]), np.array([1.0, 0.0, 0.2, 0.2])

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (features @ parameters)
        gradient = -weight * sign * expit(-margin)
        off = penalty * (parameters - usual)
        ridge = _RIDGE * weight.sum()
        value = float((weight * np.logaddexp(0, -margin)).sum() + ridge * off @ off)
        return value, gradient @ features + 2 * ridge * off

    share = np.clip((weight * right).sum() / weight.sum(), _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
    initial = [1.0, float(logit(share)), 0.0, 0.0]
    return np.asarray(minimize(loss, initial, jac=True, method="L-BFGS-B").x)


def best_threshold(
    probability: np.ndarray,  # (N,): calibrated probabilities
    candidate_recall: float = 1.0,  # share of the annotated atoms that are among the candidates
) -> float:  # one of the probabilities; 1 without candidates
    """Return the threshold of the maximum expected F1; candidates at or above it are reported.

    With S the sum of the probabilities of the k reported ones and M the expected number of
    annotated atoms, expected F1 = 2 S / (k + M).
    """
    ordered = np.sort(_finite(probability))[::-1]
    if len(ordered) == 0 or ordered[0] <= 0:
        return 1.0
    marked = ordered.sum() / max(candidate_recall, _MIN_PROBABILITY)
    f1 = 2 * np.cumsum(ordered) / (np.arange(1, len(ordered) + 1) + marked)
    return float(ordered[_best_index(ordered, f1)])


def threshold_at_precision(probability: np.ndarray, precision: float) -> float:
    """Return the lowest threshold whose expected precision is at least ``precision``.

    The result is one of the probabilities; just above the highest if no threshold is sufficient.
    Raises `ValueError` if the precision is not between 0 and 1.
    """
    if not 0 <= precision <= 1:
        raise ValueError(f"the precision must be between 0 and 1, not {precision}")
    ordered = np.sort(_finite(probability))[::-1]
    if len(ordered) == 0:
        return 1.0
    mean = np.cumsum(ordered) / np.arange(1, len(ordered) + 1)
    # A threshold separates different probabilities only.
    possible = np.append(ordered[1:] < ordered[:-1], True) & (mean >= precision - 1e-12)
    if not possible.any():
        return float(np.nextafter(ordered[0], 2.0))
    return float(ordered[np.flatnonzero(possible)[-1]])


def expected(
    probability: np.ndarray,  # (N,): calibrated probabilities
    threshold: float,  # minimum probability of reported atoms
    candidate_recall: float = 1.0,  # share of the annotated atoms that are among the candidates
) -> Expected:  # NaN where the denominator is zero
    """Compute the expected scores of the candidates at or above a threshold."""
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


def _best_index(ordered: np.ndarray, gain: np.ndarray) -> int:
    """Return the index of the best threshold, the last of equals in ``ordered``."""
    possible = np.append(ordered[1:] < ordered[:-1], True)
    return int(np.argmax(np.where(possible, gain, -np.inf)))
