"""Figures of the scores of a cluster table: confusion matrix, and ratios against the truth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ..io.inputs import make_folder
from .charts import confusion_chart, parity_chart, write_figure


def write_score_figures(scores: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write the figures of one column of labels as PNG and SVG.

    Raises `AtomicityError` if a file cannot be written.
    """
    make_folder(folder)
    confusion = scores["classification"]["confusion"]
    classes = confusion["classes"]
    counts = pd.DataFrame(confusion["counts"], index=classes, columns=classes)
    charts = {
        "confusion": confusion_chart(counts, "True label"),
        "ratios": parity_chart(ratio_pairs(scores["ratios"]["table"]), classes),
    }
    written = []
    for name, figure in charts.items():
        if figure is not None:
            written += write_figure(figure, folder / f"{name}-{scores['column']}")
    return written


def ratio_pairs(samples: Mapping[str, Mapping[str, Mapping[str, float | None]]]) -> pd.DataFrame:
    """Return the fractions of samples as pairs for `plot_parity`."""
    columns = ["scope", "class", "reference", "fraction", "fraction_low", "fraction_high"]
    rows = [
        (
            name,
            label,
            fraction,
            of["predicted"][label],
            of.get("predicted_low", of["predicted"])[label],
            of.get("predicted_high", of["predicted"])[label],
        )
        for name, of in samples.items()
        for label, fraction in of["true"].items()
    ]
    pairs = pd.DataFrame(rows, columns=columns)
    for end in ("fraction_low", "fraction_high"):
        pairs[end] = pairs[end].astype(float).fillna(pairs["fraction"])
    # Bars cannot end on the other side of their point.
    pairs["fraction_low"] = pairs[["fraction_low", "fraction"]].min(axis=1)
    pairs["fraction_high"] = pairs[["fraction_high", "fraction"]].max(axis=1)
    return pairs
