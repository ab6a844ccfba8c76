"""The statistics of a dispersion as lines of a table: name, value, interval and explanation.

Nothing is computed here; the values come from `DispersionStatistics.row`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QModelIndex, Qt
from qtpy.QtWidgets import QWidget

from ....atoms.completeness import BOUND
from ....core.text import pluralise
from ....reporting.plots.base import per_cent
from ....statistics.points.dispersion import DispersionStatistics
from ....statistics.points.metal_loading import CORRECTED
from ...controls.line_table import Lines

NONE = "–"
KIND_NAMES = {
    "isolated": "Isolated atoms",
    "dimer": "In dimers",
    "multimer": "In multimers",
    "cluster": "In clusters",
}
KIND_WORDS = {
    "isolated": "without another atom within the linking distance",
    "dimer": "in groups of 2",
    "multimer": "in groups of 3 to 6",
    "cluster": "in groups of 7 or more",
}
FEW_IMAGES_NOTE = (
    " For few images the variance between images is estimated with a prior (Friede et al., Res. "
    "Synth. Methods 8, 79, 2017)."
)

_NOT_KNOWN = (
    " Not known: {}. It needs How many are missed? (dock Atoms) in every image, and is not known "
    "for stacks."
)


@dataclass(frozen=True)
class DispersionFigure:
    """One line: name, value with unit, interval or test result, and explanation."""

    name: str
    value: str
    interval: str
    meaning: str


def figures(
    found: DispersionStatistics,
    of_atoms: Mapping[str, Any] | None = None,  # the row of ``dispersion.csv``
    tested: int = 1,  # number of images whose completeness is known
) -> list[DispersionFigure]:
    """Return all lines of a dispersion."""
    row, level = found.row(), f"{100 * found.level:g} %"
    of_fields = "" if tested == row["images"] else f" of {pluralise(tested, 'field')}"
    return [
        *_density(row, level, (of_atoms or {}).get("density_is") == BOUND),
        *_missed(of_atoms or {}, of_fields, _why_unknown(tested, row["images"]), level),
        *_loading(of_atoms or {}, level),
        *_neighbours(row, level, found.level),
        *_shares(found, row, level),
        *_evenness(found, row),
        *_curves(row, found.level),
    ]


def _density(row: dict[str, Any], level: str, is_bound: bool) -> list[DispersionFigure]:
    area, off = row["support_nm2"], row["n_off_support"]
    here = [row[f"density_of_field_{end}_per_nm2"] * area for end in ("low", "high")]
    return [
        DispersionFigure(
            "Density",
            f"{'≥ ' * is_bound}{with_unit(row['density_per_nm2'], '/nm²')}",
            interval(row["density_low_per_nm2"], row["density_high_per_nm2"]),
            "Atoms per nm² of support, without vacuum: expected number over area, with its "
            f"{level} interval, which includes the sampling error (larger for clustered atoms) "
            "and the uncertainty of the detection (Fay and Feuer, Stat. Med. 16, "
            f"791, 1997).{' Many atoms are missed: it is a lower bound.' * is_bound}"
            f"{'' if row['images'] == 1 else FEW_IMAGES_NOTE}",
        ),
        DispersionFigure(
            "Density, counted",
            with_unit(row["density_counted_per_nm2"], "/nm²"),
            "",
            "Atoms above the threshold per nm² of support. It depends on the threshold, the "
            "density above does not.",
        ),
        DispersionFigure(
            "Atoms, expected",
            number(row["n_atoms_expected"]),
            interval(*here),
            "Sum of the probabilities of all candidates, divided by the fraction of the atoms that "
            f"are candidates; {level} interval of the detection, for this field only. An atom that "
            "you add is one of those that the model missed: the fraction grows, the number does "
            "not, until more are added than were expected. Where people decided on every "
            "candidate, as in a consensus, each atom counts as one, an uncertain one as a half.",
        ),
        DispersionFigure(
            "Atoms, counted",
            str(row["n_atoms"]),
            f"{off} on bright clusters or off the support" if off else "",
            "Atoms of the atom table on the support. Atoms off the support and detections on "
            "bright clusters, which are no support here, are not counted.",
        ),
        DispersionFigure(
            "Support",
            f"{number(area)} nm²",
            "" if row["images"] == 1 else f"{row['images']} fields",
            "Area of the support, detected in the image and corrected manually.",
        ),
    ]


def _why_unknown(tested: int, n_fields: int) -> str:
    """Return why the density of all atoms is not known where some completeness is."""
    return f"{tested} of {n_fields} fields tested" if tested < n_fields else "one frame tested"


def _missed(
    row: Mapping[str, Any], of_fields: str, unknown: str, level: str
) -> list[DispersionFigure]:
    if not math.isfinite(row.get("completeness", math.nan)):
        return []
    known = math.isfinite(row["density_complete_per_nm2"])
    # The test gives 95 % intervals, whatever the level of the others is.
    own = "" if level == "95 %" else " (95 %)"
    of_all = interval(row["density_complete_low_per_nm2"], row["density_complete_high_per_nm2"])
    return [
        DispersionFigure(
            f"Completeness{of_fields}",
            share_of(row["completeness"]),
            shares(row["completeness_low"], row["completeness_high"]) + own,
            "Fraction of the atoms that are detected at the threshold, with its 95 % interval, "
            "from an injection-recovery test (dock Atoms, How many are missed?). Below two thirds, "
            "the density is a lower bound if it is below the interval of Density, all atoms; "
            "otherwise rely on that density and its interval.",
        ),
        DispersionFigure(
            "Density, all atoms",
            with_unit(row["density_complete_per_nm2"], "/nm²"),
            f"{of_all}{own}" if known else unknown,
            "Density of the atoms of the model, corrected for missed atoms and false detections, "
            "outside clusters, in this field; 95 % interval. Marks by hand do not change it."
            + ("" if known else _NOT_KNOWN.format(unknown)),
        ),
    ]


def _loading(row: Mapping[str, Any], level: str) -> list[DispersionFigure]:
    if not math.isfinite(row.get("loading_wt_percent", math.nan)):
        # It has its row all the same, so that the settings below do not move when they give it.
        how = "It needs the metal and the thickness of the support, see Settings."
        return [DispersionFigure("Metal loading", "–", "", how)]
    without = row["loading_is"] != CORRECTED
    bound = "≥ " if without and row.get("density_is") == BOUND else ""
    stated = " and the uncertainty of the support" if row["support_thickness_uncertainty"] else ""
    return [
        DispersionFigure(
            "Metal loading",
            f"{bound}{number(row['loading_wt_percent'])} wt% {row['metal']}",
            interval(row["loading_wt_percent_low"], row["loading_wt_percent_high"]),
            f"Mass of the single atoms ({number(row['loading_per_nm2'])} per nm²) over that of "
            f"atoms and support, {row['support_thickness_nm']:g} nm of "
            f"{row['support_density_g_cm3']:g} g/cm³. The {level} interval includes detection, "
            f"sampling{stated}. "
            + (
                "Not corrected for missed atoms and false detections."
                if without
                else "From Density, all atoms."
            ),
        )
    ]


def _neighbours(row: dict[str, Any], level: str, coverage: float) -> list[DispersionFigure]:
    def distance(name: str, statistic: str) -> DispersionFigure:
        of = f"nearest_neighbour_{name}"
        return DispersionFigure(
            f"Neighbour, {name}",
            with_unit(row[f"{of}_nm"], "nm"),
            interval(row[f"{of}_low_nm"], row[f"{of}_high_nm"]),
            f"{statistic} distance from an atom to its nearest neighbour, in nm. Only distances no "
            "longer than that to the edge of the support count, with weights (Hanisch, Statistics "
            f"15, 409, 1984); {level} interval by a bootstrap of blocks.",
        )

    return [
        distance("median", "Median"),
        distance("mean", "Mean"),
        DispersionFigure(
            "Clark–Evans R",
            number(row["clark_evans"]),
            verdict(row["clark_evans"], row["clark_evans_p"], coverage),
            "Mean distance to the nearest neighbour over that of as many random atoms on the same "
            "support: below 1 atoms are clustered, above 1 regular; p from the simulations "
            "(Clark and Evans, Ecology 35, 445, 1954).",
        ),
    ]


def _shares(found: DispersionStatistics, row: dict[str, Any], level: str) -> list[DispersionFigure]:
    linked = f"at most {row['group_distance_nm']:g} nm"
    random = per_cent(row["share_isolated_if_random"])
    lines = [
        DispersionFigure(
            KIND_NAMES[kind],
            share_of(share.value),
            shares(share.low, share.high),
            f"Fraction of the atoms {KIND_WORDS[kind]} ({linked}), with its {level} interval "
            "(Wilson, with a block bootstrap). Candidates below the threshold count with their "
            "probability; the plot of the groups shows those above it."
            + (f" For random atoms of this density it is {random}." if i == 0 else ""),
        )
        for i, (kind, share) in enumerate(found.shares.items())
    ]
    n, largest = row["groups"], with_unit(row["group_extent_max_nm"], "nm")
    return [
        *lines,
        DispersionFigure(
            "Group size, mean",
            number(row["group_size_mean"]),
            f"{pluralise(n, 'group')}, largest {row['group_size_max']}" if n else "",
            f"Mean size of groups of linked atoms ({linked}); an isolated atom is a group of one.",
        ),
        DispersionFigure(
            "Group extent, mean",
            with_unit(row["group_extent_mean_nm"], "nm"),
            interval(row["group_extent_mean_low_nm"], row["group_extent_mean_high_nm"])
            or (f"largest {largest}" if largest != NONE else ""),
            "Mean of the largest distance between two atoms of a group, centre to centre, of "
            f"groups of two or more atoms; {level} interval by a bootstrap of blocks. Candidates "
            "below the threshold count with their probability: there is no mean if fewer than one "
            "such group is expected, and no interval if fewer than two are. Largest extent above "
            f"the threshold: {largest}.",
        ),
    ]


def _evenness(found: DispersionStatistics, row: dict[str, Any]) -> list[DispersionFigure]:
    size = f" of {row['quadrat_nm']:.3g} nm" if math.isfinite(row["quadrat_nm"]) else ""
    return [
        DispersionFigure(
            "Quadrat index",
            number(row["quadrat_index"]),
            spread_evenly(row["quadrat_index"], row["quadrat_p"], found.level),
            f"Variance over mean of the counts in quadrats{size}, weighted by their support: 1 for "
            "random atoms, above 1 for clustered and below 1 for regular patterns (Illian et al., "
            "Statistical Analysis and Modelling of Spatial Point Patterns, Wiley 2008).",
        )
    ]


def _curves(row: dict[str, Any], level: float) -> list[DispersionFigure]:
    return [
        DispersionFigure(
            name,
            _p(row[column]),
            "" if math.isnan(row[column]) else random_or_not(row[column], level),
            f"Test whether the whole curve, {what}, differs from random atoms on the same support. "
            "Global envelope test by extreme rank length (Myllymäki et al., J. R. Stat. Soc. B 79, "
            "381, 2017).",
        )
        for name, column, what in (
            (
                "Pair correlation g(r)",
                "pair_correlation_p",
                "the density at r from an atom",
            ),
            ("Ripley's L(r)", "ripley_l_p", "the number of atoms within r of an atom"),
        )
    ]


# ---- text
def number(value: float) -> str:
    """Format a number with three digits; a dash if it is not finite."""
    if not math.isfinite(value):
        return NONE
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def with_unit(value: float, unit: str) -> str:
    """Format a number with its unit."""
    return f"{number(value)} {unit}" if math.isfinite(value) else NONE


def interval(low: float, high: float) -> str:
    """Format an interval; "" if it is not finite."""
    return f"{number(low)} – {number(high)}" if math.isfinite(low + high) else ""


def share_of(share: float) -> str:
    """Format a fraction in per cent."""
    return per_cent(share) if math.isfinite(share) else NONE


def shares(low: float, high: float) -> str:
    """Format an interval of fractions in per cent."""
    if not math.isfinite(low + high):
        return ""
    return f"{per_cent(low)[:-2]} – {per_cent(high)}"


def verdict(index: float, p: float, level: float) -> str:
    """Format the result of the test of Clark and Evans' index."""
    if math.isnan(p):
        return ""
    if p > 1 - level:
        return f"as chance, {_p(p)}"
    return f"{'closer together' if index < 1 else 'more regular'}, {_p(p)}"


