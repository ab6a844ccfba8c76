"""Reference ratios as text and as tables."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from ..core.errors import TableError
from ..core.tables.cluster_table import ALL

EXAMPLE = "Pt19:Pt41:Pt70 = 1:1:1"
# Tolerance for rounded fractions.
_SUM_TOLERANCE = 0.02


def normalise_reference(
    # Columns ``class`` and ``fraction``, and ``scope`` for references of single images
    reference: pd.DataFrame,
) -> pd.DataFrame:  # columns ``scope, class, fraction``
    """Normalise fractions, per cent or parts to fractions that sum to 1 in each scope.

    Raises `TableError` if columns are missing, a value is negative or not a number, a class occurs
    twice in a scope, or fractions do not sum to 1.
    """
    missing = [c for c in ("class", "fraction") if c not in reference.columns]
    if missing:
        columns = "columns" if len(missing) > 1 else "column"
        raise TableError(f"the reference lacks the {columns} {' and '.join(missing)}")
    if not len(reference):
        raise TableError("the reference is empty")
    text = reference["fraction"].astype(str).str.strip().str.removesuffix("%")
    scope = reference["scope"] if "scope" in reference else pd.Series(ALL, reference.index)
    out = pd.DataFrame(
        {
            "scope": scope.fillna("").astype(str).str.strip().replace("", ALL),
            "class": reference["class"].fillna("").astype(str).str.strip(),
            "fraction": pd.to_numeric(text, errors="coerce"),
        }
    ).reset_index(drop=True)
    if (out["class"] == "").any():
        raise TableError("the reference has a fraction without a class")
    values = out["fraction"].to_numpy(float)
    bad = ~np.isfinite(values) | (values < 0)
    if bad.any():
        row = out[bad].iloc[0]
        value = str(reference["fraction"].iloc[int(np.flatnonzero(bad)[0])])
        raise TableError(f"the fraction of {row['class']} ({row['scope']}) is not valid: {value}")
    if out.duplicated(["scope", "class"]).any():
        row = out[out.duplicated(["scope", "class"])].iloc[0]
        raise TableError(f"the reference names {row['class']} twice in {row['scope']}")
    in_per_cent = reference["fraction"].astype(str).str.strip().str.endswith("%").to_numpy()
    for name, shares in out.groupby("scope", sort=False)["fraction"]:
        _check_sum(str(name), shares.to_numpy(float), bool(in_per_cent[shares.index].any()))
    out["fraction"] /= out.groupby("scope")["fraction"].transform("sum")
    return out


def _check_sum(scope: str, shares: np.ndarray, in_per_cent: bool) -> None:
    total = shares.sum()
    if in_per_cent and abs(total / 100 - 1) > _SUM_TOLERANCE:
        raise TableError(
            f"the per cent of the reference of {scope} sum to {total:.3g}, not to 100",
            advice="List all classes; parts such as 5, 2 and 3 are also possible",
        )
    if total <= 0:
        raise TableError(f"the reference of {scope} has no fraction above 0")
    are_fractions = shares.max() <= 1 and (shares % 1 > 0).any()
    if are_fractions and abs(total - 1) > _SUM_TOLERANCE:
        raise TableError(
            f"the reference fractions of {scope} sum to {total:.3g}, not to 1",
            advice="List all classes; per cent or parts such as 5, 2 and 3 are also possible",
        )


def parse_reference(line: str, scope: str = ALL) -> pd.DataFrame:
    """Parse a reference such as ``Pt19:Pt41:Pt70 = 1:1:1``.

    Raises `TableError` if the text does not have this form.
    """
    names, equals, shares = line.partition("=")
    classes, values = (re.split(r"\s*[:,;]\s*", part.strip()) for part in (names, shares))
    if not equals or len(classes) != len(values) or not all([*classes, *values]):
        raise TableError(f"{line.strip()!r} is not a ratio", advice=f"Example: {EXAMPLE}")
    return normalise_reference(pd.DataFrame({"scope": scope, "class": classes, "fraction": values}))
