"""Comparisons of samples in words, to be pasted into a text."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from .comparison import SampleComparison
from .image_values import DENSITY, MEAN_ATOMS, SHARE

SIGNIFICANT = 0.05
"""Corrected p value below which a difference is called significant."""
UNLIKE_IMAGES, UNLIKE_OTHERS = 10.0, 3.0
"""Variance of a share between the images of a sample, relative to chance, and to the largest of any
other sample, from which the sample is named as the reason for wide intervals."""
LINE_HEADERS = ("Sample", "Quantity", "Difference", "p (Holm)", "Value", "Reference")
"""Columns of `comparison_lines`; values have their 95 % intervals."""
_SHORT_NAMES = {
    MEAN_ATOMS: "atoms per cluster",
    "neighbour_mean": "neighbour, mean",
    "neighbour_median": "neighbour, median",
    "share_dimer": "atoms in dimers",
    "share_larger": "atoms in larger groups",
}
_NAMES = {
    MEAN_ATOMS: "mean number of atoms of a cluster",
    DENSITY: "density of the atoms",
    "neighbour_mean": "mean distance to the nearest neighbour",
    "neighbour_median": "median distance to the nearest neighbour",
    "share_dimer": "share of the atoms in dimers",
    "share_larger": "share of the atoms in groups of three or more",
}
_Row = Mapping[Hashable, Any]


def comparison_sentences(comparison: SampleComparison) -> list[str]:
    """Say in a sentence for each sample and quantity how it differs from the reference.

    Trends follow. Quantities without an interval of the difference have no sentence.
    """
    rows = comparison.table.to_dict("records")
    reference = {_key(row): row for row in rows if row["sample"] == comparison.reference}
    tested = [row for row in rows if np.isfinite(row["p"])]
    lines = [_sentence(row, reference[_key(row)], len(tested)) for row in tested]
    trends = comparison.trends.to_dict("records")
    return lines + [_trend_sentence(row, len(trends)) for row in trends]


def comparison_lines(comparison: SampleComparison) -> list[tuple[str, ...]]:
    """Return the differences from the reference as text, in the columns of `LINE_HEADERS`."""
    lines: list[tuple[str, ...]] = []
    rows = comparison.table.to_dict("records")
    reference = {_key(row): row for row in rows if row["sample"] == comparison.reference}
    for row in (row for row in rows if row["sample"] != comparison.reference):
        unit, points = ("%", "pp") if _is_share(row) else (row["unit"], row["unit"])
        p = _format_p(row["p_holm"]) if np.isfinite(row["p_holm"]) else "–"
        difference = _with_range(row, "difference", "difference_", points)
        values = [_with_range(one, "value", "", unit) for one in (row, reference[_key(row)])]
        short = row["class"] or _SHORT_NAMES.get(row["quantity"], row["quantity"])
        lines.append((row["sample"], short, difference, p, *values))
    return lines


def _with_range(row: _Row, name: str, ends: str, unit: str) -> str:
    """Format a value with its interval; a dash if it is not known."""
    if not np.isfinite(row[name]):
        return "–"
    sign = name == "difference"
    text = f"{_number(row, row[name], sign)} {unit}".rstrip()
    low, high = row[f"{ends}low"], row[f"{ends}high"]
    if not (np.isfinite(low) and np.isfinite(high)):
        return text
    return f"{text} ({_number(row, low, sign)} to {_number(row, high, sign)})"


def comparison_notes(comparison: SampleComparison) -> list[str]:
    """Say what limits the use of the values, and of which samples."""
    samples: dict[str, list[str]] = {}
    for row in comparison.table.to_dict("records"):
        named = samples.setdefault(row["note"], [])
        if row["note"] and row["sample"] not in named:
            named.append(row["sample"])
    notes = [f"{', '.join(named)}: {note}" for note, named in samples.items() if named]
    return [*notes, *_scatter_note(comparison)]


def with_scatter_note(comparison: SampleComparison) -> pd.DataFrame:
    """Return the table of a comparison; shares with wide intervals name the sample that causes it.

    Beside all notes it would be said once for each sample.
    """
    table, notes = comparison.table, _scatter_note(comparison)
    if not notes:
        return table
    own = table["note"].where(table["note"] == "", table["note"] + "; ")
    note = table["note"].where(table["quantity"] != SHARE, own + notes[0])
    return table.assign(note=note)


def _scatter_note(comparison: SampleComparison) -> list[str]:
    """Name the sample whose images differ so much that all samples have wide intervals.

    The variance between images is moderated towards the mean of all samples.
    """
    factors: dict[str, list[float]] = {}
    for of_quantity in comparison.estimates:
        for name, one in of_quantity.items():
            if one.quantity.is_share and one.quantity.is_of_clusters and one.own_factor >= 0:
                factors.setdefault(name, []).append(one.own_factor)
    if len(factors) < 2:
        return []
    of_samples = {name: max(found) for name, found in factors.items()}
    name = max(of_samples, key=lambda name: of_samples[name])
    most, others = of_samples.pop(name), max(of_samples.values())
    if most < max(UNLIKE_IMAGES, UNLIKE_OTHERS * others):
        return []
    return [
        f"{name}: its images differ far more than those of the other samples, which widens all "
        "intervals: check which images are in it"
    ]


def describe_quantity(row: _Row) -> str:
    """Name the quantity of a row: "share of Pt55"."""
    if row["quantity"] == SHARE:
        return f"share of {row['class']}"
    return _NAMES.get(str(row["quantity"]), str(row["quantity"]))


def _key(row: _Row) -> tuple[str, str]:
    return row["quantity"], row["class"]


def _is_share(row: _Row) -> bool:
    return str(row["quantity"]).startswith(SHARE)


def _sentence(row: _Row, reference: _Row, n_tests: int) -> str:
    """Describe a comparison."""
    change = _number(row, row["difference"], sign=True)
    low, high = (_number(row, row[f"difference_{end}"], sign=True) for end in ("low", "high"))
    unit = "percentage points" if _is_share(row) else row["unit"]
    test = f"95 % interval {low} to {high}; {_p_value(row['p_holm'], n_tests)}"
    where = [
        f"{_with_unit(row, one['value'])} ({_number(row, one['low'])} to "
        f"{_with_unit(row, one['high'])}) in {one['sample']}"
        for one in (row, reference)
    ]
    relative = ""
    if not _is_share(row) and reference["value"] > 0:
        relative = f"{100 * row['difference'] / reference['value']:+.0f} %, or "
    found = f"a difference of {relative}{change} {unit}".rstrip()  # the interval is of the last
    if not row["p_holm"] < SIGNIFICANT:
        found = f"no significant difference, {change} {unit}".rstrip()
    return f"The {describe_quantity(row)} is {where[0]} and {where[1]}: {_minus(found)} ({test})."


def _trend_sentence(row: _Row, n_tests: int) -> str:
    """Describe a trend."""
    unit = "percentage points" if _is_share(row) else row["unit"]
    low, high = (_number(row, row[f"slope_{end}"], sign=True) for end in ("low", "high"))
    if row["p_holm"] < SIGNIFICANT:
        by = _number(row, abs(row["slope"]))
        change = f"rises by {by}" if row["slope"] > 0 else f"falls by {by}"
    else:
        change = f"has no significant trend: {_number(row, row['slope'], sign=True)}"
    test = f"95 % interval {low} to {high}; {_p_value(row['p_holm'], n_tests)}"
    what = f"The {describe_quantity(row)} {change} {unit} per unit of {row['along']}"
    return f"{what} ({test}), in {row['samples']} samples."


def _p_value(p: float, n_tests: int) -> str:
    text = "p < 0.0001" if p < 1e-4 else f"p = {_format_p(p)}"
    return text + (f" with Holm's correction for {n_tests} tests" if n_tests > 1 else "")


def _format_p(p: float) -> str:
    """Format a p value, with three digits where two would not tell on which side of 0.05 it is."""
    text = f"{p:.2g}"
    return f"{p:.3g}" if text == f"{SIGNIFICANT:.2g}" else text


def _number(row: _Row, value: float, sign: bool = False) -> str:
    """Format a value of a quantity; of shares in per cent."""
    plus = "+" if sign else ""
    return _minus(f"{100 * value:{plus}.1f}" if _is_share(row) else f"{value:{plus}.3g}")


def _with_unit(row: _Row, value: float) -> str:
    unit = "%" if _is_share(row) else row["unit"]
    return f"{_number(row, value)} {unit}"


def _minus(text: str) -> str:
    return text.replace("-", "−")
