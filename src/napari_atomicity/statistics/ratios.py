"""Class ratios: how many clusters of each class, which fraction, and how sure of it we are.

What counts: clusters whose ``label`` is a class. So a person's corrections count, and these do
not:

- clusters cut by the border of the image, whose size can't be known (large clusters meet the
  border more often than small ones, so their share comes out low by about the ratio of
  diameter to field of view: 2 to 4 % of itself in a field of 40 nm);
- clusters labelled ``unknown`` or ``aggregate``, which are none of the classes: where there are
  any, they get a row with their count and no fraction;
- clusters without a label;
- clusters in regions that a person has excluded, such as contamination.

The fractions are those of the labels, or adjusted for wrong labels: see `statistics.prevalence`.

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

The interval of counted labels says nothing of wrong ones; those of the adjusted fractions do,
because their resamples draw the calibration of the model as well. And no bootstrap knows how
different an image that was not recorded would have been: with fewer than about five images that
differ by more than chance, the interval of ``all`` is too narrow.

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
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..core.cluster_table import ALL, NON_CLASS_LABELS, classes_of
from ..core.errors import ModelError
from ..core.progress import Stop, check
from .intervals import adjusted_interval, variance_factor, widen_interval, wilson_interval
from .prevalence import METHODS, Evidence, unavailable

if TYPE_CHECKING:
    from ..core.model_card import ModelCard


CONDITIONS_DIFFER = (
    "conditions differ from the training of the model: adapt before trusting these ratios"
)
"""The note of ratios of images that a test of their conditions has marked."""

_DTYPES = {
    "scope": "object",
    "class": "object",
    "count": "int64",
    "fraction": "float64",
    "fraction_low": "float64",
    "fraction_high": "float64",
    "method": "object",
    "note": "object",
}
COLUMNS = list(_DTYPES)


def class_ratios(
    table: pd.DataFrame,
    classes: Sequence[str] | None = None,
    level: float = 0.95,
    n_bootstrap: int | None = None,
    seed: int = 0,
    scope: str | None = None,
    images: Iterable[str] | None = None,
    method: str = "counted",
    card: ModelCard | None = None,
    stop: Stop | None = None,
) -> pd.DataFrame:
    """Counts and fractions of the classes, per image and over all images, with intervals.

    Parameters
    ----------
    table : pandas.DataFrame
        A cluster table of one image or of many. A column ``conditions_differ`` marks
        clusters of images whose conditions are not those that the model was trained for.
    classes : sequence of str, optional
        The classes, in order; those of the table's probabilities if None. Labels that are
        in the table and not among them follow at the end, so that nothing goes uncounted.
    level : float
        Coverage of the intervals, between 0 and 1.
    n_bootstrap : int, optional
        Number of resamples; 2000 of counted labels and 500 of adjusted ones if None.
    seed : int
        Of the resampling: the same table and seed give the same interval, in whatever order
        the rows and the images come.
    scope : str, optional
        One image, or "all", to get its rows only; None for every image and "all".
    images : iterable of str, optional
        All images that were analysed, in order, so that those without clusters have rows
        too.
    method : str
        A name in `prevalence.METHODS`: "counted", "confusion" or "em".
    card : ModelCard, optional
        Of the model that classified the clusters; the adjusted methods need it.
    stop : callable, optional
        ``stop() -> bool``, asked before each scope.

    Returns
    -------
    pandas.DataFrame
        Columns ``scope, class, count, fraction, fraction_low, fraction_high, method, note``: a
        row per class for each image, in table order, then for "all". Every class has its row,
        with count 0 where there is none. Counts are those of the labels, whatever the method.
        Fractions are NaN where nothing was counted. The note is empty or `CONDITIONS_DIFFER`.

    Raises
    ------
    ValueError
        If ``level`` is not between 0 and 1, ``n_bootstrap`` is not positive or there is no such
        method.
    ModelError
        If the method can't be used with this card and table.
    Cancelled
        If ``stop()`` says so.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level}")
    if n_bootstrap is not None and n_bootstrap < 1:
        raise ValueError(f"n_bootstrap must be positive, not {n_bootstrap}")
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method}")
    of_table = table[counted(table)]
    refuse_unavailable(method, card, of_table)
    model_classes = _model_classes(method, card)
    wanted_classes = classes_of(table) if classes is None else classes
    classes = _all_classes(table["label"].astype(str), [*wanted_classes, *model_classes])
    names = list(dict.fromkeys([*(images or []), *table["image"].astype(str)]))
    counts = _counts(table, names, [*classes, *NON_CLASS_LABELS])
    outside = [name for name in NON_CLASS_LABELS if (table["label"] == name).any()]
    differing = images_that_differ(table)
    given = [c for c in classes_of(table) if c in classes]
    of_all = Evidence.from_table(of_table, classes, model_classes or given)
    number_of = {name: i for i, name in enumerate(sorted(set(of_table["image"].astype(str))))}
    row_of = {name: i for i, name in enumerate(names)}

    blocks = []
    for name in [*names, ALL] if scope is None else [scope]:
        check(stop)
        is_all = name == ALL
        here = row_of.get(name)
        of_scope = counts if is_all else counts[:0] if here is None else counts[here : here + 1]
        number = pd.Series(of_scope.sum(axis=0), index=[*classes, *NON_CLASS_LABELS])
        evidence = of_all if is_all else of_all.of_image(number_of.get(name, -1))
        fractions = _fractions(evidence, method, card, level, n_bootstrap, seed)
        without = np.full(len(outside), np.nan)
        block = pd.DataFrame(
            {
                "scope": name,
                "class": [*classes, *outside],
                "count": number[[*classes, *outside]].to_numpy(),
                **{which: np.append(values, without) for which, values in fractions.items()},
                "method": [_described(method, card, level, is_all)] * len(classes)
                + ["counted"] * len(outside),
            }
        )
        differs = bool(differing) if is_all else name in differing
        block["note"] = CONDITIONS_DIFFER if differs else ""
        blocks.append(block)
    frames = [b for b in blocks if len(b)]
    if not frames:
        return pd.DataFrame({c: pd.Series(dtype=d) for c, d in _DTYPES.items()})
    return pd.concat(frames, ignore_index=True)[COLUMNS].astype(_DTYPES)


