"""Samples compared with a reference sample, and trends with time, temperature or dose.

All p values of one comparison are corrected together by Holm's method [1]_, so that the probability
of any false difference is at most the level.

A trend is a straight line through the values of at least three samples, weighted by their
variances. If the values scatter more around the line than their errors explain, the errors are
enlarged accordingly [2]_.

References
----------
.. [1] S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
   Statistics 6, 65-70 (1979).
.. [2] R. T. Birge, "The calculation of errors by the method of least squares", Physical Review 40,
   207-227 (1932).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ...core.acquisition_session import SAMPLE_SCOPE, Sample
from ...core.errors import TableError
from ...core.tables.columns import TEXT, Column, conform_columns
from .image_values import ImageValues
from .sample_estimates import SampleEstimate, difference, estimate_samples, trend_slope

_QUANTITY = (
    Column(
        "quantity",
        TEXT,
        "",
        '"share" of a class, "mean_atoms" of a cluster; of atoms "density", "neighbour_mean" and '
        '"neighbour_median", "share_dimer" and "share_larger": of the atoms in pairs and in groups '
        "of three or more",
    ),
    Column("class", TEXT, "", 'class of a "share"'),
    Column("unit", TEXT, "", "unit of the values; shares are fractions"),
)
COMPARISON_SCHEMA = (
    Column("sample", TEXT, "", "name of the sample"),
    *_QUANTITY,
    Column("images", "int64", "", "number of images with counted clusters or atoms"),
    Column("sessions", TEXT, "", 'sessions of the images, joined by "|"'),
    Column("value", "float64", "", "estimate for the sample"),
    Column("low", "float64", "", "lower end of its 95 % interval"),
    Column("high", "float64", "", "upper end of its 95 % interval"),
    Column(
        "reference_sample", TEXT, "", "sample that it is compared with; empty for this one itself"
    ),
    Column("difference", "float64", "", "value minus that of the reference"),
    Column("difference_low", "float64", "", "lower end of the 95 % interval of the difference"),
    Column("difference_high", "float64", "", "upper end of the 95 % interval of the difference"),
    Column("p", "float64", "", "p value of no difference"),
    Column("p_holm", "float64", "", "p value with Holm's correction for all rows of the table"),
    Column("note", TEXT, "", "what limits the use of the row; empty for most"),
)
"""Columns of ``comparison.csv``."""
TREND_SCHEMA = (
    Column("along", TEXT, "", "column of the table of samples"),
    *_QUANTITY,
    Column("samples", "int64", "", "number of samples on the line"),
    Column("slope", "float64", "", "change of the value for each unit of the column"),
    Column("slope_low", "float64", "", "lower end of its 95 % interval"),
    Column("slope_high", "float64", "", "upper end of its 95 % interval"),
    Column("p", "float64", "", "p value of no trend"),
    Column("p_holm", "float64", "", "p value with Holm's correction for all rows of the table"),
)
"""Columns of ``trends.csv``."""
FEW_IMAGES = "one image: how much images differ is that of the other samples; add images"
ONLY_ONE_IMAGE = "one image: how much images differ is not known; add images"
LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class SampleComparison:
    """Samples compared with a reference."""

    table: pd.DataFrame  # `COMPARISON_SCHEMA`: a row for each quantity and sample
    trends: pd.DataFrame  # `TREND_SCHEMA`
    reference: str
    samples: tuple[Sample, ...]
    # for each quantity, sample → estimate
    estimates: Sequence[Mapping[str, SampleEstimate]] = field(default=(), repr=False)

    @property
    def tested(self) -> pd.DataFrame:
        """Rows with a test against the reference."""
        return self.table[self.table["p"].notna()]


def choose_reference(samples: Sequence[Sample], reference: str | None = None) -> str:
    """Return the sample that the others are compared with: the first one by default.

    Raises `TableError` if there are fewer than two samples, or none of this name.
    """
    names = [sample.name for sample in samples]
    if len(names) < 2:
        only = f"only the sample {names[0]}" if names else "no sample"
        raise TableError(
            f"there is {only}, and a comparison needs two",
            advice="Images of one folder are a sample; a table of samples (--samples), with the "
            "columns image and sample, says otherwise",
        )
    if reference is not None and reference not in names:
        raise TableError(
            f"there is no sample {reference!r}", advice=f"The samples are {', '.join(names[:10])}"
        )
    return names[0] if reference is None else reference


def compare_samples(
    values: Sequence[ImageValues],
    samples: Sequence[Sample],
    reference: str | None = None,
    session_of: Mapping[str, str] | None = None,
    notes: Mapping[str, str] | None = None,
    atom_notes: Mapping[str, str] | None = None,
    withheld: Sequence[str] = (),
    seed: int = 0,
) -> SampleComparison:
    """Compare samples with one of them.

    Parameters
    ----------
    values : sequence of ImageValues
        Quantities by image: `image_values.cluster_values` or `atom_values`.
    samples : sequence of Sample
        The samples, in the order of the result.
    reference : str, optional
        Name of the sample that the others are compared with; the first one by default.
    session_of : mapping of str to str, optional
        Image → its session, for the column ``sessions``.
    notes, atom_notes : mapping of str to str, optional
        Sample → what limits the use of its clusters, and of its atoms.
    withheld : sequence of str
        Samples whose clusters are not compared, as their sizes may not be those of the classes.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    SampleComparison

    Raises
    ------
    TableError
        If there are fewer than two samples, or none of the name of the reference.
    """
    chosen = choose_reference(samples, reference)
    members = {s.name: s.images for s in samples}
    estimates = estimate_samples(values, members, seed)
    rows = []
    for of_quantity in estimates:
        for name, one in of_quantity.items():
            of_clusters = one.quantity.is_of_clusters
            hidden = of_clusters and name in withheld
            known_notes = notes if of_clusters else atom_notes
            row = _row(one, hidden, (known_notes or {}).get(name, ""))
            sessions = map((session_of or {}).get, members[name])
            row["sessions"] = "|".join(dict.fromkeys(filter(None, sessions)))
            if name != chosen:
                either = hidden or (of_clusters and chosen in withheld)
                row |= _difference_of(one, of_quantity[chosen], either)
            rows.append(row)
    table = pd.DataFrame(rows, columns=[column.name for column in COMPARISON_SCHEMA])
    table["p_holm"] = holm(table["p"].to_numpy(float))
    table = conform_columns(table, COMPARISON_SCHEMA, "table of the comparison")
    trends = _trends(estimates, samples, withheld)
    return SampleComparison(table, trends, chosen, tuple(samples), estimates)


def _about(one: SampleEstimate) -> dict[str, Any]:
    quantity = one.quantity
    return {"quantity": quantity.name, "class": quantity.label, "unit": quantity.unit}


def _row(one: SampleEstimate, hidden: bool, note: str) -> dict[str, Any]:
    """Return the columns of a sample by itself."""
    row = {"sample": one.sample, **_about(one), "images": one.n_images, "reference_sample": ""}
    reasons = [note] if note else []
    if one.n_images == 1:
        reasons.append(FEW_IMAGES if np.isfinite(one.variance) else ONLY_ONE_IMAGE)
    row["note"] = "; ".join(reasons)
    if hidden:
        return row
    low, high = one.interval(LEVEL)
    return {**row, "value": one.value, "low": low, "high": high}


def _difference_of(one: SampleEstimate, other: SampleEstimate, hidden: bool) -> dict[str, Any]:
    """Return the columns of a comparison with the reference."""
    if hidden:
        return {"reference_sample": other.sample}
    found = difference(one, other, LEVEL)
    return {
        "reference_sample": other.sample,
        "difference": found.value,
        "difference_low": found.low,
        "difference_high": found.high,
        "p": found.p,
    }


def holm(p: np.ndarray) -> np.ndarray:
    """Correct p values for their number by Holm's method [1]_.

    Parameters
    ----------
    p : ndarray of shape (n,)
        p values; NaN where nothing was tested.

    Returns
    -------
    ndarray of shape (n,)
        Corrected p values, at most 1.
    """
    corrected = np.full(len(p), np.nan)
    rows = np.flatnonzero(np.isfinite(p))
    order = rows[np.argsort(p[rows], kind="stable")]
    factor = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(factor * p[order]), 1.0)
    return corrected


def _trends(
    estimates: Sequence[Mapping[str, SampleEstimate]],
    samples: Sequence[Sample],
    withheld: Sequence[str],
) -> pd.DataFrame:
    """Fit each quantity against each column of numbers of at least three samples."""
    rows = []
    for along in dict.fromkeys(column for s in samples for column in s.numbers):
        at = {s.name: s.numbers[along] for s in samples if along in s.numbers}
        for of_quantity in estimates:
            known = [
                name
                for name in at
                if np.isfinite(of_quantity[name].variance)
                and not (of_quantity[name].quantity.is_of_clusters and name in withheld)
            ]
            x = np.array([at[name] for name in known])
            if len(set(x)) < 3:
                continue
            found = trend_slope(x, [of_quantity[name] for name in known], LEVEL)
            rows.append(
                {
                    "along": along,
                    **_about(of_quantity[known[0]]),
                    "samples": len(known),
                    "slope": found.value,
                    "slope_low": found.low,
                    "slope_high": found.high,
                    "p": found.p,
                }
            )
    table = pd.DataFrame(rows, columns=[column.name for column in TREND_SCHEMA])
    table["p_holm"] = holm(table["p"].to_numpy(float))
    return conform_columns(table, TREND_SCHEMA, "table of trends")


def notes_of_samples(ratios: pd.DataFrame) -> tuple[dict[str, str], list[str]]:
    """Return the notes of samples, and those whose fractions are withheld, from their ratios.

    Parameters
    ----------
    ratios : pandas.DataFrame
        Class ratios with the scopes of samples.
    """
    notes, withheld = {}, []
    rows = ratios[ratios["scope"].astype(str).str.startswith(SAMPLE_SCOPE)]
    for scope, of_sample in rows.groupby("scope", sort=False):
        name = str(scope).removeprefix(SAMPLE_SCOPE)
        notes[name] = str(of_sample["note"].iloc[0])
        if of_sample["count"].sum() and of_sample["fraction"].isna().all():
            withheld.append(name)
    return notes, withheld
