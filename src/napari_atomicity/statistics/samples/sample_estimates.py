"""Estimates of a sample and of differences between two, with intervals.

The value of a sample is the weighted mean of its images. Its variance comes from a bootstrap of the
images [1]_, multiplied by J / (J - 1) for J images, and is at least that of chance alone. Few
images know this variance badly. Therefore its ratio f to the variance by chance is moderated
towards the mean f of all samples (and of all classes), as in [4]_: with d degrees of freedom of its
own and d0 of the others, at most four, it is (d0 f0 + d f) / (d0 + d). So a sample with one image
has an interval if another one has several. Quantiles are Student's with d0 + d degrees of freedom,
where d + 1 counts images by their weights, (Σw)² / Σw². For a difference they follow Welch and
Satterthwaite [2]_, but are not more than those of all samples together.

Limits of a share are Wilson's for the number of trials that has the variance, those of other
quantities are normal on a logarithmic scale. Limits of a difference combine those of both samples
(method of variance estimates recovery [3]_). Errors of the labels are added in quadrature; the
systematic ones of two samples by their difference, as both are labelled by the same model.

The error of the scale is drawn jointly for both samples. With these draws the distribution of the
estimate is a mixture of Student's distributions, one for each draw, whose quantiles are the
interval. The p value is twice the smaller part of this mixture on one side of 0, so that p < 0.05
where the 95 % interval does not contain 0.

References
----------
.. [1] B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap", Chapman & Hall (1993).
.. [2] B. L. Welch, "The generalization of Student's problem when several different population
   variances are involved", Biometrika 34, 28-35 (1947).
.. [3] R. G. Newcombe, "Interval estimation for the difference between independent proportions:
   comparison of eleven methods", Statistics in Medicine 17, 873-890 (1998), method 10; G. Y. Zou
   and A. Donner, Statistics in Medicine 27, 1693-1702 (2008).
.. [4] G. K. Smyth, "Linear models and empirical Bayes methods for assessing differential expression
   in microarray experiments", Stat. Appl. Genet. Mol. Biol. 3, 3 (2004).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtr, stdtrit

from ..intervals import wilson_interval
from .image_values import ImageValues, Quantity

N_BOOTSTRAP = 2000
PRIOR_FREEDOM = 4.0
"""Degrees of freedom d0 of the mean variance factor, at most those that it has."""
MAX_QUANTILE = 1e3
"""Student's quantile at most: with about one image, an interval is without limits anyway."""


