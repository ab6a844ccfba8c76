"""The accuracy of labels, estimated from the answers of a review.

The *accuracy* is the stratified estimate [1]_ p = sum over strata of W_h x_h / n_h, with the share
W_h of a stratum in all clusters and x_h right answers of n_h. Its variance is that of sampling
without replacement,

    V = sum of W_h² (1 - n_h / N_h) q_h (1 - q_h) / n_h,

where q_h is x_h / n_h drawn towards the mean of all strata by the weight of two answers: a small
stratum in which all were right is not without scatter. The interval is Wilson's for the effective
number q (1 - q) / V of answers, which keeps its coverage near 0 and 1 [2]_ [3]_ and shrinks to
a point where all clusters were looked at.

References
----------
.. [1] W. G. Cochran, "Sampling Techniques", 3rd ed., Wiley (1977), chapter 5.
.. [2] E. L. Korn and B. I. Graubard, "Confidence intervals for proportions with small expected
   number of positive counts estimated from survey data", Survey Methodology 24, 193-201 (1998).
.. [3] C. Franco, R. J. A. Little, T. A. Louis and E. V. Slud, "Comparative study of confidence
   intervals for proportions in complex sample surveys", Journal of Survey Statistics and
   Methodology 7, 334-364 (2019).
"""

from __future__ import annotations

import numpy as np

from ..statistics.stratified_accuracy import Accuracy, stratified_share
from .review_queue import Queue

# The part of a sample that must be answered: a few clusters may be skipped.
_MIN_ANSWERED = 0.9


def _walked(answered: np.ndarray, by_image: bool) -> np.ndarray:
    """(N,): the part of a queue that was gone through, whose answers are a random sample.

    A sample stands in random order, so that its beginning is a smaller one. What lies beyond and
    has a label got it for another reason, as the least certain ones do, and is no random choice.
    A few may be skipped. In order of the images it is a sample at the end only.
    """
    n = len(answered)
    if not n:
        return np.zeros(0, bool)
    share = np.cumsum(answered) / np.arange(1, n + 1)
    far = np.flatnonzero((share >= _MIN_ANSWERED) & answered)
    last = int(far[-1]) if len(far) else -1
    if by_image and last < n - 1 and answered.mean() < _MIN_ANSWERED:
        last = -1
    return np.arange(n) <= last


def accuracy(
    queue: Queue, predicted: np.ndarray, said: np.ndarray, removed: np.ndarray
) -> Accuracy | None:
    """Estimate how often the predictions are right, from the answers so far."""
    if not queue.strata:
        return None
    of_stratum = np.array([s.label for s in queue.strata], object)[queue.stratum]
    label = np.where((predicted == "") & (of_stratum != ""), of_stratum, predicted)
    answered = ((said != "") & (predicted != "")) | removed
    answered &= _walked(answered, queue.request.by_image)
    right = answered & ~removed & (said == predicted)
    size = np.array([s.size for s in queue.strata])

    def counts(which: np.ndarray) -> np.ndarray:
        return np.bincount(queue.stratum[which], minlength=len(size))

    n, hits = counts(answered), counts(right)
    by_class = {}
    for name in dict.fromkeys([*(s.label for s in queue.strata if s.label), *label[answered]]):
        if not name:
            continue
        of_class = label == name
        # Where strata are not those of the labels of today, their sizes are estimated.
        drawn = np.bincount(queue.stratum, minlength=len(size))
        part = np.divide(counts(of_class), drawn, out=np.zeros(len(size)), where=drawn > 0)
        inside = part > 0
        by_class[str(name)] = stratified_share(
            (size * part)[inside], counts(of_class & answered)[inside],
            counts(of_class & right)[inside],
        )  # fmt: skip
    return Accuracy(
        stratified_share(size, n, hits), by_class, len(queue), queue.population, int(removed.sum())
    )
