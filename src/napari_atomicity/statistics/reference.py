"""Class ratios beside ratios that are known by other means, such as the deposit of a sample.

A reference is a table with the columns ``scope``, ``class`` and ``fraction``. Its scope is the
name of an image, a shell pattern of such names (``A_m3a_*``), whose images are pooled, or "all".
Classes that it does not name are taken to be absent. Each pair of fractions counts the same in

- R² = 1 - Σ (found - reference)² / Σ (reference - mean of references)². It compares the errors
  with the spread of the references, so it is undefined where these are all equal and weak where
  they are few;
- the mean absolute error, in fractions;
- the bias of each class, mean of found - reference;
- the coverage: which part of the references lies in the intervals of what was found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..core.cluster_table import ALL, NON_CLASS_LABELS, classes_of
from ..core.errors import TableError
from ..core.progress import Stop
from .ratios import class_ratios

if TYPE_CHECKING:
    from ..core.model_card import ModelCard

PAIRS = [
    "scope", "class", "count", "reference", "fraction", "fraction_low", "fraction_high", "note",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Comparison:
    """Fractions beside their references.

    Parameters
    ----------
    pairs : pandas.DataFrame
        A row per scope and class, with the columns `PAIRS`.
    method : str
        How the fractions were found.
    not_compared : tuple of str
        Scopes without images, or in which nothing was counted.
    """

    pairs: pd.DataFrame
    method: str = ""
    not_compared: tuple[str, ...] = ()

    @property
    def r2(self) -> float | None:
        """None where it is not defined: see `why_no_r2`."""
        reference = self.pairs["reference"].to_numpy(float)
        if self.why_no_r2 is not None:
            return None
        scatter = ((reference - reference.mean()) ** 2).sum()
        return float(1 - (self._errors**2).sum() / scatter)

    @property
    def why_no_r2(self) -> str | None:
        """Why R² is not defined, in words; None where it is."""
        if not len(self.pairs):
            return "nothing was counted"
        if np.ptp(self.pairs["reference"].to_numpy(float)) < 1e-9:
            return "all reference fractions are equal"
        return None

    @property
    def mean_absolute_error(self) -> float | None:
        return float(np.abs(self._errors).mean()) if len(self.pairs) else None

    @property
    def bias_per_class(self) -> dict[str, float]:
        """Class → mean of found - reference."""
        classes = self.pairs["class"]
        bias = pd.Series(self._errors, index=classes.index).groupby(classes, sort=False).mean()
        return {str(name): float(value) for name, value in bias.items()}

    @property
    def covered(self) -> np.ndarray:
        """(pairs,) whether the reference lies in the interval."""
        pairs, margin = self.pairs, 1e-9
        low, high = pairs["fraction_low"] - margin, pairs["fraction_high"] + margin
        return pairs["reference"].between(low, high).to_numpy(bool)

    @property
    def coverage(self) -> float | None:
        """Share of the references that lie in their intervals."""
        return float(self.covered.mean()) if len(self.pairs) else None

    @property
    def _errors(self) -> np.ndarray:
        return (self.pairs["fraction"] - self.pairs["reference"]).to_numpy(float)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
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
            "table": self.pairs.assign(covered=self.covered).to_dict("records"),
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
) -> Comparison:
    """Find the class ratios of every scope of a reference and set them beside it.

    Parameters
    ----------
    table : pandas.DataFrame
        A cluster table.
    reference : pandas.DataFrame
        Columns ``scope, class, fraction``: from `io.tables.read_reference`,
        `parse_reference` or `normalised`.
    images : iterable of str
        All images that were analysed, those without clusters too.
    method, card, level, n_bootstrap, seed, stop : str
        As of `ratios.class_ratios`.

    Raises
    ------
    TableError
        If no scope fits an image, or the reference names a class that nobody knows.
    ModelError, Cancelled
        As `ratios.class_ratios`.
    """
    names = list(dict.fromkeys([*images, *table["image"].astype(str)]))
    known = classes_of(table) if card is None else [*classes_of(table), *card.classes]
    classes = [*dict.fromkeys([*known, *sorted(set(table["label"]) - {"", *NON_CLASS_LABELS})])]
    check_reference(reference, names, classes)
    parts, empty, done = [], [], ""
    for scope, rows in reference.groupby("scope", sort=False):
        members = images_of(str(scope), names)
        if not members:
            empty.append(str(scope))
            continue
        one = str(scope) in names
        ratios = class_ratios(
            table[table["image"].astype(str).isin(members)],
            classes,
            level,
            n_bootstrap,
            seed,
            members[0] if one else ALL,
            members,
            method,
            card,
            stop,
        )
        shares = dict(zip(rows["class"], rows["fraction"], strict=True))
        pairs = pair(ratios, shares, str(scope))
        done = str(ratios["method"].iloc[0]) if len(ratios) else done
        if len(pairs):
            parts.append(pairs)
        else:
            empty.append(str(scope))
    nothing = pd.DataFrame(columns=PAIRS)
    return Comparison(pd.concat(parts, ignore_index=True) if parts else nothing, done, tuple(empty))


def pair(ratios: pd.DataFrame, reference: Mapping[str, float], scope: str) -> pd.DataFrame:
    """The ratios of one scope beside their references, in the columns `PAIRS`.

    Parameters
    ----------
    ratios : pandas.DataFrame
        Rows of one scope, from `ratios.class_ratios`.
    reference : dict of str to float
        Class → fraction; classes that are not named are absent.
    scope : str
        What the rows are called.
    """
    rows = ratios[~ratios["class"].isin(NON_CLASS_LABELS) & ratios["fraction"].notna()]
    found = rows.assign(scope=scope, reference=[reference.get(c, 0.0) for c in rows["class"]])
    return found[PAIRS].reset_index(drop=True)


def images_of(scope: str, images: Sequence[str]) -> list[str]:
    """The images that a scope of a reference means."""
    if scope in images:
        return [scope]
    return [name for name in images if scope == ALL or fnmatchcase(name, scope)]


def reference_for(reference: pd.DataFrame, scope: str) -> dict[str, float]:
    """Class → fraction of an image or of "all": by name or by the first pattern, else nothing."""
    scopes = list(dict.fromkeys(reference["scope"]))
    for name in [s for s in scopes if s == scope] or scopes:
        if name == scope or (scope != ALL and name != ALL and fnmatchcase(scope, name)):
            rows = reference[reference["scope"] == name]
            return dict(zip(rows["class"], rows["fraction"], strict=True))
    return {}


def check_reference(reference: pd.DataFrame, images: Sequence[str], classes: Sequence[str]) -> None:
    """Raise TableError if no scope fits an image, or a class of those that do is none of these.

    One file may be kept for many samples, so scopes without images are no error.
    """
    scopes = dict.fromkeys(map(str, reference["scope"]))
    fitting = [scope for scope in scopes if scope == ALL or images_of(scope, images)]
    if not fitting:
        raise TableError(
            f"the reference speaks of {', '.join(scopes)}, and no image is called so",
            advice='A scope is the name of an image, a pattern such as "sample_1_*", or "all"',
        )
    strange = sorted(set(reference.loc[reference["scope"].isin(fitting), "class"]) - set(classes))
    if strange:
        raise TableError(
            f"the reference names {', '.join(strange)}, which can't be found",
            advice=f"The classes are {', '.join(classes)}",
        )
