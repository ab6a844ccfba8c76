"""Evidence for an adapted model that does not come from the diameters: the intensities.

Pseudo-labels by the diameter that were left out share the errors of the others: if blur shifts the
diameters, a network that learns them agrees with those left out, and is wrong. The integrated
intensities know nothing of the diameters. With the known ratios of the classes, and the scale that
the images of a session share within 20 %, they give the probability of each class for every cluster
(`models.scale.session_scale`, without apparent sizes). The expected share of right labels follows
for the model before and for the adapted one, in each draw of the scales from their posterior. Where
the scales that are possible contradict each other, as in a session of one size, nothing is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binom

from ...core.apparent_size import ApparentSize
from ...core.scale_reference import ScaleReference
from ...models.scale.session_images import bright_rows, fit_intensities, probabilities_by_intensity
from .settings import CORRECTIONS, DIAMETER, AdaptSettings

MIN_CLUSTERS = 10
"""Fewer clusters show nothing."""
SURE = 0.95
"""Probability from which on the adapted model is taken to be better, or not."""
CONTRADICTION = 0.02
"""Gain and loss of accuracy that the possible scales must both allow to contradict each other."""
MIN_CORRECTIONS = 5
"""Corrections left out that are evidence enough."""
BY_INTENSITY = "labels right, estimated from intensities"
"""Name of the expected share of right labels among the criteria."""


@dataclass(frozen=True)
class IntensityEvidence:
    """What the intensities say of a model before and after an adaptation."""

    # before, after: expected share of right labels; NaN without intensities
    before: float
    after: float
    p_better: float  # probability that more labels are right after
    judged: bool  # whether the intensities can tell


class IntensityJudge:
    """Class probabilities of the clusters of a session by their intensities alone."""

    def __init__(self, image_tables: Sequence[pd.DataFrame], reference: ScaleReference) -> None:
        self.rows = [bright_rows(table, reference) for table in image_tables]
        self.probabilities: list[np.ndarray] = []
        self.draws = np.zeros((0, 0), int)
        if sum(map(len, self.rows)) >= MIN_CLUSTERS:
            log_intensity = [
                np.log(table["integrated_intensity"].to_numpy(float)[rows])
                for table, rows in zip(image_tables, self.rows, strict=True)
            ]
            session = fit_intensities(log_intensity, ApparentSize.from_diameters(reference))
            self.draws = session.draws
            self.probabilities = [
                probabilities_by_intensity(x, modes, reference)
                for x, modes in zip(log_intensity, session.images, strict=True)
            ]

    def compare(
        self, before: Sequence[np.ndarray], after: Sequence[np.ndarray]
    ) -> IntensityEvidence:
        """Compare the labels of two models."""
        if not self.probabilities:
            return IntensityEvidence(float("nan"), float("nan"), float("nan"), False)
        first, last = self._right(before), self._right(after)
        gain = last - first
        rng = np.random.default_rng(0)
        # the Bayesian bootstrap of the clusters, other weights for each draw of the scales
        weight = rng.exponential(size=gain.shape)
        sign = np.sign((gain * weight).sum(axis=1))
        p_better = float((1 + sign).mean() / 2)  # the same labels are as good
        low, high = np.quantile(gain.mean(axis=1), (1 - SURE, SURE))
        contradicts = low < -CONTRADICTION and high > CONTRADICTION
        return IntensityEvidence(float(first.mean()), float(last.mean()), p_better, not contradicts)

    def _right(self, labels: Sequence[np.ndarray]) -> np.ndarray:
        """Probability (n_draws, n_clusters) that each label is right, for each draw."""
        parts = []
        for label, rows, p, draw in zip(
            labels, self.rows, self.probabilities, self.draws, strict=True
        ):
            own = label[rows]
            right = np.where(own >= 0, p[:, np.arange(len(rows)), np.maximum(own, 0)], 0.0)
            parts.append(right[draw])
        return np.concatenate(parts, axis=1)


def describe_estimate(before: float, after: float) -> str:
    """Compare the expected shares of right labels; the shares themselves may be far off."""
    points = round(100 * (after - before))
    number = "as many" if not points else "more" if points > 0 else "fewer"
    return f"{number} labels would be right, by an estimate from the intensities"


def find_doubt(
    evidence: IntensityEvidence,
    settings: AdaptSettings,
    checks: Mapping[str, tuple[float, float]],
    n_corrections: int,  # number of the corrections that were left out
) -> str:
    """Why independent evidence does not support an adapted network; "" if it does.

    Pseudo-labels by the diameter need the support of the intensities, or of a person. Those by
    intensity and diameter are of clusters where both agree; the intensities must not contradict.
    """
    by_diameter = settings.pseudo_label_method == DIAMETER
    first, last = checks[CORRECTIONS]
    # a gain that chance explains, as of labels at random, is no evidence
    met = round(last * n_corrections) if n_corrections >= MIN_CORRECTIONS else 0
    if met and binom.sf(met - 1, n_corrections, first) < 1 - SURE:
        return ""
    if evidence.judged:
        if evidence.p_better >= (SURE if by_diameter else 0.5):
            return ""
        return f"{describe_estimate(evidence.before, evidence.after)}: no clear gain"
    if not by_diameter:
        return ""
    return (
        "the adapted model could not be checked: the intensities of these images do not tell which "
        "labels are right; take more images of the session with several sizes, or correct some "
        "labels"
    )
