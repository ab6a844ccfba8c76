"""Text and figures about an adaptation for users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...core.tables.cluster_table import ALL, class_confidence, concatenate
from ...core.text import pluralise, sentence
from ...models.analysis import Analysis, limits_of
from ...statistics.ratios.ratios import class_ratios
from .settings import COMBINED, CORRECTIONS, GOOD_AGREEMENT, PSEUDO_LABELS, count_met

if TYPE_CHECKING:
    from ...models.domain_shift import Shift
    from .result import Adaptation

_FIGURES = {
    "noise_atoms_per_nm2": ("noise", "atoms/nm²"),
    "texture_atoms_per_nm2": ("texture of the support", "atoms/nm²"),
    "sharpness_per_nm": ("sharpness", "per nm"),
}
"""What people call the figures of `models.domain_shift.figures_of`, and their units."""


def image_ratios(analyses: Sequence[Analysis], scope: str | None = None) -> pd.DataFrame:
    """Class ratios of each image and of all, or of one scope, as `class_ratios` gives them.

    They are those of an analysis with these labels: with the limits of the sessions.
    """
    names = [a.micrograph.name for a in analyses]
    table = concatenate([a.table for a in analyses])
    return class_ratios(table, images=names, limits=limits_of(analyses), scope=scope)


def mean_confidence(analyses: Sequence[Analysis]) -> float:
    """Return the mean of all clusters with a predicted class; NaN where none has one."""
    columns = [a.table[["label_predicted", "confidence"]].to_numpy(object).T for a in analyses]
    confidence = class_confidence(*np.concatenate(columns, axis=1))
    return float(np.nanmean(confidence)) if np.isfinite(confidence).any() else float("nan")


def summarise_analyses(analyses: Sequence[Analysis]) -> dict[str, Any]:
    """Summarise class ratios and mean confidence of several images."""
    found = image_ratios(analyses, ALL)
    return {
        "ratios": dict(zip(found["class"], found["fraction"], strict=True)),
        "mean_confidence": mean_confidence(analyses),
    }


def format_shift(shift: Shift | None) -> str:
    """Describe whether the conditions differ from those of the training, and in what."""
    if shift is None:
        return "Too few clusters to tell whether the conditions differ from those of the training."
    if shift.found:
        words = f"The conditions differ from those of the training (p = {shift.p_value:.2g})"
    else:
        words = "The conditions are within those of the training"
    outside = []
    for figure, (here, low, high) in shift.figures.items():
        name, unit = _FIGURES.get(figure, (figure, ""))
        if not low <= here <= high:
            side = "above" if here > high else "below"
            outside.append(f"{name} {here:.3g} {unit}, {side} {low:.3g}–{high:.3g}")
    if outside and not shift.found:
        words = "Taken together, the conditions are within those of the training. Outside by itself"
    return f"{words}: {'; '.join(outside)}." if outside else f"{words}."


def format_learnt(found: Adaptation) -> str:
    """How many clusters there were of which class, and how many of them were learnt from."""
    n = sum(found.pseudo_labels.values())
    if not n:
        return "No cluster has an unambiguous class."
    by_class = ", ".join(f"{count} {name}" for name, count in found.pseudo_labels.items() if count)
    kind = (
        "with an unambiguous class" if found.method == COMBINED else "with a diameter of one class"
    )
    clusters = f"{pluralise(n, 'cluster')} {kind}: {by_class}"
    if not found.accepted:
        return f"Nothing was learnt. There are {clusters}{_corrected(found.corrections)}."
    n_left, corrections_left = sum(found.left_out.values()), found.left_out.get(CORRECTIONS, 0)
    return (
        f"Learnt from {pluralise(n - n_left, 'cluster')}"
        f"{_corrected(found.corrections - corrections_left)}; {n_left} more"
        f"{_corrected(corrections_left)} {'was' if n_left == 1 else 'were'} left out as a check. "
        f"There are {clusters}."
    )


def _corrected(n: int) -> str:
    """Return how many of some clusters have a person's label; "" if none."""
    return f" ({n} of them corrected by a person)" if n else ""


def format_ranges(found: Adaptation) -> str:
    """State the diameters of the pseudo-labels; "" if they come from the mixture too."""
    if not found.diameter_ranges:
        return ""
    parts = [
        f"{name} " + " and ".join(f"{low:.2f}–{high:.2f} nm" for low, high in ranges)
        for name, ranges in found.diameter_ranges.items()
        if ranges
    ]
    return (
        f"Diameters of the clusters, of all images together, whose class is right with at least "
        f"{100 * found.min_probability:.0f} %: "
        f"{', '.join(parts) or 'none'}."
    )


