"""Class ratios: how many clusters of each class, which fraction, and how sure of it we are.

What is counted: clusters whose ``label`` is a class. So a person's corrections count, and these
do not:

- clusters cut by the border of the image, whose size can't be known (large clusters meet the
  border more often than small ones, so their share comes out low by about the ratio of
  diameter to field of view: 2 to 4 % of itself in a field of 40 nm);
- clusters labelled ``unknown``, which are none of the classes: where there are any, they get a
  row with their count and no fraction;
- clusters without a label.

The interval is Wilson's [1]_ for an effective number of clusters. The variance of each fraction
is found by a *bootstrap*: counted clusters are drawn anew from each image with replacement, and for
the scope ``all`` the images are drawn first. A variance f times that of counting makes n clusters
worth n/f [2]_; f is never taken below 1, so the interval is never narrower than that of counting.
The form of Wilson keeps what percentiles of resamples lose: a class that was never seen may exist
(0 of 20 does not mean "none"), and one that was seen is not absent. Of such a class all resamples
say the same; f is then that of all classes together.

A plain two-level bootstrap counts the scatter within images twice, because drawing images already
carries it [3]_. Of J images, each drawn image therefore has its clusters drawn J times over, with
a weight of 1/J. This makes the variance right for images that differ by chance alone, whatever
their number.

The interval says nothing of wrong labels: that needs the confusion of the model. And no bootstrap
knows how different an image that was not recorded would have been: with fewer than about five
images that differ by more than chance, the interval of ``all`` is too narrow.

References
----------
.. [1] L. D. Brown, T. T. Cai and A. DasGupta, "Interval estimation for a binomial proportion",
   Statistical Science 16, 101-133 (2001).
.. [2] E. L. Korn and B. I. Graubard, "Confidence intervals for proportions with small expected
   number of positive counts estimated from survey data", Survey Methodology 24, 193-201 (1998).
.. [3] A. C. Davison and D. V. Hinkley, "Bootstrap Methods and their Application", Cambridge
   University Press (1997), section 3.8.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy.stats import norm

from ..table import UNKNOWN, classes_of

ALL = "all"
"""The scope of the ratios over all images."""

COLUMNS = ["scope", "class", "count", "fraction", "fraction_low", "fraction_high", "method"]


def class_ratios(
    table: pd.DataFrame,
    classes: Sequence[str] | None = None,
    level: float = 0.95,
    n_bootstrap: int = 2000,
    seed: int = 0,
    scope: str | None = None,
    images: Iterable[str] | None = None,
) -> pd.DataFrame:
    """Counts and fractions of the classes, per image and over all images, with intervals.

    Parameters
    ----------
    table
        A cluster table of one image or of many.
    classes
        The classes, in order; those of the table's probabilities if None. Labels that are in the
        table and not among them follow at the end, so that nothing goes uncounted.
    level
        Coverage of the intervals, between 0 and 1.
    n_bootstrap
        Number of resamples.
    seed
        Of the resampling: the same table and seed give the same interval, in whatever order the
        rows and the images come.
    scope
        One image, or "all", to get its rows only; None for every image and "all".
    images
        All images that were analysed, in order, so that those without clusters have rows too.

    Returns
    -------
    pandas.DataFrame
        Columns ``scope, class, count, fraction, fraction_low, fraction_high, method``: a row per
        class for each image, in table order, then for "all". Every class has its row, with count
        0 where there is none. Fractions are NaN where nothing was counted.

    Raises
    ------
    ValueError
        If ``level`` is not between 0 and 1 or ``n_bootstrap`` is not positive.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level}")
    if n_bootstrap < 1:
        raise ValueError(f"n_bootstrap must be positive, not {n_bootstrap}")
    labels = table["label"].astype(str)
    classes = _all_classes(labels, classes_of(table) if classes is None else classes)
    names = list(dict.fromkeys([*(images or []), *table["image"].astype(str)]))
    counts = _counts(table, names, [*classes, UNKNOWN])
    unknown_seen = bool((labels == UNKNOWN).any())

    wanted = [*names, ALL] if scope is None else [scope]
    blocks = []
    for name in wanted:
        of_scope = counts if name == ALL else counts[[n == name for n in names]]
        source = "images and clusters" if name == ALL else "clusters"
        method = f"counted; Wilson with bootstrap over {source}, {100 * level:g} %"
        block = _block(of_scope[:, :-1], level, n_bootstrap, seed)
        block.insert(0, "scope", name)
        block.insert(1, "class", classes)
        block["method"] = method
        if unknown_seen:
            block.loc[len(block)] = [
                name, UNKNOWN, int(of_scope[:, -1].sum()), np.nan, np.nan, np.nan, "counted",
            ]  # fmt: skip
        blocks.append(block)
    frames = [b for b in blocks if len(b)]
    if not frames:
        return pd.DataFrame({c: pd.Series(dtype=d) for c, d in zip(COLUMNS, _DTYPES, strict=True)})
    return pd.concat(frames, ignore_index=True)[COLUMNS].astype(
        dict(zip(COLUMNS, _DTYPES, strict=True))
    )


