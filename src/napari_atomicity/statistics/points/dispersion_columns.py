"""Columns of the table of dispersion: name, unit and description."""

from __future__ import annotations

from ...core.tables.columns import TEXT, Column
from .atom_groups import KINDS

_LOW, _HIGH = "lower end of its interval", "upper end of its interval"
_AREA, _RANDOM = "nm²", "complete spatial randomness"


def _number(name: str, unit: str, description: str) -> Column:
    return Column(name, "float64", unit, description)


def _count(name: str, description: str) -> Column:
    return Column(name, "Int64", "", description)


def _neighbour(statistic: str) -> tuple[Column, ...]:
    name = f"nearest_neighbour_{statistic}"
    what = f"{statistic} distance of an atom to its nearest neighbour, edge-corrected"
    return (
        _number(f"{name}_nm", "nm", what),
        _number(f"{name}_low_nm", "nm", _LOW),
        _number(f"{name}_high_nm", "nm", _HIGH),
    )


def _share(kind: str) -> tuple[Column, ...]:
    least = KINDS[kind]
    larger = [n for n in KINDS.values() if n > least]
    size = f"{least} or more" if not larger else f"{least} to {larger[0] - 1}"
    size = str(least) if least + 1 in larger else size
    return (
        _number(f"share_{kind}", "", f"fraction of the atoms that are in groups of size {size}"),
        _number(f"share_{kind}_low", "", _LOW),
        _number(f"share_{kind}_high", "", _HIGH),
    )


SCHEMA = (
    Column("image", TEXT, "", 'name of the image; "all" for all images together'),
    _count("n_atoms", "number of atoms on the support above the threshold"),
    _number(
        "n_atoms_expected",
        "",
        "sum of the probabilities of the candidates on the support, divided by the fraction of the "
        "atoms that are candidates",
    ),
    _count(
        "n_off_support",
        "number of atoms outside the support or on bright clusters: omitted",
    ),
    _number("support_nm2", _AREA, "area of the support, over all frames of a stack"),
    _number(
        "density_per_nm2",
        "1/nm²",
        "atoms per area of the support in the sample: n_atoms_expected / support_nm2; the interval "
        "includes detection and sampling",
    ),
    _number("density_low_per_nm2", "1/nm²", _LOW),
    _number("density_high_per_nm2", "1/nm²", _HIGH),
    _number(
        "density_of_field_low_per_nm2",
        "1/nm²",
        "lower end of the interval of the density in this field; it includes detection only",
    ),
    _number("density_of_field_high_per_nm2", "1/nm²", "upper end of this interval"),
    _number("density_counted_per_nm2", "1/nm²", "n_atoms / support_nm2; depends on the threshold"),
    *_neighbour("mean"),
    *_neighbour("median"),
    _number(
        "clark_evans",
        "",
        "mean nearest-neighbour distance divided by that of random points; below 1 for clustered "
        "atoms",
    ),
    _number("clark_evans_p", "", f"p value of clark_evans under {_RANDOM}"),
    _number(
        "nearest_neighbour_p",
        "",
        f"p value of the distribution of nearest-neighbour distances G(r) under {_RANDOM}",
    ),
    _number("pair_correlation_p", "", f"p value of the pair correlation g(r) under {_RANDOM}"),
    _number("ripley_l_p", "", f"p value of Ripley's L(r) under {_RANDOM}"),
    _number(
        "quadrat_index",
        "",
        "variance divided by mean of the numbers of atoms in quadrats; 1 for random atoms",
    ),
    _number("quadrat_p", "", f"p value of quadrat_index under {_RANDOM}"),
    _number("quadrat_nm", "nm", "edge of a quadrat; missing for several images or frames"),
    *(column for kind in KINDS for column in _share(kind)),
    _number("share_isolated_if_random", "", "share_isolated expected for random atoms"),
    _count("groups", "number of groups, which include isolated atoms"),
    _number("group_size_mean", "", "mean number of atoms of a group"),
    _count("group_size_max", "number of atoms of the largest group"),
    _number(
        "group_extent_mean_nm",
        "nm",
        "mean largest distance between two atoms of a group, centre to centre, of groups of two or "
        "more atoms; candidates below the threshold count with their probability. Missing if fewer "
        "than one such group is expected, and its interval if fewer than two are",
    ),
    _number("group_extent_mean_low_nm", "nm", _LOW),
    _number("group_extent_mean_high_nm", "nm", _HIGH),
    _number("group_extent_max_nm", "nm", "largest distance between two atoms of any group"),
    _number("group_distance_nm", "nm", "maximum distance of linked atoms of a group"),
    _number("level", "", "coverage of the intervals"),
    _count("images", "number of images; a stack is one"),
    _count("frames", "number of frames"),
    Column("method", TEXT, "", "what the interval of the density includes"),
)
"""First columns of ``dispersion.csv``, see `atoms.dispersion.DISPERSION_SCHEMA`."""