def format_missing(found: Adaptation) -> str:
    """Warn of classes without a cluster to learn from; "" if there are none."""
    missing = found.classes_without_labels
    if not missing or len(missing) == len(found.pseudo_labels):
        return ""
    names = ", ".join(missing)
    return (
        f"No pseudo-labels of {names}: the model learns these classes only from the patches of its "
        "training. Check such labels, or correct some."
    )


def format_confidence(before: float, after: float) -> str:
    """Describe the mean confidence before and after; "" if there is none."""
    if not np.isfinite([before, after]).all():
        return ""
    first, last = f"{before:.2f}", f"{after:.2f}"
    if first == last:
        return f"The mean confidence is {last} as before."
    change = "rises" if after > before else "falls"
    text = f"The mean confidence {change} from {first} to {last}."
    if after > before:
        return text
    return f"{text} A model that was sure of wrong labels becomes less sure when it is corrected."


def format_verdict(found: Adaptation) -> str:
    """Whether the model was changed, and why."""
    if not found.needed:
        differ = found.shift is not None and found.shift.found
        more = (
            "The conditions differ, but most labels that can be checked are right; the warning "
            "stays."
        )
        return f"No change needed: {'; '.join(found.reasons)}.{f' {more}' if differ else ''}"
    reasons = "; ".join(found.reasons)
    if found.accepted:
        words = "Accepted, although it could not be checked" if found.unchecked else "Accepted"
        return f"{words}: {reasons}."
    is_refused = found.refused or found.unchecked
    outcome = f"{'Refused' if is_refused else 'Rolled back'}, the model stays what it was"
    before = {name: found.checks[name][0] for name, n in found.left_out.items() if n}
    if before and min(before.values()) >= GOOD_AGREEMENT:
        agree = " and ".join(
            f"{count_met(name, share, found.left_out)} {name}" for name, share in before.items()
        )
        no_better = "" if found.unchecked else "an adapted model is no better: "
        return f"{outcome}: {agree} agree with it already. {sentence(no_better + reasons)}"
    if is_refused:
        return f"{outcome}: {reasons}."
    return f"{outcome}: {_gained(found)}{reasons}.{_advice(found)}"


def _gained(found: Adaptation) -> str:
    """State which of the labels left out would be met more often, as "… instead of …, but "."""
    parts = []
    for name in (name for name, n in found.left_out.items() if n):
        before, after = found.checks[name]
        told = any(f"{name} would be met" in reason for reason in found.reasons)
        if after > before and not told:
            met, was = (count_met(name, share, found.left_out) for share in (after, before))
            parts.append(f"{met} {name} would be met instead of {was}")
    return f"{' and '.join(parts)}, but " if parts else ""


def _advice(found: Adaptation) -> str:
    """Say what a person can do whose corrections a model could not learn; "" without any."""
    if not found.corrections:
        return ""
    return (
        " The corrected labels count in the ratios as they are. Correct more labels and adapt "
        "again, or train a model on them (Train)."
    )


_CHECKS = {
    PSEUDO_LABELS: "right on held-out pseudo-labels",
    CORRECTIONS: "right on held-out corrections",
    "surprise (-ln p)": "loss on held-out labels (-ln p)",
    "training remembered": "right on clusters of the training",
    # of all clusters, before intensities and corrections, which the ratios contain
    "largest share of a class": "largest share of a class by the network alone",
}
"""Criteria as people read them."""


def format_checks(found: Adaptation) -> list[str]:
    """Format a line for each criterion before and after."""
    return [f"{name}: {before} → {after}" for name, before, after in check_rows(found)]


def check_rows(found: Adaptation) -> list[tuple[str, str, str]]:
    """Return name, value before and value after of each criterion, as text."""
    left_out = found.left_out
    return [
        (_CHECKS.get(name, name), _figure(name, before, left_out), _figure(name, after, left_out))
        for name, (before, after) in found.checks.items()
        if np.isfinite([before, after]).all()  # else nothing of that kind was left out
    ]


def _figure(name: str, value: float, left_out: Mapping[str, int]) -> str:
    if name in left_out:
        return count_met(name, value, left_out)
    return f"{value:.2f}" if name.startswith("surprise") else f"{100 * value:.1f} %"
