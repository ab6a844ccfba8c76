"""Differences between two methods of a validation, from their answers for the same clusters."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..statistics.score_intervals import LabelPairs, score_differences
from .data import SELECTED

COMPARISONS = (
    ("raw-patch", "diameter"),
    ("dual-patch", "diameter"),
    ("dual-patch", "raw-patch"),
    ("dual-patch", "lcn-patch"),
    ("dual-patch-adapted", "dual-patch"),
    ("raw-session", "raw-patch"),
    ("dual-session", "dual-patch"),
    ("dual-session-combination", "mixture"),
    ("dual-session-combination", "dual-session"),
    ("dual-session-combination-adapted", "dual-session-combination"),
)
"""Method and what it is compared with; both must be in the same runs."""
DIFFERENCES = ("accuracy", "ratio_r2", "ratio_mean_absolute_error")
"""Scores that are compared; those of ratios for mixtures only."""


def compare_methods(
    answers: pd.DataFrame,  # columns of `answers.ANSWER`, ``fold`` and ``seed``, of all methods
    methods: Collection[str],
    groups: Collection[str],
    classes: Sequence[str],
) -> list[dict[str, Any]]:
    """Compare pairs of methods on each group of images, run by run."""
    rows = []
    for method, reference in COMPARISONS:
        if not {method, reference} <= set(methods):
            continue
        for group in groups:
            sides = [_runs(answers, name, group) for name in (method, reference)]
            common = [key for key in sides[0] if key in sides[1]]
            if not common:
                continue
            found = [_compare_run(sides[0][key], sides[1][key], classes) for key in common]
            names = DIFFERENCES[:1] if group == SELECTED else DIFFERENCES
            scores = {name: _summary([run[name] for run in found]) for name in names}
            about = {"method": method, "reference": reference, "group": group}
            rows.append({**about, "runs": len(common), **scores})
    return rows


def _runs(answers: pd.DataFrame, method: str, group: str) -> dict[Any, pd.DataFrame]:
    """Return part and seed → answers of a run."""
    own = answers[(answers["method"] == method) & (answers["group"] == group)]
    return dict(tuple(own.groupby(["fold", "seed"], sort=False)))


def _compare_run(
    first: pd.DataFrame, second: pd.DataFrame, classes: Sequence[str]
) -> dict[str, Any]:
    samples = list(dict.fromkeys(first["sample"]))
    return score_differences(
        LabelPairs(first, classes, samples), LabelPairs(second, classes, samples)
    )


def _summary(runs: Sequence[dict[str, float] | None]) -> dict[str, float | None]:
    known = [run for run in runs if run is not None]
    if not known:
        return dict.fromkeys(("mean", "sd", "low", "high"))
    values = pd.DataFrame(known)
    scatter = float(np.std(values["difference"], ddof=1)) if len(known) > 1 else None
    means = values.mean()
    return {
        "mean": float(means["difference"]),
        "sd": scatter,
        "low": float(means["low"]),
        "high": float(means["high"]),
    }