def spread_evenly(index: float, p: float, level: float) -> str:
    """Format the result of the test of the quadrat index."""
    if math.isnan(p):
        return ""
    if p > 1 - level:
        return f"as chance, {_p(p)}"
    return f"{'less' if index > 1 else 'more'} even, {_p(p)}"


def random_or_not(p: float, level: float) -> str:
    """Format whether a test rejects randomness."""
    return "as chance" if p > 1 - level else "not random"


def _p(p: float) -> str:
    return f"p = {p:.2g}" if math.isfinite(p) else NONE


class FigureModel(Lines):
    """The lines for a table view, with explanations as tooltips."""

    HEADERS = ("Statistic", "Value", "Interval, test")
    TOOLTIPS = (
        "Name of the statistic; the tooltip of a line explains it.",
        "Best estimate, with its unit.",
        "Interval at the level of the settings (default: 95 %), or the result of a test.",
    )

    def __init__(self, parent: QWidget) -> None:
        super().__init__(self.HEADERS, self.TOOLTIPS, parent)
        self.figures: Sequence[DispersionFigure] = ()

    def show_figures(self, figures: Sequence[DispersionFigure]) -> None:
        self.figures = tuple(figures)
        self.show([(f.name, f.value, f.interval) for f in self.figures])

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        figure = self.figures[index.row()]
        if role == Qt.ItemDataRole.ToolTipRole:
            # Rich text is wrapped; plain text would be one long line.
            return f"<qt><b>{figure.name}</b><br>{figure.meaning}</qt>"
        if role == Qt.ItemDataRole.AccessibleDescriptionRole:
            return figure.meaning
        if role == Qt.ItemDataRole.TextAlignmentRole and index.column() == 1:
            return int(Qt.AlignmentFlag.AlignRight.value | Qt.AlignmentFlag.AlignVCenter.value)
        return super().data(index, role)
