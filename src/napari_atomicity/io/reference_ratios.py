"""Reference ratios as they are typed and as tables."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from ..core.cluster_table import ALL
from ..core.errors import TableError

# What people round their fractions to.
_SUM_TOLERANCE = 0.02


def normalise_reference(reference: pd.DataFrame) -> pd.DataFrame:
    """A reference whose fractions sum to 1 in each scope, from fractions, per cent or parts.

    Parameters
    ----------
    reference
        Columns ``class`` and ``fraction`` and, where it is not about all images, ``scope``.

    Raises
    ------
    TableError
        If columns are missing, a value is no share, a class occurs twice in a scope, or
        fractions do not sum to 1.
    """
    missing = [c for c in ("class", "fraction") if c not in reference.columns]
    if missing:
        raise TableError(f"the reference lacks the column {' and '.join(missing)}")
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
        said = str(reference["fraction"].iloc[int(np.flatnonzero(bad)[0])])
        raise TableError(f"the reference of {row['class']} ({row['scope']}) is no share: {said}")
    if out.duplicated(["scope", "class"]).any():
        row = out[out.duplicated(["scope", "class"])].iloc[0]
        raise TableError(f"the reference names {row['class']} twice in {row['scope']}")
    for name, shares in out.groupby("scope", sort=False)["fraction"]:
        _check_sum(str(name), shares.to_numpy(float))
    out["fraction"] /= out.groupby("scope")["fraction"].transform("sum")
    return out


def _check_sum(scope: str, shares: np.ndarray) -> None:
    total = shares.sum()
    if total <= 0:
        raise TableError(f"the reference of {scope} has no share above 0")
    are_fractions = shares.max() <= 1 and (shares % 1 > 0).any()
    if are_fractions and abs(total - 1) > _SUM_TOLERANCE:
        raise TableError(
            f"the reference fractions of {scope} sum to {total:.3g}, not to 1",
            advice="Name all classes; per cent or parts such as 5, 2 and 3 will do as well",
        )


def parse_reference(line: str, scope: str = ALL) -> pd.DataFrame:
    """A reference typed as ``Pt19:Pt41:Pt70 = 1:1:1``.

    Raises
    ------
    TableError
        If it can't be understood.
    """
    names, equals, shares = line.partition("=")
    classes, values = (re.split(r"\s*[:,;]\s*", part.strip()) for part in (names, shares))
    if not equals or len(classes) != len(values) or not all([*classes, *values]):
        raise TableError(
            f"{line.strip()!r} is no ratio", advice="Write it like Pt19:Pt41:Pt70 = 1:1:1"
        )
    return normalise_reference(pd.DataFrame({"scope": scope, "class": classes, "fraction": values}))


EXAMPLE = "Pt19:Pt41:Pt70 = 1:1:1"