@dataclass(frozen=True, eq=False)
class SampleEstimate:
    """A quantity of a sample, and its errors."""

    quantity: Quantity
    sample: str
    value: float  # NaN without clusters or atoms
    n_images: int  # images with clusters or atoms
    weight: float  # number of clusters or atoms, or area of the support in nm²
    # variance of the value between images and by chance, with its degrees of freedom; NaN if no
    # sample has several images
    variance: float
    freedom: float
    common_freedom: float  # degrees of freedom of all samples together
    chance: float  # variance of the value if all images were alike
    label_variance: float
    bias: float
    shared: np.ndarray  # (N_DRAWS,)
    # variance between its own images relative to chance; NaN with one image
    own_factor: float = np.nan

    def limits(self, quantile: float) -> tuple[float, float]:
        """Return limits at a number of standard errors, without errors of labels and scale."""
        if not np.isfinite(self.variance):
            return np.nan, np.nan
        if self.quantity.is_share:
            trials = self.weight / self.quantity.per_trial * self.chance / self.variance
            low, high = wilson_interval(self.value, trials, quantile=quantile)
            return float(low), float(high)
        width = quantile * np.sqrt(self.variance)
        if not self.value > 0:
            return self.value - width, self.value + width
        factor = np.exp(width / self.value)
        return self.value / factor, self.value * factor

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the interval of the value; NaN with one image."""
        quantile = _quantile(level, self.freedom)
        low, high = self.limits(quantile)
        errors = quantile * np.sqrt(self.label_variance + self.bias**2)
        below, above = np.hypot(self.value - low, errors), np.hypot(high - self.value, errors)
        mixture = _Mixture(self.value, below, above, quantile, self.freedom, self.shared)
        low, high = mixture.interval(level)
        return max(low, 0.0), min(high, self.quantity.limit)


@dataclass(frozen=True)
class Difference:
    """A difference between two samples with its interval and p value; NaN where unknown."""

    value: float
    low: float = np.nan
    high: float = np.nan
    p: float = np.nan


def estimate_samples(
    values: Sequence[ImageValues], samples: Mapping[str, Sequence[str]], seed: int = 0
) -> list[dict[str, SampleEstimate]]:
    """Estimate quantities of samples from their images.

    Parameters
    ----------
    values : sequence of ImageValues
        Quantities by image.
    samples : mapping of str to sequence of str
        Sample → its images.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    list of dict of str to SampleEstimate
        Sample → estimate, for each quantity.
    """
    found = [
        {name: _estimate(one, name, images, seed) for name, images in samples.items()}
        for one in values
    ]
    families: dict[str, list[SampleEstimate]] = {}
    for one in (one for of_quantity in found for one in of_quantity.values()):
        families.setdefault(_family(one), []).append(one)
    factors = {name: _mean_factor(family) for name, family in families.items()}
    return [
        {name: _moderated(one, *factors[_family(one)]) for name, one in of_quantity.items()}
        for of_quantity in found
    ]


def _estimate(values: ImageValues, sample: str, images: Sequence[str], seed: int) -> SampleEstimate:
    """Estimate a quantity of a sample, with the variance between its own images."""
    wanted = set(images)
    known = np.isfinite(values.value) & (values.weight > 0)
    rows = np.flatnonzero(known & np.array([name in wanted for name in values.images], bool))
    weight, value = values.weight[rows], values.value[rows]
    n = float(weight.sum())
    share = weight / n if n else weight
    mean = float(share @ value) if n else np.nan
    chance = float(share**2 @ np.nan_to_num(values.variance[rows]))
    if values.quantity.is_share and n:
        # A share of 0 or 1 is known up to one trial.
        typical = np.clip(mean, values.quantity.per_trial / (n + 1), 1 - 1 / (n + 1))
        chance = typical * (1 - typical) * values.quantity.per_trial / n
    several = len(rows) > 1
    return SampleEstimate(
        quantity=values.quantity,
        sample=sample,
        value=mean,
        n_images=len(rows),
        weight=n,
        variance=_bootstrap_variance(value, weight, seed) if several else np.nan,
        freedom=max(1 / float(share @ share) - 1, 0.0) if several else 0.0,
        common_freedom=0.0,
        chance=chance,
        label_variance=float(share**2 @ values.label_variance[rows]),
        bias=float(share @ values.bias[rows]),
        shared=share @ values.shared[rows],
    )


def _bootstrap_variance(value: np.ndarray, weight: np.ndarray, seed: int) -> float:
    """Return the variance of the weighted mean over images, from images drawn with replacement."""
    order = np.lexsort((weight, value))  # the order of the images does not matter
    value, weight = value[order], weight[order]
    n = len(value)
    rng = np.random.default_rng(seed)
    times = rng.multinomial(n, np.full(n, 1 / n), size=N_BOOTSTRAP)
    drawn = (times @ (weight * value)) / (times @ weight)
    return float(drawn.var() * n / (n - 1))


def _family(one: SampleEstimate) -> str:
    """Return which estimates have a common variance factor: of clusters all, of atoms each."""
    return "clusters" if one.quantity.is_of_clusters else one.quantity.name


def _mean_factor(family: Sequence[SampleEstimate]) -> tuple[float, float]:
    """Return the mean of the variances relative to chance, and its degrees of freedom."""
    known = [one for one in family if one.freedom > 0 and one.chance > 0]
    freedom = sum(one.freedom for one in known)
    if not freedom:
        return np.nan, 0.0
    factor = sum(one.freedom * one.variance / one.chance for one in known) / freedom
    # The shares of the classes of a sample are not independent.
    n_quantities = len({one.quantity for one in known})
    return max(factor, 1.0), freedom * (1 if n_quantities == 1 else 0.5)


def _moderated(one: SampleEstimate, factor: float, freedom: float) -> SampleEstimate:
    """Return the estimate with its variance moderated towards a mean variance factor."""
    prior = min(PRIOR_FREEDOM, max(freedom - one.freedom, 0.0))
    total = prior + one.freedom
    if not (total > 0 and one.chance > 0 and np.isfinite(one.value)):
        return replace(one, variance=np.nan, freedom=1.0)
    own = one.variance / one.chance if one.freedom else 0.0
    moderated = max((prior * factor + one.freedom * own) / total, 1.0)
    return replace(
        one,
        variance=moderated * one.chance,
        freedom=max(total, 1.0),
        common_freedom=max(freedom, 1.0),
        own_factor=own if one.freedom else np.nan,
    )


def difference(one: SampleEstimate, other: SampleEstimate, level: float = 0.95) -> Difference:
    """Estimate the difference of two samples, ``one`` minus ``other``.

    Without an interval if each sample has one image: how much images differ is then not known.
    """
    value = one.value - other.value
    if not np.isfinite(one.variance + other.variance):
        return Difference(value)
    variances = np.array([max(one.variance, 1e-30), max(other.variance, 1e-30)])
    of_each = variances**2 / [one.freedom, other.freedom]
    # Moderated variances have their mean in common.
    freedom = min(float(variances.sum() ** 2 / of_each.sum()), one.common_freedom)
    quantile = _quantile(level, freedom)
    (low, high), (other_low, other_high) = one.limits(quantile), other.limits(quantile)
    errors = one.label_variance + other.label_variance + (one.bias - other.bias) ** 2
    errors *= quantile**2
    below = np.sqrt((one.value - low) ** 2 + (other_high - other.value) ** 2 + errors)
    above = np.sqrt((high - one.value) ** 2 + (other.value - other_low) ** 2 + errors)
    mixture = _Mixture(value, below, above, quantile, freedom, one.shared - other.shared)
    low, high = mixture.interval(level)
    limit = one.quantity.limit
    return Difference(value, max(low, -limit), min(high, limit), mixture.p_value())


def _quantile(level: float, freedom: float) -> float:
    """Return Student's two-sided quantile."""
    return min(float(-stdtrit(freedom, (1 - level) / 2)), MAX_QUANTILE)


