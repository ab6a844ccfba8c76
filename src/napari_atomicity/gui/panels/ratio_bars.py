"""Class ratios as bars."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from ...core.palette import colour_of, symbol_of
from ...core.tables.cluster_table import NON_CLASS_LABELS
from ..controls.bars import Bar
from ..controls.settings import settings

THIS_IMAGE, ALL_IMAGES = "this image", "all images"
KEEP_RATIOS = "ratios/keep"
"""Key of the setting whether fractions are given even if a session does not fit the classes."""


def keeps_ratios() -> bool:
    """Return whether fractions are given even if a session does not fit the classes."""
    return str(settings().value(KEEP_RATIOS, "false")) == "true"


def per_cent(fraction: float) -> str:
    """Format a fraction in per cent; NaN as a dash."""
    return f"{100 * fraction:.1f} %" if math.isfinite(fraction) else "–"


def interval(low: float, high: float) -> str:
    """Format an interval of fractions in per cent."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "–"
    return f"{100 * low:.1f}–{100 * high:.1f}"


def ratio_bars(
    ratios: pd.DataFrame, classes: Sequence[str], reference: Mapping[str, float] | None = None
) -> list[Bar]:
    """Return a bar for each class."""
    return [
        Bar(
            row["class"],
            row["fraction"],
            per_cent(row["fraction"]),
            colour_of(row["class"], classes),
            symbol_of(row["class"], classes),
            row["fraction_low"],
            row["fraction_high"],
            tooltip=f"{row['class']}: {row['count']} clusters, {per_cent(row['fraction'])}, "
            f"interval {interval(row['fraction_low'], row['fraction_high'])} % ({row['method']})",
            reference=reference.get(row["class"], 0.0) if reference else math.nan,
        )
        for _, row in ratios.iterrows()
        if row["class"] not in NON_CLASS_LABELS
    ]