_DTYPES = ["object", "object", "int64", "float64", "float64", "float64", "object"]


def counted(table: pd.DataFrame) -> pd.Series:
    """Which clusters count in the fractions: whole ones with a label that is a class."""
    labels = table["label"].astype(str)
    return ~table["touches_border"].astype(bool) & ~labels.isin(["", UNKNOWN])


def _all_classes(labels: pd.Series, classes: Sequence[str]) -> list[str]:
    found = sorted(set(labels) - set(classes))
    return [c for c in [*classes, *found] if c not in ("", UNKNOWN)]


def _counts(table: pd.DataFrame, images: list[str], labels: list[str]) -> np.ndarray:
    """(images, labels) numbers of whole clusters."""
    whole = table[~table["touches_border"].astype(bool)]
    crossed = pd.crosstab(whole["image"].astype(str), whole["label"].astype(str))
    return crossed.reindex(index=images, columns=labels, fill_value=0).to_numpy(np.int64)


def _block(counts: np.ndarray, level: float, n_bootstrap: int, seed: int) -> pd.DataFrame:
    """Count, fraction and interval of each class from (images, classes) counts."""
    total = counts.sum(axis=0)
    n = total.sum()
    if n == 0:
        nothing = np.full(len(total), np.nan)
        return pd.DataFrame(
            {"count": total, "fraction": nothing, "fraction_low": nothing, "fraction_high": nothing}
        )
    fraction = total / n
    resampled = bootstrap_fractions(counts, n_bootstrap, np.random.default_rng(seed))
    low, high = wilson_interval(fraction, n / variance_factor(fraction, n, resampled), level)
    return pd.DataFrame(
        {
            "count": total,
            "fraction": fraction,
            # Rounding must not put a fraction outside its interval.
            "fraction_low": np.minimum(low, fraction),
            "fraction_high": np.maximum(high, fraction),
        }
    )


def variance_factor(fraction: np.ndarray, n: int, resampled: np.ndarray) -> np.ndarray:
    """By how much each class's resamples scatter more than n independent clusters would.

    Parameters
    ----------
    fraction
        (classes,) fractions as counted.
    n
        Number of clusters.
    resampled
        (B, classes) from `bootstrap_fractions`.

    Returns
    -------
    ndarray
        (classes,) factors, at least 1; for classes that are absent or alone, which do not scatter,
        that of all classes together.
    """
    of_counting = fraction * (1 - fraction) / n
    scatter = resampled.var(axis=0)
    together = scatter.sum() / of_counting.sum() if of_counting.any() else 1.0
    factor = np.full(len(fraction), together)
    np.divide(scatter, of_counting, out=factor, where=of_counting > 0)
    return np.maximum(factor, 1.0)


def wilson_interval(
    fraction: np.ndarray, n: float | np.ndarray, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's score interval of a fraction of ``n`` trials, which need not be a whole number."""
    z = norm.ppf(0.5 + level / 2)
    p = np.asarray(fraction, float)
    centre = p + z**2 / (2 * n)
    half_width = z * np.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    scale = 1 + z**2 / n
    return (
        np.clip((centre - half_width) / scale, 0, 1),
        np.clip((centre + half_width) / scale, 0, 1),
    )


def bootstrap_fractions(
    counts: np.ndarray, n_bootstrap: int, rng: np.random.Generator
) -> np.ndarray:
    """Pooled class fractions of resampled images and, within them, resampled clusters.

    Parameters
    ----------
    counts
        (images, classes) numbers of clusters, at least one in all.
    n_bootstrap
        Number of resamples B.
    rng
        Source of randomness.

    Returns
    -------
    ndarray
        (B, classes); each row sums to 1.
    """
    counts = counts[counts.sum(axis=1) > 0]
    # The draws must not depend on the order in which the images came.
    counts = counts[np.lexsort(counts.T[::-1])]
    n_images, n_classes = counts.shape
    copies = rng.multinomial(n_images, np.full(n_images, 1 / n_images), size=n_bootstrap)
    drawn = np.zeros((n_bootstrap, n_classes))
    for of_image, times in zip(counts, copies.T, strict=True):
        n = of_image.sum()
        drawn += rng.multinomial(times * n * n_images, of_image / n)
    return drawn / drawn.sum(axis=1, keepdims=True)
