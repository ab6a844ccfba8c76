"""What the dock Explain shows of one cluster, as text and bars."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ....core.palette import colour_of, symbol_of
from ....core.tables.cluster_table import AGGREGATE, NON_CLASS_LABELS, class_confidence, format_rows
from ....models.class_maps.centre_balance import OUTLINE_RADII, balance, centre_and_outline
from ....models.estimators import MAX_TOUCHING_DEVIATION
from ....statistics.scores import atoms_of
from ...controls.bars import Bar

_CLEAR_BALANCE = 1 / 3
"""Balance at which the class map is twice as strong per area at one place as at the other."""
_LEAST_SUPPORT = 0.05
"""Share of the support of the strongest channel below which the place in another tells nothing."""
_NEAR_LIMIT = 1.1
"""OOD score up to which a cluster is just beyond the limit, which is 1."""

MAP_SUMMARY_TOOLTIP = (
    "Where the class map is strong: the centre is within half the radius, the outline between 0.75 "
    "and 1.25 radii; mostly: more than twice as strong per area; mostly outside: more than half of "
    "the map lies further out, and the centre is not stronger; hardly any: below 5 % of the other "
    "channel."
)


def probability_bars(row: pd.Series, classes: Sequence[str]) -> list[Bar]:
    """Return a bar per class; the label is bold, classes of the prediction set are marked."""
    possible = set(_prediction_set(row))
    bars = []
    for name in classes:
        p = float(row[f"p_{name}"])
        text = f"{name}: probability {p:.3f}" if math.isfinite(p) else f"{name}: not computed"
        if name in possible:
            text += "; in the prediction set"
        bars.append(
            Bar(
                name,
                p,
                f"{p:.2f}" if math.isfinite(p) else "–",
                colour_of(name, classes),
                symbol_of(name, classes),
                strong=name == row["label"],
                marked=name in possible,
                tooltip=text,
            )
        )
    return bars


def format_ood_score(ood_score: float) -> str:
    """Return the meaning of an out-of-distribution score; "" if it was not computed."""
    if not math.isfinite(ood_score):
        return ""
    if ood_score > 1:
        return "unlike the training data"
    return "at the edge of the training data" if ood_score > 0.8 else "like the training data"


def facts(row: pd.Series) -> list[tuple[str, str, str]]:
    """Return name, value and tooltip of the properties of a cluster, in display order."""
    return [*_prediction_facts(row), *_count_facts(row), *_measured_facts(row)]


def _is_measured(row: pd.Series) -> bool:
    return math.isfinite(row["diameter_nm"])


def _prediction_set(row: pd.Series) -> list[str]:
    """Return the possible classes; none if the cluster is predicted to be of no class."""
    found = "" if row["label_predicted"] in NON_CLASS_LABELS else str(row["prediction_set"])
    return [name for name in found.split("|") if name]


def format_reason(row: pd.Series) -> str:
    """Return why a cluster has its predicted label; "" if it was not classified."""
    label = row["label_predicted"]
    if label == AGGREGATE:
        return "looks like several clusters that overlap"
    if label in NON_CLASS_LABELS:
        if not _is_measured(row):
            return "nothing to measure here: no outline stands out from the background"
        if _contradicts_network(row):
            return (
                f"it touches another cluster and has the intensity of {row['n_atoms']:.0f} atoms, "
                f"but looks like {row['label_network']}: perhaps a part of one"
            )
        if row["ood_score"] < _NEAR_LIMIT:
            return "just beyond the limit of the training data: perhaps one of the classes"
        return "unlike the clusters of the training data: probably none of the classes"
    is_classified = math.isfinite(row["ood_score"])
    if not label:
        uncertain = "withheld: the intensity scale of the image is too uncertain"
        return uncertain if is_classified else ""
    return "the most probable class" if is_classified else ""


def _contradicts_network(row: pd.Series) -> bool:
    """Return whether the intensity of a touching cluster is not that of the network's class."""
    atoms = atoms_of(row.get("label_network", ""))
    if atoms is None or not row["touches_neighbour"] or not row["n_atoms"] > 0:
        return False
    return abs(math.log(row["n_atoms"] / atoms)) > MAX_TOUCHING_DEVIATION


