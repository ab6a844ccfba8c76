"""Comparison of class ratios with reference ratios, such as the deposited composition of a sample.

A reference is a table with the columns ``scope``, ``class`` and ``fraction``. A scope is the name
of an image, a shell pattern of such names (``A_m3a_*``), whose images are pooled, or "all". Classes
that a scope does not list have a fraction of 0. Each pair of fractions has equal weight in

- R² = 1 - Σ (found - reference)² / Σ (reference - mean of references)². It compares the errors with
  the variance of the references, so it is undefined if these are equal and unreliable if there are
  few;
- the mean absolute error, in fractions;
- the bias of each class, mean of found - reference;
- the coverage: the fraction of references inside the intervals.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...core.errors import TableError, attempt
from ...core.progress import Stop
from ...core.tables.cluster_table import ALL, NON_CLASS_LABELS, classes_of
from .ratio_notes import ImageLimits
from .ratios import COLUMNS, class_ratios

if TYPE_CHECKING:
    from ...core.model_card import ModelCard

PAIRS = [
    "scope", "class", "count", "reference", "fraction", "fraction_low", "fraction_high", "note",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Comparison:
    """Fractions with their references."""

    pairs: pd.DataFrame  # A row per scope and class, with the columns `PAIRS`
    method: str = ""  # description of how the fractions were computed
    not_compared: tuple[str, ...] = ()  # scopes without images or without counted clusters

    @property
    def r2(self) -> float | None:
        """Coefficient of determination; None if undefined, see `why_no_r2`."""
        reference = self.pairs["reference"].to_numpy(float)
        if self.why_no_r2 is not None:
            return None
        scatter = ((reference - reference.mean()) ** 2).sum()
        return float(1 - (self._errors**2).sum() / scatter)

    @property
    def why_no_r2(self) -> str | None:
        """Why R² is undefined, as text; None if it is defined."""
        if not len(self.pairs):
            return "nothing was counted"
        if np.ptp(self.pairs["reference"].to_numpy(float)) < 1e-9:
            return "all reference fractions are equal"
        return None

    @property
    def mean_absolute_error(self) -> float | None:
        """Mean absolute error of the fractions; None without pairs."""
        return float(np.abs(self._errors).mean()) if len(self.pairs) else None

    @property
    def bias_per_class(self) -> dict[str, float]:
        """Class to the mean of found - reference."""
        classes = self.pairs["class"]
        bias = pd.Series(self._errors, index=classes.index).groupby(classes, sort=False).mean()
        return {str(name): float(value) for name, value in bias.items()}

    @property
    def covered(self) -> np.ndarray:
        """Whether each interval (pairs,) includes the reference."""
        pairs, margin = self.pairs, 1e-9
        low, high = pairs["fraction_low"] - margin, pairs["fraction_high"] + margin
        return pairs["reference"].between(low, high).to_numpy(bool)

    @property
    def has_interval(self) -> np.ndarray:
        """Whether each fraction (pairs,) has an interval: not that of a stack without tracks."""
        return self.pairs[["fraction_low", "fraction_high"]].notna().all(axis=1).to_numpy(bool)

    @property
    def coverage(self) -> float | None:
        """Fraction of the references inside their intervals; None without any interval."""
        known = self.has_interval
        return float(self.covered[known].mean()) if known.any() else None

    @property
    def _errors(self) -> np.ndarray:
        return (self.pairs["fraction"] - self.pairs["reference"]).to_numpy(float)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison, ready for JSON."""
        return {
            "method": self.method,
            "scopes": int(self.pairs["scope"].nunique()),
            "pairs": len(self.pairs),
            "r2": self.r2,
            "why_no_r2": self.why_no_r2,
            "mean_absolute_error": self.mean_absolute_error,
            "bias_per_class": self.bias_per_class,
            "coverage": self.coverage,
            "not_compared": list(self.not_compared),
            "table": [
                {**row, "covered": bool(covered) if known else None}
                for row, covered, known in zip(
                    self.pairs.to_dict("records"), self.covered, self.has_interval, strict=True
                )
            ],
        }