def refuse_unavailable(
    method: str, card: ModelCard | None, counted: pd.DataFrame | None = None
) -> None:
    """Raise ModelError, with the reason, if the method can't be used."""
    reason = unavailable(method, card, counted)
    if reason is not None:
        raise ModelError(
            f"ratios can't be found by {METHODS[method].title}: {reason}",
            advice="Ratios as counted need nothing but the labels",
        )


def counted(table: pd.DataFrame) -> pd.Series:
    """Which clusters count in the fractions: whole ones, not excluded, whose label is a class."""
    labels = table["label"].astype(str)
    counts = ~table["touches_border"].astype(bool) & ~labels.isin(["", *NON_CLASS_LABELS])
    return counts & ~table["excluded"].astype(bool) if "excluded" in table.columns else counts


def _model_classes(method: str, card: ModelCard | None) -> tuple[str, ...]:
    """The classes whose probabilities or confusion enter; none for counting."""
    return card.classes if card is not None and METHODS[method].missing is not None else ()


def _all_classes(labels: pd.Series, classes: Sequence[str]) -> list[str]:
    found = sorted(set(labels) - set(classes))
    return [c for c in dict.fromkeys([*classes, *found]) if c not in ("", *NON_CLASS_LABELS)]


def images_that_differ(table: pd.DataFrame) -> set[str]:
    """Images whose conditions are said to differ; where nothing is said, none does."""
    if "conditions_differ" not in table.columns:
        return set()
    # Text after a detour through a file in which other rows were empty.
    said = table["conditions_differ"].astype(str).str.lower().isin(["true", "1", "1.0"])
    return set(table.loc[said, "image"].astype(str))


def _counts(table: pd.DataFrame, images: list[str], labels: list[str]) -> np.ndarray:
    """(images, labels) numbers of whole clusters that are not excluded."""
    whole = table[~table["touches_border"].astype(bool)]
    if "excluded" in whole.columns:
        whole = whole[~whole["excluded"].astype(bool)]
    crossed = pd.crosstab(whole["image"].astype(str), whole["label"].astype(str))
    return crossed.reindex(index=images, columns=labels, fill_value=0).to_numpy(np.int64)


def _described(method: str, card: ModelCard | None, level: float, is_all: bool) -> str:
    """What was done, for a reader of the table."""
    known = METHODS[method]
    sources = [*(["images"] if is_all else []), "clusters", *known.sources]
    over = " and ".join(filter(None, [", ".join(sources[:-1]), sources[-1]]))
    of_model = f" of {card.name}" if card is not None and known.missing is not None else ""
    return f"{known.description}{of_model}; Wilson with bootstrap over {over}, {100 * level:g} %"


def _fractions(
    evidence: Evidence,
    method: str,
    card: ModelCard | None,
    level: float,
    n_bootstrap: int | None,
    seed: int,
) -> dict[str, Any]:
    """Fraction and interval of each class, from the counted clusters of a scope."""
    n = len(evidence.label)
    if n == 0:
        nothing = np.full(evidence.n_classes, np.nan)
        return {"fraction": nothing, "fraction_low": nothing, "fraction_high": nothing}
    fraction, resampled = _estimate("counted", evidence, card, n_bootstrap, seed)
    factor = variance_factor(fraction, n, resampled)
    low, high = wilson_interval(fraction, n / factor, level)
    if method == "counted":
        low, high = widen_interval(fraction, low, high, mistakes(evidence), level)
    else:
        fraction, resampled = _estimate(method, evidence, card, n_bootstrap, seed)
        low, high = adjusted_interval(fraction, n, resampled, level, float(np.median(factor)))
    return {
        "fraction": fraction,
        # Rounding must not put a fraction outside its interval.
        "fraction_low": np.minimum(low, fraction),
        "fraction_high": np.maximum(high, fraction),
    }


def mistakes(evidence: Evidence) -> np.ndarray:
    """Mean square (classes,) by which wrong labels may put the fractions off.

    From the calibrated probabilities: the variance of labels drawn from them, and the square of the
    difference between the shares of the probabilities and those of the labels, which mistakes that
    all go one way make. Labels that a person gave are right; of clusters without probabilities
    nothing is known.
    """
    n, known = len(evidence.label), evidence.known
    out = np.zeros(evidence.n_classes)
    rows = ~evidence.certain & np.isfinite(evidence.probabilities).all(axis=1)
    if not rows.any() or not len(known):
        return out
    p = evidence.probabilities[rows]
    said = evidence.label[rows, None] == known
    out[known] = (p * (1 - p)).sum(axis=0) / n**2 + ((p - said).sum(axis=0) / n) ** 2
    return out


def _estimate(
    method: str, evidence: Evidence, card: ModelCard | None, n_bootstrap: int | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(classes,) fractions and (B, classes) fractions of resamples."""
    known = METHODS[method]
    number = n_bootstrap or known.n_bootstrap
    return known.estimate(evidence, card, number, np.random.default_rng(seed))