def _prediction_facts(row: pd.Series) -> list[tuple[str, str, str]]:
    out = []
    reason = format_reason(row)
    # What follows is of the model: a person's label may stand above it.
    corrected = row["label_corrected"] not in ("", row["label_predicted"])
    predicted = f"{row['label_predicted'] or 'no label'}: " if corrected else ""
    if reason:
        reason = f"{predicted}{reason}"
        out.append(("Reason", reason, "Why the model gives the predicted label, or none."))
    # A label that is no class has no confidence: the bars show the probabilities of the classes.
    confidence = class_confidence(row["label_predicted"], row["confidence"])
    if np.isfinite(confidence):
        value = f"{predicted}{100 * confidence:.0f} %"
        out.append(("Confidence", value, "Calibrated probability of the predicted class."))
    if possible := _prediction_set(row):
        tooltip = (
            "Labels that can not be ruled out, at the level of the model card. They have a dot in "
            "the bars. Column prediction_set."
        )
        out.append(("Prediction set", ", ".join(possible), tooltip))
    return out


def _count_facts(row: pd.Series) -> list[tuple[str, str, str]]:
    (count,), (conflict,) = format_rows(row.to_frame().T)
    out = []
    if count:
        tooltip = (
            "Number of atoms on a continuous scale with its 95 % interval, from the intensity, or "
            "from the network if the cluster touches another. Sizes between the classes are "
            "possible."
        )
        out.append(("Count", count, tooltip))
    if conflict:
        tooltip = (
            "Estimates that differ: from the diameter; from the mixture of intensities and "
            "diameters in this image; from the network. The label combines the last two."
        )
        out.append(("Conflict", conflict, tooltip))
    return out


def _measured_facts(row: pd.Series) -> list[tuple[str, str, str]]:
    diameter = f"{row['diameter_nm']:.2f} nm" if _is_measured(row) else "–"
    tooltip = "Diameter of a circle with the area of the outline, in nm."
    out = [("Diameter", diameter, tooltip)]
    text = format_ood_score(row["ood_score"])
    if text and _is_measured(row):  # the score would be that of an empty patch
        tooltip = (
            "Out-of-distribution score: distance from the training data. A cluster above 1 is "
            "labelled unknown or aggregate. Column ood_score."
        )
        out.append(("OOD score", f"{row['ood_score']:.2f}, {text}", tooltip))
    flags = [
        text
        for column, text in (
            ("touches_border", "cut by the border"),
            ("touches_neighbour", "touches a neighbour"),
        )
        if row[column]
    ]
    if flags:
        out.append(("Note", ", ".join(flags), "The measurement of such a cluster may be wrong."))
    return out


def map_summary(
    label: str, maps: Mapping[str, np.ndarray], field_of_view_nm: float, radius_nm: float
) -> str:
    """Return a sentence on where the class maps (h, w) of a cluster support its class."""
    places = {}
    positive = {c: np.clip(np.nan_to_num(values), 0, None)[None] for c, values in maps.items()}
    least = _LEAST_SUPPORT * max((x.sum() for x in positive.values()), default=0.0)
    for channel, values in positive.items():
        areas = centre_and_outline(values, field_of_view_nm, np.array([radius_nm]))
        is_beyond = _is_beyond_outline(values[0], field_of_view_nm, radius_nm)
        where = _place(balance(areas, np.array([""])).value, is_beyond)
        places[channel] = where if values.sum() >= least else "hardly any"
    if not places:
        return ""
    listed = ", ".join(f"{where} in {channel}" for channel, where in places.items())
    return f"Support for {label}: {listed}."


def _is_beyond_outline(values: np.ndarray, field_of_view_nm: float, radius_nm: float) -> bool:
    """Return whether more than half of a class map (h, w) is beyond the outline of its cluster."""
    y, x = ((np.arange(n) + 0.5) / n - 0.5 for n in values.shape)
    r_nm = field_of_view_nm * np.hypot(y[:, None], x)
    return bool(values[r_nm > OUTLINE_RADII[1] * radius_nm].sum() > values.sum() / 2)


def _place(value: float, is_beyond: bool) -> str:
    """Name where a class map is strong, from the balance of its centre and outline."""
    if is_beyond and not value >= _CLEAR_BALANCE:  # also without a balance, which is NaN
        return "mostly outside the outline"
    if not math.isfinite(value):
        return "nowhere"
    if abs(value) < _CLEAR_BALANCE:
        return "centre and outline alike"
    return "mostly the centre" if value > 0 else "mostly the outline"


def verdict(row: pd.Series, blind: bool = False) -> str:
    """Return where the label of a cluster comes from; blind mode hides the prediction."""
    if blind:
        return "your label; prediction hidden" if row["label_corrected"] else "prediction hidden"
    if row["label_corrected"]:
        predicted = row["label_predicted"] or "no label"
        is_same = row["label_corrected"] == predicted
        return f"{'confirmed' if is_same else 'corrected'}; predicted {predicted}"
    return "predicted" if row["label_predicted"] else "not classified"
