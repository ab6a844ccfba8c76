"""Text and figures about an adaptation for users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..core.cluster_table import ALL
from ..io.tables import concatenate
from ..models.analysis import Analysis
from ..statistics.ratios import class_ratios

if TYPE_CHECKING:
    from ..models.domain_shift import Shift
    from .fine_tuning import Adaptation

_FIGURES = {
    "noise_atoms_per_nm2": ("noise", "atoms/nm²"),
    "texture_atoms_per_nm2": ("texture of the support", "atoms/nm²"),
    "sharpness_per_nm": ("sharpness", "per nm"),
}
"""What people call the figures of `models.domain_shift.figures_of`, and their units."""

_GOOD_AGREEMENT = 0.9
"""Agreement with held-out labels from which a model needs no adaptation."""


def shares(analyses: Sequence[Analysis]) -> pd.DataFrame:
    """Class ratios over all images, as `statistics.ratios.class_ratios` gives them."""
    names = [a.micrograph.name for a in analyses]
    return class_ratios(concatenate([a.table for a in analyses]), scope=ALL, images=names)


def mean_confidence(analyses: Sequence[Analysis]) -> float:
    """Of all clusters that have one; NaN where none has."""
    confidence = np.concatenate([a.table["confidence"].to_numpy(float) for a in analyses])
    return float(np.nanmean(confidence)) if np.isfinite(confidence).any() else float("nan")


def summarise_analyses(analyses: Sequence[Analysis]) -> dict[str, Any]:
    """Summarise class ratios and mean confidence of several images."""
    found = shares(analyses)
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
    return words + (f": {'; '.join(outside)}." if outside else ".")


def format_learnt(found: Adaptation) -> str:
    """How many clusters of which class were learnt from."""
    n = sum(found.pseudo_labels.values())
    by_class = ", ".join(f"{count} {name}" for name, count in found.pseudo_labels.items())
    corrections = found.corrections
    own = f"; {corrections} of them corrected by a person" if corrections else ""
    return f"Learnt from {n} clusters beyond doubt: {by_class}{own}."


def format_verdict(found: Adaptation) -> str:
    """Whether the model was changed, and why."""
    before = [pair[0] for name, pair in found.checks.items() if name.endswith("left out")]
    known = [share for share in before if np.isfinite(share)]
    if not found.accepted and known and min(known) >= _GOOD_AGREEMENT:
        return (
            f"No change needed: {min(known):.0%} of the labels left out agree with the model as it "
            f"is. An adapted model is no better: {'; '.join(found.reasons)}."
        )
    words = "Accepted" if found.accepted else "Rolled back, the model stays what it was"
    return f"{words}: {'; '.join(found.reasons)}."


def format_checks(found: Adaptation) -> list[str]:
    """Format a line for each criterion before and after."""
    return [
        f"{name}: " + " → ".join(_figure(name, value) for value in pair)
        for name, pair in found.checks.items()
        if np.isfinite(pair).all()  # nothing of that kind was left out
    ]


def _figure(name: str, value: float) -> str:
    return f"{value:.2f}" if name.startswith("surprise") else f"{100 * value:.1f} %"
