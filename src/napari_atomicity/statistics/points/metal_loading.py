"""Metal loading of a support by its single atoms: atoms per nm², and per cent by weight (wt%).

The atoms in a projection of the support have the surface density n, whether they are on its upper
or lower surface or inside. With the molar mass M of the metal, Avogadro's number N_A, and the
thickness t and the density ρ of the support,

    m_metal = n M / N_A              in g/nm² (n in 1/nm², M in g/mol)
    m_support = 10⁻²¹ ρ t            in g/nm² (ρ in g/cm³, t in nm)
    wt% = 100 m_metal / (m_metal + m_support)

n is the density of all atoms where the completeness is known (`atoms.completeness`), otherwise that
of the candidates (`dispersion`). Atoms of nanoclusters are not included.

The errors are treated as independent and relative. The interval of n includes the detection, or the
completeness, and the sampling: another place of the sample has another density. That of wt%
includes the standard uncertainty of t ρ, too. Logarithmic distances of the ends from the value are
added in quadrature.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.constants import N_A
from scipy.stats import norm

from ...core.tables.columns import TEXT, Column
from .dispersion_intervals import Estimate
from .loading_settings import ATOMIC_WEIGHTS_G_MOL, LoadingSettings

CORRECTED, NOT_CORRECTED = "corrected", "not corrected"
"""Values of ``loading_is``."""
_G_PER_NM3 = 1e-21
"""Grams per nm³ of a density of 1 g/cm³."""
_LEVEL_OF_COMPLETENESS = 0.95


def _number(name: str, unit: str, description: str) -> Column:
    return Column(name, "float64", unit, description)


_LOW, _HIGH = "lower end of its interval", "upper end of its interval"
SCHEMA = (
    _number(
        "loading_per_nm2",
        "1/nm²",
        "metal loading: single atoms per area of the support in the sample, corrected for missed "
        "atoms where the completeness is known",
    ),
    _number("loading_low_per_nm2", "1/nm²", f"{_LOW}; it includes detection and sampling"),
    _number("loading_high_per_nm2", "1/nm²", _HIGH),
    Column(
        "loading_is",
        TEXT,
        "",
        f'"{CORRECTED}" for missed atoms (density_complete_per_nm2), or "{NOT_CORRECTED}" '
        "(density_per_nm2)",
    ),
    Column("metal", TEXT, "", "metal of the single atoms, as stated"),
    _number("support_thickness_nm", "nm", "thickness of the support, as stated"),
    _number("support_density_g_cm3", "g/cm³", "density of the support, as stated"),
    _number(
        "support_thickness_uncertainty",
        "",
        "relative standard uncertainty of thickness times density, as stated",
    ),
    _number(
        "loading_wt_percent",
        "%",
        "metal loading by weight: mass of the single atoms over that of atoms and support",
    ),
    _number(
        "loading_wt_percent_low",
        "%",
        f"{_LOW}; it includes detection, sampling and the stated uncertainty of the support",
    ),
    _number("loading_wt_percent_high", "%", _HIGH),
)
"""Columns of ``dispersion.csv``, see `atoms.dispersion.DISPERSION_SCHEMA`."""
_OF_WEIGHT = SCHEMA[4:]


def with_loading(rows: pd.DataFrame, settings: LoadingSettings) -> pd.DataFrame:
    """Add the columns of `SCHEMA` to rows of ``dispersion.csv``.

    The result is a copy with the columns; those that concern weight are empty unless metal and
    thickness are stated.
    """
    added = [_loading_of(row, settings) for row in rows.to_dict("records")]
    names = [column.name for column in SCHEMA]
    return pd.concat([rows, pd.DataFrame(added, index=rows.index, columns=names)], axis=1)


def _loading_of(row: Mapping[Any, Any], settings: LoadingSettings) -> dict[str, Any]:
    """Return the values of `SCHEMA` for a row."""
    density, is_corrected = surface_density(row)
    known = np.isfinite(density.value)
    values: dict[str, Any] = {
        "loading_per_nm2": density.value,
        "loading_low_per_nm2": density.low,
        "loading_high_per_nm2": density.high,
        "loading_is": (CORRECTED if is_corrected else NOT_CORRECTED) if known else "",
    }
    if not (known and settings.is_stated):
        return values | {c.name: "" if c.dtype == TEXT else np.nan for c in _OF_WEIGHT}
    percent = weight_percent(density, settings, row["level"])
    stated = {c.name: getattr(settings, c.name) for c in _OF_WEIGHT[:4]}
    return values | stated | {
        "loading_wt_percent": percent.value,
        "loading_wt_percent_low": percent.low,
        "loading_wt_percent_high": percent.high,
    }  # fmt: skip


def surface_density(
    row: Mapping[Any, Any],  # a row of ``dispersion.csv``
) -> tuple[Estimate, bool]:
    """Return the density of the atoms in the sample, corrected for missed atoms where possible.

    The density is in atoms per nm² of support, with its interval at the level of the row; it is NaN
    without support. The second result says whether it is corrected.
    """

    def estimate(value: str, ends: str) -> Estimate:
        names = (f"{value}_per_nm2", f"{ends}_low_per_nm2", f"{ends}_high_per_nm2")
        return Estimate(*(float(row.get(name, np.nan)) for name in names))

    sample, field = estimate("density", "density"), estimate("density", "density_of_field")
    complete = estimate("density_complete", "density_complete")
    if not (np.isfinite(complete.value) and sample.value > 0):
        return sample, False
    at_level = _quantile(row["level"]) / _quantile(_LEVEL_OF_COMPLETENESS)
    # The sample has the variance of the field, which the completeness replaces, and that of chance.
    with np.errstate(invalid="ignore"):  # if both intervals begin at 0
        variance = _distances(sample) ** 2 - _distances(field) ** 2
    chance = np.sqrt(np.maximum(np.nan_to_num(variance, nan=np.inf, posinf=np.inf), 0))
    below, above = np.hypot(_distances(complete) * at_level, chance)
    return _around(complete.value, below, above), True


def weight_percent(
    density: Estimate,  # atoms per nm² of support, with an interval
    # Metal in the support of a stated thickness (nm) and density (g/cm³)
    settings: LoadingSettings,
    level: float = _LEVEL_OF_COMPLETENESS,  # coverage of the interval
) -> Estimate:  # 100 times the mass of the atoms over the mass of atoms and support
    """Compute the metal loading in per cent by weight; see the formula of this module.

    Examples
    --------
    >>> pt = LoadingSettings("Pt", support_thickness_nm=3, support_density_g_cm3=2)
    >>> round(weight_percent(Estimate(1.0, 0.8, 1.2), pt).value, 2)
    5.12
    """
    assert settings.support_thickness_nm is not None
    of_atom = ATOMIC_WEIGHTS_G_MOL[settings.metal] / N_A
    of_support = _G_PER_NM3 * settings.support_density_g_cm3 * settings.support_thickness_nm
    uncertainty = _quantile(level) * settings.support_thickness_uncertainty
    if density.value > 0:
        below, above = np.hypot(_distances(density), uncertainty)
        density = _around(density.value, below, above)
    else:
        density = Estimate(density.value, density.low, density.high * np.exp(uncertainty))
    ratios = np.array([density.value, density.low, density.high]) * of_atom / of_support
    return Estimate(*(100 * ratios / (1 + ratios)).tolist())


def _quantile(level: float) -> float:
    """Return the half width of a normal interval in standard deviations."""
    return float(norm.ppf(0.5 + level / 2))


def _distances(of: Estimate) -> np.ndarray:
    """Return the logarithmic distances of the lower and the upper end from the value."""
    with np.errstate(divide="ignore"):  # an end of 0 is infinitely far away
        return np.abs(np.log(np.array([of.low, of.high]) / of.value))


def _around(value: float, below: float, above: float) -> Estimate:
    return Estimate(value, float(value * np.exp(-below)), float(value * np.exp(above)))