class _Mixture:
    """Distribution of an estimate whose error is the sum of two: Student's, and a drawn one."""

    def __init__(
        self,
        value: float,
        # widths at a number of standard errors (quantile), which differ between the sides
        below: float,
        above: float,
        quantile: float,
        freedom: float,
        shared: np.ndarray,  # draws of the other error
    ) -> None:
        self.value, self.freedom = value, freedom
        self.centre = value + (shared if np.any(shared) else np.zeros(1))
        self.sd = max(below / quantile, 1e-15), max(above / quantile, 1e-15)

    def below(self, x: float) -> float:
        """Return the probability of values below x."""
        off = x - self.centre
        return float(stdtr(self.freedom, off / np.where(off < 0, *self.sd)).mean())

    def interval(self, level: float) -> tuple[float, float]:
        """Return the interval, which contains the estimate."""
        if not np.isfinite(self.sd).all():
            return np.nan, np.nan
        from scipy.optimize import brentq  # only where samples are compared

        tail = (1 - level) / 2
        width = (float(-stdtrit(self.freedom, tail)) + 1) * max(self.sd)
        ends = float(self.centre.min()) - width, float(self.centre.max()) + width
        low = brentq(lambda x: self.below(x) - tail, *ends, xtol=1e-12)
        high = brentq(lambda x: self.below(x) - (1 - tail), *ends, xtol=1e-12)
        return min(float(low), self.value), max(float(high), self.value)

    def p_value(self) -> float:
        """Return the two-sided p value of 0."""
        at_zero = self.below(0.0)
        return min(1.0, 2 * min(at_zero, 1 - at_zero))


def trend_slope(
    x: np.ndarray, estimates: Sequence[SampleEstimate], level: float = 0.95
) -> Difference:
    """Fit a straight line to values of samples; the value of the result is its slope.

    Parameters
    ----------
    x : ndarray of shape (n,)
        Time, temperature or dose of each sample, at least three different values.
    estimates : sequence of SampleEstimate
        One quantity of the samples, with their variances.
    level : float
        Coverage of the interval.
    """
    value = np.array([one.value for one in estimates])
    variance = np.array([one.variance + one.label_variance for one in estimates])
    variance = np.maximum(variance, 1e-30)
    weight = 1 / variance
    centre = weight @ x / weight.sum()
    effect = weight * (x - centre) / (weight @ (x - centre) ** 2)
    slope = float(effect @ value)
    residual = value - weight @ value / weight.sum() - slope * (x - centre)
    excess, left = float(weight @ residual**2), len(x) - 2
    of_slope = effect**2 * variance
    freedom = float(of_slope.sum() ** 2 / (of_slope**2 / [one.freedom for one in estimates]).sum())
    freedom = min(freedom, estimates[0].common_freedom)
    scale = 1.0
    if excess > left:  # the line or the errors do not explain the scatter
        scale, freedom = excess / left, float(left)
    bias = float(effect @ [one.bias for one in estimates])
    quantile = _quantile(level, freedom)
    width = quantile * np.sqrt(of_slope.sum() * scale + bias**2)
    shared = effect @ np.array([one.shared for one in estimates])
    mixture = _Mixture(slope, width, width, quantile, freedom, shared)
    return Difference(slope, *mixture.interval(level), mixture.p_value())
