"""The agreement of annotators as a table of a report."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ..statistics.agreement import CONSENSUS, agreement, last_labels


def agreement_table(corrections: pd.DataFrame) -> pd.DataFrame:
    """How far annotators agree, for a report: a row for all labels and one for each."""
    labels = last_labels(corrections[corrections["annotator"] != CONSENSUS])
    found = agreement(labels)
    if not found.n_items:
        return pd.DataFrame()
    of_all = {
        "label": f"all labels, {found.n_items} clusters, {len(found.annotators)} people",
        "share": found.share.value,
        **_ends("alpha", found.alpha),
        **_ends("kappa", found.kappa),
    }
    rows: list[Any] = [of_all, *found.by_label.to_dict("records")]
    return pd.DataFrame(
        {
            "Label": [row["label"] for row in rows],
            "Same": [_share(row["share"]) for row in rows],
            "Krippendorff's α": [_interval(row, "alpha") for row in rows],
            "Cohen's κ": [_interval(row, "kappa") for row in rows],
        }
    )


def _ends(name: str, figure: Any) -> dict[str, float]:
    return {name: figure.value, f"{name}_low": figure.low, f"{name}_high": figure.high}


def _share(value: float) -> str:
    return f"{100 * value:.0f} %" if value == value else "–"


def _interval(row: dict[str, Any], name: str) -> str:
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    return f"{value:.2f} ({low:.2f} to {high:.2f})" if value == value else "–"
