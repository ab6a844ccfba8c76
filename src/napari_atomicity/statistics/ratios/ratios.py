"""Class ratios: counts and fractions of the classes of clusters, with intervals.

A cluster counts if its ``label`` is a class; manual corrections are included. These do not count:

- clusters cut by the image border, whose size is unknown. Large clusters touch the border more
  often than small ones, so their fraction is too low by about the ratio of diameter to field of
  view: relative errors of 2 to 4 % in a field of 40 nm;
- clusters labelled ``unknown`` or ``aggregate``, which are not classes. If there are any, they have
  a row with their count and no fraction;
- clusters without a label;
- clusters in excluded regions, for example contamination;
- clusters of a tracked movie that are in no track.

A track of a movie counts once, with its smoothed label (`track_counts.merge_tracks`). Clusters of a
stack that is not tracked are counted in each frame and are not independent: such scopes have no
interval.

The fractions are those of the labels, or adjusted for classification errors: see
`statistics.ratios.prevalence`.

The interval is Wilson's [1]_ for an effective number of clusters. The variance of each fraction
comes from a *bootstrap*: counted clusters are drawn from each image with replacement, and for the
scope ``all`` images are drawn first. With a variance f times the binomial one, n clusters count as
n/f [2]_; f is at least 1, so the interval is never narrower than the binomial one. Wilson's form
avoids two errors of bootstrap percentiles: a class that did not occur may exist (0 of 20 does not
mean "none"), and one that occurred is not absent. All resamples of such a class are equal; it gets
the f of all classes together.

A plain two-level bootstrap counts the variance within images twice, because drawing images already
includes it [3]_. Therefore, of J images, the clusters of each drawn image are drawn J times, with a
weight of 1/J. Then the variance is right for images that differ by chance alone, for any J.

The interval of counted labels includes expected classification errors
(`ratios.classification_error`), independent for each cluster; resamples of adjusted
fractions draw the calibration of the model as well. If the intensity scale of an image is wrong,
all of its labels are wrong together. Therefore the interval of any method includes joint draws:
first a scale for each image, jointly for the images of a session, then the labels
(`ratios.shared_errors`, `intervals.mixed_interval`). The clusters of an image
without a manual label take the shares of the classes that belong to the scale. Analyses of earlier
versions, and tables without ``limits``, have no record of the scales and no such part. No bootstrap
includes images that were not recorded: with fewer than about five images that differ by more than
chance, the interval of ``all`` is too narrow.

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

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ...core.errors import ModelError
from ...core.progress import Stop, check
from ...core.tables.cluster_table import (
    ALL,
    NON_CLASS_LABELS,
    UNKNOWN,
    classes_of,
    first_reasons,
    is_excluded,
    is_whole,
)
from ...core.tables.columns import RATIO_SCHEMA, conform_columns, flags
from ...core.text import listed
from ..intervals import (
    adjusted_interval,
    mixed_interval,
    variance_factor,
    widen_interval,
    wilson_interval,
)
from .prevalence import METHODS, N_DRAWS, Evidence, solutions_by_image, unavailable
from .ratio_notes import SEPARATOR, ImageLimits, ratio_notes, reason_to_withhold
from .track_counts import (
    PATH,
    merge_tracks,
    stacks_without_tracks,
    time_fractions,
    untracked_in_movies,
)

if TYPE_CHECKING:
    from ...core.model_card import ModelCard


# ---- expected errors of the counted fractions due to wrong labels, from the class probabilities
#
# A scale that is wrong for an image shifts all of its labels. By the law of total variance, the
# error of a fraction is the error within a solution of the scale, which is independent for each
# cluster (`classification_error`), and the differences between the solutions (`shared_errors`),
# which the clusters of an image share, and the images of a session in part.


def classification_sums(evidence: Evidence) -> tuple[np.ndarray, np.ndarray]:
    """Return what is known of the classification errors of the numbers of clusters by class.

    From the calibrated probabilities of the model: the variance of labels drawn from them, and the
    expected number minus that of the labels, which is a systematic error; each (classes,). Manual
    labels are certain; clusters without probabilities do not contribute. The part of
    `shared_errors` is subtracted from both.
    """
    known = evidence.known
    variance, difference = np.zeros((2, evidence.n_classes))
    rows = ~evidence.certain & np.isfinite(evidence.probabilities).all(axis=1)
    if not rows.any() or not len(known):
        return variance, difference
    p = evidence.probabilities[rows]
    labelled = evidence.label[rows, None] == known
    variance[known], difference[known] = (p * (1 - p)).sum(axis=0), (p - labelled).sum(axis=0)
    if evidence.solutions:
        n_of_image = np.bincount(evidence.image[rows], minlength=max(evidence.solutions) + 1)
        for image, solutions in evidence.solutions.items():
            shift, spread = solutions.moments()
            difference[known] -= n_of_image[image] * shift
            variance[known] -= n_of_image[image] * spread
    return np.maximum(variance, 0), difference


def classification_error(evidence: Evidence) -> np.ndarray:
    """Estimate the mean squared error (classes,) of the fractions due to classification errors.

    The variance and the squared systematic error of `classification_sums`.
    """
    variance, difference = classification_sums(evidence)
    n = len(evidence.label)
    return np.asarray(variance / n**2 + (difference / n) ** 2)


def shared_errors(
    evidence: Evidence,  # counted clusters of a scope, at least one
) -> np.ndarray:  # (N_DRAWS, classes)
    """Draw the errors of the fractions that come from the scales of the images.

    In each draw an image has one solution of its scale, and the fractions change by the difference
    of the shares of the classes in this solution from those in the best one. Clusters with a manual
    label do not change. The draws of the images of a session are joint.
    """
    total = np.zeros((N_DRAWS, evidence.n_classes))
    if evidence.solutions:
        uncertain = evidence.image[~evidence.certain]
        n_of_image = np.bincount(uncertain, minlength=max(evidence.solutions) + 1)
        for image, solutions in evidence.solutions.items():
            total[:, evidence.known] += n_of_image[image] * solutions.shifts(seed=image)
    return total / len(evidence.label)


MIN_CLIPPED_FRACTION = 0.01
"""Mean fraction of clipped pixels of the clusters of an image from which that is noted."""
MIN_SATURATED_FRACTION = 0.5
"""Median fraction from which fractions of the classes are withheld."""
MIN_ADJUSTED_FRACTION = 1e-6
"""Adjusted fractions below it are 0, which the likelihood approaches slowly."""
COLUMNS = [column.name for column in RATIO_SCHEMA]
"""Columns of a table of ratios; see `core.tables.columns`."""


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
    *,
    limits: Mapping[str, ImageLimits] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> pd.DataFrame:
    """Compute counts and fractions of the classes per image and for all images, with intervals.

    Parameters
    ----------
    table : pandas.DataFrame
        A cluster table. A column ``conditions_differ`` marks clusters of images whose conditions
        differ from the training of the model.
    classes : sequence of str, optional
        The classes, in order; those of the table's probabilities if None. Other labels follow.
    level : float
        Coverage of the intervals, between 0 and 1.
    n_bootstrap : int, optional
        Number of resamples; 2000 for counted labels and 500 for adjusted ones if None.
    seed : int
        Seed of the resampling; the order of rows and images does not matter.
    images : iterable of str, optional
        All analysed images, in order, so that those without clusters have rows.
    method : str
        A name in `prevalence.METHODS`: "counted", "confusion" or "em".
    card : ModelCard, optional
        Card of the model that classified the clusters; the adjusted methods require it.
    limits : mapping of str to ImageLimits, optional
        Image → properties that limit the use of its labels, for the column ``note`` and for
        intervals that include errors of the intensity scale. Fractions that include labels of the
        model in images of a session that does not fit its classes are NaN, unless ``keep_ratios``
        of the image is true.
    groups : mapping of str to sequence of str, optional
        Further scopes with their images, such as those of sessions and samples
        (`core.acquisition_session.group_scopes`).

    Returns
    -------
    pandas.DataFrame
        Columns `COLUMNS`; a row per class for each image, each group, then for "all". Counts are
        those of the labels for any method. Fractions are NaN where no cluster counts.

    Raises
    ------
    ValueError, ModelError, Cancelled
        If an argument is invalid, the method is unavailable, or ``stop()`` is true.
    """
    how = _Method(method, card, level, n_bootstrap, seed)
    source = _RatioSource(table, classes, images, how, limits or {}, groups or {})
    scopes = [*source.images, *source.groups, ALL] if scope is None else [scope]
    return source.compute(scopes, stop)


@dataclass(frozen=True)
class _Method:
    """How fractions and intervals are computed; see `class_ratios`."""

    name: str
    card: ModelCard | None
    level: float
    n_bootstrap: int | None
    seed: int

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise ValueError(f"level must be between 0 and 1, not {self.level}")
        if self.n_bootstrap is not None and self.n_bootstrap < 1:
            raise ValueError(f"n_bootstrap must be positive, not {self.n_bootstrap}")
        if self.name not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, not {self.name}")

    @property
    def model_classes(self) -> tuple[str, ...]:
        """Classes whose probabilities or confusion are used; none for counting."""
        uses_card = self.card is not None and METHODS[self.name].missing is not None
        return self.card.classes if self.card is not None and uses_card else ()

    def describe(self, is_pooled: bool, units: Sequence[str], has_interval: bool) -> str:
        """Return the text of the column ``method``."""
        known, card = METHODS[self.name], self.card
        sources = [*(["images"] if is_pooled else []), *units, *known.sources]
        of_model = f" of {card.name}" if card is not None and known.missing is not None else ""
        interval = f"Wilson with bootstrap over {listed(sources)}, {100 * self.level:g} %"
        if not has_interval:
            interval = "no interval"
        return f"{known.description}{of_model}; {interval}"

    def estimate(self, evidence: Evidence) -> tuple[np.ndarray, np.ndarray]:
        """Return fractions (classes,) and fractions (B, classes) of resamples."""
        known = METHODS[self.name]
        number = self.n_bootstrap or known.n_bootstrap
        return known.estimate(evidence, self.card, number, np.random.default_rng(self.seed))

    def fractions(self, evidence: Evidence) -> dict[str, np.ndarray]:
        """Compute the fraction and interval of each class from the counted clusters of a scope."""
        n = len(evidence.label)
        if n == 0:
            nothing = np.full(evidence.n_classes, np.nan)
            return {"fraction": nothing, "fraction_low": nothing, "fraction_high": nothing}
        fraction, resampled = replace(self, name="counted").estimate(evidence)
        factor = variance_factor(fraction, n, resampled)
        low, high = wilson_interval(fraction, n / factor, self.level)
        if self.name == "counted":
            errors = classification_error(evidence)
            low, high = widen_interval(fraction, low, high, errors, self.level)
        else:
            fraction, resampled = self.estimate(evidence)
            fraction = np.where(fraction < MIN_ADJUSTED_FRACTION, 0.0, fraction)
            min_factor = float(np.median(factor))
            low, high = adjusted_interval(fraction, n, resampled, self.level, min_factor)
        if evidence.solutions:
            low, high = mixed_interval(fraction, low, high, shared_errors(evidence), self.level)
        return {
            "fraction": fraction,
            # Rounding must not put a fraction outside its interval.
            "fraction_low": np.minimum(low, fraction),
            "fraction_high": np.maximum(high, fraction),
        }


def _model_of_each_image(table: pd.DataFrame) -> dict[str, str]:
    """Return the model that labelled most clusters of each image, where a model labelled some."""
    pairs = table[["image", "model_id"]].astype(str)
    numbers = pairs[pairs["model_id"] != ""].value_counts().reset_index()
    most = numbers.drop_duplicates("image")  # they are in falling order
    return dict(zip(most["image"], most["model_id"], strict=True))


class _RatioSource:
    """The clusters of a table by image, from which the ratios of any scope follow."""

    def __init__(
        self,
        table: pd.DataFrame,
        classes: Sequence[str] | None,
        images: Iterable[str] | None,
        method: _Method,
        limits: Mapping[str, ImageLimits],
        groups: Mapping[str, Sequence[str]],
    ) -> None:
        self.groups = groups
        self._pooled: dict[tuple[int, ...], dict[str, np.ndarray]] = {}
        self._stacks = stacks_without_tracks(table)
        table = merge_tracks(table)
        in_ratios = table[counted(table)]
        self._unlabelled = Counter(
            table.loc[(table["label"] == "") & is_whole(table), "image"].astype(str)
        )
        refuse_unavailable(method.name, method.card, in_ratios)
        self.method = method
        self._in_ratios = in_ratios
        wanted = [*(classes_of(table) if classes is None else classes), *method.model_classes]
        self.classes = _all_classes(table["label"].astype(str), wanted)
        self.images = list(dict.fromkeys([*(images or []), *table["image"].astype(str).unique()]))
        self._row = {name: i for i, name in enumerate(self.images)}
        self._counts = _counts(table, self.images, [*self.classes, *NON_CLASS_LABELS])
        self._other_labels = [n for n in NON_CLASS_LABELS if (table["label"] == n).any()]
        self._differing = images_that_differ(table)
        self._models = _model_of_each_image(table)
        clipped, saturated = clipped_images(table), saturated_images(table)
        self._limits = [
            replace(
                limits.get(name, ImageLimits()),
                is_clipped=name in clipped,
                is_saturated=name in saturated,
                repeats_clusters=name in self._stacks,
                has_scale=name in self._models,
            )
            for name in self.images
        ]
        probable = [c for c in classes_of(table) if c in self.classes]
        known = method.model_classes or probable
        with_evidence = sorted(in_ratios["image"].astype(str).unique())
        self._number = {name: i for i, name in enumerate(with_evidence)}
        found = {name: limits[name].solutions for name in {*limits} & {*self._number}}
        solutions = solutions_by_image(in_ratios, known, found)
        evidence = Evidence.from_table(in_ratios, self.classes, known)
        by_number = {self._number[name]: one for name, one in solutions.items()}
        self._evidence = replace(evidence, solutions=by_number)

    def compute(self, scopes: Sequence[str], stop: Stop | None) -> pd.DataFrame:
        """Compute the rows of several scopes."""
        blocks = []
        for scope in scopes:
            check(stop)
            blocks.append(self._rows(scope))
        names = blocks[0] if blocks else ()
        columns = {name: np.concatenate([b[name] for b in blocks]) for name in names}
        return conform_columns(pd.DataFrame(columns), RATIO_SCHEMA, "table of ratios")

    def _rows(self, scope: str) -> dict[str, np.ndarray]:
        """Return the rows of a scope as arrays by column."""
        labels = [*self.classes, *self._other_labels]
        numbers = self._images_of(scope)
        names = [self.images[i] for i in numbers]
        counts = self._counts[numbers].sum(axis=0)
        is_shown = [n in labels for n in [*self.classes, *NON_CLASS_LABELS]]
        evidence = self._evidence_of(names)
        fractions = self._fractions(numbers, evidence)
        limits = [self._limits[i] for i in numbers]
        if reason_to_withhold(limits) and not evidence.certain.all():
            fractions = {which: np.full_like(x, np.nan) for which, x in fractions.items()}
        has_interval = self._stacks.isdisjoint(names)
        if not has_interval:
            nothing = np.full(len(self.classes), np.nan)
            fractions |= {"fraction_low": nothing, "fraction_high": nothing}
        without = np.full(len(self._other_labels), np.nan)
        rows = self._in_ratios
        if scope != ALL and PATH in rows.columns:
            rows = rows[rows["image"].astype(str).isin(names)]
        is_pooled = scope == ALL or scope in self.groups
        description = self.method.describe(is_pooled, _units(rows), has_interval)
        n = len(labels)
        methods = [description] * len(self.classes) + ["counted"] * len(self._other_labels)
        return {
            "scope": np.full(n, scope, object),
            "class": np.array(labels, object),
            "count": counts[is_shown],
            **{which: np.append(values, without) for which, values in fractions.items()},
            "method": np.array(methods, object),
            "note": np.full(n, self._note(scope), object),
            "time_fraction": time_fractions(rows, labels),
        }

    def _note(self, scope: str) -> str:
        """Return the reasons that limit the use of the ratios of a scope."""
        rows = self._images_of(scope)
        n_classes = len(self.classes)
        counts = self._counts[rows, :n_classes].sum(axis=1)
        n_unknown = int(self._counts[rows, n_classes + NON_CLASS_LABELS.index(UNKNOWN)].sum())
        differs = not self._differing.isdisjoint(self.images[i] for i in rows)
        limits = [self._limits[i] for i in rows]
        models = [model for i in rows if (model := self._models.get(self.images[i]))]
        n_unlabelled = sum(self._unlabelled[self.images[i]] for i in rows)
        numbers = n_unlabelled, n_unknown
        return SEPARATOR.join(ratio_notes(counts.tolist(), limits, differs, models, *numbers))

    def _images_of(self, scope: str) -> list[int]:
        """Return the indices of the images of a scope; an image has precedence over a group."""
        if scope == ALL:
            return list(range(len(self.images)))
        names = [scope] if scope in self._row else self.groups.get(scope, ())
        return [self._row[name] for name in names if name in self._row]

    def _evidence_of(self, names: Sequence[str]) -> Evidence:
        if len(names) == len(self.images):
            return self._evidence
        return self._evidence.of_images([self._number[n] for n in names if n in self._number])

    def _fractions(self, numbers: Sequence[int], evidence: Evidence) -> dict[str, np.ndarray]:
        """Compute the fractions of a scope; several scopes may consist of the same images."""
        key = tuple(numbers)
        if key not in self._pooled:
            self._pooled[key] = self.method.fractions(evidence)
        return self._pooled[key]


def refuse_unavailable(
    method: str, card: ModelCard | None, counted: pd.DataFrame | None = None
) -> None:
    """Raise an error if a method can't be used.

    Raises `ModelError` if the method can't be used, with the reason.
    """
    reason = unavailable(method, card, counted)
    if reason is not None:
        raise ModelError(
            f"the method {METHODS[method].title} is not available: {reason}",
            advice="Counted ratios require labels only",
        )


def counted(table: pd.DataFrame) -> pd.Series:
    """Return which clusters count: whole ones that are not excluded, whose label is a class."""
    return ~table["label"].isin(["", *NON_CLASS_LABELS]) & is_whole(table)


def count_excluded(
    table: pd.DataFrame,
    merged: pd.DataFrame,  # `merge_tracks` of the table
) -> dict[str, int]:
    """Count the clusters or tracks that are not `counted`, by the first reason of each."""
    labels = merged["label"].to_numpy(object)
    reasons = first_reasons(
        {
            "in excluded regions": is_excluded(merged),
            "cut by the border": merged["touches_border"].to_numpy(bool),
            **{f"labelled {name}": labels == name for name in NON_CLASS_LABELS},
            "without a label": labels == "",
        }
    )
    numbers = {reason: int(rows.sum()) for reason, rows in reasons.items()}
    numbers["in no track"] = untracked_in_movies(table)
    return {reason: n for reason, n in numbers.items() if n}


def _units(rows: pd.DataFrame) -> list[str]:
    """Return what is counted: clusters, tracks or both; clusters if there are none."""
    if PATH not in rows.columns or not len(rows):
        return ["clusters"]
    is_track = rows[PATH].notna()
    return [*(["clusters"] if not is_track.all() else []), *(["tracks"] if is_track.any() else [])]


def _all_classes(labels: pd.Series, classes: Sequence[str]) -> list[str]:
    found = sorted(set(labels.unique()) - set(classes))
    return [c for c in dict.fromkeys([*classes, *found]) if c not in ("", *NON_CLASS_LABELS)]


def images_that_differ(table: pd.DataFrame) -> set[str]:
    """Return the images that the column ``conditions_differ`` marks; none without the column."""
    if "conditions_differ" not in table.columns:
        return set()
    return set(table.loc[flags(table["conditions_differ"]), "image"].astype(str))


def clipped_images(table: pd.DataFrame) -> set[str]:
    """Return the images whose clusters have lost intensity at the upper limit of the range."""
    return _images_clipped(table, "mean", MIN_CLIPPED_FRACTION)


def saturated_images(table: pd.DataFrame) -> set[str]:
    """Return the images whose clusters are mostly clipped: their intensities are lost."""
    return _images_clipped(table, "median", MIN_SATURATED_FRACTION)


def _images_clipped(table: pd.DataFrame, average: str, limit: float) -> set[str]:
    """Return the images in which the average clipped fraction of the clusters reaches a limit."""
    if "clipped" not in table.columns:
        return set()
    clipped = table["clipped"].astype(float).fillna(0).groupby(table["image"].astype(str))
    found = clipped.agg(average)
    return set(found.index[found >= limit])


def _counts(table: pd.DataFrame, images: list[str], labels: list[str]) -> np.ndarray:
    """Count whole clusters that are not excluded: (images, labels)."""
    whole = table[is_whole(table)]
    row, column = (
        pd.Index(names, dtype=object).get_indexer(pd.Index(whole[name].astype(str), dtype=object))
        for name, names in (("image", images), ("label", labels))
    )
    counts = np.zeros((len(images), len(labels)), np.int64)
    np.add.at(counts, (row[column >= 0], column[column >= 0]), 1)
    return counts