def compare(
    table: pd.DataFrame,
    reference: pd.DataFrame,
    images: Iterable[str] = (),
    *,
    method: str = "counted",
    card: ModelCard | None = None,
    level: float = 0.95,
    n_bootstrap: int | None = None,
    seed: int = 0,
    stop: Stop | None = None,
    limits: Mapping[str, ImageLimits] | None = None,
) -> Comparison:
    """Compare the class ratios of every scope with a reference.

    Parameters
    ----------
    reference : pandas.DataFrame
        Columns ``scope, class, fraction``, for example from `io.tables.read_reference`.
    images : iterable of str
        All analysed images, including those without clusters.
    level : float
        Coverage of the intervals.
    stop, limits : callable, mapping of str to ImageLimits, optional
        See `ratios.class_ratios`. Fractions that are withheld are not compared.

    Raises
    ------
    TableError
        If no scope matches an image, or the reference contains an unknown class.
    """
    names, classes = _names_and_classes(table, images, card)
    check_reference(reference, names, classes)
    found, done = dict.fromkeys(reference["scope"].astype(str), pd.DataFrame()), ""
    for scope, rows in reference.groupby("scope", sort=False):
        if not (members := images_of(str(scope), names)):
            continue
        own = table[table["image"].astype(str).isin(members)]
        one = members[0] if str(scope) in names else ALL
        ratios = class_ratios(
            own, classes, level, n_bootstrap, seed, one, members, method, card, stop, limits=limits
        )
        done = str(ratios["method"].iloc[0]) if len(ratios) else done
        shares = dict(zip(rows["class"], rows["fraction"], strict=True))
        found[str(scope)] = pair(ratios, shares, str(scope))
    empty = tuple(scope for scope, pairs in found.items() if not len(pairs))
    return Comparison(_join([pairs for pairs in found.values() if len(pairs)]), done, empty)


def attempt_ratios(
    table: pd.DataFrame,
    analysed: Sequence[str],  # names of the analysed images
    reference: pd.DataFrame | None,
    images: Sequence[str],  # those that a scope of the reference may name
    failed: MutableMapping[str, str],  # gets the errors
    groups: Mapping[str, Sequence[str]] | None = None,  # scopes of sessions and samples
    **method: Any,  # keywords of `ratios.class_ratios`
) -> tuple[pd.DataFrame, Comparison | None]:
    """Compute the ratios, and compare them with a reference; a failed part is empty or None."""
    find_ratios = partial(class_ratios, table, images=analysed, groups=groups, **method)
    ratios = attempt(failed, "ratios", find_ratios)
    ratios = pd.DataFrame(columns=COLUMNS) if ratios is None else ratios
    if reference is None:
        return ratios, None
    compute = partial(compare, table, reference, images, **method)
    return ratios, attempt(failed, "comparison", compute)


def _names_and_classes(
    table: pd.DataFrame, images: Iterable[str], card: ModelCard | None
) -> tuple[list[str], list[str]]:
    """Return all images, and all classes of the table, of the model and of the labels."""
    names = list(dict.fromkeys([*images, *table["image"].astype(str)]))
    known = classes_of(table) if card is None else [*classes_of(table), *card.classes]
    labels = sorted(set(table["label"]) - {"", *NON_CLASS_LABELS})
    return names, [*dict.fromkeys([*known, *labels])]


def _join(parts: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=PAIRS)


def pair(
    ratios: pd.DataFrame,
    reference: Mapping[str, float],  # class to fraction; other classes have a fraction of 0
    scope: str,
) -> pd.DataFrame:
    """Pair the ratios of one scope with their references."""
    rows = ratios[~ratios["class"].isin(NON_CLASS_LABELS) & ratios["fraction"].notna()]
    found = rows.assign(scope=scope, reference=[reference.get(c, 0.0) for c in rows["class"]])
    return found[PAIRS].reset_index(drop=True)


def images_of(scope: str, images: Sequence[str]) -> list[str]:
    """Return the images that belong to a scope of a reference."""
    if scope in images:
        return [scope]
    return [name for name in images if scope == ALL or fnmatchcase(name, scope)]


def reference_for(reference: pd.DataFrame, scope: str) -> dict[str, float]:
    """Return the reference fractions by class of an image or of "all".

    By name or by the first matching pattern; empty if there is none.
    """
    scopes = list(dict.fromkeys(reference["scope"]))
    for name in [s for s in scopes if s == scope] or scopes:
        if name == scope or (scope != ALL and name != ALL and fnmatchcase(scope, name)):
            rows = reference[reference["scope"] == name]
            return dict(zip(rows["class"], rows["fraction"], strict=True))
    return {}


def check_reference(
    reference: pd.DataFrame,  # columns ``scope, class, fraction``
    images: Sequence[str],
    classes: Sequence[str],
) -> None:
    """Check that a reference applies to these images and classes.

    One file may serve many samples, so scopes without images are permitted. Raises `TableError` if
    no scope matches an image, or a class of the matching scopes is unknown.
    """
    scopes = dict.fromkeys(map(str, reference["scope"]))
    fitting = [scope for scope in scopes if scope == ALL or images_of(scope, images)]
    if not fitting:
        raise TableError(
            f"the reference is for {', '.join(scopes)}, and no image has such a name",
            advice='A scope is the name of an image, a pattern such as "sample_1_*", or "all"',
        )
    strange = sorted(set(reference.loc[reference["scope"].isin(fitting), "class"]) - set(classes))
    if strange:
        raise TableError(
            f"the reference contains unknown classes: {', '.join(strange)}",
            advice=f"The classes are {', '.join(classes)}",
        )
