"""How many images of a sample a result of a given precision takes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.special import ndtri, stdtrit

from .comparison import SampleComparison
from .sample_estimates import SampleEstimate

MAX_IMAGES = 1000
HALF_WIDTH = 0.05
"""Half-width of an interval that is aimed at: of a share, or relative to another value."""


def more_images(
    one: SampleEstimate,
    half_width: float = HALF_WIDTH,
    level: float = 0.95,
    other: SampleEstimate | None = None,
) -> int | None:
    """Estimate how many more images of a sample make its interval narrow enough.

    Further images are assumed to be like the present ones, recorded in the same sessions: they
    reduce the scatter between images and the errors of single labels, but neither systematic errors
    of the labels nor that of the scale.

    Parameters
    ----------
    half_width : float
        Half-width of the interval: of a share as a fraction, of other quantities relative to the
        value.
    level : float
        Coverage of the interval.
    other : SampleEstimate, optional
        The sample that it is compared with, whose images stay; the interval is then that of the
        difference.

    Returns
    -------
    int or None
        0 if the interval is narrow enough; None if nothing is known of the scatter between images,
        or more than `MAX_IMAGES` would not suffice.
    """
    if not np.isfinite(one.variance) or (other is not None and not np.isfinite(other.variance)):
        return None
    target = half_width if one.quantity.is_share else half_width * abs(one.value)
    rest, bias, shared = 0.0, one.bias, one.shared
    if other is not None:
        rest, bias = other.variance + other.label_variance, bias - other.bias
        shared = shared - other.shared
    images = one.n_images + np.arange(MAX_IMAGES + 1)
    variance = (one.variance + one.label_variance) * one.n_images / images + rest + bias**2
    freedom = one.freedom + images - one.n_images
    of_images = -stdtrit(freedom, (1 - level) / 2) * np.sqrt(variance)
    width = np.hypot(of_images, ndtri(0.5 + level / 2) * shared.std())
    enough = np.flatnonzero(width <= target)
    return int(enough[0]) if len(enough) else None


def describe_more_images(
    estimates: Iterable[SampleEstimate],
    half_width: float = HALF_WIDTH,
) -> str:
    """Say how many more images a sample needs: "about 6 more images of x for ±5 % in each share".

    Parameters
    ----------
    estimates : iterable of SampleEstimate
        Quantities of one sample, of which the shares of the classes count: the widest one decides.

    Returns
    -------
    str
        Empty if the sample has no counted clusters.
    """
    shares = [
        one
        for one in estimates
        if one.quantity.is_share and one.quantity.is_of_clusters and np.isfinite(one.value)
    ]
    if not shares:
        return ""
    name, aim = shares[0].sample, f"±{100 * half_width:g} percentage points in each share"
    if not all(np.isfinite(one.variance) for one in shares):
        return (
            f"{name} has one image with counted clusters: add images to know how much they differ"
        )
    numbers = [more_images(one, half_width) for one in shares]
    if None in numbers:
        return (
            f"{MAX_IMAGES} more images of {name} would not give {aim}: labels or scale are too "
            "uncertain, or images differ too much"
        )
    most = max(number for number in numbers if number is not None)
    if not most:
        return f"{name} has enough images for {aim}"
    return f"about {most} more {'image' if most == 1 else 'images'} of {name} for {aim}"


def plans_of_samples(comparison: SampleComparison) -> list[str]:
    """Say of each sample with clusters how many more images it needs, unless it is withheld."""
    rows = comparison.table[comparison.table["value"].notna()]
    given = set(zip(rows["sample"], rows["quantity"], rows["class"], strict=True))
    plans = [
        describe_more_images(
            one
            for of in comparison.estimates
            if (one := of.get(sample.name)) is not None
            and (one.sample, one.quantity.name, one.quantity.label) in given
        )
        for sample in comparison.samples
    ]
    return [plan for plan in plans if plan]
